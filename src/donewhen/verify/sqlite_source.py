"""What the auditor reads from a SQLite file, in one read transaction.

Tables are read past their indexes, which are held against them: only what stands in a table was written there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from donewhen.errors import LedgerTamperedError, LedgerUnavailableError
from donewhen.stores import Sealed
from donewhen.stores.sqlite import WAIT_SECONDS
from donewhen.stores.sqlite_connections import connect_read_only, translate
from donewhen.verify import sqlite_schema

_TOTALS = "SELECT (SELECT max(id) FROM entries), (SELECT max(size) FROM sealed)"
_NEWEST = "SELECT note FROM sealed ORDER BY size DESC LIMIT 1"
# A body that is not stored as text is left out, and so is found missing.
_ROWS = "SELECT id, body FROM entries NOT INDEXED WHERE typeof(body) = 'text' ORDER BY id"
_SEALED = (
    "SELECT size, start, note, nodes FROM sealed NOT INDEXED"
    " WHERE typeof(note) = 'text' AND typeof(nodes) = 'blob' ORDER BY size"
)
_SEALED_AT = "SELECT size, start, note, nodes FROM sealed NOT INDEXED WHERE size > ? ORDER BY size LIMIT 1"
_EXISTS = "SELECT 1 FROM entries NOT INDEXED WHERE id = ?"
# One question each: asked for together, SQLite reads every row. Rows are counted too, since in a table that is out of
# order the last need not be the greatest.
_EXTENT = (
    "SELECT (SELECT min(id) FROM entries NOT INDEXED),"
    " max((SELECT max(id) FROM entries NOT INDEXED), (SELECT count(*) FROM entries NOT INDEXED))"
)
_COMMITS = "SELECT (SELECT count(*) FROM sealed NOT INDEXED), (SELECT max(size) FROM sealed NOT INDEXED)"
_BODIES = "SELECT id, body FROM entries WHERE session_id = CAST(? AS TEXT) AND id <= ? ORDER BY seq"
_DECISIVE = (
    "SELECT body FROM entries WHERE session_id = CAST(:session AS TEXT) AND id < :id AND ("
    " kind IN ('spec', 'policy', 'open', 'reconcile') OR doubts IS NOT NULL OR (kind = 'llm' AND instr(body, '\"held\":true'))"
    " OR (kind = 'reserve' AND seq NOT IN (SELECT closes FROM entries"
    "   WHERE session_id = CAST(:session AS TEXT) AND closes IS NOT NULL AND id < :id))"
    " OR seq = (SELECT max(seq) FROM entries WHERE session_id = CAST(:session AS TEXT) AND id < :id)) ORDER BY seq"
)
_TEXTS = (
    "SELECT entry_id, CASE typeof(label) WHEN 'text' THEN label END, CASE typeof(salt) WHEN 'blob' THEN salt END,"
    " CASE typeof(body) WHEN 'blob' THEN body END FROM texts ORDER BY entry_id, label"
)
_PLACES = "SELECT min(id), max(id), count(*) FROM texts NOT INDEXED"
_TEXT = "SELECT salt, body FROM texts WHERE entry_id = ? AND label = CAST(? AS TEXT)"
_ERASABLE = (
    "SELECT count(*), coalesce(sum(salt IS NOT zeroblob(32)), 0) FROM texts"
    " WHERE entry_id IN (SELECT id FROM entries WHERE session_id = CAST(? AS TEXT) AND id < ?)"
)
_SAID_ERASED = (
    "SELECT coalesce(sum(json_extract(body, '$.data.erased')), 0) FROM entries"
    " WHERE session_id = CAST(? AS TEXT) AND id <= ? AND kind = 'erase'"
)
_COSIGNED = (
    "SELECT c.id, c.size, c.vkey, c.line, c.at, s.size FROM cosigned AS c NOT INDEXED"
    " LEFT JOIN sealed AS s ON s.size = c.size ORDER BY c.id"
)
_COSIGNED_BY = "SELECT size, line FROM cosigned WHERE vkey = CAST(? AS TEXT) ORDER BY size DESC, id DESC"

_NEWEST_OF = "SELECT body FROM entries WHERE session_id = CAST(? AS TEXT) AND id < ? ORDER BY seq DESC LIMIT 1"
_NEWEST_LISTED = (
    "SELECT body FROM entries"
    " WHERE id = (SELECT max(entry_id) FROM balances WHERE name = CAST(? AS TEXT) AND entry_id < ?)"
)
_BALANCES = "SELECT name, entry_id FROM balances"

MOST_ID = 2**63 - 1
"""The greatest id that SQLite can hold."""


class SQLiteSource:
    """One state of a SQLite file; see `donewhen.verify.source.Source`.

    Args:
        connection: in a read transaction, with texts as text.

    Raises:
        LedgerTamperedError: the file does not say which log it holds.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.origin, self.vkey = _read_log(connection)
        connection.text_factory = bytes
        self._connection = connection

    def totals(self) -> tuple[int, int]:
        """Return the greatest id of a row and the greatest size of a sealed state."""
        rows, size = self._one(_TOTALS)
        return rows or 0, size or 0

    def rows(self) -> sqlite3.Cursor:
        """Return (id, body) of every row that is stored as text, in order."""
        return self._connection.execute(_ROWS)

    def sealed(self) -> Iterator[tuple[Any, ...]]:
        """Yield every sealed state of the right types, in order."""
        return self._connection.execute(_SEALED)

    def sealed_at(self, leaf: int) -> Sealed | None:
        """Return the first sealed state that covers more rows than `leaf`."""
        found = self._connection.execute(_SEALED_AT, (leaf,)).fetchone()
        return None if found is None else Sealed(*found)

    def newest_note(self) -> bytes | None:
        """Return the newest checkpoint."""
        found = self._connection.execute(_NEWEST).fetchone()
        return None if found is None else found[0]

    def row_exists(self, row_id: int) -> bool:
        """Tell whether there is a row of that id."""
        return self._connection.execute(_EXISTS, (row_id,)).fetchone() is not None

    def extent(self) -> tuple[int | None, int | None]:
        """Return the least and the greatest id of all rows."""
        return self._one(_EXTENT)

    def commits(self) -> tuple[int, int | None]:
        """Return how many sealed states there are, and the greatest size."""
        return self._one(_COMMITS)

    def bodies_of(self, session_id: str, last_id: int | None = None) -> Iterable[tuple[int, bytes]]:
        """Return (id, body) of a session's rows in order."""
        return self._connection.execute(_BODIES, (_utf8(session_id), MOST_ID if last_id is None else last_id))

    def decisive(self, session_id: str, row_id: int) -> Iterable[bytes]:
        """Return the bodies of the rows before an id on which a session's later ones depend."""
        parameters = {"session": _utf8(session_id), "id": row_id}
        return [body for (body,) in self._connection.execute(_DECISIVE, parameters)]

    def newest_of(self, session_id: str, row_id: int) -> bytes | None:
        """Return the body of a session's newest row before an id."""
        found = self._connection.execute(_NEWEST_OF, (_utf8(session_id), row_id)).fetchone()
        return None if found is None else found[0]

    def newest_listed(self, name: str, row_id: int) -> bytes | None:
        """Return the body of the newest row before an id that is listed for a balance."""
        found = self._connection.execute(_NEWEST_LISTED, (_utf8(name), row_id)).fetchone()
        return None if found is None else found[0]

    def texts(self) -> Iterator[tuple[Any, ...]]:
        """Yield every kept text, by row and label."""
        return self._connection.execute(_TEXTS)

    def places_of_texts(self) -> tuple[int | None, int | None, int]:
        """Return the least and the greatest place of the kept texts, and how many there are."""
        return self._one(_PLACES)

    def find_text(self, row_id: int, label: str) -> tuple[bytes, bytes] | None:
        """Return (salt, text) kept beside a row."""
        return self._connection.execute(_TEXT, (row_id, _utf8(label))).fetchone()

    def erasable(self, session_id: str, row_id: int) -> tuple[int, int]:
        """Return how many texts stand beside a session's rows before an id, and how many are not erased."""
        return self._one(_ERASABLE, (_utf8(session_id), row_id))

    def said_erased(self, session_id: str, row_id: int) -> int:
        """Return how many texts a session's rows up to an id say that they erased."""
        return self._one(_SAID_ERASED, (_utf8(session_id), row_id))[0]

    def cosigned(self) -> Iterator[tuple[Any, ...]]:
        """Yield every cosignature by its place."""
        return self._connection.execute(_COSIGNED)

    def cosigned_by(self, vkey: str) -> Iterator[tuple[Any, ...]]:
        """Yield (size, line) of every cosignature of a witness, newest first."""
        return self._connection.execute(_COSIGNED_BY, (vkey,))

    def listed(self, column: str) -> sqlite3.Cursor | None:
        """Return (session, number, row id) as the index of a column lists them."""
        return sqlite_schema.list_index(self._connection, column)

    def balances(self) -> sqlite3.Cursor:
        """Return (name, row id) of all that is listed for balances."""
        return self._connection.execute(_BALANCES)

    def session_of(self, key: bytes) -> bytes:
        """Return the key itself, which is the session's id."""
        return key

    def wrong_index(self, column: str) -> LedgerTamperedError:
        """Return what is wrong with an index."""
        return sqlite_schema.wrong_index(self._connection, column)

    def verify_tables(self) -> None:
        """Refuse a file of which another table does not hold together."""
        sqlite_schema.verify_tables(self._connection)

    def _one(self, sql: str, parameters: tuple[object, ...] = ()) -> tuple[Any, ...]:
        return self._connection.execute(sql, parameters).fetchone()


