"""What a client is, and what its answers mean.

A client is anything with ``.messages.create(model=, max_tokens=, system=, messages=)``, as the anthropic SDK has it.
Its answer is read here once, strictly, into a `Reply` of plain data: blocks that can be echoed, text, tool calls, stop
reason and usage. Usage that is missing or cannot be true is None with the reason beside it, never zero.

What a provider's refusal means is also decided here: `classify` tells a call that did no work (`rejected`) from one
that may have been billed (`unknown`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol, cast, runtime_checkable

from donewhen.errors import ReplyError
from donewhen.frozen import quick
from donewhen.usage import Usage

NO_WORK_STATUSES = frozenset({400, 401, 403, 404, 413, 422, 429, 529})
"""Statuses with which a provider says that it did no work, so that a reservation is released."""

RETRIED_STATUSES = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
"""Statuses that another attempt may cure."""

MOST_TOKENS = 10**12
"""More than any call can use: a count above it is a fault of the provider's."""

NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ConnectionRefusedError", "gaierror"})
"""Names of errors, of httpx and of the standard library, raised before a request left this machine."""

_WRAPPERS = frozenset({"APIConnectionError", "APITimeoutError"})
"""Names of errors with which the SDKs wrap the one that tells what happened."""

CONNECTION_LOST = frozenset(
    {"APIConnectionError", "APITimeoutError", "TransportError", "ConnectionError", "TimeoutError"}
)
"""Names of errors, and of their base classes, raised when a connection broke after a request was sent."""

UNPARSED_ARGUMENTS = "__unparsed_arguments__"
"""The only key of a tool call's arguments where the model's own were no JSON object; its value is what the model wrote.

An adapter hands such a call on, so that whoever runs tools can tell the model what is wrong; the tool must not run.
"""


_TEXT_FIELDS = frozenset({"type", "text"})

_COUNTS = (
    ("input_tokens", True),
    ("output_tokens", True),
    ("cache_read_input_tokens", False),
    ("cache_creation_input_tokens", False),
)
"""The counts of a usage, and whether each must be there."""


@runtime_checkable
class MessagesEndpoint(Protocol):
    """Something that answers a list of messages."""

    def create(self, *, model: str, max_tokens: int, system: str, messages: list[Any]) -> object:
        """Send one request and return the provider's reply."""
        ...


@runtime_checkable
class LLMClient(Protocol):
    """Anything with ``.messages.create(...)``."""

    messages: MessagesEndpoint


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call that a model asked for."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A provider's answer, as plain data."""

    content: tuple[dict[str, Any], ...]
    """The blocks as the provider sent them, thinking blocks untouched."""
    text: str
    """The text blocks joined."""
    tool_calls: tuple[ToolCall, ...]
    stop_reason: str
    usage: Usage | None
    """None: missing, or cannot be true; `usage_fault` says why."""
    usage_fault: str | None = None
    model: str | None = None
    """The model that the provider says answered."""
    request_id: str | None = None

    @property
    def echo(self) -> str | list[dict[str, Any]]:
        """Return the assistant's content for the next request: a string if it is text only, else all blocks."""
        for block in self.content:
            if block.get("type") != "text" or not block.keys() <= _TEXT_FIELDS:
                return [dict(block) for block in self.content]
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What came of an attempt that brought no reply."""

    rejected: bool
    """True: the provider did no work, or the request never left. False: it may have been billed."""
    problem: str
    """One sentence without the request's text."""
    status: int | None = None
    retryable: bool = False
    retry_after_seconds: float | None = None


def read_reply(response: object) -> Reply:
    """Read a provider's answer strictly.

    Args:
        response: what ``messages.create`` returned: an SDK's object, a mapping, or any object with the same attributes.

    Raises:
        ReplyError: there is no list of blocks under ``content``, or a tool call lacks its id, name or arguments.
    """
    get = _getter(response)
    blocks = get("content", None)
    if isinstance(blocks, str):
        blocks = [{"type": "text", "text": blocks}]
    if not isinstance(blocks, (list, tuple)):
        raise ReplyError(f"the client returned a {type(response).__name__} without a list of content blocks")
    content = tuple([_as_dict(block) for block in cast("list[object]", blocks)])
    texts: list[str] = []
    tool_calls: list[ToolCall] = []
    for block in content:
        kind = block.get("type")
        if kind == "text" and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif kind == "tool_use":
            tool_calls.append(_read_tool_call(block))
    text = "".join(texts)
    usage, fault = read_usage(get("usage", None), has_output=bool(text or tool_calls))
    # A client that has no notion of stop reasons ends its turn with each reply; one that has it and sends
    # nothing is not understood.
    stop_reason = get("stop_reason", "end_turn")
    return Reply(
        content=content,
        text=text,
        tool_calls=tuple(tool_calls),
        stop_reason=stop_reason if isinstance(stop_reason, str) else repr(stop_reason),
        usage=usage,
        usage_fault=fault,
        model=_text_or_none(get("model", None)),
        request_id=_text_or_none(get("_request_id", None)) or _text_or_none(get("id", None)),
    )


