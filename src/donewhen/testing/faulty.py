"""A store that fails on order, in pairs: failed and not stored, failed but stored.

A commit that reports an error may be on disk all the same. Whoever writes to a ledger must be right in both cases, so
every test of a fault comes twice.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from donewhen.errors import LedgerUnavailableError
from donewhen.stores import Store, Transaction
from donewhen.stores.wrapped import WrappedStore


@dataclass(frozen=True, slots=True)
class StoreFault:
    """One failing write."""

    stored: bool
    """Whether what was being written is on disk all the same."""
    told: bool | None
    """What the error says of that; None: nobody knows."""


class FaultyStore(WrappedStore):
    """Wrap a store and let chosen writes fail. Safe to share between threads.

    Args:
        store: the real one, which keeps what is stored.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
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
