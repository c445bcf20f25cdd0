"""Anthropic Messages, the beta endpoint of the same shape included.

Source: docs.anthropic.com, "Messages" and "Streaming messages"; anthropic SDK 2.14.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from donewhen.bounds import Request
from donewhen.client import UNPARSED_ARGUMENTS, Reply, read_reply
from donewhen.guarded.plain import plain
from donewhen.guarded.wire import Body, bounded
from donewhen.providers.openai_blocks import field_of

_DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


class MessagesWire:
    """Know what ``POST /v1/messages`` says."""

    def request(self, body: Body, window: int | None) -> Request:
        """Return what is to be bounded."""
        return bounded(
            body,
            body.get("messages") or (),
            own=("max_tokens", "system"),
            limit=body.get("max_tokens"),
            system=body.get("system"),
            window=window,
        )

    def limited(self, body: Body, max_tokens: int) -> Body:
        """Return the body as it is sent."""
        return {**body, "max_tokens": max_tokens}

    def read(self, response: object) -> Reply:
        """Return a message as a reply."""
        return read_reply(response)

    def echoes(self, reply: Reply, response: object) -> Sequence[Mapping[str, Any]]:  # noqa: ARG002 - the protocol's
        """Return the message as its blocks, which is how the SDK's users send it back."""
        return [{"role": "assistant", "content": [dict(block) for block in reply.content]}]

    def listen(self, body: Body) -> MessagesListener:  # noqa: ARG002 - the protocol's
        """Return what listens to a stream."""
        return MessagesListener()


class MessagesListener:
    """Put a message together from its events."""

    def __init__(self) -> None:
        self.complete = False
        self.response: object = None
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._counted = False
        self._blocks: dict[int, dict[str, Any]] = {}
        self._json: dict[int, list[str]] = {}

    @property
    def counted(self) -> bool:
        """Return whether the usage has been heard too."""
        return self.complete and self._counted

    def hear(self, event: object) -> bool:
        """Take an event in."""
        kind = field_of(event, "type")
        if kind == "message_start":
            message = field_of(event, "message")
            self._message = {name: field_of(message, name) for name in ("id", "model", "_request_id")}
            self._count(field_of(message, "usage"))
        elif kind == "content_block_start":
            self._blocks[field_of(event, "index")] = plain(field_of(event, "content_block"))
        elif kind == "content_block_delta":
            self._add(field_of(event, "index"), field_of(event, "delta"))
        elif kind == "message_delta":
            usage = field_of(event, "usage")
            # The first event counts one token of output: only what comes with the end is true.
            self._counted = type(field_of(usage, "output_tokens")) is int
            self._count(usage)
            self._message["stop_reason"] = field_of(field_of(event, "delta"), "stop_reason")
            return True
        elif kind == "message_stop":
            self.complete = True
        return False

    def shows(self, event: object) -> bool:  # noqa: ARG002 - the protocol's
        """Tell that every event is the caller's."""
        return True

    def read(self) -> Reply:
        """Return the message as a reply."""
        usage = {"usage": self._usage} if self._counted else {}
        return read_reply({**self._message, **usage, "content": [self._block(at) for at in sorted(self._blocks)]})

    def _count(self, usage: object) -> None:
        # Each count is of the whole message so far; what is null says nothing.
        names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        self._usage |= {name: field_of(usage, name) for name in names if field_of(usage, name) is not None}

    def _add(self, at: int, delta: object) -> None:
        kind = field_of(delta, "type")
        block = self._blocks.setdefault(at, {})
        if kind == "input_json_delta":
            self._json.setdefault(at, []).append(field_of(delta, "partial_json") or "")
        elif kind in _DELTAS:
            name = _DELTAS[kind]
            block[name] = (block.get(name) or "") + (field_of(delta, name) or "")

    def _block(self, at: int) -> dict[str, Any]:
        block, text = self._blocks[at], "".join(self._json.get(at, ()))
        if not text:
            return block
        try:
            value: object = json.loads(text)
        except ValueError:
            value = None
        return {**block, "input": value if isinstance(value, dict) else {UNPARSED_ARGUMENTS: text}}
