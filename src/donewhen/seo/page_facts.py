"""Read from HTML what an audit looks at. Whatever the text is, this ends, with what could be read.

The standard parser is fed piece by piece against a deadline, since some malformed text takes it quadratic time, and
it is never closed, since closing is where the worst of that happens; what is lost is an unfinished tag at the end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import cast
from urllib.parse import urljoin, urlsplit

PIECE_CHARS = 16_384
MAX_TEXT_CHARS = 500
"""How much of a title, heading or link text is kept."""
MAX_ITEMS = 5_000
"""How many headings, images and links are looked at, each."""
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading and its level, 1 to 6."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Link:
    """An anchor that leads to a page."""

    url: str
    """Absolute, without a fragment."""
    text: str
    """What a reader would see or hear; empty where there is nothing."""


@dataclass(slots=True, kw_only=True)
class PageFacts:
    """What stands in a page; lists are in the order of the page."""

    titles: list[str] = field(default_factory=list[str])
    descriptions: list[str] = field(default_factory=list[str])
    canonicals: list[str] = field(default_factory=list[str])
    lang: str = ""
    viewport: str = ""
    robots: list[str] = field(default_factory=list[str])
    """Directives of <meta name=robots> and googlebot, in lower case."""
    headings: list[Heading] = field(default_factory=list[Heading])
    image_count: int = 0
    images_without_alt: list[str] = field(default_factory=list[str])
    """The sources of images that have no alt attribute; an empty alt says "decoration" and is right."""
    links: list[Link] = field(default_factory=list[Link])
    open_graph: dict[str, str] = field(default_factory=dict[str, str])
    json_ld_count: int = 0
    json_ld_problems: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])
    """What kept the page from being read whole."""


def read_facts(text: str, url: str, *, parse_seconds: float = 5.0) -> PageFacts:
    """Read a page's facts from its HTML; never fails.

    Args:
        text: the HTML.
        url: where it was found, which its links are relative to.
        parse_seconds: how long reading may take; what was not read by then is reported.
    """
    parser = _FactsParser(url)
    deadline = time.monotonic() + parse_seconds
    for start in range(0, len(text), PIECE_CHARS):
        try:
            parser.feed(text[start : start + PIECE_CHARS])
        except (AssertionError, ValueError) as error:
            parser.facts.problems.append(
                f"The HTML could not be read beyond character {start} ({type(error).__name__})."
            )
            break
        if time.monotonic() > deadline:
            parser.facts.problems.append(f"The HTML took too long to read and was left at character {start}.")
            break
    parser.finish()
    return parser.facts


class _FactsParser(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.facts = PageFacts()
        self._base = url
        self._collecting: dict[str, _Collected] = {}
        self._svg_depth = 0
        self._openers: dict[str, Callable[[dict[str, str]], None]] = {
            "html": self._open_html,
            "base": self._open_base,
            "svg": self._open_svg,
            "title": self._open_title,
            "meta": self._open_meta,
            "link": self._open_link,
            "img": self._open_img,
            "a": self._open_a,
            "script": self._open_script,
        }

    def parse_marked_section(self, i: int, report: object = 1) -> int:
        """Skip what looks like a marked section: the standard library's own reader fails on malformed ones."""
        del report
        return self.parse_bogus_comment(i)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values: dict[str, str] = {}
        for name, value in attrs:
            values.setdefault(name, value or "")
        if tag in HEADINGS:
            self._start("heading", tag)
        elif tag in self._openers:
            self._openers[tag](values)

    def handle_endtag(self, tag: str) -> None:
        kind = "heading" if tag in HEADINGS else tag
        if tag == "svg":
            self._svg_depth = max(0, self._svg_depth - 1)
        elif kind in self._collecting:
            self._end(kind)

    def handle_data(self, data: str) -> None:
        for collected in self._collecting.values():
            collected.add(data)

    def finish(self) -> None:
        """Take what was still open at the end of the page."""
        for kind in list(self._collecting):
            self._end(kind)

    def _open_html(self, values: dict[str, str]) -> None:
        self.facts.lang = self.facts.lang or values.get("lang", "").strip()[:MAX_TEXT_CHARS]

    def _open_base(self, values: dict[str, str]) -> None:
        self._base = _absolute(self._base, values.get("href", "")) or self._base

    def _open_svg(self, values: dict[str, str]) -> None:
        del values
        self._svg_depth += 1

    def _open_title(self, values: dict[str, str]) -> None:
        del values
        if not self._svg_depth:  # an <svg> has titles of its own
            self._start("title", "title")

    def _open_meta(self, values: dict[str, str]) -> None:
        name = (values.get("name") or values.get("property", "")).strip().lower()
        content = _one_line(values.get("content", ""))
        if name == "description":
            self.facts.descriptions.append(content)
        elif name in ("robots", "googlebot"):
            self.facts.robots.extend(word.strip().lower() for word in content.split(",") if word.strip())
        elif name == "viewport":
            self.facts.viewport = self.facts.viewport or content
        elif name.startswith("og:") and len(self.facts.open_graph) < 50:
            self.facts.open_graph.setdefault(name[:60], content)

    def _open_link(self, values: dict[str, str]) -> None:
        if "canonical" in values.get("rel", "").lower().split():
            self.facts.canonicals.append(_absolute(self._base, values.get("href", "")))

    def _open_img(self, values: dict[str, str]) -> None:
        self.facts.image_count += 1
        if "alt" not in values and len(self.facts.images_without_alt) < MAX_ITEMS:
            self.facts.images_without_alt.append(_one_line(values.get("src", "")) or "(no src)")
        for collected in self._collecting.values():
            collected.add(f" {values.get('alt', '')} ")

    def _open_a(self, values: dict[str, str]) -> None:
        if "a" in self._collecting:
            self._end("a")
        if "href" in values and len(self.facts.links) < MAX_ITEMS:
            self._start("a", _absolute(self._base, values["href"]))
            self._collecting["a"].add(values.get("aria-label", "") or values.get("title", ""))

    def _open_script(self, values: dict[str, str]) -> None:
        if values.get("type", "").strip().lower() == "application/ld+json":
            self._start("script", "", whole=True)

    def _start(self, kind: str, about: str, *, whole: bool = False) -> None:
        if kind in self._collecting:
            self._end(kind)
        self._collecting[kind] = _Collected(about, whole=whole)

    def _end(self, kind: str) -> None:
        collected = self._collecting.pop(kind)
        text = _one_line(collected.text)
        if kind == "title":
            self.facts.titles.append(text)
        elif kind == "heading" and len(self.facts.headings) < MAX_ITEMS:
            self.facts.headings.append(Heading(int(collected.about[1]), text))
        elif kind == "a" and collected.about and len(self.facts.links) < MAX_ITEMS:
            self.facts.links.append(Link(collected.about, text))
        elif kind == "script":
            self._read_json_ld(collected.text)

    def _read_json_ld(self, text: str) -> None:
        self.facts.json_ld_count += 1
        problem = _json_ld_problem(text)
        if problem is not None and len(self.facts.json_ld_problems) < 20:
            self.facts.json_ld_problems.append(problem)


