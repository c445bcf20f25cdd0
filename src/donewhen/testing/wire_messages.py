"""The wire of Anthropic Messages.

Source: docs.anthropic.com, "Messages", "Streaming messages" and "Errors"; anthropic SDK 2.12.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from donewhen.testing.reckon import Spoken
from donewhen.testing.script import Fault, Wire
from donewhen.testing.wire import ErrorBody, blocks_of, pieces, required, sse

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class MessagesWire:
    """Spell what api.anthropic.com spells."""

    name: Wire = "messages"

    def prompt(self, body: Mapping[str, Any]) -> tuple[Sequence[object], Sequence[object]]:
        """Return the messages, and the system prompt and tools."""
        return body.get("messages") or (), (body.get("system"), body.get("tools"))

    def fault_in(self, body: Mapping[str, Any]) -> str | None:
        """Return why the provider would refuse this request, or None."""
        fault = required(body, model=str, max_tokens=int, messages=list)
        if fault is not None:
            return fault
        if body["max_tokens"] < 1:
            return "max_tokens: must be greater than or equal to 1"
        if not body["messages"]:
            return "messages: at least one message is required"
        thinking: Mapping[str, Any] = body.get("thinking") or {}
        budget = thinking.get("budget_tokens")
        if budget is not None and body["max_tokens"] <= budget:
            return "`max_tokens` must be greater than `thinking.budget_tokens`"
        return _fault_in_messages(body["messages"])

    def reply(self, spoken: Spoken, body: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002  # the protocol's shape
        """Return a message."""
        message = _message(spoken, content=_content(spoken), stop_reason=spoken.stop_reason)
        return message if spoken.reports else {key: value for key, value in message.items() if key != "usage"}

    def events(self, spoken: Spoken, body: Mapping[str, Any]) -> list[bytes]:  # noqa: ARG002  # the protocol's shape
        """Return the stream of a message."""
        start = _message(spoken, content=[], stop_reason=None)
        if spoken.reports and spoken.reported is None:
            start["usage"]["output_tokens"] = 1  # as the provider does: the true count comes with the last delta
        if not spoken.reports:
            del start["usage"]
        delta: dict[str, Any] = {"stop_reason": spoken.stop_reason, "stop_sequence": None}
        end: dict[str, Any] = {"type": "message_delta", "delta": delta}
        if spoken.reports:
            end["usage"] = _usage(spoken)
        return [
            _event({"type": "message_start", "message": start}),
            _event({"type": "ping"}),
            *(event for index, block in enumerate(_blocks(spoken)) for event in _block_events(index, *block)),
            _event(end),
            _event({"type": "message_stop"}),
        ]

    def error(self, fault: Fault, request_id: str) -> ErrorBody:
        """Return an error."""
        kind = fault.kind or ERROR_TYPES.get(fault.status, "api_error")
        error = {"type": kind, "message": fault.message}
        return ErrorBody(self.headers(request_id), {"type": "error", "error": error, "request_id": request_id})

    def error_event(self, fault: Fault, request_id: str) -> bytes:
        """Return the event that ends a stream with an error."""
        return sse(self.error(fault, request_id).body, "error")

    def headers(self, request_id: str) -> dict[str, str]:
        """Return the headers of every reply."""
        return {"request-id": request_id}


def _fault_in_messages(messages: Sequence[Any]) -> str | None:
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        blocks = blocks_of(message)
        results = {block.get("tool_use_id") for block in blocks if block.get("type") == "tool_result"}
        if open_calls - results:
            return f"messages.{index}: `tool_use` ids were found without `tool_result` blocks: {sorted(open_calls)}"
        if results - open_calls:
            return f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks"
        if not blocks and (message.get("role") != "assistant" or index < len(messages) - 1):
            return f"messages.{index}: all messages must have non-empty content"
        if any(block.get("type") == "text" and not block.get("text") for block in blocks):
            return f"messages.{index}: text content blocks must be non-empty"
        open_calls = {block["id"] for block in blocks if block.get("type") == "tool_use"}
    return "messages: the last message has a `tool_use` without a `tool_result`" if open_calls else None


def _message(spoken: Spoken, *, content: list[dict[str, Any]], stop_reason: str | None) -> dict[str, Any]:
    return {
        "id": f"msg_{spoken.number:04}",
        "type": "message",
        "role": "assistant",
        "model": spoken.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": _usage(spoken),
    }


def _usage(spoken: Spoken) -> dict[str, Any]:
    if spoken.reported is not None:
        return dict(spoken.reported)
    return {
        "input_tokens": spoken.used.input_tokens,
        "cache_creation_input_tokens": spoken.used.cache_write_tokens,
        "cache_read_input_tokens": spoken.used.cache_read_tokens,
        "output_tokens": spoken.used.output_tokens,
        "service_tier": "standard",
    }


Delta = tuple[str, str]


def _blocks(spoken: Spoken) -> Iterator[tuple[dict[str, Any], list[Delta]]]:
    """Yield each block as it starts empty, with the deltas (type, text) that fill it."""
    if spoken.thinking:
        deltas = [("thinking_delta", piece) for piece in pieces(spoken.thinking)]
        deltas.append(("signature_delta", f"c2lnbmF0dXJl{spoken.number:04}"))
        yield {"type": "thinking", "thinking": "", "signature": ""}, deltas
    if spoken.text:
        yield {"type": "text", "text": ""}, [("text_delta", piece) for piece in pieces(spoken.text)]
    for call in spoken.tool_calls:
        start: dict[str, Any] = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        yield start, [("input_json_delta", piece) for piece in ("", *pieces(call.arguments))]


_FIELDS = {
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "text_delta": "text",
    "input_json_delta": "partial_json",
}


def _content(spoken: Spoken) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for block, deltas in _blocks(spoken):
        for kind, piece in deltas:
            if kind != "input_json_delta":
                block[_FIELDS[kind]] += piece
        content.append(block)
    calls = iter(spoken.tool_calls)
    return [{**block, "input": next(calls).input} if block["type"] == "tool_use" else block for block in content]


def _block_events(index: int, block: dict[str, Any], deltas: list[Delta]) -> Iterator[bytes]:
    yield _event({"type": "content_block_start", "index": index, "content_block": block})
    for kind, piece in deltas:
        delta = {"type": kind, _FIELDS[kind]: piece}
        yield _event({"type": "content_block_delta", "index": index, "delta": delta})
    yield _event({"type": "content_block_stop", "index": index})


def _event(data: dict[str, Any]) -> bytes:
    return sse(json.dumps(data), data["type"])
