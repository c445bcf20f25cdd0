"""Ask whether a page's own links lead anywhere: a bounded number of requests, within a bounded time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from donewhen.seo.fetch import Fetcher
from donewhen.seo.page_facts import Link
from donewhen.seo.transfer import FetchError, RobotsRefusedError, show_url


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """A link that leads nowhere, and why."""

    url: str
    problem: str
    """"status 404", or one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReport:
    """What came of asking."""

    checked: int
    """How many different internal links were asked for."""
    unchecked: int
    """How many were not: too many, no time, or robots.txt disallows them."""
    broken: tuple[BrokenLink, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        broken = [{"url": link.url, "problem": link.problem} for link in self.broken]
        return {"checked": self.checked, "unchecked": self.unchecked, "broken": broken}


def is_internal(url: str, page_url: str) -> bool:
    """Tell whether a URL is on the same host and port as a page."""
    try:
        return urlsplit(url).netloc.lower() == urlsplit(page_url).netloc.lower()
    except ValueError:
        return False


def find_broken_links(
    links: Iterable[Link], page_url: str, fetcher: Fetcher, *, max_links: int = 20, timeout_seconds: float = 20.0
) -> LinkReport:
    """Ask for each internal link of a page once.

    Args:
        links: the page's links.
        page_url: where the page was found.
        fetcher: what asks; its robots.txt rules are kept.
        max_links: how many are asked for at most.
        timeout_seconds: for all of them together.
    """
    deadline = time.monotonic() + timeout_seconds
    wanted = [
        url for url in dict.fromkeys(link.url for link in links) if is_internal(url, page_url) and url != page_url
    ]
    checked, broken = 0, list[BrokenLink]()
    for url in wanted:
        if checked >= max_links or time.monotonic() >= deadline:
            break
        try:
            problem = _problem(url, fetcher, min(deadline, time.monotonic() + fetcher.timeout_seconds))
        except RobotsRefusedError:
            continue
        checked += 1
        if problem is not None:
            broken.append(BrokenLink(show_url(url), problem))
    return LinkReport(checked=checked, unchecked=len(wanted) - checked, broken=tuple(broken))


def _problem(url: str, fetcher: Fetcher, deadline: float) -> str | None:
    try:
        status = fetcher.status(url, deadline=deadline)
    except RobotsRefusedError:
        raise
    except FetchError as error:
        return error.problem
    return f"status {status}" if status >= 400 else None
