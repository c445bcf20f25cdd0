"""A stream is settled before its end is shown; one that does not come to its end stays charged in full."""

from __future__ import annotations

import asyncio
import gc
import threading

import anthropic
import httpx2
import openai
import pytest

from donewhen.testing import Answer, Cut, Fault, Hang

LOST = (anthropic.APIError, openai.APIError)


def spent(desk) -> tuple[int, int]:
    return desk.balance.spent.tokens, desk.balance.reserved.tokens


def assert_stays_charged(desk, problem: str) -> None:
    (row,) = desk.rows("abandoned")
    (reserve,) = desk.rows("reserve")
    assert problem in row.data["problem"]
    assert (row.doubts, spent(desk)) == (reserve.seq, (0, reserve.data["reserve"][1]))
    assert desk.balance.used.tokens >= desk.provider.served.total > 0


def test_a_stream_says_what_it_says_and_is_settled_before_its_end_is_shown(desk) -> None:
    desk.provider.script(Answer("hello there, all of you", thinking="hm"))
    stream, events = desk.ask(stream=True), []
    while (event := desk.next(stream)) is not None:
        events.append(event)
        ended = desk.wire == "chat" and event.choices[0].finish_reason
        if ended or getattr(event, "type", "") in ("message_delta", "response.completed"):
            desk.assert_books_agree()
    assert desk.text_in(events) == "hello there, all of you"
    assert desk.next(stream) is None
    desk.assert_books_agree()
    assert len(desk.rows("llm")) == 1


def test_a_stream_is_of_the_sdks_class_and_has_what_it_had(desk) -> None:
    desk.provider.script(Answer("hello"))
    stream = desk.ask(stream=True)
    of = {"messages": anthropic, "chat": openai, "responses": openai}[desk.wire]
    assert isinstance(stream, of.AsyncStream if desk.is_async else of.Stream)
    assert type(stream).__name__ in ("Stream", "AsyncStream")
    assert stream.response.status_code == 200
    desk.read(stream)


def test_the_sdks_own_helper_is_governed(desk) -> None:
    desk.provider.script(Answer("hello there", tool_calls=[("look", {"x": 1})]))
    desk.helper(tools=desk.tools)
    assert [tool["name"] for tool in desk.rows("llm")[0].data["tools"]] == ["look"]
    desk.assert_books_agree()


def test_the_chunk_with_the_usage_is_shown_to_whoever_asked_for_it_alone(desk) -> None:
    if desk.wire != "chat":
        pytest.skip("the other endpoints always say their usage")
    desk.provider.script(Answer("one"), Answer("two"))
    assert all(chunk.choices for chunk in desk.stream())
    *chunks, last = desk.stream(stream_options={"include_usage": True})
    assert all(chunk.choices for chunk in chunks)
    assert (last.choices, last.usage.total_tokens) == ([], desk.rows("llm")[-1].token_delta)
    assert [request.body["stream_options"] for request in desk.provider.requests] == [{"include_usage": True}] * 2
    desk.assert_books_agree()


def test_who_stops_at_the_last_text_is_charged_what_was_used(desk) -> None:
    desk.provider.script(Answer("hello"))
    stream = desk.ask(stream=True)
    ends = {"message_delta", "response.completed"}
    while True:
        event = desk.next(stream)
        if getattr(event, "type", None) in ends or (desk.wire == "chat" and event.choices[0].finish_reason):
            break
    desk.close(stream)
    desk.assert_books_agree()


def test_a_stream_that_is_closed_early_stays_charged(desk) -> None:
    desk.provider.script(Answer("a long reply " * 20))
    stream = desk.ask(stream=True)
    desk.read(stream, 2)
    desk.close(stream)
    assert_stays_charged(desk, "closed before its end")
    desk.close(stream)
    assert len(desk.rows("abandoned")) == 1


def test_a_helper_that_is_left_early_stays_charged(desk) -> None:
    desk.provider.script(Answer("a long reply " * 20))
    desk.helper(leave_early=True)
    desk.session.leave()
    assert_stays_charged(desk, "stream")


