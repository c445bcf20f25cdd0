from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest

from donewhen.testing import FakeClock


def test_time_stands_still_until_it_is_moved() -> None:
    clock = FakeClock()
    before = clock.now()
    clock.move(1.5)
    assert clock.now() - before == timedelta(seconds=1.5)
    assert clock.monotonic() == 1.5


def test_now_is_aware_and_in_utc() -> None:
    start = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert FakeClock(start).now() == datetime(2026, 1, 1, 10, tzinfo=timezone.utc)
    assert FakeClock(start).now().utcoffset() == timedelta(0)


def test_a_start_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        FakeClock(datetime(2026, 1, 1))  # noqa: DTZ001  # that is the point


def test_sleeping_moves_the_clock_at_once_and_is_remembered() -> None:
    clock = FakeClock()
    clock.sleep(3600)
    asyncio.run(clock.asleep(0.25))
    assert clock.slept == (3600, 0.25)
    assert clock.monotonic() == 3600.25


def test_setting_the_walls_clock_back_leaves_the_monotonic_one() -> None:
    clock = FakeClock()
    clock.set_wall(-600)
    assert clock.monotonic() == 0
    assert clock.now() == FakeClock().now() - timedelta(minutes=10)


def test_time_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="backwards"):
        FakeClock().move(-1)
