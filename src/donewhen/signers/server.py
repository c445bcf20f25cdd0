"""A process that holds a key and signs for others, behind a Unix socket.

For logs it signs checkpoints alone, and each only where it extends what was signed before. For a reviewer it signs
statements alone, and each only when a person in front of it says yes.

Whoever can write to the socket can ask. It is made for its owner only, or for a group where one is named.
"""

from __future__ import annotations

import base64
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from donewhen.errors import (
    CheckpointError,
    DonewhenError,
    KeyFileError,
    LedgerTamperedError,
    LedgerUnavailableError,
)
from donewhen.notes import Checkpoint, Signer
from donewhen.signers.memory import SignerMemory
from donewhen.signers.socket import MAX_REQUEST_BYTES, is_socket, open_socket, receive_line

REQUEST_SECONDS = 5.0
"""How long a request may take to arrive, and an answer to be taken."""

MAX_CONNECTIONS = 32
"""How many are heard at once; the others wait."""

STATEMENT_PREFIX = b"DSSEv1 "
"""How everything begins that a reviewer signs. No checkpoint begins so."""

_BACKLOG = 64

Say = Callable[[str], None]
"""Tells the person who started the signer of something odd, in one sentence."""


class Desk(Protocol):
    """Decides what is signed."""

    def sign(self, request: Mapping[str, Any]) -> bytes:
        """Return the signature that a request asks for.

        Raises:
            DonewhenError: it is refused, and why.
        """
        ...


