"""The SQLite schema: tables of rows, balances, sealed states, cosignatures and texts, and views with the tutorial's columns.

`body` is what is hashed. Every other column is worked out from it, for SQL and for indexes. The triggers
refuse UPDATE, DELETE and replacing INSERTs: they stop accidents. What shows the owner of the file is the log.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from donewhen.entry import VISIBLE_KINDS
from donewhen.errors import LedgerFormatError, LedgerTamperedError

APPLICATION_ID = 0x444F4E45
"""Marks a database as ours in its header: "DONE"."""

_INDEXED = ",\n".join(
    f"  {name} {sql_type} GENERATED ALWAYS AS (json_extract(body, '$.{path}')) VIRTUAL"
    for name, sql_type, path in (
        ("session_id", "TEXT", "session"),
        ("seq", "INTEGER", "seq"),
        ("kind", "TEXT", "kind"),
        ("closes", "INTEGER", "closes"),
        ("doubts", "INTEGER", "doubts"),
    )
)

_SHOWN = {
    "turn_count": ("INTEGER", "turn"),
    "state_origin": ("TEXT", "state_origin"),
    "input_hash": ("TEXT", "input_hash"),
    "token_delta": ("INTEGER", "tokens"),
    "execution_time_ms": ("INTEGER", "ms"),
    "pass_fail": ("INTEGER", "pass"),
    "breach_reason": ("TEXT", "breach"),
    "created_at": ("TEXT", "at"),
    "what_it_does": ("TEXT", "data.what_it_does"),
    "what_it_does_not": ("TEXT", "data.what_it_does_not"),
    "done_looks_like": ("TEXT", "data.done_looks_like"),
    "reviewer": ("TEXT", "data.reviewer"),
    "attested_at": ("TEXT", "at"),
    "notes": ("TEXT", "data.notes"),
    "frame_hash": ("TEXT", "data.frame_hash"),
}
"""The columns that only views show. SQLite works out every generated column of a table for each row that is inserted,
and twice where a trigger looks at the row first, so `entries` has no more of them than its indexes need."""


def _view(name: str, columns: tuple[str, ...], kinds: tuple[str, ...]) -> str:
    """Return a view of the rows of some kinds.

    SQLite takes a view's declared types from the tables that it is made of, and an expression has none. So each view
    begins with no row at all of a table that has nothing but types.
    """
    found = [
        f"CAST(json_extract(body, '$.{_SHOWN[column][1]}') AS {_SHOWN[column][0]})" if column in _SHOWN else column
        for column in columns
    ]
    return f"""
CREATE VIEW {name} AS
  SELECT {", ".join(columns)} FROM shape WHERE 0
  UNION ALL
  SELECT {", ".join(found)}
  FROM entries WHERE kind IN ({", ".join(f"'{kind}'" for kind in kinds)}) ORDER BY id;
"""


_VIEWS = "".join(
    (
        _view("ledger", ("id", "session_id", *list(_SHOWN)[:8]), VISIBLE_KINDS),
        _view("attestations", ("id", "session_id", "reviewer", "attested_at", "notes", "frame_hash"), ("attest",)),
        _view(
            "spec",
            ("id", "session_id", "what_it_does", "what_it_does_not", "done_looks_like", "created_at"),
            ("spec",),
        ),
    )
)

_APPEND_ONLY = "".join(
    f"""
CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} BEGIN
  SELECT RAISE(ABORT, 'the ledger is append-only: {table} cannot be changed');
END;
CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} BEGIN
  SELECT RAISE(ABORT, 'the ledger is append-only: nothing can be deleted from {table}');
