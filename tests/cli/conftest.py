"""Every test of the command line works in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    """A spec that the offline client keeps in one turn."""
    from command import write_spec

    return write_spec(tmp_path / "spec.toml")
