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
from donewhen.stores.log import completed_before
from donewhen.verify.source import Source

PAGE_ROWS = 64
"""How many rows are read, hashed and judged at a time."""

Page = Sequence[tuple[int, bytes]]
"""Rows that follow one another: id and body."""


class Tree:
    """The right edge of a log's tree while its rows are followed.

    Args:
        source: where the log is read from.
        follow: judges rows; given them, their leaf hashes. None: only the tree is worked out.
        judge_note: judges a checkpoint; given its size, its note, and what works out the root of that size.
        progress: is told how many rows are done.
    """

    def __init__(
        self,
        source: Source,
        follow: Callable[[Page, Sequence[bytes]], None] | None,
        judge_note: Callable[[int, int, bytes, Callable[[], bytes]], None],
        progress: Callable[[int], None],
    ) -> None:
        self.size = 0
        self.commits = 0
        self._source = source
        self._follow = follow or _follow_nothing
        self._judge_note = judge_note
        self._progress = progress
        self._peaks: list[bytes] = []
        """The complete subtrees, largest first, each with the prefix that it has as a left child."""
        self._found: list[bytes] = []
        """The subtrees completed since they were last compared, by the rows after `_compared`."""
        self._compared = 0
        self._start = self._end = 0
        """The sizes before and after the commit that is followed; an end of 0: there is none."""
        self._note = self._nodes = b""
        self._place = 0
        """How many bytes of `_nodes` have been compared."""

    def root(self) -> bytes:
        """Return the root over the rows that were followed."""
        peaks = self._peaks
        if not peaks:
            return EMPTY_ROOT
        root = peaks[-1][1:]
        for peak in peaks[-2::-1]:
            root = sha256(peak + root).digest()
        return root

    def run(self) -> None:
        """Follow every commit, and refuse rows that none covers.

        Raises:
            LedgerTamperedError: something is not what it must be; names the first row at fault.
        """
        self._rows = self._source.rows()
        self._sealed = self._source.sealed()
        self._take_commit()
        while page := self._rows.fetchmany(PAGE_ROWS):
            leaves: list[bytes] = []
            before = self.size
            try:
                self._hash(page, leaves)
            except LedgerTamperedError as fault:
                # What is wrong with a row that stands before it is to be told first.
                sound = min(len(leaves), max((fault.row_id or 0) - 1 - before, 0))
                self._follow(page[:sound], leaves[:sound])
                raise
            self._follow(page, leaves)
            self._progress(self.size)
        if self._end:
            raise self._missing(self.size + 1, None)
        self._refuse_hidden()

    def _hash(self, page: Page, leaves: list[bytes]) -> None:
        """Append rows to the tree, and hold it against what is stored wherever a commit ends.

        Args:
            page: the rows.
            leaves: takes their leaf hashes.
        """
        sha, peaks, found, size, end = sha256, self._peaks, self._found, self.size, self._end
        for row_id, body in page:
            node = sha(b"\x00" + body).digest()
            leaves.append(node)
            found.append(node)
            rest = size
            # Each low bit that is set is a peak of the same height as what has been completed so far.
            while rest & 1:
                node = sha(peaks.pop() + node).digest()
                found.append(node)
                rest >>= 1
            peaks.append(b"\x01" + node)
            size += 1
            if row_id != size or size > end:
                raise self._missing(size, row_id)
            if size == end:
                end = self._end_commit(size)
        self.size = size
        if found:
            self._compare_part()

    def _end_commit(self, size: int) -> int:
        """Judge the commit that ends here, and return where the next one does; 0: there is none."""
        self.size = size
        nodes = b"".join(self._found)
        if nodes != (self._nodes[self._place :] if self._place else self._nodes):
            raise self._first_fault(nodes)
        self._judge_note(self._start, size, self._note, self.root)
        self.commits += 1
        self._compared = size
        self._found.clear()
        return self._take_commit()

    def _compare_part(self) -> None:
        """Hold what a commit has completed by the end of a page against what is stored."""
        nodes = b"".join(self._found)
        if not self._nodes.startswith(nodes, self._place):
            raise self._first_fault(nodes)
        self._place += len(nodes)
        self._compared = self.size
        self._found.clear()

    def _take_commit(self) -> int:
        sealed = next(self._sealed, None)
        if sealed is None:
            self._end = 0
            return 0
        end, start, self._note, self._nodes = sealed
        self._place = 0
        if type(start) is not int or start != self.size or end <= start:
            raise LedgerTamperedError(
                f"the sealed states have a gap: one of {end!r} rows follows one of {self.size}",
                row_id=self.size + 1,
                size=end,
            )
        self._start, self._end = start, end
        return end

    def _refuse_hidden(self) -> None:
        """Refuse rows and checkpoints that were left out above, since they are stored as another type."""
        least, most = self._source.extent()
        if (least or 1, most or 0) != (1, self.size):
            raise LedgerTamperedError("it is not stored as text", row_id=self.size + 1 if least == 1 else 1)
        commits, last = self._source.commits()
        if (commits, last or 0) != (self.commits, self.size):
            raise LedgerTamperedError("there is a checkpoint that is not stored as text", size=last)

    def _first_fault(self, found: bytes) -> LedgerTamperedError:
        """Name the first row whose subtrees are not those that are stored."""
        before, begin, stored = completed_before(self._compared), 0, self._nodes[self._place :]
        for row_id in range(self._compared + 1, self.size + 1):
            end = HASH_BYTES * (completed_before(row_id) - before)
            if found[begin:end] != stored[begin:end]:
                return LedgerTamperedError("it is not what was sealed: its digest is not in the log", row_id=row_id)
            begin = end
        return LedgerTamperedError(
            f"the tree stored for {self.size} rows has the wrong length", row_id=self._start + 1, size=self.size
        )

    def _missing(self, expected: int, found: int | None) -> LedgerTamperedError:
        if not self._end and found == expected:
            return LedgerTamperedError("no checkpoint covers it", row_id=expected)
        if self._source.row_exists(expected):
            return LedgerTamperedError("it is not stored as text", row_id=expected)
        if found is not None and found < expected:
            return LedgerTamperedError(f"there is a row {found}, and rows count from 1", row_id=expected)
        then = "none follows" if found is None else f"row {found} follows"
        covers = f"a checkpoint covers {self._end} rows" if self._end else "rows count without a gap"
        return LedgerTamperedError(f"it is missing: {covers}, and {then}", row_id=expected)


def _follow_nothing(_page: Page, _leaves: Sequence[bytes]) -> None:
    """Judge nothing: only the tree is worked out."""
