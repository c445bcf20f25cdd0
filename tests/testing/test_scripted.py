from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from donewhen.client import ToolCall, read_reply
from donewhen.testing import AsyncScriptedClient, ScriptedClient, ScriptEndedError, make_reply


def create(client: ScriptedClient, text: str = "hi") -> object:
    messages = [{"role": "user", "content": text}]
    return client.messages.create(model="m", max_tokens=9, system="", messages=messages)


def test_replies_come_in_order() -> None:
    client = ScriptedClient(make_reply("one"), make_reply("two"))
    assert [read_reply(create(client)).text for _ in range(2)] == ["one", "two"]


def test_exceptions_are_raised() -> None:
    client = ScriptedClient(TimeoutError("slow"), make_reply("ok"))
    with pytest.raises(TimeoutError, match="slow"):
        create(client)
    assert read_reply(create(client)).text == "ok"


def test_a_function_of_the_call_decides() -> None:
    def answer(call: Mapping[str, Any]) -> object:
        return make_reply(call["messages"][0]["content"].upper())

    assert read_reply(create(ScriptedClient(answer), "hello")).text == "HELLO"


def test_a_function_may_return_an_exception() -> None:
    with pytest.raises(ValueError, match="as told"):
        create(ScriptedClient(lambda _: ValueError("as told")))


def test_a_script_that_ran_out_says_so() -> None:
    client = ScriptedClient(make_reply("only"))
    create(client)
    with pytest.raises(ScriptEndedError, match="call 2 was made, but the script has 1 replies"):
        create(client)


def test_the_last_reply_can_repeat() -> None:
    client = ScriptedClient(make_reply("one"), make_reply("more"), repeat_last=True)
    assert [read_reply(create(client)).text for _ in range(4)] == ["one", "more", "more", "more"]


def test_calls_are_kept_as_they_were_made() -> None:
    client = ScriptedClient(make_reply("ok"))
    messages = [{"role": "user", "content": "before"}]
    client.messages.create(model="m", messages=messages)
    messages[0]["content"] = "after"
    client.calls[0]["model"] = "changed"
    assert client.calls == [{"model": "m", "messages": [{"role": "user", "content": "before"}]}]


def test_a_script_can_grow() -> None:
    client = ScriptedClient()
    client.messages.extend(make_reply("late"))
    assert read_reply(create(client)).text == "late"


def test_the_asynchronous_client_follows_the_same_script() -> None:
    async def answer(call: Mapping[str, Any]) -> object:
        return make_reply("awaited")

    client = AsyncScriptedClient(make_reply("one"), answer, TimeoutError())

    async def run() -> list[str]:
        texts = [read_reply(await client.messages.create(model="m")).text for _ in range(2)]
        with pytest.raises(TimeoutError):
            await client.messages.create(model="m")
        return texts

    assert asyncio.run(run()) == ["one", "awaited"]
    assert len(client.calls) == 3


def test_a_made_reply_has_tool_calls_and_usage() -> None:
    reply = read_reply(make_reply(tool_calls=[ToolCall("c", "find", {"n": 1})], cache_read_input_tokens=4))
    assert reply.stop_reason == "tool_use"
    assert reply.tool_calls == (ToolCall("c", "find", {"n": 1}),)
    assert reply.usage is not None
    assert reply.usage.total == 10 + 5 + 4
