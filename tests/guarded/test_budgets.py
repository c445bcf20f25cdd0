"""Guarded clients under budgets: what many sessions share is never passed, by the provider's own count."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from guarded.kit import WAYS, Desk
from stores.kit import STORES

from donewhen.circuit_breaker import CircuitBreaker
from donewhen.errors import CircuitBreakerError, HaltedError
from donewhen.ledger import Ledger
from donewhen.opening import open_session
from donewhen.session import Session
from donewhen.spec_writer import SpecResult
from donewhen.testing import Answer, FakeProvider, Hang, one_token_per_byte
from donewhen.verify import verify_ledger

CEILING = 6_000
BLOCKING = [way for way in WAYS if not way.startswith("async")]


class House:
    """One ledger and one provider, for several sessions and their guarded clients."""

    def __init__(self, ledger: Ledger, provider: FakeProvider, stack: ExitStack) -> None:
        self.ledger, self.provider, self._stack = ledger, provider, stack

    def session(self, name: str, budget: str | None, *, tokens: int = 10**6) -> Session:
        breaker = CircuitBreaker(1_000, tokens, output_fn=lambda _notice: None)
        return open_session(SpecResult("a", "b", "c", name), breaker, self.ledger, budget=budget)

    def desk(self, way: str, session: Session) -> Desk:
        desk = Desk(way, self.provider, self.ledger, session)
        self._stack.callback(desk.done)
        return desk

    def balance(self, name: str) -> Any:
        """Return what a budget, or else a session, has used."""
        balance = self.ledger.find_budget(name) or self.ledger.store.find_balance(name)
        assert balance is not None
        return balance


@contextmanager
def a_house(store: str, path: Path) -> Iterator[House]:
    opened = STORES[store](path)
    with ExitStack() as stack:
        provider = stack.enter_context(FakeProvider(lambda _request: Answer("b" * 3_000), count=one_token_per_byte))
        ledger = stack.enter_context(Ledger(path, store=opened))
        ledger.new_budget("acme", tokens=CEILING, who="ann")
        yield House(ledger, provider, stack)
        place = ledger.path
    verify_ledger(place, None)


@pytest.fixture(params=sorted(STORES))
def house(request: pytest.FixtureRequest, tmp_store: Path) -> Iterator[House]:
    with a_house(request.param, tmp_store) as opened:
        yield opened


def until_refused(desk: Desk, *, streams: bool = False, most: int = 300) -> CircuitBreakerError:
    """Make calls until one is refused."""
    for number in range(100):
        try:
            (desk.stream if streams and number % 2 else desk.ask)("a" * 100, most)
        except CircuitBreakerError as error:
            return error
    raise AssertionError("a hundred calls, and none was refused")


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_of_calls_ends_where_the_budget_does(house: House, way: str) -> None:
    desk = house.desk(way, house.session("one", "acme"))
    error = until_refused(desk, streams=True)
    assert error.reason == "budget:acme:token_ceiling"
    spent = house.balance("acme").spent.tokens
    assert CEILING * 0.8 < house.provider.served.total == spent <= CEILING
    calls = len(house.provider.requests)
    with pytest.raises(CircuitBreakerError, match="budget:acme:token_ceiling"):
        desk.ask("a" * 100, 300, stream=True)
    assert len(house.provider.requests) == calls


def test_a_refused_session_goes_on_after_a_raise_and_not_while_halted(house: House) -> None:
    desk = house.desk("anthropic", house.session("one", "acme"))
    until_refused(desk)
    house.ledger.change_budget("acme", {"tokens": 2 * CEILING}, why="more", who="ann")
    desk.ask("a" * 100, 300)
    house.ledger.halt(budget="acme", why="stop", who="ann")
    calls = len(house.provider.requests)
    with pytest.raises(HaltedError):
        desk.ask("a" * 100, 300)
    assert len(house.provider.requests) == calls
    assert house.provider.served.total == house.balance("acme").spent.tokens


@pytest.mark.parametrize("way", BLOCKING)
def test_two_sessions_in_two_threads_use_one_budget_up_and_do_not_pass_it(house: House, way: str) -> None:
    desks = [house.desk(way, house.session(name, "acme")) for name in ("one", "two")]
    barrier, refused = threading.Barrier(2), []

    def work(desk: Desk) -> None:
        barrier.wait(20)
        refused.append(until_refused(desk, streams=True).reason)

    threads = [threading.Thread(target=work, args=(desk,)) for desk in desks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == ["budget:acme:token_ceiling"] * 2
    balance = house.balance("acme")
    assert balance.reserved.tokens == 0
    assert CEILING * 0.8 < house.provider.served.total == balance.spent.tokens <= CEILING


def test_a_refusal_says_what_another_client_has_reserved(house: House) -> None:
    one, two = (house.desk("anthropic", house.session(name, "acme")) for name in ("one", "two"))
    house.provider.script(Hang(answer=Answer("x"), after_events=1))
    held = one.ask("a" * 100, 5_000, stream=True)
    one.read(held, 1)
    with pytest.raises(CircuitBreakerError, match=r"reserved.*one \(") as told:
        two.ask("a" * 1_000, 300)
    assert told.value.reason == "budget:acme:token_ceiling"
    one.close(held)
    assert house.balance("acme").reserved.tokens >= house.provider.served.total


@pytest.mark.parametrize("way", WAYS)
def test_a_childs_client_has_no_more_than_its_parent_has_left(house: House, way: str) -> None:
    parent = house.session("parent", "acme", tokens=3_000)
    child = parent.child(SpecResult("a", "b", "c", "child"))
    house.desk(way, parent).ask("a" * 100, 300)
    error = until_refused(house.desk(way, child), streams=True)
    assert error.reason == "parent:parent:token_ceiling"
    served = house.provider.served.total
    assert 3_000 * 0.7 < served <= 3_000
    assert served == house.balance("acme").spent.tokens == house.balance("parent").spent.tokens
    with pytest.raises(CircuitBreakerError, match="token_ceiling"):
        house.desk(way, parent).ask("a" * 100, 300)
