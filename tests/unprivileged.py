"""A user who may not read and write everything, also where root runs the tests, as in a container."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534


@contextmanager
def unprivileged(tmp_path: Path) -> Iterator[Path]:
    """Run the block as such a user, and give it a folder that is that user's own.

    What it needs must be imported before: that user may not even read this Python's own files.

    Args:
        tmp_path: the test's folder, which is taken where the tests are run by such a user already.
    """
    if os.geteuid() != 0:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory() as folder:  # pytest's are closed to others
        os.chown(folder, NOBODY, NOBODY)
        try:
            os.seteuid(NOBODY)
        except OSError as error:
            pytest.skip(f"root may not become another user here ({error}), and may write everything")
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)
