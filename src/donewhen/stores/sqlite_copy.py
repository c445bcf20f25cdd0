"""A SQLite file as the source or the target of a copy."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from donewhen.errors import LedgerError, LedgerFormatError
from donewhen.stores.copying import COLUMNS, Dump, Progress
from donewhen.stores.sqlite import WAIT_SECONDS
from donewhen.stores.sqlite_connections import connect, connect_read_only, empty_wal, translate, use_wal
from donewhen.stores.sqlite_schema import check_format, migrate, read_log

TOLD_ROWS = 1000
"""After how many rows progress is told."""


class SQLiteDump:
    """One state of a file; see `donewhen.stores.copying.Dump`.

    Args:
        connection: in a read transaction.
        path: the file, for messages.
    """

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self.origin, self.vkey = read_log(connection, path)
        self.count: int = connection.execute("SELECT count(*) FROM entries").fetchone()[0]

    def rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        """Yield every row of a table."""
        columns = COLUMNS[table]
        return self._connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {columns[0]}")


@contextmanager
def dump(path: str) -> Generator[SQLiteDump, None, None]:
    """Open one state of a file.

    Raises:
        LedgerUnavailableError: it cannot be read.
        LedgerFormatError: it is no ledger of ours.
    """
    try:
        with closing(connect_read_only(path, WAIT_SECONDS)) as connection:
            connection.execute("BEGIN")
            if check_format(connection, path) == 0:
                raise LedgerFormatError(f"{path} holds no ledger yet")
            yield SQLiteDump(connection, path)
    except (sqlite3.Error, OSError) as error:
        raise translate(path, error) from error


def refuse_taken(path: str) -> None:
    """Refuse a target that is there already, or cannot be.

    Raises:
        LedgerError: there is a file that is not empty, or no folder for it.
    """
    if os.path.exists(path) and os.path.getsize(path):
        raise LedgerError(f"{path} is not empty. A copy goes into a file that is not there yet.")
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise LedgerError(f"there is no folder {os.path.dirname(os.path.abspath(path))} for {os.path.basename(path)}")


def load(path: str, source: Dump, progress: Progress) -> None:
    """Make a file that holds a log; what was begun of it is removed where that fails.

    Raises:
        LedgerError: there is a file that is not empty, or no folder for it.
        LedgerUnavailableError: it could not be written.
    """
    refuse_taken(path)
    try:
        with closing(connect(path, WAIT_SECONDS, make=True)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            use_wal(connection, WAIT_SECONDS)
            migrate(connection, path, source.origin, source.vkey, None)
            connection.execute("BEGIN IMMEDIATE")
            _insert(connection, source, progress)
            connection.execute("COMMIT")
            empty_wal(connection, WAIT_SECONDS)
    except BaseException as error:
        for name in (path, f"{path}-wal", f"{path}-shm"):
            with suppress(FileNotFoundError):
                os.remove(name)
        if isinstance(error, (sqlite3.Error, OSError)):
            raise translate(path, error) from error
        raise


def _insert(connection: sqlite3.Connection, source: Dump, progress: Progress) -> None:
    statements = {
        table: f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        for table, columns in COLUMNS.items()
    }
    listed = source.rows("balances")
    balance = next(listed, None)
    for done, row in enumerate(source.rows("entries"), 1):
        connection.execute(statements["entries"], row)
        # Each with its row, since a balance can be listed only for the newest one.
        while balance is not None and balance[0] == row[0]:
            connection.execute(statements["balances"], balance)
            balance = next(listed, None)
        if done % TOLD_ROWS == 0:
            progress(done)
    for table in ("sealed", "texts", "cosigned"):
        connection.executemany(statements[table], source.rows(table))
