"""Budgets that sessions share: reserved on every level, refused outermost first, and none is ever passed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from sessions import ask, calls_of
from stores.kit import STORES, run

from donewhen.agent_loop import AgentLoop
from donewhen.balance import Amounts, Holder
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import Failure, Reply, read_reply
from donewhen.errors import (
    BudgetNotFoundError,
    CircuitBreakerError,
    HaltedError,
    LedgerError,
    PriceUnknownError,
    SessionNotFoundError,
    SpecError,
)
from donewhen.ledger import Ledger
from donewhen.opening import open_session
from donewhen.session import Session
from donewhen.spec_writer import SpecResult
from donewhen.testing import ScriptedClient, make_reply
from donewhen.verify import verify_ledger

LEAST_CALL = len("x") + 32 + 16
"""What a call of these tests needs at least: its text, its overhead, and the least useful answer."""

NOON = datetime(2026, 3, 28, 12, tzinfo=timezone.utc)


class House:
    """A ledger with a clock that is moved by hand."""

    def __init__(self, open_ledger: Callable[..., Ledger]) -> None:
        self.now = NOON
        self.ledger = open_ledger(now=lambda: self.now)

    def budget(self, name: str, **options: Any) -> None:
        self.ledger.new_budget(name, who="ann", **options)

    def session(self, name: str, budget: str | None = None, *, tokens: int = 10**6, **options: Any) -> Session:
        breaker = CircuitBreaker(1_000, tokens, output_fn=lambda _notice: None)
        return open_session(SpecResult("a", "b", "c", name), breaker, self.ledger, budget=budget, **options)

    def used(self, name: str) -> int:
        balance = self.ledger.find_budget(name)
        assert balance is not None
        return balance.used_tokens


@pytest.fixture(params=sorted(STORES))
def house(request, tmp_path) -> Iterator[House]:
    opened: list[Ledger] = []

    def open_ledger(**options: Any) -> Ledger:
        store = STORES[request.param](tmp_path / "ledger.db", **options)
        opened.append(Ledger(tmp_path / "ledger.db", store=store, **options))
        return opened[-1]

    yield House(open_ledger)
    for ledger in opened:
        path = ledger.path
        ledger.close()
        verify_ledger(path, None)  # whatever a test did: the auditor finds the same balances


def spend(session: Session, tokens: int, **options: Any) -> int:
    """Make one call that uses so many tokens, or all that it was allowed, and return how many."""
    permit = session.admit(ask("x", 100, **options))
    used = min(tokens, permit.reserved.tokens)
    session.settle(permit, a_reply(used))
    return used


def a_reply(tokens: int) -> Reply:
    usage = SimpleNamespace(input_tokens=1, output_tokens=tokens - 1)
    return read_reply(SimpleNamespace(content=[], stop_reason="end_turn", usage=usage))


def refused(session: Session, **options: Any) -> CircuitBreakerError:
    with pytest.raises(CircuitBreakerError) as caught:
        session.admit(ask("x", 100, **options))
    return caught.value


# -- one budget --------------------------------------------------------------------------------------------------------


def test_two_sessions_share_a_budget_and_the_second_finds_what_the_first_left(house) -> None:
    house.budget("acme", tokens=400)
    one, two = house.session("one", "acme"), house.session("two", "acme")
    spend(one, 100)
    spend(two, 130)
    assert house.used("acme") == 230
    held = two.admit(ask("x", 100))
    error = refused(one)
    assert error.reason == "budget:acme:token_ceiling"
    assert error.breach.holders == (Holder("two", held.reserved.tokens),)
    assert f"230 spent, {held.reserved.tokens} reserved" in str(error)
    assert f"two ({held.reserved.tokens})" in str(error)
    (row,) = [row for row in house.ledger.rows("one") if row.kind == "circuit_breaker"]
    assert row.breach_reason == "budget:acme:token_ceiling"
    assert row.data["holders"] == [{"reserved": held.reserved.tokens, "session": "two"}]


def test_a_session_refused_by_a_budget_goes_on_after_a_raise(house) -> None:
    house.budget("acme", tokens=10)
    client = ScriptedClient(make_reply("done"))
    loop = AgentLoop(
        SpecResult("a", "b", "c", "one"), CircuitBreaker(output_fn=lambda _: None), house.ledger, client, budget="acme"
    )
    result = loop.run("task")
    assert (result.outcome, result.breach_reason) == ("breached", "budget:acme:token_ceiling")
    assert loop.resume("task").outcome == "breached"
    house.ledger.change_budget("acme", {"tokens": 10_000}, why="it is worth it", who="ann")
    assert loop.resume("task").outcome == "done"
    assert house.used("acme") > 10


def test_a_budget_lowered_below_what_is_spent_admits_nothing_until_there_is_room(house) -> None:
    house.budget("acme", tokens=10_000)
    session = house.session("one", "acme")
    spend(session, 100)
    permit = session.admit(ask("x", 100))
    house.ledger.change_budget("acme", {"tokens": 50}, why="enough", who="ann")
    assert refused(session).breach.ceiling == 50
    reply = SimpleNamespace(content=[], stop_reason="end_turn", usage=SimpleNamespace(input_tokens=1, output_tokens=1))
    session.settle(permit, read_reply(reply))  # what was sent is charged all the same
    assert house.used("acme") == 102
    house.ledger.change_budget("acme", {"tokens": None}, why="as it was", who="ann")
    spend(session, 100)


def test_a_ceiling_on_cost_needs_a_known_price(house) -> None:
    house.budget("acme", cost_microusd=10**9)
    session = house.session("one", "acme")
    with pytest.raises(PriceUnknownError):
        session.admit(ask("x", 100))


def test_max_tokens_is_clamped_to_the_tightest_level(house) -> None:
    house.budget("acme", tokens=3_000)
    house.budget("acme/support", tokens=2_000)
    session = house.session("one", "acme/support", tokens=2_500)
    permit = session.admit(ask("x", 100_000))
    assert permit.reserved.tokens == 2_000
    session.release(permit, Failure(rejected=True, problem="busy"))
    house.ledger.change_budget("acme", {"tokens": 1_000}, why="w", who="ann")
    assert session.admit(ask("x", 100_000)).reserved.tokens == 1_000


@pytest.mark.parametrize(
    "name", ["", "/", "a/", "/a", "a//b", "a b", "a:b", "é\n", "x" * 201, "a/b/c/d/e/f/g/h/i", "a\0"]
)
def test_what_is_no_name_of_a_budget_is_refused(house, name) -> None:
    with pytest.raises(ValueError, match="name"):
        house.budget(name)


def test_a_budget_is_begun_once_and_under_one_that_is_there(house) -> None:
    with pytest.raises(BudgetNotFoundError, match="no budget acme"):
        house.budget("acme/support")
    house.budget("acme")
    house.budget("acme/support")
    with pytest.raises(LedgerError, match="already"):
        house.budget("acme")
    with pytest.raises(BudgetNotFoundError):
        house.ledger.change_budget("other", {"tokens": 1}, why="w", who="ann")
    assert [balance.budget for balance in house.ledger.budgets()] == ["acme", "acme/support"]


def test_an_unknown_budget_is_one_error_and_leaves_nothing(house) -> None:
    with pytest.raises(BudgetNotFoundError, match="donewhen budget new nobody"):
        house.session("one", "nobody")
    assert house.ledger.rows("one") == []


def test_where_a_session_stands_is_frozen(house) -> None:
    house.budget("acme")
    house.budget("other")
    house.session("one", "acme").leave()
    for budget in ("other", None):
        with pytest.raises(SpecError, match="opened under the budget acme"):
            house.session("one", budget)
    house.session("one", "acme")
    assert {balance.name for row in house.ledger.rows("one") for balance in row.after} == {
        "donewhen:budget:acme",
        "one",
    }


def test_a_session_named_like_a_budget_is_another_thing(house) -> None:
    house.budget("acme", tokens=1_000)
    spend(house.session("acme"), 500)
    assert house.used("acme") == 0


def test_erasing_what_a_session_kept_gives_its_budget_nothing_back(house) -> None:
    house.budget("acme", tokens=1_000, per="day")
    one, two = house.session("one", "acme"), house.session("two", "acme")
    one.settle(one.admit(ask("x", 100), texts={"request": "a secret"}), a_reply(100))
    spend(two, 130)
    one.leave()
    assert house.ledger.erase("one", who="ann", why="asked to").texts == 1
    assert house.used("acme") == 230
    house.now += timedelta(days=1)
    spend(two, 50)
    one = house.session("one", "acme")
    one.settle(one.admit(ask("x", 100), texts={"request": "another"}), a_reply(20))
    one.leave()
    house.ledger.erase("one", who="ann", why="asked to")
    assert house.used("acme") == 70


# -- levels ------------------------------------------------------------------------------------------------------------


def test_three_levels_bind_at_different_times_outermost_first(house) -> None:
    house.budget("acme", tokens=1_000)
    house.budget("acme/support", turns=3)
    house.budget("acme/sales", tokens=230)
    support, sales = house.session("one", "acme/support"), house.session("two", "acme/sales", tokens=240)
    for _ in range(3):
        spend(support, 100)
    assert refused(support).reason == "budget:acme/support:turn_ceiling"
    spend(sales, 100)
    spend(sales, 100)
    assert refused(sales).reason == "budget:acme/sales:token_ceiling"
    house.ledger.change_budget("acme/sales", {"tokens": 5_000}, why="w", who="ann")
    assert refused(sales).reason == "token_ceiling"
    house.ledger.change_budget("acme", {"tokens": 500}, why="w", who="ann")
    assert refused(sales).reason == refused(support).reason == "budget:acme:token_ceiling"


# -- periods -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per", "zone", "step"), [("day", "Europe/Berlin", 11), ("month", "UTC", 84), ("hours:1", "UTC", 2)]
)
def test_a_period_that_is_over_gives_its_spend_back_and_keeps_what_is_reserved(house, per, zone, step) -> None:
    house.budget("acme", tokens=300, per=per, zone=zone)
    session = house.session("one", "acme")
    spend(session, 130)
    held = session.admit(ask("x", 100))
    assert refused(session).reason == "budget:acme:token_ceiling"
    house.now += timedelta(hours=step)
    assert house.used("acme") == held.reserved.tokens
    spend(session, 100)
    assert house.used("acme") == held.reserved.tokens + 100


def test_a_clock_that_is_set_back_brings_no_older_period_back(house) -> None:
    house.budget("acme", tokens=500, per="day")
    house.budget("acme/last", tokens=500, per="hours:24")
    session = house.session("one", "acme/last")
    spend(session, 100)
    house.now += timedelta(hours=12)
    spend(session, 50)
    house.now -= timedelta(hours=13)
    spend(session, 25)
    assert house.used("acme") == 75
    assert house.used("acme/last") == 175


def test_a_rolling_period_counts_each_slice_until_all_of_it_is_out_of_the_window(house) -> None:
    house.budget("acme", tokens=10_000, per="hours:24")
    session = house.session("one", "acme")
    for _ in range(30):
        spend(session, 10)
        house.now += timedelta(hours=1)
    assert house.used("acme") == 240
    house.now += timedelta(hours=23, minutes=59)
    assert house.used("acme") == 10
    house.now += timedelta(minutes=2)
    assert house.used("acme") == 0
    assert max(len(row.after[0].period.slices) for row in house.ledger.rows("one") if row.after) <= 25


def test_a_day_of_a_zone_has_the_hours_that_it_has(house) -> None:
    house.budget("acme", per="day", zone="Europe/Berlin")
    house.now = datetime(2026, 3, 28, 23, tzinfo=timezone.utc)
    assert house.ledger.find_budget("acme").period.until == "2026-03-29T22:00:00+00:00"  # 23 hours: summer time begins


def test_an_unknown_zone_or_period_is_refused(house) -> None:
    hours = {"per": "hours:24", "zone": "Europe/Berlin"}
    unknown = {"per": "day", "zone": "Mars/Olympus"}
    for options in ({"per": "week"}, {"per": "hours:0"}, hours, {"zone": "Europe/Berlin"}, unknown):
        with pytest.raises(ValueError, match=r"per is|zone is|time zone .* is not known"):
            house.budget("acme", **options)


# -- children ----------------------------------------------------------------------------------------------------------


def promise(name: str) -> SpecResult:
    return SpecResult("a", "b", "c", name)


def test_a_child_never_has_more_than_its_parent_has_left(house) -> None:
    house.budget("acme", tokens=10_000)
    parent = house.session("parent", "acme", tokens=450)
    spend(parent, 100)
    child = parent.child(promise("child"))
    grandchild = child.child(promise("grandchild"), CircuitBreaker(9, 999_999, output_fn=lambda _: None))
    spend(child, 100)
    spend(grandchild, 100)
    held = parent.admit(ask("x", 100))
    error = refused(grandchild)
    assert error.reason == "parent:parent:token_ceiling"
    assert error.breach.holders == (Holder("parent", held.reserved.tokens),)
    assert refused(child).reason == "parent:parent:token_ceiling"
    assert refused(parent).reason == "token_ceiling"
    assert house.used("acme") == 300 + held.reserved.tokens
    house.ledger.raise_ceilings("parent", {"tokens": 1_000}, why="w", who="ann")
    spend(grandchild, 100)
    assert house.ledger.store.find_balance("parent").used_tokens == 400 + held.reserved.tokens
    assert house.ledger.store.find_balance("child").used_tokens == 300


def test_who_has_a_parents_ceiling_reserved_is_told_without_counting_anybody_twice(house) -> None:
    parent = house.session("parent", tokens=450)
    child = parent.child(promise("child"))
    grandchild = child.child(promise("grandchild"))
    held = {session.session_id: session.admit(ask("x", 60)).reserved.tokens for session in (parent, child, grandchild)}
    while True:
        error = None
        try:
            parent.admit(ask("x", 20))
        except CircuitBreakerError as caught:
            error = caught
        if error is not None:
            break
    holders = {one.session_id: one.reserved for one in refused(grandchild).breach.holders}
    assert holders.pop("parent") > held["parent"]
    assert holders == {"child": held["child"], "grandchild": held["grandchild"]}


def test_who_stands_above_a_ceiling_is_not_told_as_holding_it(house) -> None:
    grandparent = house.session("grandparent")
    parent = grandparent.child(SpecResult("a", "b", "c", "parent"), CircuitBreaker(9, 260, output_fn=lambda _: None))
    child = parent.child(SpecResult("a", "b", "c", "child"))
    grandparent.admit(ask("x", 200))
    held = parent.admit(ask("x", 200)).reserved.tokens
    error = refused(child)
    assert error.reason == "parent:parent:token_ceiling"
    assert error.breach.holders == (Holder("parent", held),)


def test_what_was_settled_just_now_is_not_told_as_reserved_by_a_parent(house) -> None:
    house.budget("acme", tokens=260)
    parent = house.session("parent", "acme")
    child = parent.child(SpecResult("a", "b", "c", "child"))
    permit = child.admit(ask("x", 200))
    settlement = child.settle(permit, a_reply(permit.reserved.tokens), then=ask("x", 200))
    assert settlement.breach is not None
    assert (settlement.breach.breach.reserved, settlement.breach.breach.holders) == (0, ())


def test_a_child_stands_where_it_was_opened(house) -> None:
    parent, other = house.session("parent"), house.session("other")
    parent.child(promise("child")).leave()
    with pytest.raises(SpecError, match="opened under the parent parent"):
        other.child(promise("child"))
    with pytest.raises(SpecError, match="opened under the parent parent"):
        house.session("child")
    with pytest.raises(SpecError, match="stands where its parent does"):
        parent.child(promise("another"), budget="acme")


def test_a_childs_time_ends_no_later_than_its_parents(house) -> None:
    breaker = CircuitBreaker(9, 9_999, seconds_limit=60, output_fn=lambda _: None)
    seconds = [0.0]
    parent = open_session(promise("parent"), breaker, house.ledger, monotonic=lambda: seconds[0])
    seconds[0] = 45.0
    assert parent.child(promise("child")).milliseconds_left() == 15_000
    roomy = CircuitBreaker(9, 9_999, seconds_limit=600, output_fn=lambda _: None)
    assert parent.child(promise("roomy"), roomy).milliseconds_left() == 15_000
    short = CircuitBreaker(9, 9_999, seconds_limit=5, output_fn=lambda _: None)
    assert parent.child(promise("short"), short).milliseconds_left() == 5_000


def test_a_loop_in_a_tool_of_another_is_its_child(house) -> None:
    results = []

    def delegate() -> str:
        inner = AgentLoop(
            promise("inner"),
            CircuitBreaker(output_fn=lambda _: None),
            house.ledger,
            ScriptedClient(make_reply("small answer")),
            parent=outer.session,
        )
        results.append(inner.run("part of it"))
        return "done"

    client = ScriptedClient(calls_of(("c1", "delegate", {})), make_reply("all done"))
    outer = AgentLoop(
        promise("outer"), CircuitBreaker(output_fn=lambda _: None), house.ledger, client, tools=[delegate]
    )
    result = outer.run("task")
    assert (result.outcome, results[0].outcome) == ("done", "done")
    assert result.total_tokens > results[0].total_tokens > 0
    assert [balance.name for balance in house.ledger.rows("inner")[-1].after] == ["outer", "inner"]


# -- halts -------------------------------------------------------------------------------------------------------------


def halted(session: Session) -> HaltedError:
    with pytest.raises(HaltedError) as caught:
        session.admit(ask("x", 100))
    return caught.value


@pytest.mark.parametrize(
    ("order", "told"),
    [
        ({"session_id": "one"}, "session one"),
        ({"budget": "acme"}, "the budget acme"),
        ({"budget": "acme/support"}, "the budget acme/support"),
        ({"everything": True}, "everything"),
    ],
)
def test_from_a_halt_on_nothing_is_admitted_until_it_is_lifted(house, order, told) -> None:
    house.budget("acme")
    house.budget("acme/support")
    session = house.session("one", "acme/support")
    under_way = session.admit(ask("x", 100))
    house.ledger.halt(**order, why="it runs wild", who="ann")
    assert str(halted(session)) == f"{told} was halted by ann: it runs wild"
    usage = SimpleNamespace(input_tokens=1, output_tokens=1)
    reply = read_reply(SimpleNamespace(content=[], stop_reason="end_turn", usage=usage))
    with pytest.raises(HaltedError):
        session.settle(under_way, reply, then=ask("y", 100))
    assert house.used("acme") == 2  # the reply is charged all the same
    house.ledger.lift_halt(**order, why="it is mended", who="ann")
    spend(session, 50)
    with pytest.raises(LedgerError, match=f"{told} is not halted"):
        house.ledger.lift_halt(**order, why="again", who="ann")


def test_a_halt_of_a_parent_halts_its_children(house) -> None:
    parent = house.session("parent")
    child = parent.child(promise("child"))
    house.ledger.halt("parent", why="w", who="ann")
    assert halted(child).whose == "session parent"
    house.ledger.lift_halt("parent", why="w", who="ann")
    house.ledger.halt("child", why="w", who="ann")
    halted(child)
    spend(parent, 10)


def test_a_halted_loop_ends_as_halted_and_goes_on_once_that_is_lifted(house) -> None:
    def look() -> str:
        house.ledger.halt("one", why="enough", who="ann")
        return "seen"

    client = ScriptedClient(calls_of(("c1", "look", {})), make_reply("all done"))
    loop = AgentLoop(
        promise("one"),
        CircuitBreaker(output_fn=lambda _: None),
        house.ledger,
        client,
        tools=[look],
        keep="conversation",
    )
    result = loop.run("task")
    assert (result.outcome, result.reason) == ("halted", "session one was halted by ann: enough")
    with pytest.raises(HaltedError):
        loop.resume()
    house.ledger.lift_halt("one", why="go on", who="ann")
    assert loop.resume().outcome == "done"
    assert len(client.calls) == 2


def test_a_halt_by_another_process_holds_here(house) -> None:
    session = house.session("one")
    spend(session, 10)
    script = (
        "import sys; from donewhen.ledger import Ledger\n"
        "with Ledger(sys.argv[1]) as ledger: ledger.halt(everything=True, why='now', who='ann')"
    )
    run(script, house.ledger.path)
    assert halted(session).whose == "everything"


def test_what_cannot_be_halted_is_told(house) -> None:
    with pytest.raises(ValueError, match="name one"):
        house.ledger.halt(why="w", who="ann")
    with pytest.raises(ValueError, match="name one"):
        house.ledger.halt("one", everything=True, why="w", who="ann")
    with pytest.raises(SessionNotFoundError):
        house.ledger.halt("one", why="w", who="ann")
    with pytest.raises(BudgetNotFoundError):
        house.ledger.halt(budget="acme", why="w", who="ann")
    with pytest.raises(ValueError, match="why is blank"):
        house.ledger.halt(everything=True, why=" ", who="ann")


# -- many at once ------------------------------------------------------------------------------------------------------


def test_eight_threads_on_one_budget_never_pass_it_and_none_is_refused_in_vain(house) -> None:
    house.budget("acme", tokens=5_000)
    served, lock = [0], threading.Lock()
    errors: list[Any] = []

    def work(number: int) -> None:
        session = house.session(f"s{number}", "acme")
        try:
            while True:
                used = spend(session, 90)
                with lock:
                    served[0] += used
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [error.reason for error in errors] == ["budget:acme:token_ceiling"] * 8
    assert 5_000 - LEAST_CALL < house.used("acme") == served[0] <= 5_000
    assert house.ledger.find_budget("acme").reserved == Amounts(0, 0, None, 0)
