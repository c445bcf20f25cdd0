"""What a ledger accepts from its callers, told by name and value when it does not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Protocol

from donewhen.balance import CEILING_NAMES
from donewhen.canonical import MAX_INT
from donewhen.entry import RESERVED_PREFIX
from donewhen.errors import LedgerError
from donewhen.periods import MOST_HOURS, UTC, time_zone

BUDGET_CEILINGS = ("turns", "tokens", "cost_microusd")
"""The ceilings that a budget can have."""

MOST_LEVELS = 8
"""How deep a budget may stand: each row under it carries the balances of all levels."""

MOST_NAME = 200
"""Characters of a budget's name."""

_WORD = re.compile(r"[\w.-]+")


class Answers(Protocol):
    """The three answers of a spec and the session they are for; `SpecResult` is one."""

    @property
    def what_it_does(self) -> str:
        """Return the first answer."""
        ...

    @property
    def what_it_does_not(self) -> str:
        """Return the second answer."""
        ...

    @property
    def done_looks_like(self) -> str:
        """Return the third answer."""
        ...

    @property
    def session_id(self) -> str:
        """Return the session."""
        ...


def text(name: str, value: object) -> str:
    """Return a text that every database can hold and show.

    Raises:
        ValueError: it is not text, or has a NUL or a lone surrogate in it.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}, not text")
    if "\0" in value:
        raise ValueError(f"{name} contains NUL, which a database cannot hold")
    if not is_storable(value):
        raise ValueError(f"{name} is {value!r}, with half a character in it, which a database cannot show")
    return str.__str__(value)  # a member of an enumeration is its text


def session(value: object) -> str:
    """Return the id of a session that somebody may have.

    Raises:
        ValueError: as for `text`, or it begins as only the ids of the log's own sessions do.
    """
    session_id = text("session_id", value)
    if session_id.startswith(RESERVED_PREFIX):
        raise ValueError(f"session_id is {session_id!r}; ids that begin with {RESERVED_PREFIX!r} are the log's own")
    return session_id


def is_storable(value: str) -> bool:
    """Tell whether a text can be spelled in UTF-8: whether it has no lone surrogate in it."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def said(name: str, value: object) -> str:
    """Return a text that says something.

    Raises:
        ValueError: as for `text`, or it is blank.
    """
    spoken = text(name, value)
    if not spoken.strip():
        raise ValueError(f"{name} is blank")
    return spoken


def whole(name: str, value: object) -> int:
    """Return a whole number from 0 on.

    Raises:
        ValueError: it is not one, or is larger than a row can hold.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is {value!r}, not a whole number")
    if not 0 <= value <= MAX_INT:
        raise ValueError(f"{name} is {_shown(value)}; it must be from 0 to {MAX_INT}")
    return int(value)


def milliseconds(name: str, value: object) -> int:
    """Return a duration in whole milliseconds; a fraction is dropped.

    Raises:
        ValueError: it is not a number from 0 on, or is larger than a row can hold.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}, not a duration")
        value = int(value) if value >= 0 else math.floor(value)
    return whole(name, value)


def flag(name: str, value: object) -> bool:
    """Return True or False, also for 1 and 0.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, int) or value not in (0, 1):
        raise ValueError(f"{name} is {value!r}, neither True nor False")
    return bool(value)


def ceiling_changes(changes: Mapping[str, int | None]) -> dict[str, int | None]:
    """Return changes of ceilings by name.

    Raises:
        ValueError: there are none, a name is not a ceiling, or a value is not a whole number from 0 on.
    """
    if not changes:
        raise ValueError("no ceiling was named")
    for name, value in changes.items():
        if name not in CEILING_NAMES:
            raise ValueError(f"{name} is not a ceiling; the ceilings are {', '.join(CEILING_NAMES)}")
        if value is None and name in ("turns", "tokens"):
            raise ValueError(f"{name} always has a ceiling")
        if name == "repeats" and value is not None and value < 2:
            raise ValueError(f"repeats is {value}, below 2: a call made once repeats nothing")
    return {name: None if value is None else whole(name, value) for name, value in changes.items()}


def budget_name(value: object) -> str:
    """Return the name of a budget: words with ``/`` between them, each a level.

    Raises:
        ValueError: it is none.
    """
    name = text("the budget's name", value)
    words = name.split("/")
    if len(name) > MOST_NAME or len(words) > MOST_LEVELS or not all(map(_WORD.fullmatch, words)):
        raise ValueError(
            f"{name!r} is no name of a budget: letters, digits, '.', '_' and '-', with '/' between at most {MOST_LEVELS} "
            "levels, as in acme/support"
        )
    return name


def budget_changes(changes: Mapping[str, int | None]) -> dict[str, int | None]:
    """Return changes of a budget's ceilings by name.

    Raises:
        ValueError: there are none, a name is not a ceiling of a budget, or a value is not a whole number from 0 on.
    """
    if not changes:
        raise ValueError("no ceiling was named")
    for name in changes:
        if name not in BUDGET_CEILINGS:
            raise ValueError(f"{name} is not a ceiling of a budget; those are {', '.join(BUDGET_CEILINGS)}")
    return {name: None if value is None else whole(name, value) for name, value in changes.items()}


def period(per: str, zone: str) -> dict[str, object]:
    """Return a budget's period as its first row states it.

    Args:
        per: ``day``, ``month``, or ``hours:`` and a whole number of them.
        zone: a name of the IANA time zone database.

    Raises:
        ValueError: it is no period, or the time zone is not known here.
    """
    if per in ("day", "month"):
        try:
            time_zone(text("zone", zone))
        except LedgerError as error:
            raise ValueError(str(error)) from error
        return {"per": per, "zone": zone}
    kind, _, typed = text("per", per).partition(":")
    hours = int(typed) if kind == "hours" and typed.isascii() and typed.isdigit() and len(typed) < 9 else 0
    if not 1 <= hours <= MOST_HOURS:
        raise ValueError(f"per is {per!r}, not day, month, or hours:N with N from 1 to {MOST_HOURS}")
    if zone != UTC:
        raise ValueError(f"zone is {zone!r}, and hours are the same in every time zone; leave it out")
    return {"hours": hours}


def _shown(value: int) -> str:
    return str(value) if value.bit_length() < 200 else f"{value.bit_length()} bits long"
