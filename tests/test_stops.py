"""Whoever waits looks between the pieces whether what it waits for is to stop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from processes import PATIENCE_SECONDS

import donewhen
from donewhen.isolated import call_isolated
from donewhen.stops import Stop, StopAskedError, pieces, under
from donewhen.timeouts import Ran, arun_within, await_within, run_within


class Now:
    """A lookout that says stop at once."""

    every_seconds = 0.01

    def look(self) -> bool:
        return True


def waits() -> bool:
    """Wait until this is to stop."""
    return donewhen.stopping().wait(PATIENCE_SECONDS)


async def hangs() -> None:
    await asyncio.Event().wait()


def asked(ran: Ran) -> bool:
    return isinstance(ran.error, StopAskedError) and str(ran.error) == "it was asked to stop"


@pytest.fixture(autouse=True)
def patient(monkeypatch) -> None:
    """Give what was asked to stop all the time that a busy machine may need."""
    monkeypatch.setattr("donewhen.timeouts.GRACE_SECONDS", PATIENCE_SECONDS)


def test_without_a_lookout_all_of_the_time_is_one_piece() -> None:
    assert (list(pieces(5)), list(pieces(None))) == ([5], [None])


def test_under_a_lookout_pieces_are_short_and_end_with_the_time() -> None:
    stop = Stop()
    with under(stop):
        assert [piece for piece in pieces(1e-9) if piece is not None and piece > 1e-9] == []
        assert next(iter(pieces(None))) == stop.every_seconds
        assert next(iter(pieces(1000))) == stop.every_seconds


def test_a_lookout_that_says_stop_ends_the_waiting() -> None:
    waiting = pieces(None)
    with under(Now()):
        assert next(waiting) == Now.every_seconds
        with pytest.raises(StopAskedError):
            next(waiting)


def test_a_function_may_answer_once_it_is_asked_to_stop() -> None:
    with under(Now()):
        assert run_within(waits, None).value is True
        assert asyncio.run(arun_within(waits, None)).value is True


def test_one_that_does_not_answer_is_left_behind(monkeypatch) -> None:
    monkeypatch.setattr("donewhen.timeouts.GRACE_SECONDS", 0.01)
    end = threading.Event()
    with under(Now()):
        assert asked(run_within(lambda: end.wait(PATIENCE_SECONDS), None))
        assert asked(asyncio.run(arun_within(lambda: end.wait(PATIENCE_SECONDS), None)))
    end.set()


def test_a_coroutine_is_cancelled_and_may_answer_all_the_same() -> None:
    async def answers() -> str:
        try:
            await hangs()
        except asyncio.CancelledError:
            assert donewhen.stopping().is_set()
        return "in an orderly way"

    with under(Now()):
        assert asked(run_within(hangs, None))
        assert asked(asyncio.run(await_within(hangs(), None)))
        assert run_within(answers, None).value == "in an orderly way"
        assert asyncio.run(await_within(answers(), None)).value == "in an orderly way"


def test_a_coroutine_that_does_not_end_is_left_behind(monkeypatch) -> None:
    monkeypatch.setattr("donewhen.timeouts.GRACE_SECONDS", 0.01)

    async def main() -> Ran:
        end = asyncio.Event()

        async def stubborn() -> None:
            while not end.is_set():
                try:
                    await end.wait()
                except asyncio.CancelledError:
                    assert donewhen.stopping().is_set()

        ran = await await_within(stubborn(), None)
        end.set()
        return ran

    with under(Now()):
        assert asked(asyncio.run(main()))


def test_time_that_is_up_is_told_too() -> None:
    told: list[threading.Event] = []
    assert run_within(lambda: told.append(donewhen.stopping()) or waits(), 0.01).timed_out
    assert told[0].wait(PATIENCE_SECONDS)

    async def main() -> Any:
        async def looks() -> None:
            told.append(donewhen.stopping())
            await hangs()

        return await await_within(looks(), 0.01)

    assert asyncio.run(main()).timed_out
    assert told[1].is_set()


def test_elsewhere_the_event_is_nobodys() -> None:
    donewhen.stopping().set()
    assert not donewhen.stopping().is_set()
    with under(Now()):
        assert not donewhen.stopping().is_set()


def test_what_a_function_waits_for_is_stopped_with_it() -> None:
    def searches() -> object:
        return call_isolated("donewhen.isolated:find_span", "^(a+)+$", "a" * 80 + "!", timeout_seconds=1000)

    with under(Now()):
        assert asked(run_within(searches, None))
        with pytest.raises(StopAskedError):
            searches()


def test_an_answer_in_pieces_is_whole() -> None:
    with under(Stop()):
        text = "b" * 1_000_000 + "a"
        assert call_isolated("donewhen.isolated:find_span", "a", text, timeout_seconds=100) == [1_000_000, 1_000_001]
