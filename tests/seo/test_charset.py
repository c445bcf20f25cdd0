"""Bytes into text, as browsers do it, and never failing."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.seo.charset import decode_html


def test_a_byte_order_mark_wins_over_the_header() -> None:
    assert decode_html(codecs.BOM_UTF8 + "ü".encode(), "charset=iso-8859-1") == ("ü", "utf-8", ())
    assert decode_html(codecs.BOM_UTF16_LE + "ü".encode("utf-16-le"))[0] == "ü"


def test_the_header_wins_over_the_page() -> None:
    body = '<meta charset="koi8-r">ü'.encode()
    assert decode_html(body, 'charset="UTF-8"')[1] == "utf-8"
    assert decode_html(body)[1] == "koi8-r"


@pytest.mark.parametrize(
    "head", [b"<meta charset=utf-16>", b'<META http-equiv=x content="text/html; charset = utf-16">']
)
def test_a_page_that_can_be_read_is_not_utf16(head: bytes) -> None:
    assert decode_html(head + "ü".encode())[0].endswith("ü")


@pytest.mark.parametrize("name", ["rot13", "base64", "idna", "unicode_escape", "utf-7", "zlib", "nonsense"])
def test_only_character_sets_of_the_web_are_read(name: str) -> None:
    text, charset, problems = decode_html(b"abc", f"charset={name}")
    assert (text, charset) == ("abc", "utf-8")
    assert "unknown character set" in problems[0]


def test_bytes_that_do_not_fit_are_replaced_and_reported() -> None:
    text, _, problems = decode_html(b"a\xffb", "charset=utf-8")
    assert text == "a\ufffdb"
    assert problems == ("Some bytes are not utf-8; they were replaced.",)


def test_without_a_declaration_it_is_utf8_or_windows_1252() -> None:
    assert decode_html("ü".encode())[1] == "utf-8"
    assert decode_html("ü€".encode("cp1252"))[:2] == ("ü€", "windows-1252")


@given(st.binary(max_size=200), st.text(max_size=40))
def test_any_bytes_can_be_decoded(body: bytes, parameters: str) -> None:
    text, charset, problems = decode_html(body, parameters)
    assert text.encode("utf-8")[:0] == b""
    assert charset
    assert all(problem.endswith(".") for problem in problems)
