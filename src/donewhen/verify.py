"""The auditor: works out again everything that a ledger says, and trusts nothing of it but bytes.

Read from one consistent state, in one pass: each row's spelling, place, chain and balances; its digest in the Merkle
tree; the tree's root in each checkpoint; each checkpoint's signature, against the key that the caller brings and never
the one that the file names. Before that, the database around the rows: its schema must be ours to the letter, since a
changed view or column would show other rows than those that were verified.

What is not seen here: a ledger cut back to an older signed state, and one rewritten by whoever holds its key. That
takes a checkpoint kept elsewhere.

Source: docs/ledger_format.md.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from donewhen.errors import CheckpointError, LedgerFormatError, LedgerTamperedError
from donewhen.merkle import Frontier, leaf_hash
from donewhen.notes import Checkpoint, Verifier, open_note
from donewhen.rederive import ReadRow, Rederivation, read_row
from donewhen.stores import Sealed, Store
from donewhen.stores.log import HASH_BYTES, completed_before
from donewhen.stores.sqlite import WAIT_SECONDS
from donewhen.stores.sqlite_connections import connect_read_only, translate
from donewhen.stores.sqlite_schema import MIGRATIONS, check_format
from donewhen.texts import commit_to

if TYPE_CHECKING:
    from donewhen.ledger import Ledger

__all__ = ["VerifyReport", "verify_ledger"]

PROGRESS_ROWS = 1000
"""How many rows lie between two calls of `progress`."""

PAGE_ROWS = 256
"""How many rows are read ahead."""

_ROWS = "SELECT id, CASE typeof(body) WHEN 'text' THEN CAST(body AS BLOB) END FROM entries NOT INDEXED ORDER BY id"
_SEALED = "SELECT size, start, note, nodes FROM sealed ORDER BY size"
_TEXTS = "SELECT entry_id, label, salt, body FROM texts ORDER BY entry_id, label"
_BEFORE = (
    "SELECT CAST(body AS BLOB) FROM entries WHERE session_id = :session AND id < :id AND (kind IN ('spec', 'open')"
    " OR seq = (SELECT max(seq) FROM entries WHERE session_id = :session AND id < :id)) ORDER BY seq"
)
_SCHEMA = "SELECT name, type, tbl_name, sql FROM sqlite_master"
# What ANALYZE leaves: it can make a question slower, but cannot change its answer.
_STATISTICS = ("sqlite_stat1", "sqlite_stat4")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?\+00:00")


_Found = tuple[int | None, bytes | None, "ReadRow | LedgerFormatError"]
"""A row's id and leaf hash, and what it says, or why it cannot be read."""

_NO_ROW = LedgerFormatError("there is no row")
_NOTHING: _Found = (None, None, _NO_ROW)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was verified. There is no report of a ledger that is not good."""

    origin: str
    """The log's name."""
    rows: int
    sessions: int
    checkpoints: int
    texts: int
    """Kept texts that are those that were committed to."""
    root: str
    """The Merkle root over all rows, lower-case hex."""
    signed_by: str | None
    """The verifier key whose signatures were checked; None: none was."""
    key_in_file: str | None
    """The verifier key that the file names. It proves nothing."""
    warnings: tuple[str, ...]
    """What is odd, and what nothing vouches for."""

    @property
    def unsigned(self) -> bool:
        """Tell whether no signature vouches for the rows."""
        return self.signed_by is None


