"""What a breach must say: whose ceiling it is, how far it was used, and that what was asked for would have crossed it.

Which sessions had most reserved under a shared ceiling is not worked out again.

Source: docs/ledger_format.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from donewhen.balance import CEILING_NAMES, DIMENSIONS
from donewhen.circuit_breaker import REASONS
from donewhen.kinds import BUDGET_PREFIX
from donewhen.verify.chain import Chain, data_of, wrong
from donewhen.verify.row import Row

_NUMBERS = ("spent", "reserved", "asked")


def refuse_untrue_breach(row: Row, chain: Chain) -> None:
    """Hold a ``circuit_breaker`` row against the balances of its session, as they are at its time.

    Raises:
        LedgerTamperedError: it tells of another ceiling, of other amounts, or of what would have crossed none.
    """
    data, dimension = data_of(row), data_of(row).get("dimension")
    balance = _balance_of(row, chain, data)
    if dimension not in REASONS:
        raise wrong(row, f"it tells of a ceiling of {dimension!r}, which is none")
    place = CEILING_NAMES.index(dimension)
    numbers = [data.get(name) for name in _NUMBERS]
    spent, reserved, asked = (number if type(number) is int and number >= 0 else -1 for number in numbers)
    ceiling, stated = balance["ceiling"][place], data.get("ceiling")
    if ceiling is None or stated != ceiling or type(stated) is not int:
        raise wrong(row, f"it tells of a ceiling of {stated!r} {dimension}, where it was {ceiling!r}")
    # Time and repeats are the session's own, and no balance counts them.
    if place < len(DIMENSIONS) and [spent, reserved] != [balance["spent"][place], balance["reserved"][place]]:
        known = f"{balance['spent'][place]} and {balance['reserved'][place]}"
        raise wrong(row, f"it tells of {numbers[0]!r} spent and {numbers[1]!r} reserved, where it was {known}")
    crossed = ceiling - 1 if dimension == "repeats" else ceiling
    if min(spent, reserved, asked) < 0 or spent + reserved + asked <= crossed:
        raise wrong(row, f"it refuses what would have crossed no ceiling: {numbers!r} of {ceiling} {dimension}")


def _balance_of(row: Row, chain: Chain, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the balance whose ceiling a row tells of."""
    budget, parent = data.get("budget"), data.get("parent")
    name, prefix = row["session"], ""
    if budget is not None:
        name, prefix = f"{BUDGET_PREFIX}{budget}", f"budget:{budget}:"
    elif parent is not None:
        name, prefix = parent, f"parent:{parent}:"
    reason = f"{prefix}{REASONS.get(str(data.get('dimension')))}"
    if row.get("breach") != reason or (budget is not None and parent is not None):
        raise wrong(row, f"its reason is {row.get('breach')!r}, where what it says makes {reason!r}")
    for balance in chain.after[:-1] if prefix else chain.after[-1:]:
        if balance["budget"] == name:
            return balance
    raise wrong(row, f"it tells of a ceiling of {name!r}, under which its session does not stand")
