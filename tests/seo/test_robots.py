"""robots.txt as RFC 9309 has it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.seo.robots import Robots, fits, read_robots

SITE = "http://example.org"


def allows(text: str, path: str) -> bool:
    return read_robots(text, "donewhen-seo").allows(SITE + path)


def test_the_longest_rule_decides_and_allow_wins_a_tie() -> None:
    text = "User-agent: *\nDisallow: /shop\nAllow: /shop/open\nDisallow: /same\nAllow: /same\n"
    assert not allows(text, "/shop/closed")
    assert allows(text, "/shop/open/now")
    assert allows(text, "/same")


def test_a_group_that_names_us_is_the_one_that_counts() -> None:
    text = "User-agent: *\nDisallow: /\n\nUser-agent: other\nUser-agent: Donewhen-SEO\nDisallow: /secret\n"
    assert allows(text, "/page")
    assert not allows(text, "/secret")


@pytest.mark.parametrize(
    ("pattern", "path", "fit"),
    [
        ("/*.pdf$", "/a/b.pdf", True),
        ("/*.pdf$", "/a.pdf?x", False),
        ("/*/private", "/x/private/y", True),
        ("/a$", "/a", True),
        ("/a$", "/ab", False),
        ("/a*b*c", "/a1c2b3", False),
    ],
)
def test_wildcards_mean_what_the_rfc_says(pattern: str, path: str, fit: bool) -> None:
    assert fits(pattern, path) is fit


def test_two_spellings_of_a_path_are_the_same() -> None:
    assert not allows("User-agent: *\nDisallow: /caf%C3%A9\n", "/caf\u00e9")
    assert not allows("User-agent: *\nDisallow: /caf\u00e9\n", "/caf%c3%a9")
    assert allows("User-agent: *\nDisallow: /a/b\n", "/a%2Fb")


def test_an_empty_disallow_forbids_nothing() -> None:
    assert allows("User-agent: *\nDisallow:\n", "/anything")


def test_robots_itself_may_always_be_read() -> None:
    assert allows("User-agent: *\nDisallow: /\n", "/robots.txt")


def test_a_hostile_pattern_takes_no_time() -> None:
    text = "User-agent: *\nDisallow: /" + "*a" * 900 + "b$\n"
    assert allows(text, "/" + "a" * 7_000)


@given(st.text(alphabet="ab*$/", max_size=8), st.text(alphabet="ab/", max_size=10))
def test_matching_agrees_with_a_regular_expression(pattern: str, path: str) -> None:
    anchored = pattern.endswith("$")
    body = pattern[:-1] if anchored else pattern
    expression = ".*".join(re.escape(piece) for piece in body.split("*")) + (r"\Z" if anchored else "")
    assert fits(pattern, path) == (re.match(expression, path) is not None)


@given(st.text(max_size=300), st.text(max_size=30))
def test_any_text_can_be_read(text: str, path: str) -> None:
    assert isinstance(read_robots(text, "x"), Robots)
    assert read_robots(f"User-agent: *\nDisallow: {text}", "x").allows(SITE + "/robots.txt")
    assert read_robots(text, "x").allows(f"{SITE}/{path.replace('[', '').replace(']', '')}") in (True, False)
