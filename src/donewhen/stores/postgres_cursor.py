"""Reading much from PostgreSQL: one state of it, a page at a time, through a cursor on the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from donewhen.stores.postgres_connections import Link

FETCHED_ROWS = 256
"""How many rows are fetched from the server at a time."""

ONE_STATE = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class Paged:
    """Rows that the server hands out some at a time.

    Args:
        connection: in a transaction.
        name: of the cursor on the server.
        sql: the query.
        parameters: its values.
    """

    def __init__(self, connection: Link, name: str, sql: str, parameters: Mapping[str, object]) -> None:
        connection.execute(f"DECLARE {name} NO SCROLL CURSOR FOR {sql}".encode(), parameters)
        self._connection = connection
        self._name = name
        self._page: list[tuple[Any, ...]] = []
        self._place = 0

    def fetchmany(self, size: int = FETCHED_ROWS, /) -> Sequence[tuple[Any, ...]]:
        """Return the next rows, at most so many; none when there are no more."""
        if self._place == len(self._page):
            fetch = f"FETCH FORWARD {max(size, FETCHED_ROWS)} FROM {self._name}"
            self._page, self._place = self._connection.execute(fetch.encode(), binary=True).fetchall(), 0
        rows = self._page[self._place : self._place + size]
        self._place += len(rows)
        return rows

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while page := self.fetchmany():
            yield from page
