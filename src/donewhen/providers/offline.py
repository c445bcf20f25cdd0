"""A client that needs no key and no network: rule-based, not a language model, and it says so.

It does real work on real input, for the demo, the examples and a first look: it audits the page that a task names by
calling the tools that it is offered, reviews a diff, sorts a ticket, reads an invoice. It keeps nothing between calls
and answers the same conversation with the same reply. Its usage is counted, from the request and the reply.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from donewhen.providers.offline_rules import INTRODUCTION, RULE_SETS, RUNAWAY, Answer, RuleSet, read_conversation

OFFLINE_MODEL = "offline-rules"
BYTES_PER_TOKEN = 4
ABILITIES = (
    f"{INTRODUCTION} It can audit a page whose URL the task names, review a unified diff, sort a support ticket, and "
    "read an invoice. This task is none of these."
)


@dataclass(frozen=True, slots=True)
class OfflineUsage:
    """Tokens, one for every four bytes begun."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class TextBlock:
    """What is said."""

    text: str
    type: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class ToolUseBlock:
    """A tool call."""

    id: str
    name: str
    input: dict[str, Any]
    type: Literal["tool_use"] = "tool_use"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineReply:
    """A reply, in the shape of Anthropic's messages."""

    id: str
    content: tuple[TextBlock | ToolUseBlock, ...]
    stop_reason: str
    usage: OfflineUsage
    model: str = OFFLINE_MODEL
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"


class OfflineClient:
    """Answer by rules.

    Args:
        rules: the rule set for every task. None: the first that applies to the task.
        runaway: never be done: call the first tool for ever, with new arguments each time, or talk without an end.
    """

    def __init__(self, rules: RuleSet | None = None, *, runaway: bool = False) -> None:
        self.messages = OfflineMessages(RUNAWAY if runaway else rules)


class OfflineMessages:
    """The endpoint of an `OfflineClient`."""

    def __init__(self, rules: RuleSet | None = None) -> None:
        self._rules = rules

    def create(
        self,
        *,
        model: str,
        max_tokens: int,
        messages: list[Any],
        system: object = "",
        tools: Sequence[object] = (),
        **settings: object,
    ) -> OfflineReply:
        """Return the reply to a conversation.

        Args:
            model: whatever the caller likes; the reply says `offline-rules`.
            max_tokens: kept: a longer reply is cut there, with the stop reason ``max_tokens``.
            messages: as in Anthropic's Messages API.
            system: a text, or a list of text blocks.
            tools: name, description and input_schema.
            settings: anything else is accepted and changes nothing.

        Raises:
            ValueError: there is no message, or max_tokens is below 1.
        """
        del model, settings
        if max_tokens < 1 or not messages:
            raise ValueError("a request needs a message, and max_tokens of at least 1")
        return _reply(self._rules, max_tokens, messages, system, tools)


class AsyncOfflineClient:
    """Answer by rules, with ``await``.

    Args:
        rules: as for `OfflineClient`.
        runaway: as for `OfflineClient`.
    """

    def __init__(self, rules: RuleSet | None = None, *, runaway: bool = False) -> None:
        self.messages = AsyncOfflineMessages(OfflineClient(rules, runaway=runaway).messages)


class AsyncOfflineMessages:
    """The endpoint of an `AsyncOfflineClient`."""

    def __init__(self, messages: OfflineMessages) -> None:
        self._messages = messages

    async def create(self, *, model: str, max_tokens: int, messages: list[Any], **settings: Any) -> OfflineReply:
        """Return the reply to a conversation, as `OfflineMessages.create` does.

        Args:
            model: as there.
            max_tokens: as there.
            messages: as there.
            settings: system, tools, and whatever else.

        Raises:
            ValueError: as there.
        """
        return self._messages.create(model=model, max_tokens=max_tokens, messages=messages, **settings)


def _reply(
    rules: RuleSet | None, max_tokens: int, messages: Sequence[object], system: object, tools: Sequence[object]
) -> OfflineReply:
    conversation = read_conversation(_system_text(system), messages, tools)
    chosen = rules if rules is not None else next((each for each in RULE_SETS if each.applies(conversation)), None)
    answer = Answer(ABILITIES) if chosen is None else chosen.answer(conversation)
    text = answer.text
    if conversation.drafted and text.startswith(conversation.drafted):
        text = text[len(conversation.drafted) :] or "Nothing is left to add."
    count = len(conversation.outcomes)
    calls = tuple(
        ToolUseBlock(f"toolu_offline_{count + number}", name, dict(arguments))
        for number, (name, arguments) in enumerate(answer.calls, 1)
    )
    said, kept, stop_reason = _cut(text, calls, max_tokens)
    content = (*((TextBlock(said),) if said else ()), *kept)
    used = sum(map(_text_bytes, (said, *((call.name, call.input) for call in kept))))
    asked = sum(map(_text_bytes, (system, list(messages), list(tools))))
    digest = hashlib.sha256(f"{conversation.turn}\0{conversation.task}\0{said}".encode("utf-8", "surrogatepass"))
    usage = OfflineUsage(_tokens(asked), min(_tokens(used), max_tokens))
    return OfflineReply(
        id=f"msg_offline_{digest.hexdigest()[:16]}", content=content, stop_reason=stop_reason, usage=usage
    )


def _cut(text: str, calls: tuple[ToolUseBlock, ...], max_tokens: int) -> tuple[str, tuple[ToolUseBlock, ...], str]:
    """Return what fits: text first, then all calls or none, since half a call must never be run."""
    room = max_tokens * BYTES_PER_TOKEN
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) > room:
        return encoded[:room].decode("utf-8", "ignore"), (), "max_tokens"
    if len(encoded) + sum(_text_bytes((call.name, call.input)) for call in calls) > room:
        return text, (), "max_tokens"
    return text, calls, "tool_use" if calls else "end_turn"


def _tokens(count_bytes: int) -> int:
    return max(1, -(-count_bytes // BYTES_PER_TOKEN))


def _text_bytes(value: object) -> int:
    """Return the bytes of every text in a value, keys included, as they would be read by a model."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        return sum(_text_bytes(key) + _text_bytes(item) for key, item in pairs)
    if isinstance(value, Iterable):
        return sum(_text_bytes(item) for item in cast("Iterable[object]", value))
    return 0 if value is None else len(json.dumps(value, default=str))


def _system_text(system: object) -> str:
    if isinstance(system, str):
        return system
    if isinstance(system, (list, tuple)):
        blocks = [
            cast("Mapping[str, Any]", block) for block in cast("list[object]", system) if isinstance(block, Mapping)
        ]
        return "\n".join(str(block.get("text", "")) for block in blocks)
    return ""
