"""The SQLite database around a ledger's rows: it must be ours to the letter, and hold together.

A changed view or column would show other rows than those that were verified.

SQLite has a check of its own, which would work out every generated column of every row again. For the rows that is most
of the time of a whole verification, so their indexes are held against what the rows were found to say instead
(`donewhen.verify.listed`).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import lru_cache

from donewhen.errors import LedgerFormatError, LedgerTamperedError
from donewhen.stores.sqlite_schema import MIGRATIONS, check_format
from donewhen.verify.schema import Definitions, refuse_other

_SCHEMA = "SELECT name, type, tbl_name, sql FROM sqlite_master"
# What ANALYZE leaves: it can make a question slower, but cannot change its answer.
_STATISTICS: Definitions = {
    (name, "table"): (name, f"CREATE TABLE {name}({columns})")
    for name, columns in (("sqlite_stat1", "tbl,idx,stat"), ("sqlite_stat4", "tbl,idx,neq,nlt,ndlt,sample"))
}

# The row is looked up as well: a table that does not find a row by its id would not show it either.
_LISTED = (
    "SELECT i.session_id, i.{column}, e.id FROM entries AS i INDEXED BY {index}"
    " CROSS JOIN entries AS e ON e.id = i.id"
    " WHERE typeof(i.session_id) = 'text' AND typeof(i.{column}) = 'integer'{condition}"
    " ORDER BY i.session_id, i.{column}"
)
_INDEXES = {
    "seq": ("entries_by_session", ""),
    "closes": ("entries_close_once", " AND i.closes IS NOT NULL"),
    "doubts": ("entries_doubt_once", " AND i.doubts IS NOT NULL"),
}
_SMALL_TABLES = ("log", "balances", "sealed", "cosigned", "texts", "shape")
_HAS_CHECK_OF_A_TABLE = (3, 33, 0)


def verify_schema(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a database whose tables, columns, indexes, triggers and views are not ours, to the letter.

    Raises:
        LedgerFormatError: it holds no ledger.
        LedgerTamperedError: something is changed, missing or added; names it.
    """
    version = check_format(connection, path)
    if version == 0:
        raise LedgerFormatError(f"{path} holds no ledger yet")
    encoding = connection.execute("PRAGMA encoding").fetchone()[0]
    if encoding != "UTF-8":
        raise LedgerTamperedError(f"the database's encoding is {encoding}, and was UTF-8")
    found = _read_schema(connection)
    refuse_other({thing: how for thing, how in found.items() if _STATISTICS.get(thing) != how}, _schema_of(version))


@lru_cache(maxsize=len(MIGRATIONS))
def _schema_of(version: int) -> Definitions:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for migration in MIGRATIONS[:version]:
            migration(connection)
        return _read_schema(connection)


def _read_schema(connection: sqlite3.Connection) -> Definitions:
    return {(str(name), str(what)): tuple(rest) for name, what, *rest in connection.execute(_SCHEMA)}


def list_index(connection: sqlite3.Connection, column: str) -> sqlite3.Cursor | None:
    """Return (session, number, row id) as an index of the rows lists them; None: all of the database was checked.

    Raises:
        LedgerTamperedError: the database does not hold together.
    """
    index, condition = _INDEXES[column]
    sql = _LISTED.format(column=column, index=index, condition=condition)
    if _works_out(connection, sql):
        _check_all(connection)
        return None
    return connection.execute(sql)


def wrong_index(connection: sqlite3.Connection, column: str) -> LedgerTamperedError:
    """Return what is wrong with an index that does not list what the rows say.

    Raises:
        LedgerTamperedError: SQLite knows more of it.
    """
    _check_all(connection)
    return LedgerTamperedError(f"the index {_INDEXES[column][0]!r} does not list what the rows say")


def verify_tables(connection: sqlite3.Connection) -> None:
    """Refuse a database in which one of the small tables, or an index of it, does not hold together.

    Raises:
        LedgerTamperedError: one does not; says what SQLite found.
    """
    if sqlite3.sqlite_version_info < _HAS_CHECK_OF_A_TABLE:
        _check_all(connection)
        return
    for table in _SMALL_TABLES:
        _refuse_fault(connection, f"PRAGMA integrity_check('{table}')")
    if connection.execute("SELECT 1 FROM shape LIMIT 1").fetchone() is not None:
        raise LedgerTamperedError("the table 'shape' of the database has rows, and must have none")


def _works_out(connection: sqlite3.Connection, sql: str) -> bool:
    """Tell whether SQLite would work out columns from the rows, and so not say what an index lists."""
    return any(b"json_extract" in (part or b"") for *_, part, _, _ in connection.execute(f"EXPLAIN {sql}"))


def _check_all(connection: sqlite3.Connection) -> None:
    _refuse_fault(connection, "PRAGMA integrity_check(1)")


def _refuse_fault(connection: sqlite3.Connection, pragma: str) -> None:
    fault = connection.execute(pragma).fetchone()[0]
    if fault != b"ok":
        raise LedgerTamperedError(f"the database does not hold together: {fault.decode('utf-8', 'replace')}")
