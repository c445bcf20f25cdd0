"""A small HTTP server on loopback whose connections can break at any byte."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any


class CutError(Exception):
    """Tell the handler that its connection is to break here."""


class Connection:
    """One request and the way to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: dict[str, Any] | None, data: bytes) -> None:
        self._handler = handler
        self._bytes_left: int | None = None
        self.path = handler.path.partition("?")[0]
        self.request_headers: Mapping[str, str] = {name.lower(): value for name, value in handler.headers.items()}
        self.body = body
        """The parsed body; None: it was no JSON object."""
        self.data = data
        """The body as it came."""

    def cut_after(self, bytes_left: int | None) -> None:
        """Break the connection after so many more bytes of the body; None: before the headers, now."""
        if bytes_left is None:
            self.cut()
        self._bytes_left = bytes_left

    def cut(self) -> None:
        """Break the connection now."""
        raise CutError

    def send_json(self, status: int, headers: Mapping[str, str], body: object) -> None:
        """Send a whole reply."""
        self.send_bytes(status, {"content-type": "application/json", **headers}, json.dumps(body).encode())

    def send_bytes(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        """Send a whole reply whose body is bytes."""
        self._send_head(status, {"content-length": str(len(data)), **headers})
        self._send(data)

    def send_events(self, headers: Mapping[str, str], events: Iterable[bytes]) -> None:
        """Send a stream of server-sent events, each in a chunk of its own."""
        head = {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}
        self._send_head(200, {**head, **headers})
        self._handler.wfile.flush()
        for event in events:
            self._send(event, frame=True)
            self._handler.wfile.flush()
        self._handler.wfile.write(b"0\r\n\r\n")

    def _send_head(self, status: int, headers: Mapping[str, str]) -> None:
        self._handler.send_response(status)
        for name, value in headers.items():
            self._handler.send_header(name, value)
        self._handler.end_headers()

    def _send(self, data: bytes, *, frame: bool = False) -> None:
        allowed = data if self._bytes_left is None else data[: self._bytes_left]
        size = b"%x\r\n" % len(data) if frame else b""
        self._handler.wfile.write(size + allowed + (b"\r\n" if frame and len(allowed) == len(data) else b""))
        if self._bytes_left is not None:
            self._bytes_left -= len(allowed)
            if len(allowed) < len(data) or self._bytes_left == 0:
                self.cut()


Answerer = Callable[[Connection], None]


class LoopbackServer:
    """Serve on a free port of 127.0.0.1, each connection in a thread of its own."""

    def __init__(self, answer: Answerer) -> None:
        self._server = _Server(answer)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop, break every open connection, and wait for the threads."""
        self._server.shutdown()
        self._thread.join()
        self._server.break_connections()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them
    request_queue_size = 128

    def __init__(self, answer: Answerer) -> None:
        self.answer = answer
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # the class in between looks its own name up, which asks the network

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def break_connections(self) -> None:
        with self._lock:
            for request in self._open:
                _shut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]  # it is always ours

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            body: object = json.loads(data)
        except ValueError:
            body = None
        try:
            self.server.answer(Connection(self, body if isinstance(body, dict) else None, data))  # pyright: ignore[reportUnknownArgumentType]  # JSON objects have text keys
            self.wfile.flush()
        except CutError:
            self.wfile.flush()
            self.close_connection = True
            _shut(self.connection)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Say nothing."""


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was first
