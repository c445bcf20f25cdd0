"""What the rows of a session say about where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from donewhen.balance import Balance
from donewhen.entry import LedgerRow
from donewhen.owner import is_alive

PAUSED_OUTCOMES = ("breached", "unmet", "halted")
"""Outcomes after which a session can go on, once a person has changed something."""

STOPPED_BY_CEILING = ("breached", "unmet")
"""Those after which that something is a ceiling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingCall:
    """A tool call that was not run, since it waits for a person or the process was gone."""

    row: LedgerRow
    """The reply that asked for it."""
    call_id: str
    name: str
    args_hash: str
    held: bool
    attested: bool
    """A person has attested the session since, and no process has taken it up on that: the one that did may have
    run the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a session stands."""

    first_open: LedgerRow
    newest_open: LedgerRow
    newest: LedgerRow
    close: LedgerRow | None
    """The row that ended it; None while it runs, waits, or was interrupted."""
    in_doubt: tuple[LedgerRow, ...]
    """Reservations that nothing closes."""
    doubted: frozenset[int]
    """The seqs of those that a row says are in doubt."""
    waiting: tuple[WaitingCall, ...]
    times: tuple[datetime, ...]
    """When each row since the first opening was written."""

    @property
    def balance(self) -> Balance:
        """Return what is spent, reserved and allowed."""
        return self.newest.after[-1]

    @property
    def outcome(self) -> str | None:
        """Return how it ended; None while it has not."""
        return None if self.close is None else self.close.data["outcome"]

    @property
    def waiting_now(self) -> dict[str, WaitingCall]:
        """Return those that wait of the newest reply, by call id: some servers use the same ids in each reply."""
        newest = max((call.row.seq for call in self.waiting), default=0)
        return {call.call_id: call for call in self.waiting if call.row.seq == newest}

    def elapsed_ms(self, now: datetime) -> int:
        """Return the milliseconds since the first opening. A clock that was set back in between gives no time back."""
        steps = [max(timedelta(0), later - time) for time, later in pairwise([*self.times, now])]
        return sum(steps, timedelta(0)) // timedelta(milliseconds=1)

    @property
    def raised_since(self) -> bool:
        """Return whether a ceiling was changed after the session had ended."""
        return self.close is not None and self.close.after[-1].ceilings != self.balance.ceilings

    @property
    def owner(self) -> str:
        """Return the process that opened it last."""
        return self.newest_open.data["owner"]

    @property
    def is_waiting(self) -> bool:
        """Return whether the process that opened it last has let it go to wait for a person."""
        return any(call.held and call.row.seq > self.newest_open.seq for call in self.waiting)

    @property
    def state(self) -> str:
        """Return one word for people: its outcome, or held, running, or interrupted."""
        if self.outcome is not None:
            return self.outcome
        if any(call.held and not call.attested for call in self.waiting):
            return "held"
        return "interrupted" if is_alive(self.owner) is False else "running"


def read_progress(rows: Sequence[LedgerRow]) -> Progress | None:
    """Return where a session stands, None if it was never opened.

    Args:
        rows: every row of the session, in order, bookkeeping too.
    """
    opens = [row for row in rows if row.kind == "open"]
    if not opens:
        return None
    closed = {row.closes for row in rows if row.closes is not None}
    closes = [row for row in rows if row.kind == "close" and row.seq > opens[-1].seq]
    return Progress(
        first_open=opens[0],
        newest_open=opens[-1],
        newest=rows[-1],
        close=closes[-1] if closes else None,
        in_doubt=tuple([row for row in rows if row.kind == "reserve" and row.seq not in closed]),
        doubted=frozenset(row.doubts for row in rows if row.doubts is not None),
        waiting=tuple(_waiting_calls(rows)),
        times=tuple([datetime.fromisoformat(row.created_at) for row in rows if row.seq >= opens[0].seq]),
    )


def _waiting_calls(rows: Sequence[LedgerRow]) -> list[WaitingCall]:
    answered = {(row.turn_count, row.data["call"]) for row in rows if row.kind == "tool"}
    attested = max((row.seq for row in rows if row.kind == "attest"), default=0)
    opened = max((row.seq for row in rows if row.kind == "open"), default=0)
    found: list[WaitingCall] = []
    for row in rows:
        tools: list[dict[str, Any]] = row.data.get("tools", []) if row.kind == "llm" else []
        found.extend(
            WaitingCall(
                row=row,
                call_id=tool["id"],
                name=tool["name"],
                args_hash=tool["args_hash"],
                held=tool["held"],
                attested=attested > max(row.seq, opened),
            )
            for tool in tools
            if tool["run"] and (row.turn_count, tool["id"]) not in answered
        )
    return found