class LogDesk:
    """Signs the checkpoints of logs, each only where it extends the one before.

    Args:
        signer: holds the key.
        memory: what was signed.
        say: is told of what is odd.
    """

    def __init__(self, signer: Signer, memory: SignerMemory, say: Say) -> None:
        self._signer = signer
        self._memory = memory
        self._say = say

    def sign(self, request: Mapping[str, Any]) -> bytes:
        """Return the signature over a checkpoint; what it states is remembered durably before it is made.

        Raises:
            CheckpointError: it is not a checkpoint, or the request is not whole.
            LedgerTamperedError: it does not extend what was signed.
            LedgerUnavailableError: it could not be remembered.
        """
        if request["op"] == "sign":
            return self._sign_again(_bytes(request, "message"))
        text, old_size, proof = request.get("text"), request.get("old_size"), request.get("proof")
        if not isinstance(text, str) or type(old_size) is not int or not isinstance(proof, list):
            raise CheckpointError("a request for a checkpoint has a text, an old size and a proof")
        digests = [_decode(digest) for digest in cast("list[object]", proof)]
        odd = self._memory.extend(Checkpoint.parse(text), old_size, digests)
        if odd is not None:
            self._say(odd)
        # A crash before this line leaves a state that is remembered and was never signed. Nobody can build on it, and
        # the ledger, which has no answer, commits nothing: its next request builds on the state before.
        return self._signer.sign(text.encode("utf-8"))

    def _sign_again(self, message: bytes) -> bytes:
        try:
            checkpoint = Checkpoint.parse(message.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise CheckpointError("this signer signs checkpoints of logs, and nothing else") from error
        if not self._memory.is_newest(checkpoint):
            raise CheckpointError("a new checkpoint is signed only with the proof that it extends the one before")
        return self._signer.sign(message)


class ReviewerDesk:
    """Signs a reviewer's statements, each only when the reviewer says yes.

    Args:
        signer: holds the key.
        confirm: shows a person what is to be signed, and tells whether they want that.
    """

    def __init__(self, signer: Signer, confirm: Callable[[bytes], bool]) -> None:
        self._signer = signer
        self._confirm = confirm

    def sign(self, request: Mapping[str, Any]) -> bytes:
        """Return the signature over a statement.

        Raises:
            CheckpointError: it is no statement, or the person said no.
        """
        message = _bytes(request, "message") if request["op"] == "sign" else b""
        if not message.startswith(STATEMENT_PREFIX):
            raise CheckpointError("this signer signs statements of its reviewer, and nothing else")
        if not self._confirm(message):
            raise CheckpointError("the reviewer said no")
        return self._signer.sign(message)


class SignerServer:
    """Answer requests at a socket until it is closed. One request is dealt with at a time.

    Args:
        path: the socket. One that is left over from a signer that is gone is replaced.
        vkey: the public half of the key, for whoever asks.
        desk: decides what is signed.
        group: the number of a group whose members may ask too; None: only this user.
        monotonic: seconds, from the clock that never goes back.

    Raises:
        LedgerUnavailableError: the socket cannot be made, or another signer answers there.
        KeyFileError: something that is no socket has the name.
    """

    def __init__(
        self,
        path: Path,
        vkey: str,
        desk: Desk,
        *,
        group: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._vkey = vkey
        self._desk = desk
        self._monotonic = monotonic
        self._turn = threading.Lock()
        self._slots = threading.Semaphore(MAX_CONNECTIONS)
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        try:
            self._socket = _listen(path, group)
        except BaseException:
            self._close_pair()
            raise
        self._identity = os.lstat(path).st_ino

    def serve(self) -> None:
        """Answer until `close` is called, from another thread or a signal's handler."""
        while True:
            ready, _, _ = select.select([self._socket, self._woken], [], [])
            if self._woken in ready:
                return
            connection, _ = self._socket.accept()
            self._slots.acquire()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    @property
    def wake_fd(self) -> int:
        """Return the descriptor that lets `serve` return when a byte is written to it: for `signal.set_wakeup_fd`."""
        return self._wake.fileno()

    def stop(self) -> None:
        """Let `serve` return. Safe in a signal's handler."""
        self._wake.send(b".")

    def close(self) -> None:
        """Close the socket and remove its name, unless that is another's by now."""
        self._socket.close()
        self._close_pair()
        if is_socket(self.path) and os.lstat(self.path).st_ino == self._identity:
            self.path.unlink()

    def __enter__(self) -> SignerServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _close_pair(self) -> None:
        self._wake.close()
        self._woken.close()

    def _answer(self, connection: socket.socket) -> None:
        try:
            with connection:
                answer = self._hear(connection)
                connection.settimeout(REQUEST_SECONDS)
                connection.sendall(f"{json.dumps(answer)}\n".encode())
        except OSError:
            return  # whoever asked has gone: that is theirs to find out, and the next request says what they did
        finally:
            self._slots.release()

    def _hear(self, connection: socket.socket) -> dict[str, Any]:
        deadline = self._monotonic() + REQUEST_SECONDS
        try:
            line = receive_line(connection, MAX_REQUEST_BYTES, lambda: deadline - self._monotonic())
            raw: Any = json.loads(line or b"")
            if not isinstance(raw, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            return {"refused": f"the request cannot be read ({error})"}
        with self._turn:
            return self._decide(cast("dict[str, Any]", raw))

    def _decide(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if request.get("op") == "key":
            return {"vkey": self._vkey}
        if request.get("op") not in ("checkpoint", "sign"):
            return {"refused": "this signer knows the operations key, checkpoint and sign"}
        if request.get("vkey") != self._vkey:
            return {"refused": f"this signer has the key {self._vkey}, and not the one that is asked for"}
        try:
            return {"signature": base64.b64encode(self._desk.sign(request)).decode()}
        except LedgerTamperedError as error:
            return {"refused": error.problem, "why": "tampered", "row_id": error.row_id}
        except LedgerUnavailableError as error:
            return {"refused": error.problem}
        except DonewhenError as error:
            return {"refused": str(error)}


def _listen(path: Path, group: int | None) -> socket.socket:
    """Return a listening socket at a path, for its owner only from its first moment on."""
    found = is_socket(path)
    if found is False:
        raise KeyFileError(str(path), "is there, and is no socket. Name another place for the signer's socket")
    if found and _is_answered(path):
        raise LedgerUnavailableError(str(path), "another signer answers there already")
    # Beside its place first, since between making a socket and narrowing its mode others could connect.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    listening: socket.socket | None = None
    try:
        listening = open_socket()
        before = os.umask(0o177)
        try:
            listening.bind(os.fspath(draft))
        finally:
            os.umask(before)
        if group is not None:
            os.chown(draft, -1, group)
            draft.chmod(0o660)
        listening.listen(_BACKLOG)
        draft.replace(path)
    except (OSError, AttributeError) as error:
        if listening is not None:
            listening.close()
        draft.unlink(missing_ok=True)
        raise LedgerUnavailableError(str(path), f"no socket can be made there ({error})") from error
    return listening


def _is_answered(path: Path) -> bool:
    with open_socket() as probe:
        probe.settimeout(REQUEST_SECONDS)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # something is there, however it behaves
    return True


def _bytes(request: Mapping[str, Any], field: str) -> bytes:
    return _decode(request.get(field))


def _decode(value: object) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "-", validate=True)
    except ValueError:
        raise CheckpointError("the request holds something that is not base64") from None
