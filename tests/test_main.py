"""The command explains itself when its extra is not installed."""

from __future__ import annotations

import subprocess
import sys


def run_without(module: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an interpreter that cannot import a module."""
    code = (
        f"import sys, runpy; sys.modules[{module!r}] = None; sys.argv = ['donewhen', '--help'];"
        "runpy.run_module('donewhen', run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_without_click_one_line_names_the_extra_and_the_code_is_2() -> None:
    result = run_without("click")
    assert result.returncode == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert "pip install 'donewhen[cli]'" in line


def test_a_broken_installation_is_not_blamed_on_an_extra() -> None:
    result = run_without("donewhen.cli")
    assert result.returncode == 1
    assert "ModuleNotFoundError" in result.stderr


def test_with_its_extra_the_command_runs() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "donewhen", "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout
