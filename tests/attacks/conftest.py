"""The ledger that is attacked: made once for each worker, copied for each attack."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from attacks.forger import Forger
from attacks.ledger_200 import build, leave_open


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("honest"))


@pytest.fixture(scope="session")
def crashed(honest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same ledger with a session that was left open."""
    path = tmp_path_factory.mktemp("crashed") / "ledger.db"
    shutil.copy(honest, path)
    leave_open(path)
    return path


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Forger]:
    def copy(path: Path) -> Forger:
        shutil.copy(path, tmp_path / "ledger.db")
        return Forger(tmp_path / "ledger.db")

    return copy
