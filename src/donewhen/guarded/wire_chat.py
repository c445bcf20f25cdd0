"""OpenAI Chat Completions.

A stream is asked to say its usage (``stream_options.include_usage``); the chunk with it is kept from a caller who did
not ask for it.

Source: platform.openai.com, API reference, "Chat completions"; openai SDK 3.57.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from donewhen.bounds import Request
from donewhen.client import Reply, read_reply
from donewhen.errors import UnboundedRequestError
from donewhen.guarded.plain import plain
from donewhen.guarded.wire import Body, bounded
from donewhen.providers.openai_blocks import field_of
from donewhen.providers.openai_chat import read_completion

LIMITS = ("max_completion_tokens", "max_tokens")

_READ_AS_TEXT = frozenset(
    [
        *("role", "content", "name", "tool_calls", "tool_call_id", "refusal", "function_call", "annotations"),
        *("reasoning", "reasoning_content"),
    ]
)
"""The keys of a message that are only their own text. Another one may stand for something on the server."""


class ChatWire:
    """Know what ``POST /chat/completions`` says.

    Args:
        limit_key: what this server calls the limit on output, where the caller does not say.
    """

    def __init__(self, limit_key: str) -> None:
        self._limit_key = limit_key

    def request(self, body: Body, window: int | None) -> Request:
        """Return what is to be bounded.

        Raises:
            UnboundedRequestError: a message points to something on the server.
        """
        messages = body.get("messages") or ()
        unknown = sorted({key for message in messages for key in message if message[key] is not None} - _READ_AS_TEXT)
        if unknown and window is None:
            raise UnboundedRequestError(f"a message with the key {unknown[0]!r}, whose size cannot be known here")
        limits = [body[name] for name in LIMITS if body.get(name) is not None]
        return bounded(body, messages, own=LIMITS, limit=min(limits, default=None), system=None, window=window)

    def limited(self, body: Body, max_tokens: int) -> Body:
        """Return the body as it is sent."""
        names = [name for name in LIMITS if body.get(name) is not None] or [self._limit_key]
        sent = {**body, **dict.fromkeys(names, max_tokens)}
        if body.get("stream"):
            sent["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        return sent

    def read(self, response: object) -> Reply:
        """Return a completion as a reply."""
        return read_reply(read_completion(response))

    def echoes(self, reply: Reply, response: object) -> Sequence[Mapping[str, Any]]:  # noqa: ARG002 - the protocol's
        """Return the message as it came, and as callers who spell it themselves do."""
        message: dict[str, Any] = plain(field_of(field_of(response, "choices")[0], "message"))
        kept = {name: message.get(name) for name in ("role", "content", "tool_calls")}
        return [message, kept if kept["tool_calls"] else {"role": "assistant", "content": kept["content"]}]

    def listen(self, body: Body) -> ChatListener:
        """Return what listens to a stream."""
        options: Mapping[str, Any] = body.get("stream_options") or {}
        return ChatListener(shows_usage=bool(options.get("include_usage")))


class ChatListener:
    """Put a completion together from its chunks."""

    def __init__(self, *, shows_usage: bool) -> None:
        self.complete = False
        self._shows_usage = shows_usage
        self._completion: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {"content": [], "refusal": []}
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish: str | None = None

    @property
    def counted(self) -> bool:
        """Return whether the usage has been heard too."""
        return self.complete and "usage" in self._completion

    def hear(self, event: object) -> bool:
        """Take a chunk in. It is complete with its finish reason; the usage comes after that, and before the end."""
        for name in ("id", "model"):
            if field_of(event, name) is not None:
                self._completion[name] = field_of(event, name)
        for choice in field_of(event, "choices") or ():
            self._add(field_of(choice, "delta"))
            self._finish = field_of(choice, "finish_reason") or self._finish
        self.complete = self._finish is not None
        # Some servers count with each chunk: only what comes with the end is of the whole reply.
        if self.complete and field_of(event, "usage") is not None:
            self._completion["usage"] = field_of(event, "usage")
        return self.complete

    def shows(self, event: object) -> bool:
        """Tell whether a chunk is the caller's: the one with nothing but the usage, only where it was asked for."""
        is_extra = not field_of(event, "choices") and field_of(event, "usage") is not None
        return self._shows_usage or not is_extra

    @property
    def response(self) -> dict[str, Any]:
        """Return what was heard in the form of a completion."""
        message: dict[str, Any] = {"role": "assistant"}
        message |= {name: "".join(texts) or None for name, texts in self._texts.items()}
        if self._calls:
            message["tool_calls"] = [self._calls[at] for at in sorted(self._calls)]
        return {**self._completion, "choices": [{"message": message, "finish_reason": self._finish}]}

    def read(self) -> Reply:
        """Return the completion as a reply."""
        return read_reply(read_completion(self.response))

    def _add(self, delta: object) -> None:
        for name, texts in self._texts.items():
            if field_of(delta, name):
                texts.append(field_of(delta, name))
        for part in field_of(delta, "tool_calls") or ():
            at = field_of(part, "index") or 0
            call = self._calls.setdefault(
                at, {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
            )
            call["id"] = field_of(part, "id") or call["id"]
            for name in ("name", "arguments"):
                call["function"][name] += field_of(field_of(part, "function"), name) or ""
