"""OpenAI's SDK alone against the provider on loopback: the streams that our adapter does not use, others do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from donewhen.client import classify
from donewhen.testing import Answer, Cut, FakeProvider, Fault

HI: Any = [{"role": "user", "content": "hi"}]
ANSWER = Answer("hello there", thinking="well", tool_calls=[("find", {"query": "x" * 30}), ("find", {})])


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def sdk(provider: FakeProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.url + "/v1", api_key="any", max_retries=0) as client:
        yield client


def test_a_streamed_completion_is_the_plain_one(provider: FakeProvider, sdk: openai.OpenAI) -> None:
    provider.script(ANSWER, ANSWER)
    plain = sdk.chat.completions.create(model="m", messages=HI)
    with sdk.chat.completions.stream(model="m", messages=HI, stream_options={"include_usage": True}) as events:
        streamed = events.get_final_completion()
    assert streamed.choices[0].message.content == plain.choices[0].message.content == "hello there"
    assert streamed.choices[0].finish_reason == plain.choices[0].finish_reason == "tool_calls"
    assert streamed.usage == plain.usage
    assert [call.function.arguments for call in streamed.choices[0].message.tool_calls or ()] == [
        call.function.arguments for call in plain.choices[0].message.tool_calls or ()
    ]


def test_a_stream_has_usage_only_where_it_is_asked_for(provider: FakeProvider, sdk: openai.OpenAI) -> None:
    provider.script(Answer("hello"))
    assert all(chunk.usage is None for chunk in sdk.chat.completions.create(model="m", messages=HI, stream=True))


def test_a_streamed_refusal_is_a_refusal(provider: FakeProvider, sdk: openai.OpenAI) -> None:
    provider.script(Answer(refusal="I will not."))
    with sdk.chat.completions.stream(model="m", messages=HI) as events:
        assert events.get_final_completion().choices[0].message.refusal == "I will not."


def test_a_streamed_response_is_the_plain_one(provider: FakeProvider, sdk: openai.OpenAI) -> None:
    provider.script(ANSWER, ANSWER)
    plain = sdk.responses.create(model="m", input="hi")
    with sdk.responses.stream(model="m", input="hi") as events:
        kinds = [event.type for event in events]
        streamed = events.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert streamed.output_text == plain.output_text == "hello there"
    assert streamed.usage == plain.usage
    assert [item.type for item in streamed.output] == ["reasoning", "message", "function_call", "function_call"]


def test_a_streamed_response_that_is_cut_off_ends_incomplete(provider: FakeProvider, sdk: openai.OpenAI) -> None:
    provider.script(Answer("x" * 400))
    events = list(sdk.responses.create(model="m", input="hi", max_output_tokens=16, stream=True))
    assert events[-1].type == "response.incomplete"


@pytest.mark.parametrize("after_bytes", [None, 0, 60, 600])
def test_a_cut_stream_may_have_been_billed(provider: FakeProvider, sdk: openai.OpenAI, after_bytes: int | None) -> None:
    cut = Cut(Answer("hello " * 20), after_bytes=after_bytes)
    provider.script(cut, cut)
    with pytest.raises(openai.APIConnectionError) as chat:
        list(sdk.chat.completions.create(model="m", messages=HI, stream=True))
    with pytest.raises(openai.APIConnectionError) as responses:
        list(sdk.responses.create(model="m", input="hi", stream=True))
    assert not classify(chat.value).rejected
    assert not classify(responses.value).rejected


def test_an_error_within_a_stream_of_chunks_may_have_been_billed(provider: FakeProvider, sdk: openai.OpenAI) -> None:
    provider.script(Fault(429, after=Answer("hello " * 20)))
    with pytest.raises(openai.APIError) as caught:
        list(sdk.chat.completions.create(model="m", messages=HI, stream=True))
    assert not classify(caught.value).rejected
    assert provider.served.total > 0


def test_an_error_within_a_streamed_response_is_an_event(provider: FakeProvider, sdk: openai.OpenAI) -> None:
    provider.script(Fault(500, after=Answer("hello")))
    assert [event.type for event in sdk.responses.create(model="m", input="hi", stream=True)][-1] == "error"


def test_asynchronous_streams_work(provider: FakeProvider) -> None:
    provider.script(Answer("hello"), Answer("there"))

    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=provider.url + "/v1", api_key="any", max_retries=0) as sdk:
            chunks = await sdk.chat.completions.create(model="m", messages=HI, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
            async with sdk.responses.stream(model="m", input="hi") as events:
                return [text, (await events.get_final_response()).output_text]

    assert asyncio.run(run()) == ["hello", "there"]
