"""How many tokens a request can at most use, worked out before it is sent.

A byte-level tokenizer makes at most one token of a byte; one that normalises first (NFC, NFKC) makes at most one of a
byte of the normalised text. So the longest of the three in bytes, of everything new, with an overhead for each message
and tool, bounds the input; ``benchmarks/bounds.py`` holds it against real tokenizers. What a provider has already counted need not be bounded again: where the beginning of a request
is word for word what the last call ended with, the measured tokens of that call stand in for it. A `Transcript` knows
this by a digest that rolls: a turn hashes its new messages only, never the history.

``strict`` is that bound. ``estimate`` is looser, for small ceilings: new ASCII text at four bytes a token, every other
byte whole. It can be wrong by the estimate's error on new text, and the ledger says when it was.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from donewhen.errors import PriceUnknownError, UnboundedRequestError
from donewhen.frozen import quick
from donewhen.sizing import (
    REFUSED_OPTIONS,
    BoundKind,
    Sizer,
    minimum_output,
    spell,
    unbounded_option,
    unpriced_option,
)

if TYPE_CHECKING:
    from donewhen.balance import Balance
    from donewhen.usage import Price

DEFAULT_MAX_TOKENS = 1024
"""Asked for where a request has no max_tokens: a reply without an end has no ceiling."""

_SIZING = threading.Lock()
_T = TypeVar("_T")


@quick
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
        self._digests = [hashlib.sha256(spell(header)).digest()]
        self._sizes: dict[BoundKind, list[int]] = {}
        self._sizers: dict[BoundKind, Sizer] = {}
        for name in self.extra:
            if name in REFUSED_OPTIONS:
                raise ValueError(f"the option {name!r} cannot be given as an extra: {REFUSED_OPTIONS[name]}")
        self._unbounded: str | None = unbounded_option(self.extra, self.tools)

    def append(self, message: Mapping[str, Any]) -> None:
        """Add a message at the end."""
        copied = dict(message)
        self._digests.append(self.digest_with(len(self.messages), copied))
        self.messages.append(copied)

    def emptied(self) -> Transcript:
        """Return a transcript with the same header and no messages."""
        return Transcript(
            model=self.model,
            system=self.system,
            tools=self.tools,
            extra=self.extra,
            context_window_tokens=self.context_window_tokens,
        )

    def digest_at(self, count: int) -> bytes:
        """Return the digest of the first `count` messages with the header before them."""
        return self._digests[count]

    def digest_with(self, count: int, message: Mapping[str, Any]) -> bytes:
        """Return what the digest of the first `count` messages becomes when this one follows them."""
        if count < len(self.messages) and self.messages[count] == message:
            return self._digests[count + 1]
        return hashlib.sha256(self._digests[count] + spell(message)).digest()

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
        with _SIZING:  # threads may share a request
            sizes = self._sizes.setdefault(kind, [])
            if not sizes:
                self._sizers[kind] = Sizer(kind, self.model)
                sizes.append(self._sized(self._header_size, self._sizers[kind]))
            sizer = self._sizers[kind]
            for message in self.messages[len(sizes) - 1 : count]:
                sizes.append(sizes[-1] + self._sized(sizer.message, message))
        return sizes

    def _sized(self, size: Callable[[_T], int], part: _T) -> int:
        try:
            return size(part)
        except UnboundedRequestError as error:
            self._unbounded = error.part
            return 0

    def _header_size(self, sizer: Sizer) -> int:
        over = sizer.over
        size = over.request + sizer.content(self.system or "")
        if self.tools:
            size += over.tools + sum(over.tool + sizer.json(tool) for tool in self.tools)
        return size + (sizer.json(self.extra) if self.extra else 0)


@quick
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

    def __post_init__(self) -> None:
        if self.max_tokens is not None and (type(self.max_tokens) is not int or self.max_tokens < 1):
            raise ValueError(f"max_tokens is {self.max_tokens!r}, not a whole number from 1 on")

    @property
    def model(self) -> str:
        """Return the model it is sent to."""
        return self.transcript.model

    @property
    def least_output_tokens(self) -> int:
        """Return how many output tokens the request takes as given: a thinking budget must fit into max_tokens."""
        thinking = self.transcript.extra.get("thinking")
        if thinking is None or not isinstance(thinking, Mapping):
            return 0
        budget = cast("Mapping[str, Any]", thinking).get("budget_tokens")
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


def output_that_fits(balance: Balance, request: Request, input_bound: int, price: Price | None, kind: BoundKind) -> int:
    """Return the max_tokens that fits under the ceilings, or what is needed where not even that fits."""
    wanted = request.max_tokens
    if wanted is None:
        wanted = max(DEFAULT_MAX_TOKENS, request.least_output_tokens + minimum_output(kind))
    ceilings, most = balance.ceilings, wanted
    if ceilings.tokens is not None:
        most = min(most, ceilings.tokens - balance.used_tokens - input_bound)
    if ceilings.cost_microusd is not None and price is not None and (used := balance.used_microusd) is not None:
        affordable = price.most_output_tokens(input_bound, ceilings.cost_microusd - used)
        most = most if affordable is None else min(most, affordable)
    needed = min(wanted, max(minimum_output(kind), request.least_output_tokens))
    return max(most, needed)


def refuse_unpriced(request: Request, price: Price | None, balance: Balance) -> None:
    """Refuse a request whose cost nobody can say, where cost has a ceiling.

    Raises:
        PriceUnknownError: the model's price is not known, or not with its options, or what was spent is not.
    """
    if price is None or balance.used_microusd is None:
        raise PriceUnknownError(request.model)
    unpriced = unpriced_option(request.transcript.extra, request.transcript.tools)
    if unpriced is not None:
        raise PriceUnknownError(request.model, f"no price is known with {unpriced}")
