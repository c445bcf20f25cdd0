"""Reading one stored row strictly: one spelling, a closed set of fields, the types they must have.

Nearly every row is plain. It is parsed and spelled again by orjson, in C; what came out has its fields in order, so its
names and its types are compared a whole row at a time. Whatever that does not let through goes to
`donewhen.entry.decode`, which judges slowly and knows what is wrong. A test holds both against each other.

Source: docs/ledger_format.md; RFC 8785.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from itertools import combinations
from typing import Any, cast

import orjson

from donewhen import canonical
from donewhen.entry import DATA_FIELDS, VERSION, decode

_REQUIRED: Mapping[str, type] = {
    **dict.fromkeys(("at", "input_hash", "kind", "prev", "session", "state_origin"), str),
    **dict.fromkeys(("id", "ms", "pass", "seq", "tokens", "turn", "v"), int),
}
"""The fields that every row has, `after` aside."""
_OPTIONAL: Mapping[str, type] = {"breach": str, "closes": int, "data": dict, "doubts": int}

_SHAPES = {
    tuple(sorted(names)): [{**_REQUIRED, **_OPTIONAL}[name] for name in sorted(names)]
    for count in range(len(_OPTIONAL) + 1)
    for names in [[*_REQUIRED, *some] for some in combinations(_OPTIONAL, count)]
}
"""The types that a row's fields have, for each list of names that it can have."""

_ATOMS = frozenset({str, int, bool, type(None)})
_FLAGS = (0, 1)

_FIRST = b'{"after":['
_NEXT = b'],"at":"'
"""What ends the balances, which stand first. Within them it could not stand: in a text, its quotes would be escaped."""

# orjson sorts keys by code point, RFC 8785 by UTF-16 code unit. Up to U+FFFF that is the same; four bytes are beyond.
_FOUR_BYTES = tuple(bytes([first]) for first in range(0xF0, 0xF5))

Row = Mapping[str, Any]
"""A row's fields by the names that they have in its body, without `after`: whoever holds its bytes against what they must
be needs to read nothing."""


def read_row(body: bytes) -> Row:
    """Read a stored body, all but its balances, and refuse every spelling of what is read but one.

    Raises:
        LedgerFormatError: it is not the canonical spelling of a row of this format.
    """
    rest = b"{" + body[body.find(_NEXT) + 2 :]
    try:
        row = orjson.loads(rest)
        if orjson.dumps(row, None, canonical.STRICT) == rest and _is_proper(row, rest) and body.startswith(_FIRST):
            return row
    except (KeyError, TypeError, ValueError):
        return _read_slowly(body)  # no JSON, no object, a field is missing, a number too large, a lone surrogate
    return _read_slowly(body)


def _read_slowly(body: bytes) -> Row:
    decode(body, strict=True)
    row: dict[str, Any] = json.loads(body)
    del row["after"]
    return row


def _is_proper(row: dict[str, Any], rest: bytes) -> bool:
    """Tell whether JSON, its names in order, is a row."""
    if list(map(type, row.values())) != _SHAPES[tuple(row)] or row["v"] != VERSION or row["pass"] not in _FLAGS:
        return False
    allowed = DATA_FIELDS[row["kind"]]
    if "data" in row:
        data: dict[str, Any] = row["data"]
        if not data or not allowed.issuperset(data) or not _is_plain(data.values(), 2):
            return False
    return rest.isascii() or not any(first in rest for first in _FOUR_BYTES)


def _is_plain(members: Collection[Any], level: int) -> bool:
    """Tell whether there is no float in these, at any level, and no level is too deep."""
    if _ATOMS.issuperset(map(type, members)):
        return True
    for member in members:
        if type(member) in _ATOMS:
            continue
        if type(member) is float or level == canonical.MAX_DEPTH:
            return False
        # JSON has no other containers.
        within = cast("Mapping[str, Any]", member).values() if type(member) is dict else cast("list[Any]", member)
        if not _is_plain(within, level + 1):
            return False
    return True
