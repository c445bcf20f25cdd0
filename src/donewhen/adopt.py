"""Take over databases that were made by the tutorial's own code.

Its rows become rows of ours, in their order: those of its table ``ledger`` of kind ``write``, those of ``spec`` of kind
``spec``, those of ``attestations`` of kind ``attest``. What they say is kept to the letter. When they say it is not
made up: an adopted row carries the time at which it was adopted, as every row does, and the original time, id and file
stand in its data, under ``adopted``. The log vouches for what was found in that file on that day, not that it is true:
adopted attestations are named, not proven.

Everything is checked before anything is written. Rows are then written some at a time, so that other writers need not
wait; if that is interrupted, adopting again goes on where it stopped, and adopting what was adopted adds nothing.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from donewhen.canonical import MAX_INT
from donewhen.entry import RESERVED_PREFIX, Entry, LedgerRow, spec_hash
from donewhen.errors import LedgerError, LedgerFormatError
from donewhen.ledger import Ledger
from donewhen.ledger_balances import leaves
from donewhen.stores.sqlite import WAIT_SECONDS
from donewhen.stores.sqlite_connections import connect_read_only, translate
from donewhen.stores.sqlite_schema import APPLICATION_ID

__all__ = ["AdoptReport", "adopt"]

BATCH_ROWS = 500
"""How many rows are written in one transaction."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "spec": ("id", "session_id", "what_it_does", "what_it_does_not", "done_looks_like", "created_at"),
    "ledger": (
        "id",
        "session_id",
        "turn_count",
        "state_origin",
        "input_hash",
        "token_delta",
        "execution_time_ms",
        "pass_fail",
        "breach_reason",
        "created_at",
    ),
    "attestations": ("id", "session_id", "reviewer", "attested_at", "notes", "frame_hash"),
}
"""The tutorial's tables, in the order in which they are adopted: the promise first, the word on it last."""

_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptReport:
    """What was adopted."""

    source: str
    """The path of the database."""
    specs: int
    rows: int
    attestations: int
    already_there: int
    """Rows that had been adopted before; nothing was added for them."""
    sessions: int
    """Sessions that something was found of."""

    @property
    def added(self) -> int:
        """Return how many rows the ledger has gained."""
        return self.specs + self.rows + self.attestations


def adopt(
    source_path: str | os.PathLike[str], ledger: Ledger, *, progress: Callable[[int, int], None] | None = None
) -> AdoptReport:
    """Import a database of the tutorial's own code into a ledger. The source is only read.

    Args:
        source_path: a database with one or more of the tutorial's tables ``spec``, ``ledger`` and ``attestations``.
        ledger: where its rows go. It must not have rows of its own in a session that is adopted.
        progress: called with the rows done and the rows there are.

    Raises:
        LedgerFormatError: it is not the tutorial's database, or a value in it is not what its column holds; names
            table, id, column and value. Nothing was written.
        LedgerError: the ledger has other rows in one of its sessions. Nothing was written.
        LedgerUnavailableError: the source could not be read, or the ledger not written. What was written stays.
    """
    path = str(Path(source_path).absolute())
    with _translated(path), closing(connect_read_only(path, WAIT_SECONDS)) as connection:
        connection.text_factory = _text_of
        connection.execute("BEGIN")  # one state of the source, however long this takes
        tables = _find_tables(connection, path)
        total = sum(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)
        plan = _Plan(ledger)
        for table in tables:
            for entry in _read_entries(connection, path, table):
                plan.add(entry)
        counts = dict.fromkeys(COLUMNS, 0)
        done = plan.already_there
        for batch in _batches(entry for table in tables for entry in _read_entries(connection, path, table)):
            for table in plan.write(batch):
                counts[table] += 1
                done += 1
            if progress is not None:
                progress(done, total)
    return AdoptReport(
        source=path,
        specs=counts["spec"],
        rows=counts["ledger"],
        attestations=counts["attestations"],
        already_there=plan.already_there,
        sessions=len(plan.sessions),
    )


