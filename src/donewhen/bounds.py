"""How many tokens a request can at most use, worked out before it is sent.

A byte-level tokenizer makes at most one token of a byte; one that normalises first (NFKC) makes at most one of a byte
of the normalised text. So ``max(len(utf8), len(utf8(NFKC)))`` of everything new, with an overhead for each message and
tool, bounds the input. What a provider has already counted need not be bounded again: where the beginning of a request
is word for word what the last call ended with, the measured tokens of that call stand in for it. A `Transcript` knows
this by a digest that rolls: a turn hashes its new messages only, never the history.

``strict`` is that bound. ``estimate`` is looser, for small ceilings: new ASCII text at four bytes a token, every other
byte whole. It can be wrong by the estimate's error on new text, and the ledger says when it was.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from donewhen.errors import UnboundedRequestError

BoundKind = Literal["strict", "estimate"]

ASCII_BYTES_PER_TOKEN = 4
"""The ratio of ``estimate`` for ASCII text. Source: OpenAI's and Anthropic's rule of thumb for English."""

IMAGE_TOKENS = 5_000
"""The most that one image counts. Source: Anthropic vision docs, about 4,784 at the highest resolution of any model."""

IMAGE_TOKENS_OF_MODEL = {"gpt-4o-mini": 48_200}
"""Models that count more. Source: OpenAI vision pricing, 2,833 base and 5,667 for each of at most 8 tiles."""

DEFAULT_MAX_TOKENS = 1024
"""Asked for where a request has no max_tokens: a reply without an end has no ceiling."""

_UNBOUNDED_OPTIONS = frozenset(
    {"mcp_servers", "container", "previous_response_id", "conversation", "prompt", "file_ids"}
)


@dataclass(frozen=True, slots=True)
class _Overheads:
    request: int
    message: int
    block: int
    tools: int
    tool: int
    minimum_output: int


_OVERHEADS: Mapping[str, _Overheads] = {
    # Role markers cost 3 to 5 tokens a message; the hidden text that comes with tools up to about 800 in all.
    "strict": _Overheads(request=16, message=16, block=16, tools=1024, tool=64, minimum_output=16),
    "estimate": _Overheads(request=3, message=4, block=0, tools=350, tool=16, minimum_output=1),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What a provider counted for the beginning of a conversation."""

    digest: bytes
    """Of the conversation up to and with the reply."""
    messages: int
    """How many messages that is."""
    tokens: int
    """Input and output of the call, of all kinds."""


