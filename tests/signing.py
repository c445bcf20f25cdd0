"""Signers behind sockets, for tests: in a thread of this process, or as a process of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stores.kit import SIGNER, start

from donewhen.ledger import utc_now
from donewhen.signers.memory import SignerMemory
from donewhen.signers.server import Desk, LogDesk, SignerServer

SERVER = """
import os, signal, sys
from pathlib import Path
from donewhen.ledger import utc_now
from donewhen.signers.memory import SignerMemory
from donewhen.signers.server import LogDesk, SignerServer
from stores.kit import SIGNER

folder, dies = Path(sys.argv[1]), sys.argv[2]

class Signer:
    name, vkey = SIGNER.name, SIGNER.vkey
    count = 0
    def sign(self, message):
        self.count += 1
        if dies == f"before signature {self.count}":
            os.kill(os.getpid(), signal.SIGKILL)
        signature = SIGNER.sign(message)
        if dies == f"after signature {self.count}":
            os.kill(os.getpid(), signal.SIGKILL)
        return signature

memory = SignerMemory(folder / "state", now=utc_now)
desk = LogDesk(Signer(), memory, lambda odd: print(odd, flush=True))
with SignerServer(folder / "socket", SIGNER.vkey, desk) as server:
    print("ready", flush=True)
    server.serve()
"""
"""A signer that can be told to die: python -c SERVER FOLDER WHEN."""


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose name is short: a socket's path has room for about a hundred bytes."""
    folder = Path(tempfile.mkdtemp(prefix="dw"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def serving(path: Path, desk: Desk, vkey: str = SIGNER.vkey, **options: Any) -> Iterator[SignerServer]:
    """Serve in a thread of this process."""
    with SignerServer(path, vkey, desk, **options) as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()


@contextmanager
def serving_logs(folder: Path, told: list[str] | None = None) -> Iterator[Path]:
    """Serve the key of `stores.kit.SIGNER` for logs, remembering in the folder; yield the socket."""
    memory = SignerMemory(folder / "state", now=utc_now)
    try:
        with serving(folder / "socket", LogDesk(SIGNER, memory, (told if told is not None else []).append)):
            yield folder / "socket"
    finally:
        memory.close()


@contextmanager
def serving_process(folder: Path, dies: str = "never") -> Iterator[subprocess.Popen[str]]:
    """Serve logs as a process of its own, which may be told when to die."""
    with start(SERVER, folder, dies) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.stderr and process.stderr.read()
        yield process


def remembered(folder: Path) -> dict[str, tuple[int, int]]:
    """Return by log the sizes of the confirmed and the pending state that are on disk."""
    logs = json.loads((folder / "state").read_text())["logs"]
    return {origin: (memory["confirmed"]["size"], memory["pending"]["size"]) for origin, memory in logs.items()}


def journal(folder: Path) -> list[dict[str, Any]]:
    """Return what the journal says."""
    path = folder / "state.journal"
    return [json.loads(line) for line in path.read_text().splitlines()] if os.path.exists(path) else []
