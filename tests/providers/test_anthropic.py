"""The official SDK of Anthropic, driven against a provider on loopback."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from donewhen.client import LLMClient, Reply, classify, read_reply
from donewhen.errors import CallError, MissingExtraError
from donewhen.providers.anthropic import make_anthropic, prepare
from donewhen.testing import Answer, Cut, FakeProvider, Fault, Hang, ScriptedClient
from donewhen.usage import Usage

REQUEST: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
STATUSES = [400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529]
NO_WORK = {400, 401, 403, 404, 413, 422, 429, 529}


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def client(provider: FakeProvider) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=provider.url, api_key="any") as sdk:
        yield prepare(sdk)


def stream(client: anthropic.Anthropic) -> Reply:
    with client.messages.stream(**REQUEST) as events:
        return read_reply(events.get_final_message())


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port that is taken, so that nobody else gets it, and refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


# --- Preparing --------------------------------------------------------------------------------------------------------


def test_a_prepared_client_is_still_a_client(client: anthropic.Anthropic) -> None:
    assert isinstance(client, LLMClient)
    assert isinstance(client, anthropic.Anthropic)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 529])
def test_no_status_is_tried_again_by_the_sdk(provider: FakeProvider, client: Any, status: int) -> None:
    provider.script(Fault(status, headers={"x-should-retry": "true"}), Answer("second try"))
    with pytest.raises(anthropic.APIStatusError):
        client.messages.create(**REQUEST)
    assert len(provider.requests) == 1


def test_a_cut_connection_is_not_tried_again_by_the_sdk(provider: FakeProvider, client: Any) -> None:
    provider.script(Cut(after_bytes=None), Answer("second try"))
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.create(**REQUEST)
    assert len(provider.requests) == 1


def test_a_client_without_options_is_returned_as_it_is() -> None:
    scripted = ScriptedClient()
    assert prepare(scripted) is scripted


def test_the_callers_own_client_is_not_changed(provider: FakeProvider) -> None:
    with anthropic.Anthropic(base_url=provider.url, api_key="any") as sdk:
        prepared = prepare(sdk, timeout_seconds=3)
        assert (sdk.max_retries, prepared.max_retries, prepared.timeout) == (2, 0, 3)


def test_a_client_with_middleware_is_refused() -> None:
    def again(request: Any, call_next: Any) -> Any:
        return call_next(request)

    with (
        anthropic.Anthropic(api_key="any", middleware=[again]) as sdk,
        pytest.raises(CallError, match="middleware"),
    ):
        prepare(sdk)


# --- Replies ----------------------------------------------------------------------------------------------------------


def test_a_plain_reply_is_read(provider: FakeProvider, client: Any) -> None:
    provider.script(Answer("hello", cache_read_tokens=2, cache_write_tokens=1))
    reply = read_reply(client.messages.create(**REQUEST))
    assert (reply.text, reply.stop_reason, reply.request_id) == ("hello", "end_turn", "req_0001")
    assert reply.usage == provider.served == Usage(1, 2, 2, 1)


def test_a_streamed_reply_is_the_plain_one(provider: FakeProvider, client: Any) -> None:
    answer = Answer("hello there", thinking="well", tool_calls=[("find", {"query": "x" * 30, "deep": [1, None]})])
    provider.script(answer, answer)
    plain, streamed = read_reply(client.messages.create(**REQUEST)), stream(client)
    assert [sorted(block) for block in streamed.content] == [sorted(block) for block in plain.content]
    assert (streamed.text, streamed.usage, streamed.stop_reason) == (plain.text, plain.usage, plain.stop_reason)
    assert streamed.tool_calls[0].arguments == {"query": "x" * 30, "deep": [1, None]}


def test_a_thinking_block_comes_back_untouched(provider: FakeProvider, client: Any) -> None:
    provider.script(Answer("ok", thinking="hm", tool_calls=[("find", {})]), Answer("done"))
    first = read_reply(client.messages.create(**REQUEST))
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "x"} for call in first.tool_calls]
    messages = [
        *REQUEST["messages"],
        {"role": "assistant", "content": first.echo},
        {"role": "user", "content": results},
    ]
    assert read_reply(client.messages.create(**{**REQUEST, "messages": messages})).text == "done"
    thinking = provider.requests[1].body["messages"][1]["content"][0]
    assert thinking == {"type": "thinking", "thinking": "hm", "signature": "c2lnbmF0dXJl0001"}


@pytest.mark.parametrize("usage", ["missing", {"input_tokens": -1, "output_tokens": 2}, {"output_tokens": 2}])
def test_usage_that_is_missing_or_wrong_is_unknown(provider: FakeProvider, client: Any, usage: Any) -> None:
    provider.script(Answer("hello", usage=usage))
    reply = read_reply(client.messages.create(**REQUEST))
    assert reply.usage is None
    assert reply.usage_fault


def test_a_stop_reason_that_the_sdk_does_not_know_comes_through(provider: FakeProvider, client: Any) -> None:
    provider.script(Answer("hello", stop_reason="meteor_strike"))
    assert read_reply(client.messages.create(**REQUEST)).stop_reason == "meteor_strike"


def test_a_cut_off_tool_call_can_be_read(provider: FakeProvider, client: Any) -> None:
    provider.script(Answer(tool_calls=[("find", {"query": "x" * 4000})]))
    reply = read_reply(client.messages.create(**REQUEST))
    assert (reply.stop_reason, reply.usage) == ("max_tokens", Usage(4, 100))


def test_tokens_can_be_counted(provider: FakeProvider, client: Any) -> None:
    assert client.messages.count_tokens(model="m", messages=REQUEST["messages"]).input_tokens == 4
    assert provider.served.total == 0


def test_the_asynchronous_client_does_all_the_same(provider: FakeProvider) -> None:
    provider.script(Answer("plain"), Answer("streamed"), Fault(429, headers={"retry-after": "3"}), Cut(after_bytes=9))

    async def run() -> None:
        async with anthropic.AsyncAnthropic(base_url=provider.url, api_key="any") as sdk:
            client = prepare(sdk)
            assert read_reply(await client.messages.create(**REQUEST)).text == "plain"
            async with client.messages.stream(**REQUEST) as events:
                assert read_reply(await events.get_final_message()).text == "streamed"
            failures = []
            for _ in range(2):
                with pytest.raises(anthropic.APIError) as caught:
                    await client.messages.create(**REQUEST)
                failures.append(classify(caught.value))
        assert [(failure.rejected, failure.retry_after_seconds) for failure in failures] == [(True, 3), (False, None)]

    asyncio.run(run())
    assert len(provider.requests) == 4


# --- Failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_says_whether_work_was_done(provider: FakeProvider, client: Any, status: int) -> None:
    provider.script(Fault(status, headers={"retry-after": "99999"}))
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(**REQUEST)
    failure = classify(caught.value)
    assert (failure.status, failure.rejected) == (status, status in NO_WORK)
    assert failure.retry_after_seconds == 99999


@pytest.mark.parametrize("after_bytes", [None, 0, 50])
def test_a_cut_reply_may_have_been_billed(provider: FakeProvider, client: Any, after_bytes: int | None) -> None:
    provider.script(Cut(Answer("hello"), after_bytes=after_bytes))
    with pytest.raises(anthropic.APIConnectionError) as caught:
        client.messages.create(**REQUEST)
    failure = classify(caught.value)
    assert (failure.rejected, failure.retryable) == (False, True)
    assert provider.served.total > 0


@pytest.mark.parametrize("after_bytes", [None, 0, 50, 400, 900])
def test_a_cut_stream_may_have_been_billed(provider: FakeProvider, client: Any, after_bytes: int | None) -> None:
    provider.script(Cut(Answer("hello " * 20), after_bytes=after_bytes))
    with pytest.raises(Exception, match=r"[Cc]onnection|peer") as caught:
        stream(client)
    failure = classify(caught.value)
    assert (failure.rejected, failure.retryable) == (False, True)


def test_an_error_within_a_stream_may_have_been_billed(provider: FakeProvider, client: Any) -> None:
    provider.script(Fault(529, after=Answer("hello " * 20)))
    with pytest.raises(anthropic.APIStatusError) as caught:
        stream(client)
    assert not classify(caught.value).rejected
    assert provider.served.total > 0


def test_a_time_out_may_have_been_billed(provider: FakeProvider, client: Any) -> None:
    provider.script(Hang())
    with pytest.raises(anthropic.APITimeoutError) as caught:
        # Long enough for the request to arrive on a busy machine.
        prepare(client, timeout_seconds=0.5).messages.create(**REQUEST)
    assert not classify(caught.value).rejected
    assert provider.served.total > 0


def test_a_stream_that_stalls_can_be_left(provider: FakeProvider, client: Any) -> None:
    provider.script(Hang(answer=Answer("hello there, you"), after_events=4))
    with client.messages.stream(**REQUEST) as events:
        assert next(iter(events.text_stream)) == "hello th"
    assert provider.served.total > 0


def test_a_stream_that_stalls_goes_on_with_its_event(provider: FakeProvider, client: Any) -> None:
    event = threading.Event()
    provider.script(Hang(event, Answer("hello there, you"), after_events=4))
    with client.messages.stream(**REQUEST) as events:
        texts = []
        for text in events.text_stream:
            event.set()
            texts.append(text)
    assert texts == ["hello th", "ere, you"]


def test_a_refused_connection_was_never_sent(deaf_port: int) -> None:
    sdk = anthropic.Anthropic(base_url=f"http://127.0.0.1:{deaf_port}", api_key="any")
    with sdk, pytest.raises(anthropic.APIConnectionError) as caught:
        prepare(sdk).messages.create(**REQUEST)
    failure = classify(caught.value)
    assert (failure.rejected, failure.retryable) == (True, True)


# --- Making -----------------------------------------------------------------------------------------------------------


def test_a_made_client_asks_once_and_takes_a_large_max_tokens(provider: FakeProvider) -> None:
    provider.script(Answer("hello"), Fault(500))
    with make_anthropic(api_key="any", base_url=provider.url) as client:
        assert read_reply(client.messages.create(**{**REQUEST, "max_tokens": 64_000})).text == "hello"
        with pytest.raises(anthropic.InternalServerError):
            client.messages.create(**REQUEST)
    assert len(provider.requests) == 2


def test_an_asynchronous_client_can_be_made(provider: FakeProvider) -> None:
    provider.script(Answer("hello"))

    async def run() -> str:
        async with make_anthropic(api_key="any", base_url=provider.url, asynchronous=True) as client:
            return read_reply(await client.messages.create(**REQUEST)).text

    assert asyncio.run(run()) == "hello"


@pytest.mark.parametrize("place", ["HOME", "ANTHROPIC_CONFIG_DIR"])
def test_a_missing_key_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, place: str) -> None:
    monkeypatch.setenv(place, str(tmp_path))
    with pytest.raises(CallError, match=r"no API key for Anthropic.*[Ss]et ANTHROPIC_API_KEY"):
        make_anthropic()


def test_a_key_from_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "from the environment")
    with make_anthropic() as client:
        assert client.api_key == "from the environment"


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anthropic", None)
    with pytest.raises(MissingExtraError, match=r"donewhen\[anthropic\]"):
        make_anthropic(api_key="any")
