"""The circuit breaker: pure arithmetic over ceilings, with no clock and no database.

Dimensions are data. `first_breach` judges all of them, in one order, for everybody: the breaker that a person calls
by hand, a session, and a shared budget. What crosses a ceiling is `spent + reserved + asked`, so a call that would
cross one is refused before it is sent.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from donewhen.balance import CEILING_NAMES, Breach, Ceilings
from donewhen.errors import CircuitBreakerError

DEFAULT_TURN_LIMIT = 5
"""Turns of one session, where nobody says otherwise."""

DEFAULT_TOKEN_LIMIT = 15_000
"""Tokens of all kinds of one session, where nobody says otherwise."""

LARGEST_LIMIT = 2**53 - 1
"""The largest whole number that a row can hold."""

FEWEST_REPEATS = 2
"""A call made once repeats nothing, so a repeat ceiling below this would stop every session at its first call."""

REASONS: Mapping[str, str] = {
    "turns": "turn_ceiling",
    "tokens": "token_ceiling",
    "cost_microusd": "cost_ceiling",
    "milliseconds": "time_ceiling",
    "tool_calls": "tool_call_ceiling",
    "repeats": "no_progress",
}
"""The reason of each dimension, in the order in which they are judged. The first that is crossed is the one told."""

_ARGUMENTS: Mapping[str, str] = {
    "turns": "turn_limit",
    "tokens": "token_limit",
    "cost_microusd": "cost_limit_microusd",
    "milliseconds": "seconds_limit",
    "tool_calls": "tool_call_limit",
    "repeats": "repeat_limit",
}

_ACTIONS: Mapping[str, str] = {
    "turn_ceiling": "read what was done so far, then raise the turn ceiling or end the session.",
    "token_ceiling": "read what was done so far, then raise the token ceiling or end the session.",
    "cost_ceiling": "look at what the money bought, then raise the cost ceiling or end the session.",
    "time_ceiling": "see why it takes so long, then raise the time ceiling or end the session.",
    "tool_call_ceiling": "see what the tools were called for, then raise the ceiling or end the session.",
    "no_progress": "the same thing keeps happening: change the task or the tools before going on.",
}


def first_breach(
    ceilings: Ceilings,
    amounts: Mapping[str, tuple[int | None, int | None, int | None]],
    *,
    budget: str | None = None,
    parent: str | None = None,
) -> Breach | None:
    """Return the first ceiling that would be crossed, or None.

    The edge is allowed: only more than the ceiling crosses it. Repeats differ: n in a row *are* no progress, so n is
    already a breach.

    Args:
        ceilings: what is allowed, in the units of `Ceilings`. None: not judged.
        amounts: spent, reserved and asked for, by dimension, in the same units. None: not known.
        budget: the shared budget whose ceilings these are. None: a session's.
        parent: the parent session whose ceilings these are. None: the session's own, or a budget's.

    Raises:
        ValueError: a ceiling is set and its amount is missing or not known. Unknown is not zero, so it is no pass.
    """
    for dimension, reason in REASONS.items():
        ceiling: int | None = getattr(ceilings, dimension)
        if ceiling is None:
            continue
        spent, reserved, asked = amounts.get(dimension, (None, None, None))
        if spent is None or reserved is None or asked is None:
            raise ValueError(f"a ceiling of {ceiling} {dimension} is set, but the amount of {dimension} is not known")
        total = spent + reserved + asked
        if total > ceiling or (dimension == "repeats" and total == ceiling):
            return Breach(
                reason=_reason_of(reason, budget, parent),
                dimension=dimension,
                ceiling=ceiling,
                spent=spent,
                reserved=reserved,
                asked=asked,
                budget=budget,
                parent=parent,
            )
    return None


def _reason_of(reason: str, budget: str | None, parent: str | None) -> str:
    if budget is not None:
        return f"budget:{budget}:{reason}"
    return reason if parent is None else f"parent:{parent}:{reason}"


# No slots: with them, setting `turn_limit` on a frozen dataclass fails with a TypeError about super().
@dataclass(frozen=True, init=False, repr=False)
class CircuitBreaker:
    """Stop a session at its ceilings, and tell a person why."""

    ceilings: Ceilings
    """What is allowed. Turns and tokens are always set."""
    output_fn: Callable[[str], object] = dataclasses.field(compare=False)
    """Where the notice goes."""

    def __init__(
        self,
        turn_limit: int = DEFAULT_TURN_LIMIT,
        token_limit: int = DEFAULT_TOKEN_LIMIT,
        *,
        cost_limit_microusd: int | None = None,
        seconds_limit: float | None = None,
        tool_call_limit: int | None = None,
        repeat_limit: int | None = None,
        output_fn: Callable[[str], object] = print,
    ) -> None:
        """Set the ceilings. Zero means that none is allowed; None, where it may be given, that there is no ceiling.

        Args:
            turn_limit: turns.
            token_limit: tokens of all kinds.
            cost_limit_microusd: millionths of a US dollar.
            seconds_limit: seconds since the session opened, to the millisecond below.
            tool_call_limit: calls of tools.
            repeat_limit: the same tool call, or the same failing check, this often in a row is no progress; 2 or more.
            output_fn: takes the notice, a text of several lines.

        Raises:
            ValueError: a limit is not a number of the right kind, is negative, or is too large for a row.
        """
        seconds = None if seconds_limit is None else _milliseconds("seconds_limit", seconds_limit, math.floor)
        self._set(
            Ceilings(turn_limit, token_limit, cost_limit_microusd, tool_call_limit, seconds, repeat_limit), output_fn
        )

    @classmethod
    def from_ceilings(cls, ceilings: Ceilings, output_fn: Callable[[str], object] = print) -> CircuitBreaker:
        """Return a breaker with exactly these ceilings.

        Raises:
            ValueError: turns or tokens have no ceiling, or a ceiling is out of range.
        """
        breaker = cls.__new__(cls)
        breaker._set(ceilings, output_fn)
        return breaker

    @property
    def turn_limit(self) -> int:
        """Return the most turns of one session."""
        return self.ceilings.turns or 0

    @property
    def token_limit(self) -> int:
        """Return the most tokens, of all kinds, of one session."""
        return self.ceilings.tokens or 0

    @property
    def cost_limit_microusd(self) -> int | None:
        """Return the most that one session may cost, in millionths of a US dollar."""
        return self.ceilings.cost_microusd

    @property
    def seconds_limit(self) -> float | None:
        """Return the most seconds that one session may take."""
        return None if self.ceilings.milliseconds is None else self.ceilings.milliseconds / 1000

    @property
    def tool_call_limit(self) -> int | None:
        """Return the most calls of tools of one session."""
        return self.ceilings.tool_calls

    @property
    def repeat_limit(self) -> int | None:
        """Return how often in a row the same call or failing check is no progress."""
        return self.ceilings.repeats

    def check(
        self,
        turn_count: int,
        accumulated_tokens: int,
        *,
        cost_microusd: int | None = None,
        seconds: float | None = None,
        tool_calls: int | None = None,
        repeats: int | None = None,
    ) -> None:
        """Trip if a ceiling is crossed: print the notice, then raise. The edge itself is allowed.

        Args:
            turn_count: the number of the turn that is about to be made, from 1.
            accumulated_tokens: tokens of all kinds so far.
            cost_microusd: millionths of a US dollar so far. Needed where cost has a ceiling.
            seconds: seconds so far, counted to the millisecond above. Needed where time has a ceiling.
            tool_calls: calls of tools so far. Needed where tool calls have a ceiling.
            repeats: how often in a row the newest call or failing check was made. Needed where repeats have a ceiling.

        Raises:
            CircuitBreakerError: a ceiling is crossed.
            ValueError: an amount is not a number of the right kind, or is missing while its ceiling is set.
        """
        given = {
            "turns": _whole("turn_count", turn_count),
            "tokens": _whole("accumulated_tokens", accumulated_tokens),
            "cost_microusd": None if cost_microusd is None else _whole("cost_microusd", cost_microusd),
            "milliseconds": None if seconds is None else _milliseconds("seconds", seconds, math.ceil),
            "tool_calls": None if tool_calls is None else _whole("tool_calls", tool_calls),
            "repeats": None if repeats is None else _whole("repeats", repeats),
        }
        breach = first_breach(self.ceilings, {dimension: (amount, 0, 0) for dimension, amount in given.items()})
        if breach is None:
            return
        tripped = CircuitBreakerError(breach.reason, turn_count, accumulated_tokens, breach=breach)
        try:
            self.tell(breach, turn_count, accumulated_tokens)
        except Exception as untold:
            # A closed terminal must not turn a breach into another error, which somebody may catch and go on.
            raise tripped from untold
        raise tripped

    def tell(self, breach: Breach, turn_count: int, accumulated_tokens: int) -> None:
        """Hand the notice of a breach to `output_fn`. Raises only what `output_fn` raises."""
        lines = [
            "=== CIRCUIT BREAKER CHECKPOINT ===",
            f"Reason: {breach.reason}",
            f"Turns:  {turn_count} / limit {self.turn_limit}",
            f"Tokens: {accumulated_tokens} / limit {self.token_limit}",
            *_arithmetic(breach),
            f"Action: {_action(breach)}",
        ]
        self.output_fn("\n".join(lines))

    def __repr__(self) -> str:
        """Return the call that makes this breaker."""
        parts = [f"{name}={value}" for name in _ARGUMENTS.values() if (value := getattr(self, name)) is not None]
        return f"CircuitBreaker({', '.join(parts)})"

    def _set(self, ceilings: Ceilings, output_fn: Callable[[str], object]) -> None:
        for dimension in CEILING_NAMES:
            limit: object = getattr(ceilings, dimension)
            if limit is not None or dimension in ("turns", "tokens"):
                _whole(_ARGUMENTS[dimension], limit, least=FEWEST_REPEATS if dimension == "repeats" else 0)
        object.__setattr__(self, "ceilings", ceilings)
        object.__setattr__(self, "output_fn", output_fn)


def _arithmetic(breach: Breach) -> list[str]:
    """Return the line that shows the sum, where the counts of turns and tokens do not show it already."""
    shown = breach.dimension in ("turns", "tokens") and not (breach.reserved or breach.asked or breach.whose)
    if shown:
        return []
    if breach.dimension == "repeats":
        return [f"Sum:    {breach.spent + breach.reserved + breach.asked} in a row / limit {breach.ceiling} repeats"]
    return [f"Sum:    {breach}"]


def _action(breach: Breach) -> str:
    if breach.budget is not None:
        return f"see who uses it ('donewhen budget show {breach.budget}'), then raise it, or wait for its next period."
    return _ACTIONS[breach.kind]


def _whole(name: str, value: object, *, least: int = 0) -> int:
    # bool is an int to Python, and NaN is below every ceiling: neither may pass for a number here.
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    if not least <= value <= LARGEST_LIMIT:
        raise ValueError(f"{name} must be from {least} to {LARGEST_LIMIT}, not {value!r}")
    return value


def _milliseconds(name: str, seconds: object, rounded: Callable[[float], int]) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ValueError(f"{name} must be a number of seconds, not {seconds!r}")
    if not 0 <= seconds <= LARGEST_LIMIT // 1000:  # NaN is neither
        raise ValueError(f"{name} must be from 0 to {LARGEST_LIMIT // 1000} seconds, not {seconds!r}")
    nearest = round(seconds * 1000)
    if nearest / 1000 == seconds:
        return nearest  # whatever noise of binary floats the product has (8430012.79 * 1000)
    # A millionth of a millisecond is noise too, not time.
    return rounded(round(seconds * 1000, 6))
