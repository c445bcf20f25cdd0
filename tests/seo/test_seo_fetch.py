"""Fetching: polite, bounded, and one sentence for whatever goes wrong."""

from __future__ import annotations

import gzip
import time

import pytest
from raw_site import RawSite, html

from donewhen.demo.site import DemoSite
from donewhen.demo.site_pages import SitePage
from donewhen.seo import Fetcher, FetchError, fetch_page
from donewhen.seo.transfer import is_loopback, read_url


def refusal(url: str, **settings: float) -> str:
    with pytest.raises(FetchError) as caught:
        Fetcher(**settings).page(url)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_page_comes_with_its_status_type_and_text() -> None:
    with DemoSite() as site:
        page = fetch_page(site.url)
    assert (page.status, page.content_type, page.charset, page.problems) == (200, "text/html", "utf-8", ())
    assert "<h1>Spoke and Chain</h1>" in page.text


def test_what_robots_disallows_is_not_fetched() -> None:
    with DemoSite() as site:
        assert "robots.txt disallows it" in refusal(site.url_of("/private/ledger"))
        assert site.requests == ("GET /robots.txt",)


def test_a_site_without_robots_may_be_fetched() -> None:
    with RawSite({"/": html(b"<p>hello")}) as site:
        assert fetch_page(site.url).text == "<p>hello"


def test_a_site_whose_robots_cannot_be_read_is_left_alone() -> None:
    with RawSite({"/": html(b"x"), "/robots.txt": html(b"", status="503 Busy")}) as site:
        assert "robots.txt answers with status 503" in refusal(site.url)
    with RawSite({"/": html(b"x"), "/robots.txt": b"what?"}) as site:
        assert "robots.txt could not be read" in refusal(site.url)


def test_robots_is_read_once_for_many_pages() -> None:
    with DemoSite() as site:
        fetcher = Fetcher()
        for path in ("/", "/services", "/prices"):
            fetcher.page(site.url_of(path))
        assert site.requests.count("GET /robots.txt") == 1


def test_redirects_are_followed_and_told() -> None:
    with DemoSite() as site:
        page = fetch_page(site.url_of("/history"))
        assert (page.final_url, page.redirects) == (site.url_of("/about"), (site.url_of("/history"),))


def test_a_redirect_without_an_end_is_left() -> None:
    with DemoSite({"/": SitePage(b"", "text/html", 302, "/")}) as site:
        assert "more than 5 redirects" in refusal(site.url)


@pytest.mark.parametrize(
    "location", ["ftp://127.0.0.1/", "file:///etc/passwd", "http://169.254.169.254/latest", "http://["]
)
def test_a_redirect_leads_nowhere_but_to_the_web(location: str) -> None:
    with DemoSite({"/": SitePage(b"", "text/html", 302, location)}) as site:
        assert refusal(site.url)


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "[fe80::1]", "[::ffff:10.0.0.1]"]
)
def test_private_addresses_are_not_asked(host: str) -> None:
    assert "not on the public internet" in refusal(f"http://{host}/")


def test_a_link_local_address_is_refused_even_where_private_ones_are_allowed() -> None:
    with pytest.raises(FetchError, match="not on the public internet"):
        Fetcher(allow_private=True).page("http://169.254.169.254/latest/meta-data")


def test_loopback_is_seen_in_all_its_spellings() -> None:
    deadline = time.monotonic() + 60
    spellings = ("http://127.8.9.1/", "http://localhost/", "http://[::1]/", "http://[::ffff:127.0.0.1]/")
    assert all(is_loopback(read_url(url), deadline=deadline) for url in spellings)
    assert not is_loopback(read_url("http://8.8.8.8/"), deadline=deadline)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "only http and https"),
        ("ftp://example.org/", "only http and https"),
        ("javascript:alert(1)", "only http and https"),
        ("http://", "names no host"),
        ("http://exa mple.org/", "names no host"),
        ("http://127.0.0.1:99999/", "not a URL"),
        ("http://[::1/", "not a URL"),
        ("http://127.0.0.1/\ud800", "not a URL"),
        ("http://user:secret@127.0.0.1/", "user name or a password"),
        ("http://127.0.0.1/" + "a" * 9_000, "longer than"),
        ("http://" + "a" * 70 + ".test/", "not known"),
    ],
)
def test_a_wrong_url_is_one_sentence(url: str, problem: str) -> None:
    message = refusal(url)
    assert problem in message
    assert "secret" not in message


