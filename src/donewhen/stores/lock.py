"""A fair queue of processes in front of a file's one writer.

SQLite lets writers wait by trying again, and under load a writer can lose for seconds. So whoever wants to write takes
`turn` first, and draws a ticket where it is not free. `queue` holds two numbers: the next ticket, and the one that is
called. Whoever is called asks for the turn; those behind look at the number now and then, less often the farther back
they are. Both files are locked by `flock`, which the system lets go of when a process dies, however it dies.

Who has come through may come again at once, past the queue, until its spell is over. A process that follows another
one must first learn what that one wrote and hold it against what was signed, which takes as long as to write a row.

Only `turn` keeps others out. A number that is wrong, or the ticket of somebody who died or gave up, costs those behind
it `STALLED_SECONDS`, once. Where there is no flock (Windows), SQLite's own waiting serves.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SPELL_SECONDS = 0.02
"""How long a process may come again past the queue."""

FIRST_PAUSE_SECONDS = 0.001
LONGEST_PAUSE_SECONDS = 0.002
"""How long whoever is called pauses before it asks for the turn again, and each place in the queue before it looks."""

STALLED_SECONDS = 0.1
"""How long the number may stand still while the turn is free. Then whoever sees it does not wait to be called."""

_NUMBERS = struct.Struct("<QQ")
_NEXT, _CALLED = 0, 8
"""Where the two stand."""


class Turnstile:
    """Let one process at a time through, those who wait in turn.

    Args:
        path: the lock file; made when missing, never removed, since removing it would split the queue.
        wait_seconds: the longest wait.
        monotonic: seconds, from the clock that never goes back.
        pause: waits so many seconds.
    """

    def __init__(
        self,
        path: str,
        wait_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path = path
        self.wait_seconds = wait_seconds
        self._monotonic = monotonic
        self._pause = pause
        self._files: tuple[int, int] | None = None
        self._spell_ends = 0.0

    def enter(self) -> None:
        """Wait for this process's turn, which lasts until `leave`.

        Raises:
            TimeoutError: it did not come in time.
            OSError: the lock files could not be opened.
        """
        if fcntl is None:
            return
        if self._files is None:
            self._files = self._open()
        queue, turn = self._files
        now = self._monotonic()
        if now < self._spell_ends and _try_to_take(turn):
            return
        following, called = _read(queue)
        if following > called or not _try_to_take(turn):
            self._wait(queue, turn, now + self.wait_seconds)
        self._spell_ends = self._monotonic() + SPELL_SECONDS

    def leave(self) -> None:
        """Let the next one through; nothing where it is not this process's turn."""
        if fcntl is not None and self._files is not None:
            _let_go(self._files[1])

    def close(self) -> None:
        """Close the lock files. A child process closes those of its parent, so that the two do not share a lock."""
        if self._files is not None:
            for descriptor in self._files:
                os.close(descriptor)
            self._files = None

    def _open(self) -> tuple[int, int]:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        queue = os.open(self.path + "-queue", flags, 0o666)
        try:
            return queue, os.open(self.path + "-turn", flags, 0o666)
        except OSError:
            os.close(queue)
            raise

    def _wait(self, queue: int, turn: int, deadline: float) -> None:
        """Draw a ticket, wait until it is called, and take the turn."""
        ticket = self._draw(queue, deadline)
        try:
            self._wait_for(ticket, queue, turn, deadline)
        except BaseException:
            self._give_back(ticket, queue)
            raise
        # Whoever was before this one is through, has died, or has given up.
        _write(queue, _CALLED, max(_read(queue)[1], ticket + 1))

    def _wait_for(self, ticket: int, queue: int, turn: int, deadline: float) -> None:
        seen, since, asking = -1, 0.0, FIRST_PAUSE_SECONDS
        while True:
            now = self._monotonic()
            _, called = _read(queue)
            if called != seen:
                seen, since = called, now
            if called >= ticket or now - since >= STALLED_SECONDS:
                if _try_to_take(turn):
                    return
                since = now
            self._rest(max(ticket - called, 0) * LONGEST_PAUSE_SECONDS or asking, now, deadline)
            asking = min(asking * 1.5, LONGEST_PAUSE_SECONDS)

    def _draw(self, queue: int, deadline: float) -> int:
        while not _try_to_take(queue):
            self._rest(FIRST_PAUSE_SECONDS, self._monotonic(), deadline)
        try:
            ticket = max(_read(queue))
            _write(queue, _NEXT, ticket + 1)
            return ticket
        finally:
            _let_go(queue)

    def _give_back(self, ticket: int, queue: int) -> None:
        """Spare the others the wait for somebody who does not come, where that is easily done."""
        if not _try_to_take(queue):
            return
        try:
            following, called = _read(queue)
            if following == ticket + 1:
                _write(queue, _NEXT, ticket)
            elif called == ticket:
                _write(queue, _CALLED, ticket + 1)
        finally:
            _let_go(queue)

    def _rest(self, seconds: float, now: float, deadline: float) -> None:
        if now >= deadline:
            raise TimeoutError(f"another process has held {self.path} for {self.wait_seconds} s")
        self._pause(min(seconds, STALLED_SECONDS))


def _read(queue: int) -> tuple[int, int]:
    """Return the next ticket and the one that is called."""
    found = os.pread(queue, _NUMBERS.size, 0)
    return _NUMBERS.unpack(found.ljust(_NUMBERS.size, b"\0"))


def _write(queue: int, place: int, number: int) -> None:
    os.pwrite(queue, (number % 2**64).to_bytes(8, "little"), place)


def _try_to_take(descriptor: int) -> bool:
    assert fcntl is not None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _let_go(descriptor: int) -> None:
    assert fcntl is not None
    fcntl.flock(descriptor, fcntl.LOCK_UN)
