"""Where the auditor reads from: one consistent state of a store, in the store's own words.

Bodies, notes and labels come as the bytes that are stored. Nothing is left out that is there: what is stored as something
else than it must be is told of (`row_exists`, `extent`, `commits`), so that it cannot hide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from donewhen.errors import LedgerTamperedError
from donewhen.stores import Sealed


class Cursor(Protocol):
    """Rows that are read as they are asked for."""

    def fetchmany(self, size: int = ..., /) -> Sequence[Any]:
        """Return the next rows, at most so many; none when there are no more."""
        ...


class Source(Protocol):
    """One state of a store. What others write meanwhile is not in it."""

    origin: str
    """The log's name, as the store states it."""
    vkey: str | None
    """The public key that it states. It proves nothing."""

    # -- the log -------------------------------------------------------------------------------------------------------

    def totals(self) -> tuple[int, int]:
        """Return the greatest id of a row and the greatest size of a sealed state; 0 where there is none."""
        ...

    def rows(self) -> Cursor:
        """Return (id, body) of every row in order, without those that are not stored as text."""
        ...

    def sealed(self) -> Iterator[tuple[Any, ...]]:
        """Yield (size, start, note, nodes) of every sealed state in order, without those of other types."""
        ...

    def sealed_at(self, leaf: int) -> Sealed | None:
        """Return the first sealed state that covers more rows than `leaf`, None if none does."""
        ...

    def newest_note(self) -> bytes | None:
        """Return the newest checkpoint, None if there is none."""
        ...

    def row_exists(self, row_id: int) -> bool:
        """Tell whether there is a row of that id, whatever is stored in it."""
        ...

    def extent(self) -> tuple[int | None, int | None]:
        """Return the least and the greatest id of all rows, whatever is stored in them."""
        ...

    def commits(self) -> tuple[int, int | None]:
        """Return how many sealed states there are, whatever is stored in them, and the greatest size."""
        ...

    # -- sessions ------------------------------------------------------------------------------------------------------

    def bodies_of(self, session_id: str, last_id: int | None = None) -> Iterable[tuple[int, bytes]]:
        """Return (id, body) of a session's rows in order, up to an id or all."""
        ...

    def decisive(self, session_id: str, row_id: int) -> Iterable[bytes]:
        """Return the bodies of those rows of a session before an id on which later ones depend, in order.

        They are its spec, policy and openings, replies with held calls, doubts, what was reconciled, reservations that
        nothing has closed by then, and the newest.
        """
        ...

    def newest_of(self, session_id: str, row_id: int) -> bytes | None:
        """Return the body of a session's newest row before an id, None if it has none."""
        ...

    def newest_listed(self, name: str, row_id: int) -> bytes | None:
        """Return the body of the newest row before an id that is listed for a balance, None if none is."""
        ...

    # -- beside the log ------------------------------------------------------------------------------------------------

    def texts(self) -> Iterator[tuple[Any, ...]]:
        """Yield (row id, label, salt, text) of every kept text, by row and label; None for what has another type."""
        ...

    def places_of_texts(self) -> tuple[int | None, int | None, int]:
        """Return the least and the greatest place of the kept texts, and how many there are."""
        ...

    def find_text(self, row_id: int, label: str) -> tuple[bytes, bytes] | None:
        """Return (salt, text) kept beside a row, erased or not; None if there is none."""
        ...

    def erasable(self, session_id: str, row_id: int) -> tuple[int, int]:
        """Return how many texts stand beside a session's rows before an id, and how many of them are not erased."""
        ...

    def said_erased(self, session_id: str, row_id: int) -> int:
        """Return how many texts a session's rows up to an id say that they erased."""
        ...

    def cosigned(self) -> Iterator[tuple[Any, ...]]:
        """Yield (place, size, vkey, line, at, size of the checkpoint) of every cosignature by its place."""
        ...

    def cosigned_by(self, vkey: str) -> Iterator[tuple[Any, ...]]:
        """Yield (size, line) of every cosignature of a witness, newest first."""
        ...

    # -- the database --------------------------------------------------------------------------------------------------

    def listed(self, column: str) -> Cursor | None:
        """Return (session, number, row id) as the index of a column lists them, in its order.

        None: what it lists cannot be read, and all of it was found to hold together in another way.
        """
        ...

    def balances(self) -> Cursor:
        """Return (name, row id) of all that is listed for balances; names under the keys that `session_of` reads."""
        ...

    def session_of(self, key: bytes) -> bytes:
        """Return the UTF-8 of the session's id that an index lists under a key."""
        ...

    def wrong_index(self, column: str) -> LedgerTamperedError:
        """Return what is wrong with the index of a column that does not list what the rows say."""
        ...

    def verify_tables(self) -> None:
        """Refuse a database of which another table, or an index of it, does not hold together.

        Raises:
            LedgerTamperedError: one does not; says what was found.
        """
        ...