def test_nobody_there_is_one_sentence() -> None:
    with DemoSite() as site:
        url = site.url
    assert "nobody answers there" in refusal(url)


def test_a_server_that_drips_is_left_in_time() -> None:
    with RawSite(drip=True) as site:
        started = time.monotonic()
        assert "time for it ran out" in refusal(site.url, timeout_seconds=0.2)
        assert time.monotonic() - started < 60  # it would drip for ever


def test_a_page_that_is_too_large_is_refused() -> None:
    with RawSite({"/": html(b"x" * 5_000)}) as site:
        assert "larger than 4999 bytes" in refusal(site.url, max_bytes=4_999)
        assert fetch_page(site.url, max_bytes=5_000).size_bytes == 5_000


def test_a_body_without_an_end_is_cut_at_the_limit() -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 100_000
    with RawSite({"/": endless}) as site:
        assert "larger than 1000 bytes" in refusal(site.url, max_bytes=1_000)


def test_a_gzip_bomb_is_never_unpacked_whole() -> None:
    bomb = html(gzip.compress(b"\0" * 3_000_000), headers="Content-Type: text/html\r\nContent-Encoding: gzip")
    with RawSite({"/": bomb}) as site:
        assert "larger than 10000 bytes" in refusal(site.url, max_bytes=10_000)


def test_gzip_that_was_not_asked_for_is_read() -> None:
    packed = html(gzip.compress(b"<p>hi"), headers="Content-Type: text/html\r\nContent-Encoding: gzip")
    with RawSite({"/": packed}) as site:
        assert fetch_page(site.url).text == "<p>hi"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0\0\0",
        b"HTTP/9.9 what\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a" * 70_000,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        html(b"x", headers="Content-Type: text/html\r\nContent-Encoding: gzip"),
        html(b"x", headers="Content-Type: text/html\r\nContent-Encoding: br"),
        html(b"", status="302 Found", headers="Location: http://\x7f/"),
    ],
)
def test_an_answer_that_is_not_proper_is_one_sentence(answer: bytes) -> None:
    with RawSite({"/": answer}) as site:
        assert refusal(site.url).startswith("http://")


def test_what_is_not_html_is_said_in_one_sentence() -> None:
    with DemoSite() as site:
        page = fetch_page(site.url_of("/brochure.pdf"))
    assert (page.is_html, page.text, page.problems) == (False, "", ("The answer is application/pdf, not HTML.",))


def test_a_page_that_is_not_utf8_is_read_and_reported() -> None:
    with DemoSite() as site:
        page = fetch_page(site.url_of("/team"))
    assert "Jörg, Zoë und Anaïs" in page.text
    assert page.problems == ("The page is iso-8859-1, not UTF-8.",)


def test_a_status_is_asked_for_with_head_and_then_with_get() -> None:
    refused = html(b"", status="405 Not Allowed")
    with RawSite({"/": refused}) as site:
        assert Fetcher().status(site.url) == 405
    with DemoSite() as site:
        assert Fetcher().status(site.url_of("/gone")) == 404
        assert site.requests[-1] == "HEAD /gone"


@pytest.mark.parametrize("settings", [{"timeout_seconds": 0}, {"timeout_seconds": float("inf")}, {"max_bytes": 0}])
def test_bounds_that_bound_nothing_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Fetcher(**settings)


def test_a_server_without_a_secure_connection_is_one_sentence() -> None:
    with RawSite({"*": html(b"x")}) as site:
        assert "connection failed" in refusal(site.url.replace("http:", "https:"))


def test_a_robots_file_that_moved_is_followed() -> None:
    moved = SitePage(b"", "text/plain", 301, "/rules.txt")
    rules = SitePage(b"User-agent: *\nDisallow: /\n", "text/plain")
    with DemoSite({"/robots.txt": moved, "/rules.txt": rules}) as site:
        assert "robots.txt disallows it" in refusal(site.url)


def test_a_robots_file_that_moves_for_ever_disallows_nothing() -> None:
    pages = {"/robots.txt": SitePage(b"", "text/plain", 301, "/robots.txt"), "/": SitePage(b"<p>hello")}
    with DemoSite(pages) as site:
        assert fetch_page(site.url).text == "<p>hello"


def test_robots_can_be_left_aside_on_one_s_own_site() -> None:
    with DemoSite() as site:
        assert Fetcher(obey_robots=False).page(site.url_of("/private/ledger")).status == 200
