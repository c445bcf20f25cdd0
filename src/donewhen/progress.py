"""What the rows of a session say about where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from donewhen.attestation import call_hash
from donewhen.balance import Balance, Breach
from donewhen.drafts import breach_of
from donewhen.entry import LedgerRow
from donewhen.keyring import Keyring
from donewhen.owner import is_alive
from donewhen.policy import Call, Grounds, Judgement

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
    call_hash: str
    """What an attestation of it names."""
    judgement: Judgement | None
    """What reviewers said of it since it was asked for, and since a process last took it up on that: the one that did
    may have run the call. None: it was not held."""

    @property
    def attested(self) -> bool:
        """Return whether as many reviewers as the policy asks for let it be run."""
        return self.judgement is not None and self.judgement.released_ok

    @property
    def refusal(self) -> str | None:
        """Return who refused it and why, None if nobody did."""
        if self.judgement is None or not self.judgement.rejected:
            return None
        return "; ".join(f"{one.reviewer}: {one.words}" for one in self.judgement.rejected)

    @property
    def is_decided(self) -> bool:
        """Return whether nobody has to look at it any more: it may be run, or was refused."""
        return self.attested or self.refusal is not None


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
    newest_breach: Breach | None
    """The ceiling that stopped it last; None: none has."""
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

    @property
    def held_now(self) -> tuple[WaitingCall, ...]:
        """Return the held calls of the newest reply."""
        return tuple(call for call in self.waiting_now.values() if call.held)

    @property
    def runs_now(self) -> tuple[str, ...]:
        """Return the digests of the held calls that a process which goes on now runs: none while one is undecided."""
        held = self.held_now
        return tuple(call.call_hash for call in held if call.attested) if all(c.is_decided for c in held) else ()

    def elapsed_ms(self, now: datetime) -> int:
        """Return the milliseconds since the first opening. A clock that was set back in between gives no time back."""
        steps = [max(timedelta(0), later - time) for time, later in pairwise([*self.times, now])]
        return sum(steps, timedelta(0)) // timedelta(milliseconds=1)

    @property
    def raised_since(self) -> bool:
        """Return whether a ceiling was changed after the session had ended."""
        return self.close is not None and self.close.after[-1].ceilings != self.balance.ceilings

    @property
    def stays_stopped(self) -> bool:
        """Return whether a ceiling of its own stopped it, and has not been changed since."""
        breach = self.newest_breach
        is_shared = breach is not None and bool(breach.whose)
        return self.outcome in STOPPED_BY_CEILING and not self.raised_since and not is_shared

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
        if self.balance.halted and self.outcome in (None, *PAUSED_OUTCOMES):
            return "halted"
        if self.outcome is not None:
            return self.outcome
        if any(call.held and not call.is_decided for call in self.waiting):
            return "held"
        return "interrupted" if is_alive(self.owner) is False else "running"


def read_progress(rows: Sequence[LedgerRow], grounds: Grounds | None = None) -> Progress | None:
    """Return where a session stands, None if it was never opened.

    Args:
        rows: every row of the session, in order, bookkeeping too.
        grounds: what attestations of held calls are judged on. None: nothing that is signed counts, since nobody says
            whose keys are whose.
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
        waiting=tuple(_waiting_calls(rows, grounds or _nobodys(rows[-1]))),
        newest_breach=next((breach_of(row) for row in reversed(rows) if row.kind == "circuit_breaker"), None),
        times=tuple([datetime.fromisoformat(row.created_at) for row in rows if row.seq >= opens[0].seq]),
    )


def _nobodys(newest: LedgerRow) -> Grounds:
    return Grounds(keyring=Keyring(()), origin="", now=datetime.fromisoformat(newest.created_at))


def _waiting_calls(rows: Sequence[LedgerRow], grounds: Grounds) -> list[WaitingCall]:
    answered = {(row.turn_count, row.data["call"]) for row in rows if row.kind == "tool"}
    found: list[WaitingCall] = []
    for row in rows:
        tools: list[dict[str, Any]] = row.data.get("tools", []) if row.kind == "llm" else []
        found.extend(
            _waiting_call(rows, row, tool, grounds)
            for tool in tools
            if tool["run"] and (row.turn_count, tool["id"]) not in answered
        )
    return found


def _waiting_call(
    rows: Sequence[LedgerRow], asked: LedgerRow, tool: Mapping[str, Any], grounds: Grounds
) -> WaitingCall:
    digest = call_hash(asked.session_id, asked.turn_count, tool["id"], tool["name"], tool["args_hash"])
    taken_up = max((row.seq for row in rows if row.kind == "open" and digest in row.data.get("runs", ())), default=0)
    subject = Call(digest, asked_seq=asked.seq, taken_up_seq=taken_up)
    return WaitingCall(
        row=asked,
        call_id=tool["id"],
        name=tool["name"],
        args_hash=tool["args_hash"],
        held=tool["held"],
        call_hash=digest,
        judgement=grounds.judge(rows, subject) if tool["held"] else None,
    )
