"""Whether a session's output could be released now, read from its rows; and what was tried before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from donewhen.entry import NO_LEAF, LedgerRow, link, spell
from donewhen.errors import LedgerTamperedError
from donewhen.framing import Record, output_of
from donewhen.merkle import leaf_hash, verify_inclusion
from donewhen.notes import Checkpoint
from donewhen.policy import Judgement
from donewhen.stores.log_tree import inclusion_proof
from donewhen.texts import encode_text

if TYPE_CHECKING:
    from donewhen.frame import ReviewFrame
    from donewhen.ledger import Ledger

MOST_WHYS = 5
"""How many attestations that do not count are told with why, in one refusal."""

DONE, FAILED, BEGUN = "done", "failed", "begun"


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRelease:
    """One try to hand a session's output on."""

    row_id: int
    """Of the row that began it."""
    at: str
    """When it began; ISO 8601, UTC."""
    target: str
    output_hash: str
    state: str
    """``done``, ``failed``, or ``begun``: nobody knows what came of it, or it is under way."""
    problem: str | None
    """Why it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether a session's output could be released now."""

    session_id: str
    problem: str | None
    """Why not, in one sentence; None: it could be."""
    outcome: str | None
    """How the session ended; None: it has not."""
    frame_hash: str
    output_hash: str | None
    """Plain SHA-256 of the bytes, lower-case hex; None: no output waits."""
    size: int | None
    """Of the output, in bytes."""
    judgement: Judgement
    """What its reviewers said."""
    releases: tuple[PastRelease, ...]
    """What was tried before, oldest first."""

    @property
    def is_ready(self) -> bool:
        """Return whether it could be released."""
        return self.problem is None


def readiness_of(record: Record, frame: ReviewFrame) -> Readiness:
    """Return whether what a frame shows could be released now, and what is missing.

    Raises:
        MissingExtraError: something is signed, and the ``sign`` extra is not installed.
    """
    output = output_of(frame)
    judgement = record.grounds.judge(record.rows, output)
    return Readiness(
        session_id=record.session_id,
        problem=_problem(record, frame, judgement),
        outcome=frame.outcome,
        frame_hash=frame.frame_hash,
        output_hash=output.output_hash,
        size=None if frame.output is None else len(encode_text(frame.output)),
        judgement=judgement,
        releases=tuple([_past(record.rows, row) for row in tries(record.rows)]),
    )


def _problem(record: Record, frame: ReviewFrame, judgement: Judgement) -> str | None:
    if judgement.rejected:
        return judgement.sentence
    if frame.output is None:
        return _why_nothing_waits(record, frame)
    if judgement.released_ok:
        return None
    whys = [f"row {one.row_id} does not count: {one.why}" for one in judgement.not_counted]
    more = [f"and {len(whys) - MOST_WHYS} more do not"] if len(whys) > MOST_WHYS else []
    return "; ".join([judgement.sentence, *whys[:MOST_WHYS], *more])


def _why_nothing_waits(record: Record, frame: ReviewFrame) -> str:
    if frame.outcome is None:
        return "the session has not ended, so no output waits"
    erased = next((row for row in reversed(record.rows) if row.kind == "erase"), None)
    close = next(row for row in reversed(record.rows) if row.kind == "close")
    if "output" not in close.data.get("texts", {}):
        return f"the session ended {frame.outcome} without an output"
    by = "" if erased is None else f" by {erased.data['who']} (row {erased.id})"
    return f"its output has been erased{by}, so there is nothing to hand on"


def tries(rows: Sequence[LedgerRow]) -> list[LedgerRow]:
    """Return the rows of a session that began to hand its output on."""
    return [row for row in rows if row.kind == "release" and row.data["state"] == BEGUN]


def end_of(rows: Sequence[LedgerRow], begun: LedgerRow) -> LedgerRow | None:
    """Return the row that says what came of a try, None if none does."""
    return next((row for row in rows if row.kind == "release" and row.data.get("begun") == begun.seq), None)


def _past(rows: Sequence[LedgerRow], begun: LedgerRow) -> PastRelease:
    end = end_of(rows, begun)
    return PastRelease(
        row_id=begun.id,
        at=begun.created_at,
        target=begun.data["target"],
        output_hash=begun.data["output_hash"],
        state=BEGUN if end is None else end.data["state"],
        problem=None if end is None else end.data.get("problem"),
    )


def find_done(record: Record, frame: ReviewFrame, target: str) -> LedgerRow | None:
    """Return the row that says that this output was handed to this target; any output of it once it was erased."""
    output_hash = output_of(frame).output_hash
    if frame.outcome is None:
        return None  # whatever was handed on before, the session goes on
    for row in reversed(record.rows):
        if row.kind != "release" or row.data["state"] != DONE or row.data["target"] != target:
            continue
        if output_hash in (None, row.data["output_hash"]):
            return row
    return None


def refuse_unsealed(ledger: Ledger, rows: Sequence[LedgerRow]) -> None:
    """Refuse rows of a session that are not those under the log's newest checkpoint.

    They hang on the last one by `prev`, so its proof proves all. Whether one that is gone was the session's last, only
    `donewhen verify` can tell, which reads the whole log.

    Raises:
        LedgerTamperedError: one is not; names it.
    """
    leaf, seq = NO_LEAF, 0
    for row in rows:
        if (row.prev, row.seq) != (link(leaf), seq + 1):
            raise LedgerTamperedError("it does not follow the row before it in its session", row_id=row.id)
        leaf, seq = leaf_hash(spell(row)), row.seq
    newest = ledger.store.newest_sealed()
    if not rows:
        return
    last, size = rows[-1].id, newest.size
    # Who signed it was checked when the transaction began, or when the file was opened.
    checkpoint = Checkpoint.parse(newest.note.partition("\n\n")[0].removesuffix("\n") + "\n")
    proof = inclusion_proof(last - 1, size, ledger.store.sealed_at) if last <= size else []
    try:
        verify_inclusion(leaf, last - 1, size, proof, checkpoint.root)
    except LedgerTamperedError as error:
        raise LedgerTamperedError("it is not the row that was sealed in its place", row_id=last) from error
