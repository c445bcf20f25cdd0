"""What a ledger writes about budgets: that there is one, and what its ceilings are.

Each is one row in a session of the budget's own, signed like every other. The budget's balance is what the newest row
that touched it leaves, which mostly is one of a session under it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from donewhen import arguments
from donewhen.balance import Balance, Ceilings, Holder
from donewhen.entry import Entry, LedgerRow
from donewhen.errors import BudgetNotFoundError, LedgerError
from donewhen.kinds import BUDGET_PREFIX
from donewhen.ledger_balances import budget_path, find_holders, leaves
from donewhen.periods import UTC, advanced

if TYPE_CHECKING:
    from donewhen.stores import Store, Transaction


class BudgetLedger:
    """The part of `donewhen.ledger.Ledger` that writes about budgets."""

    _store: Store
    _now: Callable[[], datetime]

    def new_budget(
        self,
        name: str,
        *,
        turns: int | None = None,
        tokens: int | None = None,
        cost_microusd: int | None = None,
        per: str | None = None,
        zone: str = UTC,
        why: str = "",
        who: str,
    ) -> LedgerRow:
        """Begin a budget, which many sessions, processes and machines can share.

        Args:
            name: one word, or several with ``/`` between: ``acme/support`` stands under ``acme``, which must be there.
            turns: the most turns of all sessions under it. None: no ceiling.
            tokens: the most tokens. None: no ceiling.
            cost_microusd: the most that they may cost, in millionths of a US dollar. None: no ceiling.
            per: ``hours:24`` (any whole number of hours: the last so many), ``day`` or ``month``: what is spent counts
                within one of them. None: for ever.
            zone: whose days and months: a name of the IANA time zone database.
            why: the reason, where there is one to tell.
            who: the person, in their own words.

        Raises:
            ValueError: an argument is of the wrong type or out of range; names it and its value.
            BudgetNotFoundError: the budget that it would stand under is not there.
            LedgerError: there is one of that name, or the time zone is not known.
            LedgerUnavailableError: the store could not be written; says what is and is not stored.
        """
        arguments.budget_name(name)
        wanted = {"turns": turns, "tokens": tokens, "cost_microusd": cost_microusd}
        checked = {key: None if most is None else arguments.whole(key, most) for key, most in wanted.items()}
        data: dict[str, Any] = {"ceilings": Ceilings(**checked).as_list(), "who": arguments.said("who", who)}
        if why:
            data["why"] = arguments.said("why", why)
        if per is not None:
            data["period"] = arguments.period(per, zone)
        with self._store.writing() as tx:
            *above, own = budget_path(name)
            for other in above:
                _refuse_unknown(tx, other)
            if tx.head(own) is not None:
                raise LedgerError(f"there is a budget {name} already. Raise or lower it with 'donewhen budget raise'")
            return _append(tx, own, "budget", data)

    def change_budget(self, name: str, changes: Mapping[str, int | None], *, why: str, who: str) -> LedgerRow:
        """Raise or lower a budget's ceilings, also below what is spent: then nothing is admitted until there is room.

        Args:
            changes: by name, of ``turns``, ``tokens`` and ``cost_microusd``; None takes a ceiling away.

        Raises:
            ValueError: a name is not a ceiling of a budget, a value is negative, or nobody says who or why.
            BudgetNotFoundError: there is no such budget.
            LedgerUnavailableError: the store could not be written; says what is and is not stored.
        """
        checked = arguments.budget_changes(changes)
        words = {"why": arguments.said("why", why), "who": arguments.said("who", who)}
        with self._store.writing() as tx:
            (*_, own) = budget_path(name)
            ceilings = replace(_refuse_unknown(tx, own).ceilings, **checked)
            return _append(tx, own, "budget", {"ceilings": ceilings.as_list(), **words})

    def find_budget(self, name: str) -> Balance | None:
        """Return a budget's balance as it is now, None if there is no such budget."""
        found = self._store.find_balance(BUDGET_PREFIX + name)
        return None if found is None else advanced(found, self._now().isoformat())

    def find_holders(self, balance: Balance, dimension: str = "tokens") -> tuple[Holder, ...]:
        """Return the sessions that have most reserved under a budget, largest first.

        Args:
            balance: the budget's.
            dimension: one of `DIMENSIONS`.
        """
        return find_holders(self._store, balance, None, dimension)

    def budgets(self) -> list[Balance]:
        """Return the balance of every budget as it is now, in the order of their names."""
        sessions = [session_id for session_id, _, _ in self._store.read_sessions()]
        names = sorted(one[len(BUDGET_PREFIX) :] for one in sessions if one.startswith(BUDGET_PREFIX))
        return [balance for name in names if (balance := self.find_budget(name)) is not None]


def _append(tx: Transaction, session_id: str, kind: str, data: Mapping[str, Any]) -> LedgerRow:
    entry = Entry(kind=kind, session_id=session_id, state_origin=kind, data=data)
    return tx.append(entry, leaves(tx, entry))


def _refuse_unknown(tx: Transaction, name: str) -> Balance:
    balance = tx.balance(name)
    if balance is None:
        raise BudgetNotFoundError(name[len(BUDGET_PREFIX) :])
    return balance
