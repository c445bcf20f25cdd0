from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from guarded.kit import WAYS, Desk, a_desk


@pytest.fixture(params=WAYS)
def desk(request: pytest.FixtureRequest, tmp_store: Path) -> Iterator[Desk]:
    """A guarded client of each kind, each in its turn."""
    with a_desk(request.param, tmp_store) as opened:
        yield opened
