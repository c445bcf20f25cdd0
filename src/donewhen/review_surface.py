"""The last thing before an output is used: a person compares it with the promise.

`load` gives the five elements as a value, `render` as text, `attest` writes that a person compared them. Reading needs
no key and never writes, nor makes a file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from donewhen.drafts import breach_of, hash_arguments
from donewhen.entry import VISIBLE_KINDS, Entry, LedgerRow
from donewhen.errors import FrameChangedError, SessionNotFoundError
from donewhen.frame import (
    AttestationResult,
    Criterion,
    DiffResult,
    HeldCall,
    ReviewFrame,
    is_failed_write,
    judge_criteria,
    make_diff,
)
from donewhen.ledger import Ledger
from donewhen.progress import Progress, WaitingCall, read_progress
from donewhen.render import render_frame
from donewhen.spec_writer import QUESTIONS, SpecResult, is_blank, text_fault

if TYPE_CHECKING:
    from donewhen.notes import Signer

__all__ = ["AttestationResult", "DiffResult", "ReviewFrame", "ReviewSurface", "SessionNotFoundError"]

LOOKED_BACK = 50
"""How many rows back an earlier frame is looked for, to say what has changed since."""


class ReviewSurface:
    """Show what a session promised and what came of it, and keep the word of those who looked.

    Args:
        spec_db_path: where `SpecWriter` stored the promise. It may be the ledger's file; a promise that the ledger
            itself holds is the one that counts.
        ledger_db_path: the ledger's file.
        signer: signs the ledger where it is a signed one, to attest. Reading needs none.
    """

    def __init__(
        self,
        spec_db_path: str | os.PathLike[str] = "spec.db",
        ledger_db_path: str | os.PathLike[str] = "ledger.db",
        *,
        signer: Signer | None = None,
    ) -> None:
        self.spec_db_path = spec_db_path
        self.ledger_db_path = ledger_db_path
        self._signer = signer

    def load(self, session_id: str) -> ReviewFrame:
        """Return the five elements as they are now.

        Raises:
            SessionNotFoundError: there is no promise of this session, or nothing to show of it.
            LedgerTamperedError: a kept text is not the one that was committed to.
            LedgerError: a file cannot be read, or is not a ledger.
        """
        with self._record(session_id) as record:
            return _frame_of(record)

    def render(self, session_id: str, *, width: int = 100, max_lines: int | None = None) -> str:
        """Return the five elements as text, always in the same order.

        Args:
            width: columns of the terminal.
            max_lines: the most lines of each text of the session; None: all.

        Raises:
            The errors of `load`.
        """
        return render_frame(self.load(session_id), width=width, max_lines=max_lines)

    def attest(
        self, session_id: str, reviewer: str, notes: str = "", *, frame_hash: str | None = None
    ) -> AttestationResult:
        """Write that a person compared the frame with the promise.

        Args:
            reviewer: who says so. Nothing proves it yet: an attestation is a name, unsigned.
            notes: in the reviewer's words.
            frame_hash: of the frame that was shown, which is refused if it is no longer this one. None: whatever the
                frame is now.

        Raises:
            ValueError: the reviewer is blank, or a text cannot be stored.
            FrameChangedError: the frame is not the one that was shown; says what is new. Nothing is written.
            LedgerUnavailableError: the store could not be written; says what is and is not stored.
            LedgerError: the ledger is signed, and its key was not handed in.
            The errors of `load`.
        """
        _refuse_bad_text(reviewer, notes)
        if _is_empty(self.ledger_db_path):
            raise SessionNotFoundError(session_id, _no_rows(self.ledger_db_path))
        with Ledger(self.ledger_db_path, signer=self._signer) as ledger, ledger.store.writing() as transaction:
            # Nobody else can write a row until this one is written, so it is the newest frame that is attested: a tool
            # call held meanwhile would otherwise count as seen. What can still slip in between: a text that is erased,
            # which no lock covers, and a promise stored only now in a spec file beside the ledger.
            with self._record(session_id) as record:
                shown = _frame_of(record).frame_hash
            row = None
            if frame_hash in (None, shown):
                data = {"reviewer": reviewer, "frame_hash": shown, "notes": notes}
                entry = Entry(kind="attest", session_id=session_id, state_origin="attest", data=data)
                row = transaction.append(entry, record.rows[-1].after)
        # A crash before this line leaves either no attestation or a whole one, which the next look shows.
        if row is not None:
            return _attestation_of(row)
        with self._record(session_id) as record:
            raise FrameChangedError(_what_changed(record, frame_hash))

    def get_attestations(self, session_id: str) -> list[AttestationResult]:
        """Return the attestations of a session, oldest first; empty if there is none.

        Raises:
            LedgerError: the file cannot be read, or is not a ledger.
        """
        if _is_empty(self.ledger_db_path):
            return []
        with Ledger(self.ledger_db_path, read_only=True) as ledger:
            return [_attestation_of(row) for row in ledger.rows(session_id) if row.kind == "attest"]

    @contextmanager
    def _record(self, session_id: str) -> Generator[_Record, None, None]:
        beside = None
        if not _is_empty(self.spec_db_path):
            with Ledger(self.spec_db_path, read_only=True) as specs:
                beside = specs.find_spec(session_id)
        if _is_empty(self.ledger_db_path):
            raise SessionNotFoundError(session_id, _no_rows(self.ledger_db_path))
        with Ledger(self.ledger_db_path, read_only=True) as ledger:
            rows = ledger.rows(session_id)  # one query, so one state; all that follows is about these rows
            spec = next((row for row in rows if row.kind == "spec"), beside)
            if spec is None:
                raise SessionNotFoundError(session_id, "no promise is stored for it, so there is nothing to compare")
            if not any(row.kind in VISIBLE_KINDS for row in rows):
                raise SessionNotFoundError(session_id, _no_rows(self.ledger_db_path))
            yield _Record(
                rows=rows,
                spec=spec,
                differs=beside is not None and _answers(beside) != _answers(spec),
                unsigned=ledger.signed_by is None,
                find_text=ledger.find_text,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What the ledger says of a session, as one query found it."""

    rows: Sequence[LedgerRow]
    spec: LedgerRow
    differs: bool
    """The spec file beside the ledger holds another promise."""
    unsigned: bool
    find_text: Callable[[LedgerRow, str], str | None]


