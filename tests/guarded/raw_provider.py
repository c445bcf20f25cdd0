"""A provider on loopback that answers each request with exactly the bytes it is told to, and counts what arrives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from guarded.kit import Desk
from sessions import a_session

from donewhen.ledger import Ledger


class RawProvider(ThreadingHTTPServer):
    """Stands where a `FakeProvider` does, for replies that no proper provider gives."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answer = b""
        self.heard: list[tuple[str, str, dict[str, Any]]] = []


class _Answering(BaseHTTPRequestHandler):
    server: RawProvider

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.heard.append((self.command, self.path, json.loads(body)))
        self.wfile.write(self.server.answer)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def as_json(body: object, *, status: str = "200 OK", headers: str = "") -> bytes:
    """Return an answer in one piece."""
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n{headers}\r\n"
    return head.encode() + text


def as_stream(events: Sequence[Mapping[str, Any]], *, length: int | None = None) -> bytes:
    """Return an answer as server-sent events. It ends with the connection, or is said to be longer than it is."""
    said = "" if length is None else f"content-length: {length}\r\n"
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{said}\r\n"
    lines = [
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
        if "type" in event
        else f"data: {json.dumps(event)}\n\n"
        for event in events
    ]
    return head.encode() + "".join(lines).encode()


def chunks(*parts: Mapping[str, Any], finish: str = "stop", usage: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return a completion as its chunks: what each says beside its name, the end, and the usage behind it."""
    name = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    end = {**name, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    last = [] if usage is None else [{**name, "choices": [], "usage": usage}]
    return [*[{**name, **part} for part in parts], end, *last]


def delta(**said: Any) -> dict[str, Any]:
    """Return what a chunk of a completion says."""
    return {"choices": [{"index": 0, "delta": said, "finish_reason": None}]}


@contextmanager
def a_raw_desk(way: str, path: Path, **options: Any) -> Iterator[Desk]:
    """Open a desk whose provider is a `RawProvider`."""
    given = {name: options.pop(name) for name in ("tokens", "held_tools") if name in options}
    made = RawProvider()
    provider: Any = made
    with made, Ledger(path) as ledger:
        thread = Thread(target=provider.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        desk = Desk(way, provider, ledger, a_session(ledger, **{"tokens": 1_000_000, **given}), **options)
        try:
            yield desk
        finally:
            desk.done()
            provider.shutdown()
            thread.join()
