"""One call through a guarded client: a turn, with an attempt or several.

A generator decides, as the loop's does, and yields what must be done; `Guarded` performs it, blocking or awaited.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from donewhen.attempts import close_attempt, interrupted, pause_before, provider_failure
from donewhen.bounds import Measured, Request
from donewhen.client import Failure, Reply
from donewhen.driving import adrive, drive
from donewhen.errors import CircuitBreakerError, HaltedError, ReplyError
from donewhen.flow import FINISHED
from donewhen.guarded.streams import OpenStreams, Tail, hang
from donewhen.guarded.wire import Body, Wire
from donewhen.halt_watch import HaltWatch
from donewhen.permit import Permit
from donewhen.session import Session
from donewhen.steps import CallClient, Step, Wait, Write
from donewhen.written import written

Sender = Callable[[Body], Any]
"""Sends a body once: returns the SDK's response and what there is to read in it; awaited by an asynchronous client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a client is guarded under."""

    session: Session
    streams: OpenStreams
    watch: HaltWatch
    max_attempts: int
    context_window_tokens: int | None
    jitter: Callable[[], float] = random.random
    sleep: Callable[[float], Any] | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """A reply came, and the SDK makes nothing of it."""

    error: Exception


@dataclass(kw_only=True)
class Turn:
    """One call, from its body to its settlement."""

    terms: Terms
    wire: Wire
    body: Body
    send: Sender
    permit: Permit | None = None
    """The attempt under way; None between attempts."""
    sent: bool = False

    def make(self) -> object:
        """Make the call, blocking.

        Raises:
            CircuitBreakerError: a ceiling would be crossed, and nothing was sent; or the reply's tool calls cross one.
            HaltedError: the session is halted, and nothing was sent; or that came while the call was awaited; or the
                reply asks for tools.
            Exception: what the SDK raised for the last attempt.
        """
        return drive(self._steps(), self._perform)

    async def amake(self) -> object:
        """Make the call; see `make`. Cancelling it writes what happened, then passes."""
        return await adrive(self._steps(), self._aperform)

    # -- what is decided -----------------------------------------------------------------------------------------

    def _steps(self) -> Generator[Step, Any, object]:
        try:
            yield Write(self.terms.streams.sweep)
            request = self.wire.request(self.body, self.terms.context_window_tokens)
            yield Write(lambda: self._admit(request, None))
            response, seen, ms = yield from self._attempts(request)
            if self.body.get("stream"):
                self._hand_over(response, ms)
                return response
            reply = self._read(seen)
            if isinstance(reply, Reply):
                yield Write(lambda: self._settle(reply, seen, ms))
            else:
                # It is the caller's all the same; what it used nobody knows.
                yield Write(lambda: self._close(reply, ms))
            if isinstance(response, Unusable):
                raise response.error
            return response
        except BaseException as error:
            permit, self.permit = self.permit, None
            if permit is not None:
                interrupted(self.terms.session, permit, error, sent=self.sent)
            raise

    def _attempts(self, request: Request) -> Generator[Step, Any, tuple[Any, Any, int]]:
        while True:
            assert self.permit is not None
            answer, ms = yield CallClient(self.permit)
            if not isinstance(answer, Exception):
                return (*answer, ms)
            failure, failed = provider_failure(answer), self.permit
            yield Write(lambda failure=failure, ms=ms: self._close(failure, ms))
            # A crash here leaves the attempt released, or charged in full: the next one has its own reservation.
            seconds = pause_before(
                self.terms.session,
                failed.attempt + 1,
                failure,
                max_attempts=self.terms.max_attempts,
                jitter=self.terms.jitter,
            )
            if isinstance(seconds, str):
                raise answer
            yield Wait(seconds)
            try:
                yield Write(lambda failed=failed: self._admit(request, failed))
            except CircuitBreakerError as breach:
                raise breach from answer

    def _read(self, seen: object) -> Reply | Failure:
        try:
            return self.wire.read(seen)
        except ReplyError as error:
            return Failure(rejected=False, problem=str(error))

    def _hand_over(self, stream: Any, ms: int) -> None:
        permit = self.permit
        assert permit is not None
        listener = self.wire.listen(self.body)
        session, start = self.terms.session, self.terms.session.monotonic()

        def settle() -> CircuitBreakerError | HaltedError | None:
            took = ms + int((session.monotonic() - start) * 1000)
            reply = listener.read()
            return settle_reply(session, permit, reply, self.wire.echoes(reply, listener.response), took)

        hang(stream, Tail(session, permit, listener, settle, stream.response, self.terms.streams))
        self.permit = None  # until here an error of ours writes what happened to it

    # -- what is written -----------------------------------------------------------------------------------------

    def _admit(self, request: Request, retry_of: Permit | None) -> None:
        self.sent = False
        self.permit = self.terms.session.admit(request, retry_of=retry_of)

    def _close(self, failure: Failure, ms: int) -> None:
        permit, self.permit = self.permit, None
        assert permit is not None
        close_attempt(self.terms.session, permit, failure, ms)

    def _settle(self, reply: Reply, seen: object, ms: int) -> None:
        assert self.permit is not None
        refusal = settle_reply(self.terms.session, self.permit, reply, self.wire.echoes(reply, seen), ms)
        self.permit = None
        if refusal is not None:
            raise refusal

    # -- what is performed ---------------------------------------------------------------------------------------

    def _perform(self, step: Step) -> Any:
        if isinstance(step, Write):
            return step.do()
        if isinstance(step, Wait):
            return self.terms.watch.pause(self.terms.sleep or time.sleep, step.seconds)
        body, start = self._limited(cast("CallClient", step)), self.terms.session.monotonic()
        self.sent = True
        try:
            answer = self.send(body)
        except Exception as error:  # noqa: BLE001 - classified: what no provider says goes up as it is
            answer = error
        return answer, self._ms_since(start)

    async def _aperform(self, step: Step) -> Any:
        import asyncio

        if isinstance(step, Write):
            return await written(step.do)
        if isinstance(step, Wait):
            return await self.terms.watch.during(lambda: (self.terms.sleep or asyncio.sleep)(step.seconds))
        return await self.terms.watch.during(lambda: self._asend(cast("CallClient", step)))

    async def _asend(self, step: CallClient) -> Any:
        body, start = self._limited(step), self.terms.session.monotonic()
        self.sent = True
        try:
            answer = await self.send(body)
        except Exception as error:  # noqa: BLE001 - classified: what no provider says goes up as it is
            answer = error
        return answer, self._ms_since(start)

    def _limited(self, step: CallClient) -> Body:
        most = step.permit.request.max_tokens
        assert most is not None
        return self.wire.limited(self.body, most)

    def _ms_since(self, start: float) -> int:
        return int((self.terms.session.monotonic() - start) * 1000)


def settle_reply(
    session: Session, permit: Permit, reply: Reply, echoes: Sequence[Mapping[str, Any]], ms: int
) -> CircuitBreakerError | HaltedError | None:
    """Write what a reply used and which tools it asks for; return why these may not run: a ceiling, or a halt.

    Args:
        echoes: the messages as which the reply may come back in the next request.
        ms: how long the call took, in milliseconds.
    """
    is_whole = reply.stop_reason == "tool_use" or reply.stop_reason in FINISHED
    settled = session.settle(permit, reply, execution_time_ms=ms, runs_tools=is_whole)
    if reply.usage is not None:
        transcript, count = permit.request.transcript, permit.request.count
        for message in echoes:
            digest = transcript.digest_with(count, message)
            session.remember(Measured(digest, count + 1, reply.usage.total))
    return settled.breach or settled.halted
