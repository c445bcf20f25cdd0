from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.balance import Amounts, Balance, Ceilings
from donewhen.entry import GENESIS, KINDS, Entry, place
from donewhen.errors import LedgerFormatError
from donewhen.fold import fold, reserved_by

NOW = "2026-01-01T12:00:00+00:00"

# -- the fold ----------------------------------------------------------------------------------------------------------

OPEN = Entry(kind="open", session_id="s", state_origin="open", data={"ceilings": [9, 99, None, None, None, None]})


def an_entry(kind: str, **data: Any) -> Entry:
    tokens = data.pop("tokens", 0)
    return Entry(kind=kind, session_id="s", state_origin=kind, token_delta=tokens, data=data)


def test_opening_gives_the_ceilings_and_opening_again_changes_nothing() -> None:
    opened = fold((), OPEN, None, NOW)
    assert opened == (Balance("s", ceilings=Ceilings(9, 99)),)
    again = fold(opened, an_entry("open", ceilings=[1] * 6), None, NOW)
    assert again == opened


def test_a_raise_changes_the_innermost_ceilings_alone() -> None:
    outer, own = Balance("team", Amounts(5)), Balance("s", Amounts(1, 2, 3, 4), Amounts(5, 6, 7, 8), Ceilings(1, 2))
    raised = fold((outer, own), an_entry("budget", ceilings=[7, 8, None, None, None, 3]), None, NOW)
    assert raised == (outer, Balance("s", own.spent, own.reserved, Ceilings(7, 8, None, None, None, 3)))


@pytest.mark.parametrize("kind", sorted(KINDS - {"open", "budget", "reserve", "halt"}))
def test_a_row_that_closes_nothing_moves_nothing(kind) -> None:
    before = (Balance("s", Amounts(1, 2, 3, 4), Amounts(5, 6, 7, 8)),)
    assert fold(before, an_entry(kind, tokens=99), None, NOW) == before


def test_a_reply_moves_its_reservation_to_what_was_spent_on_every_budget() -> None:
    held = Amounts(1, 50, 100, 0)
    before = (Balance("team", Amounts(5), held + held), Balance("s", Amounts(), held))
    tools = [{"run": True}, {"run": False}, {"run": True}]
    team, own = fold(before, an_entry("llm", tokens=30, cost_microusd=70, tools=tools), held, NOW)
    assert (own.spent, own.reserved) == (Amounts(1, 30, 70, 2), Amounts())
    assert (team.spent, team.reserved) == (Amounts(6, 30, 70, 2), held)


def test_an_error_gives_its_reservation_back() -> None:
    held = Amounts(1, 50, 100, 0)
    (own,) = fold((Balance("s", Amounts(), held),), an_entry("error"), held, NOW)
    assert own.used == Amounts()


def test_a_cost_that_is_not_known_stays_unknown() -> None:
    held = Amounts(1, 50, None, 0)
    (reserved,) = fold(fold((), OPEN, None, NOW), an_entry("reserve", reserve=held.as_list()), None, NOW)
    assert reserved.used.cost_microusd is None
    (settled,) = fold((reserved,), an_entry("llm", tokens=3, cost_microusd=5), held, NOW)
    assert settled.used.cost_microusd is None


BAD_AMOUNTS = [
    an_entry("open"),
    an_entry("open", ceilings=[1]),
    an_entry("open", ceilings=None),
    an_entry("open", ceilings=[-1] * 6),
    an_entry("budget", ceilings=[True] * 6),
    an_entry("budget"),
    an_entry("reserve"),
    an_entry("reserve", reserve=[1, 2]),
    an_entry("reserve", reserve=[1, -2, 0, 0]),
    an_entry("reserve", reserve=[1, 2.5, 0, 0]),
    an_entry("reserve", reserve=["1", 2, 0, 0]),
    an_entry("reserve", reserve=[None, 2, 0, 0]),
    an_entry("llm"),
    an_entry("llm", cost_microusd=-1),
    an_entry("llm", cost_microusd=1.5),
    an_entry("llm", cost_microusd=1, tokens=-5),
    an_entry("llm", cost_microusd=1, tools=[{}]),
    an_entry("llm", cost_microusd=1, tools=[1]),
]


@pytest.mark.parametrize("entry", BAD_AMOUNTS, ids=str)
def test_amounts_that_cannot_be_read_are_refused(entry) -> None:
    before = () if entry.kind == "open" else (Balance("s", Amounts(1, 5, 5, 0), Amounts(1, 5, 5, 0)),)
    with pytest.raises(LedgerFormatError):
        fold(before, entry, Amounts(1, 5, 5, 0) if entry.kind == "llm" else None, NOW)


@pytest.mark.parametrize("entry", [an_entry("reserve", reserve=[1, 2, 3, 0]), an_entry("budget", ceilings=[1] * 6)])
def test_nothing_can_be_reserved_or_raised_before_the_session_is_open(entry) -> None:
    with pytest.raises(LedgerFormatError):
        fold((), entry, None, NOW)


@pytest.mark.parametrize("amounts", [[1, 2], [1, -2, 0, 0], [1, None, 0, 0], "1234"])
def test_what_a_reservation_holds_is_read_strictly(amounts) -> None:
    row, _ = place(an_entry("reserve", reserve=amounts), row_id=1, seq=1, prev=GENESIS, at="", after=())
    with pytest.raises(LedgerFormatError):
        reserved_by(row)


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "settle", "settle above", "release", "abandon", "raise", "note"]),
        st.integers(0, 5),
        st.integers(0, 1000),
    ),
    max_size=40,
)


@given(ACTS)
def test_spend_is_never_less_than_what_was_truly_used(acts) -> None:
    """A provider bills a call when it is sent; what is neither settled nor released may have been billed in full."""
    balances, open_ones, billed = fold((), OPEN, None, NOW), [], 0
    for act, which, tokens in acts:
        held = open_ones[which % len(open_ones)] if open_ones else None
        if act == "reserve":
            amounts = Amounts(1, tokens, tokens * 2, 0)
            balances = fold(balances, an_entry("reserve", reserve=amounts.as_list()), None, NOW)
            open_ones.append(amounts)
        elif act == "raise":
            balances = fold(balances, an_entry("budget", ceilings=[which] * 6), None, NOW)
        elif act in ("abandon", "note") or held is None:
            balances = fold(balances, an_entry("abandoned" if act == "abandon" else "tool"), None, NOW)
        else:
            open_ones.remove(held)
            used = held.tokens + tokens if act == "settle above" else held.tokens // 2
            kind = "error" if act == "release" else "llm"
            billed += 0 if act == "release" else used
            balances = fold(balances, an_entry(kind, tokens=used, cost_microusd=2 * used), held, NOW)
        (own,) = balances
        most_billed = billed + sum(amounts.tokens for amounts in open_ones)
        assert own.used.tokens == most_billed
        assert own.used.cost_microusd == 2 * most_billed
        assert own.spent.tokens == billed
