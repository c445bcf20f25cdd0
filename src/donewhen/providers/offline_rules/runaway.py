"""Never be done: what an agent looks like whose stop nobody thought of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from donewhen.providers.offline_rules.conversation import INTRODUCTION, Answer, Conversation, Rules

ENOUGH_LINES = 20_000
"""More than any max_tokens in use has room for."""


def applies(conversation: Conversation) -> bool:
    """Tell that every task suits it."""
    del conversation
    return True


def answer(conversation: Conversation) -> Answer:
    """Return a call of the first tool with arguments not used before, or, without tools, a text that has no end."""
    if not conversation.tools:
        line = "There is one more thing to look at. "
        # The end of this text is always further away than what was said so far.
        return Answer(f"{INTRODUCTION} {line}" + line * (ENOUGH_LINES + len(conversation.drafted) // len(line)))
    name, schema = next(iter(conversation.tools.items()))
    start = INTRODUCTION if conversation.turn == 1 else f"Thing number {conversation.turn}."
    return Answer(start, ((name, _arguments(schema, conversation.turn)),))


def _arguments(schema: Mapping[str, Any], turn: int) -> dict[str, object]:
    properties = cast("Mapping[str, Mapping[str, Any]]", schema.get("properties") or {})
    samples: dict[str, object] = {"integer": turn, "number": turn, "boolean": turn % 2 == 0, "array": [], "object": {}}
    required = cast("list[str]", schema.get("required") or list(properties))
    return {name: samples.get(str(properties.get(name, {}).get("type")), f"thing-{turn}") for name in required}


RUNAWAY = Rules(applies, answer)
