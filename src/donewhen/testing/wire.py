"""What a `FakeProvider` needs to know of each wire, and what the wires share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from donewhen.testing.reckon import Spoken
from donewhen.testing.script import Fault, Wire

CREATED_AT = 1_767_225_600
"""The moment that replies carry: 2026-01-01 as Unix time, so that the same script gives the same bytes."""

DELTA_CHARACTERS = 8
"""How much text a streamed piece carries."""


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An error as it goes out."""

    headers: dict[str, str]
    body: dict[str, Any]


class WireForm(Protocol):
    """One provider's way to spell requests, replies, streams and errors."""

    name: Wire

    def prompt(self, body: Mapping[str, Any]) -> tuple[Sequence[object], Sequence[object]]:
        """Return the messages, and what else of the request the model reads."""
        ...

    def fault_in(self, body: Mapping[str, Any]) -> str | None:
        """Return why the provider would refuse this request, or None."""
        ...

    def reply(self, spoken: Spoken, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the reply to a plain request."""
        ...

    def events(self, spoken: Spoken, body: Mapping[str, Any]) -> list[bytes]:
        """Return the reply to a streaming request, event by event."""
        ...

    def error(self, fault: Fault, request_id: str) -> ErrorBody:
        """Return an error's body and headers."""
        ...

    def error_event(self, fault: Fault, request_id: str) -> bytes:
        """Return the event that ends a stream with an error."""
        ...

    def headers(self, request_id: str) -> dict[str, str]:
        """Return the headers of every reply."""
        ...


def sse(data: object, event: str | None = None) -> bytes:
    """Spell one server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


def pieces(text: str) -> list[str]:
    """Return a text in the pieces that a stream carries."""
    return [text[start : start + DELTA_CHARACTERS] for start in range(0, len(text), DELTA_CHARACTERS)]


def required(body: Mapping[str, Any], **types: type | tuple[type, ...]) -> str | None:
    """Return which key is missing or of the wrong type, or None."""
    for name, kind in types.items():
        if name not in body:
            return f"{name}: Field required"
        if not isinstance(body[name], kind) or isinstance(body[name], bool):
            return f"{name}: Input has the wrong type"
    return None


def blocks_of(message: object) -> list[dict[str, Any]]:
    """Return a message's content as blocks."""
    if not isinstance(message, Mapping):
        return []
    content = cast("Mapping[str, Any]", message).get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in cast("list[Any]", content or []) if isinstance(block, dict)]
