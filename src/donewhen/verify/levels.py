"""The balances that several sessions move: budgets, and sessions with children.

Each is kept as the newest row that touched it left it, as a row spells it. One that was not touched for long is
forgotten, and found again by the index of balances, which is held against the rows when all have been read.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import orjson

MOST_LEVELS = 1024
"""How many are kept in mind, and as many again that were touched less lately."""

_NEWEST = (
    "SELECT body FROM entries WHERE id = max("
    " coalesce((SELECT max(entry_id) FROM balances WHERE name = CAST(:name AS TEXT) AND entry_id < :id), 0),"
    " coalesce((SELECT id FROM entries WHERE session_id = CAST(:name AS TEXT) AND id < :id ORDER BY seq DESC LIMIT 1), 0))"
)
_PATH = "SELECT body FROM entries WHERE session_id = CAST(:name AS TEXT) AND id < :id ORDER BY seq DESC LIMIT 1"
_TOUCHED = "SELECT EXISTS (SELECT 1 FROM balances WHERE name = CAST(:name AS TEXT) AND entry_id < :id)"


class Levels:
    """Keep the balances that several sessions move.

    Args:
        connection: in a read transaction, with texts as bytes.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
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
        found = self._ask(_PATH, session, row_id)
        return () if found is None else tuple([balance["budget"] for balance in orjson.loads(found)["after"]])

    def is_touched(self, name: str, row_id: int) -> bool:
        """Tell whether another session's row before one moved a balance."""
        return bool(self._ask(_TOUCHED, name, row_id))

    def _look_up(self, name: str, row_id: int) -> dict[str, Any] | None:
        found = self._ask(_NEWEST, name, row_id)
        balances: list[dict[str, Any]] = [] if found is None else orjson.loads(found)["after"]
        return next((balance for balance in balances if balance["budget"] == name), None)

    def _ask(self, sql: str, name: str, row_id: int) -> Any:
        parameters: dict[str, Any] = {"name": name.encode("utf-8", "surrogatepass"), "id": row_id}
        found = self._connection.execute(sql, parameters).fetchone()
        return None if found is None else found[0]
