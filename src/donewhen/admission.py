"""What a call asks for, and whether every ceiling above it lets it: pure arithmetic inside the transaction of `admit`.

Everything that can fail, wait or be slow is worked out before; see `donewhen.session`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from donewhen.balance import Amounts, Balance, Breach, Ceilings, Holder
from donewhen.bounds import BoundKind, Request, output_that_fits, refuse_unpriced
from donewhen.circuit_breaker import first_breach
from donewhen.drafts import breach_entry, reserve_entry
from donewhen.errors import HaltedError
from donewhen.frozen import quick
from donewhen.ledger import Draft

if TYPE_CHECKING:
    from donewhen.usage import Price

Dimensions = Mapping[str, "tuple[int | None, int | None, int | None]"]


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One attempt that somebody asks leave for."""

    session_id: str
    request: Request
    bound: BoundKind
    input_bound: int
    """The most input tokens that it can use."""
    price: Price | None
    elapsed_ms: int
    """Since the session first opened."""
    repeats: int
    """How often in a row its newest tool call, or failing check, was made."""
    attempt: int
    turn: int | None
    """Of the attempt before, for another one at the same turn; None: the next turn."""
    again: bool
    """Whether its turn is reserved already."""
    owner: str
    """The process."""
    find_holders: Callable[[Balance, Sequence[Balance], str], tuple[Holder, ...]]
    """Given the balance whose ceiling is in the way, all that were judged, and the dimension: who has it reserved."""
    halted_error: Callable[[str], HaltedError]
    """Makes the error of what has been halted, by the name of its balance."""
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Kept beside the row."""

    def decide(self, balances: Sequence[Balance]) -> Draft:
        """Return the reservation, or the breach of the outermost ceiling that it would cross.

        Args:
            balances: those that the session stands under, outermost first, and its own, as they are now.

        Raises:
            HaltedError: one of them is halted.
            PriceUnknownError: cost has a ceiling on one of them, and the price or what was spent is not known.
        """
        own = balances[-1]
        for balance in balances:
            if balance.halted:
                raise self.halted_error(balance.name)
        turn = own.used_turns + 1 if self.turn is None else self.turn
        for balance in balances:
            if balance.ceilings.cost_microusd is not None:
                refuse_unpriced(self.request, self.price, balance)
        most = min([output_that_fits(one, self.request, self.input_bound, self.price, self.bound) for one in balances])
        cost = None if self.price is None else self.price.most_microusd(self.input_bound, most)
        asked = Amounts(0 if self.again else 1, self.input_bound + most, cost)
        breach = self._first_breach(balances, asked)
        if breach is not None:
            return Draft(breach_entry(self.session_id, turn, breach), self.texts)
        facts = {
            "model": self.request.model,
            "max_tokens": most,
            "input_bound": self.input_bound,
            "attempt": self.attempt,
            "owner": self.owner,
            "bound": self.bound,
        }
        return Draft(reserve_entry(self.session_id, turn, asked, facts), self.texts)

    def _first_breach(self, balances: Sequence[Balance], asked: Amounts) -> Breach | None:
        own = balances[-1]
        for level in balances[:-1]:
            breach = _breach_above(level, _sums(level, asked))
            if breach is not None:
                return replace(breach, holders=self.find_holders(level, balances, breach.dimension))
        sums = {**_sums(own, asked), "milliseconds": (self.elapsed_ms, 0, 0), "repeats": (self.repeats, 0, 0)}
        return first_breach(own.ceilings, sums)


def breach_of_tools(balances: Sequence[Balance], tool_calls: int, repeats: int) -> Breach | None:
    """Judge the tool calls of a reply, which nobody could know before it came.

    Args:
        balances: those that the session stands under, outermost first, and its own.
        tool_calls: how many the reply asks for.
        repeats: how often in a row the newest of them was made by then.
    """
    if not tool_calls:
        return None
    asked = Amounts(tool_calls=tool_calls)
    for level in balances[:-1]:
        breach = _breach_above(level, _sums(level, asked), Ceilings(tool_calls=level.ceilings.tool_calls))
        if breach is not None:
            return breach
    own = balances[-1]
    ceilings = Ceilings(tool_calls=own.ceilings.tool_calls, repeats=own.ceilings.repeats)
    return first_breach(ceilings, {**_sums(own, asked), "repeats": (repeats, 0, 0)})


def _breach_above(level: Balance, sums: Dimensions, ceilings: Ceilings | None = None) -> Breach | None:
    """Judge a ceiling that others share. Time and repeats are a session's own."""
    most = replace(level.ceilings, milliseconds=None, repeats=None) if ceilings is None else ceilings
    parent = level.name if level.budget is None else None
    return first_breach(most, sums, budget=level.budget, parent=parent)


def _sums(balance: Balance, asked: Amounts) -> Dimensions:
    spent, reserved = balance.spent, balance.reserved
    return {
        "turns": (spent.turns, reserved.turns, asked.turns),
        "tokens": (spent.tokens, reserved.tokens, asked.tokens),
        "cost_microusd": (spent.cost_microusd, reserved.cost_microusd, asked.cost_microusd),
        "tool_calls": (spent.tool_calls, reserved.tool_calls, asked.tool_calls),
    }
