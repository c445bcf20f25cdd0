"""Run what may hang, for a limited time.

Blocking functions run in a daemon thread, so that one that never returns holds up neither its caller nor the end of
the process. Such a thread cannot be killed: it goes on until its function returns. Coroutines are cancelled instead.
A function that keeps the interpreter to itself (a regular expression does) is not bounded by a thread: see
`donewhen.isolated`.

Whoever waits here also looks whether what it waits for is to stop; see `donewhen.stops`. That is passed on: to a
coroutine as a cancel, to a function in a thread as the event of `stopping`.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from donewhen.stops import Stop, StopAskedError, pieces, under

if TYPE_CHECKING:
    import asyncio

MAX_TIMEOUT_SECONDS = 86_400.0
"""One day: far below what the clocks of every platform can wait for."""

GRACE_SECONDS = 1.0
"""How long what was told to stop may take to tidy up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What came of a function."""

    value: object = None
    error: BaseException | None = None
    """What it raised, or `StopAskedError`. KeyboardInterrupt is never here: it is raised again."""
    timed_out: bool = False


def find_timeout_fault(seconds: object) -> str | None:
    """Return why a number of seconds cannot be a time limit, or None if it can."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return "must be a number of seconds"
    if not 0.001 <= seconds <= MAX_TIMEOUT_SECONDS:
        return f"must be from 0.001 to {MAX_TIMEOUT_SECONDS:,.0f} seconds"
    return None


def is_async(function: Callable[..., object]) -> bool:
    """Tell whether calling a function, a partial or an object gives a coroutine."""
    while isinstance(function, functools.partial):
        function = cast("Callable[..., object]", function.func)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def run_within(function: Callable[[], object], seconds: float | None) -> Ran:
    """Run a function in a daemon thread and wait for it.

    An awaitable that it returns is awaited in a private event loop in the same thread. Context variables are those
    of the caller.

    Args:
        function: takes nothing; a lambda, usually.
        seconds: how long to wait. None: for ever.

    Raises:
        KeyboardInterrupt: the caller, or the function, was interrupted.
    """
    worker = _Worker(function)
    try:
        worker.start()
        for piece in pieces(seconds):
            if worker.finished.wait(piece):
                break
    except StopAskedError as asked:
        worker.cancel()
        worker.finished.wait(GRACE_SECONDS)
        return worker.stopped(asked)
    except BaseException:
        worker.cancel()
        raise
    if not worker.finished.is_set() and worker.cancel():
        worker.finished.wait(GRACE_SECONDS)
        return Ran(timed_out=True)
    return worker.ran()


