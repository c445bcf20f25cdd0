"""A session under a spec, and the one place that knows the order of a turn.

    permit = session.admit(request)             # reserved and on disk, or CircuitBreakerError and nothing sent
    try:
        reply = call(permit.request)            # clamped to what is left
    except Rejected as error:
        session.release(permit, classify(error))   # the provider says that it did no work
        raise
    except BaseException as error:
        session.abandon(permit, classify(error))   # it may have been billed: the reservation stands
        raise
    session.settle(permit, read_reply(reply))

Every door is this, with its own `call`. A `Permit` is plain data: it can be kept, pickled, and finished by whoever
holds it, but once. What a crash leaves after each durable step stands beside the step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from donewhen.admission import Asking, breach_of_tools
from donewhen.balance import Amounts, Balance
from donewhen.bounds import BoundKind, Measured, Request
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import Failure, Reply
from donewhen.drafts import (
    abandoned_entry,
    breach_entry,
    breach_of,
    hash_arguments,
    intent,
    late_entry,
    llm_entry,
    released_entry,
)
from donewhen.entry import LedgerRow
from donewhen.errors import (
    CircuitBreakerError,
    MissingExtraError,
    PermitClosedError,
    SessionBusyError,
    SessionEndedError,
)
from donewhen.ledger import Answers, Balances, Draft, Ledger
from donewhen.ledger_balances import find_holders
from donewhen.ledger_budgets import halted_error
from donewhen.owner import this_process
from donewhen.permit import Permit, Settlement
from donewhen.repeats import Repeats
from donewhen.session_call import SessionCalls

if TYPE_CHECKING:
    from donewhen.progress import Progress
    from donewhen.usage import Price

OUTCOMES = ("done", "unmet", "breached", "failed", "halted")
"""How a session can end."""


@dataclass(kw_only=True)
class Session(SessionCalls):
    """One run under one spec. Made by `donewhen.opening.open_session`; safe to share between threads."""

    ledger: Ledger
    session_id: str
    breaker: CircuitBreaker
    """Where the notice of a breach goes. The ceilings are the ledger's."""
    bound: BoundKind
    elapsed_before_ms: int
    """Milliseconds between the first opening and this one, by the wall clock."""
    monotonic: Callable[[], float] = time.monotonic
    find_price: Callable[[str], Price | None] | None = None
    open_child: Callable[[Session, Answers, CircuitBreaker | None, Mapping[str, Any]], Session] | None = None
    """Opens a session under this one; see `child`. None: it was not opened by `open_session`, and has none."""
    held_tools: frozenset[str] = frozenset()
    protected: Mapping[str, str] = field(default_factory=dict[str, str])
    """Digests of the paths that the checks protect, as they were when the session opened."""
    before: Progress | None = None
    """Where the session stood before it was opened this time; None for a new one."""
    repeats: Repeats = field(default_factory=Repeats)
    opened: LedgerRow
    """The row that opened it this time."""
    left: bool = False
    at_leave: list[Callable[[], object]] = field(default_factory=list[Callable[[], object]])
    _ended: str | None = None
    _started: float = 0.0
    _balance: Balance = field(init=False)
    _newest_seq: int = field(init=False)
    _looked_seq: int = 0
    _taken_by: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _owner: str = field(default_factory=this_process)
    _measured: list[Measured] = field(default_factory=list[Measured])
    _abandoned: set[int] = field(default_factory=set[int])
    """The reservations that stand: another attempt at their turns reserves no turn again."""
    _prices: dict[str, Price | None] = field(default_factory=dict[str, "Price | None"])

    def __post_init__(self) -> None:
        self._started = self.monotonic()
        self._balance, self._newest_seq = self.opened.after[-1], self.opened.seq

    @property
    def elapsed_ms(self) -> int:
        """Return the milliseconds since the session first opened."""
        return self.elapsed_before_ms + int((self.monotonic() - self._started) * 1000)

    @property
    def newest_balance(self) -> Balance:
        """Return what is spent, reserved and allowed, as the newest row that this session wrote left it."""
        return self._balance

    def milliseconds_left(self) -> int | None:
        """Return how much of the time ceiling is left; None where time has no ceiling."""
        allowed = self.newest_balance.ceilings.milliseconds
        return None if allowed is None else max(0, allowed - self.elapsed_ms)

    def child(self, spec: Answers, circuit_breaker: CircuitBreaker | None = None, **options: Any) -> Session:
        """Open a session under this one, for a sub-agent: it can never have more than this one has left, at any moment.

        What it uses counts here too, its turns as well. A ceiling of this session that it would cross is told as
        ``parent:SESSION:token_ceiling``. Its time ends no later than this one's does now.

        Args:
            spec: the three answers and the child's id.
            circuit_breaker: ceilings of its own. None: the same as this session's.
            options: as for `open_session`; where they are left out, bound, prices and clock are this session's.

        Raises:
            TypeError: this session was not opened by `open_session`.
            The errors of `open_session`.
        """
        if self.open_child is None:
            raise TypeError("only a session that open_session opened can have a child")
        return self.open_child(self, spec, circuit_breaker, options)

    # -- 1 bound, 2 admit ----------------------------------------------------------------------------------------

    def admit(
        self,
        request: Request,
        *,
        results: Sequence[Draft] = (),
        retry_of: Permit | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> Permit:
        """Reserve the most that a request can use, or refuse it. On return the reservation is on disk.

        Args:
            request: what is to be sent; its max_tokens is clamped to what is left.
            results: what happened since the last row, such as tools' results; written whether or not it is refused.
            retry_of: the permit of the attempt before, for another attempt at the same turn.
            texts: texts to keep beside the row.

        Raises:
            CircuitBreakerError: a ceiling would be crossed; the breach is written, the notice printed, nothing sent.
            HaltedError: a person has ordered that no call is made; nothing is reserved.
            PriceUnknownError: cost has a ceiling and the model's price is not known; nothing is reserved.
            SessionBusyError: another process has opened the session since; nothing is reserved.
            SessionEndedError: the session has ended.
            UnboundedRequestError: nobody can say how much the request can use; nothing is written.
            LedgerUnavailableError: the store could not be written.
        """
        ask = self._ask(request, retry_of, texts)
        row = self._wrote(self.ledger.admit(self.session_id, ask, results, self._look))
        # A crash here leaves the reservation in full and nothing sent: spend is overstated, never understated.
        return self._granted(row, request)

    def _ask(
        self, request: Request, retry_of: Permit | None, texts: Mapping[str, str] | None
    ) -> Callable[[Balances], Draft]:
        # Everything that can fail, wait or be slow is done here, before the transaction.
        asking = Asking(
            session_id=self.session_id,
            request=request,
            bound=self.bound,
            input_bound=request.most_input_tokens(self.bound, self._measured_for(request)),
            price=self._price_of(request.model),
            elapsed_ms=self.elapsed_ms,
            repeats=self.repeats.most,
            attempt=1 if retry_of is None else retry_of.attempt + 1,
            turn=None if retry_of is None else retry_of.turn,
            # The turn of an attempt that was abandoned is still reserved; that of one that was released is not.
            again=retry_of is not None and (retry_of.reserved.turns == 0 or retry_of.seq in self._abandoned),
            owner=self._owner,
            find_holders=partial(find_holders, self.ledger.store),
            halted_error=partial(halted_error, self.ledger, self.session_id),
            texts=dict(texts or {}),
        )

        def decide(balances: Balances) -> Draft:
            if self._taken_by is not None:
                raise SessionBusyError(self.session_id, self._taken_by)
            if self._ended is not None:
                raise SessionEndedError(self.session_id, self._ended, "Begin a new session, or resume this one.")
            return asking.decide(balances)

        return decide

    def _granted(self, row: LedgerRow, request: Request) -> Permit:
        if row.kind == "circuit_breaker":
            raise self._trip(row)
        return Permit(
            session_id=self.session_id,
            turn=row.turn_count,
            attempt=row.data["attempt"],
            seq=row.seq,
            request=request.clamped(row.data["max_tokens"]),
            input_bound=row.data["input_bound"],
            reserved=Amounts(*row.data["reserve"]),
        )

    def _trip(self, row: LedgerRow) -> CircuitBreakerError:
        """Tell a person of a breach that is on disk, and return the error to raise."""
        breach = breach_of(row)
        tokens = row.balance.used_tokens if row.balance else 0
        error = CircuitBreakerError(breach.reason, row.turn_count, tokens, breach=breach)
        try:
            ceilings = row.balance.ceilings if row.balance else self.breaker.ceilings
            CircuitBreaker.from_ceilings(ceilings, self.breaker.output_fn).tell(breach, row.turn_count, tokens)
        except Exception as untold:  # noqa: BLE001 - a closed terminal must not turn a breach into another error
            error.__cause__ = untold
        return error

    # -- 4 settle, release, abandon ------------------------------------------------------------------------------

    def settle(
        self,
        permit: Permit,
        reply: Reply,
        *,
        execution_time_ms: int = 0,
        runs_tools: bool = True,
        then: Request | None = None,
        end: Draft | None = None,
        texts: Mapping[str, str] | None = None,
        then_texts: Mapping[str, str] | None = None,
    ) -> Settlement:
        """Replace a reservation by what the call used, and write which tools are to be run, before any runs.

        Args:
            permit: of the call.
            reply: its answer. Usage that cannot be believed is charged the whole reservation.
            execution_time_ms: how long the call took.
            runs_tools: False for a reply that was cut off, whose tool calls may be too: they are named, not run.
            then: the request to be sent next; reserved for, or refused, in the same transaction.
            end: the entry that ends the session, for a reply that is its last; written in the same transaction.
            texts: texts to keep beside the reply's row.
            then_texts: texts to keep beside the row of the next request.

        Raises:
            PermitClosedError: the permit was settled or released already; nothing is written, but where it was reconciled
                a note of what this reply says it used.
            UnboundedRequestError: of `then`; nothing is written.
            PriceUnknownError: of `then`; the reply is settled all the same.
        """
        hasher, price = self.ledger.hasher, self._price_of(permit.request.model)
        calls = [(call.name, hash_arguments(call.arguments, hasher)) for call in reply.tool_calls]
        seen = self.repeats.most_with(calls)
        if reply.usage is not None:
            self.remember(permit.request.measured_by(reply.echo, reply.usage.total))
        ask = None if then is None else self._ask(then, None, then_texts)
        halted: list[str] = []

        def decide(balances: Balances, held: Amounts) -> tuple[Draft, list[Callable[[Balances], Draft]]]:
            breach = breach_of_tools(balances, len(calls), seen) if runs_tools else None
            halted.extend([balance.name for balance in balances if balance.halted and calls and breach is None])
            runs = runs_tools and breach is None and not halted
            tools = [intent(call, hasher, held=call.name in self.held_tools, run=runs) for call in reply.tool_calls]
            entry = llm_entry(permit, reply, held, price, hasher, execution_time_ms=execution_time_ms, tools=tools)
            follow: list[Callable[[Balances], Draft]] = []
            if breach is not None:
                follow.append(lambda _: Draft(breach_entry(self.session_id, permit.turn, breach)))
            elif ask is not None:
                follow.append(ask)
            elif end is not None:
                follow.append(lambda _, end=end: end)
            return Draft(entry, dict(texts or {})), follow

        try:
            rows = self.ledger.close_reservation(self.session_id, permit.seq, decide, self._look)
        except PermitClosedError as closed:
            if closed.kind == "reconcile":  # a person was faster: what they said stands, and the reply is a note
                self.note(Draft(late_entry(permit, reply, self._owner)))
            raise
        self._wrote(rows[-1])
        # A crash here leaves the reply charged and the tools named but not run: they show as unresolved.
        self.repeats.saw_calls(calls)
        if runs_tools and halted:
            return Settlement(row=rows[0], halted=halted_error(self.ledger, self.session_id, halted[0]))
        return self._settlement(rows, reply, then)

    def _settlement(self, rows: Sequence[LedgerRow], reply: Reply, then: Request | None) -> Settlement:
        row, newest = rows[0], rows[-1]
        if newest.kind == "circuit_breaker":
            return Settlement(row=row, breach=self._trip(newest))
        if newest.kind == "reserve" and then is not None:
            return Settlement(row=row, permit=self._granted(newest, then))
        return Settlement(
            row=row,
            tools=tuple(call for call in reply.tool_calls if call.name not in self.held_tools),
            held=tuple(call for call in reply.tool_calls if call.name in self.held_tools),
        )

    def release(self, permit: Permit, failure: Failure, *, execution_time_ms: int = 0) -> LedgerRow:
        """Give a reservation back: the provider says that it did no work, or nothing was sent.

        Raises:
            PermitClosedError: the permit was settled or released already; nothing is written.
        """
        entry = released_entry(permit, failure, execution_time_ms, self.ledger.hasher)
        rows = self.ledger.close_reservation(self.session_id, permit.seq, lambda _balances, _held: (Draft(entry), []))
        self._abandoned.discard(permit.seq)
        return self._wrote(rows[0])

    def abandon(self, permit: Permit, failure: Failure, *, execution_time_ms: int = 0) -> LedgerRow:
        """Write that nobody knows what came of a call. Its reservation stands, in full, until it is reconciled.

        Raises:
            PermitClosedError: the permit was settled, released or abandoned already; nothing is written.
        """
        entry = abandoned_entry(
            self.session_id, permit.seq, permit.turn, permit.attempt, failure.problem, execution_time_ms
        )
        row = self._wrote(self.ledger.doubt_reservation(self.session_id, permit.seq, Draft(entry)))
        self._abandoned.add(permit.seq)
        return row

    # -- what this session knows ---------------------------------------------------------------------------------

    def note(self, *drafts: Draft) -> LedgerRow:
        """Write entries that belong to no attempt, in one transaction; return the last row."""
        return self._wrote(self.ledger.note(*drafts))

    def _look(self, seq: int) -> None:
        """See whether somebody has opened the session since: on another host nobody knew whether this process lives."""
        known = max(self._newest_seq, self._looked_seq)
        if seq > known:
            opened = self.ledger.store.find_opened(self.session_id, known)
            self._taken_by = self._taken_by if opened is None else opened.data["owner"]
            self._looked_seq = seq

    def _wrote(self, row: LedgerRow) -> LedgerRow:
        with self._lock:
            # Threads return from their transactions in any order; the later row knows more.
            if row.balance is not None and row.seq > self._newest_seq:
                self._balance, self._newest_seq = row.balance, row.seq
        if row.kind == "close":
            self._ended = row.data["outcome"]
        return row

    def remember(self, measured: Measured) -> None:
        """Take what a provider counted for the beginning of a conversation, so that it need not be bounded again."""
        # A handful: threads of one session may hold conversations of their own.
        self._measured = [measured, *self._measured[:15]]

    def _measured_for(self, request: Request) -> Measured | None:
        transcript = request.transcript
        for measured in self._measured:
            if measured.messages <= request.count and transcript.digest_at(measured.messages) == measured.digest:
                return measured
        return None

    def _price_of(self, model: str) -> Price | None:
        if self.find_price is None:
            return None
        if model not in self._prices:
            try:
                self._prices[model] = self.find_price(model)
            except MissingExtraError:
                self._prices[model] = None  # not known; under a cost ceiling the call is refused
        return self._prices[model]
