"""Review a unified diff: what its added lines should not have, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from donewhen.providers.offline_rules.conversation import INTRODUCTION, Answer, Conversation, Rules

HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+(\d+)(?:,\d+)? @@")
LEAKED = r"""(?i)(?:password|passwd|secret|token|api_?key)\w*['"]?\s*[:=]\s*['"][^'"\s]{8,}['"]|\bAKIA[0-9A-Z]{16}\b"""
LINE_RULES: tuple[tuple[str, str, re.Pattern[str]], ...] = (
    ("blocker", "a secret stands in the code", re.compile(LEAKED)),
    ("blocker", "eval or exec runs whatever it is given", re.compile(r"(?<![\w.])(?:eval|exec)\s*\(")),
    ("blocker", "a merge conflict was left", re.compile(r"^(?:<{7}|>{7})(?:\s|$)")),
    ("fault", "a bare except hides every error", re.compile(r"^\s*except\s*:")),
    ("fault", "a shell is started with shell=True", re.compile(r"\bshell\s*=\s*True\b")),
    ("remark", "something was left to do", re.compile(r"\b(?:TODO|FIXME|XXX)\b")),
    ("remark", "a print was left", re.compile(r"^\s*print\s*\(")),
    ("remark", "a debugger was left", re.compile(r"\bbreakpoint\s*\(\s*\)|\bpdb\.set_trace\b")),
)
"""Severity, message, and the pattern of an added line that it is about."""
SEVERITIES = ("blocker", "fault", "remark")


@dataclass(frozen=True, slots=True)
class AddedLine:
    """A line that a diff adds."""

    path: str
    number: int
    """In the new file, from 1."""
    text: str


@dataclass(frozen=True, slots=True)
class Remark:
    """What is to be said about a place."""

    severity: str
    place: str
    message: str


def applies(conversation: Conversation) -> bool:
    """Tell whether the task holds a unified diff."""
    return re.search(r"(?m)^(?:diff --git |--- |\+\+\+ )\S", conversation.task) is not None


def answer(conversation: Conversation) -> Answer:
    """Return the review of the task's diff."""
    lines = list(added_lines(conversation.task))
    remarks = sorted(review_lines(lines), key=lambda remark: SEVERITIES.index(remark.severity))
    listed = [f"- {remark.severity} at {remark.place}: {remark.message}" for remark in remarks] or [
        "Nothing to remark."
    ]
    blocked = any(remark.severity == "blocker" for remark in remarks)
    verdict = "request changes" if blocked else "comment" if remarks else "approve"
    files = sorted({line.path for line in lines})
    parts = (
        "# Code review",
        f"{INTRODUCTION} It read {len(lines)} added line(s) in {len(files)} file(s).",
        "## Findings",
        "\n".join(listed),
        "## Verdict",
        verdict,
    )
    return Answer("\n\n".join(parts) + "\n")


def added_lines(diff: str) -> Iterator[AddedLine]:
    """Yield the lines that a unified diff adds, with their place in the new file."""
    path, number = "", 0
    for line in diff.splitlines():
        hunk = HUNK.match(line)
        if line.startswith("+++ "):
            path = line[4:].split("\t")[0].strip().removeprefix("b/")
        elif hunk is not None:
            number = int(hunk.group(1)[:9])
        elif line.startswith("+") and path:
            yield AddedLine(path, number, line[1:])
            number += 1
        elif not line.startswith(("-", "\\")):
            number += 1


def review_lines(lines: list[AddedLine]) -> Iterator[Remark]:
    """Yield a remark for each rule that a line breaks, and one where code came without tests."""
    for line in lines:
        for severity, message, pattern in LINE_RULES:
            if pattern.search(line.text[:2_000]):
                yield Remark(severity, f"{line.path}:{line.number}", message)
    paths = {line.path for line in lines}
    code = sorted(path for path in paths if path.endswith(".py") and not _is_test(path))
    if code and not any(_is_test(path) for path in paths):
        yield Remark("fault", code[0], "code was added and no test with it")


def _is_test(path: str) -> bool:
    return re.search(r"(?:^|/)(?:tests?/|test_[^/]*$)|_test\.py$", path) is not None


CODE_REVIEW = Rules(applies, answer)
