"""One transaction on SQLite: where rows get their place."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from donewhen.balance import Balance
from donewhen.entry import GENESIS, Entry, LedgerRow, decode, place
from donewhen.errors import LedgerError, LedgerTamperedError
from donewhen.merkle import leaf_hash
from donewhen.stores import Head, Sealed
from donewhen.stores.log import find_node

MOST_HEADS = 1024
"""How many sessions' newest rows are remembered between transactions."""

HEAD = "SELECT id, body FROM entries WHERE session_id = ? ORDER BY seq DESC LIMIT 1"
_ROW = "SELECT id, body FROM entries WHERE session_id = ? AND seq = ?"
_CLOSING = "SELECT id, body FROM entries WHERE session_id = ? AND closes = ?"
_DOUBTING = "SELECT id, body FROM entries WHERE session_id = ? AND doubts = ?"
_NEWEST = (
    "SELECT (SELECT id FROM entries ORDER BY id DESC LIMIT 1), size, note"
    " FROM (SELECT 1) LEFT JOIN (SELECT size, note FROM sealed ORDER BY size DESC LIMIT 1)"
)
_SEALED_AT = "SELECT size, start, note, nodes FROM sealed WHERE size > ? ORDER BY size LIMIT 1"


class SQLiteTransaction:
    """What `SQLiteStore.writing` hands out; see `donewhen.stores.Transaction`.

    Args:
        connection: in a transaction.
        heads: the newest rows of sessions, as far as this process knows them.
        size: the rows in the log.
        at: the time of every row, ISO 8601, UTC.
    """

    def __init__(self, connection: sqlite3.Connection, heads: dict[str, Head], size: int, at: str) -> None:
        self._connection = connection
        self._heads = heads
        self._size = size
        self._at = at
        self.is_over = False
        self.leaves: list[bytes] = []
        self.new_heads: dict[str, Head] = {}

    def head(self, session_id: str) -> Head | None:
        """Return the newest row of a session, None if it has none."""
        known = self.new_heads.get(session_id) or self._heads.get(session_id)
        if known is None:
            if len(self._heads) >= MOST_HEADS:
                self._heads.clear()
            found = self._connection.execute(HEAD, (session_id,)).fetchone()
            if found is not None:
                row, leaf = self._read(*found)
                known = self._heads[session_id] = Head(row.seq, leaf.hex(), row.after)
        return known

    def append(self, entry: Entry, after: Sequence[Balance]) -> LedgerRow:
        """Give an entry its place."""
        if self.is_over:
            raise LedgerError("the transaction is over, so nothing can be written in it")
        head = self.head(entry.session_id)
        row, body = place(
            entry,
            row_id=self._size + len(self.leaves) + 1,
            seq=1 if head is None else head.seq + 1,
            prev=GENESIS if head is None else head.digest,
            at=self._at,
            after=after,
        )
        self._connection.execute("INSERT INTO entries (id, body) VALUES (?, ?)", (row.id, body.decode()))
        leaf = leaf_hash(body)
        self.leaves.append(leaf)
        self.new_heads[entry.session_id] = Head(row.seq, leaf.hex(), row.after)
        return row

    def put_text(self, row: LedgerRow, label: str, salt: bytes, text: bytes) -> None:
        """Keep a text beside a row of this transaction."""
        if self.is_over or not self._size < row.id <= self._size + len(self.leaves):
            raise LedgerError(f"row {row.id} is not of this transaction, so no text can be kept beside it")
        self._connection.execute(
            "INSERT INTO texts (entry_id, label, salt, body) VALUES (?, ?, ?, ?)", (row.id, label, salt, text)
        )

    def find_row(self, session_id: str, seq: int) -> LedgerRow | None:
        """Return one row of a session, None if it is not there."""
        return self._find(_ROW, session_id, seq)

    def find_closing(self, session_id: str, seq: int, *, doubts: bool = False) -> LedgerRow | None:
        """Return the row that closes (or doubts) the reservation in row `seq`, None if there is none."""
        return self._find(_DOUBTING if doubts else _CLOSING, session_id, seq)

    def _find(self, sql: str, session_id: str, seq: int) -> LedgerRow | None:
        found = self._connection.execute(sql, (session_id, seq)).fetchone()
        return None if found is None else self._read(*found)[0]

    def _read(self, row_id: int, body: object) -> tuple[LedgerRow, bytes]:
        """Decode a row that balances depend on, if it is the one that was sealed in its place."""
        if not isinstance(body, str) or not 1 <= row_id <= self._size + len(self.leaves):
            raise LedgerTamperedError("the row is not one of the log", row_id=row_id)
        leaf = leaf_hash(body.encode())
        if row_id > self._size:
            sealed = self.leaves[row_id - self._size - 1]
        else:
            sealed = find_node(0, row_id - 1, sealed_finder(self._connection))
        if leaf != sealed:
            raise LedgerTamperedError("the row is not the one that was sealed in its place", row_id=row_id)
        return decode(body), leaf


def newest_sealed(connection: sqlite3.Connection) -> tuple[int, tuple[int, str] | None]:
    """Return how many rows there are, and size and note of the newest checkpoint."""
    rows, size, note = connection.execute(_NEWEST).fetchone()
    return rows or 0, None if note is None else (size, note)


def sealed_finder(connection: sqlite3.Connection) -> Callable[[int], Sealed | None]:
    """Return what finds the first sealed state that covers more rows than its argument."""

    def sealed_at(leaf: int) -> Sealed | None:
        found = connection.execute(_SEALED_AT, (leaf,)).fetchone()
        return None if found is None else Sealed(*found)

    return sealed_at
