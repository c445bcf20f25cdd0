"""Tools named on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from donewhen.cli.exits import CommandError
from donewhen.cli.tool_refs import load_tools
from donewhen.tools import Tool, toolbox

MODULE = '''
from __future__ import annotations
from collections.abc import Callable
from donewhen.tools import Tool, as_tool

def add(a: int, b: int) -> int:
    """Add."""
    return a + b

def now() -> list[str]:
    """Tell the time."""
    return ["now"]

def made() -> list[Callable[..., object]]:
    return [add, now]

def made_of_tools() -> list[Tool]:
    return [as_tool(add)]

def broken() -> list[Tool]:
    raise OSError("no")

both = [add, now]
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working folder, as `--tools` finds it."""
    name = f"tools_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("add", ["add"]),
        ("now", ["now"]),
        ("both", ["add", "now"]),
        ("made", ["add", "now"]),
        ("made_of_tools", ["add"]),
    ],
)
def test_a_reference_is_a_tool_or_makes_tools(module: str, name: str, expected: list[str]) -> None:
    assert list(toolbox(load_tools([f"{module}:{name}"]))) == expected


def test_a_tool_is_taken_as_it_is(module: str) -> None:
    [found] = load_tools([f"{module}:made_of_tools"])
    assert isinstance(found, Tool)


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("no colon", "not a reference"),
        ("nowhere_at_all:add", "cannot be imported"),
        ("{module}:missing", "has no missing"),
        ("{module}:broken", "OSError: no"),
    ],
)
def test_what_cannot_be_loaded_is_named(module: str, reference: str, problem: str) -> None:
    with pytest.raises(CommandError, match=problem) as caught:
        load_tools([reference.format(module=module)])
    assert caught.value.exit_code == 2


def test_a_file_here_never_takes_the_place_of_an_installed_module(tmp_path: Path, module: str) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit")
    load_tools([f"{module}:add"])
    assert sys.path.index(str(tmp_path)) == len(sys.path) - 1
