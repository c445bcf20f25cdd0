r"""One spelling of JSON, and digests that cannot be taken for one another.

What is stored is what is hashed, so every value must have exactly one spelling, and every other spelling must be
refused when it is read back. `dumps` writes the spelling of RFC 8785; `loads` reads that spelling and no other.
Integers only: a float has no place in a row (``floats=True`` is for digests of what others wrote, requests and tool
arguments). One extension: RFC 8785 refuses a lone surrogate, but a model may write one and the row must still be
written, so it is escaped, in lower case (``\ud800``).

`dumps` has two paths. Nearly every value is plain, and is spelled by orjson, which agrees with RFC 8785 there.
Whatever orjson would refuse, or spell otherwise, takes the slow path, which also knows where in the value a fault is.
`loads` reads with orjson what `dumps` spells the same way again, and judges everything else slowly. Tests hold both
paths against each other.

Source: RFC 8785 (JSON Canonicalization Scheme).
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MAX_INT = 2**53 - 1
"""The largest integer, either side of zero, that every JSON reader keeps exactly."""

_MIN_INT = -MAX_INT

MAX_DEPTH = 100
"""Lists and objects inside one another. Deeper values are refused, whatever the interpreter's own limit."""

STRICT = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_STRICT_INTEGER
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)
"""How orjson spells rows: keys in order, no integer beyond `MAX_INT`, nothing that is only like plain data."""

# The same as `type`, in a signature that says what is known of the answer.
_type_of: Callable[[object], type[object]] = type

_NOT_FOUND = object()

_ATOMS = frozenset({str, int, bool, type(None)})
_CONTAINERS = frozenset({dict, list, tuple})
_KEYS = frozenset({str})

# orjson sorts keys by code point. Up to U+FFFF that is the order of UTF-16 code units; four bytes of UTF-8 are beyond.
_BEYOND_U_FFFF = re.compile(b"[\xf0-\xf7]")

_ESCAPED = re.compile('[\\x00-\\x1f"\\\\\ud800-\udfff]')
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def dumps(value: object, *, floats: bool = False) -> bytes:
    """Spell a value in the one way it can be spelled.

    Types are taken strictly: exactly dict (with str keys), list, tuple (spelled as a list), str, int, bool and None.
    A subclass, an enumeration member say, is refused, since it can spell itself differently elsewhere.

    Args:
        value: plain data.
        floats: allow finite floats, in the number format of ECMAScript. `loads` does not read them back.

    Returns:
        The spelling in UTF-8.

    Raises:
        TypeError: something in the value is of another type, a float without ``floats`` included.
        ValueError: an integer beyond `MAX_INT`, a float that is not finite, more than `MAX_DEPTH` levels, or two
            keys that are one key in UTF-16.

    Source: RFC 8785.
    """
    if _type_of(value) in _CONTAINERS and _is_plain(value, MAX_DEPTH):
        try:
            spelled = orjson.dumps(value, None, STRICT)
        except TypeError:  # a lone surrogate, or an integer too large: the slow path knows which, and where
            spelled = None
        if spelled is not None and (spelled.isascii() or _BEYOND_U_FFFF.search(spelled) is None):
            return spelled
    speller = _Speller(floats=floats)
    speller.spell(value)
    return speller.text().encode("utf-8")


