"""Judge a page by plain rules; each finding names its rule and what it was found in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from donewhen.seo.fetch import Fetcher, Page
from donewhen.seo.links import LinkReport, find_broken_links, is_internal
from donewhen.seo.page_facts import Heading, PageFacts, read_facts

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

TITLE_CHARS = (10, 60)
"""Shorter says little; longer is cut in most result lists."""
DESCRIPTION_CHARS = (50, 160)
OPEN_GRAPH_BASICS = ("og:title", "og:type", "og:image", "og:url")
"""Source: the four required properties of the Open Graph protocol."""
EVIDENCE_ITEMS = 5
EVIDENCE_CHARS = 120


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, or one thing worth knowing."""

    severity: Severity
    rule: str
    """A stable name, such as ``title-missing``."""
    message: str
    """One sentence."""
    evidence: str = ""
    """What it was found in, shortened."""

    def as_dict(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"severity": self.severity, "rule": self.rule, "message": self.message, "evidence": self.evidence}


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What an audit of one page found."""

    url: str
    status: int
    content_type: str
    charset: str
    title: str | None
    """None: there is none."""
    description: str | None
    canonical: str | None
    lang: str | None
    viewport: str | None
    robots: tuple[str, ...]
    headings: tuple[Heading, ...]
    images: int
    images_without_alt: int
    internal_links: int
    external_links: int
    empty_links: int
    open_graph: dict[str, str] = field(default_factory=dict[str, str])
    json_ld: int = 0
    links: LinkReport | None = None
    """None: the links were not asked for."""
    findings: tuple[Finding, ...] = ()
    """Errors first, then warnings, then notes; within one severity in the order of the rules."""

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form, which `AUDIT_SCHEMA` describes."""
        return {
            "url": self.url,
            "status": self.status,
            "content_type": self.content_type,
            "charset": self.charset,
            "title": self.title,
            "description": self.description,
            "canonical": self.canonical,
            "lang": self.lang,
            "viewport": self.viewport,
            "robots": list(self.robots),
            "headings": [{"level": heading.level, "text": heading.text} for heading in self.headings[:50]],
            "images": {"total": self.images, "without_alt": self.images_without_alt},
            "links": {
                "internal": self.internal_links,
                "external": self.external_links,
                "empty": self.empty_links,
                **({} if self.links is None else self.links.as_dict()),
            },
            "open_graph": dict(self.open_graph),
            "json_ld": self.json_ld,
            "findings": [finding.as_dict() for finding in self.findings],
        }


AUDIT_SCHEMA: dict[str, object] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["url", "status", "title", "description", "headings", "images", "links", "findings"],
    "properties": {
        "url": {"type": "string"},
        "status": {"type": "integer"},
        "title": {"type": ["string", "null"]},
        "description": {"type": ["string", "null"]},
        "headings": {
            "type": "array",
            "items": {"type": "object", "required": ["level", "text"], "properties": {"level": {"type": "integer"}}},
        },
        "links": {"type": "object", "required": ["internal", "external", "empty"]},
        "findings": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["severity", "rule", "message"],
                "properties": {"severity": {"enum": list(SEVERITIES)}},
            },
        },
    },
}
"""What `Audit.as_dict` looks like, for a ``JsonSchema`` check."""


