"""One transaction on SQLite: where rows get their place."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from donewhen.balance import Balance
from donewhen.entry import GENESIS, LOG_SESSION, Entry, LedgerRow, decode, link, place
from donewhen.errors import LedgerError, LedgerTamperedError
from donewhen.merkle import leaf_hash
from donewhen.notes import Signer
from donewhen.stores import Cosigned, Head, Sealed
from donewhen.stores.log import LogState
from donewhen.stores.log_tree import find_node

MOST_HEADS = 1024
"""How many sessions' newest rows, and how many balances, are remembered between transactions."""

HEAD = "SELECT id, body FROM entries WHERE session_id = ? ORDER BY seq DESC LIMIT 1"
BALANCE = (
    "SELECT own.id, own.body, other.id, other.body FROM (SELECT 1)"
    " LEFT JOIN (SELECT id, body FROM entries WHERE session_id = ? ORDER BY seq DESC LIMIT 1) AS own"
    " LEFT JOIN (SELECT id, body FROM entries"
    "   WHERE id = (SELECT max(entry_id) FROM balances WHERE name = ?)) AS other"
)
_LIST_BALANCE = "INSERT INTO balances (name, entry_id) VALUES (?, ?)"
_ROW = "SELECT id, body FROM entries WHERE session_id = ? AND seq = ?"
_CLOSING = "SELECT id, body FROM entries WHERE session_id = ? AND closes = ?"
_DOUBTING = "SELECT id, body FROM entries WHERE session_id = ? AND doubts = ?"
_ERASE = (
    "UPDATE texts SET salt = zeroblob(length(salt)), body = zeroblob(length(body)) WHERE salt IS NOT zeroblob(32)"
    " AND entry_id IN (SELECT id FROM entries WHERE session_id = ?)"
)
_NEWEST = (
    "SELECT (SELECT id FROM entries ORDER BY id DESC LIMIT 1), size, note"
    " FROM (SELECT 1) LEFT JOIN (SELECT size, note FROM sealed ORDER BY size DESC LIMIT 1)"
)
_KEY_ROWS = "SELECT id, body FROM entries WHERE session_id = ? AND id > ? AND kind = 'key' ORDER BY seq"
SEALED_AT = "SELECT size, start, note, nodes FROM sealed WHERE size > ? ORDER BY size LIMIT 1"
_PUT_COSIGNED = (
    "INSERT INTO cosigned (size, vkey, line, at) SELECT :size, :vkey, :line, :at"
    " WHERE NOT EXISTS (SELECT 1 FROM cosigned WHERE size = :size AND vkey = :vkey AND line = :line)"
)


NEVER_SEEN = (-1, -1)
"""What no `read_changes` returns."""


class Known:
    """The newest rows of sessions and the newest balances, as far as somebody knows them."""

    __slots__ = ("balances", "heads")

    def __init__(self) -> None:
        self.heads: dict[str, Head] = {}
        self.balances: dict[str, Balance | None] = {}
        """None: no row has touched it."""

    def clear(self) -> None:
        """Forget everything."""
        self.heads.clear()
        self.balances.clear()

    def update(self, newer: Known) -> None:
        """Take over what is newer."""
        self.heads.update(newer.heads)
        self.balances.update(newer.balances)


