"""Each place in a row, and something else in it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from attacks.forger import Row

Place = tuple[str | int, ...]


def places_in(row: Row) -> list[Place]:
    """Return where each value of a row stands, with those in its data and its balances; a list of amounts is one."""
    return list(_leaves(row))


def _leaves(value: Any) -> Iterator[Place]:
    is_list = isinstance(value, list) and any(isinstance(part, (dict, list)) for part in value)
    if is_list or (isinstance(value, dict) and value):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from ((name, *rest) for rest in _leaves(part))
    else:
        yield ()


def with_place_altered(row: Row, place: Place) -> Row:
    """Return a row in which one value is something else."""
    changed = copy.deepcopy(row)
    holder: Any = changed
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = altered(holder[place[-1]])
    return changed


def shapes(rows: Sequence[Row]) -> list[Row]:
    """Return a row of each shape: of each kind, with each set of fields that there is of it, the last of each."""
    found = {(row["kind"], *sorted(row), *sorted(row.get("data", ())), *_standing(row)): row for row in rows}
    return list(found.values())


def _standing(row: Row) -> list[str]:
    return [",".join(balance) for balance in row.get("after", ())]


def altered(value: Any) -> Any:
    """Return something else of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1:] != "0" else "1")
    if isinstance(value, list):
        return [altered(value[0]), *value[1:]] if value else [0]
    if isinstance(value, dict):
        key = min(value, default="x")
        return {**value, key: altered(value.get(key, 0))}
    return 0
