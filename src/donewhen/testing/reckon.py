"""Turn an `Answer` into what is really said and really used: counted, and cut where `max_tokens` says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from donewhen.client import ToolCall
from donewhen.testing.script import Answer, ProviderRequest, ToolRequest
from donewhen.testing.tokens import Count
from donewhen.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenCall:
    """A tool call as it goes out; its arguments are text, possibly cut off."""

    id: str
    name: str
    arguments: str

    @property
    def input(self) -> Mapping[str, Any]:
        """Return the arguments as an object; empty where they were cut off or never were one."""
        try:
            value: object = json.loads(self.arguments)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]  # JSON objects have text keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A reply as it goes out on any wire."""

    number: int
    model: str
    text: str
    thinking: str | None
    tool_calls: tuple[SpokenCall, ...]
    stop_reason: str
    refusal: str | None
    used: Usage
    """What is billed."""
    thinking_tokens: int
    reported: Mapping[str, Any] | None
    """What the reply says instead, if it does not tell the truth."""
    reports: bool
    """False: the reply has no usage."""


def speak(answer: Answer, request: ProviderRequest, count: Count, *, honours_max_tokens: bool) -> Spoken:
    """Return the reply to a request, counted and cut."""
    calls = tuple(_spell(call, request.number, index) for index, call in enumerate(answer.tool_calls))
    parts = [
        answer.thinking or "",
        answer.text,
        answer.refusal or "",
        *(part for c in calls for part in (c.name, c.arguments)),
    ]
    counted = sum(count(part) for part in parts)
    wanted = answer.output_tokens if answer.output_tokens is not None else max(counted, 1)
    limit = request.max_tokens if honours_max_tokens else None
    is_cut = limit is not None and wanted > limit
    room = limit if is_cut and limit is not None else max(wanted, counted)
    thinking, room = _fit(count, answer.thinking, room)
    text, room = _fit(count, answer.text, room)
    return Spoken(
        number=request.number,
        model=answer.model or str(request.body.get("model")),
        text=text or "",
        thinking=thinking,
        tool_calls=_fit_calls(count, calls, room) if is_cut else calls,
        stop_reason="max_tokens" if is_cut else _stop_reason(answer),
        refusal=answer.refusal,
        used=_used(answer, request, min(wanted, limit) if limit is not None else wanted),
        thinking_tokens=count(thinking) if thinking else 0,
        reported=answer.usage if isinstance(answer.usage, Mapping) else None,
        reports=answer.usage != "missing",
    )


def _spell(call: ToolRequest, number: int, index: int) -> SpokenCall:
    if isinstance(call, ToolCall):
        name, arguments, call_id = call.name, call.arguments, call.id
    else:
        (name, arguments), call_id = call, f"call_{number}_{index + 1}"
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return SpokenCall(id=call_id, name=name, arguments=text)


def _stop_reason(answer: Answer) -> str:
    if answer.stop_reason is not None:
        return answer.stop_reason
    if answer.refusal is not None:
        return "refusal"
    return "tool_use" if answer.tool_calls else "end_turn"


def _used(answer: Answer, request: ProviderRequest, output_tokens: int) -> Usage:
    cached = answer.cache_read_tokens + answer.cache_write_tokens
    fresh = answer.input_tokens if answer.input_tokens is not None else max(request.input_tokens - cached, 0)
    return Usage(fresh, output_tokens, answer.cache_read_tokens, answer.cache_write_tokens)


def _fit(count: Count, text: str | None, room: int) -> tuple[str | None, int]:
    """Return the longest beginning that fits, and the room left."""
    if not text:
        return text, room
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(text[:middle]) <= room else (low, middle - 1)
    return text[:low], room - count(text[:low])


def _fit_calls(count: Count, calls: tuple[SpokenCall, ...], room: int) -> tuple[SpokenCall, ...]:
    """Return the calls that fit, the last of them cut off where its name still fits."""
    kept: list[SpokenCall] = []
    for call in calls:
        left = room - count(call.name)
        whole = count(call.name) + count(call.arguments)
        if whole <= room:
            kept.append(call)
            room -= whole
        elif left < 0:
            break
        else:
            arguments, _ = _fit(count, call.arguments, left)
            cut_arguments = arguments if arguments != call.arguments else call.arguments[:-1]
            return (*kept, SpokenCall(id=call.id, name=call.name, arguments=cut_arguments or ""))
    return tuple(kept)
