"""Sort a support ticket by its words: category, priority and queue, as JSON."""

from __future__ import annotations

import json
import re

from donewhen.providers.offline_rules.conversation import INTRODUCTION, Answer, Conversation, Rules

CATEGORIES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("security", "security", ("hacked", "phishing", "breach", "leaked", "vulnerability", "stolen", "suspicious")),
    ("billing", "finance", ("invoice", "refund", "charged", "payment", "credit card", "subscription", "price")),
    ("access", "identity", ("password", "log in", "login", "locked out", "sign in", "two-factor", "account")),
    ("outage", "operations", ("down", "outage", "unreachable", "503", "500", "timeout", "not loading", "slow")),
    ("bug", "engineering", ("error", "crash", "bug", "broken", "does not work", "doesn't work", "wrong", "fails")),
    ("how_to", "support", ("how do i", "how can i", "where is", "is it possible", "documentation")),
)
"""Category, queue, and its words. Of two with as many words in a ticket the earlier wins."""
URGENT = ("urgent", "immediately", "asap", "all users", "everyone", "production", "data loss", "cannot work")
CALM = ("no hurry", "when you have time", "just wondering", "suggestion", "minor")
KIND_OF_TASK = re.compile(r"\b(?:triage|ticket|support request)\b", re.IGNORECASE)

STARTS_TICKET = re.compile(r"\bticket:", re.IGNORECASE)


def applies(conversation: Conversation) -> bool:
    """Tell whether the task or the spec speaks of tickets."""
    return KIND_OF_TASK.search(f"{conversation.task}\n{conversation.system}") is not None


def answer(conversation: Conversation) -> Answer:
    """Return the triage of the task's text."""
    return Answer(json.dumps(triage(read_ticket(conversation.task)), ensure_ascii=False))


def read_ticket(task: str) -> str:
    """Return what follows the word "ticket:", so that the words of the instructions are not taken for the customer's."""
    start = STARTS_TICKET.search(task)
    return task[start.end() :] if start else task


def triage(ticket: str) -> dict[str, object]:
    """Return category, priority, queue, and the words that they were read from.

    Args:
        ticket: what the customer wrote.
    """
    text = ticket.lower()
    hits = {category: _hits(text, words) for category, _, words in CATEGORIES}
    category = max(hits, key=lambda name: len(hits[name]))
    queues = {name: queue for name, queue, _ in CATEGORIES}
    if not hits[category]:
        category = "other"
    urgent, calm = _hits(text, URGENT), _hits(text, CALM)
    serious = category in ("security", "outage")
    priority = "urgent" if urgent and serious else "high" if urgent or serious else "low" if calm else "normal"
    return {
        "category": category,
        "priority": priority,
        "queue": queues.get(category, "support"),
        "read_from": [*hits.get(category, []), *urgent, *calm],
        "written_by": INTRODUCTION,
    }


def _hits(text: str, words: tuple[str, ...]) -> list[str]:
    return [word for word in words if re.search(rf"\b{re.escape(word)}\b", text)]


SUPPORT_TRIAGE = Rules(applies, answer)
