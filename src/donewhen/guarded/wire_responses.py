"""OpenAI Responses. What lies on the server (an earlier response, a conversation, a file) cannot be bounded here.

Source: platform.openai.com, API reference, "Responses" and "Streaming events"; openai SDK 3.57.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from donewhen.bounds import Request
from donewhen.client import Reply, read_reply
from donewhen.errors import ReplyError
from donewhen.guarded.wire import Body, bounded
from donewhen.providers.openai_blocks import field_of
from donewhen.providers.openai_responses import read_response

ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""The events with which a stream ends: each has the whole response in it."""


class ResponsesWire:
    """Know what ``POST /responses`` says."""

    def request(self, body: Body, window: int | None) -> Request:
        """Return what is to be bounded."""
        given = body.get("input") or ()
        items = (
            [{"role": "user", "content": given}] if isinstance(given, str) else [_as_message(item) for item in given]
        )
        return bounded(
            body,
            items,
            own=("input", "instructions", "max_output_tokens"),
            limit=body.get("max_output_tokens"),
            system=body.get("instructions"),
            window=window,
        )

    def limited(self, body: Body, max_tokens: int) -> Body:
        """Return the body as it is sent."""
        return {**body, "max_output_tokens": max_tokens}

    def read(self, response: object) -> Reply:
        """Return a response as a reply."""
        return read_reply(read_response(response))

    def echoes(self, reply: Reply, response: object) -> Sequence[Mapping[str, Any]]:  # noqa: ARG002 - the protocol's
        """Return nothing: a response comes back as several items, which are counted anew."""
        return []

    def listen(self, body: Body) -> ResponsesListener:  # noqa: ARG002 - the protocol's
        """Return what listens to a stream."""
        return ResponsesListener()


class ResponsesListener:
    """Wait for the response that ends a stream."""

    def __init__(self) -> None:
        self.complete = False
        self.response: object = None

    @property
    def counted(self) -> bool:
        """Return whether the usage has been heard too: it comes with the response."""
        return self.complete

    def hear(self, event: object) -> bool:
        """Take an event in."""
        if field_of(event, "type") in ENDS:
            self.response, self.complete = field_of(event, "response"), True
        return self.complete

    def shows(self, event: object) -> bool:  # noqa: ARG002 - the protocol's
        """Tell that every event is the caller's."""
        return True

    def read(self) -> Reply:
        """Return the response as a reply."""
        if self.response is None:
            raise ReplyError("the stream ended without a response")
        return read_reply(read_response(self.response))


def _as_message(item: Mapping[str, Any]) -> Mapping[str, Any]:
    # An item that is no message is sized as a block, so that one of an unknown kind is refused.
    return item if "role" in item else {"content": [item]}
