"""What `Session.admit` and `Session.settle` hand out: leave to make one attempt, and what a settled reply leads to."""

from __future__ import annotations

from dataclasses import dataclass

from donewhen.balance import Amounts
from donewhen.bounds import Request
from donewhen.client import ToolCall
from donewhen.entry import LedgerRow
from donewhen.errors import CircuitBreakerError, HaltedError
from donewhen.frozen import quick


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Leave to make one attempt: what is reserved for it, and the request as it may be sent."""

    session_id: str
    turn: int
    attempt: int
    """From 1; a turn may need several."""
    seq: int
    """The row that holds the reservation."""
    request: Request
    """Clamped: its max_tokens is what is reserved."""
    input_bound: int
    """The most input tokens it can use."""
    reserved: Amounts


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a settled reply leads to."""

    row: LedgerRow
    tools: tuple[ToolCall, ...] = ()
    """The calls to run now, in order."""
    held: tuple[ToolCall, ...] = ()
    """The calls that wait for a person."""
    breach: CircuitBreakerError | None = None
    """The ceiling that the tool calls, or the turn asked for next, would cross. Nothing of it was run or sent."""
    halted: HaltedError | None = None
    """The order because of which no tool of the reply may run."""
    permit: Permit | None = None
    """Leave for the request that was asked for next."""
