"""Tell what runs that it is to stop, and let whoever waits for it wait no longer.

A tool that takes long can ask, and end in an orderly way:

    def crawl(url: str) -> str:
        "Visit every page."
        for page in pages_of(url):
            if donewhen.stopping().is_set():
                return f"stopped before {page}"

Whoever waits does so piece by piece, and asks the lookout of its context between the pieces. There is none unless a
driver has one, so other callers wait as they always did.
"""

from __future__ import annotations

import contextvars
import math
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Protocol


class StopAskedError(Exception):
    """Tell whoever waits that what it waits for is to stop."""

    def __str__(self) -> str:
        return "it was asked to stop"


class Lookout(Protocol):
    """Knows whether what is under way is to stop."""

    @property
    def every_seconds(self) -> float:
        """Return how long to wait between two looks."""
        ...

    def look(self) -> object:
        """Return something true where what is under way is to stop."""
        ...


class Stop(threading.Event):
    """An event that is a lookout: set once nobody waits any more for what runs under it."""

    every_seconds = 0.2

    def look(self) -> bool:
        """Tell whether it is set."""
        return self.is_set()


_lookout: contextvars.ContextVar[Lookout | None] = contextvars.ContextVar("donewhen-lookout", default=None)


def stopping() -> threading.Event:
    """Return the event that is set once the tool, or the function of a check, that asks is to stop.

    That is so once its session is halted, its time is up, or its caller was interrupted: nobody waits for it much longer.
    What it returns within a second of a halt is still its result. Elsewhere the event is never set.
    """
    lookout = _lookout.get()
    return lookout if isinstance(lookout, Stop) else threading.Event()


@contextmanager
def under(lookout: Lookout) -> Generator[None, None, None]:
    """Let waits within a block, and what is started in it, ask a lookout."""
    token = _lookout.set(lookout)
    try:
        yield
    finally:
        _lookout.reset(token)


def pieces(seconds: float | None) -> Iterator[float | None]:
    """Yield how long to wait next, until the time is up; between them the lookout is asked.

    Args:
        seconds: the time that there is. None: no end.

    Raises:
        StopAskedError: the lookout says so.
        The errors of the lookout.
    """
    lookout = _lookout.get()
    if lookout is None:
        yield seconds
        return
    end = math.inf if seconds is None else time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        yield min(left, lookout.every_seconds)
        if lookout.look():
            raise StopAskedError
