"""Responses, both ways, without state on the server (`store` is false).

A reasoning model's items must come back untouched, in their order, or it forgets why it called a tool. So where a
response has more than a message, each block carries the item it came from under `item`, and the next request sends
that item instead of a translation. A block of type `openai_item` is an item that has no other form here.

| on the wire | here |
| --- | --- |
| status completed; beside function calls | `end_turn`; `tool_use` |
| incomplete because of max_output_tokens; content_filter | `max_tokens`; `refusal` |
| a part of type refusal | its text, and `refusal` |
| any other status or reason | the word itself, which nothing here knows, so the session fails closed |

Source: platform.openai.com, "Conversation state", "Reasoning models"; openai SDK 3.54.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from donewhen.errors import CallError, ReplyError
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
    {"model", "input", "instructions", "max_output_tokens", "tools", "tool_choice", "stream"}
    | {"store", "previous_response_id", "conversation", "background"}
)
"""What the adapter sets itself, or relies on: no state on the server, not streamed."""

KNOWN_OPTIONS = SHARED_OPTIONS | {"tools", "tool_choice"}

INCOMPLETE_REASONS = {"max_output_tokens": "max_tokens", "content_filter": "refusal"}


def spell_request(messages: Sequence[Any], system: object, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the SDK's arguments, but for the model and the limit on output.

    Raises:
        CallError: something has no place on this wire.
    """
    request = spell_options(more, known=KNOWN_OPTIONS)
    instructions = text_of(system, where="the system prompt")
    if instructions:
        request["instructions"] = instructions
    request["input"] = [item for message in messages for item in _spell_message(message)]
    request["store"] = False
    if more.get("tools"):
        # Anthropic's tools are not strict unless they say so; here they would be.
        request["tools"] = [{"type": "function", "strict": False, **spell_tool(tool)} for tool in more["tools"]]
        request |= spell_tool_choice(more.get("tool_choice"), _spell_choice_by_name)
    return request


def read_response(response: object) -> dict[str, Any]:
    """Return a response in Anthropic's form.

    Raises:
        ReplyError: there is no list of output items.
    """
    output = field_of(response, "output")
    if not isinstance(output, (list, tuple)):
        raise ReplyError("the response has no list of output items")
    items = [_plain(item) for item in cast("Sequence[object]", output)]
    keeps_items = any(item.get("type") != "message" for item in items)
    blocks = [block for item in items for block in _read_item(item, keeps_item=keeps_items)]
    reply: dict[str, Any] = {
        "id": field_of(response, "id"),
        "model": field_of(response, "model"),
        "content": blocks,
        "stop_reason": _stop_reason(response, items),
        "_request_id": field_of(response, "_request_id"),
    }
    usage = read_usage(field_of(response, "usage"), input_key="input_tokens", output_key="output_tokens")
    return reply if usage is None else {**reply, "usage": usage}


def _stop_reason(response: object, items: Sequence[Mapping[str, Any]]) -> str:
    status = str(field_of(response, "status"))
    parts = [part for item in items if item.get("type") == "message" for part in item.get("content") or ()]
    if status == "incomplete":
        reason = str(field_of(field_of(response, "incomplete_details"), "reason"))
        return INCOMPLETE_REASONS.get(reason, reason)
    if status != "completed":
        return status
    if any(part.get("type") == "refusal" for part in parts):
        return "refusal"
    return "tool_use" if any(item.get("type") == "function_call" for item in items) else "end_turn"


def _plain(item: object) -> dict[str, Any]:
    dump = getattr(item, "model_dump", None)
    if callable(dump):
        return cast("dict[str, Any]", dump(mode="json", by_alias=True, exclude_unset=True, warnings=False))
    return dict(cast("Mapping[str, Any]", item))


def _read_item(item: dict[str, Any], *, keeps_item: bool) -> Iterator[dict[str, Any]]:
    origin = {"item": item} if keeps_item else {}
    if item.get("type") == "message":
        text = "".join(part.get("text") or part.get("refusal") or "" for part in item.get("content") or ())
        if text or keeps_item:
            yield {"type": "text", "text": text, **origin}
    elif item.get("type") == "function_call":
        call = {"type": "tool_use", "id": item.get("call_id"), "name": item.get("name")}
        yield {**call, "input": read_arguments(item.get("arguments")), **origin}
    else:
        yield {"type": "openai_item", **origin}


def _spell_message(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    blocks = without_thinking(blocks_of(message["content"]))
    if message["role"] == "assistant":
        for block in blocks:
            yield _spell_assistant_block(block)
        return
    for block in blocks:
        if block.get("type") == "tool_result":
            call_id = block["tool_use_id"]
            yield {"type": "function_call_output", "call_id": call_id, "output": result_text(block)}
    rest = [block for block in blocks if block.get("type") != "tool_result"]
    if rest:
        yield {"role": message["role"], "content": spell_parts(rest, "input_text", _spell_image)}


def _spell_assistant_block(block: Mapping[str, Any]) -> dict[str, Any]:
    if "item" in block:
        return dict(block["item"])
    if block.get("type") == "text":
        return {"role": "assistant", "content": block["text"]}
    if block.get("type") == "tool_use":
        call = {"type": "function_call", "call_id": block["id"], "name": block["name"]}
        return {**call, "arguments": spell_arguments(block["input"])}
    raise CallError(f"the assistant's message has a block of type {block.get('type')!r}, which this wire cannot carry")


def _spell_image(url: str) -> dict[str, Any]:
    return {"type": "input_image", "image_url": url, "detail": "auto"}


def _spell_choice_by_name(name: str) -> object:
    return {"type": "function", "name": name}
