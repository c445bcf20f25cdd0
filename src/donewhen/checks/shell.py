"""A check that runs a program: exit status 0 is met."""

from __future__ import annotations

import os
import shlex
import signal
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from donewhen.checks import base
from donewhen.checks.base import CheckContext, CheckResult, failed, guarded, met, not_met
from donewhen.checks.process import Finished, ProcessGroup
from donewhen.checks.protected import find_changes, read_protected_path
from donewhen.errors import CheckError
from donewhen.timeouts import arun_within

_KIND = "shell"
_KEEP_BYTES = 4 * base.MAX_DETAIL_CHARS
"""A character has four bytes at most."""

_OUR_SECRETS = ("DONEWHEN_LOG_KEY", "DONEWHEN_KEY_PASSPHRASE", "DONEWHEN_INPUT_KEY")

_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
"""What a shell answers. Source: POSIX.1-2024, Shell Command Language, 2.8.2."""

_SIGNAL_BASE = 128
"""A shell answers 128 + n for a command that signal n ended. Source: as above."""


@dataclass(frozen=True, slots=True, init=False)
class Shell:
    """Run a command: exit status 0 is met, any other is not met, with the end of its output as the reason.

    It gets the output on standard input, and in the file that $DONEWHEN_OUTPUT_FILE names. A command that does not
    end in time, cannot be found or is ended by a signal is an error: nothing is known then. It runs in a process
    group of its own, killed as a whole when it ends. Its environment is this process's without ``*_API_KEY`` and
    donewhen's own secrets. It is no sandbox: it may do what this user may.

    With `protects`, the check is not met, and the command not even run, if a protected file has changed since the
    session opened, committed or not; this is looked at again when it has ended. Everything in a protected folder
    counts, compiled Python too, so the command is run with PYTHONDONTWRITEBYTECODE=1.

    Args:
        command: a list is run as it is; a string is run by ``/bin/sh -c``.
        name: how rows and messages call it. None: the command.
        timeout_seconds: from 0.001 to 86,400.
        protects: files, folders or patterns, from the session's folder. See `donewhen.checks.protected`.
        folder: where to run, from the session's folder. None: there.

    Raises:
        CheckError: an argument is not as described here; names it and its value.
    """

    command: str | tuple[str, ...]
    name: str
    timeout_seconds: float
    protects: tuple[str, ...]
    folder: str | None

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        name: str | None = None,
        timeout_seconds: float = 60,
        protects: Iterable[str | os.PathLike[str]] = (),
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        read = _read_command(command)
        base.fix(
            self,
            command=read,
            name=base.read_name(_KIND, name, read if isinstance(read, str) else shlex.join(read)),
            timeout_seconds=base.read_timeout(_KIND, timeout_seconds),
            protects=_read_protects(protects),
            folder=None if folder is None else base.read_text(_KIND, "folder", _as_text(folder)),
        )

    def describe(self) -> dict[str, Any]:
        """Return the check as plain data; `check_from` is the inverse."""
        command = self.command if isinstance(self.command, str) else list(self.command)
        told: dict[str, Any] = {"check": _KIND, "name": self.name, "command": command}
        told |= base.describe_timeout(self.timeout_seconds)
        if self.protects:
            told["protects"] = list(self.protects)
        if self.folder is not None:
            told["folder"] = self.folder
        return told

    def run(self, context: CheckContext) -> CheckResult:
        """Run the command and wait for it."""
        return guarded(self.name, lambda: self._judge(context, ProcessGroup()))

    async def arun(self, context: CheckContext) -> CheckResult:
        """Run the command in a thread; if the caller is cancelled, the command is killed."""
        group = ProcessGroup()
        ran = await arun_within(
            lambda: guarded(self.name, lambda: self._judge(context, group)), None, on_cancel=group.stop
        )
        return base.judged(self.name, ran)

    def _judge(self, context: CheckContext, group: ProcessGroup) -> CheckResult:
        changes = find_changes(self.protects, context.folder, context.protected)
        if changes:
            return self._tampered(changes)
        with tempfile.TemporaryDirectory(prefix="donewhen-", ignore_cleanup_errors=True) as scratch:
            text = base.without_surrogates(context.output).encode()
            file = Path(scratch) / "output.txt"
            file.write_bytes(text)
            finished = self._run(group, context, text, file)
        result = self._read(finished)
        if result.outcome == "error":
            return result
        changes = find_changes(self.protects, context.folder, context.protected)
        return self._tampered(changes) if changes else result

    def _run(self, group: ProcessGroup, context: CheckContext, text: bytes, file: Path) -> Finished:
        folder = context.folder / (self.folder or "")
        if not folder.is_dir():
            raise CheckError(f"the folder {self.folder or str(folder)!r} does not exist")
        command = ["/bin/sh", "-c", self.command] if isinstance(self.command, str) else self.command
        try:
            return group.run(
                command,
                stdin=text,
                folder=folder,
                environment=_environment(os.environ, file, quiet=bool(self.protects)),
                timeout_seconds=self.timeout_seconds,
                keep_bytes=_KEEP_BYTES,
            )
        except OSError as error:
            raise CheckError(f"the command {command[0]!r} cannot be run: {error.strerror or error}") from error

    def _read(self, finished: Finished) -> CheckResult:
        status = finished.exit_status
        if finished.timed_out:
            return failed(self.name, f"the command took longer than {self.timeout_seconds:g} seconds and was killed")
        ended_by = _signal_of(status, by_shell=isinstance(self.command, str))
        if ended_by is not None:
            return failed(self.name, _with_tail(f"the command was ended by {ended_by}", finished.tail))
        if status in {_NOT_EXECUTABLE, _NOT_FOUND}:
            problem = "was not found" if status == _NOT_FOUND else "could not be executed"
            return failed(self.name, _with_tail(f"the command {problem} (exit status {status})", finished.tail))
        if status == 0:
            return met(self.name)
        return not_met(self.name, _with_tail(f"exit status {status}", finished.tail))

    def _tampered(self, changes: list[str]) -> CheckResult:
        return not_met(self.name, f"{'; '.join(changes)}. Restore what was there when the session opened.")