@contextmanager
def open_sqlite(path: str) -> Generator[SQLiteSource, None, None]:
    """Open one state of a file whose schema is ours.

    Raises:
        LedgerTamperedError: the schema is not ours, or the file does not say which log it holds.
        LedgerFormatError: it is no ledger of ours, or damaged beyond reading.
        LedgerUnavailableError: it cannot be read.
    """
    try:
        with closing(connect_read_only(path, WAIT_SECONDS)) as connection:
            connection.text_factory = _text_of
            connection.execute("BEGIN")
            sqlite_schema.verify_schema(connection, path)
            yield SQLiteSource(connection)
    except (sqlite3.Error, OSError) as error:
        raise translate(path, error) from error
    except MemoryError as error:
        raise LedgerUnavailableError(path, "it holds a row or a text that is larger than the memory") from error


def _read_log(connection: sqlite3.Connection) -> tuple[str, str | None]:
    found = connection.execute("SELECT origin, vkey, id FROM log").fetchall()
    if len(found) != 1 or type(found[0][0]) is not str or type(found[0][1]) not in (str, type(None)):
        raise LedgerTamperedError(f"the log's name and key are {[one[:2] for one in found]!r}")
    if found[0][2] != 1:
        raise LedgerTamperedError(f"the log's name stands in row {found[0][2]!r} of its table, which has one row")
    return found[0][:2]


def _text_of(data: bytes) -> str:
    """Read a text of a database that may not even be UTF-8; such a text equals none of ours."""
    return data.decode("utf-8", "surrogateescape")


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