def read_usage(raw: object, *, has_output: bool) -> tuple[Usage | None, str | None]:
    """Return the usage, or None and the reason why it cannot be believed.

    Args:
        raw: an object or mapping with input_tokens, output_tokens and, optionally, the two cache counts.
        has_output: whether the reply has text or tool calls, so that no output tokens cannot be true.
    """
    if raw is None:
        return None, "the reply has no usage"
    get = _getter(raw)
    counts: list[int] = []
    for name, required in _COUNTS:
        value = get(name, None)
        if value is None and not required:
            value = 0
        if type(value) is not int:
            return None, f"usage.{name} is {value!r}, not a whole number"
        if value < 0:
            return None, f"usage.{name} is {value}, below zero"
        if value > MOST_TOKENS:
            return None, f"usage.{name} is above {MOST_TOKENS:,}, more than any call can use"
        counts.append(value)
    usage = Usage(*counts)
    if usage.all_input == 0 or (has_output and usage.output_tokens == 0):
        # No request is without input: a count of zero would also be the base of the next bound.
        return None, "usage says zero tokens beside a reply"
    return usage, None


def classify(error: BaseException) -> Failure:
    """Tell whether a failed attempt did no work, may have been billed, and may be tried again.

    Statuses are read from the error's ``status_code``, as the official SDKs carry it. The answer is about the attempt
    that the error tells of: a client that tried before, by itself, must have that switched off.
    """
    chain = _causes(error)
    names = {cls.__name__ for link in chain for cls in type(link).__mro__}
    status = getattr(error, "status_code", None)
    status = status if type(status) is int else None
    never_sent = status is None and _is_never_sent(chain)
    lost = status is None and bool(names & CONNECTION_LOST)
    retry = status in RETRIED_STATUSES if status is not None else never_sent or lost
    return Failure(
        rejected=never_sent or status in NO_WORK_STATUSES,
        problem=_problem(error, status, never_sent),
        status=status,
        retryable=retry,
        retry_after_seconds=_retry_after(error),
    )


def _problem(error: BaseException, status: int | None, never_sent: bool) -> str:
    # Only the kind of error and the status: a provider's message may quote the request, whose text is not ours to keep.
    if status is not None:
        return f"the provider answered with status {status}"
    if never_sent:
        return f"the provider could not be reached ({type(error).__name__})"
    return f"the call ended with {type(error).__name__} and no reply"


def _retry_after(error: BaseException) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None)
    value = headers.get("retry-after") if headers is not None else None
    try:
        seconds = float(value) if value is not None else None
    except ValueError:
        return None  # an HTTP date: our own back-off serves
    return seconds if seconds is not None and 0 <= seconds < float("inf") else None


def _is_never_sent(chain: list[BaseException]) -> bool:
    # The outermost error that is no wrapper decides. One further in may belong to an earlier try: "connection refused,
    # so it was sent again, and then it timed out" was sent.
    for link in chain:
        if type(link).__name__ not in _WRAPPERS:
            return bool({cls.__name__ for cls in type(link).__mro__} & NEVER_SENT)
    return False


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and not any(link is known for known in chain):
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return chain


def _read_tool_call(block: dict[str, Any]) -> ToolCall:
    call_id, name, arguments = block.get("id"), block.get("name"), block.get("input")
    if not isinstance(call_id, str) or not isinstance(name, str) or not isinstance(arguments, Mapping):
        raise ReplyError("the reply has a tool call without an id, a name or an object of arguments")
    return ToolCall(call_id, name, cast("Mapping[str, Any]", arguments))


@lru_cache(maxsize=64)
def _is_mapping(kind: type) -> bool:
    return issubclass(kind, Mapping)  # the same question about the same few classes, several times a turn


def _getter(source: object) -> Callable[[str, object], object]:
    """Return what finds a field by its name in an object or a mapping, or else gives a default."""
    if _is_mapping(type(source)):
        return cast("Mapping[str, object]", source).get
    return partial(getattr, source)


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _as_dict(block: object) -> dict[str, Any]:
    """Return a block as a plain dict, without what the provider did not send."""
    if _is_mapping(type(block)):
        return dict(cast("Mapping[str, Any]", block))
    dump = getattr(block, "model_dump", None)
    if callable(dump):
        # By alias: the names that the provider sent. Without warnings: SDKs take in values that their types do not know.
        return cast("dict[str, Any]", dump(mode="json", by_alias=True, exclude_unset=True, warnings=False))
    if dataclasses.is_dataclass(block) and not isinstance(block, type):
        return dataclasses.asdict(block)
    names = ("type", "text", "id", "name", "input", "thinking", "signature", "data")
    return {name: getattr(block, name) for name in names if hasattr(block, name)}
