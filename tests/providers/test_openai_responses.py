from __future__ import annotations

from typing import Any

import openai
import pytest

from donewhen.client import read_reply
from donewhen.providers.openai import OpenAIClient
from donewhen.providers.openai_responses import read_response, spell_request
from donewhen.testing import Answer, FakeProvider

HI = {"role": "user", "content": "hi"}
TOOL = {"name": "find", "input_schema": {"type": "object", "properties": {}}}


def spell(*messages: dict[str, Any], system: object = "", **more: Any) -> dict[str, Any]:
    return spell_request(messages, system, more)


def test_nothing_is_stored_on_the_server() -> None:
    assert spell(HI, system="be kind") == {"instructions": "be kind", "input": [HI], "store": False}


def test_reasoning_items_come_back_untouched_and_in_their_place() -> None:
    with FakeProvider() as provider, openai.OpenAI(base_url=provider.url + "/v1", api_key="any") as sdk:
        client = OpenAIClient(sdk, api="responses")
        provider.script(Answer("Looking.", thinking="hm", tool_calls=[("find", {"q": 1})]), Answer("done"))
        first = read_reply(client.messages.create(model="m", max_tokens=99, messages=[HI], tools=[TOOL]))
        result = {"type": "tool_result", "tool_use_id": first.tool_calls[0].id, "content": "x"}
        messages = [HI, {"role": "assistant", "content": first.echo}, {"role": "user", "content": [result]}]
        client.messages.create(model="m", max_tokens=99, messages=messages, tools=[TOOL])
        body = provider.requests[1].body
    assert body["store"] is False
    assert [item.get("type") for item in body["input"]] == [
        None,
        "reasoning",
        "message",
        "function_call",
        "function_call_output",
    ]
    summary = [{"type": "summary_text", "text": "hm"}]
    sealed = {"id": "rs_0001", "type": "reasoning", "summary": summary, "encrypted_content": "c2VhbGVk0001"}
    assert body["input"][1] == sealed


def test_text_alone_is_echoed_as_a_string() -> None:
    part = {"type": "output_text", "text": "hello"}
    reply = read_reply(read_response({"status": "completed", "output": [{"type": "message", "content": [part]}]}))
    assert reply.echo == "hello"
    assert spell({"role": "assistant", "content": reply.echo})["input"] == [{"role": "assistant", "content": "hello"}]


def test_an_item_that_has_no_other_form_is_kept_whole() -> None:
    item = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    reply = read_reply(read_response({"status": "completed", "output": [item]}))
    assert reply.content == ({"type": "openai_item", "item": item},)
    assert spell({"role": "assistant", "content": reply.echo})["input"] == [item]


def test_a_call_of_another_provider_is_translated() -> None:
    content = [{"type": "tool_use", "id": "c", "name": "find", "input": {"q": 1}}]
    (item,) = spell({"role": "assistant", "content": content})["input"]
    assert item == {"type": "function_call", "call_id": "c", "name": "find", "arguments": '{"q": 1}'}


def test_tools_are_not_strict_unless_they_say_so() -> None:
    strict = {**TOOL, "strict": True}
    assert [tool["strict"] for tool in spell(HI, tools=[TOOL, strict])["tools"]] == [False, True]


def test_one_tool_can_be_chosen_by_name() -> None:
    spelt = spell(HI, tools=[TOOL], tool_choice={"type": "tool", "name": "find"})
    assert spelt["tool_choice"] == {"type": "function", "name": "find"}


def test_images_go_along() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    (item,) = spell({"role": "user", "content": [image, {"type": "text", "text": "?"}]})["input"]
    assert item["content"] == [
        {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "auto"},
        {"type": "input_text", "text": "?"},
    ]


@pytest.mark.parametrize(
    ("status", "reason", "stop_reason"),
    [
        ("incomplete", "max_output_tokens", "max_tokens"),
        ("incomplete", "content_filter", "refusal"),
        ("incomplete", "steered", "steered"),
        ("incomplete", None, "None"),
        ("failed", None, "failed"),
        (None, None, "None"),
    ],
)
def test_a_response_that_is_not_complete_says_why(status: str | None, reason: str | None, stop_reason: str) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "find", "arguments": "{}"}
    response = {"status": status, "incomplete_details": {"reason": reason}, "output": [call]}
    assert read_response(response)["stop_reason"] == stop_reason
