"""One program in a process group of its own, bounded in time and in what is kept of its output."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from donewhen.stops import pieces

_CHUNK_BYTES = 1 << 16

_LAST_WORDS_SECONDS = 1.0
"""How long we wait for output that a process which fled the group still holds open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a program ended."""

    exit_status: int
    """Negative: the signal that ended it."""
    tail: bytes
    """The last of its output, standard output and standard error in the order they came."""
    timed_out: bool


class ProcessGroup:
    """A program and what it starts, which can be stopped from any thread.

    When the program ends, whatever it left running in its group is killed too. A process that makes a session of its
    own (`setsid`) flees the group and is not stopped.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both fields below
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def run(
        self,
        command: Sequence[str],
        *,
        stdin: bytes,
        folder: Path,
        environment: Mapping[str, str],
        timeout_seconds: float,
        keep_bytes: int,
    ) -> Finished:
        """Run a program to its end, or to the end of its time.

        Args:
            command: the program and its arguments; no shell is involved.
            stdin: its standard input.
            folder: its working folder.
            environment: all of its environment.
            timeout_seconds: when to kill the group.
            keep_bytes: how much of the end of its output to keep. The rest is read and dropped.

        Raises:
            OSError: the program could not be started.
            StopAskedError: it was to stop; see `donewhen.stops`. The group is killed.
        """
        process = self._start(command, folder, environment)
        tail = _Tail(process.stdout, keep_bytes)
        threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True).start()
        tail.start()
        try:
            timed_out = not any(_ends_within(process, piece) for piece in pieces(timeout_seconds))
        finally:
            self.stop()
            exit_status = process.wait()
            with self._lock:
                self._process = None  # its number may be another process's from now on
        tail.join(_LAST_WORDS_SECONDS)
        return Finished(exit_status=exit_status, tail=tail.data, timed_out=timed_out)

    def stop(self) -> None:
        """Kill the group, now or as soon as it is started."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None:
                _kill_group(self._process)

    def _start(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._is_stopped:
                raise InterruptedError("stopped before it was started")
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=dict(environment),
                start_new_session=True,
            )
            return self._process


class _Tail(threading.Thread):
    """Reads to the end and keeps the last bytes. `data` is replaced whole, so that it can be read at any time."""

    def __init__(self, stream: IO[bytes] | None, keep_bytes: int) -> None:
        super().__init__(daemon=True)
        self.data = b""
        self._stream = stream
        self._keep = keep_bytes

    def run(self) -> None:
        assert self._stream is not None
        with self._stream as stream:
            while chunk := os.read(stream.fileno(), _CHUNK_BYTES):
                self.data = (self.data + chunk)[-self._keep :]


def _ends_within(process: subprocess.Popen[bytes], seconds: float | None) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _feed(stream: IO[bytes] | None, data: bytes) -> None:
    assert stream is not None
    try:
        with stream:
            stream.write(data)
    except OSError:
        return  # the program does not want the rest: it need not read at all


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    kill_group = getattr(os, "killpg", None)
    if kill_group is None:
        process.kill()
        return
    try:
        kill_group(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # the group is empty; macOS says so with PermissionError