END;
"""
    for table in ("entries", "balances", "sealed", "log", "cosigned")
)

_VERSION_1 = f"""
CREATE TABLE log (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  origin TEXT NOT NULL,
  vkey TEXT
);
CREATE TABLE entries (
  id INTEGER PRIMARY KEY,
  body TEXT NOT NULL,
{_INDEXED}
);
CREATE TABLE shape (
  id INTEGER,
  session_id TEXT,
  {", ".join(f"{name} {sql_type}" for name, (sql_type, _) in _SHOWN.items())}
);
CREATE UNIQUE INDEX entries_by_session ON entries (session_id, seq);
CREATE UNIQUE INDEX entries_close_once ON entries (session_id, closes) WHERE closes IS NOT NULL;
CREATE UNIQUE INDEX entries_doubt_once ON entries (session_id, doubts) WHERE doubts IS NOT NULL;
CREATE TABLE balances (
  name TEXT NOT NULL CHECK (typeof(name) = 'text'),
  entry_id INTEGER NOT NULL REFERENCES entries (id) CHECK (typeof(entry_id) = 'integer'),
  PRIMARY KEY (name, entry_id)
) WITHOUT ROWID;
CREATE TABLE sealed (
  size INTEGER PRIMARY KEY,
  start INTEGER NOT NULL,
  note TEXT NOT NULL,
  nodes BLOB NOT NULL
);
CREATE TABLE cosigned (
  id INTEGER PRIMARY KEY,
  size INTEGER NOT NULL REFERENCES sealed (size),
  vkey TEXT NOT NULL,
  line TEXT NOT NULL,
  at TEXT NOT NULL
);
CREATE UNIQUE INDEX cosigned_once ON cosigned (size, vkey, line);
CREATE TABLE texts (
  id INTEGER PRIMARY KEY,
  entry_id INTEGER NOT NULL REFERENCES entries (id),
  label TEXT NOT NULL,
  salt BLOB NOT NULL,
  body BLOB NOT NULL
);
CREATE UNIQUE INDEX texts_by_entry ON texts (entry_id, label);
CREATE TRIGGER texts_no_update BEFORE UPDATE ON texts
WHEN NEW.id IS NOT OLD.id OR NEW.entry_id IS NOT OLD.entry_id OR NEW.label IS NOT OLD.label
  OR NEW.salt IS NOT zeroblob(32) OR NEW.body IS NOT zeroblob(length(OLD.body))
BEGIN
  SELECT RAISE(ABORT, 'a kept text cannot be changed, only erased');
END;
CREATE TRIGGER texts_no_delete BEFORE DELETE ON texts BEGIN
  SELECT RAISE(ABORT, 'a kept text cannot be removed, only erased: donewhen erase');
END;
CREATE TRIGGER texts_no_replace BEFORE INSERT ON texts
WHEN EXISTS (SELECT 1 FROM texts WHERE id = NEW.id OR (entry_id = NEW.entry_id AND label = NEW.label))
BEGIN
  SELECT RAISE(ABORT, 'a kept text cannot be changed, only erased');
END;
CREATE TRIGGER entries_no_replace BEFORE INSERT ON entries
WHEN NEW.id IS NOT (SELECT coalesce(max(id), 0) + 1 FROM entries)
  OR EXISTS (SELECT 1 FROM entries WHERE session_id = NEW.session_id AND seq = NEW.seq)
  OR EXISTS (SELECT 1 FROM entries WHERE session_id = NEW.session_id AND closes = NEW.closes)
  OR EXISTS (SELECT 1 FROM entries WHERE session_id = NEW.session_id AND doubts = NEW.doubts)
BEGIN
  SELECT RAISE(ABORT, 'the ledger is append-only: a row can only be added at its end');
END;
CREATE TRIGGER balances_no_replace BEFORE INSERT ON balances
WHEN NEW.entry_id IS NOT (SELECT max(id) FROM entries)
  OR EXISTS (SELECT 1 FROM balances WHERE name = NEW.name AND entry_id = NEW.entry_id)
BEGIN
  SELECT RAISE(ABORT, 'the ledger is append-only: a balance is listed once, with the row that leaves it');
END;
CREATE TRIGGER sealed_no_replace BEFORE INSERT ON sealed
WHEN NEW.size <= (SELECT coalesce(max(size), -1) FROM sealed)
BEGIN
  SELECT RAISE(ABORT, 'the ledger is append-only: a checkpoint can only be added at its end');