def _frame_of(record: _Record) -> ReviewFrame:
    rows = record.rows
    evidence = tuple([row for row in rows if row.kind in VISIBLE_KINDS])
    progress = read_progress(rows)
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


def _with_progress(plain: ReviewFrame, record: _Record, progress: Progress) -> ReviewFrame:
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


def _held_calls(record: _Record, progress: Progress) -> Iterator[HeldCall]:
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
            arguments=_arguments_of(call, kept[call.row.seq]),
        )


def _arguments_of(call: WaitingCall, kept: list[Mapping[str, Any]]) -> str | None:
    """Return the kept arguments of a call: those that the row has the hash of, whatever else stands beside them."""
    for one in kept:
        if (one["id"], one["tool"]) == (call.call_id, call.name) and hash_arguments(one["arguments"]) == call.args_hash:
            return json.dumps(one["arguments"], ensure_ascii=True, sort_keys=True)
    return None


# -- unresolved assumptions ------------------------------------------------------------------------------------------


def _assumptions(frame: ReviewFrame, record: _Record, progress: Progress) -> Iterator[str]:
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


def _what_changed(record: _Record, shown: str | None) -> str:
    """Return, as far as the ledger can tell, what is new since a frame was shown."""
    rows = record.rows
    for count in range(len(rows) - 1, max(0, len(rows) - LOOKED_BACK) - 1, -1):
        if not any(row.kind in VISIBLE_KINDS for row in rows[:count]):
            break
        if _frame_of(replace(record, rows=rows[:count])).frame_hash == shown:
            new = ", ".join(f"{row.kind} (row {row.id})" for row in rows[count:] if row.kind != "attest")
            return f"the session has changed since this frame was shown: {new}. Look at it again, then attest."
    return (
        f"the frame {shown} is none that this session has had in its newest {LOOKED_BACK} rows, or a text of it has "
        "been erased since. Look at it again, then attest."
    )


def _answers(spec: LedgerRow) -> dict[str, str]:
    return {name: spec.data[name] for name in QUESTIONS}


def _attestation_of(row: LedgerRow) -> AttestationResult:
    data = row.data
    return AttestationResult(
        row.id, row.session_id, data["reviewer"], row.created_at, data["notes"], data["frame_hash"]
    )


def _refuse_bad_text(reviewer: str, notes: str) -> None:
    if is_blank(reviewer):
        raise ValueError("reviewer is blank: an attestation needs a name")
    for name, text in (("reviewer", reviewer), ("notes", notes)):
        fault = text_fault(text)
        if fault is not None:
            raise ValueError(f"{name} cannot be stored: {fault}")


def _is_empty(path: str | os.PathLike[str]) -> bool:
    return not os.path.exists(path) or os.path.getsize(path) == 0


def _no_rows(path: str | os.PathLike[str]) -> str:
    return f"{os.fspath(path)} has no rows of it to show"
