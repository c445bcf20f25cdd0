"""What a store is: the database behind a ledger, and the one way to write to it.

A store keeps rows and the log over them. It knows nothing of sessions' rules: the ledger above decides what is
written, the store gives each entry its place, seals the log in the same transaction, and says honestly what is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from donewhen.balance import Balance
from donewhen.entry import Entry, LedgerRow
from donewhen.frozen import quick
from donewhen.notes import Signer

__all__ = ["Cosigned", "Head", "Sealed", "Store", "Transaction"]


@quick
@dataclass(frozen=True, slots=True)
class Head:
    """The newest row of a session, as far as the next one needs it."""

    seq: int
    digest: str
    """Leaf hash of the row, as the next one names it: base64."""
    after: tuple[Balance, ...]


@quick
@dataclass(frozen=True, slots=True)
class Sealed:
    """One sealed state of the log, as stored. The first is that of no rows, stored when the store is made."""

    size: int
    """The number of rows it covers."""
    start: int
    """The number of rows that the state before it covered."""
    note: str
    """The checkpoint; signed, unless the log has no key."""
    nodes: bytes
    """The hashes of all subtrees completed by rows start..size-1, 32 bytes each, leaf first."""


@dataclass(frozen=True, slots=True)
class Cosigned:
    """One cosignature, as stored: what a witness said of one of the log's checkpoints."""

    size: int
    """The size that the checkpoint states."""
    vkey: str
    """The witness's public key, as `donewhen.cosignatures.Cosigner.parse` reads it."""
    line: str
    """The signature line, without the line feed that ends it."""
    at: str
    """When it was stored, ISO 8601, UTC. When the witness signed stands in the line."""


class Transaction(Protocol):
    """One durable transaction. Everything appended in it is stored together, or nothing is."""

    @property
    def at(self) -> str:
        """Return the time of every row of this transaction, ISO 8601, UTC."""
        ...

    def head(self, session_id: str) -> Head | None:
        """Return the newest row of a session, None if it has none."""
        ...

    def balance(self, name: str) -> Balance | None:
        """Return a session's or a budget's balance as the newest row that touched it left it; None if no row has.

        That row is the newest of its own session, or one of another session with the balance in its `after`. Rows of
        this transaction count.

        Raises:
            LedgerTamperedError: what the store lists for it is not what the row says, or not the row that was sealed.
        """
        ...

    def append(self, entry: Entry, after: Sequence[Balance]) -> LedgerRow:
        """Give an entry its place. It is on disk when the transaction has been left without an error.

        Each balance of `after` but the session's own is listed under its name, for `balance` to find.
        """
        ...

    def put_text(self, row: LedgerRow, label: str, salt: bytes, text: bytes) -> None:
        """Keep a text beside a row of this transaction, outside the log."""
        ...

    def erase_texts(self, session_id: str) -> int:
        """Overwrite every text kept beside a session's rows, salt and all, and return how many there were.

        On disk when the transaction has been left without an error, if a row was appended in it that says so.
        """
        ...

    def put_cosigned(self, cosigned: Cosigned) -> None:
        """Keep a cosignature of a stored checkpoint; one that is there already is not kept twice."""
        ...

    def hand_over(self, successor: Signer) -> None:
        """Hand the log on to another key with this commit.

        Both keys sign its checkpoint; every later commit is the new key's. Nothing can be appended after it.

        Raises:
            LedgerError: the transaction has no row, or is over.
        """
        ...

    def find_row(self, session_id: str, seq: int) -> LedgerRow | None:
        """Return one row of a session, None if it is not there."""
        ...

    def find_closing(self, session_id: str, seq: int, *, doubts: bool = False) -> LedgerRow | None:
        """Return the row that closes (or doubts) the reservation in row `seq`, None if there is none."""
        ...


class Store(Protocol):
    """The database behind a ledger. Safe to share between threads; reopened by itself after a fork."""

    @property
    def path(self) -> str:
        """Return where the record is, to be shown."""
        ...

    @property
    def address(self) -> str:
        """Return what opens it again: a path, or a URL that may hold a password."""
        ...

    @property
    def origin(self) -> str:
        """Return the log's name."""
        ...

    @property
    def vkey(self) -> str | None:
        """Return the public key that the log was begun with; None: unsigned. An auditor does not take it from here."""
        ...

    def writing(self) -> AbstractContextManager[Transaction]:
        """Open the one way to write.

        On leaving without an error everything appended is on disk and sealed. On any error nothing is.

        Raises:
            LedgerUnavailableError: the store could not be written; says what is and is not stored.
            LedgerTamperedError: the log's head is not what was signed; nothing was written.
        """
        ...

    def read_session(self, session_id: str, kinds: Sequence[str] | None = None) -> list[LedgerRow]:
        """Return the rows of a session in order, of these kinds or of all."""
        ...

    def find_newest(self, session_id: str) -> LedgerRow | None:
        """Return the newest row of a session, None if it has none."""
        ...

    def find_opened(self, session_id: str, after: int) -> LedgerRow | None:
        """Return the newest row that opened a session, of those after a seq; None if there is none."""
        ...

    def find_balance(self, name: str) -> Balance | None:
        """Return what `Transaction.balance` returns, as far as it is committed."""
        ...

    def read_under(self, name: str) -> list[LedgerRow]:
        """Return the newest row of each other session that touches a balance, newest first."""
        ...

    def iter_bodies(self, after_id: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield (id, stored body) of every row in order, lazily, from one consistent state."""
        ...

    def iter_sealed(self, after_size: int = 0) -> Iterator[Sealed]:
        """Yield every sealed state that covers more than so many rows in order, lazily."""
        ...

    def newest_sealed(self) -> Sealed:
        """Return the newest sealed state of the log; that of no rows, if it has none.

        Raises:
            LedgerTamperedError: there is none at all: the log was emptied.
        """
        ...

    def sealed_at(self, leaf: int) -> Sealed | None:
        """Return the first sealed state that covers more rows than `leaf`, None if none does; of -1: that of no rows."""
        ...

    def read_cosigned(self, size: int | None = None) -> list[Cosigned]:
        """Return what witnesses cosigned, smallest checkpoint first; only of one checkpoint where a size is given."""
        ...

    def put_cosigned(self, *cosigned: Cosigned) -> None:
        """Keep cosignatures of stored checkpoints; one that is there already is not kept twice.

        Raises:
            LedgerUnavailableError: the store could not be written.
            LedgerError: no checkpoint of that size is stored.
        """
        ...

    def read_sessions(self) -> list[tuple[str, int, int]]:
        """Return (session id, id of its first row, id of its newest row), oldest session first."""
        ...

    def find_text(self, row_id: int, label: str) -> tuple[bytes, bytes] | None:
        """Return (salt, text) kept beside a row, None if it was never kept or has been erased."""
        ...

    def scrub(self) -> bool:
        """Leave no trace of erased texts in any file of the store; False while somebody reads an older state of it.

        Raises:
            LedgerUnavailableError: the store could not be written.
        """
        ...

    def close(self) -> None:
        """Close every connection; what is stored is whole in one file afterwards."""
        ...
