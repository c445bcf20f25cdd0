"""The official SDK of OpenAI behind our adapter, both wires, driven against a provider on loopback."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal

import openai
import pytest

from donewhen.client import UNPARSED_ARGUMENTS, LLMClient, Reply, ToolCall, classify, read_reply
from donewhen.errors import CallError, MissingExtraError, ReplyError
from donewhen.providers.openai import AsyncOpenAIClient, OpenAIClient, make_openai
from donewhen.testing import Answer, Cut, FakeProvider, Fault, Hang
from donewhen.usage import Usage

Api = Literal["chat", "responses"]
Ask = Callable[..., Reply]
REQUEST: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
TOOL = {"name": "find", "description": "It finds.", "input_schema": {"type": "object", "properties": {}}}
NO_WORK = {400, 401, 403, 404, 413, 422, 429, 529}


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def sdk(provider: FakeProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.url + "/v1", api_key="any") as client:
        yield client


@pytest.fixture(params=["chat", "responses"])
def api(request: pytest.FixtureRequest) -> Api:
    return request.param


@pytest.fixture
def client(sdk: openai.OpenAI, api: Api) -> OpenAIClient:
    return OpenAIClient(sdk, api=api)


@pytest.fixture
def ask(client: OpenAIClient) -> Ask:
    def send(**more: Any) -> Reply:
        return read_reply(client.messages.create(**{**REQUEST, **more}))

    return send


def sent(provider: FakeProvider) -> dict[str, Any]:
    return provider.requests[-1].body


# --- Replies ----------------------------------------------------------------------------------------------------------


def test_the_adapter_is_a_client(client: OpenAIClient) -> None:
    assert isinstance(client, LLMClient)


def test_a_reply_has_our_form(provider: FakeProvider, ask: Ask) -> None:
    provider.script(Answer("hello", model="m-2026"))
    reply = ask(system="be kind")
    assert (reply.text, reply.echo, reply.stop_reason) == ("hello", "hello", "end_turn")
    assert (reply.model, reply.request_id) == ("m-2026", "req_0001")


def test_kinds_of_usage_do_not_overlap(provider: FakeProvider, ask: Ask) -> None:
    answer = Answer(
        "hello", thinking="1234", input_tokens=50, output_tokens=9, cache_read_tokens=30, cache_write_tokens=7
    )
    provider.script(answer)
    assert ask().usage == provider.served == Usage(50, 9, 30, 7)


def test_missing_usage_stays_missing(provider: FakeProvider, ask: Ask) -> None:
    provider.script(Answer("hello", usage="missing"))
    assert ask().usage_fault == "the reply has no usage"


@pytest.mark.parametrize("wrong", [-5, "7", 1.5, None])
def test_usage_that_cannot_be_true_is_unknown(provider: FakeProvider, ask: Ask, wrong: object) -> None:
    usage = {"prompt_tokens": wrong, "completion_tokens": 3, "input_tokens": wrong, "output_tokens": 3}
    provider.script(Answer("hello", usage=usage))
    reply = ask()
    assert reply.usage is None
    assert "input_tokens" in (reply.usage_fault or "")


def test_more_cached_than_asked_is_unknown(provider: FakeProvider, ask: Ask) -> None:
    details = {"cached_tokens": 9}
    chat = {"prompt_tokens": 4, "completion_tokens": 3, "prompt_tokens_details": details}
    provider.script(Answer("x", usage={**chat, "input_tokens": 4, "output_tokens": 3, "input_tokens_details": details}))
    assert ask().usage_fault == "usage.input_tokens is -5, below zero"


def test_reasoning_that_only_the_total_counts_is_charged(provider: FakeProvider, ask: Ask) -> None:
    chat = {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 107}
    provider.script(Answer("x", usage={**chat, "input_tokens": 4, "output_tokens": 3}))
    assert ask().usage == Usage(4, 103)


@pytest.mark.parametrize("reason", ["end_turn", "max_tokens", "refusal", "meteor_strike"])
def test_stop_reasons_are_translated_and_unknown_ones_come_through(
    provider: FakeProvider, ask: Ask, reason: str
) -> None:
    provider.script(Answer("hello", stop_reason=reason))
    assert ask().stop_reason == reason


def test_a_refusal_in_words_is_text_and_a_refusal(provider: FakeProvider, ask: Ask) -> None:
    provider.script(Answer(refusal="I will not."))
    reply = ask()
    assert (reply.text, reply.stop_reason) == ("I will not.", "refusal")


def test_a_cut_off_reply_says_so(provider: FakeProvider, ask: Ask) -> None:
    provider.script(Answer("x" * 4000))
    reply = ask()
    assert (reply.stop_reason, reply.usage) == ("max_tokens", Usage(4, 100))


# --- Tools ------------------------------------------------------------------------------------------------------------


def test_tool_calls_go_out_and_back(provider: FakeProvider, ask: Ask) -> None:
    calls = [ToolCall("call_a", "find", {"n": 1}), ToolCall("call_b", "find", {"n": 2})]
    provider.script(Answer("Looking.", tool_calls=calls), Answer("done"))
    first = ask(tools=[TOOL])
    assert (first.stop_reason, list(first.tool_calls)) == ("tool_use", calls)
    results = [
        {"type": "tool_result", "tool_use_id": "call_a", "content": [{"type": "text", "text": "one"}]},
        {"type": "tool_result", "tool_use_id": "call_b", "content": "broken", "is_error": True},
        {"type": "text", "text": "go on"},
    ]
    messages = [
        *REQUEST["messages"],
        {"role": "assistant", "content": first.echo},
        {"role": "user", "content": results},
    ]
    assert ask(messages=messages, tools=[TOOL]).text == "done"
    key = "messages" if "messages" in sent(provider) else "input"
    tail = sent(provider)[key][-3:]
    assert [item.get("content", item.get("output")) for item in tail] == ["one", "Error: broken", "go on"]


@pytest.mark.parametrize("bad", ["{oops", "[1]", "null", '"text"', '{"n": NaN}'])
def test_arguments_that_are_no_json_object_are_handed_on_and_back(provider: FakeProvider, ask: Ask, bad: str) -> None:
    provider.script(Answer(tool_calls=[("find", bad)]), Answer("done"))
    first = ask(tools=[TOOL])
    assert first.tool_calls[0].arguments == {UNPARSED_ARGUMENTS: bad}
    result = {"type": "tool_result", "tool_use_id": first.tool_calls[0].id, "content": "no JSON", "is_error": True}
    messages = [
        *REQUEST["messages"],
        {"role": "assistant", "content": first.echo},
        {"role": "user", "content": [result]},
    ]
    ask(messages=messages, tools=[TOOL])
    assert repr(bad)[1:-1] in repr(sent(provider))


@pytest.mark.parametrize("empty", ["", " "])
def test_no_arguments_at_all_are_an_empty_object(provider: FakeProvider, ask: Ask, empty: str) -> None:
    provider.script(Answer(tool_calls=[("find", empty)]))
    assert ask(tools=[TOOL]).tool_calls[0].arguments == {}


def test_no_tools_means_no_tool_choice(provider: FakeProvider, ask: Ask) -> None:
    provider.script(Answer("x"))
    ask(tools=[], tool_choice={"type": "auto"})
    assert not {"tools", "tool_choice"} & sent(provider).keys()


@pytest.mark.parametrize(("choice", "word"), [("auto", "auto"), ("any", "required"), ("none", "none")])
def test_tool_choices_are_translated(provider: FakeProvider, ask: Ask, choice: str, word: str) -> None:
    provider.script(Answer("x"))
    ask(tools=[TOOL], tool_choice={"type": choice, "disable_parallel_tool_use": True})
    assert (sent(provider)["tool_choice"], sent(provider)["parallel_tool_calls"]) == (word, False)


# --- What cannot be sent ----------------------------------------------------------------------------------------------

BY_REFERENCE = {"type": "image", "source": {"type": "file", "file_id": "f"}}


@pytest.mark.parametrize(
    "more",
    [
        {"thinking": {"type": "enabled"}},
        {"stream": True},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tools": [TOOL], "tool_choice": {"type": "meteor"}},
        {"system": [{"type": "image"}]},
        {"messages": [{"role": "user", "content": [{"type": "document"}]}]},
        {"messages": [{"role": "user", "content": [BY_REFERENCE]}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": [BY_REFERENCE]}]}
            ]
        },
    ],
)
def test_what_the_wire_cannot_carry_is_an_error_before_anything_is_sent(
    provider: FakeProvider, ask: Ask, more: dict[str, Any]
) -> None:
    with pytest.raises(CallError):
        ask(**more)
    assert provider.requests == []


def test_options_of_the_sdk_go_along(provider: FakeProvider, sdk: openai.OpenAI, api: Api) -> None:
    provider.script(Answer("x"))
    OpenAIClient(sdk, api=api, options={"service_tier": "flex"}).messages.create(**REQUEST, temperature=0.5)
    assert (sent(provider)["service_tier"], sent(provider)["temperature"]) == ("flex", 0.5)


@pytest.mark.parametrize("key", ["stream", "n", "max_tokens", "previous_response_id", "store"])
def test_options_that_would_defeat_the_adapter_are_refused(sdk: openai.OpenAI, key: str) -> None:
    with pytest.raises(CallError, match=key):
        OpenAIClient(sdk, options={key: 2})


# --- Failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529])
def test_a_status_says_whether_work_was_done_and_is_not_tried_again(
    provider: FakeProvider, ask: Ask, status: int
) -> None:
    provider.script(Fault(status, headers={"retry-after": "99999"}), Answer("second try"))
    with pytest.raises(openai.APIStatusError) as caught:
        ask()
    failure = classify(caught.value)
    assert (failure.status, failure.rejected, failure.retry_after_seconds) == (status, status in NO_WORK, 99999)
    assert len(provider.requests) == 1


@pytest.mark.parametrize("after_bytes", [None, 0, 50])
def test_a_cut_reply_may_have_been_billed(provider: FakeProvider, ask: Ask, after_bytes: int | None) -> None:
    provider.script(Cut(Answer("x"), after_bytes=after_bytes))
    with pytest.raises(openai.APIConnectionError) as caught:
        ask()
    assert not classify(caught.value).rejected
    assert provider.served.total > 0


def test_a_time_out_may_have_been_billed(provider: FakeProvider, sdk: openai.OpenAI, api: Api) -> None:
    provider.script(Hang())
    with pytest.raises(openai.APITimeoutError) as caught:
        # Long enough for the request to arrive on a busy machine.
        OpenAIClient(sdk, api=api, timeout_seconds=0.5).messages.create(**REQUEST)
    assert not classify(caught.value).rejected


def test_a_closed_provider_was_never_reached(provider: FakeProvider, ask: Ask) -> None:
    provider.close()
    with pytest.raises(openai.APIConnectionError) as caught:
        ask()
    assert classify(caught.value).rejected


# --- Asynchronous, and made -------------------------------------------------------------------------------------------


def test_the_asynchronous_adapter_does_the_same(provider: FakeProvider, api: Api) -> None:
    provider.script(Answer("hello", tool_calls=[("find", {})]), Fault(429))

    async def run() -> Reply:
        async with openai.AsyncOpenAI(base_url=provider.url + "/v1", api_key="any") as sdk:
            client = AsyncOpenAIClient(sdk, api=api)
            assert isinstance(client, LLMClient)
            reply = read_reply(await client.messages.create(**REQUEST, tools=[TOOL]))
            with pytest.raises(openai.RateLimitError):
                await client.messages.create(**REQUEST)
            return reply

    assert asyncio.run(run()).stop_reason == "tool_use"
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    ("base_url", "key"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://eu.api.openai.com/v1", "max_completion_tokens"),
        ("https://mine.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("http://localhost:11434/v1", "max_tokens"),
        ("https://api.openai.com.evil.example/v1", "max_tokens"),
    ],
)
def test_the_limit_on_output_has_the_name_that_the_host_knows(base_url: str, key: str) -> None:
    with openai.OpenAI(base_url=base_url, api_key="any") as sdk:
        assert OpenAIClient(sdk).messages._spelling.request("m", 9, [], "", {})[key] == 9


def test_the_name_of_the_limit_can_be_chosen(provider: FakeProvider, sdk: openai.OpenAI) -> None:
    provider.script(Answer("x"))
    OpenAIClient(sdk, max_tokens_key="max_completion_tokens").messages.create(**REQUEST)
    assert sent(provider)["max_completion_tokens"] == 100
    assert "max_tokens" not in sent(provider)


def test_a_server_of_ones_own_needs_no_key(provider: FakeProvider) -> None:
    provider.script(Answer("hello"))
    client = make_openai(base_url=provider.url + "/v1")
    assert read_reply(client.messages.create(**REQUEST)).text == "hello"
    client.close()


def test_a_missing_key_is_one_clear_error() -> None:
    with pytest.raises(CallError, match="Set OPENAI_API_KEY"):
        make_openai()


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"donewhen\[openai\]"):
        make_openai(api_key="any")


def test_a_reply_that_is_none_is_an_error() -> None:
    from donewhen.providers.openai_chat import read_completion
    from donewhen.providers.openai_responses import read_response

    for read, nothing in ((read_completion, {"choices": []}), (read_completion, {}), (read_response, {})):
        with pytest.raises(ReplyError):
            read(nothing)
