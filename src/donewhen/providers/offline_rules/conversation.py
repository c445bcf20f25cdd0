"""A conversation as the rules see it, and what a rule set answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

INTRODUCTION = "This is offline-rules: rule-based, not a language model."
CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """A tool call that was made, and what came of it."""

    name: str
    arguments: Mapping[str, Any]
    result: str | None
    """None: there is no result yet."""
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What a request says, in the terms of the rules."""

    system: str
    task: str
    """The text of the first message."""
    tools: Mapping[str, Mapping[str, Any]]
    """By name, the schema of the input."""
    outcomes: tuple[ToolOutcome, ...]
    turn: int
    """The number of the reply that is asked for, from 1."""
    drafted: str
    """What the last replies said that were cut and are to be continued."""
    latest: str
    """The text of the last message."""
    complaints: tuple[str, ...]
    """What the loop said after a reply that was meant to be the last: the checks that were not met."""

    def outcome_of(self, name: str) -> ToolOutcome | None:
        """Return the newest call of a tool, or None."""
        return next((outcome for outcome in reversed(self.outcomes) if outcome.name == name), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rule set answers: text, then tool calls by name and arguments."""

    text: str
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()


class RuleSet(Protocol):
    """Rules for one kind of task."""

    def applies(self, conversation: Conversation, /) -> bool:
        """Tell whether the task is of this kind."""
        ...

    def answer(self, conversation: Conversation, /) -> Answer:
        """Return the next reply; the same for the same conversation."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """A rule set made of two functions."""

    applies: Callable[[Conversation], bool]
    answer: Callable[[Conversation], Answer]


def read_conversation(system: str, messages: Sequence[object], tools: Iterable[object]) -> Conversation:
    """Read a request's messages and tools.

    Args:
        system: the system prompt.
        messages: as in Anthropic's Messages API: role and content, content a text or a list of blocks.
        tools: name, description and input_schema.
    """
    read = [_fields(message) for message in messages]
    texts = [text_of(message.get("content")) for message in read]
    roles = [str(message.get("role")) for message in read]
    answered = [place for place, role in enumerate(roles) if role == "assistant"]
    return Conversation(
        system=system,
        task=texts[0] if texts else "",
        tools={str(tool.get("name")): _fields(tool.get("input_schema")) for tool in map(_fields, tools)},
        outcomes=tuple(_outcomes(read)),
        turn=len(answered) + 1,
        drafted=_drafted(roles, texts),
        latest=texts[-1] if texts and roles[-1] == "user" else "",
        complaints=tuple(_complaints(read, roles, texts)),
    )


def text_of(content: object) -> str:
    """Return the text of a message's or a tool result's content."""
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        return ""
    blocks = [_fields(block) for block in cast("list[object]", content)]
    return "\n".join(str(block["text"]) for block in blocks if block.get("type") == "text" and "text" in block)


def _outcomes(messages: Sequence[Mapping[str, Any]]) -> list[ToolOutcome]:
    blocks = [block for message in messages for block in _blocks(message)]
    results = {block.get("tool_use_id"): block for block in blocks if block.get("type") == "tool_result"}
    outcomes: list[ToolOutcome] = []
    for block in blocks:
        if block.get("type") == "tool_use":
            result = results.get(block.get("id"))
            text = None if result is None else text_of(result.get("content"))
            failed = result is not None and bool(result.get("is_error"))
            outcomes.append(ToolOutcome(str(block.get("name")), _fields(block.get("input")), text, failed))
    return outcomes


def _drafted(roles: Sequence[str], texts: Sequence[str]) -> str:
    """Join the replies that end the conversation and were each told to go on."""
    parts: list[str] = []
    place = len(roles) - 1
    while place > 0 and roles[place] == "user" and roles[place - 1] == "assistant" and _says_continue(texts[place]):
        parts.append(texts[place - 1])
        place -= 2
    return "".join(reversed(parts))


def _complaints(messages: Sequence[Mapping[str, Any]], roles: Sequence[str], texts: Sequence[str]) -> list[str]:
    found: list[str] = []
    for place in range(2, len(roles)):
        plain = not any(block.get("type") == "tool_result" for block in _blocks(messages[place]))
        if roles[place] == "user" and plain and texts[place].strip() and not _says_continue(texts[place]):
            found.append(texts[place])
    return found


def _says_continue(text: str) -> bool:
    # A notice of what is left may stand below the word.
    return text.strip().lower().startswith(CONTINUE)


def _blocks(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content: object = message.get("content")
    return [_fields(block) for block in cast("list[object]", content)] if isinstance(content, (list, tuple)) else []


def _fields(value: object) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value)
    names = ("role", "content", "type", "text", "id", "name", "input", "input_schema", "tool_use_id", "is_error")
    return {name: getattr(value, name) for name in names if hasattr(value, name)}
