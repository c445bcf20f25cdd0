"""A second opinion on budgets: plain sums, which know nothing of rows, folds or balances.

It says what is spent and reserved on every level, whether a call fits and on which level it does not, and who has what
reserved there. `tests/test_budget_model.py` holds the ledger against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

TURNS, TOKENS, COST = range(3)
NAMES = ("turns", "tokens", "cost_microusd")
REASONS = ("turn_ceiling", "token_ceiling", "cost_ceiling")

OVERHEAD = 32
"""Tokens of a request of one message beside its text, by the strict bound."""

LEAST_OUTPUT = 16
OUTPUT_RATE = 3
"""What a token of output costs; one of input costs 1."""

Sums = tuple[int, int, int]
"""Turns, tokens, millionths of a dollar."""


def plus(*sums: Sums) -> Sums:
    """Add."""
    return sum(one[0] for one in sums), sum(one[1] for one in sums), sum(one[2] for one in sums)


def cost_of(given: int, made: int) -> int:
    """Return what tokens of input and output cost."""
    return given + OUTPUT_RATE * made


@dataclass(eq=False)
class Level:
    """A budget or a session."""

    name: str
    ceilings: list[int | None]
    per: str | None = None
    """``day``, ``month`` or ``hours:N``."""
    zone: str = "UTC"
    begun: Any = None
    """The day or month that it is in."""
    charges: list[tuple[int, Sums]] = field(default_factory=list[tuple[int, Sums]])
    """(slice of a rolling period, else 0; what was spent in it), of the period that it is in."""
    halted: bool = False
    is_session: bool = False
    own_turns: int = 0

    def period(self, at: datetime) -> Any:
        """Return the day or month of a time, by the level's own calendar."""
        here = at.astimezone(timezone.utc if self.zone == "UTC" else ZoneInfo(self.zone))
        return (here.year, here.month, here.day if self.per == "day" else 0)

    def slice(self, at: datetime) -> int:
        """Return the 24th part of a rolling period that a time is in, counted since 1970."""
        hours = int((self.per or "").partition(":")[2])
        return (at - datetime(1970, 1, 1, tzinfo=timezone.utc)) * 24 // timedelta(hours=hours)

    def still(self, at: datetime) -> list[tuple[int, Sums]]:
        """Return the charges that count at a time."""
        if self.per is None or not self.charges:
            return self.charges
        if self.per.startswith("hours"):
            return [one for one in self.charges if one[0] >= self.slice(at) - 24]
        return self.charges if self.period(at) <= self.begun else []

    def touch(self, at: datetime) -> None:
        """Move on to a time: a row was written. An earlier one changes nothing."""
        self.charges = self.still(at)
        if self.per in ("day", "month"):
            self.begun = self.period(at) if self.begun is None else max(self.begun, self.period(at))

    def charge(self, used: Sums, at: datetime) -> None:
        """Spend."""
        number = 0
        if self.per and self.per.startswith("hours"):
            number = max([self.slice(at), *[one for one, _ in self.charges]])
        self.charges.append((number, used))

    def spent(self, at: datetime) -> Sums:
        """Return what counts as spent."""
        return plus((0, 0, 0), *[used for _, used in self.still(at)])


@dataclass(eq=False)
class Call:
    """A reservation."""

    path: list[Level]
    reserved: Sums
    permit: Any
    is_doubted: bool = False

    @property
    def session(self) -> Level:
        """Return whose it is."""
        return self.path[-1]


@dataclass(frozen=True)
class Refusal:
    """What the ledger must say where it refuses."""

    reason: str
    spent: int
    reserved: int
    asked: int
    holders: tuple[tuple[str, int], ...]


class Model:
    """Everything that is known without the ledger."""

    def __init__(self) -> None:
        self.paths: dict[str, list[Level]] = {}
        """Of each session: the levels above it, outermost first, and its own."""
        self.budgets: dict[str, Level] = {}
        self.open: list[Call] = []
        self.is_halted = False

    def levels(self) -> list[Level]:
        """Return every level."""
        return [*self.budgets.values(), *[path[-1] for path in self.paths.values()]]

    def above(self, budget: str | None) -> list[Level]:
        """Return a budget and those above it, outermost first."""
        words = [] if budget is None else budget.split("/")
        return [self.budgets["/".join(words[: count + 1])] for count in range(len(words))]

    def reserved(self, level: Level) -> Sums:
        """Return what is reserved on a level."""
        return plus((0, 0, 0), *[call.reserved for call in self.open if level in call.path])

    def touch(self, path: Iterable[Level], at: datetime) -> None:
        """Move levels on: a row of a session under them was written."""
        for level in path:
            level.touch(at)

    def is_stopped(self, path: list[Level]) -> bool:
        """Tell whether a halt stops a session's calls."""
        return self.is_halted or any(level.halted for level in path)

    def judge(self, path: list[Level], length: int, most: int, turns: int, at: datetime) -> Sums | Refusal:
        """Return what a call of so long a text reserves, or why it is refused."""
        given = length + OVERHEAD
        fits = most
        for level in path:
            used = plus(level.spent(at), self.reserved(level))
            if (tokens := level.ceilings[TOKENS]) is not None:
                fits = min(fits, tokens - used[TOKENS] - given)
            if (cost := level.ceilings[COST]) is not None:
                fits = min(fits, (cost - used[COST] - given) // OUTPUT_RATE)
        made = max(fits, min(most, LEAST_OUTPUT))
        asked = (turns, given + made, cost_of(given, made))
        for level in path:
            spent, reserved = level.spent(at), self.reserved(level)
            for place, ceiling in enumerate(level.ceilings):
                if ceiling is not None and spent[place] + reserved[place] + asked[place] > ceiling:
                    return self._refusal(level, path[-1], place, (spent[place], reserved[place], asked[place]))
        return asked

    def _refusal(self, level: Level, own: Level, place: int, sums: Sums) -> Refusal:
        whose = "" if level is own else f"parent:{level.name}:" if level.is_session else f"budget:{level.name}:"
        held: dict[str, int] = {}
        for call in self.open:
            if level in call.path and level is not own:
                held[call.session.name] = held.get(call.session.name, 0) + call.reserved[place]
        largest = sorted(((name, most) for name, most in held.items() if most), key=lambda one: (-one[1], one[0]))[:3]
        return Refusal(f"{whose}{REASONS[place]}", *sums, tuple(largest))

    def close(self, call: Call, used: Sums | None, at: datetime) -> None:
        """End a reservation; None: the provider did no work and it is given back."""
        self.open.remove(call)
        for level in call.path:
            level.touch(at)
            if used is not None:
                level.charge(used, at)
