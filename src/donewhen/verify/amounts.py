"""The auditor's arithmetic of balances, on plain lists as a row spells them.

It has nothing in common with `donewhen.fold` and `donewhen.periods`, which made the rows. Whether a day of a time zone
ends when a row says is not computed again but looked at: the moment before is of the period, and the moment is not.

Source: docs/ledger_format.md.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from donewhen.balance import DIMENSIONS
from donewhen.verify.chain import Amounts, wrong
from donewhen.verify.row import Row

COST = 2
"""The place of the cost among the amounts: the one that can be unknown."""

_SLICES = 24
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_INSTANT = timedelta(microseconds=1)
_LONGEST = {"day": timedelta(days=3), "month": timedelta(days=33)}
"""Longer than any day or month: how far a period may go by time zone data that this machine does not have."""

Stated = Callable[[str], "dict[str, Any] | None"]
"""Given a balance's name, what the row says that it leaves of it."""


def nothing() -> Amounts:
    """Return no amounts."""
    return [0] * len(DIMENSIONS)


def added(one: Amounts, two: Amounts) -> Amounts:
    """Return the sum of amounts."""
    first, second = one[COST], two[COST]
    cost = None if first is None or second is None else first + second
    return [one[0] + two[0], one[1] + two[1], cost, one[3] + two[3]]


def taken(one: Amounts, two: Amounts) -> Amounts:
    """Return the difference of amounts."""
    first, second = one[COST], two[COST]
    cost = None if first is None or second is None else first - second
    return [one[0] - two[0], one[1] - two[1], cost, one[3] - two[3]]


def charge(row: Row, balance: dict[str, Any], used: Amounts) -> None:
    """Add what a row uses to what a balance has spent, and to the slice of its period."""
    balance["spent"] = added(balance["spent"], used)
    period = balance.get("period")
    if period is None or "hours" not in period:
        return
    slices, number = list(period["slices"]), _slice(row, period["hours"])
    if slices and slices[-1][0] >= number:
        slices[-1] = [slices[-1][0], *added(slices[-1][1:], used)]
    else:
        slices.append([number, *used])
    balance["period"] = {"hours": period["hours"], "slices": slices}


def bring(row: Row, balance: dict[str, Any], stated: Stated) -> str | None:
    """Bring a balance to the time of a row: what was spent in a period that is over no longer counts.

    Returns:
        What is odd.

    Raises:
        LedgerTamperedError: the row begins a period that does not end when it says.
    """
    period = balance.get("period")
    if period is None:
        return None
    if "hours" in period:
        oldest = _slice(row, period["hours"]) - _SLICES
        kept = [one for one in period["slices"] if one[0] >= oldest]
        if len(kept) < len(period["slices"]):
            spent = nothing()
            for one in kept:
                spent = added(spent, one[1:])
            _roll(balance, spent, {"hours": period["hours"], "slices": kept})
        return None
    if row["at"] < period["until"]:
        return None
    found = stated(balance["budget"]) or {}
    until, odd = _end_of(row, period["per"], period["zone"], found.get("period"))
    _roll(balance, nothing(), {**period, "until": until})
    return odd


def begin(row: Row, asked: Any, stated: dict[str, Any] | None) -> tuple[dict[str, Any], str | None]:
    """Return the period that a budget's first row gives it, and what is odd.

    Raises:
        LedgerTamperedError: it gives none that a budget can have.
    """
    given = cast("dict[str, Any]", asked) if type(asked) is dict else {}
    if set(given) == {"hours"} and type(given["hours"]) is int and given["hours"] > 0:
        return {"hours": given["hours"], "slices": []}, None
    if set(given) == {"per", "zone"} and given["per"] in _LONGEST and type(given["zone"]) is str:
        until, odd = _end_of(row, given["per"], given["zone"], (stated or {}).get("period"))
        return {**given, "until": until}, odd
    raise wrong(row, f"the period of its budget is {asked!r}")


def _roll(balance: dict[str, Any], spent: Amounts, period: dict[str, Any]) -> None:
    if not balance["reserved"][0] and not balance["reserved"][1]:
        balance["reserved"] = nothing()
    balance["spent"], balance["period"] = spent, period


def _slice(row: Row, hours: int) -> int:
    return (_moment(row, row["at"]) - _EPOCH) // (timedelta(hours=hours) / _SLICES)


def _moment(row: Row, text: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise wrong(row, f"the period of a budget cannot be told at {text!r}") from error
    if moment.utcoffset() != timedelta(0):
        raise wrong(row, f"the period of a budget is told at {text!r}, which is not UTC")
    return moment


def _end_of(row: Row, per: str, zone: str, stated: Any) -> tuple[str, str | None]:
    """Return when a period ends, as a row says it, if it does; and what is odd."""
    text: Any = cast("dict[str, Any]", stated).get("until") if type(stated) is dict else None
    now, until = _moment(row, row["at"]), _moment(row, text)
    if until.astimezone(timezone.utc).isoformat() != text or not now < until <= now + _LONGEST[per]:
        raise wrong(row, f"it begins a {per} of a budget that does not end at {text!r}")
    from zoneinfo import ZoneInfo

    try:
        here = timezone.utc if zone == "UTC" else ZoneInfo(zone)
    except (LookupError, ValueError, OSError):
        return text, f"ends a {per} in the time zone {zone!r}, which this machine does not know, at {text}"
    length = 10 if per == "day" else 7  # of the date as text: 2026-01-31, 2026-01
    is_in, is_last, is_after = (
        moment.astimezone(here).date().isoformat()[:length] for moment in (now, until - _INSTANT, until)
    )
    if is_in == is_last != is_after:
        return text, None
    return text, f"ends a {per} in the time zone {zone!r} at {text}, where the data of this machine say otherwise"