class SQLiteTransaction:
    """What `SQLiteStore.writing` hands out; see `donewhen.stores.Transaction`.

    Args:
        connection: in a transaction.
        known: what this process knows of the rows that are committed.
        size: the rows in the log.
        at: the time of every row, ISO 8601, UTC.
    """

    def __init__(self, connection: sqlite3.Connection, known: Known, size: int, at: str) -> None:
        self._connection = connection
        self._known = known
        self._size = size
        self.at = at
        self.is_over = False
        self.has_cosigned = False
        self.successor: Signer | None = None
        self.leaves: list[bytes] = []
        self.new = Known()
        """What the rows of this transaction make of it."""

    def head(self, session_id: str) -> Head | None:
        """Return the newest row of a session, None if it has none."""
        known = self.new.heads.get(session_id) or self._known.heads.get(session_id)
        return self._look_up(session_id)[0] if known is None else known

    def balance(self, name: str) -> Balance | None:
        """Return a balance as the newest row that touched it left it; None if no row has."""
        for known in (self.new.balances, self._known.balances):
            if name in known:
                return known[name]
        return self._look_up(name)[1]

    def _look_up(self, name: str) -> tuple[Head | None, Balance | None]:
        """Find the newest row of a session and its balance, or a budget's: by one question, since most need both."""
        known = self._known
        if len(known.heads) >= MOST_HEADS or len(known.balances) >= MOST_HEADS:
            known.clear()
        own_id, own_body, other_id, other_body = self._connection.execute(BALANCE, (name, name)).fetchone()
        head = balance = None
        if own_id is not None:
            row, leaf = self._read(own_id, own_body)
            head, balance = Head(row.seq, link(leaf), row.after), row.balance
        if other_id is not None and (own_id is None or other_id > own_id):
            balance = balance_in(self._read(other_id, other_body)[0], name)
        if head is not None and name not in self.new.heads:
            known.heads[name] = head
        if name not in self.new.balances:  # else what was found is of this transaction, and may come to nothing
            known.balances[name] = balance
        return head, balance

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
            at=self.at,
            after=after,
        )
        self._connection.execute("INSERT INTO entries (id, body) VALUES (?, ?)", (row.id, body.decode()))
        leaf = leaf_hash(body)
        self.leaves.append(leaf)
        self.new.heads[entry.session_id] = Head(row.seq, link(leaf), row.after)
        for balance in row.after:
            self.new.balances[balance.name] = balance
            if balance.name != row.session_id:
                self._connection.execute(_LIST_BALANCE, (balance.name, row.id))
        return row

    def put_text(self, row: LedgerRow, label: str, salt: bytes, text: bytes) -> None:
        """Keep a text beside a row of this transaction."""
        if self.is_over or not self._size < row.id <= self._size + len(self.leaves):
            raise LedgerError(f"row {row.id} is not of this transaction, so no text can be kept beside it")
        self._connection.execute(
            "INSERT INTO texts (entry_id, label, salt, body) VALUES (?, ?, ?, ?)", (row.id, label, salt, text)
        )

    def erase_texts(self, session_id: str) -> int:
        """Overwrite every text kept beside a session's rows, salt and all, and return how many there were."""
        if self.is_over:
            raise LedgerError("the transaction is over, so nothing can be written in it")
        # In place, by as many zeros. Where rows are deleted SQLite moves others together, and leaves copies of those
        # behind in the unused part of their old pages, where nothing can erase them any more.
        return self._connection.execute(_ERASE, (session_id,)).rowcount

    def put_cosigned(self, cosigned: Cosigned) -> None:
        """Keep a cosignature of a checkpoint that is stored already."""
        if self.is_over:
            raise LedgerError("the transaction is over, so nothing can be written in it")
        self._connection.execute(_PUT_COSIGNED, asdict(cosigned))
        self.has_cosigned = True

    def hand_over(self, successor: Signer) -> None:
        """Hand the log on to another key with this commit, after whose last row nothing more can be appended."""
        if self.is_over or not self.leaves:
            raise LedgerError("a log is handed on by the last row of a transaction, and there is none")
        self.is_over, self.successor = True, successor

    def find_row(self, session_id: str, seq: int) -> LedgerRow | None:
        """Return one row of a session, None if it is not there."""
        return self._find(_ROW, session_id, seq)

    def find_closing(self, session_id: str, seq: int, *, doubts: bool = False) -> LedgerRow | None:
        """Return the row that closes (or doubts) the reservation in row `seq`, None if there is none."""
        head = self.head(session_id)
        if head is not None and head.seq == seq:
            return None  # nothing follows it
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


def balance_in(row: LedgerRow, name: str) -> Balance:
    """Return a balance that a row is listed for.

    Raises:
        LedgerTamperedError: the row does not leave it.
    """
    for balance in row.after:
        if balance.name == name:
            return balance
    raise LedgerTamperedError(f"the row is listed for the balance of {name!r}, and leaves none", row_id=row.id)


class Opened(NamedTuple):
    """A transaction that has begun, and what is needed to end it."""

    lock: threading.RLock
    pid: int
    """The process that began it."""
    connection: sqlite3.Connection
    log: LogState
    transaction: SQLiteTransaction


class Writing:
    """What ``with store.writing()`` enters and leaves. It is no generator, which would take four times as long."""

    __slots__ = ("_enter", "_leave", "_opened")

    def __init__(self, enter: Callable[[], Opened], leave: Callable[[Opened, BaseException | None], None]) -> None:
        self._enter = enter
        self._leave = leave

    def __enter__(self) -> SQLiteTransaction:
        self._opened = self._enter()
        return self._opened.transaction

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._leave(self._opened, error)


def read_changes(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return two numbers, one of which is another whenever the rows of the database are.

    The first changes with what any other connection has done, of this process or of another; the second with what this
    one has done. The connection must be in a transaction, so that nothing changes after it was asked.

    Source: SQLite, PRAGMA data_version and sqlite3_total_changes.
    """
    return connection.execute("PRAGMA data_version").fetchone()[0], connection.total_changes


def catch_up(log: LogState, connection: sqlite3.Connection) -> bool:
    """Hold the stored head of a log against what was signed; see `LogState.catch_up`."""
    return log.catch_up(*newest_sealed(connection), sealed_finder(connection), key_row_finder(connection))


def newest_sealed(connection: sqlite3.Connection) -> tuple[int, tuple[int, str] | None]:
    """Return how many rows there are, and size and note of the newest checkpoint."""
    rows, size, note = connection.execute(_NEWEST).fetchone()
    return rows or 0, None if note is None else (size, note)


def key_row_finder(connection: sqlite3.Connection) -> Callable[[int], list[tuple[int, str]]]:
    """Return what finds id and body of the rows about keys after an id.

    The finder raises:
        LedgerTamperedError: a body is not text.
    """

    def key_rows(after: int) -> list[tuple[int, str]]:
        found: list[tuple[int, Any]] = connection.execute(_KEY_ROWS, (LOG_SESSION, after)).fetchall()
        for row_id, body in found:
            if not isinstance(body, str):
                raise LedgerTamperedError("the row is not one of the log", row_id=row_id)
        return found

    return key_rows


def sealed_finder(connection: sqlite3.Connection) -> Callable[[int], Sealed | None]:
    """Return what finds the first sealed state that covers more rows than its argument."""

    def sealed_at(leaf: int) -> Sealed | None:
        found = connection.execute(SEALED_AT, (leaf,)).fetchone()
        return None if found is None else Sealed(*found)

    return sealed_at
