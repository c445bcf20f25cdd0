from __future__ import annotations

import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.balance import CEILING_NAMES, DIMENSIONS, Amounts, Balance, Breach, Ceilings

INTS = st.integers(0, 2**53)
AMOUNTS = st.builds(Amounts, INTS, INTS, st.none() | INTS, INTS)


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_amounts_add_up_in_any_order(one, two, three) -> None:
    assert (one + two) + three == three + (two + one)
    assert one + Amounts() == one


@given(AMOUNTS, AMOUNTS)
def test_what_was_added_can_be_taken_away(one, two) -> None:
    back = (one + two) - two
    assert (back.turns, back.tokens, back.tool_calls) == (one.turns, one.tokens, one.tool_calls)
    assert back.cost_microusd == (one.cost_microusd if two.cost_microusd is not None else None)


@pytest.mark.parametrize("known", [Amounts(cost_microusd=5), Amounts()])
def test_a_cost_that_is_not_known_is_not_zero(known) -> None:
    unknown = Amounts(cost_microusd=None)
    for result in (known + unknown, unknown + known, known - unknown, unknown - known, unknown + unknown):
        assert result.cost_microusd is None


def test_the_order_in_a_row_is_the_order_of_the_fields() -> None:
    assert tuple(field.name for field in dataclasses.fields(Amounts)) == DIMENSIONS
    assert tuple(field.name for field in dataclasses.fields(Ceilings)) == CEILING_NAMES
    assert Amounts(1, 2, None, 4).as_list() == [1, 2, None, 4]
    assert Ceilings(1, 2, 3, 4, 5, 6).as_list() == [1, 2, 3, 4, 5, 6]


def test_no_ceiling_is_not_a_ceiling_of_zero() -> None:
    assert Ceilings().as_list() == [None] * 6
    assert Ceilings(turns=0) != Ceilings()


def test_spend_is_what_is_spent_and_what_is_reserved() -> None:
    assert Balance("s", Amounts(1, 2, 3, 4), Amounts(10, 20, 30, 40)).used == Amounts(11, 22, 33, 44)


@pytest.mark.parametrize(
    ("breach", "text"),
    [
        (Breach(reason="r", dimension="tokens", ceiling=9, spent=8), "8 spent, ceiling 9 tokens"),
        (
            Breach(reason="r", dimension="turns", ceiling=9, spent=8, reserved=1, asked=2),
            "8 spent, 1 reserved, 2 asked for, ceiling 9 turns",
        ),
    ],
)
def test_a_breach_says_its_arithmetic(breach, text) -> None:
    assert str(breach) == text
    assert pickle.loads(pickle.dumps(breach)) == breach
