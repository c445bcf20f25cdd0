"""The balances that several sessions move: budgets, and sessions with children.

Each is kept as the newest row that touched it left it, as a row spells it. One that was not touched for long is
forgotten, and found again by the index of balances, which is held against the rows when all have been read.
"""

from __future__ import annotations

from typing import Any

import orjson

from donewhen.verify.source import Source

MOST_LEVELS = 1024
"""How many are kept in mind, and as many again that were touched less lately."""


class Levels:
    """Keep the balances that several sessions move.

    Args:
        source: where the log is read from.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._levels: dict[str, dict[str, Any]] = {}
        self._older: dict[str, dict[str, Any]] = {}

    def find(self, name: str, row_id: int) -> dict[str, Any] | None:
        """Return a balance as the rows before one leave it, to be moved in place; None if none touched it."""
        level = self._levels.get(name)
        if level is not None:
            return level
        level = self._older.pop(name, None) or self._look_up(name, row_id)
        if level is not None:
            self.keep(level)
        return level

    def keep(self, level: dict[str, Any]) -> None:
        """Keep a balance that others move from now on."""
        if len(self._levels) >= MOST_LEVELS:
            self._levels, self._older = {}, self._levels
        self._levels[level["budget"]] = level

    def path_of(self, session: str, row_id: int) -> tuple[str, ...]:
        """Return the names of the balances on a session's path before a row, its own last; empty if it was not opened."""
        found = self._source.newest_of(session, row_id)
        return () if found is None else tuple([balance["budget"] for balance in orjson.loads(found).get("after", ())])

    def is_touched(self, name: str, row_id: int) -> bool:
        """Tell whether another session's row before one moved a balance."""
        return self._source.newest_listed(name, row_id) is not None

    def _look_up(self, name: str, row_id: int) -> dict[str, Any] | None:
        found = [self._source.newest_of(name, row_id), self._source.newest_listed(name, row_id)]
        rows: list[dict[str, Any]] = [orjson.loads(body) for body in found if body is not None]
        newest = max(rows, key=lambda row: row["id"], default=None)
        balances: list[dict[str, Any]] = [] if newest is None else newest.get("after", [])
        return next((balance for balance in balances if balance["budget"] == name), None)