def judge_page(page: Page, links: LinkReport | None = None) -> Audit:
    """Judge a page that was fetched; asks the network for nothing and never fails.

    Args:
        page: what was fetched.
        links: what came of asking for its links, where that was done.
    """
    facts = read_facts(page.text, page.final_url)
    followable = [link for link in facts.links if link.url]
    internal = sum(is_internal(link.url, page.final_url) for link in followable)
    found = [*_page_findings(page)]
    if page.is_html:
        found += [finding for rule in RULES for finding in rule(page, facts)]
    if links is not None:
        found += _link_findings(links)
    return Audit(
        url=page.final_url,
        status=page.status,
        content_type=page.content_type,
        charset=page.charset,
        title=facts.titles[0] if facts.titles else None,
        description=facts.descriptions[0] if facts.descriptions else None,
        canonical=(facts.canonicals[0] or None) if facts.canonicals else None,
        lang=facts.lang or None,
        viewport=facts.viewport or None,
        robots=tuple(dict.fromkeys(facts.robots)),
        headings=tuple(facts.headings),
        images=facts.image_count,
        images_without_alt=len(facts.images_without_alt),
        internal_links=internal,
        external_links=len(followable) - internal,
        empty_links=sum(not link.text for link in facts.links),
        open_graph=dict(facts.open_graph),
        json_ld=facts.json_ld_count,
        links=links,
        findings=tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))),
    )


def audit_url(url: str, *, fetcher: Fetcher | None = None, max_links: int = 20) -> Audit:
    """Fetch a page, ask for its internal links, and judge it.

    Args:
        url: an http or https URL.
        fetcher: what asks; by default one with the usual bounds.
        max_links: how many links are asked for at most.

    Raises:
        FetchError: the page itself could not be fetched.
    """
    fetcher = Fetcher() if fetcher is None else fetcher
    page = fetcher.page(url)
    return judge_page(page, check_page_links(page, fetcher, max_links=max_links))


def check_page_links(page: Page, fetcher: Fetcher, *, max_links: int = 20) -> LinkReport:
    """Ask for the internal links of a page that was fetched.

    Args:
        page: what was fetched.
        fetcher: what asks.
        max_links: how many links are asked for at most.
    """
    return find_broken_links(read_facts(page.text, page.final_url).links, page.final_url, fetcher, max_links=max_links)


def _page_findings(page: Page) -> Iterator[Finding]:
    if page.status >= 400:
        yield Finding("error", "status", f"The page answers with status {page.status}.", page.final_url)
    if page.redirects:
        yield Finding("note", "redirect", f"{len(page.redirects)} redirect(s) lead to the page.", page.final_url)
    rule, severity = ("charset", "warning") if page.is_html else ("not-html", "error")
    for problem in page.problems:
        yield Finding(severity, rule, problem)
    if "noindex" in page.headers.get("x-robots-tag", "").lower():
        yield Finding("error", "noindex", "The X-Robots-Tag header keeps the page out of search results.")


def _reading(page: Page, facts: PageFacts) -> Iterator[Finding]:
    del page
    for problem in facts.problems:
        yield Finding("error", "malformed", problem)


def _title(page: Page, facts: PageFacts) -> Iterator[Finding]:
    del page
    title = facts.titles[0] if facts.titles else ""
    if not title:
        yield Finding("error", "title-missing", "The page has no title.")
    elif not TITLE_CHARS[0] <= len(title) <= TITLE_CHARS[1]:
        message = f"The title has {len(title)} characters; {TITLE_CHARS[0]} to {TITLE_CHARS[1]} serve best."
        yield Finding("warning", "title-length", message, _shown([title]))
    if len(facts.titles) > 1:
        yield Finding("warning", "title-many", f"The page has {len(facts.titles)} titles.", _shown(facts.titles))


def _description(page: Page, facts: PageFacts) -> Iterator[Finding]:
    del page
    description = facts.descriptions[0] if facts.descriptions else ""
    if not description:
        yield Finding("warning", "description-missing", "The page has no meta description.")
    elif not DESCRIPTION_CHARS[0] <= len(description) <= DESCRIPTION_CHARS[1]:
        low, high = DESCRIPTION_CHARS
        message = f"The description has {len(description)} characters; {low} to {high} serve best."
        yield Finding("note", "description-length", message, _shown([description]))
    if len(facts.descriptions) > 1:
        yield Finding("warning", "description-many", f"The page has {len(facts.descriptions)} descriptions.")


