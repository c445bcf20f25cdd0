"""A halt is looked for in the ledger: seldom, for reading only, and by what stands above the session too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sessions import SPEC, a_session
from stores.kit import STORES

from donewhen.circuit_breaker import CircuitBreaker
from donewhen.errors import HaltedError, LedgerUnavailableError
from donewhen.halt_watch import BLIND_SECONDS, HaltWatch
from donewhen.ledger import Ledger
from donewhen.spec_writer import SpecResult
from donewhen.testing import FakeClock

WORDS = {"why": "it runs wild", "who": "ann"}


@pytest.fixture(params=sorted(STORES))
def ledger(request, tmp_path) -> Iterator[Ledger]:
    path = tmp_path / "ledger.db"
    with Ledger(path, store=STORES[request.param](path)) as opened:
        opened.new_budget("acme", who="ann")
        opened.new_budget("acme/support", who="ann")
        yield opened


@pytest.mark.parametrize(
    ("order", "told"),
    [
        ({"session_id": SPEC.session_id}, "session session-1"),
        ({"budget": "acme"}, "the budget acme"),
        ({"budget": "acme/support"}, "the budget acme/support"),
        ({"everything": True}, "everything"),
    ],
    ids=["session", "outer", "inner", "all"],
)
def test_an_order_is_found_whatever_it_halts_and_is_gone_once_it_is_lifted(ledger, order, told) -> None:
    session = a_session(ledger, budget="acme/support")
    watch = HaltWatch(session)
    assert (watch.look(), session.find_halt()) == (None, None)
    ledger.halt(**order, **WORDS)
    found = [watch.look(), watch.look(), session.find_halt()]
    assert [str(one) for one in found] == [f"{told} was halted by ann: it runs wild"] * 3
    ledger.lift_halt(**order, **WORDS)
    assert (watch.look(), session.find_halt()) == (None, None)


def test_a_child_sees_the_halt_of_its_parent_and_not_the_other_way(ledger) -> None:
    parent = a_session(ledger)
    child = parent.child(SpecResult("a", "b", "c", "child"), CircuitBreaker(9, 1_000))
    ledger.halt("child", **WORDS)
    assert (parent.find_halt(), str(child.find_halt())) == (None, "session child was halted by ann: it runs wild")
    ledger.lift_halt("child", **WORDS)
    ledger.halt(SPEC.session_id, **WORDS)
    assert str(child.find_halt()) == "session session-1 was halted by ann: it runs wild"


def test_a_log_that_has_not_grown_is_not_read_again(ledger, monkeypatch) -> None:
    session = a_session(ledger)
    watch = HaltWatch(session)
    assert watch.look() is None
    monkeypatch.setattr(ledger, "find_halt", None)
    assert watch.look() is None
    ledger.write("other", 1, "note", "input", 1, 1, True)
    with pytest.raises(TypeError):
        watch.look()


def test_it_is_time_for_a_look_only_now_and_then(ledger) -> None:
    clock = FakeClock()
    watch = HaltWatch(a_session(ledger), 2.0, clock.monotonic)
    due = [watch.is_due]
    clock.move(2)
    due.append(watch.is_due)
    watch.look()
    assert [*due, watch.is_due] == [False, True, False]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "1"])
def test_what_is_no_time_between_two_looks_is_refused(ledger, seconds) -> None:
    with pytest.raises(ValueError, match="watch_seconds is"):
        HaltWatch(a_session(ledger), seconds)


def test_looking_writes_nothing(ledger) -> None:
    watch = HaltWatch(a_session(ledger))
    before = ledger.store.newest_sealed()
    for _ in range(3):
        watch.look()
    assert ledger.store.newest_sealed() == before


def test_a_ledger_that_cannot_be_read_is_borne_for_a_while(ledger, monkeypatch) -> None:
    clock = FakeClock()
    watch = HaltWatch(a_session(ledger), monotonic=clock.monotonic)

    def unreadable() -> Any:
        raise LedgerUnavailableError("the ledger", "nobody answers")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.store, "newest_sealed", unreadable)
        clock.move(BLIND_SECONDS - 1)
        assert watch.look() is None
        clock.move(BLIND_SECONDS - 1)
        assert watch.look() is None
    assert watch.look() is None  # it is there again, and the time begins anew
    monkeypatch.setattr(ledger.store, "newest_sealed", unreadable)
    clock.move(BLIND_SECONDS * 2)  # in which nobody looked
    assert watch.look() is None
    clock.move(BLIND_SECONDS)
    with pytest.raises(LedgerUnavailableError):
        watch.look()


def test_what_ends_by_itself_is_not_looked_at(ledger, monkeypatch) -> None:
    watch = HaltWatch(a_session(ledger))
    monkeypatch.setattr(watch, "look", None)

    async def answers() -> str:
        return "answer"

    async def fails() -> str:
        raise KeyboardInterrupt

    assert asyncio.run(watch.during(answers)) == "answer"
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(watch.during(fails))
    watch.pause(lambda _seconds: None, 1000)


def test_a_cancel_of_the_caller_passes_and_reaches_what_is_under_way(ledger) -> None:
    watch, seen = HaltWatch(a_session(ledger), 0.01), list[str]()

    async def main() -> None:
        begun = asyncio.Event()

        async def hangs() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        task = asyncio.ensure_future(watch.during(hangs))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert seen == ["cancelled"]


def test_an_awaited_thing_is_cancelled_by_a_halt(ledger) -> None:
    watch = HaltWatch(a_session(ledger), 0.01)
    ledger.halt(everything=True, **WORDS)
    with pytest.raises(HaltedError, match="everything was halted"):
        asyncio.run(watch.during(lambda: asyncio.Event().wait()))
