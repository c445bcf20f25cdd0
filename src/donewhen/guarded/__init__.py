"""The client that somebody already has, under a session: every call is a turn.

    with donewhen.open_session(spec, breaker, ledger) as session:
        client = donewhen.guard(anthropic.Anthropic(), session)
        message = client.messages.create(...)       # reserved before it is sent, settled when it returns

The SDK makes and reads everything as it always does; the guard stands where it hands a request to be sent. What is
governed, refused and not done is told in docs/guard.md.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from donewhen.errors import NotGovernedError
from donewhen.guarded.facade import GuardedClient, is_guarded, names_of
from donewhen.guarded.plain import is_given, plain
from donewhen.guarded.streams import OpenStreams
from donewhen.guarded.turn import Terms, Turn, Unusable
from donewhen.guarded.wire import Body, Wire
from donewhen.guarded.wire_chat import ChatWire
from donewhen.guarded.wire_messages import MessagesWire
from donewhen.guarded.wire_responses import ResponsesWire
from donewhen.halt_watch import EVERY_SECONDS, HaltWatch
from donewhen.providers.openai import max_tokens_key_of
from donewhen.providers.sdk import prepare
from donewhen.session import Session

__all__ = ["guard"]

ClientT = TypeVar("ClientT")

FREE = frozenset({"/v1/messages/count_tokens"})
"""What is posted without being billed."""

RAW_HEADER = "x-stainless-raw-response"
"""With which both SDKs mark a call of ``with_raw_response`` or ``with_streaming_response``.

