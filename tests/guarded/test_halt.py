"""A halt while a guarded call is under way: its reader is told, and what nobody can know stays charged in full."""

from __future__ import annotations

import asyncio
import threading

import pytest
from processes import PATIENCE_SECONDS

import donewhen
from donewhen.errors import HaltedError, LedgerUnavailableError
from donewhen.testing import Answer, Fault, Hang

LONG = Answer("a long reply " * 20)
REASON = "session session-1 was halted by ann: it runs wild"


def halt(desk) -> None:
    desk.ledger.halt("session-1", why="it runs wild", who="ann")


def watched(desk, seconds: float = 1e-9) -> None:
    """Let the desk's client look for a halt so often: at each event."""
    desk.client = desk.guarded(watch_seconds=seconds)


def assert_stays_charged(desk, problem: str = "HaltedError") -> None:
    (row,) = desk.rows("abandoned")
    (reserve,) = desk.rows("reserve")
    assert problem in row.data["problem"]
    assert row.doubts == reserve.seq
    assert (desk.balance.spent.tokens, desk.balance.reserved.tokens) == (0, reserve.data["reserve"][1])
    assert desk.balance.used.tokens >= desk.provider.served.total > 0


def test_a_stream_under_way_raises_in_place_of_its_next_event_and_is_closed(desk) -> None:
    watched(desk)
    desk.provider.script(LONG, Answer("next"))
    stream = desk.ask(stream=True)
    assert len(desk.read(stream, 2)) == 2
    halt(desk)
    with pytest.raises(HaltedError) as caught:
        desk.next(stream)
    assert str(caught.value) == REASON
    assert stream.response.is_closed
    assert_stays_charged(desk)
    with pytest.raises(HaltedError):
        desk.ask()
    desk.ledger.lift_halt("session-1", why="it is mended", who="ann")
    assert desk.text_of(desk.ask()) == "next"


def test_a_stream_of_the_sdks_own_helper_raises_too(desk) -> None:
    watched(desk)

    def answer(_request) -> Answer:
        halt(desk)
        return LONG

    desk.provider._handler = answer
    with pytest.raises(HaltedError):
        desk.helper()
    assert_stays_charged(desk)


def test_a_stream_that_was_read_to_its_end_is_charged_what_it_used(desk) -> None:
    watched(desk)
    desk.provider.script(Answer("hello"))
    events = desk.stream()
    halt(desk)
    assert desk.text_in(events) == "hello"
    assert [row.kind for row in desk.rows()][-2:] == ["llm", "halt"]
    desk.assert_books_agree()


def test_a_silent_stream_is_cut_where_it_is_awaited(desk) -> None:
    if not desk.is_async:
        pytest.skip("a blocking read cannot be ended from outside: it sees the halt with the next event")
    watched(desk, 0.01)
    silence = threading.Event()
    desk.provider.script(Hang(silence, LONG, after_events=3))
    stream = desk.ask(stream=True)
    desk.read(stream, 1)
    halt(desk)
    with pytest.raises(HaltedError):
        desk.read(stream)
    silence.set()
    assert stream.response.is_closed
    assert_stays_charged(desk)


def test_an_awaited_call_is_cancelled(desk) -> None:
    if not desk.is_async:
        pytest.skip("a blocking call runs to its end")
    watched(desk, 0.01)
    answered = threading.Event()

    def hang(_request) -> Hang:
        halt(desk)
        return Hang(answered, LONG)

    desk.provider._handler = hang
    with pytest.raises(HaltedError) as caught:
        desk.ask()
    answered.set()
    assert str(caught.value) == REASON
    assert_stays_charged(desk)


def test_a_blocking_call_runs_to_its_end_and_the_next_is_refused(desk) -> None:
    if desk.is_async:
        pytest.skip("an awaited call is cancelled")

    def answer(_request) -> Answer:
        halt(desk)
        return Answer("whole")

    watched(desk)
    desk.provider._handler = answer
    assert desk.text_of(desk.ask()) == "whole"
    desk.assert_books_agree()
    with pytest.raises(HaltedError):
        desk.ask()


def test_a_reply_that_asks_for_tools_is_charged_and_not_shown(desk) -> None:
    def answer(_request) -> Answer:
        halt(desk)
        return Answer("", tool_calls=[("look", {"x": 1})])

    desk.provider._handler = answer
    with pytest.raises(HaltedError) as caught:
        desk.ask(tools=desk.tools)
    assert str(caught.value) == REASON
    assert [tool["run"] for tool in desk.rows("llm")[0].data["tools"]] == [False]
    desk.assert_books_agree()


def test_a_wait_between_attempts_is_cut_short(desk) -> None:
    async def forever(_seconds: float) -> None:
        await asyncio.to_thread(halt, desk)
        await asyncio.Event().wait()

    def blocks(_seconds: float) -> None:
        halt(desk)
        donewhen.stopping().wait(PATIENCE_SECONDS)

    desk.provider.script(Fault(529))
    desk.client = desk.guarded(sleep=forever if desk.is_async else blocks, watch_seconds=0.01)
    with pytest.raises(HaltedError):
        desk.ask()
    assert [row.kind for row in desk.rows()][-2:] == ["error", "halt"]
    assert desk.balance.used.tokens == 0


def test_a_ledger_that_cannot_be_read_for_long_ends_a_stream(desk, monkeypatch) -> None:
    watched(desk)
    desk.provider.script(LONG)
    stream = desk.ask(stream=True)
    desk.read(stream, 1)

    def unreadable() -> None:
        raise LedgerUnavailableError("the ledger", "nobody answers")

    monkeypatch.setattr("donewhen.halt_watch.BLIND_SECONDS", 0)
    monkeypatch.setattr(desk.ledger.store, "newest_sealed", unreadable)
    with pytest.raises(LedgerUnavailableError, match="nobody answers"):
        desk.read(stream)
    monkeypatch.undo()
    assert_stays_charged(desk, "LedgerUnavailableError")
