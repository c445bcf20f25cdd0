"""Streams that settle themselves: the SDK's own objects, which are heard while they pass.

When the end of a reply begins, the rest is read and settled before any of it is shown: whoever stops at the last text
has been charged what was used. A stream that is closed before that, cut, cancelled or dropped stays charged in full. So
does one whose session is halted: it is closed, and its reader is told in place of the next event.

A dropped stream is noticed by the garbage collector, which may run anywhere, in the middle of a transaction too. So
nothing is written there: the permit is put aside, and the next call of the guard, or leaving the session, writes it.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, cast

from donewhen.client import Failure
from donewhen.errors import CircuitBreakerError, HaltedError, LedgerUnavailableError, PermitClosedError, ReplyError
from donewhen.guarded.wire import Listener
from donewhen.halt_watch import HaltWatch
from donewhen.permit import Permit
from donewhen.session import Session
from donewhen.written import written

CLOSED_EARLY = "the stream was closed before its end"
DROPPED = "the stream was dropped before its end"
LEFT = "the session was left before the stream's end"
UNFINISHED = "the stream ended before the reply was complete"


class OpenStreams:
    """The streams of one session that have not come to their end. Safe to share between threads."""

    def __init__(self, session: Session, watch: HaltWatch) -> None:
        self.watch = watch
        self._session = session
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[Tail] = weakref.WeakSet()
        self._dropped: deque[Permit] = deque()
        session.at_leave.append(self.leave)

    def add(self, tail: Tail) -> None:
        """Take a stream in."""
        with self._lock:
            self._open.add(tail)

    def put_aside(self, permit: Permit) -> None:
        """Remember the permit of a dropped stream. Takes no lock: the garbage collector calls it."""
        self._dropped.append(permit)

    def sweep(self) -> None:
        """Write down what became of streams that were dropped, or whose connection was closed behind our back."""
        while self._dropped:
            abandon(self._session, self._dropped.popleft(), DROPPED)
        for tail in self._tails():
            if tail.is_closed:
                tail.close(CLOSED_EARLY)

    def leave(self) -> None:
        """Write down that whatever is still under way stays charged. Its end, should it come, is not heard any more."""
        self.sweep()
        for tail in self._tails():
            tail.close(LEFT)

    def _tails(self) -> list[Tail]:
        with self._lock:
            return [tail for tail in self._open if not tail.over]


class Tail:
    """What hangs on a stream: its permit, what was heard of it, and what was read and not shown yet.

    Args:
        session, permit: of the call.
        listener: puts the reply together.
        settle: writes what the reply used; returns why its tool calls may not run.
        response: of httpx, to see whether it was closed.
        streams: where it is open.
    """

    def __init__(
        self,
        session: Session,
        permit: Permit,
        listener: Listener,
        settle: Callable[[], CircuitBreakerError | HaltedError | None],
        response: Any,
        streams: OpenStreams,
    ) -> None:
        self.over = False
        self.error: Exception | None = None
        self.ready: deque[object] = deque()
        self.watch = streams.watch
        self._session = session
        self._permit = permit
        self._listener = listener
        self._settle = settle
        self._response = response
        self._streams = streams
        self._reading = False
        streams.add(self)

    @property
    def is_closed(self) -> bool:
        """Return whether the connection was closed while nobody was reading it."""
        return not self._reading and bool(getattr(self._response, "is_closed", False))

    @property
    def must_read(self) -> bool:
        """Return whether there is nothing to show before more is read."""
        return not self.has_more and not self.over

    @property
    def has_more(self) -> bool:
        """Return whether there is something to show, or to raise."""
        return bool(self.ready) or self.error is not None

    @property
    def is_heard(self) -> bool:
        """Return whether the reply is complete and waits for its settlement."""
        return self._listener.complete and not self.over

    def reading(self, *, now: bool) -> None:
        """Say whether somebody is reading the connection."""
        self._reading = now

    def next_of(self, read: Callable[[], object], close: Callable[[], object]) -> object:
        """Read the connection's next event; if the session is halted, close the stream instead.

        Raises:
            HaltedError: it is.
        """
        if self.watch.is_due and (halted := self.watch.look()) is not None:
            close()
            raise halted
        return read()

    async def anext_of(self, read: Callable[[], Awaitable[object]], close: Callable[[], Awaitable[object]]) -> object:
        """Do what `next_of` does, for a stream that is awaited; a halt also ends the waiting for an event."""
        import asyncio

        halted = await asyncio.to_thread(self.watch.look) if self.watch.is_due else None
        try:
            if halted is None:
                return await self.watch.during(read)
            raise halted
        except HaltedError:
            await close()
            raise

    def hear(self, event: object) -> bool:
        """Take an event in; tell whether more must be read before anything is shown."""
        ending = self._listener.hear(event)
        if self._listener.shows(event):
            self.ready.append(event)
        return ending or not self.ready

    def finish(self) -> None:
        """Settle a reply that is complete, or write that nobody knows what became of it."""
        if self.over:
            return
        if not self._listener.complete:
            self.close(UNFINISHED)
            return
        self.over = True
        try:
            self.error = self._settle()
        except ReplyError as error:  # the caller's all the same; what it used nobody knows
            abandon(self._session, self._permit, str(error))
        except Exception as error:  # noqa: BLE001 - raised where the caller reads on
            abandon(self._session, self._permit, "the settlement could not be written")
            self.error = error
        if self.error is not None:
            self.ready.clear()  # a reply whose tools may not run, or whose use is not on disk, has no end to show

    def fail(self, error: BaseException) -> None:
        """Write what an error in the middle of the stream leaves. What was read before it is shown before it."""
        if self._listener.counted:
            self.finish()  # the reply was whole: only the end of the connection is missing
        else:
            self.close(f"the stream ended with {type(error).__name__}")
        if self.ready and isinstance(error, Exception) and self.error is None:
            self.error = error
            return
        raise error

    def close(self, problem: str) -> None:
        """Write that the stream did not come to its end: it stays charged in full."""
        if self.over:
            return
        self.over = True
        abandon(self._session, self._permit, problem)

    def take(self) -> object:
        """Return the next event that is ready.

        Raises:
            Exception: what ended the stream, once everything before it was shown.
        """
        if self.ready:
            return self.ready.popleft()
        error, self.error = self.error, None
        assert error is not None, "nothing is ready"
        raise error

    def __del__(self) -> None:
        if not self.over:
            self._streams.put_aside(self._permit)


def abandon(session: Session, permit: Permit, problem: str) -> None:
    """Write that nobody knows what came of a stream. Where that cannot be written its reservation stands all the same."""
    with contextlib.suppress(LedgerUnavailableError, PermitClosedError):
        session.abandon(permit, Failure(rejected=False, problem=problem))


def hang(stream: Any, tail: Tail) -> None:
    """Let a stream of an SDK be heard while it passes: it stays the object, and of the class, that it was."""
    kind = cast("type[Any]", type(stream))
    stream._tail = tail
    stream.__class__ = _heard_async(kind) if hasattr(kind, "__anext__") else _heard(kind)


@lru_cache(maxsize=16)
def _heard(kind: type[Any]) -> type[Any]:
    # Made of the SDK's own class, and of that alone: only then can an object of the one become one of the other.
    class Heard(kind):
        _tail: Tail

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> object:
            tail = self._tail
            if tail.must_read:
                self._read(tail)
            # Nothing left: as the SDK ends it.
            sdk: Any = super()
            return tail.take() if tail.has_more else sdk.__next__()

        def _read(self, tail: Tail) -> None:
            sdk: Any = super()
            tail.reading(now=True)
            try:
                while tail.hear(tail.next_of(sdk.__next__, sdk.close)):
                    pass
                if tail.is_heard:
                    tail.finish()
            except StopIteration:
                tail.finish()
            except BaseException as error:  # noqa: BLE001 - written down, and raised again
                tail.fail(error)
            finally:
                tail.reading(now=False)

        def close(self) -> None:
            sdk: Any = super()
            try:
                sdk.close()
            finally:
                self._tail.close(CLOSED_EARLY)

    return _named_as(kind, Heard)


@lru_cache(maxsize=16)
def _heard_async(kind: type[Any]) -> type[Any]:
    class Heard(kind):
        _tail: Tail

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> object:
            tail = self._tail
            if tail.must_read:
                await self._read(tail)
            sdk: Any = super()
            return tail.take() if tail.has_more else await sdk.__anext__()

        async def _read(self, tail: Tail) -> None:
            sdk: Any = super()
            tail.reading(now=True)
            try:
                while tail.hear(await tail.anext_of(sdk.__anext__, sdk.close)):
                    pass
                if tail.is_heard:
                    await written(tail.finish)
            except StopAsyncIteration:
                await written(tail.finish)
            except BaseException as error:  # noqa: BLE001 - written down, and raised again
                tail.fail(error)
            finally:
                tail.reading(now=False)

        async def close(self) -> None:
            sdk: Any = super()
            try:
                await sdk.close()
            finally:
                self._tail.close(CLOSED_EARLY)

    return _named_as(kind, Heard)


def _named_as(kind: type[Any], heard: type[Any]) -> type[Any]:
    heard.__name__, heard.__qualname__, heard.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    heard.__doc__ = kind.__doc__
    return heard
