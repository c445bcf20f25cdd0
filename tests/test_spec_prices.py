"""Prices in a spec: read from what was typed, frozen with it, and before any list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sessions import SPEC, a_session, ask
from specs import made

from donewhen.client import read_reply
from donewhen.errors import SpecError
from donewhen.ledger import Ledger
from donewhen.spec import Spec
from donewhen.spec_file import dump_spec, load_spec
from donewhen.spec_prices import agreed_price, check_prices
from donewhen.testing import make_reply
from donewhen.usage import Price, Rates

HEAD = 'what_it_does = "a"\nwhat_it_does_not = "b"\ndone_looks_like = "c"\n'
ONE = '[[prices]]\nmodel = "m"\ninput = 3.00\noutput = 15\nsource = "a contract"\n'
TIERED = f"""{ONE}as_of = 2026-11-27
cache_read = 0.3
cache_write = 3.75
[[prices.tiers]]
above = 200_000
input = 6
output = 22.5
"""
SMALL = Rates(input=3_000_000, output=15_000_000, cache_read=300_000, cache_write=3_750_000)
LARGE = Rates(input=6_000_000, output=22_500_000, cache_read=6_000_000, cache_write=6_000_000)
AGREED = Price(model="m", source="a contract", as_of="2026-11-27", tiers=((0, SMALL), (200_001, LARGE)))
CEILING = {"cost_limit_microusd": 10_000_000}


def load(tmp_path: Path, more: str) -> Spec:
    path = tmp_path / "spec.toml"
    path.write_text(HEAD + more)
    return load_spec(path)


def test_a_price_is_read_from_the_digits_that_were_typed(tmp_path) -> None:
    assert load(tmp_path, TIERED).prices == (AGREED,)


def test_a_cache_rate_that_is_left_out_is_the_input_rate(tmp_path) -> None:
    (price,) = load(tmp_path, ONE).prices
    assert price.tiers == ((0, Rates(input=3_000_000, output=15_000_000, cache_read=3_000_000, cache_write=3_000_000)),)
    assert price.as_of == "the spec"


def test_a_spec_without_prices_has_the_terms_it_always_had() -> None:
    assert "prices" not in made().terms()
    assert "# [[prices]]" in dump_spec(made())


def test_the_hint_can_be_taken_up_by_taking_the_marks_away(tmp_path) -> None:
    hint = dump_spec(made()).partition("# [[prices]]")
    taken = "\n".join(line.removeprefix("# ") for line in (hint[1] + hint[2]).splitlines())
    (price,) = load(tmp_path, taken).prices
    assert [start for start, _ in price.tiers] == [0, 200_001]


WRONG = [
    ("prices = 5", "prices", "must be a list of tables"),
    ("[prices]\nmodel = 1", "prices", "must be a list of tables"),
    ("[[prices]]\nmodel = 'm'", "prices[1].source", "is missing"),
    ("[[prices]]\nsource = 'm'", "prices[1].model", "is missing"),
    ("[[prices]]\nmodel = 'm'\nsource = 's'\noutput = 1", "prices[1].input", "is missing"),
    (ONE + "rate = 1", "prices[1].rate", "is not a key of a price"),
    (ONE.replace("3.00", "-1"), "prices[1].input", "must be 0 or more"),
    (ONE.replace("3.00", "'3'"), "prices[1].input", "must be a number"),
    (ONE.replace("3.00", "nan"), "prices[1].input", "must be a finite number"),
    (ONE.replace("3.00", "1e999999999"), "prices[1].input", "must be 1000000 or less"),
    (ONE.replace("3.00", "0.0000001"), "prices[1].input", "no more than six decimals"),
    (ONE.replace("3.00", "1000001"), "prices[1].input", "must be 1000000 or less"),
    (ONE.replace('"a contract"', '" "'), "prices[1].source", "must not be blank"),
    (ONE.replace('"m"', "5"), "prices[1].model", "must be text"),
    (ONE + "as_of = 5", "prices[1].as_of", "must be text"),
    (ONE + "tiers = 5", "prices[1].tiers", "must be a list"),
    (ONE + "tiers = [5]", "prices[1].tiers[1]", "must be a table"),
    (ONE + "tiers = [{input = 1, output = 1}]", "prices[1].tiers[1].above", "must be a whole number"),
    (ONE + "tiers = [{above = 1, input = 1}]", "prices[1].tiers[1].output", "is missing"),
    (TIERED + "[[prices.tiers]]\nabove = 5\ninput = 1\noutput = 1", "prices[1].tiers", "must begin at 0 and rise"),
    (ONE + ONE, "prices[2].model", "has a price already"),
]


@pytest.mark.parametrize(("more", "key", "said"), WRONG)
def test_what_is_no_price_is_one_error_with_its_place(tmp_path, more: str, key: str, said: str) -> None:
    with pytest.raises(SpecError, match=r"spec\.toml") as caught:
        load(tmp_path, more)
    assert caught.value.field == key
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "said", [5, [5], [{}], [{"model": "m"}], [{**made(prices=(AGREED,)).terms()["prices"][0], "tiers": []}]]
)  # type: ignore[index]
def test_terms_that_are_no_prices_are_refused(said: Any) -> None:
    with pytest.raises(SpecError):
        agreed_price({"prices": said}, None)


def test_one_made_in_python_is_held_to_the_same() -> None:
    dear = Rates(input=10**12 + 1, output=0, cache_read=0, cache_write=0)
    for wrong in (5, [5], [Price(model="m", source="s", as_of="d", tiers=((0, dear),))]):
        with pytest.raises(SpecError, match="prices"):
            check_prices(wrong)


# -- in a session -----------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_store) -> Any:
    with Ledger(tmp_store) as opened:
        yield opened


def listed(model: str) -> Price:
    free = Rates(input=0, output=0, cache_read=0, cache_write=0)
    return Price(model=model, source="a list", as_of="2026-01-01", tiers=((0, free),))


def opened(ledger: Ledger, find_price: Any = listed) -> Any:
    return a_session(ledger, limits=CEILING, terms=made(prices=(AGREED,)).terms(), find_price=find_price, tokens=10**6)


def settle(session: Any, request: Any, **usage: int) -> Any:
    return session.settle(session.admit(request), read_reply(make_reply("ok", **usage))).row


def test_an_agreed_price_goes_before_the_list_and_stands_in_the_row(ledger) -> None:
    session = opened(ledger)
    row = settle(
        session, ask(), input_tokens=10, output_tokens=2, cache_read_input_tokens=100, cache_creation_input_tokens=40
    )
    assert row.data["price"] == {"source": "a contract", "as_of": "2026-11-27"}
    assert row.data["cost_microusd"] == 10 * 3 + 2 * 15 + 30 + 150
    other = settle(session, ask(model="other"), input_tokens=10, output_tokens=2)
    assert (other.data["price"]["source"], other.data["cost_microusd"]) == ("a list", 0)


def test_an_agreed_price_is_enough_for_a_cost_ceiling(ledger) -> None:
    assert settle(opened(ledger, None), ask(), input_tokens=1, output_tokens=1).data["cost_microusd"] == 18


def test_a_call_is_reserved_at_the_dearest_rate_that_could_apply_and_settled_at_its_own(ledger) -> None:
    session = opened(ledger)
    small = session.admit(ask("hello", 100))
    assert small.reserved.cost_microusd == -(-small.input_bound * 375 // 100) + 1_500
    large = session.admit(ask("x" * 200_001, 100))
    assert large.reserved.cost_microusd == large.input_bound * 6 + 2_250
    row = session.settle(large, read_reply(make_reply("ok", input_tokens=200_000, output_tokens=2))).row
    assert row.data["cost_microusd"] == 600_030
    longer = settle(session, ask("y" * 200_001, 100), input_tokens=200_001, output_tokens=2)
    assert longer.data["cost_microusd"] == 1_200_051


def test_a_price_is_frozen_with_the_spec(ledger) -> None:
    opened(ledger).leave()
    cheaper = Price(model="m", source="a contract", as_of="2026-11-27", tiers=((0, SMALL),))
    with pytest.raises(SpecError, match="a spec is frozen"):
        a_session(ledger, limits=CEILING, terms=made(prices=(cheaper,)).terms(), tokens=10**6)
    row = ledger.find_spec(SPEC.session_id)
    assert row is not None
    assert row.data["terms"]["prices"][0]["tiers"][1]["from"] == 200_001
