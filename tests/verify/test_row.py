"""Reading one stored row: the quick path lets through what the slow one lets through, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from auditing import bodies, fill
from hypothesis import given
from hypothesis import strategies as st
from reviews import House

from donewhen import canonical
from donewhen.entry import decode
from donewhen.errors import LedgerFormatError
from donewhen.testing import make_reply
from donewhen.verify import row as verify_row
from donewhen.verify.row import read_row

PLAIN: dict[str, Any] = {
    "at": "2026-01-01T00:00:00+00:00",
    "id": 1,
    "input_hash": "",
    "kind": "write",
    "ms": 0,
    "pass": 1,
    "prev": "A" * 43 + "=",
    "seq": 1,
    "session": "s",
    "state_origin": "x",
    "tokens": 0,
    "turn": 0,
    "v": 1,
}


def spelled(**changes: Any) -> bytes:
    return canonical.dumps({**PLAIN, **changes})


def raw(**changes: Any) -> bytes:
    """Spell a row as a program does that takes floats."""
    return json.dumps({**PLAIN, **changes}, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Return the bodies of honest rows of nearly every kind."""
    folder = tmp_path_factory.mktemp("rows")
    fill(folder / "ledger.db")
    house = House(folder / "house.db")
    house.enroll("ann")
    house.run(make_reply("the report é 日\U0001f600"))
    house.surface.attest("s", "ann", reviewer_key=house.keys["ann"])
    house.ledger.erase("s", who="Ada", why="asked to")
    house.ledger.close()
    return [*bodies(folder / "ledger.db"), *bodies(folder / "house.db")]


def test_both_paths_read_a_row_the_same(every_kind: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    quick = [read_row(body) for body in every_kind]
    assert {row["kind"] for row in quick} > {"spec", "open", "policy", "reserve", "llm", "attest", "erase", "key"}
    monkeypatch.setattr(verify_row, "_is_proper", lambda *_: False)
    assert [read_row(body) for body in every_kind] == quick


def test_an_honest_row_never_takes_the_slow_path(every_kind: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_row, "decode", lambda *_, **__: pytest.fail("the slow path"))
    assert all(read_row(body)["v"] == 1 for body in every_kind if b"\xf0" not in body)


@given(st.data())
def test_no_edit_of_a_row_is_read_that_the_slow_path_refuses(every_kind: list[bytes], data: st.DataObject) -> None:
    body = data.draw(st.sampled_from(every_kind))
    start = body.find(b',"at":')  # what stands before it is compared with what it must be, and never read
    at = data.draw(st.integers(start + 1, len(body) - 1))
    put = data.draw(
        st.sampled_from([b"", b" ", b"0", b"-", b'"', b",", b"1", b"}", b"\\", b"e", b".", b"\x7f", b"\xff", b"[]"])
    )
    edited = body[:at] + put + body[at + data.draw(st.integers(0, 1)) :]
    try:
        row = read_row(edited)
    except LedgerFormatError:
        return
    assert decode(edited, strict=True).id == row["id"]


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("value", [1.0, 1e16, 2**53, -(2**53), True, None, [], {}, "", 9, "0", [1], {"a": 1}, -1])
def test_a_field_is_read_only_as_its_own_type(name: str, value: object) -> None:
    body = raw(**{name: value})
    try:
        decode(body, strict=True)
    except LedgerFormatError:
        with pytest.raises(LedgerFormatError):
            read_row(body)
    else:
        assert read_row(body)[name] == value


@pytest.mark.parametrize("value", [1.5, 1.0, 1e16, 1e-7, -2e300, 5e-324, 1e100])
@pytest.mark.parametrize("nest", [lambda v: v, lambda v: [v], lambda v: {"a": v}, lambda v: [{"a": ["x", v]}, 1]])
def test_a_float_is_refused_wherever_it_stands(value: float, nest: Any) -> None:
    with pytest.raises(LedgerFormatError):
        read_row(raw(kind="write", data={"adopted": nest(value)}))


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {}},
        {"data": None},
        {"data": []},
        {"data": {"unknown": 1}},
        {"breach": None},
        {"breach": 1},
        {"closes": None},
        {"closes": True},
        {"doubts": "1"},
        {"more": 1},
        {"kind": "note"},
        {"kind": ["write"]},
        {"v": 2},
        {"pass": 2},
        {"data": {"adopted": 2**64}},
    ],
)
def test_what_no_row_has_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(LedgerFormatError):
        read_row(raw(**changes))


@pytest.mark.parametrize("name", PLAIN)
def test_a_field_that_is_missing_is_refused(name: str) -> None:
    with pytest.raises(LedgerFormatError):
        read_row(canonical.dumps({key: value for key, value in PLAIN.items() if key != name}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"1",
        b"null",
        b'{"after":[',
        b'{"at":"',
        b'{"after":[],"at":"',
        b"\xff",
        spelled()[:-1],
        spelled() + b" ",
        b" " + spelled(),
        spelled().replace(b'"turn":0', b'"turn":0,"turn":0'),
        spelled().replace(b'"turn":0', b'"turn":-0'),
        spelled().replace(b'"turn":0', b'"turn":00'),
        spelled().replace(b'"session":"s"', b'"session":"\\u0073"'),
        spelled(session="é").replace("é".encode(), b"\\u00e9"),
        b'{"at":"x",' + spelled()[1:],
        b"[" * 100_000,
        b'{"at":"x","data":{"adopted":' + b"[" * 100_000,
        b'{"at":' + b"9" * 100_000,
    ],
)
def test_every_other_spelling_is_refused(body: bytes) -> None:
    with pytest.raises(LedgerFormatError):
        read_row(body)


def nested(levels: int) -> object:
    return 0 if not levels else [nested(levels - 1)]


def test_as_many_levels_are_read_as_can_be_written() -> None:
    deepest = canonical.MAX_DEPTH - 2  # the row and its data are two
    assert read_row(raw(data={"adopted": nested(deepest)}))["data"]
    with pytest.raises(LedgerFormatError):
        read_row(raw(data={"adopted": nested(deepest + 1)}))


@pytest.mark.parametrize("text", ["é", "日本", "\U0001f600", "\ud800", "a\ud83d", '"],"at":"', "\\", "\n", "},{"])
def test_whatever_text_is_written_is_read(text: str) -> None:
    changes: dict[str, Any] = {"session": text, "state_origin": text, "data": {"adopted": {text: text, "ﬀ": 1}}}
    assert read_row(spelled(**changes))["session"] == text


def test_keys_are_in_the_order_of_utf_16() -> None:
    data = {"adopted": {"\U0001f600": 1, "\uffee": 2}}
    assert read_row(spelled(data=data))["data"] == data
    with pytest.raises(LedgerFormatError):  # in the order of code points
        read_row(raw(data=data))
