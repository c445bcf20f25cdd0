from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stores.kit import STORES, postgres_url

from donewhen.stores import Store


@pytest.fixture(params=sorted(STORES))
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Open the one store of a test, each time anew."""
    opened: list[Store] = []

    def opening(**options: Any) -> Store:
        opened.append(STORES[request.param](tmp_path / "ledger.db", **options))
        return opened[-1]

    yield opening
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    return open_store()


@pytest.fixture(params=sorted(STORES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the ledger of a test is, for this process and for others."""
    path = tmp_path / "ledger.db"
    return postgres_url(path) if request.param == "postgres" else str(path)