class Transcript:
    """A conversation that only grows, with the running size and digest of each beginning of it.

    Args:
        model: the model it is sent to.
        system: the system prompt.
        tools: definitions in the provider's form.
        extra: every other argument of the call, such as tool_choice or thinking.
        context_window_tokens: reserved whole where a part cannot be bounded; None: such a part is refused.
    """

    def __init__(
        self,
        *,
        model: str,
        system: str | Sequence[Mapping[str, Any]] | None = None,
        tools: Iterable[Mapping[str, Any]] = (),
        extra: Mapping[str, Any] | None = None,
        context_window_tokens: int | None = None,
    ) -> None:
        self.model = model
        self.system = system
        self.tools = tuple(tools)
        self.extra = dict(extra or {})
        self.context_window_tokens = context_window_tokens
        self.messages: list[dict[str, Any]] = []
        header = [model, system, self.tools, self.extra]
        self._digests = [hashlib.sha256(_spell(header)).digest()]
        self._sizes: dict[BoundKind, list[int]] = {}
        self._unbounded: str | None = _unbounded_option(self.extra, self.tools)

    def append(self, message: Mapping[str, Any]) -> None:
        """Add a message at the end."""
        copied = dict(message)
        self._digests.append(self.digest_with(len(self.messages), copied))
        self.messages.append(copied)

    def digest_at(self, count: int) -> bytes:
        """Return the digest of the first `count` messages with the header before them."""
        return self._digests[count]

    def digest_with(self, count: int, message: Mapping[str, Any]) -> bytes:
        """Return what the digest of the first `count` messages becomes when this one follows them."""
        if count < len(self.messages) and self.messages[count] == message:
            return self._digests[count + 1]
        return hashlib.sha256(self._digests[count] + _spell(message)).digest()

    def request(self, max_tokens: int | None) -> Request:
        """Return the request that sends the conversation as it is now."""
        return Request(transcript=self, count=len(self.messages), max_tokens=max_tokens)

    def most_input_tokens(self, count: int, kind: BoundKind, measured: Measured | None) -> int:
        """Return the most input tokens that the first `count` messages can use.

        Raises:
            UnboundedRequestError: a part cannot be bounded and no context window is stated.
        """
        sizes = self._sizes_of(kind, count)
        if self._unbounded is not None:
            if self.context_window_tokens is None:
                raise UnboundedRequestError(self._unbounded)
            return self.context_window_tokens
        if measured is not None and measured.messages <= count and self._digests[measured.messages] == measured.digest:
            return measured.tokens + sizes[count] - sizes[measured.messages]
        return sizes[count]

    def _sizes_of(self, kind: BoundKind, count: int) -> list[int]:
        """Return the running sizes, after sizing the messages that are new since the last time."""
        sizer = _Sizer(kind, self.model)
        sizes = self._sizes.setdefault(kind, [])
        if not sizes:
            sizes.append(self._header_size(sizer))
        for message in self.messages[len(sizes) - 1 : count]:
            try:
                size = sizer.message(message)
            except UnboundedRequestError as error:
                self._unbounded, size = error.part, 0
            sizes.append(sizes[-1] + size)
        return sizes

    def _header_size(self, sizer: _Sizer) -> int:
        over = sizer.over
        size = over.request + sizer.content(self.system or "")
        if self.tools:
            size += over.tools + sum(over.tool + sizer.json(tool) for tool in self.tools)
        return size + (sizer.json(self.extra) if self.extra else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request for a reply: a conversation up to a point, and the most output it may have."""

    transcript: Transcript = field(repr=False)
    count: int
    """How many messages of the transcript are sent."""
    max_tokens: int | None
    """The most output tokens. None: not stated; the reservation states it."""

    @classmethod
    def of(
        cls,
        *,
        model: str,
        messages: Iterable[Mapping[str, Any]],
        max_tokens: int | None = None,
        system: str | Sequence[Mapping[str, Any]] | None = None,
        tools: Iterable[Mapping[str, Any]] = (),
        context_window_tokens: int | None = None,
        **extra: Any,
    ) -> Request:
        """Return a request from the arguments of ``messages.create``."""
        transcript = Transcript(
            model=model, system=system, tools=tools, extra=extra, context_window_tokens=context_window_tokens
        )
        for message in messages:
            transcript.append(message)
        return transcript.request(max_tokens)

    @property
    def model(self) -> str:
        """Return the model it is sent to."""
        return self.transcript.model

    @property
    def least_output_tokens(self) -> int:
        """Return how many output tokens the request takes as given: a thinking budget must fit into max_tokens."""
        thinking = self.transcript.extra.get("thinking")
        budget = cast("Mapping[str, Any]", thinking).get("budget_tokens") if isinstance(thinking, Mapping) else None
        return budget + 1 if type(budget) is int else 0

    def clamped(self, max_tokens: int) -> Request:
        """Return the request with this max_tokens."""
        return self if max_tokens == self.max_tokens else replace(self, max_tokens=max_tokens)

    def as_kwargs(self) -> dict[str, Any]:
        """Return the arguments for ``messages.create``; what is not used is not there."""
        transcript = self.transcript
        kwargs: dict[str, Any] = {
            "model": transcript.model,
            "max_tokens": self.max_tokens,
            "messages": transcript.messages[: self.count],
        }
        if transcript.system is not None:
            kwargs["system"] = transcript.system
        if transcript.tools:
            kwargs["tools"] = [dict(tool) for tool in transcript.tools]
        return {**kwargs, **transcript.extra}

    def most_input_tokens(self, kind: BoundKind, measured: Measured | None = None) -> int:
        """Return the most input tokens the request can use.

        Raises:
            UnboundedRequestError: a part cannot be bounded and no context window is stated.
        """
        return self.transcript.most_input_tokens(self.count, kind, measured)

    def measured_by(self, echo: object, tokens: int) -> Measured:
        """Return what a call that sent this request and got this reply measured, for the request that echoes it."""
        message = {"role": "assistant", "content": echo}
        return Measured(self.transcript.digest_with(self.count, message), self.count + 1, tokens)


def minimum_output(kind: BoundKind) -> int:
    """Return the fewest output tokens worth a call: less room than this and the call is refused."""
    return _OVERHEADS[kind].minimum_output


def text_bytes(text: str) -> int:
    """Return the most tokens that a byte-level or NFKC tokenizer can make of a text."""
    if text.isascii():
        return len(text)
    raw = len(text.encode("utf-8", "surrogatepass"))
    return max(raw, len(unicodedata.normalize("NFKC", text).encode("utf-8", "surrogatepass")))


def text_estimate(text: str) -> int:
    """Return the tokens of a text at four ASCII bytes a token, every other byte whole."""
    if text.isascii():
        return -(-len(text) // ASCII_BYTES_PER_TOKEN)
    ascii_bytes = sum(1 for character in text if character < "\x80")
    return -(-ascii_bytes // ASCII_BYTES_PER_TOKEN) + text_bytes(text) - ascii_bytes


_TEXT_SIZES: Mapping[str, Callable[[str], int]] = {"strict": text_bytes, "estimate": text_estimate}


class _Sizer:
    """Add up the most tokens of messages, blocks and JSON, by one kind of bound."""

    def __init__(self, kind: BoundKind, model: str) -> None:
        self.over = _OVERHEADS[kind]
        self.text = _TEXT_SIZES[kind]
        self._image = IMAGE_TOKENS_OF_MODEL.get(model, IMAGE_TOKENS)

    def message(self, message: Mapping[str, Any]) -> int:
        return self.over.message + self.content(message.get("content", ""))

    def content(self, content: object) -> int:
        if isinstance(content, str):
            return self.text(content)
        if isinstance(content, Sequence):
            return sum(self.block(block) for block in cast("Sequence[object]", content))
        return self.json(content)

    def block(self, block: object) -> int:
        if not isinstance(block, Mapping):
            return self.over.block + self.json(block)
        fields = cast("Mapping[str, Any]", block)
        kind = fields.get("type")
        if kind in ("image", "image_url", "input_image"):
            return self.over.block + self._image
        if kind == "text":
            return self.over.block + self.text(str(fields.get("text", "")))
        if kind == "tool_result":
            return (
                self.over.block
                + self.text(str(fields.get("tool_use_id", "")))
                + self.content(fields.get("content", ""))
            )
        if kind == "document" and _source_type(fields) in ("text", "content"):
            return self.over.block + self.json(fields)
        if kind in ("document", "file", "input_file", "container_upload", "input_audio"):
            raise UnboundedRequestError(f"a block of type {kind!r}, whose pages cannot be counted here")
        return self.over.block + self.json(fields)

    def json(self, value: object) -> int:
        return self.text(_spell(value).decode("utf-8", "surrogatepass"))


def _source_type(fields: Mapping[str, Any]) -> object:
    source = fields.get("source")
    return cast("Mapping[str, object]", source).get("type") if isinstance(source, Mapping) else None


def _unbounded_option(extra: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> str | None:
    for name in extra:
        if name in _UNBOUNDED_OPTIONS:
            return f"the option {name!r}, which brings text from elsewhere"
    for tool in tools:
        if tool.get("type", "custom") not in ("custom", "function"):
            return f"the tool of type {tool['type']!r}, which the provider runs itself"
    return None


def _spell(value: object) -> bytes:
    # A tuple and a list, or an SDK's object and its dict, are the same request.
    return _ENCODER.encode(value).encode("utf-8", "surrogatepass")


def _as_plain(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json", exclude_unset=True)
    raise UnboundedRequestError(f"a {type(value).__name__}, which is not plain data")


_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=_as_plain)
