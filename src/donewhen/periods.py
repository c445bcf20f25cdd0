"""When what a budget has spent no longer counts: the arithmetic of its period.

A row says everything: from the balance that the row before left, and the time of the next one, follows what is spent by
then. Nothing else has to be looked at, by whoever writes nor by whoever audits. A time is what the writer's clock said;
a clock that is set back never brings an older period back.

Source: docs/ledger_format.md.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone, tzinfo
from functools import lru_cache

from donewhen.balance import Amounts, Balance, Calendar, Rolling
from donewhen.errors import LedgerError

SLICES = 24
"""How many slices the window of a rolling period has. One slice more is counted: it is not yet all out of the window."""

MOST_HOURS = 366 * 24
"""The longest window of a rolling period: a year."""

UTC = "UTC"

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SLICE_MS_PER_HOUR = 3_600_000 // SLICES


def advanced(balance: Balance, at: str) -> Balance:
    """Return a balance as it is at a time: without what was spent in a period that is over.

    What is reserved stays, whenever it was: it is charged to the period in which it is settled.

    Args:
        at: ISO 8601, UTC.

    Raises:
        LedgerError: this machine does not know the budget's time zone.
    """
    period = balance.period
    if period is None:
        return balance
    if isinstance(period, Calendar):
        if at < period.until:
            return balance
        return _rolled(balance, Amounts(), calendar(period.per, period.zone, at))
    oldest = slice_of(period.hours, at) - SLICES
    kept = tuple([one for one in period.slices if one[0] >= oldest])
    if len(kept) == len(period.slices):
        return balance
    return _rolled(balance, sum([spent for _, spent in kept], Amounts()), Rolling(period.hours, kept))


def charged(balance: Balance, used: Amounts, at: str) -> Balance:
    """Return a balance, as it is at a time, with more spent.

    Args:
        at: ISO 8601, UTC.
    """
    period = balance.period
    if isinstance(period, Rolling):
        newest = period.slices[-1] if period.slices else (-1, Amounts())
        number = max(slice_of(period.hours, at), newest[0])
        if number == newest[0]:
            period = Rolling(period.hours, (*period.slices[:-1], (number, newest[1] + used)))
        else:
            period = Rolling(period.hours, (*period.slices, (number, used)))
    return _with_period(balance, balance.spent + used, period)


def calendar(per: str, zone: str, at: str) -> Calendar:
    """Return the day or month that a time is of.

    Args:
        per: ``day`` or ``month``.
        zone: a name of the IANA time zone database, or ``UTC``.
        at: ISO 8601, UTC.

    Raises:
        LedgerError: this machine does not know the time zone.
    """
    here = time_zone(zone)
    today = datetime.fromisoformat(at).astimezone(here).date()
    # Midnight by the zone's own rules: a day may have 23 hours, or 25.
    ends = datetime.combine(_next(per, today), time(), here).astimezone(timezone.utc)
    return Calendar(per, zone, ends.isoformat())


def slice_of(hours: int, at: str) -> int:
    """Return the number of the slice that a time is in, of a window of so many hours."""
    return (datetime.fromisoformat(at) - _EPOCH) // timedelta(milliseconds=hours * _SLICE_MS_PER_HOUR)


@lru_cache(maxsize=64)
def time_zone(name: str) -> tzinfo:
    """Return a time zone.

    Raises:
        LedgerError: this machine does not know it.
    """
    if name == UTC:
        return timezone.utc
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise LedgerError(
            f"the time zone {name!r} is not known here. Its name is one of the IANA time zone database; where the system "
            "has none, 'pip install tzdata' brings it."
        ) from error


def _next(per: str, today: date) -> date:
    if per == "day":
        return today + timedelta(days=1)
    return date(today.year + today.month // 12, today.month % 12 + 1, 1)


def _rolled(balance: Balance, spent: Amounts, period: Calendar | Rolling) -> Balance:
    # Where nothing is reserved nothing of it can be unknown either: a cost that was, was of the period before.
    is_idle = balance.reserved.turns == balance.reserved.tokens == 0
    reserved = Amounts() if is_idle else balance.reserved
    return Balance(balance.name, spent, reserved, balance.ceilings, period, balance.halted)


def _with_period(balance: Balance, spent: Amounts, period: Calendar | Rolling | None) -> Balance:
    return Balance(balance.name, spent, balance.reserved, balance.ceilings, period, balance.halted)
