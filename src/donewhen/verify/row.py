"""Reading one stored row strictly: one spelling, a closed set of fields, the types they must have.

Nearly every row is plain. It is parsed and spelled again by orjson, in C; what came out has its fields in order, so its
names and its types are compared a whole row at a time. Whatever that does not let through goes to
`donewhen.entry.decode`, which judges slowly and knows what is wrong. A test holds both against each other.

Source: docs/ledger_format.md; RFC 8785.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, cast

import orjson

from donewhen import canonical
from donewhen.entry import DATA_FIELDS, VERSION, decode

REQUIRED_FIELDS = 13
"""How many fields every row has."""

_ATOMS = frozenset({str, int, bool, type(None)})
_FLAGS = (0, 1)

_BARE = b'{"at":"'
"""How a row without balances begins."""

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
    is_bare = body.startswith(_BARE)
    rest = body if is_bare else b"{" + body[body.find(_NEXT) + 2 :]
    try:
        row = orjson.loads(rest)
        is_whole = is_bare or body.startswith(_FIRST)
        if is_whole and orjson.dumps(row, None, canonical.STRICT) == rest and _is_proper(row, rest):
            return row
    except (KeyError, TypeError, ValueError):
        return _read_slowly(body)  # no JSON, no object, a field is missing, a number too large, a lone surrogate
    return _read_slowly(body)


def _read_slowly(body: bytes) -> Row:
    decode(body, strict=True)
    row: dict[str, Any] = json.loads(body)
    row.pop("after", None)
    return row


def _is_proper(row: dict[str, Any], rest: bytes) -> bool:
    """Tell whether JSON is a row. What is compared with what it must be, and so has its type, is not looked at here."""
    numbers = type(row["id"]) is type(row["ms"]) is type(row["pass"]) is type(row["seq"]) is type(row["tokens"]) is int
    texts = type(row["at"]) is type(row["input_hash"]) is type(row["session"]) is type(row["state_origin"]) is str
    if not numbers or not texts or not type(row["turn"]) is type(row["v"]) is int or type(row["prev"]) is not str:
        return False
    if row["v"] != VERSION or row["pass"] not in _FLAGS or (len(row) != REQUIRED_FIELDS and not _is_proper_rest(row)):
        return False
    if row["kind"] not in DATA_FIELDS:
        return False
    return rest.isascii() or not any(first in rest for first in _FOUR_BYTES)


def _is_proper_rest(row: dict[str, Any]) -> bool:
    """Tell whether the fields that a row need not have are what they must be."""
    known = REQUIRED_FIELDS
    if "data" in row:
        known += 1
        data: dict[str, Any] = row["data"]
        allowed = DATA_FIELDS[row["kind"]]
        if type(data) is not dict or not data or not allowed.issuperset(data) or not _is_plain(data.values(), 2):
            return False
    if known != len(row):
        breach, closes, doubts = row.get("breach"), row.get("closes"), row.get("doubts")
        known += (type(breach) is str) + (type(closes) is int) + (type(doubts) is int)
    return known == len(row)


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