def test_a_stream_that_is_dropped_stays_charged_and_is_written_down_with_the_next_call(desk) -> None:
    desk.provider.script(Answer("a long reply " * 20), Answer("next"))
    stream = desk.ask(stream=True)
    desk.read(stream, 1)
    del stream
    gc.collect()
    if desk.is_async:
        desk.run(asyncio.sleep(0))
        gc.collect()
    assert desk.rows()[-1].kind == "reserve"
    desk.ask()
    (row,) = desk.rows("abandoned")
    assert "before its end" in row.data["problem"]
    assert spent(desk)[1] == desk.rows("reserve")[0].data["reserve"][1]


def test_leaving_the_session_writes_down_what_is_still_open_and_a_late_end_changes_nothing(desk) -> None:
    desk.provider.script(Answer("a long reply " * 20))
    stream = desk.ask(stream=True)
    desk.read(stream, 1)
    desk.session.leave()
    assert_stays_charged(desk, "the session was left")
    desk.read(stream)
    assert_stays_charged(desk, "the session was left")


@pytest.mark.parametrize("after_bytes", [0, 300])
def test_a_stream_that_is_cut_stays_charged_and_raises_what_the_sdk_raises(desk, after_bytes) -> None:
    desk.provider.script(Cut(Answer("a long reply " * 20), after_bytes=after_bytes))
    with pytest.raises((*LOST, httpx2.TransportError)):
        desk.stream(most=500)
    assert_stays_charged(desk, "the stream ended with")
    assert len(desk.provider.requests) == 1


def test_an_error_in_the_middle_of_a_stream_stays_charged(desk) -> None:
    desk.provider.script(Fault(529, after=Answer("a long reply " * 20)))
    try:
        desk.stream(most=500)
    except LOST:
        assert desk.wire != "responses"
    else:
        assert desk.wire == "responses"  # whose SDK hands the error on as an event
    assert_stays_charged(desk, "stream ended")


def test_usage_that_no_stream_says_is_charged_whole(desk) -> None:
    desk.provider.script(Answer("hello", usage="missing"))
    assert desk.text_in(desk.stream()) == "hello"
    (row,), (reserve,) = desk.rows("llm"), desk.rows("reserve")
    assert row.token_delta == reserve.data["reserve"][1]
    assert "usage_fault" in row.data


def test_a_task_that_is_cancelled_in_its_stream_stays_charged(desk) -> None:
    if not desk.is_async:
        pytest.skip("tasks are asynchronous")
    desk.provider.script(Hang(answer=Answer("a long reply " * 20), after_events=2))
    begun = threading.Event()

    async def read() -> None:
        async for _ in await desk.endpoint().create(**desk.arguments("q", 500), stream=True):
            begun.set()

    async def main() -> None:
        task = asyncio.create_task(read())
        await asyncio.to_thread(begun.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    desk.run(main())
    assert_stays_charged(desk, "stream")


def test_a_task_that_is_cancelled_in_its_call_stays_charged(desk) -> None:
    if not desk.is_async:
        pytest.skip("tasks are asynchronous")
    desk.provider.script(Hang(answer=Answer("never")))

    async def main() -> None:
        task = asyncio.create_task(desk.endpoint().create(**desk.arguments("q", 50)))
        await asyncio.to_thread(desk.provider.wait_for_requests, 1, timeout_seconds=20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    desk.run(main())
    assert_stays_charged(desk, "interrupted by CancelledError")


def test_a_generator_around_a_stream_that_is_closed_stays_charged(desk) -> None:
    if desk.is_async:
        pytest.skip("the blocking way")
    desk.provider.script(Answer("a long reply " * 20))

    def texts():
        with desk.ask(stream=True) as stream:
            yield from stream

    generator = texts()
    next(generator)
    generator.close()
    assert_stays_charged(desk, "closed before its end")
