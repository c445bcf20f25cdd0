"""What the auditor reads from a log on PostgreSQL, in one read-only transaction that sees one state.

Whatever may be long is read through a cursor on the server, so that memory does not grow with the log.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from typing import Any

import psycopg

from donewhen.arguments import is_storable
from donewhen.entry import decode
from donewhen.errors import LedgerTamperedError, LedgerUnavailableError
from donewhen.stores import Sealed
from donewhen.stores.postgres_connections import Link, connect, translate
from donewhen.stores.postgres_cursor import ONE_STATE, Paged
from donewhen.stores.postgres_reads import SEALED_AT, key_of, session_of
from donewhen.stores.postgres_url import parse_url
from donewhen.verify.postgres_schema import our_schema, verify_schema

MOST_ID = 2**63 - 1
"""The greatest id that PostgreSQL can hold."""

_LOG = "SELECT origin, vkey FROM donewhen.log WHERE log = %(log)s"
_TOTALS = (
    "SELECT (SELECT max(id) FROM donewhen.entries WHERE log = %(log)s),"
    " (SELECT max(size) FROM donewhen.sealed WHERE log = %(log)s)"
)
_NEWEST = "SELECT convert_to(note, 'UTF8') FROM donewhen.sealed WHERE log = %(log)s ORDER BY size DESC LIMIT 1"
_ROWS = "SELECT id, convert_to(body, 'UTF8') FROM donewhen.entries WHERE log = %(log)s ORDER BY id"
_SEALED = "SELECT size, start, convert_to(note, 'UTF8'), nodes FROM donewhen.sealed WHERE log = %(log)s ORDER BY size"
_EXISTS = "SELECT 1 FROM donewhen.entries WHERE log = %(log)s AND id = %(id)s"
_EXTENT = "SELECT min(id), max(id) FROM donewhen.entries WHERE log = %(log)s"
_COMMITS = "SELECT count(*), max(size) FROM donewhen.sealed WHERE log = %(log)s"
_BODIES = (
    "SELECT id, convert_to(body, 'UTF8') FROM donewhen.entries"
    " WHERE log = %(log)s AND session = %(session)s AND id <= %(id)s ORDER BY seq"
)
_DECISIVE = (
    "SELECT convert_to(body, 'UTF8') FROM donewhen.entries AS e"
    " WHERE log = %(log)s AND session = %(session)s AND id < %(id)s AND ("
    " kind IN ('spec', 'policy', 'open', 'reconcile') OR doubts IS NOT NULL OR (kind = 'llm' AND strpos(body, '\"held\":true') > 0)"
    " OR (kind = 'reserve' AND NOT EXISTS (SELECT 1 FROM donewhen.entries AS c"
    "   WHERE c.log = %(log)s AND c.session = %(session)s AND c.closes = e.seq AND c.id < %(id)s))"
    " OR seq = (SELECT max(seq) FROM donewhen.entries"
    "   WHERE log = %(log)s AND session = %(session)s AND id < %(id)s)) ORDER BY seq"
)
_NEWEST_OF = (
    "SELECT convert_to(body, 'UTF8') FROM donewhen.entries"
    " WHERE log = %(log)s AND session = %(session)s AND id < %(id)s ORDER BY seq DESC LIMIT 1"
)
_NEWEST_LISTED = (
    "SELECT convert_to(body, 'UTF8') FROM donewhen.entries WHERE log = %(log)s AND id = (SELECT max(entry_id)"
    " FROM donewhen.balances WHERE log = %(log)s AND name = %(name)s AND entry_id < %(id)s)"
)
_BALANCES = "SELECT convert_to(name, 'UTF8'), entry_id FROM donewhen.balances WHERE log = %(log)s"
_ERASES = (
    "SELECT convert_to(body, 'UTF8') FROM donewhen.entries"
    " WHERE log = %(log)s AND session = %(session)s AND id <= %(id)s AND kind = 'erase'"
)
_TEXTS = (
    "SELECT entry_id, convert_to(label, 'UTF8'), salt, body FROM donewhen.texts WHERE log = %(log)s"
    " ORDER BY entry_id, label"
)
_PLACES = "SELECT min(id), max(id), count(*) FROM donewhen.texts WHERE log = %(log)s"
_TEXT = "SELECT salt, body FROM donewhen.texts WHERE log = %(log)s AND entry_id = %(id)s AND label = %(label)s"
_ERASABLE = (
    "SELECT count(*), count(*) FILTER (WHERE salt <> decode(repeat('00', 32), 'hex')) FROM donewhen.texts"
    " WHERE log = %(log)s AND entry_id IN (SELECT id FROM donewhen.entries"
    "  WHERE log = %(log)s AND session = %(session)s AND id < %(id)s)"
)
_COSIGNED = (
    "SELECT c.id, c.size, convert_to(c.vkey, 'UTF8'), convert_to(c.line, 'UTF8'), convert_to(c.at, 'UTF8'), s.size"
    " FROM donewhen.cosigned AS c LEFT JOIN donewhen.sealed AS s ON s.log = c.log AND s.size = c.size"
    " WHERE c.log = %(log)s ORDER BY c.id"
)
_COSIGNED_BY = (
    "SELECT size, convert_to(line, 'UTF8') FROM donewhen.cosigned WHERE log = %(log)s AND vkey = %(vkey)s"
    " ORDER BY size DESC, id DESC"
)
_LISTED = (
    "SELECT convert_to(session, 'UTF8'), {column}, id FROM donewhen.entries"
    " WHERE log = %(log)s AND {column} IS NOT NULL ORDER BY log, session, {column}"
)
_INDEXES = {"seq": "entries_by_session", "closes": "entries_close_once", "doubts": "entries_doubt_once"}
_SMALL_TABLES = {"sealed": "size", "cosigned": "id", "texts": "id", "balances": "name"}
_COUNT = "SELECT count({column}) FROM donewhen.{table} WHERE log = %(log)s"

_BY_INDEX = ("enable_seqscan", "enable_bitmapscan", "enable_sort", "enable_incremental_sort")
_BY_TABLE = ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan")


class PostgresSource:
    """One state of a log; see `donewhen.verify.source.Source`.

    Args:
        connection: in a read-only transaction that sees one state.
        log: the log's name.

    Raises:
        LedgerTamperedError: the database does not say who the log is.
    """

    def __init__(self, connection: Link, log: str) -> None:
        self._connection = connection
        self._log = log
        self._numbers = count()
        found = self._all(_LOG)
        if len(found) != 1:
            raise LedgerTamperedError(f"the database does not name the log {log!r}")
        self.origin, self.vkey = found[0]

    def totals(self) -> tuple[int, int]:
        """Return the greatest id of a row and the greatest size of a sealed state."""
        rows, size = self._all(_TOTALS)[0]
        return rows or 0, size or 0

    def rows(self) -> Paged:
        """Return (id, body) of every row in order."""
        return self._paged(_ROWS)

    def sealed(self) -> Iterator[tuple[Any, ...]]:
        """Yield every sealed state in order."""
        return iter(self._paged(_SEALED))

    def sealed_at(self, leaf: int) -> Sealed | None:
        """Return the first sealed state that covers more rows than `leaf`."""
        found = self._all(SEALED_AT, leaf=leaf)
        return Sealed(*found[0]) if found else None

    def newest_note(self) -> bytes | None:
        """Return the newest checkpoint."""
        found = self._all(_NEWEST)
        return found[0][0] if found else None

    def row_exists(self, row_id: int) -> bool:
        """Tell whether there is a row of that id."""
        return bool(self._all(_EXISTS, id=row_id))

    def extent(self) -> tuple[int | None, int | None]:
        """Return the least and the greatest id of all rows."""
        with self._without(_BY_TABLE):
            least, most = self._all(_EXTENT)[0]
        return least, most

    def commits(self) -> tuple[int, int | None]:
        """Return how many sealed states there are, and the greatest size."""
        with self._without(_BY_TABLE):
            commits, last = self._all(_COMMITS)[0]
        return commits, last

    def bodies_of(self, session_id: str, last_id: int | None = None) -> Iterable[tuple[int, bytes]]:
        """Return (id, body) of a session's rows in order."""
        most = MOST_ID if last_id is None else last_id
        return [(row_id, body) for row_id, body in self._all(_BODIES, session=key_of(session_id), id=most)]

    def decisive(self, session_id: str, row_id: int) -> Iterable[bytes]:
        """Return the bodies of the rows before an id on which a session's later ones depend."""
        return [body for (body,) in self._all(_DECISIVE, session=key_of(session_id), id=row_id)]

    def newest_of(self, session_id: str, row_id: int) -> bytes | None:
        """Return the body of a session's newest row before an id."""
        found = self._all(_NEWEST_OF, session=key_of(session_id), id=row_id)
        return found[0][0] if found else None

    def newest_listed(self, name: str, row_id: int) -> bytes | None:
        """Return the body of the newest row before an id that is listed for a balance."""
        found = self._all(_NEWEST_LISTED, name=key_of(name), id=row_id)
        return found[0][0] if found else None

    def texts(self) -> Iterator[tuple[Any, ...]]:
        """Yield every kept text, by row and label."""
        return iter(self._paged(_TEXTS))

    def places_of_texts(self) -> tuple[int | None, int | None, int]:
        """Return the least and the greatest place of the kept texts, and how many there are."""
        with self._without(_BY_TABLE):
            least, most, texts = self._all(_PLACES)[0]
        return least, most, texts

    def find_text(self, row_id: int, label: str) -> tuple[bytes, bytes] | None:
        """Return (salt, text) kept beside a row."""
        if not is_storable(label) or "\0" in label:
            return None
        found = self._all(_TEXT, id=row_id, label=label)
        return (found[0][0], found[0][1]) if found else None

    def erasable(self, session_id: str, row_id: int) -> tuple[int, int]:
        """Return how many texts stand beside a session's rows before an id, and how many are not erased."""
        there, kept = self._all(_ERASABLE, session=key_of(session_id), id=row_id)[0]
        return there, kept

    def said_erased(self, session_id: str, row_id: int) -> int:
        """Return how many texts a session's rows up to an id say that they erased."""
        rows = [decode(body) for (body,) in self._all(_ERASES, session=key_of(session_id), id=row_id)]
        return sum([row.data["erased"] for row in rows])

    def cosigned(self) -> Iterator[tuple[Any, ...]]:
        """Yield every cosignature by its place."""
        return iter(self._paged(_COSIGNED))

    def cosigned_by(self, vkey: str) -> Iterator[tuple[Any, ...]]:
        """Yield (size, line) of every cosignature of a witness, newest first."""
        return iter(self._paged(_COSIGNED_BY, vkey=vkey))

    def listed(self, column: str) -> Paged:
        """Return (session, number, row id) as the index of a column lists them."""
        with self._without(_BY_INDEX):
            return self._paged(_LISTED.format(column=column))

    def balances(self) -> Paged:
        """Return (name, row id) of all that is listed for balances."""
        return self._paged(_BALANCES)

    def session_of(self, key: bytes) -> bytes:
        """Return the UTF-8 of the session that is listed under a key."""
        try:
            return session_of(key.decode()).encode("utf-8", "surrogatepass")
        except (json.JSONDecodeError, AttributeError) as error:
            raise LedgerTamperedError(
                f"the index {_INDEXES['seq']!r} lists {key[:80]!r}, which is no session"
            ) from error

    def wrong_index(self, column: str) -> LedgerTamperedError:
        """Return what is wrong with an index."""
        return LedgerTamperedError(f"the index {_INDEXES[column]!r} does not list what the rows say")

    def verify_tables(self) -> None:
        """Refuse a table that has other rows than its key lists."""
        for table, column in _SMALL_TABLES.items():
            counted: list[object] = []
            for way in (_BY_INDEX, _BY_TABLE):
                with self._without(way):
                    counted.append(self._all(_COUNT.format(table=table, column=column))[0][0])
            if counted[0] != counted[1]:
                raise LedgerTamperedError(f"the key of the table {table!r} lists {counted[0]} rows of {counted[1]}")

    def _all(self, sql: str, **parameters: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql.encode(), {"log": self._log, **parameters}, binary=True).fetchall()

    def _paged(self, sql: str, **parameters: object) -> Paged:
        return Paged(self._connection, f"audit_{next(self._numbers)}", sql, {"log": self._log, **parameters})

    @contextmanager
    def _without(self, ways: Sequence[str]) -> Generator[None, None, None]:
        """Keep the server's planner from some ways to read: a table without its index, or an index and no sorting."""
        for way in ways:
            self._connection.execute("SELECT set_config(%s, 'off', true)", (way,))
        yield
        for way in ways:
            self._connection.execute("SELECT set_config(%s, 'on', true)", (way,))


@contextmanager
def open_postgres(url: str) -> Generator[PostgresSource, None, None]:
    """Open one state of a log on PostgreSQL whose schema is ours.

    Raises:
        LedgerTamperedError: the schema is not ours, or the database does not name the log.
        LedgerFormatError: it holds no ledger.
        LedgerUnavailableError: it cannot be read.
    """
    address = parse_url(url)
    try:
        connection, _ = connect(address)
        with closing(connection):
            wanted = our_schema(connection, address.shown)
            connection.execute(ONE_STATE)
            verify_schema(connection, address.shown, wanted)
            yield PostgresSource(connection, address.log)
    except psycopg.Error as error:
        raise translate(address.shown, error) from error
    except MemoryError as error:
        problem = "it holds a row or a text that is larger than the memory"
        raise LedgerUnavailableError(address.shown, problem) from error
