"""Run a function in a process of its own, so that it can be stopped whatever it does.

Python's regular expressions hold the interpreter while they backtrack, for years if the pattern is unlucky, and no
thread can interrupt them. So a pattern that meets text of a model runs here: a fresh interpreter that is given JSON,
answers JSON, and is killed when its time is up. It costs some 50 ms.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import cast

from donewhen.stops import pieces

_START = (
    "import json, sys; job = json.load(sys.stdin.buffer); sys.path.extend(job['path']); "
    "from donewhen.isolated import answer; answer(job)"
)


class IsolatedError(Exception):
    """Tell that the function raised, or that its process could not be run."""


def call_isolated(function: str, *arguments: object, timeout_seconds: float) -> object:
    """Call a function of an importable module in a process of its own.

    Args:
        function: ``module:name``.
        arguments: JSON values.
        timeout_seconds: how long the process may take, its start included.

    Returns:
        What the function returned, as JSON has it.

    Raises:
        TimeoutError: the process took longer, and was killed.
        StopAskedError: it was to stop, and was killed; see `donewhen.stops`.
        IsolatedError: the function raised, or the process gave no answer.
    """
    job = json.dumps({"function": function, "arguments": arguments, "path": _import_path()}).encode()
    if not sys.executable:
        raise IsolatedError("there is no Python interpreter to run it with")
    # -I and -S: neither the environment, nor the current folder, nor site files decide what is imported.
    command = [sys.executable, "-I", "-S", "-c", _START]
    try:
        # A file: until Python 3.11 a second `communicate` does not send what is left for a pipe.
        with tempfile.TemporaryFile() as given:
            given.write(job)
            given.seek(0)
            process = subprocess.Popen(command, stdin=given, stdout=PIPE, stderr=DEVNULL)
    except OSError as error:
        raise IsolatedError(f"its process could not be started ({error.strerror})") from error
    with process:
        try:
            printed = _read_within(process, timeout_seconds)
        finally:
            process.kill()
    if printed is None:
        raise TimeoutError(f"took longer than {timeout_seconds:g} seconds")
    return _read_answer(printed)


def answer(job: dict[str, object]) -> None:
    """Do one job in the child and print its answer."""
    module, _, name = str(job["function"]).partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
        reply = {"value": found(*cast("list[object]", job["arguments"]))}
    except Exception as error:  # noqa: BLE001 - crosses to the parent as text
        reply = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(reply))


def find_span(pattern: str, text: str) -> list[int] | None:
    """Return where a pattern first matches, as [start, end] in characters, or None."""
    match = re.search(pattern, text)
    return list(match.span()) if match is not None else None


def _read_within(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """Return what the process printed; None if it took longer."""
    for piece in pieces(seconds):
        # What was read before the time was up is not lost: the next call goes on with it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=piece)[0]
    return None


def _import_path() -> list[str]:
    # The place of this package first, and never the current folder: the model may write there.
    own = str(Path(__file__).resolve().parent.parent)
    return [own, *(entry for entry in sys.path if entry not in {"", ".", own})]


def _read_answer(printed: bytes) -> object:
    try:
        reply = cast("dict[str, object]", json.loads(printed))
        problem = None if "value" in reply else str(reply["error"])
    except (ValueError, TypeError, KeyError) as error:
        raise IsolatedError("its process ended without an answer") from error
    if problem is not None:
        raise IsolatedError(problem)
    return reply["value"]
