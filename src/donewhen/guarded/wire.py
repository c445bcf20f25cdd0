"""What the guard needs to know of each endpoint: how a body is bounded, limited, and its reply and stream read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from donewhen.bounds import Request
from donewhen.client import Reply
from donewhen.errors import NotGovernedError
from donewhen.sizing import REFUSED_OPTIONS

Body = dict[str, Any]

HARMLESS = frozenset(
    [
        *("stream", "stream_options", "store", "include", "truncation", "logprobs", "top_logprobs"),
        *("prompt_cache_key", "prompt_cache_retention", "safety_identifier", "max_tool_calls"),
    ]
)
"""Options that add nothing to what a call can use.

Source: both providers' API references; tests/guarded/test_options.py holds it against the SDKs' own parameters.
"""


class Listener(Protocol):
    """Puts a streamed reply together while it passes."""

    complete: bool
    """Whether the whole reply has been heard."""

    @property
    def counted(self) -> bool:
        """Return whether its usage has been heard too."""
        ...

    @property
    def response(self) -> object:
        """Return what was heard in the form of a plain response, where `Wire.echoes` looks at one."""
        ...

    def hear(self, event: object) -> bool:
        """Take an event in; tell whether the reply's end has begun, so that the rest is read before it is shown."""
        ...

    def shows(self, event: object) -> bool:
        """Tell whether the caller would have had this event without us."""
        ...

    def read(self) -> Reply:
        """Return what was heard as a reply.

        Raises:
            ReplyError: it is none.
        """
        ...


class Wire(Protocol):
    """One endpoint."""

    def request(self, body: Body, window: int | None) -> Request:
        """Return what is to be bounded.

        Raises:
            NotGovernedError: something in the body goes round a reservation.
        """
        ...

    def limited(self, body: Body, max_tokens: int) -> Body:
        """Return the body as it is sent, with this limit on its output."""
        ...

    def read(self, response: object) -> Reply:
        """Return an SDK's response as a reply.

        Raises:
            ReplyError: it is none.
        """
        ...

    def echoes(self, reply: Reply, response: object) -> Sequence[Mapping[str, Any]]:
        """Return the ways in which a caller may put the reply into the next request, beside `Reply.echo`."""
        ...

    def listen(self, body: Body) -> Listener:
        """Return what listens to the stream of a request with this body, as the caller gave it."""
        ...


def bounded(
    body: Mapping[str, Any],
    messages: Iterable[Mapping[str, Any]],
    *,
    own: Iterable[str],
    limit: int | None,
    system: Any,
    window: int | None,
) -> Request:
    """Return the request whose input is bounded by everything that the model may read of a body.

    Args:
        body: plain data.
        messages: the conversation, as the sizer knows messages.
        own: the keys that the endpoint reads itself.
        limit: the most output that was asked for.
        system: the system prompt.
        window: tokens that are reserved for what cannot be bounded; None: it is refused.

    Raises:
        NotGovernedError: an option asks for more than one reply, or would go round the reservation.
    """
    known = {"model", "messages", "tools", *own}
    extra = {name: value for name, value in body.items() if name not in known | HARMLESS and value is not None}
    if extra.pop("n", 1) != 1:
        raise NotGovernedError("'n' asks for more than one reply, and the limit on output holds for each of them")
    for name in sorted(extra.keys() & REFUSED_OPTIONS.keys()):
        raise NotGovernedError(f"a request with the option {name!r} is not sent: {REFUSED_OPTIONS[name]}")
    return Request.of(
        model=str(body.get("model")),
        messages=messages,
        max_tokens=limit,
        system=system,
        tools=body.get("tools") or (),
        context_window_tokens=window,
        **extra,
    )
