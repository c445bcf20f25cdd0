"""One transaction on PostgreSQL: where rows get their place.

What is appended waits here until the transaction ends, and then goes to the server together with the commit, so that a
transaction is two exchanges: one that takes the lock and reads, one that writes and commits.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from donewhen.balance import Balance
from donewhen.entry import GENESIS, Entry, LedgerRow, decode, link, place
from donewhen.errors import LedgerError, LedgerTamperedError
from donewhen.merkle import leaf_hash
from donewhen.notes import Signer
from donewhen.stores import Cosigned, Head, Sealed
from donewhen.stores import postgres_sql as sql
from donewhen.stores.log_tree import find_node
from donewhen.stores.postgres_connections import Link, Statement, send
from donewhen.stores.postgres_reads import key_of
from donewhen.stores.sqlite_transaction import balance_in

MOST_SEALED = 256
"""How many older sealed states are remembered between transactions: those under the edge of the tree, and a few more."""

_INSERT_TEXT = (
    "INSERT INTO donewhen.texts (log, id, entry_id, label, salt, body)"
    " SELECT %s, coalesce(max(id), 0) + 1, %s, %s, %s::bytea, %s::bytea FROM donewhen.texts WHERE log = %s"
)
_INSERT_COSIGNED = (
    "INSERT INTO donewhen.cosigned (log, id, size, vkey, line, at)"
    " SELECT %s, coalesce(max(id), 0) + 1, %s, %s, %s, %s FROM donewhen.cosigned WHERE log = %s"
    " HAVING NOT EXISTS (SELECT 1 FROM donewhen.cosigned WHERE log = %s AND size = %s AND vkey = %s AND line = %s)"
)
_Stored = tuple["int | None", "str | None", "Sealed | None"]
"""Id and body of a row, and the sealed state that covers it."""

_ERASE = "SELECT donewhen.erase_texts(%(log)s, %(session)s)"


class Touched(NamedTuple):
    """The newest row of a session, and the newest row of any other that touched its balance, or a budget's."""

    own_id: int = 0
    head: Head | None = None
    own: Balance | None = None
    other_id: int = 0
    other: Balance | None = None

    @property
    def balance(self) -> Balance | None:
        """Return the balance as the newer of the two left it."""
        return self.other if self.other_id > self.own_id else self.own

    def by(self, row: LedgerRow, leaf: bytes) -> Touched:
        """Return it with a newer row of its own."""
        return self._replace(own_id=row.id, head=Head(row.seq, link(leaf), row.after), own=row.balance)


class SealedStates:
    """Sealed states of a log, of which each is asked for once. What is stored of them never changes.

    Args:
        log: the log's name.
    """

    def __init__(self, log: str) -> None:
        self._log = log
        self._by_leaf: OrderedDict[int, Sealed] = OrderedDict()
        self._newest: Sequence[Sealed] = ()
        self._sizes: Sequence[int] = ()

    def learn(self, newest: Sequence[Sealed]) -> None:
        """Take in the newest sealed states of the log, in order and without a gap."""
        self._newest, self._sizes = newest, [one.size for one in newest]

    def finder(self, connection: Link) -> Callable[[int], Sealed | None]:
        """Return what finds the first sealed state that covers more rows than its argument."""

        def find(leaf: int) -> Sealed | None:
            # What was read just now comes first: it is held against what was known before.
            place = bisect_right(self._sizes, leaf)
            known = self._newest[place] if place < len(self._newest) else None
            if known is None or leaf < known.start:
                known = self._by_leaf.get(leaf)
            if known is None:
                row = send(connection, (sql.SEALED_AT, (self._log, leaf))).fetchone()
                known = None if row is None else Sealed(*row)
            if known is not None:
                self._by_leaf[leaf] = known
                self._by_leaf.move_to_end(leaf)
                if len(self._by_leaf) > MOST_SEALED:
                    self._by_leaf.popitem(last=False)
            return known

        return find