def loads(data: bytes | bytearray | str) -> Any:  # Any: callers judge the shape of what they read
    """Read a value from its one spelling, and refuse every other spelling.

    Raises:
        ValueError: the data is not JSON, not UTF-8, or not how `dumps` spells its value: white space, a float,
            unsorted or repeated keys, another escape. Says where the first difference is.

    Source: RFC 8785.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        given = data.encode("utf-8") if isinstance(data, str) else data
    except UnicodeError as error:
        raise ValueError(f"not UTF-8: {error}") from None
    value = _load_quickly(given)
    if value is not _NOT_FOUND:
        return value
    try:
        value = json.loads(text)
        spelled = dumps(value)
    except RecursionError:
        raise ValueError(f"more than {MAX_DEPTH} levels deep") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"not the canonical spelling of any value: {error}") from error
    # Repeated keys need no check of their own: the value kept one of them, so its spelling is shorter.
    if spelled != given:
        raise ValueError(_difference(bytes(given), spelled))
    return value


def _load_quickly(given: bytes | bytearray) -> object:
    try:
        value: object = orjson.loads(given)
        spelled = dumps(value)
    except (TypeError, ValueError):
        return _NOT_FOUND  # not ours, or with an escaped surrogate: the slow path knows
    return value if spelled == given else _NOT_FOUND


def digest(domain: str, data: bytes) -> bytes:
    """Hash data under a domain, so that no digest of one kind of thing can pass for another kind's.

    Args:
        domain: what the data is, such as ``row`` or ``text``: ASCII, not empty, no NUL.
        data: the bytes to hash.

    Returns:
        SHA-256 of ``donewhen/v1/``, the domain, a NUL and the data: 32 bytes.

    Raises:
        ValueError: the domain is empty, not ASCII, or holds a NUL.
    """
    return hashlib.sha256(_domain_prefix(domain) + data).digest()


def hash_hex(domain: str, data: bytes) -> str:
    """Return `digest` as lower-case hex text.

    Raises:
        ValueError: the domain is empty, not ASCII, or holds a NUL.
    """
    return hashlib.sha256(_domain_prefix(domain) + data).hexdigest()


@lru_cache(maxsize=64)
def _domain_prefix(domain: str) -> bytes:
    if not domain or not domain.isascii() or "\0" in domain:
        raise ValueError(f"a domain is ASCII text without NUL, not {domain!r}")
    return b"donewhen/v1/" + domain.encode("ascii") + b"\0"


def _is_plain(value: Any, levels: int) -> bool:  # Any: a cast would cost as much as the test it allows
    """Tell whether orjson can be trusted with the types and the depth of a list or object.

    By itself it would let floats, enumeration members and UUIDs through. This runs for every row, so it looks at whole
    containers at a time.
    """
    members: Iterable[Any] = value
    if _type_of(value) is dict:
        if not _KEYS.issuperset(map(_type_of, value)):
            return False
        members = value.values()
    if not levels:
        return False
    if _ATOMS.issuperset(map(_type_of, members)):
        return True
    for member in members:
        kind = _type_of(member)
        if kind not in _ATOMS and (kind not in _CONTAINERS or not _is_plain(member, levels - 1)):
            return False
    return True


class _Speller:
    """The slow path: spells anything that has a spelling, and knows where it is when something has none."""

    def __init__(self, *, floats: bool) -> None:
        self._floats = floats
        self._parts: list[str] = []
        self._trail: list[str | int] = []

    def text(self) -> str:
        return "".join(self._parts)

    def spell(self, value: object) -> None:
        if value is None or type(value) is bool:
            self._parts.append("null" if value is None else "true" if value else "false")
        elif type(value) is str:
            self._parts.append(_quote(value))
        elif type(value) is int:
            self._parts.append(self._integer(value))
        elif type(value) is float:
            self._parts.append(self._float(value))
        elif type(value) is dict:
            self._members("{", self._pairs(cast("dict[object, object]", value)), "}")
        elif type(value) is list or type(value) is tuple:
            self._members("[", [("", place, member) for place, member in enumerate(cast("list[object]", value))], "]")
        else:
            raise TypeError(f"{self._where()} is of type {type(value).__name__}, which has no canonical spelling")

    def _members(self, opening: str, members: Sequence[tuple[str, str | int, object]], closing: str) -> None:
        if len(self._trail) == MAX_DEPTH:
            raise ValueError(f"{self._where()} is more than {MAX_DEPTH} levels deep")
        self._parts.append(opening)
        for number, (prefix, step, member) in enumerate(members):
            self._trail.append(step)
            self._parts.append("," + prefix if number else prefix)
            self.spell(member)
            self._trail.pop()
        self._parts.append(closing)

    def _pairs(self, value: dict[object, object]) -> list[tuple[str, str | int, object]]:
        pairs: dict[bytes, tuple[str, str | int, object]] = {}
        for key, member in value.items():
            if type(key) is not str:
                raise TypeError(f"a key of {self._where()} is not a str: {_shown(key)}")
            # Two surrogates in a row are one character in UTF-16, and would be read back as that character.
            order = key.encode("utf-16-be", "surrogatepass")
            if order in pairs:
                raise ValueError(f"two keys of {self._where()} are the same in UTF-16: {_shown(key)}")
            pairs[order] = (_quote(key) + ":", key, member)
        return [pairs[order] for order in sorted(pairs)]

    def _integer(self, value: int) -> str:
        if not _MIN_INT <= value <= MAX_INT:
            raise ValueError(f"{self._where()} is an integer beyond ±(2**53 - 1): {_shown_int(value)}")
        return str(value)

    def _float(self, value: float) -> str:
        if not self._floats:
            raise TypeError(f"{self._where()} is a float, which has no place here: {value!r}")
        if value - value != 0:
            raise ValueError(f"{self._where()} is not a finite number: {value!r}")
        return _ecmascript(value)

    def _where(self) -> str:
        steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self._trail)
        path = f"${steps}"
        return ascii(path)[1:-1] if len(path) <= 120 else ascii(path[:100])[1:-1] + "..."


def _quote(text: str) -> str:
    if not text.isascii():
        # Joins the halves of a pair that somebody cut, as every reader would; a half alone stays as it is.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    return _SHORT_ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04x}"


def _ecmascript(value: float) -> str:
    """Write a finite float as ECMAScript does.

    Python's repr finds the same shortest digits; only the layout differs.

    Source: ECMA-262, Number::toString, radix 10; RFC 8785 section 3.2.2.3.
    """
    if value == 0:
        return "0"
    if value < 0:
        return "-" + _ecmascript(-value)
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    if whole == "0":
        point = -(len(fraction) - len(digits)) + int(exponent or 0)
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    shown = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{shown}e{point - 1:+d}"


def _difference(given: bytes, spelled: bytes) -> str:
    """Say where a spelling leaves the canonical one."""
    at = next((i for i, (one, two) in enumerate(zip(given, spelled, strict=False)) if one != two), None)
    if at is None:
        at = min(len(given), len(spelled))
    found, wanted = given[at : at + 20], spelled[at : at + 20]
    return f"not the canonical spelling: at byte {at} there is {found!r}, where {wanted!r} belongs"


def _shown(value: object) -> str:
    shown = ascii(value) if isinstance(value, (str, int, float)) else f"of type {type(value).__name__}"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _shown_int(value: int) -> str:
    return str(value) if value.bit_length() < 200 else f"{value.bit_length()} bits long"