def verify_ledger(
    path_or_store: str | os.PathLike[str] | Store | Ledger,
    verifier: Verifier | None,
    *,
    progress: Callable[[int, int], None] | None = None,
    every_signature: bool = True,
) -> VerifyReport:
    """Work out again everything that a ledger says, and return what was verified. Nothing is written.

    Others may go on writing; what they add meanwhile is not looked at.

    Args:
        path_or_store: the file, or what has it open.
        verifier: the public key that the caller trusts. None: everything but signatures, and the report says so.
        progress: called with the rows done and the rows there are.
        every_signature: False checks the newest checkpoint's signature, which covers every row, and of all those
            before it only that they state the roots of these rows. Signatures are most of the work.

    Raises:
        LedgerTamperedError: something is not what it must be; names the first bad row and what is wrong.
        LedgerFormatError: it is no ledger of ours, or damaged beyond reading.
        LedgerUnavailableError: it cannot be read.
        MissingExtraError: signatures are to be checked, and the ``sign`` extra is not installed.
    """
    if isinstance(path_or_store, (str, os.PathLike)):
        path = str(Path(cast("str", path_or_store)).absolute())
    else:
        path = path_or_store.path
    with _translated(path), closing(connect_read_only(path, WAIT_SECONDS)) as connection:
        connection.text_factory = _text_of
        connection.execute("BEGIN")
        _verify_schema(connection, path)
        return _Audit(connection, verifier, progress, every_signature=every_signature).run()


