"""Chat Completions, both ways: Anthropic's form to the SDK's arguments, and a completion to Anthropic's form.

| on the wire | here |
| --- | --- |
| `finish_reason` stop, tool_calls, length, content_filter | `end_turn`, `tool_use`, `max_tokens`, `refusal` |
| stop beside tool calls (a forced tool; some servers always) | `tool_use` |
| `message.refusal` | its text, and `refusal` |
| any other reason | the reason itself, which nothing here knows, so the session fails closed |
| arguments that are no JSON object | `{UNPARSED_ARGUMENTS: "what the model wrote"}` |
| a tool result with `is_error` | its text after "Error: " |

Source: platform.openai.com, API reference, "Chat completions"; openai SDK 3.54.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from donewhen.errors import ReplyError
from donewhen.providers.openai_blocks import (
    SHARED_OPTIONS,
    blocks_of,
    field_of,
    read_arguments,
    read_usage,
    result_text,
    spell_arguments,
    spell_options,
    spell_parts,
    spell_tool,
    spell_tool_choice,
    text_of,
    without_thinking,
)

OWN_KEYS = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "tools", "tool_choice", "stream", "n"}
)
"""What the adapter sets itself, or relies on: one choice, not streamed."""

KNOWN_OPTIONS = SHARED_OPTIONS | {"tools", "tool_choice", "stop_sequences"}

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def spell_request(messages: Sequence[Any], system: object, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the SDK's arguments, but for the model and the limit on output.

    Raises:
        CallError: something has no place on this wire.
    """
    request = spell_options(more, known=KNOWN_OPTIONS)
    instructions = text_of(system, where="the system prompt")
    spelt: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    for message in messages:
        spelt += _spell_message(message)
    request["messages"] = spelt
    if more.get("stop_sequences"):
        request["stop"] = list(more["stop_sequences"])
    if more.get("tools"):
        request["tools"] = [{"type": "function", "function": spell_tool(tool)} for tool in more["tools"]]
        request |= spell_tool_choice(more.get("tool_choice"), _spell_choice_by_name)
    return request


def read_completion(completion: object) -> dict[str, Any]:
    """Return a completion in Anthropic's form.

    Raises:
        ReplyError: there is no choice with a message in it.
    """
    choice = _first(field_of(completion, "choices"))
    message = field_of(choice, "message")
    if message is None:
        raise ReplyError("the completion has no choice with a message")
    refusal = field_of(message, "refusal")
    blocks = [{"type": "text", "text": text} for text in (field_of(message, "content"), refusal) if text]
    calls = [_read_tool_call(call) for call in field_of(message, "tool_calls") or ()]
    reply: dict[str, Any] = {
        "id": field_of(completion, "id"),
        "model": field_of(completion, "model"),
        "content": [*blocks, *calls],
        "stop_reason": _stop_reason(field_of(choice, "finish_reason"), has_calls=bool(calls), refusal=refusal),
        "_request_id": field_of(completion, "_request_id"),
    }
    usage = read_usage(field_of(completion, "usage"), input_key="prompt_tokens", output_key="completion_tokens")
    return reply if usage is None else {**reply, "usage": usage}


def _first(choices: object) -> object:
    return next(iter(cast("Sequence[object]", choices)), None) if isinstance(choices, (list, tuple)) else None


def _stop_reason(finish_reason: object, *, has_calls: bool, refusal: object) -> str:
    if refusal:
        return "refusal"
    if finish_reason == "stop" and has_calls:
        return "tool_use"
    return STOP_REASONS.get(str(finish_reason), str(finish_reason))


def _read_tool_call(call: object) -> dict[str, Any]:
    function = field_of(call, "function")
    name, arguments = field_of(function, "name"), field_of(function, "arguments")
    return {"type": "tool_use", "id": field_of(call, "id"), "name": name, "input": read_arguments(arguments)}


def _spell_message(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    blocks = without_thinking(blocks_of(message["content"]))
    if message["role"] == "assistant":
        yield _spell_assistant(blocks)
        return
    # Results come first: they must stand right behind the message that asked for them.
    for block in blocks:
        if block.get("type") == "tool_result":
            yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": result_text(block)}
    rest = [block for block in blocks if block.get("type") != "tool_result"]
    if rest:
        yield {"role": message["role"], "content": spell_parts(rest, "text", _spell_image)}


def _spell_assistant(blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    calls = [block for block in blocks if block.get("type") == "tool_use"]
    text = text_of([block for block in blocks if block.get("type") != "tool_use"], where="the assistant's message")
    # Null stands beside tool calls alone; an empty reply is echoed as the empty text that it was.
    spelt: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
    if calls:
        spelt["tool_calls"] = [_spell_tool_call(call) for call in calls]
    return spelt


def _spell_tool_call(block: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": block["name"], "arguments": spell_arguments(block["input"])}
    return {"id": block["id"], "type": "function", "function": function}


def _spell_image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def _spell_choice_by_name(name: str) -> object:
    return {"type": "function", "function": {"name": name}}