@dataclass(slots=True)
class _Target:
    """What the ledger holds of one session."""

    seq: int = 0
    adopted: dict[tuple[str, int], LedgerRow] = field(default_factory=dict[tuple[str, int], LedgerRow])
    has_spec: bool = False


class _Plan:
    """What is in the ledger, and so what is to be added to it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.sessions: dict[str, _Target] = {}
        self.already_there = 0

    def add(self, entry: Entry) -> None:
        """Refuse an entry that cannot be added beside what is there."""
        table, row_id = _origin_of(entry.data)
        target = self.sessions.get(entry.session_id) or self._look_up(entry.session_id)
        known = target.adopted.get((table, row_id))
        if known is not None:
            if _facts(known) != _facts(entry):
                raise LedgerError(f"table {table}, id {row_id} was adopted before, and says something else now")
            self.already_there += 1
        elif table == "spec":
            if target.has_spec:
                raise LedgerError(f"table spec, id {row_id}: session {entry.session_id} has another spec already")
            target.has_spec = True

    def write(self, entries: Sequence[Entry]) -> list[str]:
        """Write those that are not there yet, in one transaction; return the tables they are from."""
        tables: list[str] = []
        with self._ledger.store.writing() as transaction:
            for entry in entries:
                target = self.sessions[entry.session_id]
                origin = _origin_of(entry.data)
                if origin in target.adopted:
                    continue
                head = transaction.head(entry.session_id)
                if (0 if head is None else head.seq) != target.seq:
                    raise LedgerError(f"session {entry.session_id} was written to by someone else meanwhile")
                target.seq = transaction.append(entry, leaves(transaction, entry)).seq
                tables.append(origin[0])
        # A crash here, or anywhere before the last batch, leaves whole rows: adopting again adds the rest.
        return tables

    def _look_up(self, session_id: str) -> _Target:
        target = self.sessions[session_id] = _Target()
        for row in self._ledger.rows(session_id):
            if "adopted" not in row.data:
                raise LedgerError(
                    f"session {session_id} has rows of its own in the ledger (row {row.id}), so nothing can be adopted "
                    "into it. Adopt into another ledger."
                )
            target.seq = row.seq
            target.adopted[_origin_of(row.data)] = row
            target.has_spec = target.has_spec or row.kind == "spec"
        return target


def _origin_of(data: Mapping[str, Any]) -> tuple[str, int]:
    return data["adopted"]["table"], data["adopted"]["id"]


def _facts(row: Entry | LedgerRow) -> tuple[object, ...]:
    """Return what an adopted row says, wherever and under whatever name its file was."""
    data = {name: value for name, value in row.data.items() if name != "adopted"}
    at = row.data["adopted"]["created_at"]
    numbers = (row.turn_count, row.token_delta, row.execution_time_ms, row.pass_fail)
    return (row.kind, row.state_origin, row.input_hash, row.breach_reason, numbers, data, at)


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


# -- reading the source ------------------------------------------------------------------------------------------------


def _find_tables(connection: sqlite3.Connection, path: str) -> list[str]:
    if connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID:
        raise LedgerFormatError(f"{path} is a ledger of donewhen already; there is nothing to adopt")
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    tables = [table for table in COLUMNS if table in names]
    if not tables:
        raise LedgerFormatError(f"{path} was not made by the tutorial's code: it has no table {', '.join(COLUMNS)}")
    for table in tables:
        found = {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}
        missing = [column for column in COLUMNS[table] if column not in found]
        if missing:
            raise LedgerFormatError(
                f"{path} was not made by the tutorial's code: its table {table} has no column {missing[0]}"
            )
    return tables


def _read_entries(connection: sqlite3.Connection, path: str, table: str) -> Iterator[Entry]:
    columns = ", ".join(COLUMNS[table])
    last = None
    for values in connection.execute(f"SELECT {columns} FROM {table} ORDER BY id"):
        record = _Record(path, table, dict(zip(COLUMNS[table], values, strict=True)))
        if record.whole("id") == last:
            raise record.wrong("id", "there twice")
        last = record.whole("id")
        yield _MAKERS[table](record)


@dataclass(frozen=True, slots=True)
class _Record:
    """One row of the source, whose values are what their columns must hold, or an error that names them."""

    path: str
    table: str
    values: Mapping[str, object]

    def text(self, column: str, *, nullable: bool = False) -> str:
        value = self.values[column]
        if value is None and nullable:
            return ""
        if not isinstance(value, str):
            raise self.wrong(column, "not text")
        if "\0" in value or any("\udc80" <= letter <= "\udcff" for letter in value):
            raise self.wrong(column, "not UTF-8 text without NUL")
        return value

    def session(self) -> str:
        session_id = self.text("session_id")
        if session_id.startswith(RESERVED_PREFIX):
            raise self.wrong("session_id", "an id that only the log's own sessions have")
        return session_id

    def answer(self, column: str) -> str:
        if not self.text(column).strip():
            raise self.wrong(column, "blank")
        return self.text(column)

    def whole(self, column: str, *, fraction: bool = False) -> int:
        value = self.values[column]
        if fraction and isinstance(value, float) and 0 <= value <= MAX_INT:
            return int(value)
        if not isinstance(value, int) or not 0 <= value <= MAX_INT:
            raise self.wrong(column, "not a whole number from 0 on")
        return value

    def digest(self, column: str) -> str:
        if not _HASH.fullmatch(self.text(column)):
            raise self.wrong(column, "not a SHA-256 in lower-case hex")
        return self.text(column)

    def time(self, column: str) -> str:
        text = self.text(column)
        try:
            datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        except ValueError as error:
            raise self.wrong(column, "not an ISO 8601 time") from error
        return text

    def adopted(self, time_column: str) -> dict[str, Any]:
        return {
            "table": self.table,
            "id": self.whole("id"),
            "created_at": self.time(time_column),
            "source": Path(self.path).name.encode("utf-8", "backslashreplace").decode("utf-8"),
        }

    def wrong(self, column: str, problem: str) -> LedgerFormatError:
        return LedgerFormatError(
            f"{self.path}: table {self.table}, id {self.values['id']!r}, column {column}: "
            f"{self.values[column]!r:.80} is {problem}. Nothing was adopted."
        )


def _row_of(record: _Record) -> Entry:
    passed = record.whole("pass_fail")
    if passed > 1:
        raise record.wrong("pass_fail", "neither 1 nor 0")
    reason = record.values["breach_reason"]
    return Entry(
        kind="write",
        session_id=record.session(),
        state_origin=record.text("state_origin"),
        turn_count=record.whole("turn_count"),
        input_hash=record.digest("input_hash"),
        token_delta=record.whole("token_delta"),
        execution_time_ms=record.whole("execution_time_ms", fraction=True),
        pass_fail=passed == 1,
        breach_reason=None if reason is None else record.text("breach_reason"),
        data={"adopted": record.adopted("created_at")},
    )


def _spec_of(record: _Record) -> Entry:
    answers = {column: record.answer(column) for column in ("what_it_does", "what_it_does_not", "done_looks_like")}
    data = {**answers, "spec_hash": spec_hash(**answers), "adopted": record.adopted("created_at")}
    return Entry(kind="spec", session_id=record.session(), state_origin="spec", data=data)


def _attestation_of(record: _Record) -> Entry:
    data = {
        "reviewer": record.answer("reviewer"),
        "frame_hash": record.digest("frame_hash"),
        "notes": record.text("notes", nullable=True),
        "adopted": record.adopted("attested_at"),
    }
    return Entry(kind="attest", session_id=record.session(), state_origin="attest", data=data)


_MAKERS: Mapping[str, Callable[[_Record], Entry]] = {
    "ledger": _row_of,
    "spec": _spec_of,
    "attestations": _attestation_of,
}


def _text_of(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@contextmanager
def _translated(path: str) -> Generator[None, None, None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise translate(path, error) from error
