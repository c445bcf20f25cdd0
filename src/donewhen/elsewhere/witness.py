"""The client of a witness: it is shown a log's newest checkpoint, and cosigns it if that extends what it saw before.

A witness remembers, for each log, the largest checkpoint that it cosigned. Whoever holds the ledger and its key can
rewrite both, but not what the witness remembers: a log that was cut back or rewritten is refused from then on.

Nothing it answers is believed unread. A cosignature must be of the checkpoint that was sent, by the key that was
agreed, at a time near our own; and everything else is one sentence.

Source: C2SP tlog-witness, add-checkpoint; C2SP tlog-cosignature.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from donewhen.cosignatures import Cosigner, cosigned_at, is_line_of
from donewhen.errors import CheckpointError, WitnessError, WitnessRefusedError
from donewhen.posting import Address, Answer, PostError, post, read_address
from donewhen.signature_lines import split_note, to_base64

TIMEOUT_SECONDS = 10.0
"""How long a witness may take for all of it, where nobody says otherwise."""

MAX_ANSWER_BYTES = 65_536
"""The longest answer that is read: a hundred signature lines are shorter."""

MAX_CLOCK_SECONDS = 3600
"""How far a witness's clock may be from ours, either way."""

_CONTENT_TYPE = "text/plain; charset=utf-8"
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")
_MOST_SAID = 200


@dataclass(frozen=True, slots=True)
class Cosignature:
    """What a witness answered."""

    line: str
    """The signature line, without the line feed that ends it."""
    time: int
    """When it signed, in seconds since 1970, by its own clock."""


def witness_address(url: str) -> Address:
    """Return where a witness takes checkpoints.

    Args:
        url: its submission prefix, as its operator publishes it.

    Raises:
        ValueError: it is not a URL that could be used; says why.
    """
    prefix = read_address(url)
    path = f"{prefix.path.rstrip('/')}/add-checkpoint"
    return Address(scheme=prefix.scheme, host=prefix.host, port=prefix.port, path=path)


def cosign(
    url: str,
    cosigner: Cosigner,
    note: str,
    size: int,
    *,
    old_size: int,
    prove: Callable[[int], Sequence[bytes]],
    timeout_seconds: float = TIMEOUT_SECONDS,
    now: Callable[[], float] = time.time,
) -> Cosignature:
    """Have a witness cosign a checkpoint.

    Args:
        url: the witness's submission prefix.
        cosigner: its public key.
        note: the checkpoint, signed by the log.
        size: the size that the checkpoint states.
        old_size: the size of the last one that this witness is known to have cosigned; 0 if there is none.
        prove: gives the consistency proof from an earlier size to this one.
        timeout_seconds: the longest that all of it may take.
        now: seconds since 1970.

    Raises:
        WitnessRefusedError: it will not cosign: it knows another log of that name, or has seen more of this one.
        WitnessError: it cannot be asked, or what it answered is no cosignature of this checkpoint.
        ValueError: the URL cannot be used.

    Source: C2SP tlog-witness, add-checkpoint.
    """
    asking = _Asking(witness_address(url), cosigner, note, time.monotonic() + timeout_seconds)
    answer = asking.ask(old_size, prove(old_size))
    if answer.status == 409:
        seen = asking.read_size(answer)
        if seen > size or seen < old_size:
            raise WitnessRefusedError(cosigner.name, 409, _about_sizes(seen, size, old_size), size=seen)
        # Once more and no further: whoever names another size again is not asked for ever.
        answer = asking.ask(seen, prove(seen))
    if answer.status == 409:
        raise WitnessRefusedError(cosigner.name, 409, _said(answer), size=asking.read_size(answer))
    if answer.status != 200:
        raise WitnessRefusedError(cosigner.name, answer.status, _said(answer))
    return _read_cosignature(cosigner, note, answer.body, now())


@dataclass(frozen=True, slots=True)
class _Asking:
    address: Address
    cosigner: Cosigner
    note: str
    deadline: float

    def ask(self, old_size: int, proof: Sequence[bytes]) -> Answer:
        lines = [f"old {old_size}", *map(to_base64, proof), "", self.note]
        body = "\n".join(lines).encode("utf-8")
        try:
            return post(
                self.address, body, content_type=_CONTENT_TYPE, deadline=self.deadline, max_bytes=MAX_ANSWER_BYTES
            )
        except PostError as error:
            raise WitnessError(self.cosigner.name, f"it could not be asked at {self.address.url}: {error}") from error

    def read_size(self, answer: Answer) -> int:
        if not _SIZE.fullmatch(answer.body):
            raise WitnessError(self.cosigner.name, "it answered 409 without the size that it knows")
        return int(answer.body)


def _about_sizes(seen: int, size: int, old_size: int) -> str:
    if seen > size:
        return (
            f"it has seen {seen} rows of this log, and here there are {size}. The ledger was cut back, or this is an "
            "old copy of it: find the newer one before anything is released"
        )
    return (
        f"it cosigned {old_size} rows of this log before, and now it knows of {seen}. It has lost its memory, so what "
        "it says from now on proves nothing: use another witness, or another key of it"
    )


def _read_cosignature(cosigner: Cosigner, note: str, body: bytes, now: float) -> Cosignature:
    try:
        lines = body.decode("utf-8")
        # Read as the specification says: under the checkpoint, as if the witness had written its lines there.
        at = cosigned_at(f"{split_note(note)[0]}\n{lines}", cosigner)
    except (CheckpointError, UnicodeDecodeError) as error:
        problem = error if isinstance(error, CheckpointError) else "it is not text in UTF-8"
        raise WitnessError(cosigner.name, f"its answer is no cosignature of this checkpoint: {problem}") from error
    found = [line for line in lines.split("\n")[:-1] if is_line_of(line, cosigner)]
    if at is None or not found:
        raise WitnessError(cosigner.name, f"its answer holds nothing signed by {cosigner.vkey}. Ask for its key again")
    if abs(at - now) > MAX_CLOCK_SECONDS:
        problem = f"it signed at {at} by its clock, and here it is {int(now)}: one of the two is wrong by over an hour"
        raise WitnessError(cosigner.name, problem)
    return Cosignature(found[0], at)


def _said(answer: Answer) -> str:
    """Return what a witness said, as one line that can be shown."""
    if 300 <= answer.status < 400:
        return "it sends us elsewhere, and redirects are not followed. Ask for its proper URL"
    text = answer.body.decode("utf-8", "replace").strip()
    shown = "".join(char if char.isprintable() else " " for char in text[:_MOST_SAID])
    return shown or "it did not say why"
