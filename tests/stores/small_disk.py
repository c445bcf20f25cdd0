"""A disk that is full at a word: a small file system in memory, mounted for one test."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

import pytest
from postgres_server import APP, OWNER, a_server, missing

MEGABYTE = 1 << 20


class SmallDisk:
    """A folder on a disk of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = folder / "server"
        """Where a server is, if there is one."""
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no room at all."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (MEGABYTE, 4096, 1):
                with pytest.raises(OSError, match="No space"):
                    _write_on(file, bytes(size))

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink()


def _write_on(file: IO[bytes], data: bytes) -> NoReturn:
    while True:
        file.write(data)


@contextmanager
def a_small_disk(megabytes: int) -> Iterator[SmallDisk]:
    """Mount a disk, and yield it; a machine where that cannot be done skips the test and says so."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk, on Linux, and fill it")
    folder = Path(tempfile.mkdtemp(prefix="dw-disk-"))  # short, since a socket's path may have 107 bytes
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], capture_output=True, text=True
        )
        if mounted.returncode:
            missing(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
        try:
            yield SmallDisk(folder)
        finally:
            # At once, though an error that somebody still holds may keep a file of it open.
            subprocess.run(["umount", "--lazy", folder], check=True)
    finally:
        folder.rmdir()


@contextmanager
def sqlite_on_a_small_disk() -> Iterator[tuple[SmallDisk, str]]:
    """Yield a disk, and where a ledger on it is."""
    with a_small_disk(4) as disk:
        yield disk, str(disk.folder / "ledger.db")


@contextmanager
def postgres_on_a_small_disk() -> Iterator[tuple[SmallDisk, str]]:
    """Yield a disk that has all of a server's data, and the URL of a ledger there."""
    from donewhen.stores.postgres_init import init

    with a_small_disk(160) as disk:
        disk.server.mkdir()
        with a_server(disk.server) as url:
            init(url, owner_role=OWNER, app_role=APP)
            yield disk, f"{url}#small"


SMALL_DISKS = {"sqlite": sqlite_on_a_small_disk, "postgres": postgres_on_a_small_disk}
"""By the name of the store."""
