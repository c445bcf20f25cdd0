"""What becomes of held tool calls when a session goes on: those that a person let pass are run, the others refused."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from donewhen.client import ToolCall
from donewhen.drafts import hash_arguments, short, tool_draft
from donewhen.entry import LOG_SESSION
from donewhen.errors import LedgerTamperedError
from donewhen.outbox.readiness import refuse_unsealed
from donewhen.policy import Grounds
from donewhen.progress import WaitingCall, read_progress
from donewhen.steps import Step, Write
from donewhen.tools import ToolResult

if TYPE_CHECKING:
    from donewhen.ledger import Ledger
    from donewhen.session import Session

TURNED_DOWN = "A person refused this call, so it was not run. Do not ask for it again unchanged. They said: {}"
PROBLEM = "a reviewer refused it, and it was not run"

Waiting = Mapping[str, WaitingCall]
"""The calls as the ledger has them, by call id."""


def turn_down(
    session: Session, calls: Sequence[ToolCall], waiting: Waiting
) -> Generator[Step, Any, dict[str, ToolResult]]:
    """Write which held calls a person has refused, and return what the model is told of them, by call id.

    This is the last moment to refuse one: whoever comes later finds it running.

    Args:
        session: that the calls are of.
        calls: the held calls of the newest reply, as they would be run.
        waiting: the calls as the ledger has them.

    Raises:
        LedgerTamperedError: a call in the kept conversation is not the one that was looked at, or a row that lets one
            pass is not the one that was sealed in its place.
        LedgerUnavailableError: the store could not be read or written.
    """
    if not calls:
        return {}
    refuse_changed(session, calls, waiting)
    whys: Mapping[str, str] = yield Write(lambda: find_refusals(session.ledger, session.session_id))
    refused = [call for call in calls if call.id in whys]
    results = {call.id: ToolResult(TURNED_DOWN.format(whys[call.id]), True) for call in refused}
    drafts = [
        tool_draft(
            session.session_id,
            waiting[call.id].row.turn_count,
            call,
            results[call.id].content,
            PROBLEM,
            0,
            session.ledger.hasher,
            keep=True,
        )
        for call in refused
    ]
    if drafts:
        yield Write(lambda: session.note(*drafts))
    return results


def find_refusals(ledger: Ledger, session_id: str) -> dict[str, str]:
    """Return who refused which held call of the newest reply and why, by call id, as the ledger says at this moment.

    Raises:
        LedgerTamperedError: the rows are not those that were sealed, or do not let the calls pass that the newest
            opening took up.
        LedgerUnavailableError: the store cannot be read.
    """
    rows = ledger.rows(session_id)
    refuse_unsealed(ledger, rows)
    refuse_unsealed(ledger, ledger.rows(LOG_SESSION))
    opened = next(row for row in reversed(rows) if row.kind == "open")
    grounds = Grounds.of(ledger, datetime.fromisoformat(opened.created_at))
    earlier = rows[: opened.seq - 1]
    # Whoever opened it has judged what had expired, by a clock that nobody can ask again.
    then = replace(grounds, now=datetime.fromisoformat(earlier[-1].created_at))
    before = read_progress(earlier, then)
    runs: list[str] = opened.data.get("runs", [])
    if runs and (before is None or not set(before.runs_now).issuperset(runs)):
        raise LedgerTamperedError("it takes up calls that nobody let pass; none was run", row_id=opened.id)
    progress = read_progress(rows, grounds)
    held = () if progress is None else progress.held_now
    return {call.call_id: call.refusal for call in held if call.refusal is not None}


def refuse_changed(session: Session, calls: Sequence[ToolCall], waiting: Waiting) -> None:
    """Refuse to go on where a call in the kept conversation is not the one that was looked at.

    Args:
        session: that the calls are of.
        calls: as they would be run.
        waiting: the calls as the ledger has them.

    Raises:
        LedgerTamperedError: the tool or its arguments are others; names the row of the reply.
    """
    for call in calls:
        seen = waiting[call.id]
        if (seen.name, seen.args_hash) != (short(call.name), hash_arguments(call.arguments, session.ledger.hasher)):
            problem = f"the kept conversation asks for another call of {call.name} than the row says; it was not run"
            raise LedgerTamperedError(problem, row_id=seen.row.id)
