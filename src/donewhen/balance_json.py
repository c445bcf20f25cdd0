"""How balances are spelled in a row, and read again.

Source: docs/ledger_format.md.
"""

from __future__ import annotations

from typing import Any, cast

from donewhen import canonical
from donewhen.balance import CEILING_NAMES, DIMENSIONS, Amounts, Balance, Calendar, Ceilings, Rolling
from donewhen.errors import LedgerFormatError

_AMOUNT_TYPES = frozenset({(int, int, int, int), (int, int, type(None), int)})
_MOST = canonical.MAX_INT
_FIELDS = frozenset({"budget", "ceiling", "reserved", "spent"})
_ALL_FIELDS = _FIELDS | {"halted", "period"}


def balance_as_json(balance: Balance) -> dict[str, Any]:
    """Return a balance as plain data."""
    most, held, spent = balance.ceilings, balance.reserved, balance.spent
    plain: dict[str, Any] = {
        "budget": balance.name,
        "ceiling": [most.turns, most.tokens, most.cost_microusd, most.tool_calls, most.milliseconds, most.repeats],
        "reserved": [held.turns, held.tokens, held.cost_microusd, held.tool_calls],
        "spent": [spent.turns, spent.tokens, spent.cost_microusd, spent.tool_calls],
    }
    if balance.halted:
        plain["halted"] = True
    if balance.period is not None:
        plain["period"] = _period_as_json(balance.period)
    return plain


def balance_from_json(raw: Any) -> Balance:
    """Return the balance that plain data spells.

    Raises:
        LedgerFormatError: it spells none.
    """
    try:
        plain = len(raw) == len(_FIELDS)
        if not isinstance(raw["budget"], str) or not (plain or _ALL_FIELDS.issuperset(raw)):
            raise LedgerFormatError(f"a balance of the row is not one: {raw!r}")
        spent, reserved = amounts_from_json(raw["spent"]), amounts_from_json(raw["reserved"])
        ceilings = ceilings_from_json(raw["ceiling"])
        if plain:
            return Balance(raw["budget"], spent, reserved, ceilings)
        if raw.get("halted", True) is not True:
            raise LedgerFormatError(f"a balance of the row is not one: {raw!r}")
        period = period_from_json(raw["period"]) if "period" in raw else None
        return Balance(raw["budget"], spent, reserved, ceilings, period, "halted" in raw)
    except (KeyError, TypeError, AttributeError) as error:
        raise LedgerFormatError(f"a balance of the row is not one: {raw!r}") from error


def _period_as_json(period: Calendar | Rolling) -> dict[str, Any]:
    if isinstance(period, Calendar):
        return {"per": period.per, "until": period.until, "zone": period.zone}
    return {"hours": period.hours, "slices": [[number, *spent.as_list()] for number, spent in period.slices]}


def period_from_json(raw: Any) -> Calendar | Rolling:
    """Return the period that plain data spells.

    Raises:
        LedgerFormatError: it spells none.
    """
    if set(raw) == {"per", "until", "zone"}:
        if raw["per"] in ("day", "month") and isinstance(raw["until"], str) and isinstance(raw["zone"], str):
            return Calendar(raw["per"], raw["zone"], raw["until"])
    elif set(raw) == {"hours", "slices"} and type(raw["hours"]) is int and raw["hours"] > 0:
        slices = tuple([(one[0], amounts_from_json(one[1:])) for one in raw["slices"]])
        if all(type(number) is int for number, _ in slices):
            return Rolling(raw["hours"], slices)
    raise LedgerFormatError(f"the period of a balance is none: {raw!r}")


def amounts_from_json(raw: list[int | None]) -> Amounts:
    """Return the amounts that a list spells.

    Raises:
        LedgerFormatError: it spells none.
    """
    if tuple(map(type, raw)) in _AMOUNT_TYPES:
        turns, tokens, cost, tool_calls = cast("list[int]", raw)
        if min(turns, tokens, cost or 0, tool_calls) >= 0 and max(turns, tokens, cost or 0, tool_calls) <= _MOST:
            return Amounts(turns, tokens, cost, tool_calls)
    _check_numbers(raw, len(DIMENSIONS))
    raise LedgerFormatError(f"only a cost can be unknown, found {raw!r}")


def ceilings_from_json(raw: list[int | None]) -> Ceilings:
    """Return the ceilings that a list spells.

    Raises:
        LedgerFormatError: it spells none.
    """
    _check_numbers(raw, len(CEILING_NAMES))
    return Ceilings(*raw)


def _check_numbers(raw: list[int | None], length: int) -> None:
    wrong = len(raw) != length
    for number in raw:
        if number is not None and (type(number) is not int or not 0 <= number <= canonical.MAX_INT):
            wrong = True
    if wrong:
        raise LedgerFormatError(f"expected {length} whole numbers from 0 on, found {raw!r}")
