"""What a session or budget has spent, holds reserved, and may at most spend.

Amounts are integers: turns, tokens, millionths of a US dollar, tool calls. Their order, `DIMENSIONS`, is part of
the ledger's format: rows carry amounts as arrays in that order. A cost of None means "not known", which is not zero:
adding anything to it leaves it not known.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from donewhen.frozen import quick
from donewhen.kinds import BUDGET_PREFIX

DIMENSIONS = ("turns", "tokens", "cost_microusd", "tool_calls")
"""The order of amounts in a row."""

CEILING_NAMES = (*DIMENSIONS, "milliseconds", "repeats")
"""The order of ceilings in a row."""


@quick
@dataclass(frozen=True, slots=True)
class Amounts:
    """What is spent, reserved or asked for, in every dimension that adds up."""

    turns: int = 0
    """Model replies."""
    tokens: int = 0
    """Input, output and cache tokens together."""
    cost_microusd: int | None = 0
    """Millionths of a US dollar. None: not known."""
    tool_calls: int = 0
    """Calls of tools that a model asked for."""

    def __add__(self, other: Amounts) -> Amounts:
        cost, more = self.cost_microusd, other.cost_microusd
        return Amounts(
            self.turns + other.turns,
            self.tokens + other.tokens,
            None if cost is None or more is None else cost + more,
            self.tool_calls + other.tool_calls,
        )

    def __sub__(self, other: Amounts) -> Amounts:
        cost, less = self.cost_microusd, other.cost_microusd
        return Amounts(
            self.turns - other.turns,
            self.tokens - other.tokens,
            None if cost is None or less is None else cost - less,
            self.tool_calls - other.tool_calls,
        )

    def as_list(self) -> list[int | None]:
        """Return the amounts in the order of `DIMENSIONS`."""
        return [self.turns, self.tokens, self.cost_microusd, self.tool_calls]


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The most a session allows. None: no ceiling. Zero: none allowed."""

    turns: int | None = None
    """Model replies in one session."""
    tokens: int | None = None
    """Tokens of all kinds in one session."""
    cost_microusd: int | None = None
    """Millionths of a US dollar. Set without a known price, the first call is refused."""
    tool_calls: int | None = None
    """Calls of tools in one session."""
    milliseconds: int | None = None
    """Time since the session opened."""
    repeats: int | None = None
    """The same tool call, or the same failing check, this many times in a row is no progress."""

    def as_list(self) -> list[int | None]:
        """Return the ceilings in the order of `CEILING_NAMES`."""
        return [
            self.turns,
            self.tokens,
            self.cost_microusd,
            self.tool_calls,
            self.milliseconds,
            self.repeats,
        ]


@quick
@dataclass(frozen=True, slots=True)
class Calendar:
    """The day or the month that the spent amounts of a budget are of."""

    per: str
    """``day`` or ``month``."""
    zone: str
    """Whose days: a name of the IANA time zone database, such as ``Europe/Berlin``, or ``UTC``."""
    until: str
    """When it ends, ISO 8601, UTC. A row of that moment, or of a later one, is of another period."""


@quick
@dataclass(frozen=True, slots=True)
class Rolling:
    """The last hours that the spent amounts of a budget are of, by slices of one 24th of them."""

    hours: int
    slices: tuple[tuple[int, Amounts], ...] = ()
    """Of each slice in which something was spent: its number since 1970, and what. The amounts add up to the spent ones."""


@quick
@dataclass(frozen=True, slots=True)
class Balance:
    """Spent, reserved and ceilings of one budget, as one row leaves them."""

    name: str
    """A session is its own innermost budget, under its id. Others are shared: the sessions that it is a child of, under
    their ids, and budgets, under the id of the session of their own rows, ``donewhen:budget:`` and their name."""
    spent: Amounts = Amounts()
    """In the period that it has, else ever."""
    reserved: Amounts = Amounts()
    ceilings: Ceilings = Ceilings()
    period: Calendar | Rolling | None = field(default=None, metadata={"framed": False})
    """None: what is spent counts for ever."""
    halted: bool = field(default=False, metadata={"framed": False})
    """Whether a person has ordered that no call is made under it."""

    @property
    def budget(self) -> str | None:
        """Return the name of the budget as people type it; None: it is a session's."""
        return self.name[len(BUDGET_PREFIX) :] if self.name.startswith(BUDGET_PREFIX) else None

    @property
    def used(self) -> Amounts:
        """Return the spend: what is spent and what is still reserved."""
        return self.spent + self.reserved

    @property
    def used_turns(self) -> int:
        """Return the turns of `used`."""
        return self.spent.turns + self.reserved.turns

    @property
    def used_tokens(self) -> int:
        """Return the tokens of `used`."""
        return self.spent.tokens + self.reserved.tokens

    @property
    def used_microusd(self) -> int | None:
        """Return the cost of `used`; None: not known."""
        spent, reserved = self.spent.cost_microusd, self.reserved.cost_microusd
        return None if spent is None or reserved is None else spent + reserved


@dataclass(frozen=True, slots=True)
class Holder:
    """A session that has something reserved under a shared ceiling."""

    session_id: str
    reserved: int
    """In the dimension of the ceiling; its own, without that of its children."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """The fact that a ceiling would be crossed."""

    reason: str
    """``turn_ceiling``, ``token_ceiling``, ``cost_ceiling``, ``time_ceiling``, ``tool_call_ceiling`` or ``no_progress``; of a
    budget ``budget:NAME:token_ceiling``, of a session's parent ``parent:SESSION:token_ceiling``."""
    dimension: str
    """One of `CEILING_NAMES`."""
    ceiling: int
    spent: int
    reserved: int = 0
    asked: int = 0
    budget: str | None = None
    """The shared budget whose ceiling it is. None: a session's."""
    parent: str | None = None
    """The parent session whose ceiling it is. None: the session's own, or a budget's."""
    holders: tuple[Holder, ...] = ()
    """The sessions with the largest reservations under a shared ceiling, largest first."""

    @property
    def kind(self) -> str:
        """Return the reason without whose ceiling it is."""
        return self.reason.rpartition(":")[2]

    @property
    def whose(self) -> str:
        """Return whose ceiling it is, for people; empty: the session's own."""
        if self.budget is not None:
            return f"the budget {self.budget}"
        return "" if self.parent is None else f"the parent session {self.parent}"

    def __str__(self) -> str:
        parts = [f"{self.spent} spent"]
        if self.reserved:
            parts.append(f"{self.reserved} reserved")
        if self.asked:
            parts.append(f"{self.asked} asked for")
        told = f"{', '.join(parts)}, ceiling {self.ceiling} {self.dimension}"
        if self.whose:
            told += f" of {self.whose}"
        if self.holders:
            told += "; reserved by " + ", ".join(f"{one.session_id} ({one.reserved})" for one in self.holders)
        return told
