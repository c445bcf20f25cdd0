"""The only arithmetic that moves a balance: from the balances before a row, and the row, to those that it leaves.

The ledger makes `after` with it. The auditor has arithmetic of its own, and tests hold one against the other.

Source: docs/ledger_format.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from donewhen.balance import Amounts, Balance, Calendar, Rolling
from donewhen.balance_json import amounts_from_json, ceilings_from_json
from donewhen.entry import Entry, LedgerRow
from donewhen.errors import LedgerFormatError
from donewhen.kinds import BUDGET_PREFIX, EVERYTHING
from donewhen.periods import advanced, calendar, charged


def fold(before: Sequence[Balance], entry: Entry | LedgerRow, held: Amounts | None, at: str) -> tuple[Balance, ...]:
    """Return the balances as an entry leaves them.

    Args:
        before: the balances on the session's path, outermost first, as the newest row that touched each left it; its own
            is the last. Without its own before the session was opened, and empty where it stands under no other.
        entry: the entry or row.
        held: what the reservation that it closes had reserved; None where it closes none.
        at: the time of its row, ISO 8601, UTC.

    Raises:
        LedgerFormatError: the entry's amounts cannot be read.
        LedgerError: this machine does not know a budget's time zone.
    """
    path = tuple([advanced(balance, at) for balance in before])
    try:
        if entry.kind == "reserve":
            if not path:
                raise LedgerFormatError("nothing can be reserved in a session that was never opened")
            asked = amounts_from_json(entry.data["reserve"])
            return tuple([_reserving(balance, balance.reserved + asked) for balance in path])
        if held is None:
            return _FOLDS[entry.kind](path, entry, at) if entry.kind in _FOLDS else path
        path = tuple([_reserving(balance, balance.reserved - held) for balance in path])
        if entry.kind not in ("llm", "reconcile"):
            return path
        data = entry.data
        used = amounts_from_json([held.turns, entry.token_delta, data["cost_microusd"], _tools_to_run(data)])
        return tuple([charged(balance, used, at) for balance in path])
    except (KeyError, TypeError, IndexError) as error:
        raise LedgerFormatError(f"the amounts of a {entry.kind} row cannot be read: {error!r}") from error


def reserved_by(row: LedgerRow) -> Amounts:
    """Return what a ``reserve`` row holds."""
    return amounts_from_json(row.data["reserve"])


def _open(path: tuple[Balance, ...], entry: Entry | LedgerRow, _at: str) -> tuple[Balance, ...]:
    if path and path[-1].name == entry.session_id:
        return path
    return (*path, Balance(entry.session_id, ceilings=ceilings_from_json(entry.data["ceilings"])))


def _budget(path: tuple[Balance, ...], entry: Entry | LedgerRow, at: str) -> tuple[Balance, ...]:
    ceilings = ceilings_from_json(entry.data["ceilings"])
    if path:
        return (*path[:-1], replace(path[-1], ceilings=ceilings))
    if not entry.session_id.startswith(BUDGET_PREFIX):
        raise LedgerFormatError("the ceilings of a session that was never opened cannot be changed")
    period = _begin(entry.data["period"], at) if "period" in entry.data else None
    return (Balance(entry.session_id, ceilings=ceilings, period=period),)


def _halt(path: tuple[Balance, ...], entry: Entry | LedgerRow, _at: str) -> tuple[Balance, ...]:
    if not path and entry.session_id != EVERYTHING:
        raise LedgerFormatError("a session that was never opened cannot be halted")
    own = path[-1] if path else Balance(entry.session_id)
    return (*path[:-1], replace(own, halted=entry.data["halted"]))


_FOLDS = {"open": _open, "budget": _budget, "halt": _halt}


def _begin(period: Mapping[str, Any], at: str) -> Calendar | Rolling:
    return Rolling(period["hours"]) if "hours" in period else calendar(period["per"], period["zone"], at)


def _reserving(balance: Balance, reserved: Amounts) -> Balance:
    return Balance(balance.name, balance.spent, reserved, balance.ceilings, balance.period, balance.halted)


def _tools_to_run(data: Mapping[str, Any]) -> int:
    return sum([1 for tool in data["tools"] if tool["run"]]) if "tools" in data else 0
