"""Connections to one SQLite file: how they are opened, and which file they are open to."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from donewhen.errors import LedgerError, LedgerFormatError, LedgerUnavailableError

EMPTYING_MS = 5_000
"""Milliseconds that emptying a write-ahead log waits for readers; nobody can write meanwhile."""

PAUSE_SECONDS = 0.005
"""Between two tries at what SQLite does not wait for by itself."""

_SYNC_ERRORS = (1034, 1290)
"""SQLITE_IOERR_FSYNC and SQLITE_IOERR_DIR_FSYNC, which Python has names for from 3.11 on."""

Identity = tuple[int, int]
"""Device and number of a file: what tells one file from another under the same path."""


@dataclass(slots=True)
class Connections:
    """The connections of one process to one file."""

    writer: sqlite3.Connection | None = None
    reader: sqlite3.Connection | None = None
    identity: Identity | None = None
    wal: Identity | None = None
    """The write-ahead log of that file."""
    pid: int = field(default_factory=os.getpid)
    parents: tuple[Connections, ...] = ()
    """Those of the process that this one was forked from. Not even to be closed here, so they are kept for ever."""

    def left_to_parent(self) -> Connections:
        """Return none, for a child process, keeping the parent's alive and untouched."""
        return Connections(parents=(*self.parents, self))

    def left_a_wal(self, path: str) -> bool:
        """Tell whether a path names another file now, beside which the write-ahead log of this one still lies.

        SQLite would read the one with the other's log, and make a mixture of both.
        """
        return self.wal is not None and identify(path) != self.identity and identify(path + "-wal") == self.wal

    def close(self) -> None:
        """Close them, unless they are a parent's; the last one to close a file empties its write-ahead log into it."""
        if self.pid != os.getpid():
            return
        for connection in (self.reader, self.writer):
            if connection is not None:
                connection.close()
        self.reader = self.writer = None


def connect(path: str, wait_seconds: float, *, make: bool) -> sqlite3.Connection:
    """Open a connection that can write.

    Args:
        path: the file.
        wait_seconds: how long SQLite waits for another connection's lock.
        make: make the file when it is missing.
    """
    uri = f"{Path(path).as_uri()}?mode={'rwc' if make else 'rw'}"
    return sqlite3.connect(uri, timeout=wait_seconds, uri=True, isolation_level=None, check_same_thread=False)


def connect_reader(path: str, wait_seconds: float) -> sqlite3.Connection:
    """Open a connection that reads beside one that writes."""
    connection = connect(path, wait_seconds, make=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


def connect_read_only(path: str, wait_seconds: float) -> sqlite3.Connection:
    """Open a connection that never writes, not even SQLite's own files where it can do without.

    Raises:
        FileNotFoundError: there is no file.
    """
    if not os.path.exists(path):
        raise FileNotFoundError("there is no file of this name")
    try:
        return _opened(path, wait_seconds, "mode=ro")
    except sqlite3.OperationalError:
        if os.path.exists(path + "-wal"):
            raise
    # On a disk that cannot be written SQLite cannot make its shared-memory file; without a WAL it needs none.
    return _opened(path, wait_seconds, "mode=ro&immutable=1")


def _opened(path: str, wait_seconds: float, options: str) -> sqlite3.Connection:
    uri = f"{Path(path).as_uri()}?{options}"
    connection = sqlite3.connect(uri, timeout=wait_seconds, uri=True, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def use_wal(
    connection: sqlite3.Connection,
    wait_seconds: float,
    monotonic: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Switch a database to write-ahead logging, for which SQLite does not wait by itself."""
    deadline = monotonic() + wait_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or monotonic() >= deadline:
                raise
        pause(PAUSE_SECONDS)


def empty_wal(connection: sqlite3.Connection, wait_seconds: float) -> bool:
    """Write all of a write-ahead log into its file and leave it with no bytes; False while somebody reads from it.

    Args:
        connection: that can write, in no transaction.
        wait_seconds: how long SQLite waits for another connection's lock otherwise.
    """
    connection.execute(f"PRAGMA busy_timeout = {EMPTYING_MS}")
    try:
        is_busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(wait_seconds * 1000)}")
    return not is_busy


def identify(path: str) -> Identity | None:
    """Return which file a path names now, None if there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def not_synced(error: sqlite3.Error) -> bool:
    """Tell whether a commit may have failed in its very last step, when all of it was written but not yet durable."""
    code = getattr(error, "sqlite_errorcode", None)  # not before Python 3.11
    return "disk I/O error" in str(error) if code is None else code in _SYNC_ERRORS


def translate(path: str, error: sqlite3.Error | OSError) -> LedgerError:
    """Return our error for the database's or the system's. Nothing of what was being written is stored."""
    if isinstance(error, sqlite3.IntegrityError):
        return LedgerError(f"{path} refused what was to be written ({error}). Nothing of it is stored.")
    if isinstance(error, sqlite3.DatabaseError) and ("not a database" in str(error) or "malformed" in str(error)):
        return LedgerFormatError(f"{path} is not a database, or a damaged one ({error})")
    return LedgerUnavailableError(path, str(error), stored=False)
