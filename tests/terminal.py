"""A person in front of one command, at a terminal of their own: what they type is what it asks for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from command import environ
from processes import ending

_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    " os.execv(sys.executable, [sys.executable, '-m', 'donewhen', *sys.argv[1:]])"
)


class Terminal:
    """What is shown on a terminal, and the keyboard."""

    def __init__(self, descriptor: int, process: subprocess.Popen[Any]) -> None:
        self.process = process
        self._descriptor = descriptor
        self._seen = ""

    def wait_for(self, text: str) -> str:
        """Return what is shown up to a text, and the text; all of it where the command ends before that."""
        while text not in self._seen:
            try:
                shown = os.read(self._descriptor, 65536)
            except OSError:  # the command has ended
                shown = b""
            if not shown:
                break
            self._seen += shown.decode()
        before, found, self._seen = self._seen.partition(text)
        return before + found

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._descriptor, f"{text}\n".encode())

    def end(self) -> tuple[int, str]:
        """Return the exit code, and what else was shown."""
        rest = self.wait_for("\0")
        return self.process.wait(), rest


@contextmanager
def at_a_terminal(*words: str | Path, **more: str) -> Iterator[Terminal]:
    """Run a command as a process of its own, at a terminal of its own."""
    ours, theirs = os.openpty()
    try:
        command = [sys.executable, "-c", _TAKE_TERMINAL, *map(str, words)]
        ends = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "env": environ(**more), "start_new_session": True}
        process = subprocess.Popen(command, text=True, **ends)
        os.close(theirs)
        with ending(process):
            yield Terminal(ours, process)
    finally:
        os.close(ours)
