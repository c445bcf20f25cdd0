"""What a reviewer is shown: five elements, as values.

A frame is made of rows and kept texts by `review_surface`. Its hash covers every field but `state`, by name, in the one
spelling of canonical JSON: two different frames never share one, and one frame has the same hash whoever looks.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from donewhen import canonical
from donewhen.balance import Balance
from donewhen.entry import LedgerRow
from donewhen.spec import CHECK_KEYS
from donewhen.texts import hash_input

if TYPE_CHECKING:
    from donewhen.spec_writer import SpecResult

__all__ = [
    "AttestationResult",
    "Criterion",
    "DiffResult",
    "HeldCall",
    "RejectionResult",
    "ReviewFrame",
    "judge_criteria",
    "make_diff",
]

_BREAKER = "circuit_breaker"

FindText = Callable[[LedgerRow, str], "str | None"]
"""Finds a text kept beside a row, by its label."""


@dataclass(frozen=True, slots=True)
class DiffResult:
    """What went in against what came out."""

    first_input: str
    """Lower-case hex SHA-256 of the first input; the input itself is not kept."""
    final_output: str
    """The output that waits. Where the ledger holds none: who wrote the last row, its `state_origin`."""
    turns_completed: int
    total_tokens: int
    """Tokens of settled calls. What is reserved for a call in doubt is in the frame's `spend`."""
    breached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One check of the promise, and what the machine says of it."""

    name: str
    kind: str
    """``shell``, ``regex``, ``json_schema``, ``call`` or ``human``."""
    outcome: str
    """``met``, ``not_met``, ``error``; ``pending``: a person has to judge; ``not_run``: not on the output that waits."""
    detail: str = ""
    """Why, as far as it is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCall:
    """A tool call that was not run, since a person has to look at it first."""

    turn: int
    call_id: str
    name: str
    args_hash: str
    arguments: str | None
    """Exactly what the tool would be called with, as JSON; held against `args_hash`. None: not kept."""
    call_hash: str = field(default="", compare=False)
    """What an attestation of it names; made of the fields above and the session, so not part of the frame's hash."""


@dataclass(frozen=True, slots=True)
class ReviewFrame:
    """The five elements that are shown to a reviewer. The first seven fields are the tutorial's."""

    session_id: str
    original_promise: SpecResult
    acceptance_criteria: str
    """What done looks like, in the words of the promise."""
    diff: DiffResult
    evidence: tuple[LedgerRow, ...]
    """The session's rows, without the bookkeeping kinds."""
    unresolved_assumptions: tuple[str, ...]
    """One sentence each. Text of the session may be inside: it is not to be trusted, nor shown unescaped."""
    created_at: str
    """The time of the newest row in `evidence`; ISO 8601, UTC."""
    spec_hash: str = field(default="", kw_only=True)
    """Lower-case hex digest of the promise with its terms."""
    output: str | None = field(default=None, kw_only=True)
    """The text that waits in the outbox, whole and as it is. None: there is none."""
    criteria: tuple[Criterion, ...] = field(default=(), kw_only=True)
    outcome: str | None = field(default=None, kw_only=True)
    """done, unmet, breached, failed or halted. None: the session has not ended."""
    reason: str = field(default="", kw_only=True)
    """Why it ended, in one sentence."""
    held_calls: tuple[HeldCall, ...] = field(default=(), kw_only=True)
    """The tool calls that have not been run and wait for a person."""
    unsigned: bool = field(default=True, kw_only=True)
    """Whether the ledger has no key."""
    spend: Balance | None = field(default=None, kw_only=True)
    """Spent, reserved and allowed. None: the session was never opened by donewhen, its rows were written by hand."""
    state: str = field(default="", kw_only=True, compare=False)
    """Its outcome, or held, running, interrupted; empty where it was never opened. Not part of the hash: whether a
    process is alive depends on when and where one looks."""

    @property
    def frame_hash(self) -> str:
        """Return the digest of all that is shown, as lower-case hex."""
        return canonical.hash_hex("frame", canonical.dumps(_plain(self)))


@dataclass(frozen=True, slots=True)
class AttestationResult:
    """A person's word that they compared a frame with the promise."""

    id: int
    """The ledger's row."""
    session_id: str
    reviewer: str
    attested_at: str
    """ISO 8601, UTC."""
    notes: str
    frame_hash: str
    """Lower-case hex digest of the frame that they saw."""
    signed: bool = field(default=False, kw_only=True)
    """Whether an envelope is with it. False: named, not proven."""
    expires_at: str | None = field(default=None, kw_only=True)
    """ISO 8601, UTC: from then on it no longer counts. None: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionResult:
    """A person's word that a frame does not keep the promise."""

    id: int
    """The ledger's row."""
    session_id: str
    reviewer: str
    rejected_at: str
    """ISO 8601, UTC."""
    reason: str
    frame_hash: str
    """Lower-case hex digest of the frame that they saw."""
    signed: bool
    """Whether an envelope is with it. False: named, not proven."""


