"""What the flow of a session yields for a driver to perform, what the loop was made with, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from donewhen.checks import Check, CheckContext
from donewhen.client import ToolCall
from donewhen.frozen import quick
from donewhen.permit import Permit
from donewhen.tools import ToolResult


@dataclass(frozen=True)
class LoopResult:
    """How a session ended. Equality compares the tutorial's five fields alone."""

    success: bool
    turns: int
    """The number of the last turn; a turn that a ceiling refused counts."""
    total_tokens: int
    """Tokens spent, with what is reserved for calls whose outcome is unknown."""
    session_id: str
    breach_reason: str | None = None
    outcome: str = field(default="", compare=False, kw_only=True)
    """done, unmet, breached, failed or halted; or, not ended: ``interrupted`` (resume goes on) or ``held``."""
    reason: str = field(default="", compare=False, kw_only=True)
    """One sentence."""
    output: str | None = field(default=None, compare=False, kw_only=True)
    """The last text. It waits in the outbox: nobody has compared it with the promise yet."""
    waits_for: tuple[ToolCall, ...] = field(default=(), compare=False, kw_only=True)
    """The tool calls that wait for a person."""


@quick
@dataclass(frozen=True, slots=True)
class Write:
    """Do something with the ledger; blocking, short, never to be cut in the middle."""

    do: Callable[[], Any]


@quick
@dataclass(frozen=True, slots=True)
class CallClient:
    """Send the permitted request once. Sent back: (`Reply` or `Failure`, milliseconds)."""

    permit: Permit


@dataclass(frozen=True, slots=True)
class RunTools:
    """Run tool calls. Sent back: nothing; the driver puts what came of each into `finished`."""

    calls: Sequence[ToolCall]
    finished: dict[int, tuple[ToolResult, int]] = field(default_factory=dict[int, "tuple[ToolResult, int]"])
    """(result, milliseconds) by the call's place. An interruption leaves those here that had ended before it."""

    @property
    def results(self) -> list[tuple[ToolCall, ToolResult, int]]:
        """Return (call, result, milliseconds) of each that has ended, in the order of the calls."""
        return [(self.calls[place], *self.finished[place]) for place in sorted(self.finished)]


@dataclass(frozen=True, slots=True)
class RunChecks:
    """Run the checks. Sent back: (check, `CheckResult`, milliseconds) for each, in order."""

    context: CheckContext


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait before another attempt."""

    seconds: float


Step = Write | CallClient | RunTools | RunChecks | Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the loop was made with."""

    max_tokens: int
    max_attempts: int
    wrap_up_notice: bool
    checks: Sequence[Check]
    make_context: Callable[[str, Mapping[str, str]], CheckContext]
    """Makes what a check may look at, of the output and the digests of protected paths."""
    jitter: Callable[[], float]
    """A number from 0 to 1, for back-off."""
