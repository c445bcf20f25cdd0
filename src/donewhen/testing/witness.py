"""A witness on loopback that speaks tlog-witness: for tests and demonstrations, not for trust.

It does what a witness has to: it knows the logs that it was told of, cosigns what extends the last checkpoint that it
saw, and refuses everything else with the status that the specification asks for. Its memory ends with it, and its key
is in this process: a witness that proves something is run by somebody else.

Source: C2SP tlog-witness, add-checkpoint.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from donewhen.cosignatures import cosign_text, cosigner_of
from donewhen.errors import CheckpointError, LedgerTamperedError
from donewhen.merkle import EMPTY_ROOT, verify_consistency
from donewhen.notes import Checkpoint, LocalSigner, Verifier, open_note
from donewhen.signature_lines import from_base64, split_note
from donewhen.testing.http_server import Connection, LoopbackServer

SIZE_TYPE = "text/x.tlog.size"
MOST_PROOF_LINES = 63

_OLD = re.compile("old (0|[1-9][0-9]{0,18})")


class _Refusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """Ends a request with a status and a text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text


@dataclass
class _Log:
    """What a witness knows of one log."""

    verifiers: list[Verifier] = field(default_factory=list[Verifier])
    size: int = 0
    root: bytes = EMPTY_ROOT


class Witness:
    """Witness logs on a free port of 127.0.0.1, until it is closed.

    Args:
        name: its name, as it stands in its lines.
        signer: holds its private key. None: a new one.
        now: seconds since 1970.
    """

    def __init__(
        self,
        name: str = "witness.test/w1",
        *,
        signer: LocalSigner | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._signer = signer or LocalSigner.generate(name)
        self._now = now
        self._lock = threading.Lock()
        self._logs: dict[str, _Log] = {}
        self.statuses: list[int] = []
        """The status of every answer so far."""
        self._server = LoopbackServer(self._answer)

    @property
    def url(self) -> str:
        """Return where it takes checkpoints."""
        return self._server.url

    @property
    def vkey(self) -> str:
        """Return its public key."""
        return cosigner_of(self._signer).vkey

    def trust(self, origin: str, vkey: str) -> None:
        """Take checkpoints of a log from now on, signed by this key or another that it was told of.

        Raises:
            CheckpointError: it is not the key of a log.
        """
        with self._lock:
            self._logs.setdefault(origin, _Log()).verifiers.append(Verifier.parse(vkey))

    def size_of(self, origin: str) -> int:
        """Return the size of the last checkpoint of a log that it cosigned; 0 if there is none."""
        with self._lock:
            return self._logs[origin].size if origin in self._logs else 0

    def forget(self, origin: str) -> None:
        """Lose its memory of a log, as a witness must never do."""
        with self._lock:
            self._logs[origin].size, self._logs[origin].root = 0, EMPTY_ROOT

    def close(self) -> None:
        """Stop listening."""
        self._server.close()

    def __enter__(self) -> Witness:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, connection: Connection) -> None:
        kind = "text/plain; charset=utf-8"
        try:
            if connection.path != "/add-checkpoint":
                raise _Refusal(404, "there is nothing here but /add-checkpoint\n")
            # Under the lock: what was checked against must still be the newest when the new one takes its place.
            with self._lock:
                status, text = 200, self._add_checkpoint(connection.data)
        except _Refusal as refusal:
            status, text = refusal.status, refusal.text
            kind = SIZE_TYPE if status == 409 else kind
        self.statuses.append(status)
        connection.send_bytes(status, {"content-type": kind}, text.encode())

    def _add_checkpoint(self, data: bytes) -> str:
        """Return the cosignature lines for one request."""
        old_size, proof, note = _read_request(data)
        text, checkpoint = _read_checkpoint(note)
        log = self._logs.get(checkpoint.origin)
        if log is None:
            raise _Refusal(404, "this log is not known here\n")
        _refuse_unsigned(note, log.verifiers)
        if old_size > checkpoint.size:
            raise _Refusal(400, "the old size is larger than the checkpoint's\n")
        if old_size != log.size:
            raise _Refusal(409, f"{log.size}\n")
        try:
            verify_consistency(old_size, checkpoint.size, proof, log.root, checkpoint.root)
        except LedgerTamperedError as error:
            raise _Refusal(422, f"{error}\n") from error
        line = cosign_text(text, self._signer, int(self._now()))
        log.size, log.root = checkpoint.size, checkpoint.root
        return f"{line}\n"


def _read_request(data: bytes) -> tuple[int, list[bytes], str]:
    """Return the old size, the proof and the checkpoint's note."""
    try:
        head, blank, note = data.decode("utf-8").partition("\n\n")
    except UnicodeDecodeError as error:
        raise _Refusal(400, "this is not text in UTF-8\n") from error
    lines = head.split("\n")
    old = _OLD.fullmatch(lines[0])
    proof = [digest for line in lines[1:] if (digest := from_base64(line)) is not None and len(digest) == 32]
    if not blank or old is None or len(proof) != len(lines) - 1 or len(proof) > MOST_PROOF_LINES:
        raise _Refusal(400, "a request is 'old SIZE', up to 63 lines of proof, an empty line and a checkpoint\n")
    return int(old[1]), proof, note


def _read_checkpoint(note: str) -> tuple[str, Checkpoint]:
    try:
        text, _ = split_note(note)
        return text, Checkpoint.parse(text)
    except CheckpointError as error:
        raise _Refusal(400, f"{error}\n") from error


def _refuse_unsigned(note: str, verifiers: list[Verifier]) -> None:
    _, lines = split_note(note)
    signed = {(line.name, line.key_hash) for line in lines}
    known = [verifier for verifier in verifiers if (verifier.name, verifier.key_hash) in signed]
    if not known:
        raise _Refusal(403, "no key of this log has signed it\n")
    try:
        for verifier in known:
            open_note(note, verifier)
    except CheckpointError as error:
        raise _Refusal(403, f"{error}\n") from error
