"""Opening a session: the spec is stored and frozen before anything can be spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from donewhen import arguments
from donewhen.balance import Ceilings
from donewhen.bounds import BoundKind
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.drafts import abandoned_entry
from donewhen.entry import Entry, LedgerRow, spec_hash
from donewhen.errors import LedgerError, SessionBusyError, SessionEndedError, SpecError
from donewhen.ledger import Answers, Draft, Ledger, spec_entry, utc_now
from donewhen.ledger_budgets import halted_error
from donewhen.owner import LIVE, is_alive, runs_here, this_process, this_user
from donewhen.policy import Grounds, policy_data
from donewhen.progress import PAUSED_OUTCOMES, Progress, read_progress
from donewhen.repeats import Repeats, repeats_of
from donewhen.session import Session
from donewhen.spec_prices import agreed_price
from donewhen.spec_writer import is_blank

if TYPE_CHECKING:
    from donewhen.keyring import Keyring
    from donewhen.usage import Price

_ABOVE = ("budget", "parent")

UNREACHABLE = "whether its process still runs is not known here"

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
    budget: str | None = None,
    parent: Session | None = None,
    started_by: str | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = utc_now,
) -> Session:
    """Open a session under a spec: the spec, who may review it, and its ceilings are on disk when this returns.

    A session that was interrupted goes on. Its ceilings are then the ledger's, which only a row can change.

    Args:
        spec: the three answers and the session's id.
        circuit_breaker: the ceilings of a new session, and where the notice of a breach goes.
        ledger: where the record is kept.
        terms: everything else that was agreed, as plain data; frozen with the answers.
        bound: ``strict`` or ``estimate``; see `donewhen.bounds`.
        held_tools: names of tools whose calls wait for a person.
        protect: takes the digests of protected paths; called for a new session only.
        find_price: returns the price of a model, None where it is not known. One that the terms say goes before it.
        resume: also go on with a session that a ceiling has stopped, once one has been raised, or a halt.
        budget: the budget that the session stands under, as ``Ledger.new_budget`` began it. Fixed when it first opens.
        parent: the session that it is a child of; see `Session.child`. It then stands where its parent does.
        started_by: who starts a new session, and so may not attest it unless the spec says so. None: the user that
            this process runs as.
        monotonic: seconds, from the clock that never goes back.
        now: aware UTC.

    Raises:
        SpecError: an answer is blank, the spec or the budget is not the one that the session was opened with, or nobody
            could ever attest the session.
        BudgetNotFoundError: there is no such budget.
        SessionEndedError: the session is over, or needs `resume`, or a ceiling that is raised first.
        HaltedError: a person has halted it, and nobody has lifted that.
        SessionBusyError: another live process has it.
        LedgerUnavailableError: the store could not be written.
    """
    for name in ANSWERS:
        if is_blank(getattr(spec, name)):
            raise SpecError("the answer is blank, and nothing runs without one", field=name)
    opening = _Opening(
        spec,
        terms,
        circuit_breaker.ceilings,
        ledger,
        resume=resume,
        above=_above(budget, parent),
        started_by=this_user() if started_by is None else arguments.text("started_by", started_by),
        now=now,
    )
    if not any(row.kind == "open" for row in ledger.rows(spec.session_id)):
        opening.protected = dict(protect())  # before the transaction: it may be slow, and may fail
    try:
        opened = ledger.note_after(spec.session_id, opening.decide)
    except BaseException:
        opening.left = True  # it has claimed nothing: the rows are not stored, or nobody knows
        raise
    # A crash here leaves a session without a turn: it can be opened again.
    session = Session(
        ledger=ledger,
        session_id=spec.session_id,
        before=opening.before,
        breaker=circuit_breaker,
        bound=bound,
        elapsed_before_ms=opened.data.get("elapsed_ms", 0),
        opened=opened,
        repeats=opening.repeats,
        monotonic=monotonic,
        find_price=agreed_price(terms, find_price),
        open_child=_open_child,
        held_tools=frozenset(held_tools),
        protected=opening.protected,
    )
    LIVE[ledger.origin, spec.session_id] = session  # nobody else in this process may open it
    return session


class _Opening:
    """What is decided, in one transaction, about a session that somebody wants to open."""

    def __init__(
        self,
        spec: Answers,
        terms: Mapping[str, Any] | None,
        ceilings: Ceilings,
        ledger: Ledger,
        *,
        resume: bool,
        above: Mapping[str, str],
        started_by: str,
        now: Callable[[], datetime],
    ) -> None:
        self.spec = spec
        self.terms = terms
        self.ceilings = ceilings
        self.ledger = ledger
        self.resume = resume
        self.above = above
        self.started_by = started_by
        self.now = now
        self.left = False
        self.agreed = spec_hash(spec.what_it_does, spec.what_it_does_not, spec.done_looks_like, terms)
        self.protected: dict[str, str] = {}
        self.before: Progress | None = None
        self.repeats = Repeats()

    def decide(self, rows: list[LedgerRow]) -> list[Draft]:
        """Return what is to be written to open the session, or refuse."""
        stored = next((row for row in rows if row.kind == "spec"), None)
        _refuse_other_answers(self.spec, stored)
        # Nobody else can write a row until this session is open, so what reviewers said by now is what counts.
        grounds = Grounds.of(self.ledger, self.now())
        self.before = before = read_progress(rows, grounds)
        if before is None:
            drafts = self._first_rows(stored, grounds.keyring)
            self._claim()
            return drafts
        self._refuse_unless_open(before)
        self._claim()
        self.protected = dict(before.first_open.data["protected"])
        self.repeats = repeats_of(rows)
        return self._reopening_rows(before)

    def _refuse_unless_open(self, before: Progress) -> None:
        session_id = self.spec.session_id
        if before.first_open.data["spec_hash"] != self.agreed:
            raise SpecError(
                f"the spec of session {session_id} was changed after the session opened (ceilings, checks or other "
                "terms); a spec is frozen. Begin a new session, or raise a ceiling with 'donewhen raise'"
            )
        opened_under = {name: before.first_open.data[name] for name in _ABOVE if name in before.first_open.data}
        if opened_under != self.above:
            raise SpecError(
                f"session {session_id} was opened under {_told(opened_under)}, not under {_told(self.above)}, and where "
                "it stands is frozen"
            )
        if before.first_open.data.get("input_key") != self.ledger.hasher.key_id:
            raise LedgerError(
                f"session {session_id} was opened with another input key, or without one, so nothing that it hashes "
                "now could be compared with what it hashed then. Hand in the input key that it was opened with"
            )
        if before.balance.halted:
            raise halted_error(self.ledger, session_id, session_id)
        if before.outcome in PAUSED_OUTCOMES and (before.stays_stopped or not self.resume):
            raise SessionEndedError(session_id, before.outcome or "", _advice(before))
        if before.outcome is not None and before.outcome not in PAUSED_OUTCOMES:
            raise SessionEndedError(session_id, before.outcome, "Begin a new session.")
        if before.outcome is None and self._is_busy(before):
            raise SessionBusyError(session_id, before.owner)

    def _is_busy(self, before: Progress) -> bool:
        if before.owner == this_process():
            return runs_here(self.ledger.origin, self.spec.session_id)
        # A session that waits for a person has been let go of, even where its process goes on with something else.
        return bool(is_alive(before.owner)) and not before.is_waiting

    def _claim(self) -> None:
        # Within the transaction: another thread that comes right after it must find the session taken.
        LIVE[self.ledger.origin, self.spec.session_id] = self

    def _first_rows(self, stored: LedgerRow | None, keyring: Keyring) -> list[Draft]:
        data: dict[str, Any] = {
            "spec_hash": self.agreed,
            "ceilings": self.ceilings.as_list(),
            "owner": this_process(),
            "resumes": False,
            "protected": self.protected,
        }
        if self.ledger.hasher.key_id is not None:
            data["input_key"] = self.ledger.hasher.key_id
        data |= self.above
        drafts: list[Draft] = []
        if stored is None:
            drafts.append(Draft(spec_entry(self.spec, self.terms)))
        elif "terms" in stored.data and stored.data["spec_hash"] != self.agreed:
            raise SpecError("the terms (ceilings, checks or others) are not those that were stored with the spec")
        elif self.terms is not None:
            # The answers were stored by themselves; what else was agreed stands beside the ceilings.
            data["terms"] = self.terms
        session_id = self.spec.session_id
        policy = policy_data(self.terms, keyring, self.started_by)
        drafts.append(Draft(Entry(kind="policy", session_id=session_id, state_origin="policy", data=policy)))
        return [*drafts, Draft(Entry(kind="open", session_id=session_id, state_origin="open", data=data))]

    def _reopening_rows(self, before: Progress) -> list[Draft]:
        """Return the rows that say that the session goes on, and what its last process left in doubt."""
        session_id = self.spec.session_id
        problem = UNREACHABLE if is_alive(before.owner) is None else "its process is gone"
        drafts = [
            Draft(abandoned_entry(session_id, row.seq, row.turn_count, row.data["attempt"], problem))
            for row in before.in_doubt
            if row.seq not in before.doubted
        ]
        data: dict[str, Any] = {
            "spec_hash": self.agreed,
            "ceilings": before.balance.ceilings.as_list(),
            "owner": this_process(),
            "resumes": True,
            "elapsed_ms": before.elapsed_ms(self.now()),
        }
        if before.runs_now:
            # On disk before any of them runs: an approval is used up by this row, whatever becomes of the run.
            data["runs"] = list(before.runs_now)
        return [*drafts, Draft(Entry(kind="open", session_id=session_id, state_origin="open", data=data))]


def _open_child(
    parent: Session, spec: Answers, circuit_breaker: CircuitBreaker | None, options: Mapping[str, Any]
) -> Session:
    allowed = parent.newest_balance.ceilings if circuit_breaker is None else circuit_breaker.ceilings
    left = [most for most in (allowed.milliseconds, parent.milliseconds_left()) if most is not None]
    # What adds up is judged at every call, on every level. Time does not, so its end is fixed here.
    ceilings = replace(allowed, milliseconds=min(left, default=None))
    output_fn = (circuit_breaker or parent.breaker).output_fn
    same: dict[str, Any] = {"bound": parent.bound, "find_price": parent.find_price, "monotonic": parent.monotonic}
    breaker = CircuitBreaker.from_ceilings(ceilings, output_fn)
    return open_session(spec, breaker, parent.ledger, parent=parent, **{**same, **options})


def _above(budget: str | None, parent: Session | None) -> Mapping[str, str]:
    if parent is None:
        return {} if budget is None else {"budget": budget}
    if budget is not None:
        raise SpecError("a child stands where its parent does", field="budget", value=budget)
    return {"parent": parent.session_id}


def _told(above: Mapping[str, str]) -> str:
    return next((f"the {name} {value}" for name, value in above.items()), "no budget")


def _advice(before: Progress) -> str:
    if before.outcome == "halted":
        return "Its halt was lifted since: resume it."
    breach = before.newest_breach
    if breach is None or not breach.whose:
        return "Raise its ceiling with 'donewhen raise', then resume it."
    return f"Resume it, once there is room under {breach.whose} again: it was raised, or its next period has begun."


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
