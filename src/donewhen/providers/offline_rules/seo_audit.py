"""Audit the page that a task names: one tool a turn, then the report, corrected where a check was not met."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import cast

from donewhen.providers.offline_rules.conversation import INTRODUCTION, Answer, Conversation, Rules
from donewhen.seo.report import REPORT_HEADINGS, write_advice, write_report

URL = re.compile(r"https?://[^\s<>\"'`\\]+")
TOOLS = ("fetch_url", "audit_page", "check_links")
NEEDED = "audit_page"
ASKED_HEADING = re.compile(r"##(?: |\\s|\s|[+*])*([A-Z][A-Za-z ]{0,40})")
WANTS_JSON = re.compile(r"output is not JSON|json_schema|JsonSchema")
KIND_OF_TASK = re.compile(r"\b(?:audit|seo)\b", re.IGNORECASE)
LAST_TURN = re.compile(r"\blast (?:allowed )?turn\b", re.IGNORECASE)


def applies(conversation: Conversation) -> bool:
    """Tell whether the task names a URL and is about an audit."""
    about_it = NEEDED in conversation.tools or KIND_OF_TASK.search(conversation.task) is not None
    return about_it and find_url(conversation.task) is not None


def answer(conversation: Conversation) -> Answer:
    """Return the next tool call, or the report."""
    url = find_url(conversation.task) or ""
    if NEEDED not in conversation.tools:
        return Answer(f"{INTRODUCTION} To audit {url} it needs the tool {NEEDED}, and was offered none of that name.")
    failed = next((outcome for outcome in conversation.outcomes if outcome.is_error), None)
    if failed is not None:
        return Answer(_failure(url, failed.result or "the tool failed"))
    wanted = [name for name in TOOLS if name in conversation.tools and conversation.outcome_of(name) is None]
    if wanted and not LAST_TURN.search(conversation.latest):
        start = f"{INTRODUCTION} It will audit {url}." if conversation.turn == 1 else f"Next: {wanted[0]}."
        return Answer(start, ((wanted[0], {"url": url}),))
    return Answer(_report(conversation, url))


def find_url(text: str) -> str | None:
    """Return the first URL in a text, without the punctuation of the sentence around it, or None."""
    found = URL.search(text)
    return found.group().rstrip(".,;:!?)]}") if found else None


def _report(conversation: Conversation, url: str) -> str:
    audit = {"url": url, **_result(conversation, "audit_page")}
    links = _result(conversation, "check_links") or None
    if any(WANTS_JSON.search(complaint) for complaint in conversation.complaints):
        merged = {**audit, "links": {**cast("dict[str, object]", audit.get("links") or {}), **(links or {})}}
        return json.dumps({**merged, "written_by": INTRODUCTION}, ensure_ascii=False, indent=1)
    advice = [f"## {heading}\n\n{write_advice(audit, links)}\n" for heading in _asked_headings(conversation)]
    return "\n".join([write_report(audit, links), *advice, INTRODUCTION])


def _asked_headings(conversation: Conversation) -> list[str]:
    """Return the headings that checks miss, in the order in which they were asked for."""
    asked = (heading.strip() for text in conversation.complaints for heading in ASKED_HEADING.findall(text))
    return [heading for heading in dict.fromkeys(asked) if heading not in REPORT_HEADINGS]


def _failure(url: str, problem: str) -> str:
    finding = {"severity": "error", "rule": "not-audited", "message": f"The page could not be audited: {problem}"}
    return f"{write_report({'url': url, 'findings': [finding]})}\n{INTRODUCTION}"


def _result(conversation: Conversation, name: str) -> Mapping[str, object]:
    outcome = conversation.outcome_of(name)
    try:
        value = cast("object", json.loads(outcome.result if outcome is not None and outcome.result else "{}"))
    except (ValueError, RecursionError):
        return {}
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


SEO_AUDIT = Rules(applies, answer)
