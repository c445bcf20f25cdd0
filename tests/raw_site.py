"""A site on loopback that sends exactly the bytes it is told to, proper HTTP or not."""

from __future__ import annotations

import socket
import threading
from types import TracebackType


class RawSite:
    """Answer each request with the bytes for its path, `*` for any other; a robots.txt is 404 unless given.

    Args:
        answers: by path.
        drip: send an endless line, one byte at a time, instead.
    """

    def __init__(self, answers: dict[str, bytes] | None = None, *, drip: bool = False) -> None:
        self._answers = {"/robots.txt": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", **(answers or {})}
        self._drip = drip
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def __enter__(self) -> RawSite:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        with socket.create_connection(self._listener.getsockname()):
            self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while not self._over.is_set():
            connection, _ = self._listener.accept()
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        try:
            request = connection.recv(65_536).decode("latin-1").split(" ")
            path = request[1] if len(request) > 1 else ""
            if self._drip and path != "/robots.txt":
                self._send_drops(connection)
            else:
                connection.sendall(self._answers.get(path, self._answers.get("*", b"")))
        except OSError:
            return  # the visitor hung up

    def _send_drops(self, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self._over.wait(0.01):
            connection.sendall(b"x")


def html(body: bytes, *, headers: str = "Content-Type: text/html; charset=utf-8", status: str = "200 OK") -> bytes:
    """Return an answer with a body."""
    head = f"HTTP/1.1 {status}\r\n{headers}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body
