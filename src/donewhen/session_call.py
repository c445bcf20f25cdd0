"""One call by any client, as a block: reserved when it is entered, and never left open.

    with session.call(request) as call:                          # reserved and on disk, or refused and nothing sent
        answer = some_client(**call.request.as_kwargs())         # clamped to what is left
        call.settle(Usage(answer.tokens_in, answer.tokens_out))

A block that fails releases its reservation where the error says that no work was done (a refusal with status 429, a
connection that was never made), and otherwise abandons it: it may have been billed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, cast

from donewhen.client import Failure, Reply, classify, read_usage
from donewhen.errors import HaltedError, LedgerUnavailableError, OutcomeUnknownError, PermitClosedError
from donewhen.ledger_budgets import find_halted
from donewhen.usage import Usage
from donewhen.written import written

if TYPE_CHECKING:
    from donewhen.bounds import Request
    from donewhen.permit import Permit, Settlement
    from donewhen.session import Session

NOT_SETTLED = "the block of the call ended without settle, release or abandon"


class SessionCall:
    """One attempt, for the length of a block. Made by `Session.call`; used once, by one thread or task.

    Raises, where the block is entered, what `Session.admit` raises.
    """

    def __init__(self, session: Session, request: Request, retry_of: Permit | None) -> None:
        self._session = session
        self._asked = request
        self._retry_of = retry_of
        self._permit: Permit | None = None
        self._start = 0.0
        self._over = False

    @property
    def permit(self) -> Permit:
        """Return what is reserved.

        Raises:
            RuntimeError: the block has not been entered.
        """
        if self._permit is None:
            raise RuntimeError("nothing is reserved before the block of a call is entered")
        return self._permit

    @property
    def request(self) -> Request:
        """Return the request as it may be sent: its max_tokens is what is reserved."""
        return self.permit.request

    def settle(
        self, used: Usage | Reply, *, runs_tools: bool = True, texts: Mapping[str, str] | None = None
    ) -> Settlement:
        """Replace the reservation by what the call used.

        Args:
            used: the usage, or the whole reply, whose tool calls are then named before anybody runs them. Usage that
                cannot be true is charged the whole reservation.
            runs_tools: False for a reply that was cut off, whose tool calls are named and not run.
            texts: texts to keep beside the reply's row.

        Raises:
            PermitClosedError: it was settled or released already; nothing is written.
            LedgerUnavailableError: the store could not be written.
        """
        reply = used if isinstance(used, Reply) else _reply_of(used)
        settled = self._session.settle(
            self.permit, reply, execution_time_ms=self._ms(), runs_tools=runs_tools, texts=texts
        )
        self._over = True
        return settled

    async def asettle(
        self, used: Usage | Reply, *, runs_tools: bool = True, texts: Mapping[str, str] | None = None
    ) -> Settlement:
        """Do what `settle` does without blocking the event loop; a cancel waits until it is written."""
        return await written(lambda: self.settle(used, runs_tools=runs_tools, texts=texts))

    def release(self, problem: str = "nothing was sent") -> None:
        """Give the reservation back: nothing was sent, or the provider says that it did no work.

        Raises:
            PermitClosedError: it was settled, released or abandoned already; nothing is written.
        """
        self._close(Failure(rejected=True, problem=problem))

    def abandon(self, problem: str = "nobody knows what came of the call") -> None:
        """Write that nobody knows what came of the call. The reservation stands until it is reconciled.

        Raises:
            PermitClosedError: it was settled, released or abandoned already; nothing is written.
        """
        self._close(Failure(rejected=False, problem=problem))

    def __enter__(self) -> SessionCall:
        self._admit()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._over:
            return
        self._leave(error)
        if error is None:
            raise self._unsettled()

    async def __aenter__(self) -> SessionCall:
        try:
            await written(self._admit)
        except BaseException:
            if self._permit is not None:  # cancelled while it was written: nothing has been sent
                self._leave_with(Failure(rejected=True, problem="cancelled before anything was sent"))
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._over:
            return
        await written(lambda: self._leave(error))
        if error is None:
            raise self._unsettled()

    def _admit(self) -> None:
        if self._permit is not None:
            raise RuntimeError("the block of a call is entered once; a further attempt is a call of its own")
        self._permit = self._session.admit(self._asked, retry_of=self._retry_of)
        # A crash from here on leaves the reservation in full: spend is overstated, never understated.
        self._start = self._session.monotonic()

    def _leave(self, error: BaseException | None) -> None:
        self._leave_with(Failure(rejected=False, problem=NOT_SETTLED) if error is None else classify(error))

    def _leave_with(self, failure: Failure) -> None:
        # Where even that cannot be written, what ended the block is still what passes: the reservation stands.
        with contextlib.suppress(LedgerUnavailableError, PermitClosedError):
            self._close(failure)

    def _close(self, failure: Failure) -> None:
        close = self._session.release if failure.rejected else self._session.abandon
        close(self.permit, failure, execution_time_ms=self._ms())
        self._over = True

    def _unsettled(self) -> OutcomeUnknownError:
        permit = self.permit
        return OutcomeUnknownError(
            f"{NOT_SETTLED}, so nobody knows what it used: its reservation of {permit.reserved.tokens} tokens, in row "
            f"{permit.seq} of session {permit.session_id}, stands"
        )

    def _ms(self) -> int:
        return int((self._session.monotonic() - self._start) * 1000)


class SessionCalls:
    """What a session does for whoever holds it: calls as blocks, and letting go."""

    left: bool
    """Whether whoever opened it has let go of it."""
    at_leave: list[Callable[[], object]]
    """What is to be done when whoever opened it lets go of it."""

    def call(self, request: Request, *, retry_of: Permit | None = None) -> SessionCall:
        """Return a block, for ``with`` or ``async with``, in which one call is made by any client.

        Args:
            request: what is to be sent; its max_tokens is clamped to what is left.
            retry_of: the permit of the attempt before, for another attempt at the same turn.
        """
        return SessionCall(cast("Session", self), request, retry_of)

    def find_halt(self) -> HaltedError | None:
        """Return the order that keeps this session from another call, None if there is none; for long work of one's own.

        Raises:
            LedgerUnavailableError: the store could not be read.
        """
        session = cast("Session", self)
        return find_halted(session.ledger, session.session_id)

    def leave(self) -> None:
        """Let go of the session: without an end it is interrupted, and can be opened again."""
        self.left = True
        while self.at_leave:
            self.at_leave.pop()()

    def __enter__(self) -> Session:
        return cast("Session", self)

    def __exit__(self, *_: object) -> None:
        self.leave()


def _reply_of(used: Usage) -> Reply:
    counts = {
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "cache_read_input_tokens": used.cache_read_tokens,
        "cache_creation_input_tokens": used.cache_write_tokens,
    }
    usage, fault = read_usage(counts, has_output=False)
    return Reply(content=(), text="", tool_calls=(), stop_reason="end_turn", usage=usage, usage_fault=fault)
