"""Processes that a test starts: none outlives its test, and one that fails says why."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

PATIENCE_SECONDS = 300.0
"""How long a process of a test may take, on a machine that is busy with other things."""


@contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that is dead and collected, its pipes closed, when the block ends, however it ends.

    It is killed when its time is up, so that nobody waits for ever for what it says.
    """
    watchdog = threading.Timer(PATIENCE_SECONDS, process.kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        with process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        watchdog.cancel()
        watchdog.join()


def finish(*processes: subprocess.Popen[str]) -> list[str]:
    """Wait for processes that must all end well without a word on stderr, and return what each printed."""
    said = [process.communicate() for process in processes]
    faults = [
        f"process {number} of {len(processes)} ended with {process.returncode} and said:\n{err or '(nothing)'}"
        for number, (process, (_, err)) in enumerate(zip(processes, said, strict=True), start=1)
        if process.returncode != 0 or err
    ]
    if faults:
        raise AssertionError("\n".join(faults))
    return [out for out, _ in said]


def let_go_together(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Wait until each process has printed that it is ready, then send each a line, all at the same moment."""
    greetings = [process.stdout.readline() for process in processes if process.stdout is not None]
    if greetings != ["ready\n"] * len(processes):
        finish(*processes)  # whoever has died says why
        raise AssertionError(f"not every process was ready: {greetings}")
    for process in processes:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # whoever has died says why when it is waited for
            process.stdin.write("go\n")
            process.stdin.flush()
