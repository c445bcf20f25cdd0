"""One spelling of JSON: what it is, and that no other is read."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import hashlib
import json
import re
import struct
import uuid
from pathlib import Path
from random import Random

import orjson
import pytest
import rfc8785
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from donewhen import canonical
from donewhen.canonical import MAX_DEPTH, MAX_INT, digest, dumps, hash_hex, loads

VECTORS = json.loads((Path(__file__).parent / "vectors" / "canonical.json").read_text(encoding="utf-8"))

anything = st.text(st.characters(exclude_categories=()))
"""Text with everything in it, halves of surrogate pairs included."""

well_formed = st.text()
safe_integers = st.integers(-MAX_INT, MAX_INT)


def values(text: st.SearchStrategy[str], *more: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    atoms = st.one_of(st.none(), st.booleans(), safe_integers, text, *more)
    return st.recursive(atoms, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=20)


def joined(value: object) -> object:
    """Join the halves of surrogate pairs, as reading UTF-16 would."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    if isinstance(value, list):
        return [joined(member) for member in value]
    if isinstance(value, dict):
        return {joined(key): joined(member) for key, member in value.items()}
    return value


def count_members(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(count_members(member) for member in inner)


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("vector", VECTORS["spellings"], ids=lambda vector: vector["name"])
def test_the_spelling_is_the_frozen_one(vector: dict[str, str]) -> None:
    spelled = bytes.fromhex(vector["bytes"])
    assert dumps(loads(spelled)) == spelled
    assert dumps(json.loads(vector["json"])) == spelled


@pytest.mark.parametrize("vector", VECTORS["digests"], ids=lambda vector: vector["domain"])
def test_the_digests_are_the_frozen_ones(vector: dict[str, str]) -> None:
    data = bytes.fromhex(vector["data"])
    assert hash_hex(vector["domain"], data) == vector["hash"]
    assert digest(vector["domain"], data).hex() == vector["hash"]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_every_other_spelling_is_refused(vector: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"canonical spelling|not UTF-8|levels deep"):
        loads(bytes.fromhex(vector["bytes"]))


@given(values(well_formed))
def test_it_spells_as_rfc8785_does(value: object) -> None:
    assert dumps(value) == rfc8785.dumps(value)


@given(values(well_formed, st.floats(allow_nan=False, allow_infinity=False)))
def test_floats_are_spelled_as_rfc8785_spells_them(value: object) -> None:
    assert dumps(value, floats=True) == rfc8785.dumps(value)


def slowly(value: object, *, floats: bool = False) -> bytes:
    speller = canonical._Speller(floats=floats)
    speller.spell(value)
    return speller.text().encode("utf-8")


@given(values(well_formed))
def test_the_fast_path_and_the_slow_path_agree(value: object) -> None:
    assert slowly(value) == dumps(value)


AWKWARD = 'a\x00\x1f\x7f"\\/\n\x85\xe9\u2028\ud7ff\ue000\uffff\U00010000\U0010ffff\ud800\udc00'
"""The characters at which spellings part."""

EDGES = [0, -1, MAX_INT, -MAX_INT, MAX_INT + 1, -MAX_INT - 1, 2**63, 2**64, -(2**63) - 1, 1.0, True, None]
TOKENS = [
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    '"',
    "\\ud800",
    "\\u00e9",
    "\\n",
    "é",
    "\U00010000",
    "\xff",
    " ",
    "1",
    "-",
    "0",
    ".",
]
MANY = settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
seeds = st.integers(0, 2**64).map(Random)
"""A generator is drawn, not the value: so ten thousand cases take seconds."""


def an_awkward_value(random: Random, levels: int = 3) -> object:
    text = "".join(random.choices(AWKWARD, k=random.randrange(3)))
    kind = random.randrange(2 if not levels else 4)
    if kind == 0:
        # Most values have no more than one fault, if any.
        return random.choice(EDGES[:4] if random.random() < 0.9 else EDGES)
    if kind == 1:
        return text
    size = random.randrange(4)
    if kind == 2:
        return [an_awkward_value(random, levels - 1) for _ in range(size)]
    keys = ["".join(random.choices(AWKWARD, k=random.randrange(3))) for _ in range(size)]
    return {key: an_awkward_value(random, levels - 1) for key in keys}


@MANY
@given(seeds)
def test_the_two_paths_agree_in_ten_thousand_awkward_cases(random: Random) -> None:
    value = an_awkward_value(random)
    try:
        wanted = slowly(value)
    except (TypeError, ValueError) as error:
        with pytest.raises(type(error), match=re.escape(str(error))):
            dumps(value)
        return
    assert dumps(value) == wanted
    read = loads(wanted)
    assert slowly(read) == wanted
    if b"\\ud" not in wanted:  # RFC 8785 knows no lone surrogate
        assert wanted == rfc8785.dumps(read)


@MANY
@given(seeds)
def test_the_two_readers_agree_in_ten_thousand_awkward_cases(random: Random) -> None:
    text = "".join(random.choices(TOKENS, k=random.randrange(6)))
    data = (text if random.random() < 0.5 else f'["{text}"]').encode("utf-8")
    try:
        wanted = json.loads(data)
        is_canonical = slowly(wanted) == data
    except (ValueError, TypeError):
        is_canonical = False
    if is_canonical:
        assert repr(loads(data)) == repr(wanted)
        return
    with pytest.raises(ValueError, match=r"canonical spelling|not UTF-8|levels deep"):
        loads(data)


def test_every_character_is_spelled_as_on_the_slow_path() -> None:
    for start in range(0, 0x110000, 0x100):
        page = "".join([chr(number) for number in range(start, start + 0x100)])
        value = {"page": page, page: ["page"]}
        assert dumps(value) == slowly(value)


@pytest.mark.parametrize("text", ["\ue000", "\uffff", "\U00010000", "\ud800", "é"])
def test_keys_are_in_the_order_of_utf16_wherever_they_stand(text: str) -> None:
    value = {"k": [{"\U00010000": 1, text + "x": 2, "\uf000": 3, "a": 4}]}
    assert dumps(value) == slowly(value)


@dataclasses.dataclass
class Plain:
    x: int = 1


class Choice(enum.Enum):
    ONE = "one"


@pytest.mark.parametrize(
    "value",
    [
        *(Plain(), Choice.ONE, uuid.UUID(int=1), dt.date(2026, 1, 2), orjson.Fragment(b"1"), b"x"),
        *(dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc), dt.time(1), frozenset({1}), range(2)),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("around", [lambda value: value, lambda value: [value], lambda value: {"a": ({"b": value},)}])
def test_what_orjson_would_spell_and_json_has_not_is_refused(value: object, around: object) -> None:
    for floats in (False, True):
        with pytest.raises(TypeError, match="has no canonical spelling"):
            dumps(around(value), floats=floats)


@given(values(well_formed))
def test_what_was_written_is_read_back(value: object) -> None:
    assert loads(dumps(value)) == value
    assert loads(dumps(value).decode("utf-8")) == value


@given(values(anything))
def test_text_that_is_not_unicode_is_written_too(value: object) -> None:
    # Keys that joining makes one are refused; that has a test of its own.
    assume(count_members(joined(value)) == count_members(value))
    assert loads(dumps(value)) == joined(value)


@given(values(well_formed), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(value: object, random: object) -> None:
    def shuffled(part: object) -> object:
        if isinstance(part, list):
            return [shuffled(member) for member in part]
        if isinstance(part, dict):
            items = list(part.items())
            random.shuffle(items)
            return {key: shuffled(member) for key, member in items}
        return part

    assert dumps(shuffled(value)) == dumps(value)


@given(values(well_formed), st.data())
def test_a_spelling_with_one_byte_changed_is_refused_or_means_something_else(
    value: object, data: st.DataObject
) -> None:
    spelled = bytearray(dumps(value))
    spelled[data.draw(st.integers(0, len(spelled) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        read = loads(spelled)
    except ValueError:
        return
    assert dumps(read) == spelled
    assert dumps(read) != dumps(value)


@given(values(well_formed, st.floats(allow_nan=False, allow_infinity=False)))
def test_any_other_layout_of_the_same_value_is_refused(value: object) -> None:
    for layout in (json.dumps(value, indent=1), json.dumps(value), json.dumps(value, ensure_ascii=False)):
        canonical_spelling = dumps(value, floats=True)
        if layout.encode("utf-8") == canonical_spelling:
            continue
        with pytest.raises(ValueError, match="canonical spelling"):
            loads(layout)


def test_keys_are_ordered_by_utf16_and_not_by_code_point() -> None:
    assert dumps({"\ue000": 1, "\U0001f600": 2}).decode("utf-8") == '{"\U0001f600":2,"\ue000":1}'


def test_a_lone_surrogate_is_escaped_in_lower_case() -> None:
    assert dumps("\ud800x\udfff") == b'"\\ud800x\\udfff"'
    assert loads(b'"\\ud800x\\udfff"') == "\ud800x\udfff"


def test_two_halves_of_a_pair_are_spelled_as_the_character_they_are() -> None:
    assert dumps("\ud83d\ude00") == dumps("\U0001f600")


def test_two_keys_that_are_one_key_in_utf16_are_refused() -> None:
    with pytest.raises(ValueError, match="the same in UTF-16"):
        dumps({"\ud83d\ude00": 1, "\U0001f600": 2})


def test_a_tuple_is_spelled_as_a_list() -> None:
    assert dumps(((), (1, ("a",)))) == b'[[],[1,["a"]]]'


class Colour(str, enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    "value",
    [Colour.RED, Level.LOW, 1.0, b"x", {1, 2}, object(), type("Text", (str,), {})("x"), type("Map", (dict,), {})()],
    ids=lambda value: type(value).__name__,
)
def test_a_type_that_is_not_exactly_plain_is_refused_by_name(value: object) -> None:
    with pytest.raises(TypeError, match=r"^\$\.a\[1\] is"):
        dumps({"a": [0, value]})


@pytest.mark.parametrize("key", [1, None, True, 1.5, Colour.RED, (1,)])
def test_a_key_that_is_not_text_is_refused(key: object) -> None:
    with pytest.raises(TypeError, match=r"a key of \$\.a is not a str"):
        dumps({"a": {key: 1}})


@pytest.mark.parametrize("number", [MAX_INT + 1, -MAX_INT - 1, 10**5000], ids=["above", "below", "far above"])
@pytest.mark.parametrize("floats", [False, True])
def test_an_integer_that_not_every_reader_keeps_is_refused(number: int, floats: bool) -> None:
    with pytest.raises(ValueError, match=r"^\$\.n is an integer beyond"):
        dumps({"n": number}, floats=floats)
    assert dumps([MAX_INT, -MAX_INT]) == b"[9007199254740991,-9007199254740991]"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_float_that_is_not_a_number_is_refused_even_where_floats_are_allowed(number: float) -> None:
    with pytest.raises(ValueError, match=r"^\$ is not a finite number"):
        dumps(number, floats=True)


def test_depth_is_bounded_on_both_paths_and_when_reading() -> None:
    assert loads(dumps(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    for value in (nested(MAX_DEPTH + 1), [0.5, nested(MAX_DEPTH)], nested(100_000)):
        with pytest.raises(ValueError, match="levels deep"):
            dumps(value, floats=True)
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(ValueError, match="levels deep"):
            loads(b"[" * depth + b"]" * depth)


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[object] = []
    loop += [loop, loop]
    with pytest.raises(ValueError, match="levels deep"):
        dumps(loop)


def test_the_first_difference_is_named() -> None:
    with pytest.raises(
        ValueError, match=re.escape("""at byte 2 there is b'b":2,"a":1}', where b'a":1,"b":2}' belongs""")
    ):
        loads('{"b":2,"a":1}')
    with pytest.raises(ValueError, match=re.escape("at byte 1 there is b'\\n', where b'' belongs")):
        loads(b"1\n")


@pytest.mark.parametrize("data", [b"\xff", b'"\xed\xa0\x80"', '"\ud800"'])
def test_what_is_not_utf8_is_refused(data: bytes | str) -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        loads(data)


# Source: RFC 8785 appendix B.
ECMASCRIPT = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize(("bits", "spelled"), ECMASCRIPT.items())
def test_numbers_are_spelled_as_in_the_rfc(bits: str, spelled: str) -> None:
    assert dumps(struct.unpack(">d", bytes.fromhex(bits))[0], floats=True) == spelled.encode()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_spelled_float_reads_back_as_itself(number: float) -> None:
    assert float(dumps(number, floats=True)) == number


def test_floats_and_integers_of_one_value_are_spelled_alike() -> None:
    assert dumps([1.0, 100.0, -2.0], floats=True) == dumps([1, 100, -2]) == b"[1,100,-2]"


def test_a_digest_is_of_its_domain_alone() -> None:
    assert digest("row", b"x") == hashlib.sha256(b"donewhen/v1/row\0x").digest()
    assert digest("row", b"x") != digest("text", b"x")


@pytest.mark.parametrize("domain", ["", "a\0b", "é"])
def test_a_domain_that_could_run_into_the_data_is_refused(domain: str) -> None:
    with pytest.raises(ValueError, match="a domain is ASCII text"):
        digest(domain, b"")
    with pytest.raises(ValueError, match="a domain is ASCII text"):
        hash_hex(domain, b"")
