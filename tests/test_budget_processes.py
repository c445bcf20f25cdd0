"""One budget, many processes, some of them killed: what the provider itself counts never passes it, none is refused in vain.

The provider is an HTTP server on loopback, and the processes call it through the official SDK under `guard`. Before it
answers, it holds the ledger against what it has served by then; see tests/crowd.py.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from crowd import LEAST_CALL, Crowds, Town
from stores.kit import STORES, postgres_url

from donewhen.testing import ProviderRequest

BUDGET = 20_000
DEATHS = 150
NOON = datetime(2026, 3, 28, 12, tzinfo=timezone.utc)

pytestmark = pytest.mark.skipif(not hasattr(signal, "sigtimedwait"), reason="no fork, or no such wait, there")


@pytest.fixture(params=sorted(STORES))
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the ledger of a test is."""
    place = tmp_path / "ledger.db"
    return postgres_url(place) if request.param == "postgres" else str(place)


@pytest.fixture(scope="module")
def crowds() -> Iterator[Crowds]:
    with Crowds() as crowds:
        yield crowds


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """A file with the time of all processes."""
    return tmp_path / "clock"


@pytest.fixture
def town(path: str, clock: Path, crowds: Crowds) -> Iterator[Town]:
    with Town(path, clock, crowds) as town:
        yield town


def test_sixteen_processes_use_a_budget_up_and_never_pass_it(town: Town) -> None:
    for number in range(1, 6):
        name = f"acme-{number}"
        town.ledger.new_budget(name, tokens=BUDGET, who="ann")
        town.cuts_every = 40 if number == 5 else 0  # in the last round some connections are cut, and are in doubt
        refusals, _ = town.crowd(*[name] * 16, most_tokens=800)
        assert refusals == [(name, f"budget:{name}:token_ceiling")] * 16
        town.assert_used_up(name)
        assert (town.balance(name).reserved.tokens > 0) == (number == 5)


def test_a_hundred_and_fifty_processes_that_are_killed_in_admit_call_and_settle_pass_no_budget(town: Town) -> None:
    town.ledger.new_budget("acme", tokens=BUDGET, who="ann")
    town.ledger.new_budget("acme/support", who="ann")  # which sets no ceiling of its own
    refusals, died = town.crowd(*["acme/support"] * 8, deaths=DEATHS, raised="acme", step=5_000)
    assert {reason for _, reason in refusals} == {"budget:acme:token_ceiling"}
    assert sum(died.values()) == DEATHS
    assert min(died["admit"], died["call"], died["settle"]) >= DEATHS // 10
    doubt = town.balance("acme").reserved
    assert doubt.turns >= died["call"] > 0  # each of those left a call of which nobody knows what came
    town.assert_used_up("acme")


def test_each_level_of_a_tree_binds_in_its_time(town: Town) -> None:
    town.ledger.new_budget("acme", tokens=12_000, who="ann")
    town.ledger.new_budget("acme/support", tokens=6_000, who="ann")
    town.ledger.new_budget("acme/support/night", turns=9, who="ann")
    town.ledger.new_budget("acme/sales", cost_microusd=3_000, who="ann")
    leaves = ("acme/support", "acme/support/night", "acme/sales")
    refusals, _ = town.crowd(*leaves * 3)
    assert Counter(refusals) == {
        ("acme/support", "budget:acme/support:token_ceiling"): 3,
        ("acme/support/night", "budget:acme/support/night:turn_ceiling"): 3,
        ("acme/sales", "budget:acme/sales:cost_ceiling"): 3,
    }
    town.assert_used_up("acme/support")
    # A level is raised, and the next one binds; then the one above both.
    town.ledger.change_budget("acme/support/night", {"turns": 99}, why="a long night", who="ann")
    refusals, _ = town.crowd(*["acme/support/night"] * 3)
    assert refusals == [("acme/support/night", "budget:acme/support:token_ceiling")] * 3
    for budget, changes in {"acme/support": {"tokens": BUDGET}, "acme/sales": {"cost_microusd": None}}.items():
        town.ledger.change_budget(budget, changes, why="more to do", who="ann")
    refusals, _ = town.crowd(*leaves * 3)
    assert Counter(refusals) == dict.fromkeys([(leaf, "budget:acme:token_ceiling") for leaf in leaves], 3)
    town.assert_used_up("acme")
    for leaf in leaves:
        town.assert_held(leaf)
    assert town.served("acme/support") + town.served("acme/sales") == town.served()


@pytest.mark.parametrize(("per", "step"), [("day", timedelta(hours=24)), ("hours:2", timedelta(hours=2, minutes=5))])
def test_a_period_that_ends_while_processes_call_gives_each_period_its_own(
    town: Town, per: str, step: timedelta
) -> None:
    town.set_clock(NOON)
    town.ledger.new_budget("acme", tokens=6_000, per=per, who="ann")

    def half_way(_request: ProviderRequest) -> None:
        with town.one_by_one:
            if town.since == 0 and town.served() > 3_000:
                town.set_clock(NOON + step)
                # Others are on their way, reserved in one period and settled in the next. Whoever comes now is of this.
                town.since = len(town.provider.requests)

    town.before_each = half_way
    refusals, _ = town.crowd(*["acme"] * 8)
    assert refusals == [("acme", "budget:acme:token_ceiling")] * 8
    in_the_first = town.served_in_all() - town.served()
    assert 3_000 < in_the_first <= 6_000
    town.assert_held("acme")
    assert 6_000 - town.balance("acme").used_tokens < LEAST_CALL
    # And once more, when nobody is on the way: all of it is there again.
    town.since = len(town.provider.requests)
    town.set_clock(NOON + 2 * step)
    town.crowd(*["acme"] * 4)
    town.assert_used_up("acme")


def test_a_budget_that_is_lowered_below_what_is_spent_lets_no_further_call_go(town: Town) -> None:
    town.ledger.new_budget("acme", tokens=BUDGET, who="ann")
    came, lowered, is_lowered, one_by_one = [], [], threading.Event(), threading.Lock()

    def lower(request: ProviderRequest) -> None:
        """Let some calls come together, then lower the budget while they are under way."""
        if town.served() < 4_000:
            return
        with one_by_one:
            came.append(request.number)
            if len(came) == 4:
                town.is_held = False
                lowered.append(town.ledger.change_budget("acme", {"tokens": 1_000}, why="too much", who="ann"))
                is_lowered.set()
        assert is_lowered.wait(60)

    town.before_each = lower
    refusals, _ = town.crowd(*["acme"] * 8)
    assert refusals == [("acme", "budget:acme:token_ceiling")] * 8
    (row,) = lowered
    balance = town.balance("acme")
    assert row.after[0].reserved.turns >= 4  # of as many processes, and each of them was served
    assert (balance.spent.tokens, balance.reserved.tokens) == (town.served(), 0)
    assert 4_000 < town.served() <= row.after[0].used_tokens
    assert [entry for entry in town.ledger.iter_rows() if entry.kind == "reserve" and entry.id > row.id] == []
    # Raised above what is spent, it lets go what there is room for, and no more.
    town.is_held, town.before_each = True, lambda _request: None
    town.ledger.change_budget("acme", {"tokens": balance.spent.tokens + 1_000}, why="a little more", who="ann")
    town.crowd(*["acme"] * 8)
    town.assert_used_up("acme")
