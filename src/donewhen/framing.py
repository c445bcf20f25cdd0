"""The frame of a session, made of its rows and kept texts.

A `Record` is what one look into the ledger found; `frame_of` makes the five elements of it, the same whoever looks and
whenever, since its hash is what a reviewer signs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from donewhen.drafts import breach_of, hash_arguments
from donewhen.entry import VISIBLE_KINDS, LedgerRow
from donewhen.errors import SessionNotFoundError
from donewhen.frame import Criterion, HeldCall, ReviewFrame, is_failed_write, judge_criteria, make_diff
from donewhen.ledger import Ledger
from donewhen.policy import Grounds, Output
from donewhen.progress import Progress, WaitingCall, read_progress
from donewhen.spec_writer import QUESTIONS, SpecResult
from donewhen.stores.opening import named
from donewhen.stores.postgres_url import is_url
from donewhen.texts import hash_input

LOOKED_BACK = 50
"""How many rows back an earlier frame is looked for, to say what has changed since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the ledger says of a session, as one query found it."""

    rows: Sequence[LedgerRow]
    spec: LedgerRow
    differs: bool
    """The spec file beside the ledger holds another promise."""
    unsigned: bool
    find_text: Callable[[LedgerRow, str], str | None]
    grounds: Grounds
    """What attestations are judged on."""

    @property
    def session_id(self) -> str:
        """Return the session."""
        return self.spec.session_id


@contextmanager
def open_record(
    spec_db_path: str | os.PathLike[str], ledger_db_path: str | os.PathLike[str], session_id: str, now: datetime
) -> Generator[Record, None, None]:
    """Look at a session in its files, which are open for reading until the block ends.

    Args:
        spec_db_path: where the promise may be stored. It may be the ledger's file; what that holds counts more.
        ledger_db_path: the ledger's file.
        session_id: the session.
        now: aware UTC; what has expired by then does not count.

    Raises:
        SessionNotFoundError: there is no promise of this session, or nothing to show of it.
        LedgerError: a file cannot be read, or is not a ledger.
    """
    beside = None
    if not is_empty(spec_db_path):
        with Ledger(spec_db_path, read_only=True) as specs:
            beside = specs.find_spec(session_id)
    if is_empty(ledger_db_path):
        raise SessionNotFoundError(session_id, no_rows(ledger_db_path))
    with Ledger(ledger_db_path, read_only=True) as ledger:
        yield read_record(ledger, session_id, now=now, beside=beside)


def read_record(ledger: Ledger, session_id: str, *, now: datetime, beside: LedgerRow | None = None) -> Record:
    """Look at a session in an open ledger.

    Args:
        ledger: its kept texts are read later, when the frame is made.
        session_id: the session.
        now: aware UTC; what has expired by then does not count.
        beside: the spec row of a file beside the ledger. It counts where the ledger itself holds none.

    Raises:
        SessionNotFoundError: there is no promise of this session, or nothing to show of it.
        LedgerError: the ledger cannot be read.
    """
    rows = ledger.rows(session_id)  # one query, so one state; all that follows is about these rows
    spec = next((row for row in rows if row.kind == "spec"), beside)
    if spec is None:
        raise SessionNotFoundError(session_id, "no promise is stored for it, so there is nothing to compare")
    if not any(row.kind in VISIBLE_KINDS for row in rows):
        raise SessionNotFoundError(session_id, no_rows(ledger.path))
    return Record(
        rows=rows,
        spec=spec,
        differs=beside is not None and _answers(beside) != _answers(spec),
        unsigned=ledger.signed_by is None,
        find_text=ledger.find_text,
        # After the rows: a key that was revoked before one of them is known to be.
        grounds=Grounds.of(ledger, now),
    )


def output_of(frame: ReviewFrame) -> Output:
    """Return what is to be released of a frame: exactly the bytes that it shows."""
    return Output(frame.frame_hash, None if frame.output is None else hash_input(frame.output))


def frame_of(record: Record) -> ReviewFrame:
    """Return the five elements as a record says them.

    Raises:
        LedgerTamperedError: a kept text is not the one that was committed to.
    """
    rows = record.rows
    evidence = tuple([row for row in rows if row.kind in VISIBLE_KINDS])
    progress = read_progress(rows, record.grounds)
    promise = SpecResult(**_answers(record.spec), session_id=record.spec.session_id)
    plain = ReviewFrame(
        promise.session_id,
        promise,
        promise.done_looks_like,
        make_diff(evidence, None),
        evidence,
        tuple([line for row in rows for line in _doubts_of_write(row)]),
        evidence[-1].created_at,
        spec_hash=record.spec.data["spec_hash"],
        unsigned=record.unsigned,
    )
    return plain if progress is None else _with_progress(plain, record, progress)


def _with_progress(plain: ReviewFrame, record: Record, progress: Progress) -> ReviewFrame:
    """Return the frame of a session that donewhen ran."""
    close = progress.close
    output = None if close is None else record.find_text(close, "output")
    opened = progress.first_open.data
    terms: Mapping[str, Any] = record.spec.data.get("terms") or opened.get("terms") or {}
    frame = replace(
        plain,
        diff=make_diff(plain.evidence, output),
        spec_hash=opened["spec_hash"],
        output=output,
        criteria=tuple(judge_criteria(record.rows, terms.get("done_when", ()), output, record.find_text)),
        outcome=progress.outcome,
        reason="" if close is None else close.data["reason"],
        held_calls=tuple(_held_calls(record, progress)),
        spend=progress.balance,
        state=progress.state,
    )
    return replace(frame, unresolved_assumptions=tuple(_assumptions(frame, record, progress)))


# -- held calls ------------------------------------------------------------------------------------------------------


def _held_calls(record: Record, progress: Progress) -> Iterator[HeldCall]:
    kept: dict[int, list[Mapping[str, Any]]] = {}
    for call in progress.waiting:
        if not call.held:
            continue
        if call.row.seq not in kept:
            kept[call.row.seq] = json.loads(record.find_text(call.row, "held") or "[]")
        yield HeldCall(
            turn=call.row.turn_count,
            call_id=call.call_id,
            name=call.name,
            args_hash=call.args_hash,
            arguments=_arguments_of(call, kept[call.row.seq], keyed="input_key" in progress.first_open.data),
            call_hash=call.call_hash,
        )


def _arguments_of(call: WaitingCall, kept: list[Mapping[str, Any]], *, keyed: bool) -> str | None:
    """Return the kept arguments of a call: those that the row has the hash of, whatever else stands beside them."""
    found = [one["arguments"] for one in kept if (one["id"], one["tool"]) == (call.call_id, call.name)]
    if not keyed:
        found = [one for one in found if hash_arguments(one) == call.args_hash]
    # With an input key only its holder can work the hash out again, and whoever goes on with the session does. What a
    # reviewer is shown is the text that the reply's row commits to, and it is part of what they sign.
    return json.dumps(found[0], ensure_ascii=True, sort_keys=True) if len(found) == 1 or (found and not keyed) else None


# -- unresolved assumptions ------------------------------------------------------------------------------------------


def _assumptions(frame: ReviewFrame, record: Record, progress: Progress) -> Iterator[str]:
    """Yield what a reviewer must know that the output does not show: of rows in their order, then of the whole.

    Nothing here may depend on attestations, on the clock, or on which process is alive: it is part of the frame's hash.
    """
    in_doubt = {row.seq: row for row in progress.in_doubt}
    problems = {row.doubts: row.data["problem"] for row in record.rows if row.doubts is not None}
    for row in record.rows:
        yield from _doubts_of_write(row)
        yield from _doubts_of_reply(row)
        if row.kind == "circuit_breaker":
            yield f"Turn {row.turn_count}: {row.breach_reason}: {breach_of(row)}. What was asked for was not sent or run."
        if row.kind == "tool" and not row.pass_fail:
            problem = row.data.get("problem", "no reason is recorded")
            yield f"Turn {row.turn_count}: the tool {row.data['name']} failed ({problem})."
        if row.seq in in_doubt:
            yield _doubt_of_call(row, problems.get(row.seq))
        for call in progress.waiting:
            if call.row is row:
                yield _doubt_of_tool(call)
    yield from _doubts_of_criteria(frame.criteria)
    yield from _doubts_of_end(frame, progress)
    if record.differs:
        yield "The spec file beside the ledger holds another promise; the one shown is the ledger's."
    if record.unsigned:
        yield "The ledger is unsigned: nothing proves that its rows are the ones that were written."


def _doubts_of_write(row: LedgerRow) -> Iterator[str]:
    if row.kind != "write":
        return
    if row.breach_reason is not None:
        yield f"Turn {row.turn_count} ({row.state_origin}): breach: {row.breach_reason}."
    elif is_failed_write(row):
        yield f"Turn {row.turn_count} ({row.state_origin}): pass_fail=False, and no reason is recorded."


def _doubts_of_reply(row: LedgerRow) -> Iterator[str]:
    fault, over = row.data.get("usage_fault"), row.data.get("over_reservation")
    if fault is not None:
        charged = f"so its whole reservation of {row.token_delta} tokens was charged"
        yield f"Turn {row.turn_count}: the reply's usage cannot be believed ({fault}), {charged}."
    if over is not None:
        yield f"Turn {row.turn_count}: the reply used {over} tokens more than were reserved for it."


def _doubt_of_call(row: LedgerRow, problem: str | None) -> str:
    where = f"Turn {row.turn_count}, attempt {row.data['attempt']}"
    stands = f"its reservation of {row.data['reserve'][1]} tokens stands"
    if problem is None:
        return f"{where}: the ledger does not say what came of the call; {stands}."
    return f"{where}: nobody knows what came of the call ({problem}); {stands}."


def _doubt_of_tool(call: WaitingCall) -> str:
    if call.held:
        return f"Turn {call.row.turn_count}: the call of the tool {call.name} waits for a person; it was not run."
    return f"Turn {call.row.turn_count}: the tool {call.name} was to be run; whether it ran is not known."


def _doubts_of_criteria(criteria: Sequence[Criterion]) -> Iterator[str]:
    told = {
        "pending": "A person has to judge: {}",
        "not_met": "The check {!r} is not met",
        "error": "The check {!r} could not be judged",
        "not_run": "The check {!r} was not run on the output that waits",
    }
    for one in criteria:
        if one.outcome in told:
            sentence = told[one.outcome].format(one.name)
            yield f"{sentence}: {one.detail}" if one.detail else sentence if one.kind == "human" else f"{sentence}."


def _doubts_of_end(frame: ReviewFrame, progress: Progress) -> Iterator[str]:
    if progress.close is None:
        yield "The session has not ended."
        return
    if frame.outcome in ("failed", "halted"):
        yield f"The session ended {frame.outcome}: {frame.reason.rstrip('.')}."
    if frame.output is None and "output" in progress.close.data.get("texts", {}):
        yield "The output that the session ended with has been erased, so nobody can compare it with the promise."


# -- changes, texts and files ----------------------------------------------------------------------------------------


def what_changed(record: Record, shown: str | None) -> str:
    """Return, as far as the ledger can tell, what is new since a frame was shown."""
    rows = record.rows
    for count in range(len(rows) - 1, max(0, len(rows) - LOOKED_BACK) - 1, -1):
        if not any(row.kind in VISIBLE_KINDS for row in rows[:count]):
            break
        if frame_of(replace(record, rows=rows[:count])).frame_hash == shown:
            new = ", ".join(
                f"{row.kind} (row {row.id})" for row in rows[count:] if row.kind not in ("attest", "reject")
            )
            return f"the session has changed since this frame was shown: {new}. Look at it again, then judge it."
    return (
        f"the frame {shown} is none that this session has had in its newest {LOOKED_BACK} rows, or a text of it has "
        "been erased since. Look at it again, then judge it."
    )


def _answers(spec: LedgerRow) -> dict[str, str]:
    return {name: spec.data[name] for name in QUESTIONS}


def is_empty(path: str | os.PathLike[str]) -> bool:
    """Tell whether there is nothing in a file, or no file."""
    if is_url(path):
        return False  # what is there, the server says
    return not os.path.exists(path) or os.path.getsize(path) == 0


def no_rows(path: str | os.PathLike[str]) -> str:
    """Return the sentence for a session that has no rows."""
    return f"{named(os.fspath(path))} has no rows of it to show"
