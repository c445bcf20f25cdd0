"""A signer in a process of its own, reached through a Unix socket.

The key is nowhere in this process. One connection is one request: a line of JSON there, a line of JSON back. The other
side (`donewhen.signers.server`) remembers what it signed of each log, and signs none that does not extend that.

Whatever goes wrong (no signer, no answer in time, an answer that is none), the ledger commits nothing.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

from donewhen.errors import CheckpointError, LedgerTamperedError, LedgerUnavailableError
from donewhen.notes import Verifier

WAIT_SECONDS = 10.0
"""How long a signer may take. A writer's turn is held as long."""

MAX_REQUEST_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 16 * 1024

SIGNER_VARIABLE = "DONEWHEN_SIGNER"
"""Names the socket of the signer that the command line uses."""

Operation = Literal["key", "checkpoint", "sign"]

_CHUNK_BYTES = 4096


class SocketSigner:
    """Reaches a signer that another process serves.

    It is a `donewhen.notes.Signer`, and one that remembers: logs are signed by `sign_checkpoint`.

    Args:
        path: the socket.
        wait_seconds: the longest wait for one answer. Where a person is asked over there, give them time.
        monotonic: seconds, from the clock that never goes back.

    Raises:
        LedgerUnavailableError: no signer answers there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        wait_seconds: float = WAIT_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = os.fsdecode(path)
        self._wait_seconds = wait_seconds
        self._monotonic = monotonic
        answer = self._ask("key", {})
        try:
            self._verifier = Verifier.parse(_text(answer, "vkey"))
        except CheckpointError as error:
            raise self._unavailable(f"what answers there is no signer ({error})") from error

    @property
    def name(self) -> str:
        """Return the key's name."""
        return self._verifier.name

    @property
    def vkey(self) -> str:
        """Return the public half, as `Verifier.parse` reads it."""
        return self._verifier.vkey

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature over a message: 64 bytes.

        A signer of logs signs only a checkpoint that it signed just now; a reviewer's asks its person.

        Raises:
            LedgerUnavailableError: there is no answer, or it is no.
        """
        return self._signature("sign", {"message": base64.b64encode(message).decode()}, message)

    def sign_checkpoint(self, text: str, old_size: int, proof: Sequence[bytes]) -> bytes:
        """Return the Ed25519 signature over a checkpoint: 64 bytes.

        Args:
            text: the checkpoint's text.
            old_size: the rows of the checkpoint that this one builds on.
            proof: the consistency proof between the two.

        Raises:
            LedgerTamperedError: the log does not extend what the signer signed before.
            LedgerUnavailableError: there is no answer, or none that is a signature.
        """
        digests = [base64.b64encode(digest).decode() for digest in proof]
        request = {"text": text, "old_size": old_size, "proof": digests}
        return self._signature("checkpoint", request, text.encode("utf-8"))

    def __repr__(self) -> str:
        return f"SocketSigner({self.path!r}, {self.vkey!r})"

    def _signature(self, operation: Operation, request: Mapping[str, Any], message: bytes) -> bytes:
        answer = self._ask(operation, {**request, "vkey": self.vkey})
        try:
            signature = base64.b64decode(_text(answer, "signature"), validate=True)
        except ValueError:
            signature = b""
        # A signature that is not good would be stored, and then stop everybody.
        if not self._verifier.verify(message, signature):
            raise self._unavailable(f"what it gave is no signature of the key {self.name!r}")
        return signature

    def _ask(self, operation: Operation, request: Mapping[str, Any]) -> Mapping[str, Any]:
        line = f"{json.dumps({'op': operation, **request})}\n".encode()
        if len(line) > MAX_REQUEST_BYTES:
            raise self._unavailable(
                f"what is to be signed has {len(line)} bytes, and a signer takes {MAX_REQUEST_BYTES}"
            )
        deadline = self._monotonic() + self._wait_seconds
        try:
            with open_socket() as connection:
                connection.settimeout(self._wait_seconds)
                connection.connect(self.path)
                connection.sendall(line)
                received = receive_line(connection, MAX_ANSWER_BYTES, lambda: deadline - self._monotonic())
        except TimeoutError as error:
            raise self._unavailable(f"the signer did not answer in {self._wait_seconds:g} s") from error
        except OSError as error:
            problem = f"no signer answers there ({error.strerror or error}). Start it with 'donewhen key serve'"
            raise self._unavailable(problem) from error
        except ValueError as error:
            raise self._unavailable(f"what answers there is no signer ({error})") from error
        if received is None:
            raise self._unavailable("the signer went away without a whole answer")
        return self._read(received)

    def _read(self, received: bytes) -> Mapping[str, Any]:
        try:
            raw: Any = json.loads(received)
        except (ValueError, RecursionError) as error:
            raise self._unavailable("what answers there is no signer") from error
        if not isinstance(raw, dict):
            raise self._unavailable("what answers there is no signer")
        answer = cast("dict[str, Any]", raw)
        refused = answer.get("refused")
        if isinstance(refused, str):
            if answer.get("why") == "tampered":
                row_id = answer.get("row_id")
                raise LedgerTamperedError(
                    f"the signer at {self.path} refuses: {refused}", row_id=row_id if type(row_id) is int else None
                )
            raise self._unavailable(f"the signer refuses: {refused}")
        return answer

    def _unavailable(self, problem: str) -> LedgerUnavailableError:
        return LedgerUnavailableError(self.path, problem, stored=False)


def open_socket() -> socket.socket:
    """Return a new Unix socket.

    Raises:
        OSError: this system has none.
    """
    family = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise OSError("this system has no Unix sockets")
    return socket.socket(family, socket.SOCK_STREAM)


def receive_line(connection: socket.socket, most_bytes: int, left_seconds: Callable[[], float]) -> bytes | None:
    """Return what arrives up to the first line feed; None where the other side goes away before it.

    Args:
        connection: connected.
        most_bytes: the longest line.
        left_seconds: how long the whole of it may still take, however it trickles in.

    Raises:
        TimeoutError: it takes too long.
        ValueError: it is too long.
    """
    received = bytearray()
    while b"\n" not in received:
        seconds = left_seconds()
        if seconds <= 0:
            raise TimeoutError("the time is up")
        connection.settimeout(seconds)
        chunk = connection.recv(_CHUNK_BYTES)
        if not chunk:
            return None
        received += chunk
        if len(received) > most_bytes:
            raise ValueError(f"a line of more than {most_bytes} bytes")
    return bytes(received.partition(b"\n")[0])


def is_socket(path: str | os.PathLike[str]) -> bool | None:
    """Tell whether a path names a socket; None where it names nothing."""
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return None


def _text(answer: Mapping[str, Any], field: str) -> str:
    value = answer.get(field)
    return value if isinstance(value, str) else ""
