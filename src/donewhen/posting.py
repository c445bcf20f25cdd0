"""One bounded HTTP POST: one deadline for all of it, a limit on the answer, and no redirects.

A socket's time-out starts anew with each byte that trickles in, and a name is looked up without any. Here every wait
is for what is left until the deadline, so whoever drips an answer cannot hold a ledger up. Connections are direct:
proxies from the environment are not used.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from donewhen.errors import DonewhenError

MAX_URL_CHARS = 2000
CHUNK_BYTES = 65_536
_PORTS = {"http": 80, "https": 443}
_NO_HEADERS: Mapping[str, str] = {}


class PostError(DonewhenError):
    """Tell in a few words why nothing could be posted, or no answer read.

    Args:
        problem: a few words.
        sent: whether something of the request may have arrived.
    """

    def __init__(self, problem: str, sent: bool = False) -> None:
        super().__init__(problem, sent)
        self.problem = problem
        self.sent = sent

    def __str__(self) -> str:
        return self.problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to post: a URL that was read and found fit."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Return host and port as they stand in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Return the URL."""
        return f"{self.scheme}://{self.authority}{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


def read_address(url: str, *, query: bool = False) -> Address:
    """Read a URL strictly.

    Args:
        url: http or https.
        query: whether it may have a query.

    Raises:
        ValueError: it is not an http or https URL with a host, or carries a password, a query or a fragment. The
            message says which, and never holds the URL.
    """
    if len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"a URL is at most {MAX_URL_CHARS} printable ASCII characters without a space")
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError("only http and https URLs can be used")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL with a user name or a password in it is not used, since URLs are recorded")
    if (parts.query and not query) or parts.fragment or url.endswith(("?", "#")):
        raise ValueError("the URL must have no fragment" if query else "the URL must have no query and no fragment")
    host, port = parts.hostname, parts.port
    if not host or any(not (char.isalnum() or char in "-._:") for char in host):
        raise ValueError("the URL names no host that could be asked")
    if port == 0:
        raise ValueError("there is no port 0 to ask")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(scheme=parts.scheme, host=host, port=_PORTS[parts.scheme] if port is None else port, path=path)


def post(
    address: Address,
    body: bytes,
    *,
    content_type: str,
    deadline: float,
    max_bytes: int,
    headers: Mapping[str, str] = _NO_HEADERS,
    is_cut: bool = False,
) -> Answer:
    """Post a body and read the answer, following nothing.

    Args:
        address: where.
        body: what.
        content_type: what the body is.
        deadline: the end of all of it, by `time.monotonic`, in seconds.
        max_bytes: the longest answer that is read.
        headers: further headers, in ASCII and without line feeds.
        is_cut: whether an answer whose status came is taken without what is too long or lost of its body.

    Raises:
        PostError: nobody answers there, the time ran out, the secure connection failed, or the answer is too long or
            not HTTP.
    """
    from http.client import HTTPException

    sent = False
    try:
        connection = connect(address, deadline)
        try:
            connection.settimeout(left(deadline))
            sent = True
            connection.sendall(_request(address, content_type, body, headers))
            return _read_answer(connection, deadline, max_bytes, is_cut=is_cut)
        finally:
            connection.close()
    except HTTPException as error:
        raise PostError(f"the answer is not proper HTTP ({type(error).__name__})", sent) from error
    except (OSError, ValueError) as error:
        raise PostError(_told(error), sent) from error


def _request(address: Address, content_type: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    head = (
        f"POST {address.path} HTTP/1.1",
        f"Host: {address.authority}",
        "User-Agent: donewhen",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Accept-Encoding: identity",
        *(f"{name}: {value}" for name, value in headers.items()),
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode("ascii") + body


def _read_answer(connection: socket.socket, deadline: float, max_bytes: int, *, is_cut: bool) -> Answer:
    from http.client import HTTPException, HTTPResponse

    with HTTPResponse(cast("socket.socket", _Bounded(connection, deadline)), method="POST") as answer:
        answer.begin()
        try:
            body = answer.read(max_bytes + 1)
        except (HTTPException, OSError):
            if not is_cut:
                raise
            body = b""
        if len(body) > max_bytes and not is_cut:
            raise PostError(f"the answer is longer than {max_bytes} bytes", True)
        headers = {name.lower(): str(value) for name, value in answer.headers.items()}
        return Answer(status=answer.status, headers=headers, body=body[:max_bytes])


class _Bounded:
    """What `http.client` wants of a socket: a file to read, here one that knows the deadline."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._raw = _Reader(connection, deadline)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return the readable file; the mode is always rb."""
        del mode
        return io.BufferedReader(self._raw, CHUNK_BYTES)


class _Reader(io.RawIOBase):
    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]  (typeshed's Buffer is not in 3.10)
        self._connection.settimeout(left(self._deadline))
        return self._connection.recv_into(buffer)


def left(deadline: float) -> float:
    """Return the seconds until a deadline, by `time.monotonic`.

    Raises:
        TimeoutError: it has passed.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def connect(address: Address, deadline: float) -> socket.socket:
    """Connect to the first of a host's addresses that answers, securely where the URL says so.

    Raises:
        OSError: none does, or the time ran out.
    """
    problem: OSError | None = None
    for family, kind, protocol, _, where in _look_up(address, deadline):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(left(deadline))
            connection.connect(where)
            return _secure(connection, address, deadline) if address.scheme == "https" else connection
        except OSError as error:
            connection.close()
            problem = error
    raise problem if problem is not None else OSError("the host has no address")


def _secure(connection: socket.socket, address: Address, deadline: float) -> socket.socket:
    import ssl

    connection.settimeout(left(deadline))
    return ssl.create_default_context().wrap_socket(connection, server_hostname=address.host)


_Found = tuple[int, int, int, str, tuple[str, int]]


def _look_up(address: Address, deadline: float) -> list[_Found]:
    # getaddrinfo knows no time-out, so it waits in a thread of its own, which may be left behind.
    found: list[_Found] = []
    problems: list[OSError | UnicodeError] = []

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            found.extend(cast("list[_Found]", answers))
        except (OSError, UnicodeError) as error:
            problems.append(error)

    thread = threading.Thread(target=ask, name="donewhen-look-up", daemon=True)
    thread.start()
    thread.join(left(deadline))
    if problems:
        raise OSError("its host is not known") from problems[0]
    if not found:
        raise TimeoutError
    return list(found)


def _told(error: OSError | ValueError) -> str:
    import ssl

    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, ssl.SSLError):
        return f"the secure connection failed ({error.reason or type(error).__name__})"
    if isinstance(error, ConnectionRefusedError):
        return "nobody answers there"
    if isinstance(error, (ConnectionError, ValueError)):
        return f"the connection broke ({type(error).__name__})"
    return error.strerror or str(error) or type(error).__name__
