"""The tree of a log, worked out again leaf by leaf and held against what is stored of it, commit by commit.

This is the loop that every row passes. It hashes; what a row says is for `donewhen.verify.rows`, and what a
checkpoint states for `donewhen.verify.notes`. Rows that one commit sealed are read and judged some at a time, so that a
commit of a million rows needs no more memory than one of ten.

Source: RFC 6962 section 2.1; docs/ledger_format.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

from donewhen.errors import LedgerTamperedError
from donewhen.merkle import EMPTY_ROOT, HASH_BYTES
from donewhen.stores.log_tree import completed_before
from donewhen.verify.notes import Commit, Ended, Notes
from donewhen.verify.source import Source

PAGE_ROWS = 64
"""How many rows are read, hashed and judged at a time."""

Page = Sequence[tuple[int, bytes]]
"""Rows that follow one another: id and body."""

_NO_COMMIT: Commit = (0, 0, b"", b"")
"""Follows the last: there is no row that it could end with."""


class Tree:
    """The right edge of a log's tree while its rows are followed.

    Args:
        source: where the log is read from.
        follow: judges rows; given them, their leaf hashes. None: only the tree is worked out.
        notes: judges checkpoints.
        progress: is told how many rows are done.
    """

    def __init__(
        self,
        source: Source,
        follow: Callable[[Page, Sequence[bytes]], None] | None,
        notes: Notes,
        progress: Callable[[int], None],
    ) -> None:
        self.size = 0
        self.commits = 0
        self._source = source
        self._follow = follow or _follow_nothing
        self._notes = notes
        self._progress = progress
        self._peaks: list[bytes] = []
        """The complete subtrees, largest first, each with the prefix that it has as a left child."""
        self._commit = _NO_COMMIT
        """The one that the next row belongs to."""
        self._start = 0
        """The size that it must start from."""
        self._place = 0
        """How many bytes of its nodes have been compared."""

    def root(self) -> bytes:
        """Return the root over the rows that were followed."""
        return _root_of(self._peaks[-1][1:], self._peaks[:-1]) if self._peaks else EMPTY_ROOT

    def run(self) -> None:
        """Follow every commit, and refuse rows that none covers.

        Raises:
            LedgerTamperedError: something is not what it must be; names the first row at fault.
        """
        self._rows = self._source.rows()
        self._sealed = self._source.sealed()
        self._take_beginning()
        self._commit = next(self._sealed, _NO_COMMIT)
        if self._commit is not _NO_COMMIT:
            self._refuse_gap(self._commit[0], self._commit[1], 0)
        while page := self._rows.fetchmany(PAGE_ROWS):
            leaves: list[bytes] = []
            before = self.size
            try:
                self._take(page, leaves)
            except LedgerTamperedError as fault:
                # What is wrong with a row that stands before it is to be told first.
                sound = min(len(leaves), max((fault.row_id or 0) - 1 - before, 0))
                self._follow(page[:sound], leaves[:sound])
                raise
            self._follow(page, leaves)
            self._progress(self.size)
        if self._commit is not _NO_COMMIT:
            raise self._missing(self.size + 1, None)
        self._refuse_hidden()

    def _take(self, page: Page, leaves: list[bytes]) -> None:
        """Append rows to the tree, and hold it against what is stored.

        Args:
            page: the rows.
            leaves: takes their leaf hashes.
        """
        before, found, ended = self.size, list[bytes](), list[Ended]()
        try:
            self._hash(page, leaves, found, ended)
        finally:
            # What is wrong with a commit that ended is to be told before what is wrong with the rows after it.
            nodes = b"".join(found)
            done = self._judge(before, nodes, ended)
        if self._commit is not _NO_COMMIT:
            self._compare_part(max(before, self._start), nodes[done:])

    def _hash(self, page: Page, leaves: list[bytes], found: list[bytes], ended: list[Ended]) -> None:
        """Append rows to the tree.

        Args:
            page: the rows.
            leaves: takes their leaf hashes.
            found: takes the hashes of all subtrees that they complete.
            ended: takes the commits that end with one of them.
        """
        sha, peaks, size, commit = sha256, self._peaks, self.size, self._commit
        end = commit[0]
        all_roots, needed = self._notes.needs_all_roots, self._notes.needed
        for row_id, body in page:
            rest = size
            size += 1
            if row_id != size or size > end:
                self._commit = commit
                raise self._missing(size, row_id)
            node = sha(b"\x00" + body).digest()
            leaves.append(node)
            found.append(node)
            # Each low bit that is set is a peak of the same height as what has been completed so far.
            while rest & 1:
                node = sha(peaks.pop() + node).digest()
                found.append(node)
                rest >>= 1
            if size == end:
                root = _root_of(node, peaks) if all_roots or size in needed else b""
                ended.append((commit, root, HASH_BYTES * len(found)))
                commit = next(self._sealed, _NO_COMMIT)
                end = commit[0]
            peaks.append(b"\x01" + node)
        self.size, self._commit = size, commit

    def _judge(self, before: int, found: bytes, ended: Sequence[Ended]) -> int:
        """Judge the commits that ended, and return how many of the bytes that were found are theirs.

        Args:
            before: the size before the rows that completed these subtrees.
            found: their hashes.
            ended: the commits.
        """
        begin, place, begun = 0, self._place, self._start
        for number, ((size, start, _, nodes), _, end) in enumerate(ended):
            if nodes[place:] != found[begin:end] or start != begun or type(start) is not int:
                self._notes.judge(ended[:number])
                self._refuse_gap(size, start, begun)
                raise _first_fault(nodes[place:], found[begin:end], max(before, begun), size)
            begin, place, begun = end, 0, size
        self._notes.judge(ended)
        self.commits += len(ended)
        self._place, self._start = place, begun
        return begin

    def _compare_part(self, before: int, found: bytes) -> None:
        """Hold what a commit has completed by the end of a page against what is stored."""
        size, start, _, nodes = self._commit
        self._refuse_gap(size, start, self._start)
        if not nodes.startswith(found, self._place):
            raise _first_fault(nodes[self._place :], found, before, self.size)
        self._place += len(found)

    def _take_beginning(self) -> None:
        """Judge the checkpoint of no rows, which is made with the store: without it, this is no log that we began."""
        beginning = next(self._sealed, None)
        if beginning is None or (*beginning[:2], beginning[3]) != (0, 0, b""):
            raise LedgerTamperedError("there is no checkpoint of no rows, with which a log begins", row_id=1, size=0)
        self._notes.judge([(beginning, EMPTY_ROOT, 0)])

    def _refuse_gap(self, size: int, start: object, begun: int) -> None:
        if start != begun or type(start) is not int or size <= begun:
            problem = f"the sealed states have a gap: one of {size!r} rows follows one of {begun}"
            raise LedgerTamperedError(problem, row_id=begun + 1, size=size)

    def _refuse_hidden(self) -> None:
        """Refuse rows and checkpoints that were left out above, since they are stored as another type."""
        least, most = self._source.extent()
        if (least or 1, most or 0) != (1, self.size):
            raise LedgerTamperedError("it is not stored as text", row_id=self.size + 1 if least == 1 else 1)
        commits, last = self._source.commits()
        if (commits, last) != (self.commits + 1, self.size):
            raise LedgerTamperedError("there is a checkpoint that is not stored as text", size=last)

    def _missing(self, expected: int, found: int | None) -> LedgerTamperedError:
        end = self._commit[0]
        if not end and found == expected:
            return LedgerTamperedError("no checkpoint covers it", row_id=expected)
        if self._source.row_exists(expected):
            return LedgerTamperedError("it is not stored as text", row_id=expected)
        if found is not None and found < expected:
            return LedgerTamperedError(f"there is a row {found}, and rows count from 1", row_id=expected)
        then = "none follows" if found is None else f"row {found} follows"
        covers = f"a checkpoint covers {end} rows" if end else "rows count without a gap"
        return LedgerTamperedError(f"it is missing: {covers}, and {then}", row_id=expected)


def _root_of(node: bytes, peaks: Sequence[bytes]) -> bytes:
    """Return the root over a tree, given its last peak and those before it."""
    for peak in reversed(peaks):
        node = sha256(peak + node).digest()
    return node


def _first_fault(stored: bytes, found: bytes, before: int, size: int) -> LedgerTamperedError:
    """Name the first row whose subtrees are not those that are stored.

    Args:
        stored: the hashes that are stored of the subtrees that the rows complete.
        found: those that were worked out.
        before: the id of the row before them.
        size: the id of the last of them.
    """
    begin, passed = 0, completed_before(before)
    for row_id in range(before + 1, size + 1):
        end = HASH_BYTES * (completed_before(row_id) - passed)
        if found[begin:end] != stored[begin:end]:
            return LedgerTamperedError("it is not what was sealed: its digest is not in the log", row_id=row_id)
        begin = end
    return LedgerTamperedError(f"the tree stored for {size} rows has the wrong length", row_id=before + 1, size=size)


def _follow_nothing(_page: Page, _leaves: Sequence[bytes]) -> None:
    """Judge nothing: only the tree is worked out."""
