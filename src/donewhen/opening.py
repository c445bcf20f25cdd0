"""Opening a session: the spec is stored and frozen before anything can be spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from donewhen.bounds import BoundKind
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.drafts import abandoned_entry
from donewhen.entry import Entry, LedgerRow, spec_hash
from donewhen.errors import SessionBusyError, SessionEndedError, SpecError
from donewhen.ledger import Answers, Draft, Ledger, spec_entry, utc_now
from donewhen.owner import is_alive, this_process
from donewhen.progress import PAUSED_OUTCOMES, STOPPED_BY_CEILING, Progress, read_progress
from donewhen.session import Session

if TYPE_CHECKING:
    from donewhen.usage import Price

ANSWERS = ("what_it_does", "what_it_does_not", "done_looks_like")


def open_session(
    spec: Answers,
    circuit_breaker: CircuitBreaker,
    ledger: Ledger,
    *,
    terms: Mapping[str, Any] | None = None,
    bound: BoundKind = "strict",
    held_tools: Iterable[str] = (),
    protect: Callable[[], Mapping[str, str]] = dict,
    find_price: Callable[[str], Price | None] | None = None,
    resume: bool = False,
    monotonic: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = utc_now,
) -> Session:
    """Open a session under a spec: the spec and its ceilings are on disk when this returns.

    A session that was interrupted goes on. Its ceilings are then the ledger's, which only a row can change.

    Args:
        spec: the three answers and the session's id.
        circuit_breaker: the ceilings of a new session, and where the notice of a breach goes.
        ledger: where the record is kept.
        terms: everything else that was agreed, as plain data; frozen with the answers.
        bound: ``strict`` or ``estimate``; see `donewhen.bounds`.
        held_tools: names of tools whose calls wait for a person.
        protect: takes the digests of protected paths; called for a new session only.
        find_price: returns the price of a model, None where it is not known.
        resume: also go on with a session that a ceiling has stopped, once one has been raised, or a halt.
        monotonic: seconds, from the clock that never goes back.
        now: aware UTC.

    Raises:
        SpecError: an answer is blank, or the spec is not the one that the session was opened with.
        SessionEndedError: the session is over, or needs `resume`, or a ceiling that is raised first.
        SessionBusyError: another live process has it.
        LedgerUnavailableError: the store could not be written.
    """
    for name in ANSWERS:
        if not getattr(spec, name).strip():
            raise SpecError("the answer is blank, and nothing runs without one", field=name)
    rows = ledger.rows(spec.session_id)
    agreed = spec_hash(spec.what_it_does, spec.what_it_does_not, spec.done_looks_like, terms)
    before = read_progress(rows)
    stored = next((row for row in rows if row.kind == "spec"), None)
    _refuse_other_answers(spec, stored)
    if before is None:
        protected = dict(protect())
        opened = _write_first_rows(spec, terms, stored, agreed, circuit_breaker, protected, ledger)
    else:
        _refuse_unless_open(spec.session_id, agreed, before, resume=resume)
        protected = dict(before.first_open.data["protected"])
        opened = _reopen(ledger, before, agreed, now())
    return Session(
        ledger=ledger,
        session_id=spec.session_id,
        before=before,
        breaker=circuit_breaker,
        bound=bound,
        elapsed_before_ms=opened.data.get("elapsed_ms", 0),
        opened_balance=opened.after[-1],
        monotonic=monotonic,
        find_price=find_price,
        held_tools=frozenset(held_tools),
        protected=protected,
    )


def _refuse_other_answers(spec: Answers, stored: LedgerRow | None) -> None:
    if stored is None:
        return
    for name in ANSWERS:
        if stored.data[name] != getattr(spec, name):
            raise SpecError(
                "the spec was changed after it was stored, and a spec is frozen; begin a new session",
                field=name,
                value=getattr(spec, name),
            )


def _refuse_unless_open(session_id: str, agreed: str, before: Progress, *, resume: bool) -> None:
    if before.first_open.data["spec_hash"] != agreed:
        raise SpecError(
            f"the spec of session {session_id} was changed after the session opened (ceilings, checks or other terms); "
            "a spec is frozen. Begin a new session, or raise a ceiling with 'donewhen raise'"
        )
    stays_stopped = before.outcome in STOPPED_BY_CEILING and not before.raised_since
    if before.outcome in PAUSED_OUTCOMES and (stays_stopped or not resume):
        raise SessionEndedError(
            session_id, before.outcome or "", "Raise its ceiling with 'donewhen raise', then resume it."
        )
    if before.outcome is not None and before.outcome not in PAUSED_OUTCOMES:
        raise SessionEndedError(session_id, before.outcome, "Begin a new session.")
    if before.outcome is None and before.owner != this_process() and is_alive(before.owner):
        raise SessionBusyError(session_id, before.owner)


def _write_first_rows(
    spec: Answers,
    terms: Mapping[str, Any] | None,
    stored: LedgerRow | None,
    agreed: str,
    circuit_breaker: CircuitBreaker,
    protected: Mapping[str, str],
    ledger: Ledger,
) -> LedgerRow:
    data: dict[str, Any] = {
        "spec_hash": agreed,
        "ceilings": circuit_breaker.ceilings.as_list(),
        "owner": this_process(),
        "resumes": False,
        "protected": protected,
    }
    drafts: list[Draft] = []
    if stored is None:
        drafts.append(Draft(spec_entry(spec, terms)))
    elif terms is not None:
        # The answers were stored by themselves; what else was agreed stands beside the ceilings.
        data["terms"] = terms
    drafts.append(Draft(Entry(kind="open", session_id=spec.session_id, state_origin="open", data=data)))
    # A crash after this leaves a session without a turn: it can be opened again.
    return ledger.note(*drafts)


def _reopen(ledger: Ledger, before: Progress, agreed: str, now: datetime) -> LedgerRow:
    """Write that the session goes on, and what its last process left in doubt."""
    session_id = before.newest.session_id
    drafts = [
        Draft(abandoned_entry(session_id, row.seq, row.turn_count, row.data["attempt"], "its process is gone"))
        for row in before.in_doubt
        if row.seq not in before.doubted
    ]
    data = {
        "spec_hash": agreed,
        "ceilings": before.balance.ceilings.as_list(),
        "owner": this_process(),
        "resumes": True,
        "elapsed_ms": before.elapsed_ms(now),
    }
    drafts.append(Draft(Entry(kind="open", session_id=session_id, state_origin="open", data=data)))
    return ledger.note(*drafts)
