"""The store on SQLite: one file, one log.

Durability: write-ahead log with full sync, so a commit that returned survives a power cut. Correctness between
processes comes from BEGIN IMMEDIATE, fairness from a turnstile in front of it. There is one writing and one reading
connection for a process, each behind a lock, closed before a fork and opened again when the path names another file.

Whoever needs both locks takes the writing one first.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any

from donewhen.arguments import is_storable
from donewhen.errors import LedgerError, LedgerFormatError, LedgerTamperedError, LedgerUnavailableError
from donewhen.notes import Signer, Verifier
from donewhen.stores import Cosigned, Sealed, forks
from donewhen.stores.lock import Turnstile
from donewhen.stores.log import LogState, check_signer, current_key, log_verifier, new_origin, seal_nothing
from donewhen.stores.sqlite_connections import (
    Connections,
    connect,
    connect_read_only,
    connect_reader,
    empty_wal,
    identify,
    not_synced,
    translate,
    use_wal,
)
from donewhen.stores.sqlite_reads import SQLiteReads
from donewhen.stores.sqlite_schema import MIGRATIONS, check_format, migrate, read_log
from donewhen.stores.sqlite_transaction import (
    NEVER_SEEN,
    Known,
    Opened,
    SQLiteTransaction,
    Writing,
    catch_up,
    key_row_finder,
    read_changes,
    sealed_finder,
)

WAIT_SECONDS = 30.0
"""How long a writer waits for its turn before it says that the store is not available."""

FORK_WAIT_SECONDS = 5.0
"""How long a fork waits for threads that are writing or reading."""


class SQLiteStore(SQLiteReads):
    """A ledger's rows, log and kept texts in one SQLite file.

    Args:
        path: the file; made on first use, with its folder's permission.
        signer: signs the log's checkpoints; None: an unsigned log.
        now: aware UTC, for the rows' ``at``.
        random: so many random bytes, for the name of a new log.
        read_only: never write, nor make the file.
        wait_seconds: the longest wait for another writer.

    Raises:
        LedgerUnavailableError: the file cannot be opened.
        LedgerFormatError: it is something else's database.
        LedgerError: the log has a key and `signer` is not the one it has now, or it has none and a signer was given.
    """

    def __init__(
        self,
        path: str,
        *,
        signer: Signer | None,
        now: Callable[[], datetime],
        random: Callable[[int], bytes],
        read_only: bool = False,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        if path == ":memory:" or path.startswith("file:"):
            raise LedgerUnavailableError(path, "a ledger must be a file, since a record that is not on disk is none")
        self.path = self.address = os.path.abspath(path)
        self.origin = ""
        self.vkey: str | None = None
        self._signer = signer
        self._now = now
        self._random = random
        self._read_only = read_only
        self._wait_seconds = wait_seconds
        self._turnstile = Turnstile(self.path, wait_seconds)
        self._write_lock = threading.RLock()
        self._read_lock = threading.RLock()
        self._is_writing = False
        self._is_stranded = False
        self._log: LogState | None = None
        self._known = Known()
        self._seen = NEVER_SEEN
        self._use(Connections())
        with self._translated():
            self._open()
        forks.watch(self)

    def writing(self) -> AbstractContextManager[SQLiteTransaction]:
        """Open the one way to write; see `donewhen.stores.Store`."""
        return Writing(self._enter, self._leave)

    def _enter(self) -> Opened:
        """Begin a transaction. Until `_leave` no other thread and no other process can."""
        if self._read_only:
            raise LedgerUnavailableError(self.path, "the ledger was opened for reading only")
        lock = self._write_lock
        if not lock.acquire(timeout=self._wait_seconds):
            raise LedgerUnavailableError(self.path, f"another thread has been writing for {self._wait_seconds} s")
        if self._is_writing:
            lock.release()
            raise LedgerError("this thread is in a transaction of this ledger already")
        self._is_writing = True
        connection = None
        try:
            connection, log = self._open()
            return Opened(lock, self._connections.pid, connection, log, self._begin(connection, log))
        except BaseException as error:
            self._let_go(lock, connection)
            if isinstance(error, (sqlite3.Error, OSError)):
                raise translate(self.path, error) from error
            raise

    def _leave(self, opened: Opened, error: BaseException | None) -> None:
        """End a transaction: commit it if there was no error, else undo it."""
        lock, pid, connection, log, transaction = opened
        is_ours = os.getpid() == pid
        try:
            if error is None and not is_ours:
                raise LedgerError("the process was forked in a transaction, which is the parent's to end")
            if error is None:
                self._commit(connection, log, transaction)
        except sqlite3.Error as failure:
            raise translate(self.path, failure) from failure
        finally:
            transaction.is_over = True
            self._let_go(lock, connection if is_ours else None)
        if isinstance(error, sqlite3.Error):
            raise translate(self.path, error) from error

    def _let_go(self, lock: threading.RLock, connection: sqlite3.Connection | None) -> None:
        """Let the next writer in, after undoing what is not committed."""
        try:
            if connection is not None:
                self._roll_back(connection)
                self._turnstile.leave()
        finally:
            self._is_writing = False
            lock.release()

    def put_cosigned(self, *cosigned: Cosigned) -> None:
        """Keep cosignatures of stored checkpoints; one that is there already is not kept twice."""
        with self.writing() as transaction:
            for one in cosigned:
                transaction.put_cosigned(one)

    def scrub(self) -> bool:
        """Write the write-ahead log into the file and empty it; False while somebody reads an older state."""
        with self._write_lock, self._translated():
            if self._is_writing:
                raise LedgerError("this thread is in a transaction of this ledger already")
            connection, _ = self._open()
            self._turnstile.enter()
            try:
                return empty_wal(connection, self._wait_seconds)
            finally:
                self._turnstile.leave()

    def close(self) -> None:
        """Close every connection; the file is whole afterwards."""
        with self._write_lock, self._read_lock:
            self._connections.close()
            self._turnstile.close()

    # -- forking ------------------------------------------------------------------------------------------------

    def pause_for_fork(self) -> bool:
        """Close everything and keep other threads out; False in a transaction, which cannot be paused."""
        if not self._write_lock.acquire(timeout=FORK_WAIT_SECONDS):
            return False
        if not self._is_writing and self._read_lock.acquire(timeout=FORK_WAIT_SECONDS):
            self._connections.close()
            self._turnstile.close()
            return True
        self._write_lock.release()
        return False

    def resume_after_fork(self) -> None:
        """Let other threads in again."""
        self._read_lock.release()
        self._write_lock.release()

    def start_as_child(self) -> None:
        """Leave everything to the parent: its threads, and so the holders of its locks, are not here.

        SQLite believes for as long as this process lives that one of its connections is writing.
        """
        self._is_stranded = True
        self._write_lock, self._read_lock = threading.RLock(), threading.RLock()
        self._is_writing = False

    # -- opening ------------------------------------------------------------------------------------------------

    def _use(self, connections: Connections) -> None:
        self._connections = connections
        self._finalizer = weakref.finalize(self, Connections.close, connections)

    def _open(self) -> tuple[sqlite3.Connection, LogState]:
        """Return the writing connection, opening it anew after a fork and when the path names another file.

        The caller holds the writing lock, or is the constructor.
        """
        connections, log = self._connections, self._log
        if connections.pid != os.getpid():
            # The parent's connections, if it had any left, must not be touched here, not even closed.
            self._turnstile.close()
            if self._is_stranded:
                raise LedgerUnavailableError(
                    self.path, "this process was forked in the middle of a transaction. Fork it outside of one"
                )
            self._finalizer.detach()
            self._use(connections.left_to_parent())
        elif connections.writer is not None and log is not None and connections.identity == identify(self.path):
            return connections.writer, log
        if log is not None and identify(self.path) is None:
            raise LedgerUnavailableError(
                self.path, f"the ledger's file was removed while it was open, with {log.size} rows"
            )
        with self._read_lock:
            self._connections.close()
            if log is not None and self._connections.left_a_wal(self.path):
                raise LedgerTamperedError(
                    f"{self.path} was replaced while it was open, with {log.size} rows. Put the file back, or remove "
                    "the one that took its place together with its -wal and -shm files.",
                    row_id=log.size or None,
                )
            writer = self._connect()
            try:
                log = self._load_log(writer)
            except BaseException:
                writer.close()
                raise
            self._connections.writer, self._connections.identity = writer, identify(self.path)
            self._connections.wal = identify(self.path + "-wal")
            self._log = log
        self._known.clear()
        self._seen = NEVER_SEEN
        return writer, log

    def _connect(self) -> sqlite3.Connection:
        # A file that was there is never made again: an empty ledger would look like a new one.
        is_new = self._log is None
        if self._read_only:
            connection = connect_read_only(self.path, self._wait_seconds)
        else:
            connection = connect(self.path, self._wait_seconds, make=is_new)
        try:
            if not self._read_only:
                connection.execute("PRAGMA synchronous = FULL")
                # From the first text on: what SQLite moves, or keeps for an undo, must not outlive an erased text.
                connection.execute("PRAGMA secure_delete = ON")
                connection.execute("PRAGMA temp_store = MEMORY")
            if check_format(connection, self.path) < len(MIGRATIONS):
                self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        if self._read_only or self._log is not None:
            raise LedgerFormatError(f"{self.path} holds no ledger")
        # Where there is a turnstile, only one process at a time changes the journal mode.
        self._turnstile.enter()
        try:
            use_wal(connection, self._wait_seconds)
            origin = new_origin(self._random)
            vkey = None if self._signer is None else log_verifier(origin, self._signer).vkey
            migrate(connection, self.path, origin, vkey, seal_nothing(origin, self._signer).note)
        finally:
            self._turnstile.leave()

    def _load_log(self, connection: sqlite3.Connection) -> LogState:
        origin, vkey = read_log(connection, self.path)
        known = self._log
        if not self._read_only:
            signer = self._signer if known is None else known.signer  # which may have been rotated since
            check_signer(self.path, origin, signer, current_key(vkey, key_row_finder(connection)(0)))
        if known is None:
            self.origin, self.vkey = origin, vkey
            return LogState(origin, self._signer, None if vkey is None else Verifier.parse(vkey))
        # It is the same file opened again, or another one. It must hold what this process has seen.
        stored = connection.execute("SELECT note FROM sealed WHERE size = ?", (known.size,)).fetchone()
        is_there = known.note is None or (stored is not None and stored[0] == known.note)
        if (known.origin, self.vkey) != (origin, vkey) or not is_there:
            raise LedgerTamperedError(
                f"{self.path} was replaced by another ledger, which lacks the {known.size} rows of the one before",
                row_id=known.size or None,
            )
        return known

    # -- reading ------------------------------------------------------------------------------------------------

    def _read(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        if not all(is_storable(text) for text in parameters if isinstance(text, str)):
            return []  # no row has it, since no row can
        with self._translated():
            with self._read_lock:
                if (reader := self._find_reader()) is not None:
                    return reader.execute(sql, parameters).fetchall()
            with self._write_lock:
                self._open()
                with self._read_lock:
                    return self._make_reader().execute(sql, parameters).fetchall()

    def _find_reader(self) -> sqlite3.Connection | None:
        connections = self._connections
        is_current = connections.pid == os.getpid() and connections.identity == identify(self.path)
        return connections.reader if is_current else None

    def _make_reader(self) -> sqlite3.Connection:
        connections = self._connections
        if connections.reader is None:
            opening = connect_read_only if self._read_only else connect_reader
            connections.reader = opening(self.path, self._wait_seconds)
        return connections.reader

    # -- committing ---------------------------------------------------------------------------------------------

    def _begin(self, connection: sqlite3.Connection, log: LogState) -> SQLiteTransaction:
        self._turnstile.enter()
        connection.execute("BEGIN IMMEDIATE")
        seen = read_changes(connection)
        if seen != self._seen:
            # Somebody else has written to the file, or may have: nothing is taken for known but what was signed.
            if catch_up(log, connection):
                self._known.clear()
            self._seen = seen
        return SQLiteTransaction(connection, self._known, log.size, self._now().isoformat())

    def _commit(self, connection: sqlite3.Connection, log: LogState, transaction: SQLiteTransaction) -> None:
        if not transaction.leaves:
            if transaction.has_cosigned:
                connection.execute("COMMIT")  # no row is added, so there is nothing to seal
            return
        successor = transaction.successor
        sealed, frontier = log.extend(transaction.leaves, sealed_finder(connection), successor)
        connection.execute(
            "INSERT INTO sealed (size, start, note, nodes) VALUES (?, ?, ?, ?)",
            (sealed.size, sealed.start, sealed.note, sealed.nodes),
        )
        # A crash before this line leaves nothing of the transaction; after it, all of it, sealed.
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            stored = self._is_stored(connection, sealed, error)
            raise LedgerUnavailableError(self.path, f"the commit failed ({error})", stored=stored) from error
        log.commit(sealed, frontier, successor)
        self._known.update(transaction.new)
        self._seen = (self._seen[0], connection.total_changes)

    def _is_stored(self, connection: sqlite3.Connection, sealed: Sealed, error: sqlite3.Error) -> bool | None:
        """Tell whether a commit that reported an error is on disk all the same; None where nobody can know."""
        if not_synced(error):
            return None  # it is not in force, but a crash now could bring it back from the write-ahead log
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            found = connection.execute("SELECT note FROM sealed WHERE size = ?", (sealed.size,)).fetchone()
            return found is not None and found[0] == sealed.note
        except sqlite3.Error:
            return None

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """Undo what is not committed; a connection that cannot even do that is not used again."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            with self._read_lock:
                self._connections.close()

    @contextmanager
    def _translated(self) -> Generator[None, None, None]:
        """Turn the database's and the system's errors into ours."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise translate(self.path, error) from error
