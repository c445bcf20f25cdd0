"""A store around another one, which it hands everything on to. Subclasses change what they are about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from donewhen.balance import Balance
from donewhen.entry import Entry, LedgerRow
from donewhen.notes import Signer
from donewhen.stores import Cosigned, Head, Sealed, Store, Transaction


class WrappedTransaction:
    """Hand everything on to another transaction.

    Args:
        transaction: the other one.
    """

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    @property
    def at(self) -> str:
        """Return the time of every row of this transaction."""
        return self._transaction.at

    def head(self, session_id: str) -> Head | None:
        """Return the newest row of a session, None if it has none."""
        return self._transaction.head(session_id)

    def balance(self, name: str) -> Balance | None:
        """Return a balance as the newest row that touched it left it; None if no row has."""
        return self._transaction.balance(name)

    def append(self, entry: Entry, after: Sequence[Balance]) -> LedgerRow:
        """Give an entry its place."""
        return self._transaction.append(entry, after)

    def put_text(self, row: LedgerRow, label: str, salt: bytes, text: bytes) -> None:
        """Keep a text beside a row of this transaction."""
        self._transaction.put_text(row, label, salt, text)

    def erase_texts(self, session_id: str) -> int:
        """Overwrite every text kept beside a session's rows, and return how many there were."""
        return self._transaction.erase_texts(session_id)

    def put_cosigned(self, cosigned: Cosigned) -> None:
        """Keep a cosignature of a stored checkpoint."""
        self._transaction.put_cosigned(cosigned)

    def hand_over(self, successor: Signer) -> None:
        """Hand the log on to another key with this commit."""
        self._transaction.hand_over(successor)

    def find_row(self, session_id: str, seq: int) -> LedgerRow | None:
        """Return one row of a session, None if it is not there."""
        return self._transaction.find_row(session_id, seq)

    def find_closing(self, session_id: str, seq: int, *, doubts: bool = False) -> LedgerRow | None:
        """Return the row that closes (or doubts) a reservation, None if there is none."""
        return self._transaction.find_closing(session_id, seq, doubts=doubts)


class WrappedStore:
    """Hand everything on to another store.

    Args:
        store: the other one, which keeps what is stored.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def writing(self) -> AbstractContextManager[Transaction]:
        """Open the one way to write; see `donewhen.stores.Store`."""
        return self._store.writing()

    @property
    def path(self) -> str:
        """Return where the record is."""
        return self._store.path

    @property
    def address(self) -> str:
        """Return what opens it again."""
        return self._store.address

    @property
    def origin(self) -> str:
        """Return the log's name."""
        return self._store.origin

    @property
    def vkey(self) -> str | None:
        """Return the public key that the log was begun with."""
        return self._store.vkey

    def read_session(self, session_id: str, kinds: Sequence[str] | None = None) -> list[LedgerRow]:
        """Return the rows of a session in order."""
        return self._store.read_session(session_id, kinds)

    def find_newest(self, session_id: str) -> LedgerRow | None:
        """Return the newest row of a session, None if it has none."""
        return self._store.find_newest(session_id)

    def find_opened(self, session_id: str, after: int) -> LedgerRow | None:
        """Return what the store returns."""
        return self._store.find_opened(session_id, after)

    def find_balance(self, name: str) -> Balance | None:
        """Return a balance as the newest committed row that touched it left it; None if none has."""
        return self._store.find_balance(name)

    def read_under(self, name: str) -> list[LedgerRow]:
        """Return the newest row of each other session that touches a balance, newest first."""
        return self._store.read_under(name)

    def iter_bodies(self, after_id: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield (id, stored body) of every row in order."""
        return self._store.iter_bodies(after_id)

    def iter_sealed(self, after_size: int = 0) -> Iterator[Sealed]:
        """Yield every sealed state that covers more than so many rows in order."""
        return self._store.iter_sealed(after_size)

    def newest_sealed(self) -> Sealed:
        """Return the newest sealed state of the log."""
        return self._store.newest_sealed()

    def sealed_at(self, leaf: int) -> Sealed | None:
        """Return the first sealed state that covers more rows than `leaf`."""
        return self._store.sealed_at(leaf)

    def read_cosigned(self, size: int | None = None) -> list[Cosigned]:
        """Return what witnesses cosigned."""
        return self._store.read_cosigned(size)

    def put_cosigned(self, *cosigned: Cosigned) -> None:
        """Keep cosignatures of stored checkpoints, by the wrapper's own `writing`."""
        with self.writing() as transaction:
            for one in cosigned:
                transaction.put_cosigned(one)

    def read_sessions(self) -> list[tuple[str, int, int]]:
        """Return (session id, id of its first row, id of its newest row), oldest session first."""
        return self._store.read_sessions()

    def find_text(self, row_id: int, label: str) -> tuple[bytes, bytes] | None:
        """Return (salt, text) kept beside a row, None if there is none."""
        return self._store.find_text(row_id, label)

    def scrub(self) -> bool:
        """Leave no trace of erased texts in any file of the store; False while somebody reads an older state of it."""
        return self._store.scrub()

    def close(self) -> None:
        """Close the store."""
        self._store.close()
