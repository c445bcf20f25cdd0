"""The wire of OpenAI Chat Completions.

Source: platform.openai.com, API reference, "Chat completions"; openai SDK 3.54.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from donewhen.testing.reckon import Spoken
from donewhen.testing.script import Fault, Wire
from donewhen.testing.wire import CREATED_AT, ErrorBody, pieces, required, sse

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "stop",
}
ERROR_TYPES = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    413: ("invalid_request_error", "request_too_large"),
    422: ("invalid_request_error", None),
    429: ("requests", "rate_limit_exceeded"),
}


class ChatWire:
    """Spell what api.openai.com spells under /v1/chat/completions."""

    name: Wire = "chat"

    def prompt(self, body: Mapping[str, Any]) -> tuple[Sequence[object], Sequence[object]]:
        """Return the messages, and the tools."""
        return body.get("messages") or (), (body.get("tools"),)

    def fault_in(self, body: Mapping[str, Any]) -> str | None:
        """Return why the provider would refuse this request, or None."""
        fault = required(body, model=str, messages=list)
        if fault is not None:
            return fault
        return _fault_in_messages(body["messages"]) if body["messages"] else "messages: array too short"

    def reply(self, spoken: Spoken, body: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002  # the protocol's shape
        """Return a completion."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": spoken.text or None,
            "refusal": spoken.refusal,
            "annotations": [],
        }
        if spoken.tool_calls:
            message["tool_calls"] = _tool_calls(spoken)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(spoken)}
        completion = {**_head(spoken, "chat.completion"), "choices": [choice]}
        return {**completion, "usage": usage_of(spoken)} if spoken.reports else completion

    def events(self, spoken: Spoken, body: Mapping[str, Any]) -> list[bytes]:
        """Return the stream of a completion."""
        options: Mapping[str, Any] = body.get("stream_options") or {}
        wants_usage = bool(options.get("include_usage"))
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
        deltas += [{"content": piece} for piece in pieces(spoken.text)]
        deltas += [{"refusal": piece} for piece in pieces(spoken.refusal or "")]
        for index, call in enumerate(_tool_calls(spoken)):
            opening = {**call, "function": {**call["function"], "arguments": ""}}
            deltas.append({"tool_calls": [{"index": index, **opening}]})
            arguments = pieces(call["function"]["arguments"])
            deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in arguments]
        head = {**_head(spoken, "chat.completion.chunk"), **({"usage": None} if wants_usage else {})}
        chunks = [{**head, "choices": [_choice(delta, None)]} for delta in deltas]
        chunks.append({**head, "choices": [_choice({}, _finish_reason(spoken))]})
        if wants_usage and spoken.reports:
            chunks.append({**head, "choices": [], "usage": usage_of(spoken)})
        return [*map(sse, chunks), sse("[DONE]")]

    def error(self, fault: Fault, request_id: str) -> ErrorBody:
        """Return an error."""
        return openai_error(fault, request_id)

    def error_event(self, fault: Fault, request_id: str) -> bytes:
        """Return the event that ends a stream with an error."""
        return sse(openai_error(fault, request_id).body)

    def headers(self, request_id: str) -> dict[str, str]:
        """Return the headers of every reply."""
        return {"x-request-id": request_id}


def openai_error(fault: Fault, request_id: str) -> ErrorBody:
    """Return an error in the form of all of OpenAI's wires."""
    kind, code = ERROR_TYPES.get(fault.status, ("server_error", None))
    error = {"message": fault.message, "type": fault.kind or kind, "param": None, "code": code}
    return ErrorBody({"x-request-id": request_id}, {"error": error})


def usage_of(spoken: Spoken) -> dict[str, Any]:
    """Return the usage of a completion: here the kinds overlap, cached tokens being part of the prompt's."""
    if spoken.reported is not None:
        return dict(spoken.reported)
    used = spoken.used
    return {
        "prompt_tokens": used.all_input,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.total,
        "prompt_tokens_details": {
            "cached_tokens": used.cache_read_tokens,
            "cache_write_tokens": used.cache_write_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {"reasoning_tokens": spoken.thinking_tokens, "audio_tokens": 0},
    }


def _fault_in_messages(messages: Sequence[Any]) -> str | None:
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        if message.get("role") == "tool":
            if message.get("tool_call_id") not in open_calls:
                return f"messages.{index}: a 'tool' message must answer a preceding message with 'tool_calls'"
            open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            return f"messages.{index}: tool_call_ids did not have response messages: {sorted(open_calls)}"
        open_calls = {call["id"] for call in message.get("tool_calls") or ()}
    return f"messages: tool_call_ids did not have response messages: {sorted(open_calls)}" if open_calls else None


def _head(spoken: Spoken, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{spoken.number:04}",
        "object": kind,
        "created": CREATED_AT,
        "model": spoken.model,
        "service_tier": "default",
    }


def _choice(delta: Mapping[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _finish_reason(spoken: Spoken) -> str:
    if spoken.stop_reason == "refusal" and spoken.refusal is None:
        return "content_filter"
    return FINISH_REASONS.get(spoken.stop_reason, spoken.stop_reason)


def _tool_calls(spoken: Spoken) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in spoken.tool_calls
    ]
