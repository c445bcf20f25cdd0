"""Entries and rows: the closed set of kinds and their one spelling.

An entry is what is to be written. A row is an entry in its place: it has an id (its place in the log, from 1), a seq
(its place in its session, from 1), the digest of the session's row before it, and `after`, the balances as it leaves
them. A row is stored as canonical JSON, and what is stored is what is hashed. The fields are a closed set for each
kind: anything else is refused when written and when read.

Source: the format is documented in docs/ledger_format.md; its frozen examples are in tests/vectors.
"""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, cast

import orjson

from donewhen import canonical
from donewhen.balance import Balance
from donewhen.balance_json import balance_as_json, balance_from_json
from donewhen.errors import LedgerFormatError
from donewhen.frozen import quick
from donewhen.kinds import DATA_FIELDS, KINDS, LOG_SESSION, RESERVED_PREFIX, VISIBLE_KINDS

__all__ = [
    "DATA_FIELDS",
    "GENESIS",
    "KINDS",
    "LOG_SESSION",
    "NO_LEAF",
    "RESERVED_PREFIX",
    "VERSION",
    "VISIBLE_KINDS",
    "Entry",
    "LedgerRow",
    "decode",
    "link",
    "place",
    "spec_hash",
    "spell",
]

VERSION = 1
"""The version of the row format, the field ``v``."""

NO_LEAF = bytes(32)
"""What stands in for the leaf hash of the row before a session's first."""

GENESIS = "A" * 43 + "="
"""The same, as a row spells it."""

_BODY_FIELDS = {
    "at": str,
    "id": int,
    "kind": str,
    "prev": str,
    "seq": int,
    "session": str,
    "state_origin": str,
    "input_hash": str,
    "tokens": int,
    "ms": int,
    "pass": int,
    "turn": int,
    "v": int,
}
_OPTIONAL_FIELDS = {"after": list, "breach": str, "closes": int, "doubts": int, "data": dict}
_BODY_NAMES = frozenset(_BODY_FIELDS)
_BODY_TYPES = tuple(_BODY_FIELDS.values())
_body_values = itemgetter(*_BODY_FIELDS)
_FLAT_TYPES = frozenset({str, int})


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is to be written, before it has a place."""

    kind: str
    session_id: str
    state_origin: str
    """The kind, except for rows that the tutorial's `write` makes."""
    turn_count: int = 0
    input_hash: str = ""
    """Lower-case hex SHA-256 of the input; empty where there was none."""
    token_delta: int = 0
    execution_time_ms: int = 0
    pass_fail: bool = True
    breach_reason: str | None = None
    closes: int | None = None
    """The seq of the reservation that this entry ends."""
    doubts: int | None = None
    """The seq of the reservation whose outcome this entry says is unknown."""
    data: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)


@quick
@dataclass(frozen=True, slots=True)
class LedgerRow:
    """An entry in its place. The first ten fields are the tutorial's."""

    id: int
    session_id: str
    turn_count: int
    state_origin: str
    input_hash: str
    token_delta: int
    execution_time_ms: int
    pass_fail: bool
    breach_reason: str | None
    created_at: str
    """ISO 8601, UTC."""
    seq: int = 0
    kind: str = "write"
    prev: str = GENESIS
    """The leaf hash of the session's row before this one, in base64."""
    after: tuple[Balance, ...] = ()
    """The balances as this row leaves them, outermost first; the session's own is the last."""
    closes: int | None = None
    doubts: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)

    @property
    def balance(self) -> Balance | None:
        """Return the session's own balance as this row leaves it; None before the session was opened."""
        return self.after[-1] if self.after else None


def link(leaf: bytes) -> str:
    """Return how a row names the one before it.

    Args:
        leaf: the leaf hash of the row before it, 32 bytes.
    """
    return b2a_base64(leaf, newline=False).decode()


def spec_hash(what_it_does: str, what_it_does_not: str, done_looks_like: str, terms: object = None) -> str:
    """Return the digest of a spec, as lower-case hex: the three answers and everything else that was agreed.

    Args:
        terms: ceilings, checks and the rest as plain data; None where there were only the three answers.
    """
    promise = {
        "what_it_does": what_it_does,
        "what_it_does_not": what_it_does_not,
        "done_looks_like": done_looks_like,
        "terms": terms,
    }
    return canonical.hash_hex("spec", canonical.dumps(promise))


def place(
    entry: Entry, *, row_id: int, seq: int, prev: str, at: str, after: Sequence[Balance]
) -> tuple[LedgerRow, bytes]:
    """Put an entry in its place and return the row and its stored spelling.

    Args:
        row_id: its place in the log, from 1.
        seq: its place in its session, from 1.
        prev: the leaf hash of the session's row before it, in base64; `GENESIS` for the first.
        at: ISO 8601, UTC.
        after: the balances as it leaves them.

    Raises:
        LedgerFormatError: the kind, or a field of its data, is not in the closed set.
    """
    allowed = DATA_FIELDS.get(entry.kind)
    if allowed is None:
        raise LedgerFormatError(f"{entry.kind!r} is not a kind of row")
    if not allowed.issuperset(entry.data):
        raise LedgerFormatError(f"a {entry.kind} row has no field {min(set(entry.data) - allowed)!r}")
    row = LedgerRow(
        row_id,
        entry.session_id,
        entry.turn_count,
        entry.state_origin,
        entry.input_hash,
        entry.token_delta,
        entry.execution_time_ms,
        entry.pass_fail,
        entry.breach_reason,
        at,
        seq,
        entry.kind,
        prev,
        tuple(after),
        entry.closes,
        entry.doubts,
        entry.data,
    )
    return row, spell(row)


