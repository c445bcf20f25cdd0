"""An audit as a report in Markdown, with headings that a check can rely on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

REPORT_HEADINGS = ("Title", "Description", "Headings", "Links", "Status", "Findings")
REPORT_PATTERN = r"(?s)" + r".*".join(rf"(?m:^## {heading}$)" for heading in REPORT_HEADINGS)
"""What the text of every report matches: all headings, in order, each on a line of its own."""
MAX_HEADINGS = 10
ADVICE = {
    "title-missing": "Give the page a title of 10 to 60 characters.",
    "title-length": "Bring the title to 10 to 60 characters.",
    "title-many": "Keep one title.",
    "description-missing": "Write a meta description of 50 to 160 characters.",
    "description-length": "Bring the description to 50 to 160 characters.",
    "description-many": "Keep one description.",
    "canonical-missing": "Name the canonical URL.",
    "canonical-many": "Keep one canonical URL.",
    "canonical-wrong": "Name a canonical URL that is a URL.",
    "canonical-elsewhere": "Point the canonical URL at this page, or accept that it is not listed.",
    "lang-missing": "Say the language on the html element.",
    "viewport-missing": "Add a viewport meta element.",
    "noindex": "Take noindex away if the page is meant to be found.",
    "h1-missing": "Add one h1.",
    "h1-many": "Keep one h1 and make the others h2.",
    "heading-skipped": "Do not skip heading levels.",
    "heading-empty": "Give empty headings a text, or remove them.",
    "image-alt": "Describe each image in its alt text, or mark it as decoration with an empty one.",
    "link-empty": "Give each link a text.",
    "link-broken": "Repair or remove the broken links.",
    "open-graph": "Add the missing Open Graph properties.",
    "json-ld": "Repair the JSON-LD.",
    "charset": "Serve the page as UTF-8.",
    "status": "Make the page answer with status 200.",
    "not-html": "Audit an HTML page.",
    "malformed": "Repair the HTML.",
}
"""What to do about each rule's finding."""


def write_report(audit: Mapping[str, object], links: Mapping[str, object] | None = None) -> str:
    """Write an audit as a report with the headings of `REPORT_HEADINGS`, in that order.

    What is missing from the mapping is reported as not known: the report may come from a tool result that was cut.

    Args:
        audit: the JSON form of an `Audit`.
        links: the JSON form of a `LinkReport`, where links were checked apart from the audit.
    """
    counts = {**_mapping(audit.get("links")), **(links or {})}
    findings = _all_findings(audit, links)
    sections = (
        ("Title", _stated(audit, "title")),
        ("Description", _stated(audit, "description")),
        ("Headings", _headings(audit)),
        ("Links", _links(counts)),
        ("Status", _status(audit)),
        ("Findings", _findings(findings)),
    )
    body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections)
    return f"# SEO audit of {_known(audit.get('url'))}\n\n{body}\n"


def write_advice(audit: Mapping[str, object], links: Mapping[str, object] | None = None) -> str:
    """Write what to do about each finding, one line a rule, in the order of the findings.

    Args:
        audit: the JSON form of an `Audit`.
        links: the JSON form of a `LinkReport`, where links were checked apart from the audit.
    """
    rules = [_text(finding.get("rule")) for finding in _all_findings(audit, links)]
    lines = [ADVICE[rule] for rule in dict.fromkeys(rules) if rule in ADVICE]
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1)) or "Nothing needs to be done."


def _stated(audit: Mapping[str, object], name: str) -> str:
    if name not in audit:
        return "Not known."
    text = _text(audit[name])
    return f"{text}\n\n({len(text)} characters)" if text else "There is none."


def _headings(audit: Mapping[str, object]) -> str:
    if "headings" not in audit:
        return "Not known."
    headings = _mappings(audit.get("headings"))
    lines = [
        f"- h{_text(heading.get('level'))}: {_text(heading.get('text')) or '(empty)'}"
        for heading in headings[:MAX_HEADINGS]
    ]
    if len(headings) > MAX_HEADINGS:
        lines.append(f"- and {len(headings) - MAX_HEADINGS} more")
    return "\n".join(lines) or "There are none."


def _links(counts: Mapping[str, object]) -> str:
    if not counts:
        return "Not known."
    line = f"{_known(counts.get('internal'))} internal, {_known(counts.get('external'))} external."
    if "checked" not in counts:
        return f"{line} They were not checked."
    broken = [
        f"- broken: {_text(link.get('url'))} ({_text(link.get('problem'))})" for link in _mappings(counts.get("broken"))
    ]
    return "\n".join([f"{line} {_known(counts.get('checked'))} checked, {len(broken)} broken.", *broken])


def _status(audit: Mapping[str, object]) -> str:
    if "status" not in audit:
        return "Not known."
    return f"{_text(audit['status'])}, {_text(audit.get('content_type'))} {_text(audit.get('charset'))}".rstrip()


def _findings(findings: list[Mapping[str, object]]) -> str:
    lines = [_finding_line(finding) for finding in findings]
    return "\n".join(lines) or "Nothing was found wrong."


def _finding_line(finding: Mapping[str, object]) -> str:
    evidence = _text(finding.get("evidence"))
    start = f"- {_text(finding.get('severity'))} `{_text(finding.get('rule'))}`: {_text(finding.get('message'))}"
    return f"{start} ({evidence})" if evidence else start


def _all_findings(audit: Mapping[str, object], links: Mapping[str, object] | None) -> list[Mapping[str, object]]:
    """Return the audit's findings, and the broken links that were found apart from it, errors first."""
    findings = _mappings(audit.get("findings"))
    broken = _mappings(links.get("broken")) if links is not None else []
    if broken and not any(finding.get("rule") == "link-broken" for finding in findings):
        evidence = "; ".join(_text(link.get("url")) for link in broken[:5])
        message = f"{len(broken)} internal link(s) are broken."
        findings.append({"severity": "error", "rule": "link-broken", "message": message, "evidence": evidence})
    return sorted(findings, key=lambda finding: finding.get("severity") != "error")


def _known(value: object) -> str:
    return _text(value) or "not known"


def _text(value: object) -> str:
    """Return a value on one line, so that no page can write a heading into the report."""
    return "" if value is None else " ".join(str(value).split()).replace("`", "'")


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, object]]:
    return [_mapping(item) for item in cast("list[object]", value)] if isinstance(value, list) else []
