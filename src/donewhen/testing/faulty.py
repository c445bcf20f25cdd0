"""A store that fails on order, in pairs: failed and not stored, failed but stored.

A commit that reports an error may be on disk all the same. Whoever writes to a ledger must be right in both cases, so
every test of a fault comes twice.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from donewhen.entry import LedgerRow
from donewhen.errors import LedgerUnavailableError
from donewhen.stores import Sealed, Store, Transaction


@dataclass(frozen=True, slots=True)
class StoreFault:
    """One failing write."""

    stored: bool
    """Whether what was being written is on disk all the same."""
    told: bool | None
    """What the error says of that; None: nobody knows."""


class FaultyStore:
    """Wrap a store and let chosen writes fail. Safe to share between threads.

    Args:
        store: the real one, which keeps what is stored.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._faults: dict[int, StoreFault] = {}
        self._begun = 0

    @property
    def begun(self) -> int:
        """Return how many writes were begun, those that failed too."""
        with self._lock:
            return self._begun

    def fail(self, *, stored: bool, after: int = 0, times: int = 1, honest: bool = True) -> None:
        """Let writes fail.

        Args:
            stored: whether what they write is on disk all the same.
            after: how many writes go well before.
            times: how many fail in a row.
            honest: the error says whether it is stored; otherwise it says that nobody knows.
        """
        fault = StoreFault(stored, stored if honest else None)
        with self._lock:
            first = self._begun + after
            self._faults.update(dict.fromkeys(range(first, first + times), fault))

    @contextmanager
    def writing(self) -> Generator[Transaction, None, None]:
        """Open the one way to write; it fails at its end if that was ordered.

        Raises:
            LedgerUnavailableError: by order, or by the store itself.
        """
        with self._lock:
            fault = self._faults.pop(self._begun, None)
            self._begun += 1
        with self._store.writing() as transaction:
            yield transaction
            if fault is not None and not fault.stored:
                raise self._error(fault)
        if fault is not None:
            raise self._error(fault)

    def _error(self, fault: StoreFault) -> LedgerUnavailableError:
        return LedgerUnavailableError(self.path, "the disk failed by order of a test", stored=fault.told)

    # -- everything else is the real store's -----------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Return where the record is."""
        return self._store.path

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

    def iter_bodies(self, after_id: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield (id, stored body) of every row in order."""
        return self._store.iter_bodies(after_id)

    def iter_sealed(self, after_size: int = 0) -> Iterator[Sealed]:
        """Yield every sealed state of the log in order."""
        return self._store.iter_sealed(after_size)

    def read_sessions(self) -> list[tuple[str, int, int]]:
        """Return (session id, id of its first row, id of its newest row), oldest session first."""
        return self._store.read_sessions()

    def find_text(self, row_id: int, label: str) -> tuple[bytes, bytes] | None:
        """Return (salt, text) kept beside a row, None if there is none."""
        return self._store.find_text(row_id, label)

    def close(self) -> None:
        """Close the store."""
        self._store.close()