def spell(row: LedgerRow) -> bytes:
    """Return the stored spelling of a row: the canonical JSON of its closed set of fields.

    Raises:
        TypeError, ValueError: a field is not what its type says, or not spelled in canonical JSON.
    """
    fields: dict[str, Any] = {
        "at": row.created_at,
        "id": row.id,
        "input_hash": row.input_hash,
        "kind": row.kind,
        "ms": row.execution_time_ms,
        "pass": 1 if row.pass_fail else 0,
        "prev": row.prev,
        "seq": row.seq,
        "session": row.session_id,
        "state_origin": row.state_origin,
        "tokens": row.token_delta,
        "turn": row.turn_count,
        "v": VERSION,
    }
    if row.breach_reason is not None:
        fields["breach"] = row.breach_reason
    if row.closes is not None:
        fields["closes"] = row.closes
    if row.doubts is not None:
        fields["doubts"] = row.doubts
    if not _FLAT_TYPES.issuperset(map(type, fields.values())):
        raise TypeError(f"row {row.id} has a field that is neither a text nor a whole number")
    # `fold` makes balances of numbers it has checked, so only the data has to be looked through.
    if row.after:
        fields["after"] = [balance_as_json(balance) for balance in row.after]
    if row.data:
        fields["data"] = orjson.Fragment(canonical.dumps(row.data))
    try:
        return orjson.dumps(fields, None, canonical.STRICT)
    except TypeError:  # a number that is too large, or a lone surrogate
        return _spell_slowly(row, fields)


def _spell_slowly(row: LedgerRow, fields: dict[str, Any]) -> bytes:
    if max(abs(row.token_delta), abs(row.execution_time_ms), abs(row.turn_count)) > canonical.MAX_INT:
        raise ValueError(f"row {row.id} has a number that is larger than the ledger can hold")
    return canonical.dumps({**fields, "data": row.data} if row.data else fields)


def decode(body: str | bytes, *, strict: bool = False) -> LedgerRow:
    """Return the row that a stored body spells.

    Args:
        body: canonical JSON, as stored.
        strict: refuse every spelling but the canonical one; for the auditor, who trusts nothing.

    Raises:
        LedgerFormatError: it is not a row of this format.
    """
    try:
        raw: Any = canonical.loads(body) if strict else _loads(body)
    except (ValueError, RecursionError) as error:
        raise LedgerFormatError(f"the row is not canonical JSON: {error}") from error
    if not isinstance(raw, dict):
        raise LedgerFormatError("the row is not an object")
    fields = cast("dict[str, Any]", raw)
    _check_fields(fields)
    data = fields.get("data", {})
    row = LedgerRow(
        fields["id"],
        fields["session"],
        fields["turn"],
        fields["state_origin"],
        fields["input_hash"],
        fields["tokens"],
        fields["ms"],
        fields["pass"] == 1,
        fields.get("breach"),
        fields["at"],
        fields["seq"],
        fields["kind"],
        fields["prev"],
        tuple([balance_from_json(balance) for balance in fields.get("after", ())]),
        fields.get("closes"),
        fields.get("doubts"),
        data,
    )
    if strict and spell(row) != (body.encode() if isinstance(body, str) else body):
        raise LedgerFormatError("the row is not spelled as this donewhen spells it")
    return row


def _loads(body: str | bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body)  # which reads lone surrogates, and says what is wrong


def _check_fields(fields: dict[str, Any]) -> None:
    if not _BODY_NAMES.issubset(fields) or tuple(map(type, _body_values(fields))) != _BODY_TYPES:
        name = next(name for name, kind in _BODY_FIELDS.items() if type(fields.get(name)) is not kind)
        raise LedgerFormatError(f"the row's {name} is {fields.get(name)!r}")
    known = 0
    for name, kind in _OPTIONAL_FIELDS.items():
        if name in fields:
            known += 1
            if type(fields[name]) is not kind:
                raise LedgerFormatError(f"the row's {name} is {fields[name]!r}")
    if len(fields) != len(_BODY_FIELDS) + known:
        raise LedgerFormatError("the row has a field that is not in the closed set")
    if fields["v"] != VERSION:
        raise LedgerFormatError(f"the row has version {fields['v']}; this donewhen reads version {VERSION}")
    allowed = DATA_FIELDS.get(fields["kind"])
    if allowed is None or not allowed.issuperset(fields.get("data", ())) or fields["pass"] not in (0, 1):
        raise LedgerFormatError(f"the row is not a proper {fields['kind']!r} row")