def make_diff(rows: Sequence[LedgerRow], output: str | None) -> DiffResult:
    """Return the difference between what went in and what came out.

    Args:
        rows: the session's rows without the bookkeeping kinds, in order; at least one.
        output: the text that waits; None: the ledger holds none.
    """
    spoken = [row for row in rows if row.kind in ("llm", "error", "write")]
    return DiffResult(
        first_input=(spoken or rows)[0].input_hash,
        final_output=rows[-1].state_origin if output is None else output,
        turns_completed=sum(1 for row in rows if _is_turn(row)),
        total_tokens=sum(row.token_delta for row in rows),
        breached=any(row.breach_reason is not None or is_failed_write(row) for row in rows),
    )


def is_failed_write(row: LedgerRow) -> bool:
    """Tell whether a row written by hand says that something went wrong.

    The rows of a session that donewhen ran say so too, but of less: an attempt that was made again, a check met later.
    """
    return row.kind == "write" and not row.pass_fail


def judge_criteria(
    rows: Sequence[LedgerRow], agreed: Sequence[Mapping[str, Any]], output: str | None, find_text: FindText
) -> Iterator[Criterion]:
    """Yield each check that was agreed, with the newest that the ledger says of it, and each that was run unagreed.

    Args:
        rows: every row of the session, in order.
        agreed: the spec's ``done_when``, as plain data.
        output: the text that waits, None while there is none. What a check said of another text does not count.
        find_text: finds what a check said.
    """
    checks = [row for row in rows if row.kind == "check"]
    output_hash = _output_hash(rows, output)
    newest = [row for row in checks if row.turn_count == checks[-1].turn_count]
    if [row.data["check"] for row in newest] == [_kind_of(one) for one in agreed]:
        # The checks of a turn are written in the order of the spec, where two may have one name or none.
        for one, row in zip(agreed, newest, strict=True):
            yield _criterion(one, row, output_hash, find_text)
        return
    by_name = {row.data["name"]: row for row in checks}
    for one in agreed:
        yield _criterion(one, by_name.pop(_name_of(one), None), output_hash, find_text)
    for row in by_name.values():
        yield _criterion({"check": row.data["check"], "name": row.data["name"]}, row, output_hash, find_text)


def _output_hash(rows: Sequence[LedgerRow], output: str | None) -> str | None:
    """Return the hash of the output that waits, as the rows of checks have it; None while there is none."""
    if output is None:
        return None
    # With an input key the row that ended the session says the hash, since a reviewer cannot work it out.
    stated = next((row.input_hash for row in reversed(rows) if row.kind == "close"), "")
    return stated or hash_input(output)


def _criterion(
    one: Mapping[str, Any], row: LedgerRow | None, output_hash: str | None, find_text: FindText
) -> Criterion:
    kind = _kind_of(one)
    if row is None:
        return Criterion(name=_name_of(one), kind=kind, outcome="pending" if kind == "human" else "not_run")
    name, outcome = row.data["name"], row.data["outcome"]
    if kind == "human":
        # The row's name is cut and on one line; what a person has to judge is the whole criterion.
        return Criterion(name=str(one.get("criterion", name)), kind=kind, outcome=outcome)
    if output_hash is not None and row.input_hash != output_hash:
        # A ceiling may stop a session after its last checks; what they said is not about the text that waits.
        detail = f"{outcome} by the output of turn {row.turn_count}, which is not the one that waits"
        return Criterion(name=name, kind=kind, outcome="not_run", detail=detail)
    return Criterion(name=name, kind=kind, outcome=outcome, detail=find_text(row, "detail") or "")


def _kind_of(described: Mapping[str, Any]) -> str:
    return str(described.get("check", "call"))


def _name_of(described: Mapping[str, Any]) -> str:
    kind = _kind_of(described)
    main: object = described.get(CHECK_KEYS.get(kind, ""))
    if kind == "human":
        return str(main)
    return str(described.get("name") or f"{kind}: {main if isinstance(main, str) else json.dumps(main)}")


def _is_turn(row: LedgerRow) -> bool:
    return row.kind == "llm" or (row.kind == "write" and row.state_origin != _BREAKER)


def _is_framed(part: dataclasses.Field[Any]) -> bool:
    return part.compare and part.metadata.get("framed", True)


def _plain(value: object) -> object:
    """Return a value as data that canonical JSON can spell; what has a name keeps it."""
    if dataclasses.is_dataclass(value):
        return {part.name: _plain(getattr(value, part.name)) for part in dataclasses.fields(value) if _is_framed(part)}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in cast("Sequence[object]", value)]
    if isinstance(value, int) and abs(value) > canonical.MAX_INT:
        # Only a sum can be so large. Where a number stands no text can, so this is no second spelling of anything.
        return str(value)
    return value
