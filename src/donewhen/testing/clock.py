"""A clock that only moves when it is told to."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


class FakeClock:
    """Tell the time, by the wall and monotonic, without waiting for it. Safe to share between threads.

    Args:
        start: the wall's time at the beginning, with a time zone.
    """

    def __init__(self, start: datetime = START) -> None:
        if start.tzinfo is None:
            raise ValueError("a clock's start needs a time zone")
        self._lock = threading.Lock()
        self._start = start.astimezone(timezone.utc)
        self._moved_seconds = 0.0
        self._wall_shift_seconds = 0.0
        self._slept: list[float] = []

    def now(self) -> datetime:
        """Return the wall's time, in UTC."""
        with self._lock:
            return self._start + timedelta(seconds=self._moved_seconds + self._wall_shift_seconds)

    def monotonic(self) -> float:
        """Return the seconds that went by, which setting the wall's clock does not change."""
        with self._lock:
            return self._moved_seconds

    def move(self, seconds: float) -> None:
        """Let time go by."""
        if seconds < 0:
            raise ValueError(f"time does not run backwards (asked for {seconds} seconds)")
        with self._lock:
            self._moved_seconds += seconds

    def set_wall(self, shift_seconds: float) -> None:
        """Put the wall's clock forward, or back if below zero, as an administrator does."""
        with self._lock:
            self._wall_shift_seconds += shift_seconds

    def sleep(self, seconds: float) -> None:
        """Let time go by, at once, and remember that somebody slept."""
        self.move(seconds)
        with self._lock:
            self._slept.append(seconds)

    async def asleep(self, seconds: float) -> None:
        """Do what `sleep` does, and let other tasks run."""
        import asyncio

        self.sleep(seconds)
        await asyncio.sleep(0)

    @property
    def slept(self) -> tuple[float, ...]:
        """Return each sleep, in seconds."""
        with self._lock:
            return tuple(self._slept)