class _Collected:
    """Text between two tags, bounded unless it is wanted whole."""

    def __init__(self, about: str, *, whole: bool) -> None:
        self.about = about
        self._whole = whole
        self._parts: list[str] = []
        self._size = 0

    def add(self, data: str) -> None:
        if self._whole or self._size < 4 * MAX_TEXT_CHARS:
            self._parts.append(data)
            self._size += len(data)

    @property
    def text(self) -> str:
        return "".join(self._parts)


def _json_ld_problem(text: str) -> str | None:
    try:
        value = cast("object", json.loads(text))
    except RecursionError:
        return "it is nested too deeply"
    except ValueError as error:
        return f"it is not JSON: {error}"
    blocks = cast("list[object]", value) if isinstance(value, list) else [value]
    for block in blocks:
        if not isinstance(block, dict):
            return "it is JSON, but not an object"
        if "@context" not in block:
            return "it has no @context"
    return None


def _absolute(base: str, href: str) -> str:
    """Return an absolute http or https URL without its fragment, or the empty text."""
    href = href.strip()
    if not href or href.startswith("#"):
        return ""
    try:
        parts = urlsplit(urljoin(base, href))
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return ""
    return parts._replace(fragment="").geturl()[:8_001]


def _one_line(text: str) -> str:
    shown = "".join(char if char.isprintable() else " " for char in text[: 8 * MAX_TEXT_CHARS])
    return " ".join(shown.split())[:MAX_TEXT_CHARS]
