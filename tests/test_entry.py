from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen import canonical
from donewhen.balance import Amounts, Balance, Ceilings
from donewhen.entry import (
    DATA_FIELDS,
    GENESIS,
    KINDS,
    VISIBLE_KINDS,
    Entry,
    LedgerRow,
    decode,
    place,
    spec_hash,
    spell,
)
from donewhen.errors import LedgerFormatError
from donewhen.merkle import leaf_hash

VECTORS = json.loads((Path(__file__).parent / "vectors" / "rows.json").read_text(encoding="utf-8"))

INTS = st.integers(0, canonical.MAX_INT)
COSTS = st.none() | INTS
AMOUNTS = st.builds(Amounts, INTS, INTS, COSTS, INTS)
CEILINGS = st.builds(Ceilings, *[st.none() | INTS] * 6)
BALANCES = st.builds(Balance, st.text(), AMOUNTS, AMOUNTS, CEILINGS)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-canonical.MAX_INT, canonical.MAX_INT) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(sorted(KINDS)))
    names = draw(st.sets(st.sampled_from(sorted(DATA_FIELDS[kind])))) if DATA_FIELDS[kind] else set()
    return Entry(
        kind=kind,
        session_id=draw(st.text()),
        state_origin=draw(st.text()),
        turn_count=draw(INTS),
        input_hash=draw(st.sampled_from(["", "a" * 64])),
        token_delta=draw(INTS),
        execution_time_ms=draw(INTS),
        pass_fail=draw(st.booleans()),
        breach_reason=draw(st.none() | st.text()),
        closes=draw(st.none() | INTS),
        doubts=draw(st.none() | INTS),
        data={name: draw(PLAIN) for name in names},
    )


PLACED = st.builds(
    lambda entry, row_id, seq, prev, at, after: place(entry, row_id=row_id, seq=seq, prev=prev, at=at, after=after),
    entries(),
    INTS,
    INTS,
    st.sampled_from([GENESIS, "ab" * 32]),
    st.text(),
    st.lists(BALANCES, max_size=2),
)


def a_body(**changes: Any) -> dict[str, Any]:
    """Return the body of a proper row as a dict, changed; a change to `...` takes a field away."""
    balance = Balance("s", Amounts(1, 2, None, 3), Amounts(), Ceilings(1, 2))
    _, body = place(
        Entry(kind="llm", session_id="s", state_origin="llm", data={"model": "m"}),
        row_id=1,
        seq=1,
        prev=GENESIS,
        at="now",
        after=[balance],
    )
    fields = {**json.loads(body), **changes}
    return {name: value for name, value in fields.items() if value is not ...}


def spelled(fields: dict[str, Any]) -> bytes:
    return canonical.dumps(fields, floats=True)


# -- spelling ----------------------------------------------------------------------------------------------------------


@given(PLACED)
def test_what_is_encoded_is_decoded_again(placed) -> None:
    row, body = placed
    assert decode(body) == decode(body, strict=True) == decode(body.decode(), strict=True) == row
    assert spell(decode(body)) == body


@given(PLACED)
def test_the_fast_spelling_is_the_canonical_one(placed) -> None:
    _, body = placed
    assert canonical.dumps(canonical.loads(body)) == body


@given(PLACED, st.data())
def test_every_other_spelling_is_refused_by_the_strict_reader(placed, data) -> None:
    _, body = placed
    fields = json.loads(body)
    other = data.draw(
        st.sampled_from(
            [
                json.dumps(fields).encode(),
                json.dumps(dict(reversed(fields.items())), separators=(",", ":")).encode(),
                b" " + body,
                body + b"\n",
                body.replace(b'"v":1', b'"v":1,"v":1'),
                body.replace(b'"v":1', b'"v":01'),
                body.replace(b'"kind"', b'"\\u006bind"'),
                body.replace(b'"v":1}', b'"v":1,}'),
                body[:-1],
                body + body,
            ]
        )
    )
    if other != body:
        with pytest.raises(LedgerFormatError):
            decode(other, strict=True)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_rows_are_spelled_as_they_were_when_the_format_was_frozen(vector) -> None:
    row = decode(vector["body"], strict=True)
    assert spell(row).decode() == vector["body"]
    assert leaf_hash(vector["body"].encode()).hex() == vector["leaf_hash"]
    assert (row.kind, row.id, row.seq) == (vector["kind"], vector["id"], vector["seq"])


def test_there_is_a_frozen_row_of_every_kind() -> None:
    assert {vector["kind"] for vector in VECTORS} == KINDS
    assert set(VISIBLE_KINDS) < KINDS