def _canonical(page: Page, facts: PageFacts) -> Iterator[Finding]:
    if not facts.canonicals:
        yield Finding("note", "canonical-missing", "The page names no canonical URL.")
    elif len(set(facts.canonicals)) > 1:
        yield Finding("error", "canonical-many", "The page names several canonical URLs.", _shown(facts.canonicals))
    elif not facts.canonicals[0]:
        yield Finding("error", "canonical-wrong", "The canonical URL is not a URL.")
    elif not _same_page(facts.canonicals[0], page.final_url):
        message = "The canonical URL is another page, so this one will not be listed."
        yield Finding("warning", "canonical-elsewhere", message, _shown(facts.canonicals))


def _basics(page: Page, facts: PageFacts) -> Iterator[Finding]:
    del page
    if not facts.lang:
        yield Finding("warning", "lang-missing", "The html element names no language.")
    if not facts.viewport:
        yield Finding("warning", "viewport-missing", "The page has no viewport, so phones show it small.")
    if {"noindex", "none"} & set(facts.robots):
        evidence = ", ".join(facts.robots)[:EVIDENCE_CHARS]
        yield Finding("error", "noindex", "The robots meta element keeps the page out of search results.", evidence)


def _headings(page: Page, facts: PageFacts) -> Iterator[Finding]:
    del page
    tops = [heading.text for heading in facts.headings if heading.level == 1]
    if not tops:
        yield Finding("error", "h1-missing", "The page has no h1.")
    elif len(tops) > 1:
        yield Finding("warning", "h1-many", f"The page has {len(tops)} h1 headings.", _shown(tops))
    level = 0
    for heading in facts.headings:
        if heading.level > level + 1 and level:
            message = f"A heading of level {heading.level} follows one of level {level}."
            yield Finding("warning", "heading-skipped", message, _shown([heading.text]))
        level = heading.level
    empty = sum(not heading.text for heading in facts.headings)
    if empty:
        yield Finding("warning", "heading-empty", f"{empty} heading(s) have no text.")


def _images_and_links(page: Page, facts: PageFacts) -> Iterator[Finding]:
    del page
    bare = facts.images_without_alt
    if bare:
        yield Finding("warning", "image-alt", f"{len(bare)} image(s) have no alt text.", _shown(bare))
    empty = [link.url for link in facts.links if not link.text]
    if empty:
        yield Finding("warning", "link-empty", f"{len(empty)} link(s) have no text.", _shown(empty))


def _extras(page: Page, facts: PageFacts) -> Iterator[Finding]:
    del page
    missing = [name for name in OPEN_GRAPH_BASICS if not facts.open_graph.get(name)]
    if missing:
        yield Finding("note", "open-graph", "Open Graph properties are missing.", ", ".join(missing))
    for problem in facts.json_ld_problems:
        yield Finding("error", "json-ld", "A block of JSON-LD cannot be used.", problem[:EVIDENCE_CHARS])


def _link_findings(links: LinkReport) -> Iterator[Finding]:
    if links.broken:
        shown = _shown([f"{link.url} ({link.problem})" for link in links.broken])
        yield Finding("error", "link-broken", f"{len(links.broken)} internal link(s) are broken.", shown)
    if links.unchecked:
        yield Finding("note", "links-unchecked", f"{links.unchecked} internal link(s) were not checked.")


Rule = Callable[[Page, PageFacts], Iterator[Finding]]
RULES: tuple[Rule, ...] = (_reading, _title, _description, _canonical, _basics, _headings, _images_and_links, _extras)


def _same_page(one: str, other: str) -> bool:
    try:
        left, right = urlsplit(one), urlsplit(other)
    except ValueError:
        return False
    same_host = left.netloc.lower() == right.netloc.lower()
    return same_host and (left.path or "/", left.query) == (right.path or "/", right.query)


def _shown(items: list[str]) -> str:
    more = f" and {len(items) - EVIDENCE_ITEMS} more" if len(items) > EVIDENCE_ITEMS else ""
    return "; ".join(item[:EVIDENCE_CHARS] for item in items[:EVIDENCE_ITEMS]) + more
