"""What is read from one log on PostgreSQL, a query each."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from donewhen.balance import Balance
from donewhen.canonical import dumps
from donewhen.entry import LedgerRow, decode
from donewhen.errors import LedgerTamperedError
from donewhen.stores import Cosigned, Sealed
from donewhen.stores.postgres_url import Address
from donewhen.stores.sqlite_transaction import balance_in

LEAST_ID = -(2**63)
"""The least id that there can be: whoever slips in a row can choose one below 1, and is to be seen."""

PAGE_ROWS = 512
"""How many rows are read at a time where all are."""

_SESSION = "SELECT body FROM donewhen.entries WHERE log = %(log)s AND session = %(session)s ORDER BY seq"
_KINDS = (
    "SELECT body FROM donewhen.entries WHERE log = %(log)s AND session = %(session)s AND kind = ANY(%(kinds)s)"
    " ORDER BY seq"
)
_OPENED = (
    "SELECT body FROM donewhen.entries WHERE log = %(log)s AND session = %(session)s AND seq > %(after)s"
    " AND kind = 'open' ORDER BY seq DESC LIMIT 1"
)
_HEAD = "SELECT body FROM donewhen.entries WHERE log = %(log)s AND session = %(session)s ORDER BY seq DESC LIMIT 1"
_UNDER = (
    # From session to session, since most rows of a session under a budget touch it.
    "WITH RECURSIVE found (session) AS (SELECT min(session) FROM donewhen.entries WHERE log = %(log)s UNION ALL"
    " SELECT (SELECT min(session) FROM donewhen.entries WHERE log = %(log)s AND session > found.session) FROM found"
    "  WHERE session IS NOT NULL)"
    " SELECT newest.body FROM found, LATERAL (SELECT id, body FROM donewhen.entries"
    "  WHERE log = %(log)s AND session = found.session ORDER BY seq DESC LIMIT 1) AS newest"
    " WHERE EXISTS (SELECT 1 FROM donewhen.balances WHERE log = %(log)s AND name = %(name)s AND entry_id = newest.id)"
    " ORDER BY newest.id DESC"
)
_BALANCE = (
    "SELECT own.id, own.body, other.id, other.body FROM (SELECT 1) AS one"
    " LEFT JOIN (SELECT id, body FROM donewhen.entries WHERE log = %(log)s AND session = %(name)s"
    "  ORDER BY seq DESC LIMIT 1) AS own ON true"
    " LEFT JOIN (SELECT id, body FROM donewhen.entries WHERE log = %(log)s AND id ="
    "  (SELECT max(entry_id) FROM donewhen.balances WHERE log = %(log)s AND name = %(name)s)) AS other ON true"
)
_SESSIONS = "SELECT session, min(id), max(id) FROM donewhen.entries WHERE log = %(log)s GROUP BY session ORDER BY 2"
_BODIES = (
    "SELECT id, body FROM donewhen.entries WHERE log = %(log)s AND id > %(after)s AND id <= %(last)s"
    " ORDER BY id LIMIT %(limit)s"
)
_NEWEST_ID = "SELECT max(id) FROM donewhen.entries WHERE log = %(log)s"
_SEALED = (
    "SELECT size, start, note, nodes FROM donewhen.sealed WHERE log = %(log)s AND size > %(after)s"
    " AND size <= %(last)s ORDER BY size LIMIT %(limit)s"
)
_NEWEST_SIZE = "SELECT max(size) FROM donewhen.sealed WHERE log = %(log)s"
_NEWEST_SEALED = "SELECT size, start, note, nodes FROM donewhen.sealed WHERE log = %(log)s ORDER BY size DESC LIMIT 1"
SEALED_AT = (
    "SELECT size, start, note, nodes FROM donewhen.sealed WHERE log = %(log)s AND size > %(leaf)s ORDER BY size LIMIT 1"
)
_COSIGNED = "SELECT size, vkey, line, at FROM donewhen.cosigned WHERE log = %(log)s ORDER BY size, id"
_COSIGNED_AT = "SELECT size, vkey, line, at FROM donewhen.cosigned WHERE log = %(log)s AND size = %(size)s ORDER BY id"
_TEXT = (
    "SELECT salt, body FROM donewhen.texts WHERE log = %(log)s AND entry_id = %(id)s AND label = %(label)s"
    " AND salt <> decode(repeat('00', 32), 'hex')"
)


def key_of(session_id: str) -> str:
    """Return what a session is listed under: its id as a row spells it, quotes too.

    So even an id with a lone surrogate has a place, which PostgreSQL's own texts cannot hold.
    """
    return dumps(session_id).decode()


def session_of(key: str) -> str:
    """Return the id of the session that is listed under a key."""
    found: str = json.loads(key)
    return found


class PostgresReads(ABC):
    """The reading half of `PostgresStore`: each method is a query or two."""

    _address: Address

    @abstractmethod
    def _read(self, query: str, parameters: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """Run one query about this log on a connection of its own."""
        ...

    def read_session(self, session_id: str, kinds: Sequence[str] | None = None) -> list[LedgerRow]:
        """Return the rows of a session in order, of these kinds or of all."""
        if kinds is None:
            found = self._read(_SESSION, {"session": key_of(session_id)})
        else:
            found = self._read(_KINDS, {"session": key_of(session_id), "kinds": list(kinds)})
        return [decode(body) for (body,) in found]

    def find_newest(self, session_id: str) -> LedgerRow | None:
        """Return the newest row of a session, None if it has none."""
        found = self._read(_HEAD, {"session": key_of(session_id)})
        return decode(found[0][0]) if found else None

    def find_opened(self, session_id: str, after: int) -> LedgerRow | None:
        """Return the newest row that opened a session, of those after a seq; None if there is none."""
        found = self._read(_OPENED, {"session": key_of(session_id), "after": after})
        return decode(found[0][0]) if found else None

    def find_balance(self, name: str) -> Balance | None:
        """Return a balance as the newest committed row that touched it left it; None if none has."""
        [(own_id, own_body, other_id, other_body)] = self._read(_BALANCE, {"name": key_of(name)})
        if other_id is not None and (own_id is None or other_id > own_id):
            return balance_in(decode(other_body), name)
        return None if own_id is None else decode(own_body).balance

    def read_under(self, name: str) -> list[LedgerRow]:
        """Return the newest row of each other session that touches a balance, newest first."""
        return [decode(body) for (body,) in self._read(_UNDER, {"name": key_of(name)})]

    def iter_bodies(self, after_id: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield (id, stored body) of every row in order, as many as there are at the first."""
        # Whoever slips in a row can choose an id below 1, and it is to be seen.
        for row_id, body in self._iter(_BODIES, _NEWEST_ID, after_id or LEAST_ID):
            yield row_id, body.encode()

    def iter_sealed(self, after_size: int = 0) -> Iterator[Sealed]:
        """Yield every sealed state that covers more than so many rows in order, as many as there are at the first."""
        for row in self._iter(_SEALED, _NEWEST_SIZE, after_size):
            yield Sealed(*row)

    def newest_sealed(self) -> Sealed:
        """Return the newest sealed state of the log; that of no rows, if it has none."""
        found = self._read(_NEWEST_SEALED)
        if not found:
            raise LedgerTamperedError("there is no checkpoint, not even that of no rows with which a log begins")
        return Sealed(*found[0])

    def sealed_at(self, leaf: int) -> Sealed | None:
        """Return the first sealed state that covers more rows than `leaf`, None if none does."""
        found = self._read(SEALED_AT, {"leaf": leaf})
        return Sealed(*found[0]) if found else None

    def read_cosigned(self, size: int | None = None) -> list[Cosigned]:
        """Return what witnesses cosigned, smallest checkpoint first; only of one checkpoint where a size is given."""
        found = self._read(_COSIGNED) if size is None else self._read(_COSIGNED_AT, {"size": size})
        return [Cosigned(*row) for row in found]

    def read_sessions(self) -> list[tuple[str, int, int]]:
        """Return (session id, id of its first row, id of its newest row), oldest session first."""
        return [(session_of(key), first, newest) for key, first, newest in self._read(_SESSIONS)]

    def find_text(self, row_id: int, label: str) -> tuple[bytes, bytes] | None:
        """Return (salt, text) kept beside a row, None if it was never kept or has been erased."""
        found = self._read(_TEXT, {"id": row_id, "label": label})
        return found[0] if found else None

    def _iter(self, sql: str, newest: str, after: int) -> Iterator[tuple[Any, ...]]:
        """Yield rows page by page. What is there is never changed, so the rows up to the newest are one state."""
        last: int = self._read(newest)[0][0] or 0
        while after < last and (page := self._read(sql, {"after": after, "last": last, "limit": PAGE_ROWS})):
            yield from page
            after = page[-1][0]
