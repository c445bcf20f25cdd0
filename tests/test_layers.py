"""The layers of docs/architecture.md are what the code does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True, no_logo=True))"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter with our contracts over the package in ``folder/src``."""
    return subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src"), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_every_layer_imports_only_what_stands_below_it() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "told"),
    [
        ("errors", "import donewhen.ledger", "donewhen.errors -> donewhen.ledger"),
        ("circuit_breaker", "def late():\n    import donewhen.tools", "donewhen.circuit_breaker -> donewhen.tools"),
        ("merkle", "import click", "donewhen.merkle -> click"),
        ("usage", "import donewhen.client", "- .usage -> .client"),
        ("a_room_without_a_place", "import donewhen.errors", "- donewhen.a_room_without_a_place"),
    ],
)
def test_an_import_that_goes_up_or_out_or_round_is_found(copied: Path, module: str, line: str, told: str) -> None:
    with (copied / "src" / "donewhen" / f"{module}.py").open("a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")
    result = lint(copied)
    assert result.returncode == 1
    assert told in result.stdout
