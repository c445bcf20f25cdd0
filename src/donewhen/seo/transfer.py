"""One bounded HTTP exchange: one deadline for all of it, a size limit, and a say in which addresses are reached.

urllib's time-out starts anew with each byte that trickles in, and it looks a name up without any. Here the socket's
time-out is what is left until the deadline, before every read, so a server that drips cannot hold an agent. The
address is judged and then connected to, so that a name cannot mean one address when judged and another when used.
Connections are direct: proxies from the environment are not used.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import quote, urljoin, urlsplit

from donewhen.errors import DonewhenError

MAX_URL_CHARS = 8_000
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
CHUNK_BYTES = 65_536
URL_SAFE = "%/:=&?~#+!$,;'@()*[]"


class FetchError(DonewhenError):
    """Tell in one sentence why a page could not be fetched.

    Args:
        url: what was asked for.
        problem: one sentence.
    """

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(url, problem)
        self.url = url
        self.problem = problem

    def __str__(self) -> str:
        return f"{show_url(self.url)}: {self.problem}"


class RobotsRefusedError(FetchError):
    """Tell that a site's robots.txt keeps us from a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A URL that was read and found fit to be requested."""

    url: str
    """Spelled in ASCII, without a fragment."""
    scheme: str
    host: str
    port: int
    path: str
    """Path and query."""

    @property
    def origin(self) -> str:
        """Return scheme, host and port: what a robots.txt speaks for."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """Return host and port as they stand in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == usual else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What one request brought."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of a header sent several times, the values joined by commas."""
    body: bytes
    too_large: bool
    """Whether the body went on beyond the limit, and was cut there."""


def show_url(url: str) -> str:
    """Return a URL short and printable enough for an error message."""
    text = "".join(char if char.isprintable() else "?" for char in url)
    return text if len(text) <= 200 else f"{text[:200]}..."


def read_url(url: str, *, base: str | None = None) -> Target:
    """Read a URL strictly, relative to a base where there is one.

    Raises:
        FetchError: it is not an http or https URL with a host, it carries a password, or it is too long.
    """
    if len(url) > MAX_URL_CHARS:
        raise FetchError(url, f"the URL is longer than {MAX_URL_CHARS} characters")
    try:
        parts = urlsplit(urljoin(base, url.strip()) if base else url.strip())
        port, host = parts.port, parts.hostname
        ascii_host = host.encode("idna").decode("ascii") if host and not host.isascii() else host
        path = quote(parts.path or "/", safe=URL_SAFE)
        query = quote(parts.query, safe=URL_SAFE)
    except ValueError as error:
        raise FetchError(url, f"this is not a URL ({error})") from error
    if parts.scheme not in ("http", "https"):
        raise FetchError(url, "only http and https URLs can be fetched")
    if not ascii_host or any(not (char.isalnum() or char in "-._:") for char in ascii_host):
        raise FetchError(url, "the URL names no host that could be asked")
    if parts.username is not None or parts.password is not None:
        raise FetchError(
            "(hidden)", "a URL with a user name or a password in it is not fetched, since URLs are recorded"
        )
    port = port if port is not None else {"http": 80, "https": 443}[parts.scheme]
    target = Target(url="", scheme=parts.scheme, host=ascii_host, port=port, path=path + (f"?{query}" if query else ""))
    return Target(url=target.origin + target.path, scheme=target.scheme, host=ascii_host, port=port, path=target.path)


def is_loopback(target: Target, *, deadline: float) -> bool:
    """Tell whether a target is on this machine.

    Raises:
        FetchError: its name could not be looked up before the deadline.
    """
    return all(_plain(address[4][0]).is_loopback for address in _look_up(target, deadline))


def exchange(
    target: Target,
    *,
    deadline: float,
    max_bytes: int,
    user_agent: str,
    method: str = "GET",
    allow_loopback: bool = True,
    allow_private: bool = False,
) -> Exchange:
    """Send one request and read its answer, following nothing.

    Args:
        target: what to ask for.
        deadline: the end of all of it, by `time.monotonic`, in seconds.
        max_bytes: how much of the body is read at most.
        user_agent: who is asking.
        method: GET or HEAD.
        allow_loopback: whether this machine may be asked.
        allow_private: whether private networks may be asked. Link-local and multicast addresses never are.

    Raises:
        FetchError: the time ran out, nobody answered, the address may not be reached, or the answer is not HTTP.
    """
    try:
        judge = _Judge(allow_loopback=allow_loopback, allow_private=allow_private)
        sock = _connect(target, deadline, judge)
    except OSError as error:
        raise FetchError(target.url, _os_problem(error)) from error
    try:
        sock.sendall(_request_bytes(target, method, user_agent))
        return _read_answer(sock, method, deadline, max_bytes)
    except http.client.HTTPException as error:
        raise FetchError(target.url, f"the answer is not proper HTTP ({type(error).__name__})") from error
    except (OSError, ValueError) as error:
        raise FetchError(target.url, _os_problem(error)) from error
    finally:
        sock.close()


