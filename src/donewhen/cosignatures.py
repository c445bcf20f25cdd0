"""Cosignatures: what a witness says of a checkpoint, with the time at which it said so.

A witness signs a log's checkpoint only if it extends the last one that it saw. Its line stands under the checkpoint,
beside the log's own. It signs the checkpoint's text and the time together, so neither can be exchanged.

Only Ed25519 cosignatures are known here. Lines of other kinds and of other witnesses are not looked at.

Source: C2SP tlog-cosignature, Ed25519 (type 0x04).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from donewhen.errors import CheckpointError
from donewhen.notes import Checkpoint, Verifier
from donewhen.signature_lines import (
    SIGNATURE_BYTES,
    find_signature,
    key_hash_of,
    make_line,
    make_vkey,
    refuse_bad_key,
    refuse_bad_name,
    split_line,
    split_note,
    split_vkey,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from donewhen.notes import LocalSigner

TIME_BYTES = 8
MAX_TIME = 2**63 - 1

_COSIGNER = b"\x04"


@dataclass(frozen=True, slots=True)
class Cosigner:
    """Holds a witness's public key and its name.

    Raises:
        CheckpointError: the name cannot stand in a signature line, or the key is not 32 bytes, or is weak.
    """

    name: str
    """The witness's name: not empty, no white space, no plus."""
    public_key: bytes
    """Its Ed25519 public key, 32 bytes."""

    def __post_init__(self) -> None:
        refuse_bad_name(self.name)
        refuse_bad_key(self.public_key)

    @classmethod
    def parse(cls, vkey: str) -> Cosigner:
        """Read a witness's key from its text, ``name+hash+key``.

        Raises:
            CheckpointError: the text is not the key of a cosigner, is of another algorithm, or is spelled another way.

        Source: C2SP signed-note, verifier keys; tlog-cosignature, Ed25519.
        """
        return cls(*split_vkey(vkey, _COSIGNER, "an Ed25519 witness's key"))

    @property
    def key_hash(self) -> bytes:
        """Return the 4 bytes that, beside the name, tell this key from others in a signature line."""
        return key_hash_of(self.name, _COSIGNER, self.public_key)

    @property
    def vkey(self) -> str:
        """Return the text that `parse` reads."""
        return make_vkey(self.name, _COSIGNER, self.public_key)


def cosigned_at(note: str, cosigner: Cosigner) -> int | None:
    """Return when a witness cosigned a checkpoint, in seconds since 1970; None if it did not.

    Args:
        note: the checkpoint with its signature lines. That the log signed it is for `open_note`.
        cosigner: the witness.

    Raises:
        CheckpointError: the note is malformed or no checkpoint, or the witness's line under it is not good.

    Source: C2SP tlog-cosignature, Ed25519 signed message.
    """
    text, lines = split_note(note)
    Checkpoint.parse(text)
    blob = find_signature(lines, cosigner.name, cosigner.key_hash)
    if blob is None:
        return None
    time = int.from_bytes(blob[:TIME_BYTES], "big")
    if len(blob) != TIME_BYTES + SIGNATURE_BYTES or not 0 < time <= MAX_TIME:
        raise CheckpointError(f"the line of {cosigner.name} is no cosignature: it has no proper time and signature")
    verifier = Verifier(cosigner.name, cosigner.public_key)
    if not verifier.verify(_message(text, time), blob[TIME_BYTES:]):
        raise CheckpointError(
            f"the cosignature of {cosigner.name} is not good: it is not of this checkpoint, or forged"
        )
    return time


def is_line_of(line: str, cosigner: Cosigner) -> bool:
    """Tell whether a signature line says that it is a witness's. Whether it is, `cosigned_at` tells.

    Raises:
        CheckpointError: it is no signature line.
    """
    parsed = split_line(line)
    return (parsed.name, parsed.key_hash) == (cosigner.name, cosigner.key_hash)


def cosign_text(text: str, signer: LocalSigner, time: int) -> str:
    """Return the signature line with which a witness cosigns a checkpoint, without a line feed.

    Args:
        text: the checkpoint's text.
        signer: holds the witness's private key.
        time: seconds since 1970, from 1 to `MAX_TIME`.

    Raises:
        CheckpointError: the text is no checkpoint, or the time is out of range.

    Source: C2SP tlog-cosignature, Ed25519 signed message.
    """
    Checkpoint.parse(text)
    if not 0 < time <= MAX_TIME:
        raise CheckpointError(f"a cosignature's time is from 1 to {MAX_TIME}, not {time}")
    cosigner = cosigner_of(signer)
    blob = time.to_bytes(TIME_BYTES, "big") + signer.sign(_message(text, time))
    return make_line(cosigner.name, cosigner.key_hash, blob)


def cosigner_of(signer: LocalSigner) -> Cosigner:
    """Return the public half of a witness's key."""
    return Cosigner(signer.name, signer.verifier.public_key)


def iter_notes(text: str) -> Iterator[str]:
    """Yield the checkpoints in a file of them, in order, each as a note; what is no checkpoint is left out.

    Such a file holds one note after the other, each followed by an empty line. A crash or a full disk may have left a
    part of one, which is stepped over. Only where the part ends with the text it looks like an unsigned checkpoint: who
    has the log's key looks at the signature.

    Args:
        text: the file.
    """
    blocks = text.split("\n\n")[:-1]  # what the last empty line does not end is a part
    place = 0
    while place < len(blocks):
        body, place = blocks[place].lstrip("\n"), place + 1
        # Any line of it: a part that ends within its first letters is marked as one by a line below it.
        signed = place < len(blocks) and "\n—" in f"\n{blocks[place]}"
        note = f"{body}\n\n{blocks[place]}\n" if signed else f"{body}\n"
        place += signed
        if _is_checkpoint(note, signed=signed):
            yield note


def _is_checkpoint(note: str, *, signed: bool) -> bool:
    try:
        Checkpoint.parse(split_note(note)[0] if signed else note)
    except CheckpointError:
        return False
    return True


def _message(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()
