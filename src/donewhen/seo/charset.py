"""Read the bytes of an HTML page as text, and say what was wrong with them."""

from __future__ import annotations

import codecs
import re

BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
META_SCAN_BYTES = 1024
"""How far into a page a <meta charset> may stand. Source: HTML Living Standard, 4.2.5.4."""
META_CHARSET = re.compile(
    rb"""<meta[^>]{0,200}?charset\s{0,8}=\s{0,8}["']?\s{0,8}([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE
)
HEADER_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
AS_WINDOWS_1252 = frozenset({"ascii", "iso8859-1"})
"""What browsers read as windows-1252. Source: Encoding Standard, 4.2."""
KNOWN = frozenset(
    {"utf-8", "utf-16", "utf-16-le", "utf-16-be", "ascii", "koi8-r", "koi8-u", "mac-roman", "cp866", "cp874"}
    | {f"iso8859-{part}" for part in range(1, 17)}
    | {f"cp125{page}" for page in range(9)}
    | {"gbk", "gb2312", "gb18030", "big5", "big5hkscs", "euc_jp", "iso2022_jp", "shift_jis", "cp932", "euc_kr", "cp949"}
)
"""Python's names of the character sets of the web. Its other codecs are not for pages of strangers."""


def decode_html(body: bytes, content_type_parameters: str = "") -> tuple[str, str, tuple[str, ...]]:
    """Decode a page, never failing.

    A byte order mark wins over the header, the header over a <meta> element, as in browsers.

    Args:
        body: the page.
        content_type_parameters: what follows the media type in its Content-Type header.

    Returns:
        The text, the character set it was read with, and what was wrong, one sentence each.
    """
    for mark, name in BOMS:
        if body.startswith(mark):
            return _decoded(body[len(mark) :], name, ())
    header = HEADER_CHARSET.search(content_type_parameters)
    meta = META_CHARSET.search(body[:META_SCAN_BYTES])
    declared = header.group(1) if header else meta.group(1).decode("ascii") if meta else None
    if declared is None:
        return _guessed(body, "The page declares no character set")
    name = _codec(declared)
    if name is None:
        return _guessed(body, f"The page declares the unknown character set {declared!r}")
    # A page whose ASCII <meta> can be read is not UTF-16, whatever it says. Source: HTML Living Standard, 13.2.3.2.
    if name.startswith("utf-16") and header is None:
        name = "utf-8"
    return _decoded(body, name, () if name == "utf-8" else (f"The page is {declared}, not UTF-8.",))


def _guessed(body: bytes, problem: str) -> tuple[str, str, tuple[str, ...]]:
    try:
        return body.decode("utf-8"), "utf-8", (f"{problem}; it reads as UTF-8.",)
    except UnicodeDecodeError:
        return _decoded(body, "cp1252", (f"{problem} and is not UTF-8; it was read as windows-1252.",))


def _decoded(body: bytes, name: str, problems: tuple[str, ...]) -> tuple[str, str, tuple[str, ...]]:
    shown = "windows-1252" if name == "cp1252" else name
    try:
        return body.decode(name), shown, problems
    except UnicodeDecodeError:
        problem = f"Some bytes are not {shown}; they were replaced."
        return body.decode(name, "replace"), shown, (*problems, problem)


def _codec(declared: str) -> str | None:
    try:
        name = codecs.lookup(declared).name
    except LookupError:
        return None
    if name not in KNOWN:
        return None
    return "cp1252" if name in AS_WINDOWS_1252 else name