async def arun_within(
    function: Callable[[], object], seconds: float | None, *, on_cancel: Callable[[], object] | None = None
) -> Ran:
    """Run a blocking function in a daemon thread without blocking the event loop.

    Args:
        function: takes nothing.
        seconds: how long to wait. None: for ever.
        on_cancel: called once if the caller is cancelled, or the function asked to stop, to stop what it waits for.

    Raises:
        asyncio.CancelledError: the caller was cancelled; the thread goes on until its function returns.
        KeyboardInterrupt: the function was interrupted.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    finished: asyncio.Future[None] = loop.create_future()
    worker = _Worker(function, notify=lambda: _tell(loop, finished))
    worker.start()
    try:
        for piece in pieces(seconds):
            if (await asyncio.wait({finished}, timeout=piece))[0]:
                break
    except BaseException as error:
        worker.cancel()
        if on_cancel is not None:
            on_cancel()
        if not isinstance(error, StopAskedError):
            raise
        await asyncio.wait({finished}, timeout=GRACE_SECONDS)
        return worker.stopped(error)
    if not worker.finished.is_set():
        worker.cancel()
    return worker.ran()


async def await_within(awaitable: Awaitable[object], seconds: float | None) -> Ran:
    """Await something in the running event loop, and cancel it when its time is up.

    Args:
        awaitable: becomes a task of its own, so that its own cancellation is told apart from the caller's.
        seconds: how long to wait. None: for ever.

    Raises:
        asyncio.CancelledError: the caller was cancelled; so was the task.
    """
    import asyncio

    stop = Stop()
    with under(stop):
        task = asyncio.ensure_future(awaitable)
    try:
        for piece in pieces(seconds):
            if (await asyncio.wait({task}, timeout=piece))[0]:
                break
    except StopAskedError as asked:
        stop.set()
        await cancel(task)
        ran = _ran(task)
        return ran if ran.error is None and not ran.timed_out else Ran(error=asked)
    except asyncio.CancelledError:
        stop.set()
        await cancel(task)
        raise
    if not task.done():
        stop.set()
        await cancel(task)
        return Ran(timed_out=True)
    return _ran(task)


class _Worker:
    """One daemon thread that runs one function. `value` and `error` belong to the thread until `finished` is set."""

    def __init__(self, function: Callable[[], object], *, notify: Callable[[], object] | None = None) -> None:
        self.finished = threading.Event()
        self._stop = Stop()
        self._function = function
        self._notify = notify
        self._value: object = None
        self._error: BaseException | None = None
        self._private: tuple[asyncio.AbstractEventLoop, asyncio.Task[object]] | None = None
        self._is_cancelled = False
        self._lock = threading.Lock()  # guards the two: a cancel may come before there is anything to cancel
        work = contextvars.copy_context().run
        self._thread = threading.Thread(target=work, args=(self._work,), name="donewhen-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ran(self) -> Ran:
        if not self.finished.is_set():
            return Ran(timed_out=True)
        if isinstance(self._error, KeyboardInterrupt):
            raise self._error
        return Ran(value=self._value, error=self._error)

    def stopped(self, asked: StopAskedError) -> Ran:
        """Return what came of the function that was asked to stop: a value that it gave all the same, or that it was."""
        ran = self.ran()
        return Ran(error=asked) if ran.timed_out or ran.error is not None else ran

    def cancel(self) -> bool:
        """Tell the function to stop, and cancel the coroutine that the thread awaits, or will await.

        Returns:
            False if it awaits none yet.
        """
        self._stop.set()
        with self._lock:
            self._is_cancelled = True
            private = self._private
        if private is None:
            return False
        loop, task = private
        try:
            loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:
            return False  # the private loop has closed: the function has just ended
        return True

    def _work(self) -> None:
        try:
            with under(self._stop):
                value = self._function()
                self._value = self._await(value) if inspect.isawaitable(value) else value
        except BaseException as error:  # noqa: BLE001 - handed to the caller, who decides
            self._error = error
        finally:
            self.finished.set()
            if self._notify is not None:
                self._notify()

    def _await(self, awaitable: Awaitable[object]) -> object:
        import asyncio

        async def main() -> object:
            task = asyncio.ensure_future(awaitable)
            with self._lock:
                self._private = (asyncio.get_running_loop(), task)
                is_late = self._is_cancelled
            if is_late:
                task.cancel()  # which is before its first step: nothing of it is done
            return await task

        return asyncio.run(main())


def _tell(loop: asyncio.AbstractEventLoop, finished: asyncio.Future[None]) -> None:
    def finish() -> None:
        if not finished.done():
            finished.set_result(None)

    try:
        loop.call_soon_threadsafe(finish)
    except RuntimeError:
        return  # the caller's loop has closed since: nobody waits any more


def _ran(task: asyncio.Future[object]) -> Ran:
    import asyncio

    if not task.done():
        return Ran(timed_out=True)
    if task.cancelled():
        return Ran(error=asyncio.CancelledError())
    error = task.exception()
    return Ran(error=error) if error is not None else Ran(value=task.result())


async def cancel(task: asyncio.Future[Any]) -> None:
    """Cancel a task, and wait a moment for it to tidy up."""
    import asyncio

    def forget(ended: asyncio.Future[Any]) -> None:
        # Retrieved, so that asyncio does not print what a cancelled coroutine raised while it tidied up.
        if not ended.cancelled():
            ended.exception()

    task.add_done_callback(forget)
    task.cancel()
    await asyncio.wait({task}, timeout=GRACE_SECONDS)
