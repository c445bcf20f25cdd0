"""Connections to PostgreSQL: how they are opened, lent, and found lost.

The pool is our own: one that keeps threads could not be carried over a fork, and Python warns of a fork beside threads.
A connection that a child process inherits is left alone there. It is the parent's, and closing it would end the parent's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import ClientCursor, Connection, errors
from psycopg.rows import TupleRow

from donewhen.errors import LedgerError, LedgerFormatError, LedgerUnavailableError
from donewhen.stores.postgres_url import Address

CONNECT_SECONDS = 10
"""How long a connection may take to be made."""

MOST_CONNECTIONS = 8
"""How many connections one store has at most; whoever needs another waits for one."""

MOST_IDLE = 3
"""How many are kept open while nobody uses them."""

FROZEN_SECONDS = 60
"""How long a process may do nothing in the middle of a transaction before PostgreSQL lets others have the log."""

# A role or a server may have been told not to wait for the disk. A ledger waits: a row that was acknowledged and then
# lost is spend that nobody counts.
_SET_UP = (
    "SELECT set_config('synchronous_commit',"
    " CASE current_setting('synchronous_commit') WHEN 'off' THEN 'local' ELSE current_setting('synchronous_commit') END,"
    " false), set_config('lock_timeout', %s, false), set_config('idle_in_transaction_session_timeout', %s, false),"
    " set_config('search_path', 'pg_catalog', false), set_config('client_encoding', 'UTF8', false),"
    " pg_postmaster_start_time()::text"
)

Link = Connection[TupleRow]

Statement = tuple[str, Sequence[object]]
"""A statement, and the values for its places."""


def connect(address: Address, wait_seconds: float = CONNECT_SECONDS) -> tuple[Link, str]:
    """Open a connection as a ledger needs it, and return with it when the server was started.

    Args:
        address: the database.
        wait_seconds: how long a statement waits for a lock.
    """
    connection = psycopg.connect(
        address.conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name="donewhen"
    )
    # What psycopg prepares by itself it forgets at each ROLLBACK, and makes the server forget what others prepared.
    connection.prepare_threshold = None
    try:
        settings = (f"{max(int(wait_seconds * 1000), 1)}ms", f"{FROZEN_SECONDS}s")
        found = connection.execute(_SET_UP, settings).fetchone()
        assert found is not None
        return connection, found[-1]
    except BaseException:
        connection.close()
        raise


def send(connection: Link, *statements: Statement) -> ClientCursor[TupleRow]:
    """Run statements in order in one exchange with the server, as far as the first that fails.

    Returns:
        A cursor at the result of the first; `nextset` brings it to that of the next.
    """
    query = ";".join([statement for statement, _ in statements])
    return ClientCursor(connection).execute(query.encode(), [value for _, values in statements for value in values])


class Pool:
    """The connections of one process to one database. Safe to share between threads.

    Args:
        path: the store, for messages.
        make: opens a connection.
        wait_seconds: how long somebody waits for one that is in use.
    """

    def __init__(self, path: str, make: Callable[[], Link], wait_seconds: float) -> None:
        self.pid = os.getpid()
        self._path = path
        self._make = make
        self._wait_seconds = wait_seconds
        self._idle: list[Link] = []
        self._free = threading.Semaphore(MOST_CONNECTIONS)
        self._lock = threading.Lock()

    @contextmanager
    def lend(self) -> Generator[Link, None, None]:
        """Lend a connection for the length of a block.

        Raises:
            LedgerUnavailableError: all are in use for too long.
        """
        connection = self.take()
        try:
            yield connection
        finally:
            self.give_back(connection)

    def take(self) -> Link:
        """Take a connection, which must be given back.

        Raises:
            LedgerUnavailableError: all are in use for too long.
        """
        if not self._free.acquire(timeout=self._wait_seconds):
            problem = f"all {MOST_CONNECTIONS} connections have been in use for {self._wait_seconds} s"
            raise LedgerUnavailableError(self._path, problem)
        try:
            return self._find_idle() or self._make()
        except BaseException:
            self._free.release()
            raise

    def _find_idle(self) -> Link | None:
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if not connection.closed:
                    return connection
        return None

    def give_back(self, connection: Link) -> None:
        """Give a connection back; one that is not idle is closed."""
        try:
            is_idle = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            with self._lock:
                if is_idle and len(self._idle) < MOST_IDLE:
                    self._idle.append(connection)
                    return
            connection.close()
        finally:
            self._free.release()

    def close(self) -> None:
        """Close what nobody uses, unless it is a parent's."""
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if self.pid == os.getpid():
                    connection.close()


def is_lost(connection: Link, error: BaseException) -> bool:
    """Tell whether an error came with the loss of the connection, so that the server's last word may be missing."""
    return connection.closed or isinstance(
        error, (errors.AdminShutdown, errors.CrashShutdown, errors.ConnectionException)
    )


def roll_back(connection: Link) -> None:
    """Undo what is not committed. A connection that cannot even do that is closed, which undoes it too."""
    try:
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()


def translate(path: str, error: psycopg.Error) -> LedgerError:
    """Return our error for the database's or the system's. Nothing of what was being written is stored."""
    said = " ".join(str(error).split()).rstrip(".?") or type(error).__name__
    if isinstance(error, (errors.LockNotAvailable, errors.QueryCanceled)):
        return LedgerUnavailableError(path, f"another process has been writing for too long ({said})", stored=False)
    if isinstance(error, (errors.UndefinedTable, errors.InvalidSchemaName, errors.UndefinedFunction)):
        return LedgerFormatError(f"{path} holds no ledger yet: 'donewhen store init URL' makes one ({said})")
    if isinstance(
        error, (psycopg.IntegrityError, errors.RaiseException, psycopg.DataError, errors.ProgramLimitExceeded)
    ):
        return LedgerError(f"{path} refused what was to be written ({said}). Nothing of it is stored.")
    return LedgerUnavailableError(path, said, stored=False)
