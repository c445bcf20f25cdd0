"""A fair queue of processes in front of a file's one writer.

SQLite lets writers wait by trying again, and under load a writer can lose for seconds. Two locks make a turnstile:
whoever wants to write takes `queue` first, then `turn`, and lets go of `queue` once it has its turn. Someone who has
just written must pass the queue again, where another one stands already. Both are `flock`s: the system lets go of them
when a process dies, however it dies.

Where there is no flock (Windows), SQLite's own waiting serves.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FIRST_PAUSE_SECONDS = 0.0003
LONGEST_PAUSE_SECONDS = 0.002


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
        deadline = self._monotonic() + self.wait_seconds
        try:
            self._take(queue, deadline)
            self._take(turn, deadline)
        finally:
            fcntl.flock(queue, fcntl.LOCK_UN)

    def leave(self) -> None:
        """Let the next one through; nothing where it is not this process's turn."""
        if fcntl is not None and self._files is not None:
            fcntl.flock(self._files[1], fcntl.LOCK_UN)

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

    def _take(self, descriptor: int, deadline: float) -> None:
        assert fcntl is not None
        seconds = FIRST_PAUSE_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if self._monotonic() >= deadline:
                    raise TimeoutError(f"another process has held {self.path} for {self.wait_seconds} s") from None
            self._pause(seconds)
            seconds = min(seconds * 1.5, LONGEST_PAUSE_SECONDS)
