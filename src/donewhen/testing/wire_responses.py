"""The wire of OpenAI Responses.

Source: platform.openai.com, API reference, "Responses" and "Streaming events"; openai SDK 3.54.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from donewhen.testing.reckon import Spoken
from donewhen.testing.script import Fault, Wire
from donewhen.testing.wire import CREATED_AT, ErrorBody, pieces, required, sse
from donewhen.testing.wire_chat import openai_error

INCOMPLETE_REASONS = {"max_tokens": "max_output_tokens", "refusal": "content_filter"}
COMPLETED = frozenset({"end_turn", "stop_sequence", "tool_use"})


class ResponsesWire:
    """Spell what api.openai.com spells under /v1/responses."""

    name: Wire = "responses"

    def prompt(self, body: Mapping[str, Any]) -> tuple[Sequence[object], Sequence[object]]:
        """Return the input items, and the instructions and tools."""
        items = body.get("input") or ()
        return [items] if isinstance(items, str) else items, (body.get("instructions"), body.get("tools"))

    def fault_in(self, body: Mapping[str, Any]) -> str | None:
        """Return why the provider would refuse this request, or None."""
        fault = required(body, model=str, input=(str, list))
        if fault is not None or isinstance(body["input"], str):
            return fault
        if body.get("max_output_tokens", 16) < 16:
            return "max_output_tokens: integer below minimum value; expected a value >= 16"
        return _fault_in_items(body["input"])

    def reply(self, spoken: Spoken, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a response."""
        return _response(spoken, body, status=_status(spoken), output=_items(spoken))

    def events(self, spoken: Spoken, body: Mapping[str, Any]) -> list[bytes]:
        """Return the stream of a response."""
        begun = _response(spoken, body, status="in_progress", output=[])
        begun = {**begun, "usage": None, "incomplete_details": None}
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
        ]
        for index, item in enumerate(_items(spoken)):
            events += _item_events(index, item)
        last = self.reply(spoken, body)
        events.append({"type": f"response.{last['status']}", "response": last})
        return [sse({**event, "sequence_number": at}, event["type"]) for at, event in enumerate(events)]

    def error(self, fault: Fault, request_id: str) -> ErrorBody:
        """Return an error."""
        return openai_error(fault, request_id)

    def error_event(self, fault: Fault, request_id: str) -> bytes:
        """Return the event that ends a stream with an error."""
        error = openai_error(fault, request_id).body["error"]
        event = {"type": "error", "code": error["code"], "message": error["message"], "param": None}
        return sse({**event, "sequence_number": 99}, "error")

    def headers(self, request_id: str) -> dict[str, str]:
        """Return the headers of every reply."""
        return {"x-request-id": request_id}


def _fault_in_items(items: Sequence[Mapping[str, Any]]) -> str | None:
    calls = {str(item.get("call_id")) for item in items if item.get("type") == "function_call"}
    outputs = {str(item.get("call_id")) for item in items if item.get("type") == "function_call_output"}
    if calls - outputs:
        return f"No tool output found for function call {min(calls - outputs)}."
    if outputs - calls:
        return f"No tool call found for function call output with call_id {min(outputs - calls)}."
    nothing: Mapping[str, Any] = {}
    followers: list[Mapping[str, Any]] = [*items[1:], nothing]
    for item, follower in zip(items, followers, strict=True):
        if item.get("type") == "reasoning" and not _may_follow_reasoning(follower):
            return f"Item '{item.get('id')}' of type 'reasoning' was provided without its required following item."
    return None


def _may_follow_reasoning(item: Mapping[str, Any]) -> bool:
    return item.get("type") in ("function_call", "reasoning") or item.get("role") == "assistant"


def _status(spoken: Spoken) -> str:
    if spoken.stop_reason in COMPLETED or spoken.refusal is not None:
        return "completed"
    return "incomplete" if spoken.stop_reason in INCOMPLETE_REASONS else spoken.stop_reason


def _response(spoken: Spoken, body: Mapping[str, Any], *, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    reason = INCOMPLETE_REASONS.get(spoken.stop_reason) if status == "incomplete" else None
    response = {
        "id": f"resp_{spoken.number:04}",
        "object": "response",
        "created_at": CREATED_AT,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": spoken.model,
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "store": body.get("store", True),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "metadata": {},
    }
    return {**response, "usage": _usage(spoken)} if spoken.reports else response


def _usage(spoken: Spoken) -> dict[str, Any]:
    if spoken.reported is not None:
        return dict(spoken.reported)
    used = spoken.used
    details = {"cached_tokens": used.cache_read_tokens, "cache_write_tokens": used.cache_write_tokens}
    return {
        "input_tokens": used.all_input,
        "input_tokens_details": details,
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": spoken.thinking_tokens},
        "total_tokens": used.total,
    }


def _items(spoken: Spoken) -> list[dict[str, Any]]:
    number, items = spoken.number, list[dict[str, Any]]()
    status = "incomplete" if spoken.stop_reason == "max_tokens" else "completed"
    if spoken.thinking:
        summary = [{"type": "summary_text", "text": spoken.thinking}]
        sealed = f"c2VhbGVk{number:04}"
        items.append({"id": f"rs_{number:04}", "type": "reasoning", "summary": summary, "encrypted_content": sealed})
    parts: list[dict[str, Any]] = []
    if spoken.text:
        parts.append({"type": "output_text", "text": spoken.text, "annotations": [], "logprobs": []})
    if spoken.refusal is not None:
        parts.append({"type": "refusal", "refusal": spoken.refusal})
    if parts:
        message = {"id": f"msg_{number:04}", "type": "message", "role": "assistant"}
        items.append({**message, "status": status, "content": parts})
    for index, call in enumerate(spoken.tool_calls):
        item = {"id": f"fc_{number:04}_{index + 1}", "type": "function_call", "call_id": call.id, "name": call.name}
        items.append({**item, "arguments": call.arguments, "status": status})
    return items


def _item_events(index: int, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    place = {"output_index": index, "item_id": item["id"]}
    yield {"type": "response.output_item.added", "output_index": index, "item": {**item, **_begun(item)}}
    for at, part in enumerate(item.get("content", ())):
        yield from _part_events({**place, "content_index": at}, part)
    if item["type"] == "function_call":
        name = "response.function_call_arguments"
        yield from ({**place, "type": f"{name}.delta", "delta": piece} for piece in pieces(item["arguments"]))
        yield {**place, "type": f"{name}.done", "arguments": item["arguments"], "name": item["name"]}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, dict[str, Any]] = {
        "message": {"content": []},
        "function_call": {"arguments": ""},
        "reasoning": {"summary": []},
    }
    return {**empty[item["type"]], **({"status": "in_progress"} if "status" in item else {})}


def _part_events(place: dict[str, Any], part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    field = "text" if part["type"] == "output_text" else "refusal"
    name = f"response.{part['type']}"
    extra: dict[str, Any] = {"logprobs": []} if field == "text" else {}
    yield {**place, "type": "response.content_part.added", "part": {**part, field: ""}}
    yield from ({**place, **extra, "type": f"{name}.delta", "delta": piece} for piece in pieces(part[field]))
    yield {**place, **extra, "type": f"{name}.done", field: part[field]}
    yield {**place, "type": "response.content_part.done", "part": part}
