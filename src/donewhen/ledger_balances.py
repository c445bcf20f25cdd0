"""The balances that stand above a session: found, brought to the time of a transaction, and moved.

Whoever appends a row takes its `after` from `leaves`: a session's own newest row does not know what others have spent
under the same budgets since.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from donewhen.balance import DIMENSIONS, Amounts, Balance, Holder
from donewhen.entry import Entry
from donewhen.errors import BudgetNotFoundError, LedgerTamperedError, SessionNotFoundError
from donewhen.fold import fold
from donewhen.kinds import BUDGET_PREFIX, EVERYTHING
from donewhen.periods import advanced

if TYPE_CHECKING:
    from donewhen.stores import Store, Transaction

MOST_HOLDERS = 3
"""How many sessions a refusal names."""


def leaves(tx: Transaction, entry: Entry, held: Amounts | None = None) -> tuple[Balance, ...]:
    """Return the balances as an entry leaves them, for `Transaction.append`.

    Args:
        held: what the reservation that it closes had reserved; None where it closes none.

    Raises:
        BudgetNotFoundError: it opens a session under a budget that there is not.
        SessionNotFoundError: it opens a session under a parent that was never opened.
        The errors of `fold`.
    """
    path = path_of(tx, entry.session_id)
    if not path and entry.kind == "open":
        path = _path_above(tx, entry)
    return fold(path, entry, held, tx.at)


def path_of(tx: Transaction, session_id: str) -> tuple[Balance, ...]:
    """Return the balances on a session's path, outermost first, its own last; empty before it was opened."""
    head = tx.head(session_id)
    return () if head is None else tuple([_newest(tx, balance.name) for balance in head.after])


def standing(tx: Transaction, session_id: str) -> tuple[Balance, ...]:
    """Return the balances that a call of a session is judged by, as they are at the transaction's time.

    Those on its path, and first of all the one that can halt everything, where it does.

    Raises:
        SessionNotFoundError: the session was never opened.
    """
    path = tuple([advanced(balance, tx.at) for balance in path_of(tx, session_id)])
    if not path:
        raise SessionNotFoundError(session_id, "the session was never opened, so it has no ceilings")
    everything = tx.balance(EVERYTHING)
    return path if everything is None or not everything.halted else (everything, *path)


def budget_path(name: str) -> list[str]:
    """Return the names of the balances of a budget and of those above it, outermost first."""
    return [BUDGET_PREFIX + part for part in accumulate(name.split("/"), "{}/{}".format)]


def find_holders(store: Store, level: Balance, asking: Sequence[Balance], dimension: str) -> tuple[Holder, ...]:
    """Return the sessions that have most reserved under a shared ceiling, largest first.

    Reads one row of each session under it: for refusals only.

    Args:
        level: the balance whose ceiling it is.
        asking: the balances on the path of the session that is refused, as they are now: the store's rows do not say
            yet what the transaction has moved, on its parents neither. Empty: nobody is refused.
        dimension: one of `DIMENSIONS`.
    """
    place = DIMENSIONS.index(dimension)
    known: dict[str, Balance] = {}
    children: dict[str, str] = {}
    # What is known of a balance already is newer: the path of who asks, then the rows, newest first.
    for path in (asking, *[row.after for row in store.read_under(level.name)]):
        under = _sessions_under(level, path)
        for balance in under:
            known.setdefault(balance.name, balance)
        children.update({child.name: parent.name for parent, child in pairwise(under)})
    own = {name: _amount(balance.reserved, place) for name, balance in known.items()}
    for child, parent in children.items():
        own[parent] -= _amount(known[child].reserved, place)
    largest = sorted(own, key=lambda name: (-own[name], name))[:MOST_HOLDERS]
    return tuple([Holder(name, own[name]) for name in largest if own[name] > 0])


def _sessions_under(level: Balance, path: Sequence[Balance]) -> list[Balance]:
    """Return the sessions' balances on a path that are a level's own, or stand under it."""
    names = [balance.name for balance in path]
    start = names.index(level.name) if level.name in names else 0
    return [balance for balance in path[start:] if balance.budget is None]


def _path_above(tx: Transaction, entry: Entry) -> tuple[Balance, ...]:
    if "parent" in entry.data:
        path = path_of(tx, entry.data["parent"])
        if not path:
            raise SessionNotFoundError(entry.data["parent"], "the session was never opened, so it can have no child")
        return path
    if "budget" not in entry.data:
        return ()
    found: list[Balance] = []
    for name in budget_path(entry.data["budget"]):
        balance = tx.balance(name)
        if balance is None:
            raise BudgetNotFoundError(name[len(BUDGET_PREFIX) :])
        found.append(balance)
    return tuple(found)


def _newest(tx: Transaction, name: str) -> Balance:
    balance = tx.balance(name)
    if balance is None:
        raise LedgerTamperedError(f"no row leaves the balance of {name!r}, and a session stands under it")
    return balance


def _amount(amounts: Amounts, place: int) -> int:
    return amounts.as_list()[place] or 0
