"""What a `FakeProvider` can be told to do with a request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from donewhen.client import ToolCall

Wire = Literal["messages", "chat", "responses"]
"""Anthropic Messages, OpenAI Chat Completions, OpenAI Responses."""

ToolRequest = ToolCall | tuple[str, Mapping[str, Any] | str]
"""A tool call with its id, or a name and arguments; arguments as text are sent as they are (OpenAI's wires only)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply. Counts that are None are counted from the request and from what is said here."""

    text: str = ""
    tool_calls: tuple[ToolRequest, ...] | list[ToolRequest] = ()
    stop_reason: str | None = None
    """In Anthropic's words; None: `tool_use` beside tool calls, else `end_turn`. Unknown words go out as they are."""
    input_tokens: int | None = None
    """Input that was neither read from nor written to a cache."""
    output_tokens: int | None = None
    """What the reply would take without a limit; `max_tokens` still cuts it."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    thinking: str | None = None
    """What the model thought: a thinking block, a reasoning item, or reasoning tokens alone, as the wire has it."""
    usage: Mapping[str, Any] | Literal["missing", "counted"] = "counted"
    """`missing`: the reply has no usage. A mapping is sent as it is, whatever was really used."""
    model: str | None = None
    """The model that says it answered. None: the one that was asked for."""
    refusal: str | None = None
    """A refusal in the model's own words, where the wire has a place for it (OpenAI); the stop reason is `refusal`."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An error in the provider's own form."""

    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    message: str = "a scripted fault"
    kind: str | None = None
    """The error's type. None: the one that the provider uses for this status."""
    after: Answer | None = None
    """Work that was done, and is billed, before the error. A stream starts with status 200 and ends with the error."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A connection that breaks. The answer is billed all the same."""

    answer: Answer = field(default_factory=Answer)
    after_bytes: int | None = 0
    """Bytes of the body that still arrive, the headers before them. None: not even the headers."""


@dataclass(frozen=True, slots=True)
class Hang:
    """A reply that does not come before an event, or before the provider closes. It is billed at once."""

    event: threading.Event = field(default_factory=threading.Event)
    answer: Answer = field(default_factory=Answer)
    after_events: int = 0
    """How much of a stream still comes before it stalls."""


Step = Answer | Fault | Cut | Hang


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRequest:
    """A request as it arrived."""

    number: int
    """Counts from 1 in the order of arrival."""
    wire: Wire
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: dict[str, Any]
    input_tokens: int
    """What the prompt really counts."""

    @property
    def max_tokens(self) -> int | None:
        """Return the most output tokens that the request allows."""
        names = ("max_tokens", "max_completion_tokens", "max_output_tokens")
        return next((self.body[name] for name in names if isinstance(self.body.get(name), int)), None)

    @property
    def streams(self) -> bool:
        """Return whether the reply is to be streamed."""
        return self.body.get("stream") is True


Handler = Callable[[ProviderRequest], Step]
