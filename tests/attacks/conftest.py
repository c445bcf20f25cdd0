"""The ledgers that are attacked: made once for each worker, copied for each attack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from attacks.crashes import build as build_crashes
from attacks.forger import Forger, copy
from attacks.ledger_200 import build


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("honest"))


@pytest.fixture(scope="session")
def crashed(honest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the same ledger as each crash left it, by what was going on."""
    return build_crashes(honest, tmp_path_factory.mktemp("crashed"))


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Forger]:
    def copy_of(path: Path) -> Forger:
        copy(path, tmp_path / "ledger.db")
        return Forger(tmp_path / "ledger.db")

    return copy_of
