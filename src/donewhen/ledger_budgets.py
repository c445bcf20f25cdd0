"""What a ledger writes about budgets: that there is one, what its ceilings are; and that somebody makes no further call.

Each is one row in a session of the budget's own (a halt of a session in that session, one of everything in one for that), signed like every other. The budget's balance is what the newest row
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
from donewhen.errors import BudgetNotFoundError, HaltedError, LedgerError, SessionNotFoundError
from donewhen.kinds import BUDGET_PREFIX, EVERYTHING
from donewhen.ledger_balances import budget_path, find_holders, leaves
from donewhen.periods import UTC, advanced

if TYPE_CHECKING:
    from donewhen.ledger import Ledger
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
            LedgerError: there is one of that name.
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
        elif zone != UTC:
            raise ValueError(f"zone is {zone!r}, and without a day or a month there is nothing that begins in it")
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

    def halt(
        self, session_id: str | None = None, *, budget: str | None = None, everything: bool = False, why: str, who: str
    ) -> LedgerRow:
        """Order that no further call is made, by any process: from this row on none is admitted.

        What is under way is asked to stop; see `donewhen.halt_watch`. Name one of the three.

        Args:
            session_id: a session, with its children.
            budget: a budget, with all that stand under it.
            everything: every session of this ledger.
            why: the reason.
            who: the person, in their own words.

        Raises:
            ValueError: none or several are named, or nobody says who or why.
            SessionNotFoundError: the session was never opened.
            BudgetNotFoundError: there is no such budget.
            LedgerUnavailableError: the store could not be written; says what is and is not stored.
        """
        return self._order(_halted_name(session_id, budget, everything=everything), True, why, who)

    def lift_halt(
        self, session_id: str | None = None, *, budget: str | None = None, everything: bool = False, why: str, who: str
    ) -> LedgerRow:
        """Lift a halt. Other halts above or below it stand.

        Args:
            session_id, budget, everything, why, who: as for `halt`.

        Raises:
            LedgerError: it is not halted.
            The errors of `halt`.
        """
        return self._order(_halted_name(session_id, budget, everything=everything), False, why, who)

    def find_halt(self, *names: str) -> LedgerRow | None:
        """Return the row that halts the first of several balances that is halted; None: none is.

        Args:
            names: of balances, as a row's `after` has them, or ``donewhen:all``.
        """
        for name in names:
            newest = self._store.find_newest(name)
            if newest is not None and newest.balance is not None and newest.balance.halted:
                return self._store.read_session(name, ("halt",))[-1]
        return None

    def _order(self, name: str, halted: bool, why: str, who: str) -> LedgerRow:
        data = {"halted": halted, "why": arguments.said("why", why), "who": arguments.said("who", who)}
        with self._store.writing() as tx:
            balance = tx.balance(name)
            if balance is None and name != EVERYTHING:
                if name.startswith(BUDGET_PREFIX):
                    raise BudgetNotFoundError(name[len(BUDGET_PREFIX) :])
                raise SessionNotFoundError(name, "the session was never opened, so it makes no calls")
            if not halted and (balance is None or not balance.halted):
                raise LedgerError(f"{whose(name)} is not halted")
            return _append(tx, name, "halt", data)

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
        return find_holders(self._store, balance, (), dimension)

    def budgets(self) -> list[Balance]:
        """Return the balance of every budget as it is now, in the order of their names."""
        sessions = [session_id for session_id, _, _ in self._store.read_sessions()]
        names = sorted(one[len(BUDGET_PREFIX) :] for one in sessions if one.startswith(BUDGET_PREFIX))
        return [balance for name in names if (balance := self.find_budget(name)) is not None]


def halted_error(ledger: BudgetLedger, session_id: str, name: str) -> HaltedError:
    """Return the error of a call of a session, where a balance that it stands under is halted.

    Args:
        name: the balance's.
    """
    return _error_of(session_id, name, ledger.find_halt(name))


def find_halted(ledger: Ledger, session_id: str) -> HaltedError | None:
    """Return the error that the next call of a session would meet, where it or what stands above it is halted."""
    newest = ledger.newest_row(session_id)
    path = () if newest is None else newest.after
    for name in (EVERYTHING, *[balance.name for balance in path]):
        row = ledger.find_halt(name)
        if row is not None:
            return _error_of(session_id, name, row)
    return None


def _error_of(session_id: str, name: str, row: LedgerRow | None) -> HaltedError:
    words: Mapping[str, Any] = {} if row is None else row.data
    return HaltedError(session_id, whose(name), words.get("who", "somebody"), words.get("why", "nobody says why"))


def whose(name: str) -> str:
    """Return what a balance is of, for people."""
    if name == EVERYTHING:
        return "everything"
    return f"the budget {name[len(BUDGET_PREFIX) :]}" if name.startswith(BUDGET_PREFIX) else f"session {name}"


def _halted_name(session_id: str | None, budget: str | None, *, everything: bool) -> str:
    if [session_id is not None, budget is not None, everything].count(True) != 1:
        raise ValueError("name one: a session, a budget, or everything")
    if everything:
        return EVERYTHING
    return arguments.session(session_id) if budget is None else BUDGET_PREFIX + arguments.budget_name(budget)


def _append(tx: Transaction, session_id: str, kind: str, data: Mapping[str, Any]) -> LedgerRow:
    entry = Entry(kind=kind, session_id=session_id, state_origin=kind, data=data)
    return tx.append(entry, leaves(tx, entry))


def _refuse_unknown(tx: Transaction, name: str) -> Balance:
    balance = tx.balance(name)
    if balance is None:
        raise BudgetNotFoundError(name[len(BUDGET_PREFIX) :])
    return balance
