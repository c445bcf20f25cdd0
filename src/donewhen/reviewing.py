"""What a reviewer says of a frame: made into a statement, held against the ledger, and read back from its row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from donewhen.attestation import VERDICTS, Statement, expiry
from donewhen.entry import LedgerRow
from donewhen.errors import AttestationError
from donewhen.frame import AttestationResult, HeldCall, RejectionResult, ReviewFrame
from donewhen.framing import Record, frame_of, output_of
from donewhen.policy import Judgement, Policy, policy_of
from donewhen.progress import read_progress
from donewhen.spec_writer import is_blank, text_fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the review of a session stands."""

    frame: ReviewFrame
    policy: Policy
    output: Judgement
    """Of the frame, and of the output in it where one waits."""
    calls: tuple[tuple[HeldCall, Judgement], ...]
    """Of each held call that has not been run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What somebody is about to say of a session.

    Raises:
        ValueError: the reviewer or a reason is blank, or a text cannot be stored.
    """

    decision: str
    """``attest`` or ``reject``."""
    reviewer: str
    words: str
    """The notes, or the reason."""
    frame_hash: str | None = None
    """Of the frame that was shown. None: whatever it is now."""
    verdicts: Mapping[str, str] | None = None
    """By criterion. None: as the machine sees it, and what only a person can judge is met by attesting."""
    calls: Sequence[str] | None = None
    """The ids of held calls. None: all that the frame shows."""

    def __post_init__(self) -> None:
        names = {"reviewer": self.reviewer, "reason" if self.decision == "reject" else "notes": self.words}
        if is_blank(self.reviewer):
            raise ValueError("reviewer is blank: an attestation needs a name")
        if self.decision == "reject" and is_blank(self.words):
            raise ValueError("reason is blank: whoever rejects says why")
        for name, text in names.items():
            fault = text_fault(text)
            if fault is not None:
                raise ValueError(f"{name} cannot be stored: {fault}")


def standing_of(record: Record) -> Standing:
    """Return where the review of a session stands.

    Raises:
        LedgerTamperedError: a kept text is not the one that was committed to.
        MissingExtraError: something is signed, and the ``sign`` extra is not installed.
    """
    frame, progress = frame_of(record), read_progress(record.rows, record.grounds)
    waiting = () if progress is None else progress.waiting
    judged = {call.call_hash: call.judgement for call in waiting if call.judgement is not None}
    return Standing(
        frame=frame,
        policy=policy_of(record.rows),
        output=record.grounds.judge(record.rows, output_of(frame)),
        calls=tuple([(call, judged[call.call_hash]) for call in frame.held_calls]),
    )


def statement_of(record: Record, word: Word, now: datetime) -> Statement | None:
    """Return what is said, None if it is about another frame than the one that was shown.

    Args:
        record: the session as it is.
        word: what is said of it.
        now: aware; the reviewer's clock.

    Raises:
        ValueError: a verdict, criterion or call is none of the frame's.
        LedgerTamperedError: a kept text is not the one that was committed to.
    """
    frame, at = frame_of(record), now.astimezone(timezone.utc)
    if word.frame_hash not in (None, frame.frame_hash):
        return None
    attests = word.decision == "attest"
    return Statement(
        decision=word.decision,
        reviewer=word.reviewer,
        session_id=record.session_id,
        origin=record.grounds.origin,
        frame_hash=frame.frame_hash,
        output_hash=output_of(frame).output_hash,
        calls=_calls_of(frame, word.calls),
        verdicts=_verdicts_of(frame, word.verdicts or {}, attests=attests),
        words=word.words,
        expires_at=expiry(at, policy_of(record.rows).expiry_hours) if attests else None,
        at=at.isoformat(),
    )


def is_of_now(record: Record, statement: Statement) -> bool:
    """Tell whether a statement that was signed elsewhere is about the frame as it is now.

    Raises:
        AttestationError: it is about another log, output or call.
    """
    if statement.origin != record.grounds.origin:
        raise AttestationError(
            f"it was signed for another log, {statement.origin}; this one is {record.grounds.origin}"
        )
    frame = frame_of(record)
    if statement.frame_hash != frame.frame_hash:
        return False
    if statement.output_hash != output_of(frame).output_hash:
        raise AttestationError("it is about another output than the one that waits")
    if not set(_calls_of(frame, None)).issuperset(statement.calls):
        raise AttestationError("it names a held call that does not wait")
    return True


def refuse_uncounted(record: Record, row: LedgerRow) -> None:
    """Refuse a row that is about to be stored and would change nothing.

    Args:
        record: the session before the row.
        row: in its place.

    Raises:
        AttestationError: it does not count; says why in one sentence.
    """
    subject = output_of(frame_of(record))
    before = record.grounds.judge(record.rows, subject)
    after = record.grounds.judge([*record.rows, row], subject)
    # One that takes back its maker's own rejection counts too, even where it does not count for anything else.
    if row.id in {word.row_id for word in (*after.counted, *after.rejected)} or before.rejected != after.rejected:
        return
    why = next((one.why for one in after.not_counted if one.row_id == row.id), "it does not count")
    raise AttestationError(why)


def attestation_of(row: LedgerRow) -> AttestationResult:
    """Return the attestation in a row."""
    data = row.data
    return AttestationResult(
        row.id,
        row.session_id,
        data["reviewer"],
        row.created_at,
        data["notes"],
        data["frame_hash"],
        signed="envelope" in data,
        expires_at=data.get("expires_at"),
    )


def rejection_of(row: LedgerRow) -> RejectionResult:
    """Return the rejection in a row."""
    data = row.data
    return RejectionResult(
        id=row.id,
        session_id=row.session_id,
        reviewer=data["reviewer"],
        rejected_at=row.created_at,
        reason=data["reason"],
        frame_hash=data["frame_hash"],
        signed="envelope" in data,
    )


def _calls_of(frame: ReviewFrame, wanted: Sequence[str] | None) -> tuple[tuple[str, str], ...]:
    known = {call.call_id for call in frame.held_calls}
    for call_id in wanted or ():
        if call_id not in known:
            raise ValueError(
                f"there is no held call {call_id!r} in the frame; it has {', '.join(sorted(known)) or 'none'}"
            )
    return tuple(
        [
            (_storable(call.call_id), call.call_hash)
            for call in frame.held_calls
            if wanted is None or call.call_id in wanted
        ]
    )


def _verdicts_of(frame: ReviewFrame, said: Mapping[str, str], *, attests: bool) -> tuple[tuple[str, str], ...]:
    """Return a verdict for each criterion: what the reviewer says, else what follows from what is known."""
    known = [(one.name, one.outcome) for one in frame.criteria] or [(frame.acceptance_criteria, "pending")]
    names = {name for name, _ in known}
    for name, verdict in said.items():
        if name not in names:
            raise ValueError(f"there is no criterion {name!r} in the frame")
        if verdict not in VERDICTS:
            raise ValueError(f"the verdict on {name!r} is {verdict!r}, none of {', '.join(VERDICTS)}")
    by_person = "met" if attests else "not_judged"
    usual = {"met": "met", "not_met": "not_met", "pending": by_person}
    return tuple([(_storable(name), said.get(name, usual.get(outcome, "not_judged"))) for name, outcome in known])


def _storable(name: str) -> str:
    """Return a name that a model may have made as every reader of JSON can hold it."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\ufffd")