def _read_command(command: object) -> str | tuple[str, ...]:
    if isinstance(command, str):
        return base.read_text(_KIND, "command", command)
    if not isinstance(command, (list, tuple)) or not command:
        raise base.wrong(
            _KIND, "command", cast("object", command), "must be text, or a list of a program and its arguments"
        )
    parts = cast("Sequence[object]", command)
    program = base.read_text(_KIND, "command", parts[0])
    return (program, *(_read_argument(part) for part in parts[1:]))


def _read_argument(part: object) -> str:
    if not isinstance(part, str) or "\0" in part or base.without_surrogates(part) != part:
        raise base.wrong(_KIND, "command", part, "must have text alone as arguments")
    return part


def _read_protects(protects: object) -> tuple[str, ...]:
    if isinstance(protects, (str, os.PathLike)) or not isinstance(protects, Iterable):
        raise base.wrong(_KIND, "protects", cast("object", protects), "must be a list of files or folders")
    return tuple(dict.fromkeys(read_protected_path(path) for path in cast("Iterable[object]", protects)))


def _as_text(path: str | os.PathLike[str]) -> object:
    # Checks are also made from files: what is no path is left for read_text to refuse.
    return os.fspath(path) if isinstance(cast("object", path), os.PathLike) else path


def _environment(own: Mapping[str, str], file: Path, *, quiet: bool) -> dict[str, str]:
    kept = {name: value for name, value in own.items() if not _is_secret(name)}
    kept["DONEWHEN_OUTPUT_FILE"] = str(file)
    if quiet:
        # Python would write its bytecode beside the protected files, and so add files of its own.
        kept["PYTHONDONTWRITEBYTECODE"] = "1"
    return kept


def _is_secret(name: str) -> bool:
    return name.upper().endswith("_API_KEY") or name.upper() in _OUR_SECRETS


def _signal_of(status: int, *, by_shell: bool) -> str | None:
    number = -status if status < 0 else status - _SIGNAL_BASE if by_shell else 0
    if number <= 0:
        return None
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return None if status > 0 else f"signal {number}"


def _with_tail(sentence: str, tail: bytes) -> str:
    text = tail.decode(errors="replace").strip()
    room = base.MAX_DETAIL_CHARS - len(sentence) - 2
    if not text:
        return sentence
    return f"{sentence}\n{text}" if len(text) <= room else f"{sentence}\n…{text[-room:]}"
