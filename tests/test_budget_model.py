"""Budgets, children, periods and halts against a second opinion, in any order of events, through two ledgers at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from budget_model import COST, TOKENS, TURNS, Call, Level, Model, Refusal, Sums, cost_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sessions import ask
from stores.kit import STORES

from donewhen.balance import Balance
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import Failure, Reply, read_reply
from donewhen.errors import CircuitBreakerError, HaltedError, PermitClosedError
from donewhen.ledger import Ledger
from donewhen.opening import open_session
from donewhen.reconcile import Found, iter_in_doubt, reconcile
from donewhen.session import Session
from donewhen.spec_writer import SpecResult
from donewhen.stores import Store
from donewhen.usage import Price, Rates, Usage
from donewhen.verify import verify_ledger

TREE = ("a", "a/b", "a/b/c", "a/d", "e")
PERIODS = (
    (None, "UTC"),
    ("day", "UTC"),
    ("day", "Europe/Berlin"),
    ("day", "America/New_York"),
    ("day", "Pacific/Apia"),
    ("day", "Asia/Kathmandu"),
    ("month", "Australia/Lord_Howe"),
    ("hours:2", "UTC"),
    ("hours:30", "UTC"),
)
STEPS = tuple(
    timedelta(minutes=minutes) for minutes in (0, 1, 7, 55, 125, 301, 24 * 60, 25 * 60, 31 * 60, 40 * 24 * 60, -1, -90)
)
BEFORE_DST = datetime(2026, 3, 28, 22, 30, tzinfo=timezone.utc)
"""Half an hour before a day of 23 hours begins in Berlin."""

MILLION = 1_000_000
RATES = Rates(input=MILLION, output=3 * MILLION, cache_read=MILLION, cache_write=MILLION)
PRICE = Price(model="m", tiers=((0, RATES),), source="this test", as_of="2026-01-01")
FAILED = Failure(rejected=True, problem="refused", status=429)

PICKS = st.integers(0, 1000)
CEILINGS = st.tuples(
    st.none() | st.integers(0, 20),
    st.none() | st.integers(0, 4000),
    st.none() | st.integers(0, 9000),
).map(list)
ASKS = st.lists(st.tuples(PICKS, st.integers(1, 60), st.integers(1, 400)), min_size=1, max_size=5)
"""(which session, how long a text, how long an answer)."""


def a_reply(given: int, made: int) -> Reply:
    usage = SimpleNamespace(input_tokens=given, output_tokens=made)
    return read_reply(SimpleNamespace(content=[], stop_reason="end_turn", usage=usage))


class Budgets(RuleBasedStateMachine):
    """Two ledgers of one store, as two processes have them, and a model beside them."""

    opening: Callable[..., Store] = staticmethod(STORES["sqlite"])

    @initialize(ceilings=st.lists(CEILINGS, min_size=7, max_size=7), period=st.sampled_from(PERIODS))
    def begin(self, ceilings: list[list[int | None]], period: tuple[str | None, str]) -> None:
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name, "ledger.db")
        self.now = BEFORE_DST
        self.model = Model()
        self.sessions: dict[str, Session] = {}
        self.specs: dict[str, tuple[SpecResult, dict[str, Any]]] = {}
        self.ledgers = [self._open(), self._open()]
        for number, name in enumerate(("a", "a/b")):
            self._begin_budget(name, number, ceilings[number], period)
        for number, budget in enumerate(("a", "a/b", "a/b", None)):
            self._begin_session(self.ledger(number), self.model.above(budget), ceilings[2 + number], {"budget": budget})
        self.open_a_child(1, ceilings[6])

    def _open(self) -> Ledger:
        store = type(self).opening(self.path, now=lambda: self.now)
        return Ledger(self.path, store=store, now=lambda: self.now)

    # -- what there is ---------------------------------------------------------------------------------------------

    @rule(pick=PICKS, ceilings=CEILINGS, period=st.sampled_from(PERIODS))
    def begin_a_budget(self, pick: int, ceilings: list[int | None], period: tuple[str | None, str]) -> None:
        free = [
            one for one in TREE if one not in self.model.budgets and one.rpartition("/")[0] in {"", *self.model.budgets}
        ]
        if free:
            self._begin_budget(free[pick % len(free)], pick, ceilings, period)

    def _begin_budget(self, name: str, pick: int, ceilings: list[int | None], period: tuple[str | None, str]) -> None:
        (turns, tokens, cost), (per, zone) = ceilings, period
        self.ledger(pick).new_budget(
            name, turns=turns, tokens=tokens, cost_microusd=cost, per=per, zone=zone, who="ann"
        )
        self.model.budgets[name] = Level(name, ceilings, per, zone)
        self.model.budgets[name].touch(self.now)

    @rule(pick=PICKS, under=PICKS, ceilings=CEILINGS)
    def open_a_session(self, pick: int, under: int, ceilings: list[int | None]) -> None:
        budget = [None, *self.model.budgets][under % (1 + len(self.model.budgets))]
        self._begin_session(self.ledger(pick), self.model.above(budget), ceilings, {"budget": budget})

    @precondition(lambda self: self.sessions)
    @rule(pick=PICKS, ceilings=CEILINGS)
    def open_a_child(self, pick: int, ceilings: list[int | None]) -> None:
        parent = self.session(pick)
        path = self.model.paths[parent.session_id]
        self._begin_session(parent.ledger, path, ceilings, {"parent": parent.session_id})

    def _begin_session(self, ledger: Ledger, above: list[Level], ceilings: list[int | None], where: Any) -> None:
        if len(self.sessions) == 8:
            return
        turns, tokens, _ = ceilings = [
            MILLION if ceilings[0] is None else ceilings[0],
            ceilings[1] or MILLION,
            ceilings[2],
        ]
        name = f"s{len(self.sessions)}"
        spec = SpecResult("a", "b", "c", name)
        self.specs[name] = (spec, {**where, "ceilings": ceilings})
        self.sessions[name] = self._open_session(ledger, name)
        own = Level(name, [turns, tokens, ceilings[2]], is_session=True)
        self.model.paths[name] = [*above, own]
        self.model.touch(above, self.now)

    def _open_session(self, ledger: Ledger, name: str) -> Session:
        spec, where = self.specs[name]
        turns, tokens, cost = where["ceilings"]
        breaker = CircuitBreaker(turns, tokens, cost_limit_microusd=cost, output_fn=lambda _notice: None)
        options: dict[str, Any] = {"find_price": lambda _model: PRICE}
        if "parent" in where:
            return open_session(spec, breaker, ledger, parent=self.sessions[where["parent"]], **options)
        return open_session(spec, breaker, ledger, budget=where["budget"], **options)

    def ledger(self, pick: int) -> Ledger:
        return self.ledgers[pick % 2]

    def session(self, pick: int) -> Session:
        return list(self.sessions.values())[pick % len(self.sessions)]

    def call(self, pick: int) -> Call:
        return self.model.open[pick % len(self.model.open)]

    # -- calls -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.sessions)
    @rule(asks=ASKS)
    def ask(self, asks: list[tuple[int, int, int]]) -> None:
        for pick, length, most in asks:
            session = self.session(pick)
            admit = partial(session.admit, ask("x" * length, most))
            self._ask(session, length, most, 1, admit)

    def _ask(self, session: Session, length: int, most: int, turns: int, admit: Callable[[], Any]) -> None:
        path = self.model.paths[session.session_id]
        if self.model.is_stopped(path):
            with pytest.raises(HaltedError):
                admit()
            return
        judged = self.model.judge(path, length, most, turns, self.now)
        self.model.touch(path, self.now)
        if isinstance(judged, Refusal):
            with pytest.raises(CircuitBreakerError) as caught:
                admit()
            self._assert_refused(caught.value, judged)
        else:
            self._granted(path, judged, admit())

    def _granted(self, path: list[Level], judged: Sums, permit: Any) -> None:
        amounts = permit.reserved
        assert (amounts.turns, amounts.tokens, amounts.cost_microusd) == judged
        self.model.open.append(Call(path, judged, permit))

    def _assert_refused(self, error: CircuitBreakerError, judged: Refusal) -> None:
        breach = error.breach
        assert breach is not None
        holders = tuple((one.session_id, one.reserved) for one in breach.holders)
        found = Refusal(breach.reason, breach.spent, breach.reserved, breach.asked, holders)
        assert found == judged

    @precondition(lambda self: self.model.open)
    @rule(pick=PICKS, share=st.floats(0, 1), length=st.integers(1, 60), most=st.integers(1, 400), goes_on=st.booleans())
    def settle(self, pick: int, share: float, length: int, most: int, goes_on: bool) -> None:
        """Settle a call, and perhaps ask for the next in the same transaction."""
        call = self.call(pick)
        session, permit = self.sessions[call.session.name], call.permit
        given, made = (max(1, int(most * share)) for most in (permit.input_bound, permit.request.max_tokens))
        then = ask("y" * length, most) if goes_on else None
        self.model.close(call, (call.reserved[TURNS], given + made, cost_of(given, made)), self.now)
        if then is None:
            assert session.settle(permit, a_reply(given, made)).breach is None
        else:
            self._ask_next(session, length, most, lambda: session.settle(permit, a_reply(given, made), then=then))
        with pytest.raises(PermitClosedError):
            session.settle(permit, a_reply(given, made))

    def _ask_next(self, session: Session, length: int, most: int, settle: Callable[[], Any]) -> None:
        path = self.model.paths[session.session_id]
        if self.model.is_stopped(path):
            with pytest.raises(HaltedError):
                settle()
            return
        judged = self.model.judge(path, length, most, 1, self.now)
        settlement = settle()
        if isinstance(judged, Refusal):
            self._assert_refused(settlement.breach, judged)
        else:
            self._granted(path, judged, settlement.permit)

    @precondition(lambda self: self.model.open)
    @rule(pick=PICKS, again=st.booleans())
    def release(self, pick: int, again: bool) -> None:
        """Give a call back, and perhaps try its turn again."""
        call = self.call(pick)
        session = self.sessions[call.session.name]
        if call.is_doubted:
            with pytest.raises(PermitClosedError):
                session.release(call.permit, FAILED)
            return
        session.release(call.permit, FAILED)
        self.model.close(call, None, self.now)
        if again:
            turns = 0 if call.reserved[TURNS] == 0 else 1
            self._ask(session, 1, 20, turns, lambda: session.admit(ask("x", 20), retry_of=call.permit))

    @precondition(lambda self: self.model.open)
    @rule(pick=PICKS, again=st.booleans())
    def abandon(self, pick: int, again: bool) -> None:
        """Say that nobody knows what came of a call, and perhaps try its turn again."""
        call = self.call(pick)
        session = self.sessions[call.session.name]
        if call.is_doubted:
            with pytest.raises(PermitClosedError):
                session.abandon(call.permit, FAILED)
            return
        session.abandon(call.permit, FAILED)
        call.is_doubted = True
        self.model.touch(call.path, self.now)
        if again:
            self._ask(session, 1, 20, 0, lambda: session.admit(ask("x", 20), retry_of=call.permit))

    @precondition(lambda self: self.model.open)
    @rule(pick=PICKS, share=st.none() | st.floats(0, 2))
    def reconcile(self, pick: int, share: float | None) -> None:
        """A person says what a call used, or that it did no work; the reply that comes after all changes nothing."""
        call = self.call(pick)
        session, permit, ledger = self.sessions[call.session.name], call.permit, self.ledger(pick)
        wanted = (call.session.name, permit.seq)
        (found,) = [one for one in iter_in_doubt(ledger) if (one.session_id, one.row.seq) == wanted]
        given, made = (int(most * (share or 0)) for most in (permit.input_bound, permit.request.max_tokens))
        told = Found() if share is None else Found(usage=Usage(given, made))
        reconcile(ledger, found, told, who="ann", why="the bill", force=True, find_price=lambda _model: PRICE)
        self.model.close(call, (call.reserved[TURNS], given + made, cost_of(given, made)), self.now)
        with pytest.raises(PermitClosedError):
            session.settle(permit, a_reply(1, 1))
        self.model.touch(call.path, self.now)

    # -- people ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.budgets)
    @rule(pick=PICKS, ceilings=CEILINGS)
    def change_a_budget(self, pick: int, ceilings: list[int | None]) -> None:
        level = list(self.model.budgets.values())[pick % len(self.model.budgets)]
        changes = {"turns": ceilings[TURNS], "tokens": ceilings[TOKENS], "cost_microusd": ceilings[COST]}
        self.ledger(pick).change_budget(level.name, changes, why="so", who="ann")
        level.ceilings = ceilings
        level.touch(self.now)

    @precondition(lambda self: self.sessions)
    @rule(pick=PICKS, turns=st.integers(0, 12), tokens=st.integers(0, 1500), cost=st.none() | st.integers(0, 3000))
    def change_a_session(self, pick: int, turns: int, tokens: int, cost: int | None) -> None:
        path = self.model.paths[self.session(pick).session_id]
        changes = {"turns": turns, "tokens": tokens, "cost_microusd": cost}
        self.ledger(pick).raise_ceilings(path[-1].name, changes, why="so", who="ann")
        path[-1].ceilings = [turns, tokens, cost]
        self.model.touch(path, self.now)

    @rule(pick=PICKS, asks=ASKS, stays=st.sampled_from([False, False, False, True]))
    def halt(self, pick: int, asks: list[tuple[int, int, int]], stays: bool) -> None:
        """Halt something and ask for calls; then, mostly, lift it again."""
        levels = [None, *self.model.levels()]
        level = levels[pick % len(levels)]
        for on in (True, False):
            order = self.ledger(pick).halt if on else self.ledger(pick).lift_halt
            if level is None:
                order(everything=True, why="so", who="ann")
                self.model.is_halted = on
            else:
                named = {} if level.is_session else {"budget": level.name}
                order(level.name if level.is_session else None, **named, why="so", who="ann")
                level.halted = on
                self.model.touch(self.model.paths.get(level.name, [level]), self.now)
            if stays:
                return
            if on:
                self.ask(asks)

    @rule(step=st.sampled_from(STEPS))
    def wait(self, step: timedelta) -> None:
        self.now += step

    # -- crashes ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: not any(level.halted for level in self.model.levels()))
    @rule()
    def begin_again(self) -> None:
        """Everything that the processes knew is gone; others open the sessions again, parents first."""
        for session in self.sessions.values():
            session.leave()
        for ledger in self.ledgers:
            ledger.close()
        self.ledgers = [self._open(), self._open()]
        for number, name in enumerate(list(self.sessions)):
            parent = self.specs[name][1].get("parent")
            ledger = self.ledger(number) if parent is None else self.sessions[parent].ledger
            self.sessions[name] = self._open_session(ledger, name)
            self.model.touch(self.model.paths[name], self.now)
        for call in self.model.open:
            call.is_doubted = True

    # -- what must be so after each ----------------------------------------------------------------------------------

    @invariant()
    def the_ledger_says_the_same(self) -> None:
        for number, level in enumerate(self.model.levels() if hasattr(self, "model") else ()):
            balance = self._balance(level, self.ledger(number))
            spent, reserved, ceilings = balance.spent, balance.reserved, balance.ceilings
            at = self.now
            assert (spent.turns, spent.tokens, spent.cost_microusd) == level.spent(at), level.name
            assert (reserved.turns, reserved.tokens, reserved.cost_microusd) == self.model.reserved(level), level.name
            assert [ceilings.turns, ceilings.tokens, ceilings.cost_microusd] == level.ceilings
            assert balance.halted == level.halted

    def _balance(self, level: Level, ledger: Ledger) -> Balance:
        balance = ledger.store.find_balance(level.name) if level.is_session else ledger.find_budget(level.name)
        assert balance is not None
        return balance

    def teardown(self) -> None:
        with suppress(AttributeError):  # nothing was begun
            path = self.ledgers[0].path
            for session in self.sessions.values():
                session.leave()
            for ledger in self.ledgers:
                ledger.close()
            verify_ledger(path, None)
            self.folder.cleanup()


@pytest.mark.parametrize("name", sorted(STORES))
def test_whatever_happens_the_ledger_and_a_second_opinion_agree(name: str) -> None:
    machine = type("BudgetsOn", (Budgets,), {"opening": staticmethod(STORES[name])})
    run_state_machine_as_test(machine, settings=settings(max_examples=15, stateful_step_count=40, deadline=None))
    assert machine.opening is STORES[name]
