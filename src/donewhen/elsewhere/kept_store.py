"""A store whose checkpoints are kept elsewhere by themselves.

After a commit it only counts. Keeping is done in a thread of its own, which is there while rows wait for it and no
longer; closing the store waits for it. So no call is held up by a disk or a witness, and none fails because of them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from donewhen.balance import Balance
from donewhen.elsewhere import Elsewhere
from donewhen.entry import Entry, LedgerRow
from donewhen.errors import DonewhenError
from donewhen.stores import Store, Transaction
from donewhen.stores.wrapped import WrappedStore, WrappedTransaction


class _Counting(WrappedTransaction):
    """Counts what is appended, and notices the end of a session."""

    def __init__(self, transaction: Transaction) -> None:
        super().__init__(transaction)
        self.rows = 0
        self.has_close = False

    def append(self, entry: Entry, after: Sequence[Balance]) -> LedgerRow:
        row = super().append(entry, after)
        self.rows += 1
        self.has_close = self.has_close or entry.kind == "close"
        return row


class KeptStore(WrappedStore):
    """Wrap a store and keep its checkpoints elsewhere. Safe to share between threads and after a fork.

    Args:
        store: the real one.
        elsewhere: where, and how often.
    """

    def __init__(self, store: Store, elsewhere: Elsewhere) -> None:
        super().__init__(store)
        self._elsewhere = elsewhere
        self._tried_size = 0
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()  # guards what follows
        self._wake = threading.Event()
        self._waiting_rows = 0
        self._thread: threading.Thread | None = None

    @contextmanager
    def writing(self) -> Generator[Transaction, None, None]:
        """Open the one way to write; see `donewhen.stores.Store`."""
        with self._store.writing() as transaction:
            counting = _Counting(transaction)
            yield counting
        # The rows are on disk, and nobody waits for the store any more.
        if counting.rows and self._elsewhere:
            self._note_commit(counting.rows, is_due=counting.has_close)

    def close(self) -> None:
        """Keep what is not kept yet, and close the store."""
        try:
            self._keep_the_rest()
        finally:
            self._store.close()

    def _note_commit(self, rows: int, *, is_due: bool) -> None:
        if self._pid != os.getpid():
            self._begin()  # the thread, and so the holder of the lock, is the parent's
        every_rows, every_seconds = self._elsewhere.every_rows, self._elsewhere.every_seconds
        with self._lock:
            self._waiting_rows += rows
            is_due = is_due or (every_rows is not None and self._waiting_rows >= every_rows)
            if not is_due and every_seconds is None:
                return
            if is_due:
                self._wake.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="donewhen-elsewhere", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            self._wake.wait(self._elsewhere.every_seconds)
            with self._lock:
                self._wake.clear()
                self._waiting_rows = 0
            self._keep()
            with self._lock:
                if not self._wake.is_set() and (not self._waiting_rows or self._elsewhere.every_seconds is None):
                    self._thread = None
                    return

    def _keep_the_rest(self) -> None:
        if self._pid != os.getpid():
            return
        with self._lock:
            thread = self._thread
            self._wake.set()
        if thread is not None:
            thread.join()
        with self._lock:
            self._wake.clear()
            waiting, self._waiting_rows = self._waiting_rows, 0
        if waiting:
            self._keep()

    def _keep(self) -> None:
        """Keep the newest checkpoint, unless that was tried; say what failed, since nobody is there to catch it."""
        try:
            newest = self._store.newest_sealed()
            if newest.size == self._tried_size:
                return
            self._tried_size = newest.size
            problems = self._elsewhere.attempt(self).problems
        except DonewhenError as error:
            problems = (str(error),)
        for problem in problems:
            self._elsewhere.warn(f"a checkpoint is not kept elsewhere: {problem}")
