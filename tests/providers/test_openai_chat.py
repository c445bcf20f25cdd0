from __future__ import annotations

from typing import Any

import pytest

from donewhen.providers.openai_chat import read_completion, spell_request

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


def spell(*messages: dict[str, Any], system: object = "", **more: Any) -> dict[str, Any]:
    return spell_request(messages, system, more)


def completion(finish_reason: str | None = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"finish_reason": finish_reason, "message": {"role": "assistant", **message}}]}


def test_the_system_prompt_comes_first() -> None:
    spelt = spell({"role": "user", "content": "hi"}, system=[{"type": "text", "text": "be kind"}])
    assert spelt["messages"] == [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]


def test_text_blocks_become_one_text_that_every_server_knows() -> None:
    blocks = [{"type": "text", "text": "one"}, {"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}}]
    assert spell({"role": "user", "content": blocks})["messages"] == [{"role": "user", "content": "one\ntwo"}]


@pytest.mark.parametrize(
    ("source", "url"),
    [
        (IMAGE["source"], "data:image/png;base64,AAAA"),
        ({"type": "url", "url": "https://example.org/a.png"}, "https://example.org/a.png"),
    ],
)
def test_images_go_along(source: object, url: str) -> None:
    content = [{"type": "image", "source": source}, {"type": "text", "text": "what is it?"}]
    (message,) = spell({"role": "user", "content": content})["messages"]
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "what is it?"},
    ]


def test_tool_results_stand_right_behind_the_calls() -> None:
    content = [{"type": "text", "text": "and?"}, {"type": "tool_result", "tool_use_id": "c", "content": "x"}]
    roles = [message["role"] for message in spell({"role": "user", "content": content})["messages"]]
    assert roles == ["tool", "user"]


def test_a_tool_result_without_content_is_empty_text() -> None:
    (message,) = spell({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c"}]})["messages"]
    assert message == {"role": "tool", "tool_call_id": "c", "content": ""}


def test_an_assistants_calls_and_text_stay_in_one_message() -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "Looking."},
        {"type": "tool_use", "id": "c", "name": "find", "input": {"q": "é"}},
    ]
    (message,) = spell({"role": "assistant", "content": content})["messages"]
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": '{"q": "é"}'}}
    assert message == {"role": "assistant", "content": "Looking.", "tool_calls": [call]}


@pytest.mark.parametrize("content", ["", []])
def test_an_empty_reply_is_echoed_as_empty_text(content: object) -> None:
    assert spell({"role": "assistant", "content": content})["messages"] == [{"role": "assistant", "content": ""}]


def test_one_tool_can_be_chosen_by_name() -> None:
    tool = {"name": "find", "input_schema": {}}
    spelt = spell(tools=[tool], tool_choice={"type": "tool", "name": "find"})
    assert spelt["tools"] == [{"type": "function", "function": {"name": "find", "parameters": {}}}]
    assert spelt["tool_choice"] == {"type": "function", "function": {"name": "find"}}


def test_stop_sequences_have_another_name() -> None:
    assert spell(stop_sequences=["END"])["stop"] == ["END"]


def test_a_stop_beside_tool_calls_is_a_call_for_tools() -> None:
    call = {"id": "c", "function": {"name": "find", "arguments": "{}"}}
    assert read_completion(completion("stop", tool_calls=[call]))["stop_reason"] == "tool_use"


def test_a_length_beside_tool_calls_is_cut_off() -> None:
    call = {"id": "c", "function": {"name": "find", "arguments": '{"q'}}
    assert read_completion(completion("length", tool_calls=[call]))["stop_reason"] == "max_tokens"


@pytest.mark.parametrize("reason", [None, "function_call", "insufficient_system_resource"])
def test_a_reason_that_nobody_knows_fails_closed(reason: str | None) -> None:
    assert read_completion(completion(reason, content="x"))["stop_reason"] == str(reason)


def test_arguments_that_a_server_sends_as_an_object_are_taken() -> None:
    call = {"id": "c", "function": {"name": "find", "arguments": {"q": 1}}}
    assert read_completion(completion(tool_calls=[call]))["content"][0]["input"] == {"q": 1}


def test_an_empty_completion_has_no_blocks() -> None:
    assert read_completion(completion(content=None))["content"] == []
