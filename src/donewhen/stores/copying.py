"""Everything that a store keeps of a log, read from one and written into another, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

COLUMNS = {
    "entries": ("id", "body"),
    "balances": ("entry_id", "name"),
    "sealed": ("size", "start", "note", "nodes"),
    "texts": ("id", "entry_id", "label", "salt", "body"),
    "cosigned": ("id", "size", "vkey", "line", "at"),
}
"""The tables of a log and their columns, in the order in which they are written. Each is in the order of the first one."""

Progress = Callable[[int], None]
"""Is told how many rows are copied."""


class Dump(Protocol):
    """One state of a log, table by table."""

    origin: str
    vkey: str | None
    count: int
    """How many rows `entries` has."""

    def rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        """Yield every row of a table, lazily."""
        ...
