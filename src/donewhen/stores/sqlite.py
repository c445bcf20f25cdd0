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
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from donewhen.arguments import is_storable
from donewhen.entry import LedgerRow, decode
from donewhen.errors import LedgerError, LedgerFormatError, LedgerTamperedError, LedgerUnavailableError
from donewhen.notes import Signer, Verifier
from donewhen.stores import Head, Sealed, forks
from donewhen.stores.lock import Turnstile
from donewhen.stores.log import LogState, check_signer
from donewhen.stores.sqlite_connections import (
    Connections,
    connect,
    connect_read_only,
    connect_reader,
    identify,
    not_synced,
    translate,
    use_wal,
)
from donewhen.stores.sqlite_schema import MIGRATIONS, check_format, migrate, read_log
from donewhen.stores.sqlite_transaction import HEAD, SQLiteTransaction, newest_sealed, sealed_finder

WAIT_SECONDS = 30.0
"""How long a writer waits for its turn before it says that the store is not available."""

FORK_WAIT_SECONDS = 5.0
"""How long a fork waits for threads that are writing or reading."""

LEAST_ID = -(2**63)
"""The least id that SQLite can hold: whoever slips in a row can choose one below 1, and is to be seen."""

PAGE_ROWS = 512
"""How many rows are read at a time where all are."""

_SESSION = "SELECT body FROM entries WHERE session_id = ?"
_SESSIONS = "SELECT session_id, min(id), max(id) FROM entries GROUP BY session_id ORDER BY 2"
_BODIES = "SELECT id, CAST(body AS BLOB) FROM entries WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?"
_NEWEST_ID = "SELECT max(id) FROM entries"
_SEALED = "SELECT size, start, note, nodes FROM sealed WHERE size >= ? AND size <= ? ORDER BY size LIMIT ?"
_NEWEST_SIZE = "SELECT max(size) FROM sealed"
_TEXT = "SELECT salt, body FROM texts WHERE entry_id = ? AND label = ?"


class SQLiteStore:
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
        LedgerError: the log has a key and `signer` is not it, or the log has none and a signer was given.
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
        self.path = os.path.abspath(path)
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
        self._heads: dict[str, Head] = {}
        self._use(Connections())
        with self._translated():
            self._open()
        forks.watch(self)

    @contextmanager
    def writing(self) -> Generator[SQLiteTransaction, None, None]:
        """Open the one way to write; see `donewhen.stores.Store`."""
        if self._read_only:
            raise LedgerUnavailableError(self.path, "the ledger was opened for reading only")
        lock = self._write_lock
        if not lock.acquire(timeout=self._wait_seconds):
            raise LedgerUnavailableError(self.path, f"another thread has been writing for {self._wait_seconds} s")
        try:
            if self._is_writing:
                raise LedgerError("this thread is in a transaction of this ledger already")
            self._is_writing = True
            try:
                yield from self._transaction()
            finally:
                self._is_writing = False
        finally:
            lock.release()

    def _transaction(self) -> Generator[SQLiteTransaction, None, None]:
        with self._translated():
            connection, log = self._open()
        pid, transaction = os.getpid(), None
        try:
            transaction = self._begin(connection, log)
            yield transaction
            if os.getpid() != pid:
                raise LedgerError("the process was forked in a transaction, which is the parent's to end")
            self._commit(connection, log, transaction)
        except sqlite3.Error as error:
            raise translate(self.path, error) from error
        finally:
            if transaction is not None:
                transaction.is_over = True
            if os.getpid() == pid:
                self._roll_back(connection)
                self._turnstile.leave()

    def read_session(self, session_id: str, kinds: Sequence[str] | None = None) -> list[LedgerRow]:
        """Return the rows of a session in order, of these kinds or of all."""
        marks = f" AND kind IN ({', '.join('?' * len(kinds))})" if kinds is not None else ""
        found = self._read(f"{_SESSION}{marks} ORDER BY seq", (session_id, *(kinds or ())))
        return [decode(body) for (body,) in found]

    def find_newest(self, session_id: str) -> LedgerRow | None:
        """Return the newest row of a session, None if it has none."""
        found = self._read(HEAD, (session_id,))
        return decode(found[0][1]) if found else None

    def iter_bodies(self, after_id: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield (id, stored body) of every row in order, as many as there are at the first."""
        return self._iter(_BODIES, _NEWEST_ID, after_id)

    def iter_sealed(self, after_size: int = 0) -> Iterator[Sealed]:
        """Yield every sealed state of the log in order, as many as there are at the first."""
        for row in self._iter(_SEALED, _NEWEST_SIZE, after_size):
            yield Sealed(*row)

    def read_sessions(self) -> list[tuple[str, int, int]]:
        """Return (session id, id of its first row, id of its newest row), oldest session first."""
        return self._read(_SESSIONS, ())

    def find_text(self, row_id: int, label: str) -> tuple[bytes, bytes] | None:
        """Return (salt, text) kept beside a row, None if it was never kept or has been erased."""
        found = self._read(_TEXT, (row_id, label))
        return found[0] if found else None

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
        self._heads.clear()
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
            vkey = None if self._signer is None else self._signer.vkey
            migrate(connection, self.path, f"donewhen.local/{self._random(8).hex()}", vkey)
        finally:
            self._turnstile.leave()

    def _load_log(self, connection: sqlite3.Connection) -> LogState:
        origin, vkey = read_log(connection, self.path)
        if not self._read_only:
            check_signer(self.path, None if self._signer is None else self._signer.vkey, vkey)
        known = self._log
        if known is None:
            self.origin, self.vkey = origin, vkey
            return LogState(origin, self._signer, None if vkey is None else Verifier.parse(vkey))
        # It is the same file opened again, or another one. It must hold what this process has seen.
        stored = connection.execute("SELECT note FROM sealed WHERE size = ?", (known.size,)).fetchone()
        if (known.origin, self.vkey) != (origin, vkey) or (None if stored is None else stored[0]) != known.note:
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

    def _iter(self, sql: str, newest: str, after: int) -> Iterator[tuple[Any, ...]]:
        """Yield rows page by page. What is there is never changed, so the rows up to the newest are one state."""
        last: int = self._read(newest, ())[0][0] or 0
        start = after + 1 if after else LEAST_ID
        while start <= last and (page := self._read(sql, (start, last, PAGE_ROWS))):
            yield from page
            start = page[-1][0] + 1

    # -- committing ---------------------------------------------------------------------------------------------

    def _begin(self, connection: sqlite3.Connection, log: LogState) -> SQLiteTransaction:
        try:
            self._turnstile.enter()
        except OSError as error:
            raise translate(self.path, error) from error
        connection.execute("BEGIN IMMEDIATE")
        if log.catch_up(*newest_sealed(connection), sealed_finder(connection)):
            self._heads.clear()
        return SQLiteTransaction(connection, self._heads, log.size, self._now().isoformat())

    def _commit(self, connection: sqlite3.Connection, log: LogState, transaction: SQLiteTransaction) -> None:
        if not transaction.leaves:
            return
        sealed, frontier = log.extend(transaction.leaves)
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
        log.commit(sealed, frontier)
        self._heads.update(transaction.new_heads)

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
