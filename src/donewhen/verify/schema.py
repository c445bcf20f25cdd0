"""The database around a ledger's rows: it must be ours to the letter, and hold together.

A changed view or column would show other rows than those that were verified, and our own reads go through the indexes:
a row that an index hides would be there, and never be shown.

SQLite has a check of its own, which would work out every generated column of every row again. For the rows that is most
of the time of a whole verification, so their indexes are held against what the rows were found to say: what an index
lists must be in order, and a fingerprint of all of it, under numbers drawn anew each time, that of what the rows say.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from donewhen.errors import LedgerFormatError, LedgerTamperedError
from donewhen.stores.sqlite_schema import MIGRATIONS, check_format
from donewhen.verify.row import Row

PAGE_ROWS = 1000
"""How many rows of an index are read at a time."""

MOST_MARKS = 8192
"""How many sessions' marks are remembered."""

_SCHEMA = "SELECT name, type, tbl_name, sql FROM sqlite_master"
# What ANALYZE leaves: it can make a question slower, but cannot change its answer.
_STATISTICS = ("sqlite_stat1", "sqlite_stat4")

_PRIME = 2**61 - 1

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
_BALANCES = "SELECT name, entry_id FROM balances"
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
    found = {name: tuple(rest) for name, *rest in connection.execute(_SCHEMA) if name not in _STATISTICS}
    wanted = _schema_of(version)
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) == wanted.get(name):
            continue
        what = (found.get(name) or wanted[name])[0]
        how = "is missing" if name not in found else "is not ours" if name not in wanted else "was changed"
        raise LedgerTamperedError(f"the {what} {name!r} of the database {how}")


@lru_cache(maxsize=len(MIGRATIONS))
def _schema_of(version: int) -> dict[str, tuple[Any, ...]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for migration in MIGRATIONS[:version]:
            migration(connection)
        return {name: tuple(rest) for name, *rest in connection.execute(_SCHEMA)}


# -- the indexes -------------------------------------------------------------------------------------------------------


class Listed:
    """What rows say, as far as an index lists it: a fingerprint of a set of (session, number, row id) for each index.

    Two sets that differ have one fingerprint with a chance of one in two thousand million for a set of a thousand
    million, since nobody knows the numbers that it is made with: they are drawn anew each time.

    Args:
        random: gives so many bytes that nobody can guess.

    Source: fingerprints of sets as polynomials at a random point; Lipton 1989, "Fingerprinting Sets".
    """

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._key = random(32)
        self._point, self._by_number, self._by_id = (int.from_bytes(random(16), "big") % _PRIME for _ in range(3))
        self._marks: dict[str, int] = {}
        self.rows = self.closes = self.doubts = self.balances = 1

    def add(self, row: Row) -> None:
        """Take in what the next row says."""
        row_id = row["id"]
        mark = self._mark_of(row["session"]) - self._by_id * row_id
        self.rows = self.rows * (mark - self._by_number * row["seq"]) % _PRIME
        if "closes" in row:
            self.closes = self.closes * (mark - self._by_number * row["closes"]) % _PRIME
        elif "doubts" in row:
            self.doubts = self.doubts * (mark - self._by_number * row["doubts"]) % _PRIME

    def add_balance(self, name: str, row_id: int) -> None:
        """Take in that the row leaves a balance of others."""
        self.balances = self.balances * (self._mark_of(name) - self._by_id * row_id) % _PRIME

    def verify(self, connection: sqlite3.Connection) -> None:
        """Hold the indexes of the rows against what the rows said, and so the table of balances.

        Args:
            connection: in the transaction in which the rows were read, with texts as bytes.

        Raises:
            LedgerTamperedError: an index does not list what it must; names it.
        """
        for column, said in (("seq", self.rows), ("closes", self.closes), ("doubts", self.doubts)):
            index, condition = _INDEXES[column]
            sql = _LISTED.format(column=column, index=index, condition=condition)
            if _works_out(connection, sql):
                _check_all(connection)
                return
            if self._list(connection.execute(sql)) != said:
                _check_all(connection)
                raise LedgerTamperedError(f"the index {index!r} does not list what the rows say")
        if self._list_balances(connection.execute(_BALANCES)) != self.balances:
            _check_all(connection)
            raise LedgerTamperedError("the table 'balances' does not list what the rows say")

    def _list_balances(self, found: sqlite3.Cursor) -> int | None:
        """Return the fingerprint of the table of balances, None where something in it is neither text nor number."""
        listed = 1
        while page := found.fetchmany(PAGE_ROWS):
            for name, row_id in page:
                if type(name) is not bytes or type(row_id) is not int:
                    return None
                listed = listed * (self._mark(name) - self._by_id * row_id) % _PRIME
        return listed

    def _list(self, found: sqlite3.Cursor) -> int | None:
        """Return the fingerprint of what an index lists, None where it is out of order."""
        by_number, by_id, listed = self._by_number, self._by_id, 1
        session, number, mark = b"", 0, 0
        while page := found.fetchmany(PAGE_ROWS):
            for next_session, next_number, row_id in page:
                if next_session < session or (next_session == session and next_number <= number):
                    return None
                if next_session != session:
                    session, mark = next_session, self._mark(next_session)
                number = next_number
                listed = listed * (mark - by_number * number - by_id * row_id) % _PRIME
        return listed

    def _mark_of(self, name: str) -> int:
        mark = self._marks.get(name)
        if mark is None:
            if len(self._marks) >= MOST_MARKS:
                self._marks.clear()
            mark = self._marks[name] = self._mark(name.encode("utf-8", "surrogatepass"))
        return mark

    def _mark(self, session: bytes) -> int:
        return self._point - int.from_bytes(blake2b(session, digest_size=16, key=self._key).digest(), "big") % _PRIME


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