class PostgresTransaction:
    """What `PostgresStore.writing` hands out; see `donewhen.stores.Transaction`.

    Args:
        connection: in a transaction that has the log's lock.
        log: the log's name.
        known: what was committed last of sessions and budgets, as far as this process knows it.
        sealed_at: finds the first sealed state that covers more rows than its argument.
        size: the rows in the log.
        at: the time of every row, ISO 8601, UTC.
    """

    def __init__(
        self,
        connection: Link,
        log: str,
        known: dict[str, Touched],
        sealed_at: Callable[[int], Sealed | None],
        size: int,
        at: str,
    ) -> None:
        self._connection = connection
        self._log = log
        self.known = known
        self.sealed_at = sealed_at
        self._size = size
        self.at = at
        self.is_over = False
        self.successor: Signer | None = None
        self.leaves: list[bytes] = []
        self.rows: list[LedgerRow] = []
        self._heads: dict[str, Head] = {}
        self._balances: dict[str, Balance] = {}
        self._waiting: list[Statement] = []
        self.has_more = False
        """Whether something besides rows is written."""

    def head(self, session_id: str) -> Head | None:
        """Return the newest row of a session, None if it has none."""
        return self._heads.get(session_id) or self._touched(session_id).head

    def balance(self, name: str) -> Balance | None:
        """Return a balance as the newest row that touched it left it; None if no row has."""
        return self._balances[name] if name in self._balances else self._touched(name).balance

    def learn(self, name: str, own_id: int | None, own: str | None, other_id: int | None, other: str | None) -> None:
        """Take in which rows touched a session or budget last, where they are others than those that are known."""
        own_sealed = None if own_id is None else self.sealed_at(own_id - 1)
        other_sealed = None if other_id is None else self.sealed_at(other_id - 1)
        self._learn(name, (own_id, own, own_sealed), (other_id, other, other_sealed))

    def _learn(self, name: str, own: _Stored, other: _Stored) -> None:
        known = self.known.get(name, Touched())
        (own_id, own_body, own_sealed), (other_id, other_body, other_sealed) = own, other
        if own_id is not None:
            known = known.by(*self._read(own_id, own_body, own_sealed))
        if other_id is not None:
            row, _ = self._read(other_id, other_body, other_sealed)
            known = known._replace(other_id=row.id, other=balance_in(row, name))
        self.known[name] = known

    def _touched(self, name: str) -> Touched:
        if name not in self.known:
            found = self._ask(sql.TOUCHED, key_of(name), self._size)
            assert found is not None
            self._learn(name, _stored(found[:6]), _stored(found[6:]))
        return self.known[name]

    def append(self, entry: Entry, after: Sequence[Balance]) -> LedgerRow:
        """Give an entry its place."""
        self._refuse_over()
        head = self.head(entry.session_id)
        row, body = place(
            entry,
            row_id=self._size + len(self.leaves) + 1,
            seq=1 if head is None else head.seq + 1,
            prev=GENESIS if head is None else head.digest,
            at=self.at,
            after=after,
        )
        self._waiting.append((sql.ADD_ROW, (self._log, row.id, body.decode())))
        leaf = leaf_hash(body)
        self.leaves.append(leaf)
        self.rows.append(row)
        self._heads[entry.session_id] = Head(row.seq, link(leaf), row.after)
        for balance in row.after:
            self._balances[balance.name] = balance
            if balance.name != row.session_id:
                self._waiting.append((sql.LIST_BALANCE, (self._log, key_of(balance.name), row.id)))
        return row

    def committed(self) -> None:
        """Take what was appended for known, once it is on disk."""
        for row, leaf in zip(self.rows, self.leaves, strict=True):
            self.known[row.session_id] = self.known.pop(row.session_id).by(row, leaf)
            for balance in row.after:
                if balance.name != row.session_id and balance.name in self.known:
                    touched = self.known.pop(balance.name)
                    self.known[balance.name] = touched._replace(other_id=row.id, other=balance)

    def put_text(self, row: LedgerRow, label: str, salt: bytes, text: bytes) -> None:
        """Keep a text beside a row of this transaction."""
        if self.is_over or not self._size < row.id <= self._size + len(self.leaves):
            raise LedgerError(f"row {row.id} is not of this transaction, so no text can be kept beside it")
        self._waiting.append((_INSERT_TEXT, (self._log, row.id, label, salt, text, self._log)))

    def erase_texts(self, session_id: str) -> int:
        """Overwrite every text kept beside a session's rows, salt and all, and return how many there were."""
        self._refuse_over()
        self.write()
        found = self._connection.execute(_ERASE, {"log": self._log, "session": key_of(session_id)}).fetchone()
        return 0 if found is None else found[0]

    def put_cosigned(self, cosigned: Cosigned) -> None:
        """Keep a cosignature of a checkpoint that is stored already."""
        self._refuse_over()
        self.has_more = True
        same = (cosigned.size, cosigned.vkey, cosigned.line)
        self._waiting.append((_INSERT_COSIGNED, (self._log, *same, cosigned.at, self._log, self._log, *same)))

    def hand_over(self, successor: Signer) -> None:
        """Hand the log on to another key with this commit, after whose last row nothing more can be appended."""
        if self.is_over or not self.leaves:
            raise LedgerError("a log is handed on by the last row of a transaction, and there is none")
        self.is_over, self.successor = True, successor

    def find_row(self, session_id: str, seq: int) -> LedgerRow | None:
        """Return one row of a session, None if it is not there."""
        own = [row for row in self.rows if (row.session_id, row.seq) == (session_id, seq)]
        return own[0] if own else self._find(sql.BY_SEQ, session_id, seq)

    def find_closing(self, session_id: str, seq: int, *, doubts: bool = False) -> LedgerRow | None:
        """Return the row that closes (or doubts) the reservation in row `seq`, None if there is none."""
        head = self.head(session_id)
        if head is not None and head.seq == seq:
            return None  # nothing follows it
        for row in self.rows:
            if row.session_id == session_id and (row.doubts if doubts else row.closes) == seq:
                return row
        return self._find(sql.DOUBTING if doubts else sql.CLOSING, session_id, seq)

    def write(self, *then: Statement) -> None:
        """Send what waits to be written, in order, and then some more. On disk once the transaction is committed."""
        waiting, self._waiting = self._waiting, []
        if waiting or then:
            send(self._connection, *waiting, *then)

    def _refuse_over(self) -> None:
        if self.is_over:
            raise LedgerError("the transaction is over, so nothing can be written in it")

    def _find(self, query: str, session_id: str, seq: int) -> LedgerRow | None:
        found = self._ask(query, key_of(session_id), seq)
        return None if found is None else self._read(*_stored(found))[0]

    def _ask(self, query: str, *values: object) -> tuple[Any, ...] | None:
        return send(self._connection, (query, (self._log, *values))).fetchone()

    def _read(self, row_id: int, body: str | None, sealed: Sealed | None) -> tuple[LedgerRow, bytes]:
        """Decode a row that balances depend on, if it is the one that was sealed in its place."""
        if not 1 <= row_id <= self._size or body is None or sealed is None:
            raise LedgerTamperedError("the row is not one of the log", row_id=row_id)
        leaf = leaf_hash(body.encode())
        if leaf != find_node(0, row_id - 1, lambda _: sealed):
            raise LedgerTamperedError("the row is not the one that was sealed in its place", row_id=row_id)
        return decode(body), leaf


def _stored(found: Sequence[Any]) -> tuple[Any, str | None, Sealed | None]:
    row_id, body, *sealed = found
    return row_id, body, None if sealed[0] is None else Sealed(*sealed)
