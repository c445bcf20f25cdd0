"""Where a session stands while its rows are followed, and what is said of a row that does not follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from donewhen import canonical
from donewhen.balance import DIMENSIONS
from donewhen.entry import GENESIS
from donewhen.errors import LedgerTamperedError
from donewhen.verify.row import Row

_BARE = b'{"at":"'
"""How a row begins that leaves no balances."""

Amounts = list[Any]
"""Turns, tokens, cost, tool calls. A cost of None is not known."""


@dataclass(slots=True)
class Chain:
    """Where a session stands."""

    seq: int = 0
    digest: str = GENESIS
    after: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """The balances as the newest row leaves them, as a row spells them."""
    head: bytes = _BARE
    """How the next row begins, if it moves no balance."""
    held: dict[int, Amounts] = field(default_factory=dict[int, Amounts])
    """What is reserved and not closed, by the seq of its row."""
    doubted: set[int] = field(default_factory=set[int])
    reconciled: set[int] = field(default_factory=set[int])
    """The reservations that a person closed, by the seq of their rows."""
    specs: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    agreed: set[str] = field(default_factory=set[str])
    """The spec hashes under which the session was opened."""
    limits: list[tuple[int, dict[str, Any], int]] = field(default_factory=list[tuple[int, dict[str, Any], int]])
    """The ceilings that an amount can pass: which amount, of which balance, and the most."""
    has_policy: bool = False
    holds: dict[tuple[int, str], str] = field(default_factory=dict[tuple[int, str], str])
    """The held calls that were asked for and have no result, by turn and call id: the digest that names each."""
    runs: set[str] = field(default_factory=set[str])
    """The held calls that a process has taken up, as an opening says."""
    above: tuple[str, ...] = ()
    """The balances that it stands under, outermost first: of budgets, and of the sessions that it is a child of."""
    is_shared: bool = False
    """Whether other sessions move its own balance: it has a child, or is a budget's."""
    period: dict[str, Any] | None = None
    """That of a budget, while its first row is looked at."""
    only: frozenset[str] | None = None
    """The kinds that rows of the log's own sessions have. None: it is a user's."""

    @property
    def own(self) -> dict[str, Any] | None:
        """Return its own balance, None before it was opened."""
        return self.after[-1] if len(self.after) > len(self.above) else None

    def move(self) -> None:
        """Work out how a row begins that leaves these balances.

        Raises:
            ValueError: a number is larger than a row can hold.
        """
        try:
            spelled = orjson.dumps(self.after, None, canonical.STRICT)
        except TypeError:  # such a number, or a lone surrogate in a session's name
            spelled = canonical.dumps(self.after)
        self.head = b'{"after":%b,"at":"' % spelled if self.after else _BARE

    def limit(self) -> None:
        """Note the ceilings, after they have changed."""
        self.limits = [
            (place, balance, most)
            for balance in self.after
            for place, most in enumerate(balance["ceiling"][: len(DIMENSIONS)])
            if most is not None
        ]


def data_of(row: Row) -> Mapping[str, Any]:
    """Return what only rows of this kind have; empty where there is nothing."""
    return row.get("data", _NO_DATA)


_NO_DATA: Mapping[str, Any] = {}


def wrong(row: Row, problem: str) -> LedgerTamperedError:
    """Return the error that names a row and what is wrong with it."""
    return LedgerTamperedError(problem, row_id=row["id"])
