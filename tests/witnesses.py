"""Logs to show to witnesses, and witnesses that answer what they should not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from donewhen.cosignatures import cosigner_of
from donewhen.merkle import Frontier, consistency_proof, leaf_hash
from donewhen.notes import Checkpoint, LocalSigner, sign_note
from donewhen.testing.http_server import Connection, LoopbackServer

ORIGIN = "log.example/1"
LOG = LocalSigner(ORIGIN, bytes(range(32)))
KEEPER = LocalSigner("witness.example/w1", bytes(range(1, 33)))
COSIGNER = cosigner_of(KEEPER)
NOW = 1_700_000_000


class SmallLog:
    """A log of so many rows in memory."""

    def __init__(self, size: int, body: str = "row") -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        frontier = Frontier()
        self.roots = [frontier.root()]
        for index in range(size):
            for level, digest in enumerate(frontier.append(leaf_hash(f"{body} {index}".encode()))):
                self.nodes[level, index >> level] = digest
            self.roots.append(frontier.root())

    def text(self, size: int) -> str:
        return Checkpoint(ORIGIN, size, self.roots[size]).text()

    def note(self, size: int) -> str:
        return sign_note(self.text(size), LOG)

    def prover(self, size: int) -> Callable[[int], list[bytes]]:
        """Return what proves that this log extends an earlier state of it."""
        return lambda old: consistency_proof(old, size, lambda level, index: self.nodes[level, index])


@contextmanager
def answering(answer: Callable[[Connection], None]) -> Iterator[str]:
    """Serve on loopback what a function answers, and give its URL."""
    server = LoopbackServer(answer)
    try:
        yield server.url
    finally:
        server.close()


@contextmanager
def speaking(talk: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """Let a function talk to whoever connects, byte by byte, until the block is left."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads = [threading.Thread(target=_accept, args=(listening, talk, over), daemon=True)]
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            over.set()
            with socket.socket() as last:
                last.connect(listening.getsockname())  # wakes it, if nobody ever came
            threads[0].join()


def _accept(
    listening: socket.socket, talk: Callable[[socket.socket, threading.Event], None], over: threading.Event
) -> None:
    while not over.is_set():
        connection, _ = listening.accept()
        with connection:
            try:
                if not over.is_set():
                    talk(connection, over)
            except OSError:
                continue  # the other side has had enough, which is what is tested
