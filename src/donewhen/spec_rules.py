"""What holds for every value in a spec, however the spec was made."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import cast

from donewhen import arguments
from donewhen.circuit_breaker import LARGEST_LIMIT
from donewhen.errors import SpecError
from donewhen.spec_writer import is_blank, text_fault

MOST_BYTES = 1_000_000
"""No person writes a longer spec; whatever is longer is another file."""

MILLION = 10**6

MOST_SHOWN = 80
"""Characters of a wrong value that an error shows."""


def whole(key: str, value: object, *, least: int = 0) -> int:
    """Return a whole number that a row can hold.

    Raises:
        SpecError: it is not one, or is less than the least allowed.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecError("must be a whole number", field=key, value=shown(value))
    if value < least:
        raise SpecError(f"must be {least} or more", field=key, value=shown(value))
    if value > LARGEST_LIMIT:
        raise SpecError(f"must be {LARGEST_LIMIT} or less", field=key, value=shown(value))
    return value


def filled_text(key: str, value: object) -> str:
    """Return a text that says something.

    Raises:
        SpecError: it is no text, is blank, or cannot be stored.
    """
    if not isinstance(value, str):
        raise SpecError("must be text", field=key, value=shown(value))
    problem = "must not be blank" if is_blank(value) else text_fault(value)
    if problem is not None:
        raise SpecError(problem, field=key, value=shown(value))
    return value


def budget_name(key: str, value: object) -> str:
    """Return the name of a budget.

    Raises:
        SpecError: it is none.
    """
    try:
        return arguments.budget_name(filled_text(key, value))
    except ValueError as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(str(error), field=key) from error


def shown(value: object) -> object:
    """Return a value for an error to show: cut where it is long, by its kind where it has many parts."""
    if value is None:
        return "nothing"
    if isinstance(value, int) and abs(value) >= 10**MOST_SHOWN:
        return f"a number of more than {MOST_SHOWN} digits"  # Python refuses to print one of more than 4,300
    if isinstance(value, str):
        return value if len(value) <= MOST_SHOWN else f"{value[:MOST_SHOWN]}…"
    return value if isinstance(value, (int, float)) else f"a {type(value).__name__}"


def one_of(key: str, value: object, allowed: Sequence[str]) -> None:
    """Refuse what is not one of a few values.

    Raises:
        SpecError: it is none of them.
    """
    if value not in allowed:
        raise SpecError(f"must be {' or '.join(map(repr, allowed))}", field=key, value=shown(value))


def flag(key: str, value: object) -> None:
    """Refuse what is neither true nor false.

    Raises:
        SpecError: it is neither.
    """
    if not isinstance(value, bool):
        raise SpecError("must be true or false", field=key, value=shown(value))


def names(key: str, value: object) -> tuple[str, ...]:
    """Return names: texts that say something, each once.

    Raises:
        SpecError: it is no list, or one of them is no such text.
    """
    found: list[str] = []
    for place, item in enumerate(items(key, value), start=1):
        name = filled_text(f"{key}[{place}]", item)
        if name != name.strip():
            raise SpecError("must not begin or end with white space", field=f"{key}[{place}]", value=name)
        if name in found:
            raise SpecError("is there twice", field=f"{key}[{place}]", value=name)
        found.append(name)
    return tuple(found)


def items(key: str, value: object) -> Sequence[object]:
    """Return a list's items.

    Raises:
        SpecError: it is no list.
    """
    if not isinstance(value, (list, tuple)):
        raise SpecError("must be a list", field=key, value=shown(value))
    return cast("Sequence[object]", value)


def millionths(key: str, value: object, typed: object, most: Decimal) -> int:
    """Return a number with up to six decimals as whole millionths, exactly.

    Args:
        typed: the number as tomlkit keeps it, with the digits that were typed.

    Raises:
        SpecError: it is no number, or one that has no exact place among them.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SpecError("must be a number", field=key, value=shown(value))
    text = cast("str", getattr(typed, "as_string", lambda: "")()) if isinstance(value, float) else ""
    try:
        number = Decimal(text or value)
    except ArithmeticError:  # an exponent beyond all bounds
        number = Decimal("inf")
    if not number.is_finite():
        raise SpecError("must be a finite number", field=key, value=shown(text))
    if number < 0:
        raise SpecError("must be 0 or more", field=key, value=shown(text or value))
    if number > most:
        raise SpecError(f"must be {most} or less", field=key, value=shown(text or value))
    # The exponent is looked at first: the exact fraction of 1e-999999999 does not fit into memory.
    exponent = cast("int", number.as_tuple().exponent)
    exact = Fraction(number) * MILLION if number and exponent > -MOST_BYTES else Fraction(0)
    if (number and not exact) or exact.denominator != 1:
        raise SpecError("must have no more than six decimals", field=key, value=shown(text))
    return int(exact)


def decimal(millionths: int, places: int) -> str:
    """Spell millionths as a decimal number, with at least so many places."""
    units, rest = divmod(millionths, MILLION)
    digits = f"{rest:06d}".rstrip("0").ljust(places, "0")
    return f"{units}.{digits}" if digits else str(units)
