"""What is read from a ledger's SQLite file, a query each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from donewhen.balance import Balance
from donewhen.entry import LedgerRow, decode
from donewhen.errors import LedgerTamperedError
from donewhen.stores import Cosigned, Sealed
from donewhen.stores.sqlite_transaction import BALANCE, HEAD, SEALED_AT, balance_in

LEAST_ID = -(2**63)
"""The least id that SQLite can hold: whoever slips in a row can choose one below 1, and is to be seen."""

PAGE_ROWS = 512
"""How many rows are read at a time where all are."""

_SESSION = "SELECT body FROM entries WHERE session_id = ?"
_OPENED = f"{_SESSION} AND seq > ? AND kind = 'open' ORDER BY seq DESC LIMIT 1"
# From session to session, since most rows of a session under a budget touch it.
_UNDER = (
    "WITH RECURSIVE session (id) AS (SELECT min(session_id) FROM entries UNION ALL"
    " SELECT (SELECT min(session_id) FROM entries WHERE session_id > session.id) FROM session WHERE id IS NOT NULL),"
    " newest (id) AS (SELECT (SELECT e.id FROM entries AS e WHERE e.session_id = session.id ORDER BY e.seq DESC LIMIT 1)"
    " FROM session)"
    " SELECT body FROM newest JOIN entries USING (id)"
    " WHERE EXISTS (SELECT 1 FROM balances WHERE name = ? AND entry_id = newest.id) ORDER BY newest.id DESC"
)
_SESSIONS = "SELECT session_id, min(id), max(id) FROM entries GROUP BY session_id ORDER BY 2"
_BODIES = "SELECT id, CAST(body AS BLOB) FROM entries WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?"
_NEWEST_ID = "SELECT max(id) FROM entries"
_SEALED = "SELECT size, start, note, nodes FROM sealed WHERE size >= ? AND size <= ? ORDER BY size LIMIT ?"
_NEWEST_SIZE = "SELECT max(size) FROM sealed"
_NEWEST_SEALED = "SELECT size, start, note, nodes FROM sealed ORDER BY size DESC LIMIT 1"
_COSIGNED = "SELECT size, vkey, line, at FROM cosigned ORDER BY size, id"
_COSIGNED_AT = "SELECT size, vkey, line, at FROM cosigned WHERE size = ? ORDER BY id"
_TEXT = "SELECT salt, body FROM texts WHERE entry_id = ? AND label = ? AND salt IS NOT zeroblob(32)"


class SQLiteReads(ABC):
    """The reading half of `SQLiteStore`: each method is a query or two."""

    @abstractmethod
    def _read(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        """Run one query on the reading connection."""
        ...

    def read_session(self, session_id: str, kinds: Sequence[str] | None = None) -> list[LedgerRow]:
        """Return the rows of a session in order, of these kinds or of all."""
        marks = f" AND kind IN ({', '.join('?' * len(kinds))})" if kinds is not None else ""
        found = self._read(f"{_SESSION}{marks} ORDER BY seq", (session_id, *(kinds or ())))
        return [decode(body) for (body,) in found]

    def find_newest(self, session_id: str) -> LedgerRow | None:
        """Return the newest row of a session, None if it has none."""
        found = self._read(HEAD, (session_id,))
        return decode(found[0][1]) if found else None

    def find_opened(self, session_id: str, after: int) -> LedgerRow | None:
        """Return the newest row that opened a session, of those after a seq; None if there is none."""
        found = self._read(_OPENED, (session_id, after))
        return decode(found[0][0]) if found else None

    def find_balance(self, name: str) -> Balance | None:
        """Return a balance as the newest committed row that touched it left it; None if none has."""
        found = self._read(BALANCE, (name, name))
        if not found:
            return None
        own_id, own_body, other_id, other_body = found[0]
        if other_id is not None and (own_id is None or other_id > own_id):
            return balance_in(decode(other_body), name)
        return None if own_id is None else decode(own_body).balance

    def read_under(self, name: str) -> list[LedgerRow]:
        """Return the newest row of each other session that touches a balance, newest first."""
        return [decode(body) for (body,) in self._read(_UNDER, (name,))]

    def iter_bodies(self, after_id: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield (id, stored body) of every row in order, as many as there are at the first."""
        return self._iter(_BODIES, _NEWEST_ID, after_id + 1 if after_id else LEAST_ID)

    def iter_sealed(self, after_size: int = 0) -> Iterator[Sealed]:
        """Yield every sealed state that covers more than so many rows in order, as many as there are at the first."""
        for row in self._iter(_SEALED, _NEWEST_SIZE, after_size + 1):
            yield Sealed(*row)

    def newest_sealed(self) -> Sealed:
        """Return the newest sealed state of the log; that of no rows, if it has none."""
        found = self._read(_NEWEST_SEALED, ())
        if not found:
            raise LedgerTamperedError("there is no checkpoint, not even that of no rows with which a log begins")
        return Sealed(*found[0])

    def sealed_at(self, leaf: int) -> Sealed | None:
        """Return the first sealed state that covers more rows than `leaf`, None if none does."""
        found = self._read(SEALED_AT, (leaf,))
        return Sealed(*found[0]) if found else None

    def read_cosigned(self, size: int | None = None) -> list[Cosigned]:
        """Return what witnesses cosigned, smallest checkpoint first; only of one checkpoint where a size is given."""
        found = self._read(_COSIGNED, ()) if size is None else self._read(_COSIGNED_AT, (size,))
        return [Cosigned(*row) for row in found]

    def read_sessions(self) -> list[tuple[str, int, int]]:
        """Return (session id, id of its first row, id of its newest row), oldest session first."""
        return self._read(_SESSIONS, ())

    def find_text(self, row_id: int, label: str) -> tuple[bytes, bytes] | None:
        """Return (salt, text) kept beside a row, None if it was never kept or has been erased."""
        found = self._read(_TEXT, (row_id, label))
        return found[0] if found else None

    def _iter(self, sql: str, newest: str, start: int) -> Iterator[tuple[Any, ...]]:
        """Yield rows page by page. What is there is never changed, so the rows up to the newest are one state."""
        last: int = self._read(newest, ())[0][0] or 0
        while start <= last and (page := self._read(sql, (start, last, PAGE_ROWS))):
            yield from page
            start = page[-1][0] + 1