class _Audit:
    """One verification, in one read transaction."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        verifier: Verifier | None,
        progress: Callable[[int, int], None] | None,
        *,
        every_signature: bool,
    ) -> None:
        self._connection = connection
        self._verifier = verifier
        self._progress = progress
        self._every_signature = every_signature
        self._origin, self._vkey = _read_log(connection)
        self._frontier = Frontier()
        self._rederivation = Rederivation(self._find_rows)
        self._texts = _Texts(connection.execute(_TEXTS))
        self._total, self._last_size = connection.execute(
            "SELECT (SELECT coalesce(max(id), 0) FROM entries), (SELECT coalesce(max(size), 0) FROM sealed)"
        ).fetchone()
        self._newest_at = ""
        self._backwards = 0

    def run(self) -> VerifyReport:
        if self._verifier is not None:
            self._verify_key(self._verifier)
        rows = _read_rows(self._connection.execute(_ROWS))
        checkpoints = 0
        for found in self._connection.execute(_SEALED):
            sealed = _as_sealed(found, self._frontier.size)
            self._follow(rows, sealed)
            self._verify_note(sealed)
            checkpoints += 1
        for row_id, _, _ in rows:
            raise LedgerTamperedError("no checkpoint covers it", row_id=max(row_id or 1, 1))
        self._texts.finish()
        _verify_indexes(self._connection)
        if self._progress is not None:
            self._progress(self._frontier.size, self._frontier.size)
        return self._report(checkpoints)

    def _follow(self, rows: Iterator[_Found], sealed: Sealed) -> None:
        """Follow the rows that one checkpoint adds. This is the loop that every row passes."""
        append, follow, nodes, place = self._frontier.append, self._rederivation.follow, sealed.nodes, 0
        for expected in range(sealed.start + 1, sealed.size + 1):
            row_id, leaf, row = next(rows, _NOTHING)
            if row_id != expected or leaf is None:
                raise _missing(expected, row_id, sealed.size)
            digests = b"".join(append(leaf))
            end = place + len(digests)
            if nodes[place:end] != digests:
                raise LedgerTamperedError("it is not what was sealed: its digest is not in the log", row_id=expected)
            place = end
            if isinstance(row, LedgerFormatError):
                raise LedgerTamperedError(str(row), row_id=expected) from row
            if row.id != expected:
                raise LedgerTamperedError(f"it says that it is row {row.id}", row_id=expected)
            follow(row, leaf)
            if self._texts.next_id <= expected or "texts" in row.data:
                self._texts.verify(row)
            if row.at < self._newest_at or _TIME.fullmatch(row.at) is None:
                self._look_at_time(row)
            else:
                self._newest_at = row.at
            if self._progress is not None and not expected % PROGRESS_ROWS:
                self._progress(expected, self._total)

    def _verify_note(self, sealed: Sealed) -> None:
        """Hold a checkpoint against the tree, and its signature against the key that was given."""
        first, size = sealed.start + 1, sealed.size
        try:
            text = Checkpoint(self._origin, size, self._frontier.root()).text()
        except CheckpointError as error:
            raise LedgerTamperedError(f"the log has no proper name: {error}") from error
        head, _, signature = sealed.note.partition("\n— ")
        stated = sealed.note if self._vkey is None else head
        if stated != text or signature.count("\n") != (0 if self._vkey is None else 1):
            raise LedgerTamperedError(f"rows {first} to {size} are not what their checkpoint states", row_id=first)
        if self._verifier is None or not (self._every_signature or size == self._last_size):
            return
        try:
            open_note(sealed.note, self._verifier)
        except CheckpointError as error:
            raise LedgerTamperedError(f"the checkpoint of {size} rows is not good: {error}", row_id=first) from error

    def _verify_key(self, verifier: Verifier) -> None:
        if self._vkey is None:
            raise LedgerTamperedError(f"the ledger is not signed, and was to be verified against {verifier.vkey}")
        if self._vkey != verifier.vkey:
            raise LedgerTamperedError(
                f"the ledger names another key than the one it was verified against: {self._vkey!r}, not {verifier.vkey!r}"
            )

    def _look_at_time(self, row: ReadRow) -> None:
        if _TIME.fullmatch(row.at) is None:
            self._rederivation.warn(f"row {row.id} has no readable time: {row.at[:40]!r}")
            return
        self._backwards += 1
        if self._backwards == 1:
            self._rederivation.warn(f"row {row.id} is older than a row before it: a clock was set back ({row.at})")

    def _find_rows(self, session_id: str, row_id: int) -> Iterable[bytes]:
        found = self._connection.execute(_BEFORE, {"session": session_id, "id": row_id})
        return [body for (body,) in found]

    def _report(self, checkpoints: int) -> VerifyReport:
        warnings = list(self._rederivation.warnings)
        if self._rederivation.more_warnings:
            warnings.append(f"{self._rederivation.more_warnings} more like these")
        if self._texts.missing:
            warnings.append(f"{self._texts.missing} texts that rows commit to are not kept: erased, or removed")
        if not checkpoints:
            warnings.append("the ledger is empty: no checkpoint vouches for that, not even that it always was")
        if self._vkey is None:
            warnings.append("the ledger is unsigned: whoever can write the file can rewrite it whole")
        elif self._verifier is None:
            warnings.append("no key was given, so no signature was checked")
        checked = self._verifier is not None and checkpoints > 0
        return VerifyReport(
            origin=self._origin,
            rows=self._frontier.size,
            sessions=self._rederivation.sessions,
            checkpoints=checkpoints,
            texts=self._texts.verified,
            root=self._frontier.root().hex(),
            signed_by=self._verifier.vkey if checked and self._verifier is not None else None,
            key_in_file=self._vkey,
            warnings=tuple(warnings),
        )


def _read_rows(found: sqlite3.Cursor) -> Iterator[_Found]:
    """Read rows ahead, some at a time: to do one thing to many rows is faster than many things to one."""
    while page := found.fetchmany(PAGE_ROWS):
        leaves = [None if body is None else leaf_hash(body) for _, body in page]
        rows = [_NO_ROW if body is None else _read_row(body) for _, body in page]
        yield from zip([row_id for row_id, _ in page], leaves, rows, strict=True)


def _read_row(body: bytes) -> ReadRow | LedgerFormatError:
    try:
        return read_row(body)
    except LedgerFormatError as error:
        return error  # to be raised in its turn: rows before it may be at fault too


class _Texts:
    """The kept texts, read beside the rows in their order."""

    def __init__(self, found: Iterator[tuple[Any, ...]]) -> None:
        self.verified = 0
        self.missing = 0
        self.next_id: float = 0
        self._found = found
        self._next: tuple[Any, ...] = ()
        self._step()

    def verify(self, row: ReadRow) -> None:
        """Hold the texts kept beside a row against what it commits to.

        Raises:
            LedgerTamperedError: one is another, or there is one that no row commits to.
        """
        promised: object = row.data.get("texts", {})
        if type(promised) is not dict:
            raise LedgerTamperedError(f"its commitments to texts are {promised!r}", row_id=row.id)
        commitments, kept = cast("Mapping[str, object]", promised), 0
        while self.next_id <= row.id:
            entry_id, label, salt, text = self._next
            if entry_id != row.id or label not in commitments:
                raise LedgerTamperedError(f"a text {label!r} is kept that no row commits to", row_id=max(entry_id, 1))
            if type(salt) is not bytes or type(text) is not bytes or commit_to(salt, text) != commitments[label]:
                raise LedgerTamperedError(f"the kept text {label!r} is not the one that it commits to", row_id=row.id)
            kept += 1
            self._step()
        self.verified += kept
        self.missing += len(commitments) - kept

    def finish(self) -> None:
        """Refuse texts of rows that are not there."""
        if self._next:
            raise LedgerTamperedError(
                f"a text {self._next[1]!r} is kept beside it, and there is no such row", row_id=self._next[0]
            )

    def _step(self) -> None:
        self._next = next(self._found, ())
        self.next_id = self._next[0] if self._next else float("inf")
        if type(self.next_id) not in (int, float):
            raise LedgerTamperedError(f"a text {self._next[1]!r} is kept beside {self.next_id!r}, which is no row")


def _as_sealed(found: tuple[Any, ...], covered: int) -> Sealed:
    sealed = Sealed(*found)
    if [type(value) for value in found] != [int, int, str, bytes] or sealed.start != covered or sealed.size <= covered:
        raise LedgerTamperedError(
            f"the sealed states have a gap: one of {sealed.size!r} rows follows one of {covered}", row_id=covered + 1
        )
    if len(sealed.nodes) != HASH_BYTES * (completed_before(sealed.size) - completed_before(covered)):
        raise LedgerTamperedError(f"the tree stored for {sealed.size} rows has the wrong length", row_id=covered + 1)
    return sealed


def _missing(expected: int, found: int | None, size: int) -> LedgerTamperedError:
    if found == expected:
        return LedgerTamperedError("it is not stored as text", row_id=expected)
    if found is not None and found < expected:
        return LedgerTamperedError(f"there is a row {found}, and rows count from 1", row_id=expected)
    then = "none follows" if found is None else f"row {found} follows"
    return LedgerTamperedError(f"it is missing: a checkpoint covers {size} rows, and {then}", row_id=expected)


def _read_log(connection: sqlite3.Connection) -> tuple[str, str | None]:
    found = connection.execute("SELECT origin, vkey FROM log").fetchall()
    if len(found) != 1 or type(found[0][0]) is not str or type(found[0][1]) not in (str, type(None)):
        raise LedgerTamperedError(f"the log's name and key are {found!r}")
    return found[0]


# -- the database around the rows --------------------------------------------------------------------------------------


def _verify_schema(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a database whose tables, columns, indexes, triggers and views are not ours, to the letter."""
    version = check_format(connection, path)
    if version == 0:
        raise LedgerFormatError(f"{path} holds no ledger yet")
    found = {name: tuple(rest) for name, *rest in connection.execute(_SCHEMA) if name not in _STATISTICS}
    wanted = _schema_of(version)
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) == wanted.get(name):
            continue
        what = (found.get(name) or wanted[name])[0]
        how = "is missing" if name not in found else "is not ours" if name not in wanted else "was changed"
        raise LedgerTamperedError(f"the {what} {name!r} of the database {how}")


def _verify_indexes(connection: sqlite3.Connection) -> None:
    """Refuse a database whose indexes do not hold what its tables hold.

    Our own reads go through the indexes: a row that an index hides would be there, and never be shown.
    """
    fault = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if fault != "ok":
        raise LedgerTamperedError(f"the database does not hold together: {fault}")


@lru_cache(maxsize=len(MIGRATIONS))
def _schema_of(version: int) -> dict[str, tuple[Any, ...]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for migration in MIGRATIONS[:version]:
            migration(connection)
        return {name: tuple(rest) for name, *rest in connection.execute(_SCHEMA)}


def _text_of(data: bytes) -> str:
    """Read a text of a database that may not even be UTF-8; such a text equals none of ours."""
    return data.decode("utf-8", "surrogateescape")


@contextmanager
def _translated(path: str) -> Generator[None, None, None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise translate(path, error) from error
