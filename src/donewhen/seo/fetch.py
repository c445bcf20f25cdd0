"""Fetch a page politely: what robots.txt disallows is refused, and time, size and redirects are bounded."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from donewhen.seo.charset import decode_html
from donewhen.seo.robots import Robots, read_robots
from donewhen.seo.transfer import (
    REDIRECT_STATUSES,
    Exchange,
    FetchError,
    RobotsRefusedError,
    Target,
    exchange,
    is_loopback,
    read_url,
)

USER_AGENT = "donewhen-seo/1"
ROBOTS_NAME = "donewhen-seo"
"""The product token that robots.txt groups are matched against. Source: RFC 9309 section 2.2.1."""
ROBOTS_MAX_BYTES = 512_000
"""What is read of a robots.txt. Source: RFC 9309 section 2.5 asks for at least 500 KiB."""
MAX_REDIRECTS = 5
HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What was found at a URL."""

    url: str
    """What was asked for."""
    final_url: str
    """Where the redirects led; the same as `url` where there were none."""
    redirects: tuple[str, ...] = ()
    """The URLs passed on the way, without the final one."""
    status: int
    content_type: str
    """Media type in lower case, without parameters; empty where none was sent."""
    charset: str = ""
    """The character set it was read with; empty for what is not HTML."""
    text: str = ""
    """The HTML, decoded; empty for what is not HTML."""
    size_bytes: int = 0
    elapsed_ms: int = 0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names in lower case."""
    problems: tuple[str, ...] = ()
    """What was wrong with the answer, one sentence each: not HTML, not UTF-8."""

    @property
    def is_html(self) -> bool:
        """Tell whether there is HTML to read."""
        return self.content_type in HTML_TYPES


@dataclass(slots=True, kw_only=True)
class Fetcher:
    """Fetch pages of a site, reading each robots.txt once.

    Loopback may be fetched where the first URL is on loopback: no page elsewhere can lead here by a redirect.
    Not for several threads at once.
    """

    timeout_seconds: float = 10.0
    """For one page and everything that is fetched for it."""
    max_bytes: int = 2_000_000
    """The largest page that is read. A larger one is an error."""
    user_agent: str = USER_AGENT
    allow_private: bool = False
    """Whether private networks may be asked. Link-local addresses never are."""
    obey_robots: bool = True
    _rules: dict[str, Robots | FetchError] = field(default_factory=dict[str, "Robots | FetchError"])

    def __post_init__(self) -> None:
        if not 0 < self.timeout_seconds < float("inf"):
            raise ValueError(f"timeout_seconds is {self.timeout_seconds!r}; it must be above zero and finite")
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes is {self.max_bytes!r}; it must be at least 1")

    def page(self, url: str) -> Page:
        """Fetch one page.

        Args:
            url: an http or https URL.

        Raises:
            FetchError: the URL is wrong, robots.txt disallows it, nobody answered in time, there were more than five
                redirects, or the page is too large.
        """
        started = time.monotonic()
        deadline = started + self.timeout_seconds
        answer, passed = self._follow("GET", read_url(url), deadline, self.max_bytes)
        final = passed[-1]
        if answer.too_large:
            raise FetchError(url, f"the page is larger than {self.max_bytes} bytes")
        body = self._decompressed(url, answer)
        media_type, _, parameters = answer.headers.get("content-type", "").partition(";")
        content_type = media_type.split(",")[0].strip().lower()
        text, charset, problems = "", "", (f"The answer is {content_type or 'of no stated type'}, not HTML.",)
        if content_type in HTML_TYPES:
            text, charset, problems = decode_html(body, parameters)
        return Page(
            url=passed[0].url,
            final_url=final.url,
            redirects=tuple(target.url for target in passed[:-1]),
            status=answer.status,
            content_type=content_type,
            charset=charset,
            text=text,
            size_bytes=len(body),
            elapsed_ms=round((time.monotonic() - started) * 1000),
            headers=answer.headers,
            problems=problems,
        )

    def status(self, url: str, *, deadline: float | None = None) -> int:
        """Ask for a URL's status without reading its body.

        Args:
            url: an http or https URL.
            deadline: by `time.monotonic`, in seconds; without one, `timeout_seconds` from now.

        Raises:
            FetchError: as for `page`.
        """
        deadline = time.monotonic() + self.timeout_seconds if deadline is None else deadline
        target = read_url(url)
        answer, _ = self._follow("HEAD", target, deadline, 0)
        if answer.status in (403, 405, 500, 501):  # some servers answer GET alone
            answer, _ = self._follow("GET", target, deadline, 0)
        return answer.status

    def _follow(self, method: str, target: Target, deadline: float, max_bytes: int) -> tuple[Exchange, list[Target]]:
        started_here = is_loopback(target, deadline=deadline)
        passed = [target]
        for _ in range(MAX_REDIRECTS + 1):
            self._ask_robots(target, deadline, here=started_here)
            answer = self._send(method, target, deadline, max_bytes, here=started_here)
            location = answer.headers.get("location")
            if answer.status not in REDIRECT_STATUSES or location is None:
                return answer, passed
            # Header bytes are read as Latin-1; a location that is not ASCII is UTF-8 in practice.
            location = location.encode("latin-1", "replace").decode("utf-8", "replace")
            target = read_url(location, base=target.url)
            passed.append(target)
        raise FetchError(passed[0].url, f"there were more than {MAX_REDIRECTS} redirects")

    def _send(self, method: str, target: Target, deadline: float, max_bytes: int, *, here: bool) -> Exchange:
        return exchange(
            target,
            deadline=deadline,
            max_bytes=max_bytes,
            user_agent=self.user_agent,
            method=method,
            allow_loopback=here,
            allow_private=self.allow_private,
        )

    def _ask_robots(self, target: Target, deadline: float, *, here: bool) -> None:
        if not self.obey_robots:
            return
        if target.origin not in self._rules:
            self._rules[target.origin] = self._read_robots(target, deadline, here=here)
        rules = self._rules[target.origin]
        if isinstance(rules, FetchError):
            raise RobotsRefusedError(target.url, rules.problem)
        if not rules.allows(target.url):
            raise RobotsRefusedError(target.url, "the site's robots.txt disallows it")

    def _read_robots(self, target: Target, deadline: float, *, here: bool) -> Robots | FetchError:
        """Return the rules of an origin, or why it may not be fetched. Source: RFC 9309 section 2.3.1."""
        robots = read_url("/robots.txt", base=target.url)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                answer = self._send("GET", robots, deadline, ROBOTS_MAX_BYTES, here=here)
                location = answer.headers.get("location")
                if answer.status not in REDIRECT_STATUSES or location is None:
                    return _rules_from(target, answer)
                robots = read_url(location, base=robots.url)
        except FetchError as error:
            return FetchError(target.url, f"its robots.txt could not be read, so it is left alone: {error.problem}")
        return Robots()  # after five redirects the file counts as unavailable, which disallows nothing

    def _decompressed(self, url: str, answer: Exchange) -> bytes:
        encoding = answer.headers.get("content-encoding", "identity").strip().lower()
        if encoding in ("identity", ""):
            return answer.body
        if encoding not in ("gzip", "x-gzip"):
            raise FetchError(url, "the page is compressed in a way that was not asked for")
        try:
            unpacker = zlib.decompressobj(wbits=31)
            body = unpacker.decompress(answer.body, self.max_bytes + 1)
        except zlib.error as error:
            raise FetchError(url, "the page says that it is gzip, and is not") from error
        if len(body) > self.max_bytes:
            raise FetchError(url, f"the page is larger than {self.max_bytes} bytes")
        if not unpacker.eof:
            raise FetchError(url, "the page's compressed data ends too early")
        return body


def fetch_page(
    url: str, *, timeout_seconds: float = 10.0, max_bytes: int = 2_000_000, user_agent: str = USER_AGENT
) -> Page:
    """Fetch one page politely.

    Args:
        url: an http or https URL.
        timeout_seconds: for everything together, robots.txt and redirects included.
        max_bytes: the largest page that is read.
        user_agent: who is asking.

    Raises:
        FetchError: as for `Fetcher.page`.
    """
    return Fetcher(timeout_seconds=timeout_seconds, max_bytes=max_bytes, user_agent=user_agent).page(url)


def _rules_from(target: Target, answer: Exchange) -> Robots | FetchError:
    if 200 <= answer.status < 300:
        return read_robots(answer.body.decode("utf-8", "replace"), ROBOTS_NAME)
    if answer.status >= 500:
        return FetchError(target.url, f"its robots.txt answers with status {answer.status}, so it is left alone")
    return Robots()
