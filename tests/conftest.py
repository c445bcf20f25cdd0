"""What every test has around it: folders of its own, and no way out to the network."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import hypothesis
import pytest
from loopback import stay_on_loopback
from postgres_server import begin_run, end_run

# Before any of them is imported: what a helper asserts is shown as a test's own assertion is.
pytest.register_assert_rewrite(
    "attacks.kit",
    "auditing",
    "command",
    "crash.kit",
    "exports",
    "guarded.kit",
    "processes",
    "receipts",
    "reviews",
    "sessions",
    "signing",
    "specs",
    "stores.kit",
    "terminal",
)

# How long an example takes says how busy the machine is, and nothing else.
CALM = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("dev", max_examples=50, **CALM)
hypothesis.settings.register_profile("ci", max_examples=100, print_blob=True, **CALM)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

OUTSIDE_WORLD = ("ANTHROPIC_", "OPENAI_", "DONEWHEN_", "XDG_CONFIG_HOME")
"""Environment variables that start so would let the caller's own keys, addresses and settings into a test."""

_numbers = itertools.count(1)

# An audit hook sees every socket, whoever opens it, and cannot be taken away again.
sys.addaudithook(stay_on_loopback)


def pytest_configure() -> None:
    begin_run()


def pytest_unconfigure() -> None:
    end_run()


@pytest.fixture(scope="session")
def config_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


@pytest.fixture(autouse=True)
def _a_machine_of_its_own(config_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(OUTSIDE_WORLD):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DONEWHEN_CONFIG_DIR", str(config_folders / str(next(_numbers))))


@pytest.fixture
def tmp_store(tmp_path: Path) -> Path:
    """A path for a ledger that is not there yet."""
    return tmp_path / "ledger.db"
