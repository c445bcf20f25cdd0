"""Look for a halt while something is under way, and end the waiting for it.

An order is in the ledger, so whoever waits asks the ledger: about once a second, only while it waits, and only for
reading. What returns at once costs no look.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from donewhen.errors import HaltedError, LedgerUnavailableError
from donewhen.session import Session
from donewhen.stops import Stop, under
from donewhen.timeouts import MAX_TIMEOUT_SECONDS, Ran, cancel, run_within

_T = TypeVar("_T")

EVERY_SECONDS = 1.0
"""How often a halt is looked for."""

BLIND_SECONDS = 30.0
"""How long the ledger may be unreadable before what is under way ends: as long as a writer waits for its turn."""


def watch_interval(seconds: object) -> float:
    """Return how often to look, in seconds.

    Raises:
        ValueError: it is no number above 0 and at most a day.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        raise ValueError(f"watch_seconds is {seconds!r}, not a number above 0 and at most {MAX_TIMEOUT_SECONDS:,.0f}")
    return seconds


class HaltWatch:
    """Knows whether a session is halted, from the ledger. Safe to share between threads.

    Args:
        session: the one that works.
        every_seconds: how long to wait between two looks.
        monotonic: the clock that never goes back.

    Raises:
        ValueError: see `watch_interval`.
    """

    def __init__(
        self, session: Session, every_seconds: float = EVERY_SECONDS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.every_seconds = watch_interval(every_seconds)
        self._session = session
        self._monotonic = monotonic
        self._looked = monotonic()
        self._blind_since: float | None = None
        self._size: int | None = None
        self._found: HaltedError | None = None

    @property
    def is_due(self) -> bool:
        """Tell whether it is time for a look."""
        return self._monotonic() - self._looked >= self.every_seconds

    def look(self) -> HaltedError | None:
        """Ask the ledger, and return the order that halts the session, None if there is none.

        A log that has not grown since the last look is not asked further.

        Raises:
            LedgerUnavailableError: the ledger could not be read for `BLIND_SECONDS`.
        """
        self._looked = self._monotonic()
        try:
            size = self._session.ledger.store.newest_sealed().size
            if size != self._size:
                self._found, self._size = self._session.find_halt(), size
        except LedgerUnavailableError:
            if self._blind_since is None:
                self._blind_since = self._looked
            if self._monotonic() - self._blind_since >= BLIND_SECONDS:
                raise
            return None
        self._blind_since = None
        return self._found

    @contextmanager
    def watching(self) -> Generator[Watched, None, None]:
        """Open a block whose waits end once the session is halted."""
        block = Watched(self)
        with under(block):
            yield block

    def pause(self, sleep: Callable[[float], object], seconds: float) -> None:
        """Sleep, at most until the session is halted.

        Raises:
            HaltedError: it is.
        """
        with self.watching() as block:
            ran = run_within(lambda: sleep(seconds), None)
        if block.halted is not None:
            raise block.halted
        if ran.error is not None:
            raise ran.error

    async def during(self, doing: Callable[[], Awaitable[_T]], *, asks: bool = False) -> _T:
        """Await something, at most until the session is halted.

        Args:
            doing: begins it; becomes a task of its own, which a halt cancels.
            asks: True: it ends by itself soon after its context is told to stop, as tools do, and is not cancelled.

        Raises:
            HaltedError: the session is halted, and it was cancelled.
            The errors of `look`.
        """
        import asyncio

        stop = Stop()
        with under(stop):
            task: asyncio.Future[Ran] = asyncio.ensure_future(_ran(doing))
        halted: HaltedError | None = None
        try:
            while halted is None and not (await asyncio.wait({task}, timeout=self.every_seconds))[0]:
                halted = await asyncio.to_thread(self.look)
            if halted is not None and asks:
                stop.set()
                await asyncio.wait({task})
        except BaseException:
            await cancel(task)
            raise
        if halted is not None and not task.done():
            await cancel(task)
            raise halted
        ran = task.result()
        if ran.error is not None:
            raise ran.error
        result: Any = ran.value
        return result


class Watched:
    """A block under a `HaltWatch`, and the order that ended its waits."""

    def __init__(self, watch: HaltWatch) -> None:
        self.every_seconds = watch.every_seconds
        self.halted: HaltedError | None = None
        self._watch = watch

    def look(self) -> HaltedError | None:
        """Ask the ledger; see `HaltWatch.look`."""
        self.halted = self._watch.look()
        return self.halted


async def _ran(doing: Callable[[], Awaitable[object]]) -> Ran:
    """Return what came of something, errors too: asyncio ends its loop where a task raises KeyboardInterrupt."""
    import asyncio

    try:
        return Ran(value=await doing())
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - raised again by whoever awaits the task
        return Ran(error=error)