FAULTS = {
    "an unknown field": a_body(extra=1),
    "a missing field": a_body(prev=...),
    "an unknown kind": a_body(kind="gift"),
    "a field of another kind": a_body(data={"reviewer": "ann"}),
    "a newer version": a_body(v=2),
    "a text for a number": a_body(tokens="1"),
    "a number for a text": a_body(session=1),
    "true for one": a_body(**{"pass": True}),
    "two for true": a_body(**{"pass": 2}),
    "null for a number": a_body(turn=None),
    "a float": a_body(ms=0.5),
    "a text that closes": a_body(closes="1"),
    "no breach as null": a_body(breach=None),
    "data that is a list": a_body(data=["model"]),
    "a balance that is a number": a_body(after=[4]),
    "a balance that is a text": a_body(after=["four"]),
    "a balance that is null": a_body(after=[None]),
    "a balance with one field too many": a_body(after=[{**a_body()["after"][0], "x": 1}]),
    "a balance without a name": a_body(after=[{**a_body()["after"][0], "budget": 1}]),
    "a balance with another field": a_body(after=[{"budget": "s", "spent": [0] * 4, "reserved": [0] * 4, "x": 1}]),
    "too few amounts": a_body(after=[{**a_body()["after"][0], "spent": [1, 2, 3]}]),
    "amounts that are no list": a_body(after=[{**a_body()["after"][0], "spent": 4}]),
    "a negative amount": a_body(after=[{**a_body()["after"][0], "reserved": [0, -1, 0, 0]}]),
    "an unknown number of tokens": a_body(after=[{**a_body()["after"][0], "spent": [0, None, 0, 0]}]),
    "an amount that is true": a_body(after=[{**a_body()["after"][0], "spent": [True, 0, 0, 0]}]),
    "too many ceilings": a_body(after=[{**a_body()["after"][0], "ceiling": [1] * 7}]),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("what", sorted(FAULTS))
def test_a_row_with_a_fault_is_refused(what, strict) -> None:
    with pytest.raises(LedgerFormatError):
        decode(spelled(FAULTS[what]), strict=strict)


@pytest.mark.parametrize("text", ["", "1", "[]", "nonsense", "[" * 100_000, b"\xff", '{"v":1}', "NaN"])
@pytest.mark.parametrize("strict", [True, False])
def test_what_is_no_row_is_refused(text, strict) -> None:
    with pytest.raises(LedgerFormatError):
        decode(text, strict=strict)


def test_data_that_is_empty_has_one_spelling_too() -> None:
    body = spelled(a_body(data={}))
    assert decode(body).data == {}
    with pytest.raises(LedgerFormatError, match="not spelled as"):
        decode(body, strict=True)


def test_an_entry_outside_the_closed_set_is_refused() -> None:
    for entry, says in (
        (Entry(kind="gift", session_id="s", state_origin="gift"), "'gift' is not a kind of row"),
        (Entry(kind="llm", session_id="s", state_origin="llm", data={"reviewer": 1}), "has no field 'reviewer'"),
    ):
        with pytest.raises(LedgerFormatError, match=says):
            place(entry, row_id=1, seq=1, prev=GENESIS, at="", after=())


@pytest.mark.parametrize("field", ["token_delta", "turn_count", "execution_time_ms"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_that_json_readers_would_round_is_refused(field, sign) -> None:
    entry = Entry(kind="write", session_id="s", state_origin="x", **{field: sign * (canonical.MAX_INT + 1)})
    with pytest.raises(ValueError, match="larger than the ledger can hold"):
        place(entry, row_id=1, seq=1, prev=GENESIS, at="", after=())


@pytest.mark.parametrize("value", [0.5, 2**53, {1: 2}, {"x"}, b"x", float("nan")])
def test_data_without_a_canonical_spelling_is_refused(value) -> None:
    entry = Entry(kind="close", session_id="s", state_origin="close", data={"reason": value})
    with pytest.raises((TypeError, ValueError)):
        place(entry, row_id=1, seq=1, prev=GENESIS, at="", after=())


def test_rows_can_be_compared_and_put_into_sets() -> None:
    one, two = decode(spelled(a_body())), decode(spelled(a_body()))
    assert {one, two} == {one}
    assert one.balance == one.after[-1]
    assert LedgerRow(1, "s", 1, "x", "", 0, 0, True, None, "now").balance is None


def test_a_spec_hash_depends_on_every_part_and_on_where_it_stands() -> None:
    parts = [
        ("a", "b", "c", None),
        ("a", "c", "b", None),
        ("a\nb", "", "c", None),
        ("a", "b", "c", {}),
        ("a", "b", "c"),
    ]
    digests = [spec_hash(*part) for part in parts]
    assert digests[0] == digests[4]
    assert len(set(digests)) == 4
