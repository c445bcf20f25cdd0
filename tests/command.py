"""The command line, called as a person calls it: in this process, or as a process of its own."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from processes import PATIENCE_SECONDS, ending

import donewhen as package
from donewhen.cli import main

SPEC = """\
what_it_does = "Says hello."
what_it_does_not = "It does nothing else."
done_looks_like = "A greeting."
"""
AUDIT_TOOLS = "donewhen.seo:audit_tools"


def donewhen(*words: str | Path, stdin: str | bytes = "") -> Result:
    """Run a command in this process; its stdout and stderr are no terminals."""
    # Before click 8.2 stderr is part of stdout unless one asks.
    apart = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
    return CliRunner(**apart).invoke(main, [str(word) for word in words], input=stdin)


def write_spec(path: Path, more: str = "", **answers: str) -> Path:
    """Write a spec file; `more` is TOML."""
    text = SPEC
    for name, answer in answers.items():
        old = next(line for line in text.splitlines() if line.startswith(f"{name} ="))
        text = text.replace(old, f"{name} = {json.dumps(answer)}")
    path.write_text(f"{text}{more}", encoding="utf-8")
    return path


def run_offline(*words: str | Path) -> Result:
    """Run a spec file with the offline client."""
    return donewhen("run", *words, "--client", "offline")


def run_for_json(*words: str | Path) -> dict[str, Any]:
    """Run a spec file with the offline client, and return the JSON it ends with."""
    found: dict[str, Any] = json.loads(run_offline(*words, "--json").stdout)
    return found


def as_json(*words: str | Path) -> Any:
    """Run a reading command and return its JSON."""
    result = donewhen(*words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def process(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own."""
    return subprocess.run(argv(*words), text=True, timeout=PATIENCE_SECONDS, check=False, **_with_pipes(options))


@contextmanager
def start(*words: str | Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a command as a process of its own; it does not outlive the block."""
    with ending(subprocess.Popen(argv(*words), text=True, **_with_pipes(options))) as process:
        yield process


def argv(*words: str | Path) -> list[str]:
    """Return the words of a command for a process."""
    return [sys.executable, "-m", "donewhen", *map(str, words)]


def environ(**more: str) -> dict[str, str]:
    """Return this environment for a process that works in another folder."""
    return {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1]), **more}


def _with_pipes(options: dict[str, Any]) -> dict[str, Any]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return {**pipes, "env": environ(), **options}