END;
CREATE TRIGGER cosigned_no_replace BEFORE INSERT ON cosigned
WHEN NOT EXISTS (SELECT 1 FROM sealed WHERE size = NEW.size)
  OR EXISTS (SELECT 1 FROM cosigned WHERE id = NEW.id OR (size = NEW.size AND vkey = NEW.vkey AND line = NEW.line))
BEGIN
  SELECT RAISE(ABORT, 'the ledger is append-only: a cosignature is kept once, of a checkpoint that is stored');
END;
CREATE TRIGGER log_no_replace BEFORE INSERT ON log
WHEN EXISTS (SELECT 1 FROM log)
BEGIN
  SELECT RAISE(ABORT, 'a log has one name and one first key');
END;
{_APPEND_ONLY}
{_VIEWS}"""


def _create(connection: sqlite3.Connection) -> None:
    _run(connection, _VERSION_1)


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_create,)
"""Migration n brings a database from version n to n + 1. They are never edited, only added to."""

_TUTORIAL_TABLES = {"ledger", "spec", "attestations"}


def check_format(connection: sqlite3.Connection, path: str) -> int:
    """Return the schema version of a database, 0 if it is empty.

    Raises:
        LedgerFormatError: it is not ours, was made by the tutorial's own code, or by a newer donewhen.
    """
    application_id, version, tables = _read_marks(connection)
    if application_id != APPLICATION_ID:
        if tables & _TUTORIAL_TABLES:
            raise LedgerFormatError(
                f"{path} was made by the tutorial's own code. 'donewhen adopt {path}' imports it into a ledger."
            )
        if tables or application_id or version:
            raise LedgerFormatError(f"{path} is a database of something else. Name another file for the ledger.")
        return 0
    if version > len(MIGRATIONS):
        raise LedgerFormatError(f"{path} has schema version {version}; this donewhen knows {len(MIGRATIONS)}. Upgrade.")
    return version


def _read_marks(connection: sqlite3.Connection) -> tuple[int, int, set[str]]:
    """Return the application id, the schema version and the names of the tables, all of one state of the file."""
    # Without a transaction each read would see the newest state. Another process may be making the ledger just now,
    # and its tables without its mark would look like a database of something else.
    is_alone = not connection.in_transaction
    if is_alone:
        connection.execute("BEGIN")
    try:
        application_id = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    finally:
        if is_alone and connection.in_transaction:
            connection.execute("ROLLBACK")
    return application_id, version, tables


def migrate(connection: sqlite3.Connection, path: str, origin: str, vkey: str | None, note: str | None) -> None:
    """Bring a database to the newest version, in one transaction with the record of it.

    Args:
        connection: to the database.
        path: where it is, for messages.
        origin: the name of the log, if this begins one.
        vkey: the public key of the log, if this begins one; None: unsigned.
        note: the checkpoint of no rows, if this begins a log; None: whoever calls stores it, with all others.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = check_format(connection, path)  # again: another process may have been faster
        for migration in MIGRATIONS[version:]:
            migration(connection)
        if version == 0:
            connection.execute("INSERT INTO log (id, origin, vkey) VALUES (1, ?, ?)", (origin, vkey))
        if version == 0 and note is not None:
            connection.execute("INSERT INTO sealed (size, start, note, nodes) VALUES (0, 0, ?, x'')", (note,))
        if version < len(MIGRATIONS):
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def read_log(connection: sqlite3.Connection, path: str) -> tuple[str, str | None]:
    """Return the name of the log and the public key that it was begun with.

    Raises:
        LedgerTamperedError: they are gone.
    """
    found = connection.execute("SELECT origin, vkey FROM log").fetchall()
    if len(found) != 1:
        raise LedgerTamperedError(f"{path} does not say which log it holds")
    return found[0]


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Run statements one by one: `executescript` would end the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