Without ``stream=True`` either is read whole by its ``parse``, and can be read again after that.
"""


def guard(
    client: ClientT,
    session: Session,
    *,
    max_attempts: int | None = None,
    context_window_tokens: int | None = None,
    watch_seconds: float = EVERY_SECONDS,
    **clocks: Any,
) -> ClientT:
    """Return the client, each of its calls a turn of the session: reserved, sent, settled.

    Types stay what they are, for a type checker and for `isinstance`, and so do replies and streams. Safe to share
    between threads and tasks.

    Args:
        client: ``anthropic.Anthropic``, ``AsyncAnthropic``, ``openai.OpenAI``, ``AsyncOpenAI`` or a subclass, or the
            SDKs' clients for Bedrock, Vertex and Azure.
        session: open; from `donewhen.open_session`.
        max_attempts: how often one turn may be tried. None: as often as the client's own ``max_retries`` has it.
        context_window_tokens: reserved whole for a request that cannot be bounded. None: it is refused.
        watch_seconds: how often a halt is looked for while a stream, an awaited call or a wait is under way.
        clocks: ``jitter`` (returns a number from 0 to 1) and ``sleep`` (of so many seconds); handed in by tests.

    Raises:
        TypeError: the client is guarded already, or is none of these; any other goes through ``session.call``.
        ValueError: a number is not a whole number from 1 on.
        CallError: the client has middleware, which could send a request twice.
    """
    names = None if is_guarded(client) else names_of(client)
    if names is None:
        raise TypeError(
            f"guard takes a client of the anthropic or openai SDK that is not guarded yet, not {client!r}; for any "
            "other there is `with session.call(request) as call:`"
        )
    attempts = _retries_of(client) + 1 if max_attempts is None else max_attempts
    for name, number in {"max_attempts": attempts, "context_window_tokens": context_window_tokens}.items():
        if number is not None and (type(number) is not int or number < 1):
            raise ValueError(f"{name} is {number!r}, not a whole number from 1 on")
    watch = HaltWatch(session, watch_seconds, session.monotonic)
    terms = Terms(
        session=session,
        streams=OpenStreams(session, watch),
        watch=watch,
        max_attempts=attempts,
        context_window_tokens=context_window_tokens,
        **clocks,
    )
    return cast("ClientT", _guarded(client, terms))


def _guarded(client: object, terms: Terms) -> GuardedClient:
    names = names_of(client)
    assert names is not None
    # A client of our own, its retries off: the one that was handed in stays as it is.
    inner: Any = prepare(client)
    if inner is client:
        inner = copy.copy(client)
    _Door(inner, terms).hang()

    def again(made: object, options: Mapping[str, Any]) -> GuardedClient:
        retries = options.get("max_retries")
        given = type(retries) is int
        return _guarded(made, replace(terms, max_attempts=retries + 1) if given else terms)

    return GuardedClient(inner, names, terms.session, again)


def _retries_of(client: object) -> int:
    retries = getattr(client, "max_retries", 0)
    return retries if type(retries) is int else 0


class _Door:
    """Stands in for ``request`` of one client, through which both SDKs send everything they send by HTTP."""

    def __init__(self, inner: Any, terms: Terms) -> None:
        self._send: Callable[..., Any] = inner.request
        self._terms = terms
        self._wires: Mapping[str, Wire] = {
            "/v1/messages": MessagesWire(),
            "/chat/completions": ChatWire(max_tokens_key_of(inner)),
            "/responses": ResponsesWire(),
        }
        self._inner = inner

    def hang(self) -> None:
        is_async = inspect.iscoroutinefunction(self._send)
        self._inner.request = self.arequest if is_async else self.request

    def request(self, cast_to: Any, options: Any, **how: Any) -> Any:
        wire = self._wire_of(options)
        if wire is None:
            return self._send(cast_to, options, **how)
        body, is_raw = self._body_of(options, streams=bool(how.get("stream")))

        def send(body: Body) -> Any:
            sent = _Sent(options, body)
            try:
                response = self._send(cast_to, sent.options, **how)
            except Exception as error:  # noqa: BLE001 - raised again, at once or once the reply is settled
                return sent.refused(error)
            try:
                return response, response.parse() if is_raw else response
            except Exception as error:  # noqa: BLE001 - it is raised again where the caller parses
                return response, sent.reply_or(error)

        return Turn(terms=self._terms, wire=wire, body=body, send=send).make()

    async def arequest(self, cast_to: Any, options: Any, **how: Any) -> Any:
        wire = self._wire_of(options)
        if wire is None:
            return await self._send(cast_to, options, **how)
        body, is_raw = self._body_of(options, streams=bool(how.get("stream")))

        async def send(body: Body) -> Any:
            sent = _Sent(options, body)
            try:
                response = await self._send(cast_to, sent.options, **how)
            except Exception as error:  # noqa: BLE001 - raised again, at once or once the reply is settled
                return sent.refused(error)
            try:
                parsed = response.parse() if is_raw else response
                return response, (await parsed if inspect.isawaitable(parsed) else parsed)
            except Exception as error:  # noqa: BLE001 - it is raised again where the caller parses
                return response, sent.reply_or(error)

        return await Turn(terms=self._terms, wire=wire, body=body, send=send).amake()

    def _wire_of(self, options: Any) -> Wire | None:
        path = str(options.url).partition("?")[0]
        if options.method.lower() == "get" or path in FREE:
            return None
        wire = self._wires.get(path)
        if wire is None or options.method.lower() != "post":
            raise NotGovernedError(
                f"{options.method.upper()} {path} is not sent: the guard knows no bound for what it could spend"
            )
        return wire

    def _body_of(self, options: Any, *, streams: bool) -> tuple[Body, bool]:
        """Return the body of a call that the SDK will read as a stream or not, and whether its response is a raw one.

        Raises:
            NotGovernedError: what was used would never be heard.
        """
        own: Mapping[str, Any] = options.json_data or {}
        extra: Mapping[str, Any] = options.extra_json or {}
        body: Body = plain({**own, **extra})
        if bool(body.get("stream")) != streams:
            raise NotGovernedError("the SDK would not read what is asked for in extra_body: give stream as an argument")
        headers: Mapping[str, Any] = options.headers if is_given(options.headers) else {}
        # The SDKs look at what is sent: a client's own headers are in it too.
        is_raw = any(name.lower() == RAW_HEADER for name in (*headers, *self._inner.default_headers))
        if is_raw and streams:
            raise NotGovernedError(
                "a raw response of a stream can be read past the guard, which would never hear what was used: leave "
                "out stream=True, or with_raw_response and with_streaming_response"
            )
        return body, is_raw


class _Sent:
    """A request as it is sent, once.

    ``parse`` of both SDKs makes something else of the reply before anybody sees it, and may refuse to: a completion that
    was cut off, say. The reply was billed all the same, so it is taken before that.
    """

    def __init__(self, options: Any, body: Body) -> None:
        self.options = copy.copy(options)
        # All of what is sent stands in the body now, and this is the only attempt at it.
        self.options.json_data, self.options.extra_json, self.options.max_retries = body, None, 0
        self._replies: list[object] = []
        make = getattr(options, "post_parser", None)
        if callable(make):

            def taking(reply: object) -> object:
                self._replies.append(reply)
                return make(reply)

            self.options.post_parser = taking

    def reply_or(self, error: Exception) -> object:
        """Return the reply of which nothing could be made.

        Raises:
            Exception: the error itself, where there was none.
        """
        if not self._replies:
            raise error
        return self._replies[-1]

    def refused(self, error: Exception) -> tuple[Unusable, object]:
        """Return what is to be raised once the reply is settled, and the reply; see `reply_or`."""
        return Unusable(error), self.reply_or(error)
