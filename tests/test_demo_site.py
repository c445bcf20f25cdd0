"""The demo's site is real, and quiet."""

from __future__ import annotations

import socket
import urllib.request

import pytest

from donewhen.demo.site import DemoSite


def test_it_serves_pages_on_loopback_only() -> None:
    with DemoSite() as site, urllib.request.urlopen(site.url) as answer:
        assert site.url.startswith("http://127.0.0.1:")
        assert answer.status == 200


def test_it_says_nothing_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with DemoSite() as site, socket.create_connection(("127.0.0.1", int(site.url.split(":")[2].strip("/")))) as visitor:
        visitor.sendall(b"nonsense\r\n\r\n")
        visitor.recv(100)
    assert capfd.readouterr() == ("", "")


def test_a_site_that_is_not_open_has_no_url() -> None:
    with pytest.raises(RuntimeError, match="not open"):
        _ = DemoSite().url


def test_it_can_be_opened_twice_in_a_row() -> None:
    site = DemoSite()
    with site:
        assert site.requests == ()
    with site, urllib.request.urlopen(site.url_of("/about")):
        assert site.requests == ("GET /about",)


def test_two_sites_do_not_disturb_each_other() -> None:
    with DemoSite() as one, DemoSite() as other:
        assert one.url != other.url
