"""The texts that `bounds.py` measures: kinds that agents meet, and kinds that nobody should."""

from __future__ import annotations

import base64
import json
import random
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

_HOUSE = Path(__file__).resolve().parent.parent
_DRAWN = random.Random(20261127)

_ENGLISH = (_HOUSE / "docs" / "security.md").read_text("utf-8")[:6_000]
_CODE = (_HOUSE / "src" / "donewhen" / "bounds.py").read_text("utf-8")[:6_000]
_CHINESE = "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。"
_ARABIC = (
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق، وقد وهبوا عقلًا وضميرًا، وعليهم أن يعامل بعضهم بعضًا بروح الإخاء."
)
_HINDI = "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।"
_KOREAN = "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다."
_EMOJI = "👩🏽‍💻🎉🇫🇷🧑‍🧑‍🧒‍🧒❤️‍🔥🏴󠁧󠁢󠁳󠁣󠁴󠁿👍🏿🤷🏻‍♀️🦭🪸"
_SHORTER_IN_NFKC = "\U0001d400" * 8
_LONGER_IN_NFC = "\U0001d160" * 3


def _json() -> str:
    rows = [{"id": n, "at": f"2026-11-{n % 28 + 1:02}", "ok": n % 3 == 0, "rate": n / 7} for n in range(60)]
    return json.dumps({"rows": rows, "next": None}, separators=(",", ":"))


KINDS: dict[str, str] = {
    "English prose": _ENGLISH,
    "Python": _CODE,
    "JSON, compact": _json(),
    "JSON, small numbers": json.dumps([_DRAWN.randrange(10) for _ in range(1_000)], separators=(",", ":")),
    "Chinese": _CHINESE * 20,
    "Arabic": _ARABIC * 20,
    "Hindi": _HINDI * 20,
    "Korean": _KOREAN * 20,
    "emoji": _EMOJI * 20,
    "hex": _DRAWN.randbytes(1_500).hex(),
    "base64": base64.b64encode(_DRAWN.randbytes(2_000)).decode("ascii"),
    "white space": "\n\n    \t  \r\n" * 200 + " " * 500,
    "control characters": "".join(map(chr, range(1, 32))) * 40,
    "U+FDFA": "\ufdfa" * 200,
    "mixed": (_ENGLISH[:60] + _CHINESE + _EMOJI + _ARABIC + '{"a":[1,2]}\n') * 10,
    "longer in NFKC": "".join(map(chr, range(0xFDF0, 0xFDFC))) * 20 + "㍿㌖" * 50,
    "longer in NFC, shorter in NFKC": (_SHORTER_IN_NFKC + _LONGER_IN_NFC) * 20,
    "random characters": "".join(chr(_DRAWN.randrange(0x20000)) for _ in range(1_000))
    .encode("utf-8", "ignore")
    .decode(),
}

_PIECES = [
    *KINDS.values(),
    "<|im_start|>",
    "[INST]",
    "</s>",
    "1e15,",
    "[0,0]",
    "\0",
    '"',
    "\\",
    "\u2581",
    "e\u0301",
    "\u1100\u1161",
]


def one_of_each_character() -> Iterator[str]:
    """Yield each assigned character, three times over."""
    for point in range(sys.maxunicode + 1):
        if unicodedata.category(chr(point)) not in ("Cn", "Cs", "Co"):
            yield chr(point) * 3


def odd_texts(count: int) -> Iterator[str]:
    """Yield texts put together at random, of pieces of all kinds."""
    for _ in range(count):
        yield "".join(_odd_piece() for _ in range(_DRAWN.randrange(1, 12)))


def _odd_piece() -> str:
    piece = _DRAWN.choice(_PIECES)
    start = _DRAWN.randrange(len(piece))
    return piece[start : start + _DRAWN.randrange(1, 12)] * _DRAWN.randrange(1, 5)
