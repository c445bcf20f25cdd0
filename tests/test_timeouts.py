"""Time limits: what was given up is not begun later."""

from __future__ import annotations

import threading

from donewhen.timeouts import run_within


def test_a_coroutine_that_was_cancelled_before_its_loop_started_does_nothing() -> None:
    gate, threads, done = threading.Event(), list[threading.Thread](), list[str]()

    async def act() -> None:
        done.append("acted")

    def begin() -> object:
        threads.append(threading.current_thread())
        gate.wait()
        return act()

    assert run_within(begin, 0.05).timed_out
    gate.set()
    threads[0].join()
    assert done == []
