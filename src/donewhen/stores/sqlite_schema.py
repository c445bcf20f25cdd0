"""The SQLite schema: one table of rows, one of sealed states, one of texts, and views with the tutorial's columns.

`body` is what is hashed. Every other column of `entries` is generated from it, for SQL and for indexes. The triggers
refuse UPDATE, DELETE and replacing INSERTs: they stop accidents. What shows the owner of the file is the log.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from donewhen.entry import VISIBLE_KINDS
from donewhen.errors import LedgerFormatError, LedgerTamperedError

APPLICATION_ID = 0x444F4E45
"""Marks a database as ours in its header: "DONE"."""

_KINDS = ", ".join(f"'{kind}'" for kind in VISIBLE_KINDS)

_COLUMNS = ",\n".join(
    f"  {name} {sql_type} GENERATED ALWAYS AS (json_extract(body, '$.{path}')) VIRTUAL"
    for name, sql_type, path in (
        ("session_id", "TEXT", "session"),
        ("seq", "INTEGER", "seq"),
        ("kind", "TEXT", "kind"),
        ("turn_count", "INTEGER", "turn"),
        ("state_origin", "TEXT", "state_origin"),
        ("input_hash", "TEXT", "input_hash"),
        ("token_delta", "INTEGER", "tokens"),
        ("execution_time_ms", "INTEGER", "ms"),
        ("pass_fail", "INTEGER", "pass"),
        ("breach_reason", "TEXT", "breach"),
        ("created_at", "TEXT", "at"),
        ("closes", "INTEGER", "closes"),
        ("doubts", "INTEGER", "doubts"),
        ("what_it_does", "TEXT", "data.what_it_does"),
        ("what_it_does_not", "TEXT", "data.what_it_does_not"),
        ("done_looks_like", "TEXT", "data.done_looks_like"),
        ("reviewer", "TEXT", "data.reviewer"),
        ("attested_at", "TEXT", "at"),
        ("notes", "TEXT", "data.notes"),
        ("frame_hash", "TEXT", "data.frame_hash"),
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
    for table in ("entries", "sealed", "log")
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
{_COLUMNS}
);
CREATE UNIQUE INDEX entries_by_session ON entries (session_id, seq);
CREATE UNIQUE INDEX entries_close_once ON entries (session_id, closes) WHERE closes IS NOT NULL;
CREATE UNIQUE INDEX entries_doubt_once ON entries (session_id, doubts) WHERE doubts IS NOT NULL;
CREATE TABLE sealed (
  size INTEGER PRIMARY KEY,
  start INTEGER NOT NULL,
  note TEXT NOT NULL,
  nodes BLOB NOT NULL
);
CREATE TABLE texts (
  id INTEGER PRIMARY KEY,
  entry_id INTEGER NOT NULL REFERENCES entries (id),
  label TEXT NOT NULL,
  salt BLOB NOT NULL,
  body BLOB NOT NULL
);
CREATE UNIQUE INDEX texts_by_entry ON texts (entry_id, label);
CREATE TRIGGER texts_no_update BEFORE UPDATE ON texts BEGIN
  SELECT RAISE(ABORT, 'a kept text cannot be changed, only erased');
END;
CREATE TRIGGER texts_no_replace BEFORE INSERT ON texts
WHEN EXISTS (SELECT 1 FROM texts WHERE id = NEW.id OR (entry_id = NEW.entry_id AND label = NEW.label))
BEGIN
  SELECT RAISE(ABORT, 'a kept text cannot be changed, only erased');
END;
CREATE TRIGGER entries_no_replace BEFORE INSERT ON entries
WHEN NEW.id IS NOT (SELECT coalesce(max(id), 0) + 1 FROM entries)
  OR EXISTS (SELECT 1 FROM entries WHERE session_id = json_extract(NEW.body, '$.session')
             AND seq = json_extract(NEW.body, '$.seq'))
  OR EXISTS (SELECT 1 FROM entries WHERE session_id = json_extract(NEW.body, '$.session')
             AND closes = json_extract(NEW.body, '$.closes'))
  OR EXISTS (SELECT 1 FROM entries WHERE session_id = json_extract(NEW.body, '$.session')
             AND doubts = json_extract(NEW.body, '$.doubts'))
BEGIN
  SELECT RAISE(ABORT, 'the ledger is append-only: a row can only be added at its end');
END;
CREATE TRIGGER sealed_no_replace BEFORE INSERT ON sealed
WHEN NEW.size <= (SELECT coalesce(max(size), 0) FROM sealed)
BEGIN
  SELECT RAISE(ABORT, 'the ledger is append-only: a checkpoint can only be added at its end');
END;
CREATE TRIGGER log_no_replace BEFORE INSERT ON log
WHEN EXISTS (SELECT 1 FROM log)
BEGIN
  SELECT RAISE(ABORT, 'a log has one name and one first key');
END;
{_APPEND_ONLY}
CREATE VIEW ledger AS
  SELECT id, session_id, turn_count, state_origin, input_hash, token_delta, execution_time_ms, pass_fail,
         breach_reason, created_at
  FROM entries WHERE kind IN ({_KINDS}) ORDER BY id;
CREATE VIEW attestations AS
  SELECT id, session_id, reviewer, attested_at, notes, frame_hash FROM entries WHERE kind = 'attest' ORDER BY id;
CREATE VIEW spec AS
  SELECT id, session_id, what_it_does, what_it_does_not, done_looks_like, created_at
  FROM entries WHERE kind = 'spec' ORDER BY id;
"""


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
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
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


def migrate(connection: sqlite3.Connection, path: str, origin: str, vkey: str | None) -> None:
    """Bring a database to the newest version, in one transaction with the record of it.

    Args:
        connection: to the database.
        path: where it is, for messages.
        origin: the name of the log, if this begins one.
        vkey: the public key of the log, if this begins one; None: unsigned.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = check_format(connection, path)  # again: another process may have been faster
        for migration in MIGRATIONS[version:]:
            migration(connection)
        if version == 0:
            connection.execute("INSERT INTO log (id, origin, vkey) VALUES (1, ?, ?)", (origin, vkey))
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