def _request_bytes(target: Target, method: str, user_agent: str) -> bytes:
    lines = (
        f"{method} {target.path} HTTP/1.1",
        f"Host: {target.authority}",
        f"User-Agent: {''.join(char for char in user_agent if char.isprintable())}",
        "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.1",
        "Accept-Encoding: identity",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode("utf-8")


def _read_answer(sock: socket.socket, method: str, deadline: float, max_bytes: int) -> Exchange:
    answer = http.client.HTTPResponse(cast("socket.socket", _Bounded(sock, deadline)), method=method)
    try:
        answer.begin()
        headers: dict[str, str] = {}
        for name, value in answer.headers.items():
            low = name.lower()
            headers[low] = f"{headers[low]}, {value}" if low in headers else str(value)
        chunks: list[bytes] = []
        size = 0
        while size <= max_bytes and (chunk := answer.read(min(CHUNK_BYTES, max_bytes + 1 - size))):
            chunks.append(chunk)
            size += len(chunk)
        body = b"".join(chunks)
        return Exchange(status=answer.status, headers=headers, body=body[:max_bytes], too_large=size > max_bytes)
    finally:
        answer.close()


class _Bounded:
    """What `http.client` wants of a socket: a file to read, here one that knows the deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._raw = _BoundedReader(sock, deadline)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return the readable file; the mode is always rb."""
        del mode
        return io.BufferedReader(self._raw, CHUNK_BYTES)


class _BoundedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]  (typeshed's Buffer is not in 3.10)
        self._sock.settimeout(_left(self._deadline))
        return self._sock.recv_into(buffer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _connect(target: Target, deadline: float, judge: _Judge) -> socket.socket:
    problem: OSError | None = None
    for family, kind, protocol, _, address in _look_up(target, deadline):
        judge.admit(target, address[0])
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_left(deadline))
            sock.connect(address)
            return _secure(sock, target, deadline) if target.scheme == "https" else sock
        except OSError as error:
            sock.close()
            problem = error
    raise problem if problem is not None else OSError("the host has no address")


def _secure(sock: socket.socket, target: Target, deadline: float) -> socket.socket:
    import ssl

    sock.settimeout(_left(deadline))
    return ssl.create_default_context().wrap_socket(sock, server_hostname=target.host)


_Address = tuple[int, int, int, str, tuple[str, int]]


def _look_up(target: Target, deadline: float) -> list[_Address]:
    literal = _literal(target)
    if literal is not None:
        return [literal]
    # getaddrinfo knows no time-out, so it waits in a thread of its own, which may be left behind.
    found: list[_Address] = []
    problems: list[OSError | UnicodeError] = []

    def ask() -> None:
        try:
            found.extend(cast("list[_Address]", socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)))
        except (OSError, UnicodeError) as error:
            problems.append(error)

    thread = threading.Thread(target=ask, name="donewhen-look-up", daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    if problems:
        raise FetchError(target.url, f"the host {show_url(target.host)} is not known") from problems[0]
    if not found:
        raise FetchError(target.url, "the host's name could not be looked up in time")
    return list(found)


def _literal(target: Target) -> _Address | None:
    try:
        found = ipaddress.ip_address(target.host)
    except ValueError:
        return None
    family = socket.AF_INET6 if found.version == 6 else socket.AF_INET
    return family, socket.SOCK_STREAM, 0, "", (str(found), target.port)


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped if mapped is not None else found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """Says which addresses may be reached."""

    allow_loopback: bool
    allow_private: bool

    def admit(self, target: Target, address: str) -> None:
        found = _plain(address)
        if found.is_loopback:
            if not self.allow_loopback:
                raise FetchError(target.url, "a page elsewhere must not lead to this machine")
            return
        # Link-local addresses are where clouds keep their machines' credentials.
        never = found.is_link_local or found.is_multicast or found.is_unspecified
        if never or not (found.is_global or (found.is_private and self.allow_private)):
            raise FetchError(target.url, f"the host's address {found} is not on the public internet")


def _os_problem(error: OSError | ValueError) -> str:
    import ssl

    if isinstance(error, TimeoutError):
        return "the time for it ran out"
    if isinstance(error, ssl.SSLError):
        return f"the secure connection failed ({error.reason or type(error).__name__})"
    if isinstance(error, ConnectionRefusedError):
        return "nobody answers there"
    return f"the connection failed ({type(error).__name__})"
