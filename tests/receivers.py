"""Receivers on loopback for what is handed on: each keeps what it was sent, and answers as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from donewhen.testing.http_server import Connection, LoopbackServer

CUT = 0
"""In place of a status: the connection breaks when the request has come."""


@dataclass
class Receiver:
    """What came, and the statuses to answer with, the last of them from then on."""

    statuses: list[int]
    url: str = ""
    body: bytes = b"thanks"
    headers: dict[str, str] = field(default_factory=dict[str, str])
    came: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list[tuple[Mapping[str, str], bytes]])
    holds: threading.Event | None = None
    """Waited for before each answer."""
    arrived: threading.Event = field(default_factory=threading.Event)

    @property
    def keys(self) -> list[str]:
        """Return the idempotency keys that came, without their quotes."""
        return [headers["idempotency-key"].strip('"') for headers, _ in self.came]

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.came]

    def answer(self, connection: Connection) -> None:
        self.came.append((connection.request_headers, connection.data))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        self.arrived.set()
        if self.holds is not None:
            self.holds.wait(60)
        if status == CUT:
            connection.cut()
        connection.send_bytes(status, self.headers, self.body)


@contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    """Run a receiver until the block ends."""
    receiver = Receiver(list(statuses or (200,)))
    server = LoopbackServer(receiver.answer)
    receiver.url = f"{server.url}/hook"
    try:
        yield receiver
    finally:
        if receiver.holds is not None:
            receiver.holds.set()
        server.close()
