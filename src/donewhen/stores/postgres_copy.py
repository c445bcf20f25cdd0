"""A log on PostgreSQL as the source or the target of a copy."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg

from donewhen.errors import LedgerError, LedgerFormatError
from donewhen.stores.copying import COLUMNS, Dump, Progress
from donewhen.stores.postgres_connections import Link, connect, translate
from donewhen.stores.postgres_cursor import ONE_STATE, Paged
from donewhen.stores.postgres_init import find_version
from donewhen.stores.postgres_reads import key_of, session_of
from donewhen.stores.postgres_schema import MIGRATIONS
from donewhen.stores.postgres_url import Address, parse_url

TOLD_ROWS = 1000
"""After how many rows progress is told."""

_LOG = "SELECT origin, vkey FROM donewhen.log WHERE log = %s"
_NEW_LOG = "INSERT INTO donewhen.log (log, origin, vkey) VALUES (%s, %s, %s)"
_SAME = "SELECT log FROM donewhen.log WHERE origin = %s"
_LOGS = "SELECT log FROM donewhen.log ORDER BY log"
_COUNT = "SELECT count(*) FROM donewhen.entries WHERE log = %s"


class PostgresDump:
    """One state of a log; see `donewhen.stores.copying.Dump`.

    Args:
        connection: in a read-only transaction that sees one state.
        address: the log.

    Raises:
        LedgerFormatError: there is no such log.
    """

    def __init__(self, connection: Link, address: Address) -> None:
        self._connection = connection
        self._log = address.log
        found = connection.execute(_LOG, (address.log,)).fetchone()
        if found is None:
            logs = [log for (log,) in connection.execute(_LOGS)]
            has = f"It has {', '.join(logs)}" if logs else "It has none yet"
            raise LedgerFormatError(
                f"{address.shown} holds no ledger: there is no log {address.log!r} in this database. {has}"
            )
        self.origin, self.vkey = found
        counted = connection.execute(_COUNT, (address.log,)).fetchone()
        self.count = 0 if counted is None else counted[0]

    def rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        """Yield every row of a table."""
        columns = COLUMNS[table]
        sql = f"SELECT {', '.join(columns)} FROM donewhen.{table} WHERE log = %(log)s ORDER BY {columns[0]}"
        found = iter(Paged(self._connection, f"copy_{table}", sql, {"log": self._log}))
        return ((row_id, session_of(key)) for row_id, key in found) if table == "balances" else found


@contextmanager
def dump(url: str) -> Generator[PostgresDump, None, None]:
    """Open one state of a log.

    Raises:
        LedgerUnavailableError: it cannot be read.
        LedgerFormatError: it is no ledger of ours.
    """
    with _opened(url) as (connection, address):
        connection.execute(ONE_STATE)
        yield PostgresDump(connection, address)


def refuse_taken(url: str, origin: str) -> None:
    """Refuse a target that is there already.

    Raises:
        LedgerError: there is such a log, or one of the same origin.
        LedgerUnavailableError: it cannot be reached.
    """
    with _opened(url) as (connection, address):
        _refuse_taken(connection, address, origin)


def _refuse_taken(connection: Link, address: Address, origin: str) -> None:
    if connection.execute(_LOG, (address.log,)).fetchone() is not None:
        raise LedgerError(f"{address.shown} is not empty. A copy goes into a log that is not there yet.")
    same = connection.execute(_SAME, (origin,)).fetchone()
    if same is not None:
        raise LedgerError(
            f"{address.database} has this ledger already, as its log {same[0]!r}. A database has each once."
        )


def load(url: str, source: Dump, progress: Progress) -> None:
    """Begin a log that is a copy of another, in one transaction.

    Raises:
        LedgerError: there is such a log already, or one of the same origin.
        LedgerUnavailableError: it could not be written; nothing of it is stored.
    """
    with _opened(url) as (connection, address), connection.transaction():
        _refuse_taken(connection, address, source.origin)
        connection.execute(_NEW_LOG, (address.log, source.origin, source.vkey))
        for table, columns in COLUMNS.items():
            _copy(connection, address.log, table, columns, source, progress if table == "entries" else _tell_nobody)


def _copy(
    connection: Link, log: str, table: str, columns: tuple[str, ...], source: Dump, progress: Callable[[int], None]
) -> None:
    sql = f"COPY donewhen.{table} (log, {', '.join(columns)}) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(sql.encode()) as target:
        for done, row in enumerate(source.rows(table), 1):
            target.write_row((log, row[0], key_of(row[1])) if table == "balances" else (log, *row))
            if done % TOLD_ROWS == 0:
                progress(done)


def _tell_nobody(_done: int) -> None:
    """Tell nobody."""


@contextmanager
def _opened(url: str) -> Generator[tuple[Link, Address], None, None]:
    address = parse_url(url)
    try:
        connection, _ = connect(address)
        with closing(connection):
            if find_version(connection) < len(MIGRATIONS):
                raise LedgerFormatError(f"{address.database} holds no ledger of this version: donewhen store init URL")
            yield connection, address
    except psycopg.Error as error:
        raise translate(address.shown, error) from error
    except json.JSONDecodeError as error:
        raise LedgerFormatError(f"{address.shown} lists a balance under no name ({error})") from error
