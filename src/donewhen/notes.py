"""Signed notes, the checkpoints written in them, and the keys that sign and verify them.

A note is text and the signatures of one or more keys over it, all of it readable. A checkpoint is a note's text that
names a log, its size and its root. Keys are text too: a verifier key (``vkey``) is public and goes to whoever
audits; a signer key (``skey``) stays where it is.

All is read strictly: what was read is written again and must come out the same, so a note has one spelling.
Ed25519 is the only algorithm. Lines of signers that nobody asked about must be well formed, and are not looked at.
What witnesses sign is in `donewhen.cosignatures`.

Source: C2SP signed-note, C2SP tlog-checkpoint; the spelling of an skey, Go's golang.org/x/mod/sumdb/note.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn, Protocol, runtime_checkable

from donewhen.errors import CheckpointError, MissingExtraError
from donewhen.signature_lines import (
    CONTROLS,
    KEY_BYTES,
    MAX_SIGNATURES,
    SIGNATURE_BYTES,
    SKEY_PREFIX,
    find_signature,
    from_base64,
    key_hash_of,
    make_line,
    make_vkey,
    refuse_bad_key,
    refuse_bad_name,
    refuse_bad_text,
    split_line,
    split_note,
    split_vkey,
    to_base64,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ROOT_BYTES = 32

MAX_SIZE = 2**63 - 1
"""Leaves that a checkpoint can state."""

ED25519 = b"\x01"
"""Names the kind of key that signs notes; a cosigner's is another."""


@runtime_checkable
class Signer(Protocol):
    """Holds a private key, or reaches one: what signs a log's checkpoints."""

    @property
    def name(self) -> str:
        """The key's name, as it stands in a signature line."""
        ...

    @property
    def vkey(self) -> str:
        """The public half, as `Verifier.parse` reads it."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature over a message: 64 bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Verifier:
    """Holds a public key and its name.

    Raises:
        CheckpointError: the name is blank or holds white space or a plus, or the key is not 32 bytes, or is weak.
    """

    name: str
    """The key's name: not empty, no white space, no plus."""
    public_key: bytes
    """The Ed25519 public key, 32 bytes."""

    def __post_init__(self) -> None:
        refuse_bad_name(self.name)
        refuse_bad_key(self.public_key)

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """Read a verifier key from its text, ``name+hash+key``.

        Raises:
            CheckpointError: the text is not a verifier key, is of another algorithm, or is spelled another way.

        Source: C2SP signed-note, verifier keys.
        """
        return _parse_vkey(vkey)

    @property
    def key_hash(self) -> bytes:
        """Return the 4 bytes that, beside the name, tell this key from others in a signature line."""
        return key_hash_of(self.name, ED25519, self.public_key)

    @property
    def vkey(self) -> str:
        """Return the text that `parse` reads."""
        return make_vkey(self.name, ED25519, self.public_key)

    def named(self, name: str) -> Verifier:
        """Return the same key under another name. That under which a key signs a log is the log's own: its origin.

        Raises:
            CheckpointError: the name cannot stand in a signature line.
        """
        return Verifier(name, self.public_key)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Tell whether a signature over a message is this key's.

        Raises:
            MissingExtraError: the ``sign`` extra is not installed.
        """
        key = _load_public_key(self.public_key)
        from cryptography.exceptions import InvalidSignature

        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class LocalSigner:
    """Signs with a private key in this process. It is never shown, and cannot be pickled."""

    __slots__ = ("_key", "_name", "_vkey")

    def __init__(self, name: str, private_key: bytes) -> None:
        """Take up a private key.

        Args:
            name: the key's name: not empty, no white space, no plus.
            private_key: the Ed25519 seed, 32 bytes.

        Raises:
            CheckpointError: the name cannot stand in a signature line, or the key is not 32 bytes.
            MissingExtraError: the ``sign`` extra is not installed.
        """
        if len(private_key) != KEY_BYTES:
            raise CheckpointError(f"an Ed25519 private key has {KEY_BYTES} bytes, not {len(private_key)}")
        self._key = _load_private_key(private_key)
        self._name = name
        self._vkey = Verifier(name, self._key.public_key().public_bytes_raw()).vkey

    @classmethod
    def generate(cls, name: str, *, random: Callable[[int], bytes] = os.urandom) -> LocalSigner:
        """Make a new key.

        Args:
            name: the key's name.
            random: gives so many bytes that nobody can guess.

        Raises:
            CheckpointError: the name cannot stand in a signature line.
        """
        return cls(name, random(KEY_BYTES))

    @classmethod
    def parse(cls, skey: str) -> LocalSigner:
        """Read a signer key from its text, ``PRIVATE+KEY+name+hash+key``.

        Raises:
            CheckpointError: the text is not a signer key, or is spelled another way. The error never holds the text.

        Source: golang.org/x/mod/sumdb/note.
        """
        parts = skey.removeprefix(SKEY_PREFIX).split("+", 2)
        key = from_base64(parts[-1])
        if not skey.startswith(SKEY_PREFIX) or len(parts) != 3 or key is None or key[:1] != ED25519:
            raise CheckpointError("not an Ed25519 signer key: PRIVATE+KEY+name+hash+key in one line")
        signer = cls(parts[0], key[1:])
        if signer.skey != skey:
            raise CheckpointError("a signer key's hash is not the one of its name and key")
        return signer

    @property
    def name(self) -> str:
        """Return the key's name."""
        return self._name

    @property
    def vkey(self) -> str:
        """Return the public half, as `Verifier.parse` reads it."""
        return self._vkey

    @property
    def verifier(self) -> Verifier:
        """Return the public half."""
        return Verifier.parse(self._vkey)

    @property
    def private_bytes(self) -> bytes:
        """Return the private key, 32 bytes. Whoever has it can sign as this signer."""
        return self._key.private_bytes_raw()

    @property
    def skey(self) -> str:
        """Return the text that `parse` reads. Whoever has it can sign as this signer."""
        key_hash = self.verifier.key_hash.hex()
        return f"{SKEY_PREFIX}{self._name}+{key_hash}+{to_base64(ED25519 + self.private_bytes)}"

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature over a message: 64 bytes."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"LocalSigner({self._vkey!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a LocalSigner holds a private key and is not pickled or copied. Load the key where it is used."
        )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """States a log's size and root. Signed, it is a log's head; extension lines are refused.

    Raises:
        CheckpointError: a field has no place in a checkpoint.

    Source: C2SP tlog-checkpoint.
    """

    origin: str
    """The log's name: one line, not empty."""
    size: int
    """Leaves in the log's tree, from 0 to `MAX_SIZE`."""
    root: bytes
    """The root over them, 32 bytes."""

    def __post_init__(self) -> None:
        if not self.origin or "\n" in self.origin or CONTROLS.search(self.origin):
            raise CheckpointError(f"a checkpoint's origin is one line of text, not {self.origin!r}")
        if not 0 <= self.size <= MAX_SIZE:
            raise CheckpointError(f"a checkpoint's size is from 0 to {MAX_SIZE}, not {self.size}")
        if len(self.root) != ROOT_BYTES:
            raise CheckpointError(f"a checkpoint's root has {ROOT_BYTES} bytes, not {len(self.root)}")

    def text(self) -> str:
        """Return the text that is signed: origin, size and root, a line each."""
        return checkpoint_text(self.origin, self.size, self.root)

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a checkpoint from the text of a note whose signature was verified.

        Raises:
            CheckpointError: the text is not a checkpoint, or is spelled another way than `text` spells it.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise CheckpointError(f"a checkpoint has three lines, not {text[:200]!r}")
        origin, size, root = lines[0], lines[1], from_base64(lines[2])
        if not re.fullmatch("[0-9]{1,19}", size) or root is None:
            raise CheckpointError(f"not a size and a root: {size[:40]!r} and {lines[2][:80]!r}")
        checkpoint = cls(origin, int(size), root)
        if checkpoint.text() != text:
            raise CheckpointError(f"a checkpoint has one spelling only, which is not {text[:200]!r}")
        return checkpoint


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """Return the text of a checkpoint whose fields are known to be good; see `Checkpoint`."""
    return f"{origin}\n{size}\n{to_base64(root)}\n"


def sign_note(text: str, signer: Signer, name: str | None = None) -> str:
    """Sign text into a note.

    Args:
        text: whole lines, the last one ended too; no control characters.
        signer: holds the private key.
        name: the name that the key has in this note; of a log's checkpoint it is the log's. None: the signer's own.

    Returns:
        The note: the text, a blank line, one signature line.

    Raises:
        CheckpointError: the text cannot be a note's, or the signer gave no signature of 64 bytes.

    Source: C2SP signed-note.
    """
    refuse_bad_text(text)
    name = name or signer.name
    key_hash = key_hash_of(name, ED25519, _parse_vkey(signer.vkey).public_key)
    signature = signer.sign(text.encode("utf-8"))
    if len(signature) != SIGNATURE_BYTES:
        raise CheckpointError(f"{signer.name} gave {len(signature)} bytes, which is no Ed25519 signature")
    return f"{text}\n{make_line(name, key_hash, signature)}\n"


def open_note(note: str, verifier: Verifier) -> str:
    """Return a note's text, if the verifier's key signed it.

    Args:
        note: the note as it was stored or sent.
        verifier: whose signature must be there. Lines of other keys are not verified.

    Raises:
        CheckpointError: the note is malformed or too long, the key did not sign it, its signature is not good, or
            it signed twice.

    Source: C2SP signed-note.
    """
    text, lines = split_note(note)
    signature = find_signature(lines, verifier.name, verifier.key_hash)
    if signature is None:
        raise CheckpointError(f"the note is not signed by {verifier.vkey}")
    if not verifier.verify(text.encode("utf-8"), signature):
        raise CheckpointError(
            f"the signature of {verifier.name} is not good: the note was changed, or not signed by it"
        )
    return text


def open_checkpoint(note: str, verifier: Verifier) -> Checkpoint:
    """Return the checkpoint in a note, if it is of the log that the verifier's key is named after, and signed by it.

    One private key may sign many logs, and a signature line's name is not signed. The log's name in the checkpoint is.

    Args:
        note: the checkpoint as it was stored or sent.
        verifier: the log's public key.

    Raises:
        CheckpointError: it is not signed by the key, is no checkpoint, or is of another log.

    Source: C2SP tlog-checkpoint.
    """
    checkpoint = Checkpoint.parse(open_note(note, verifier))
    if checkpoint.origin != verifier.name:
        raise CheckpointError(f"it is of the log {checkpoint.origin}, and the key is that of {verifier.name}")
    return checkpoint


def add_signature_lines(note: str, lines: Iterable[str]) -> str:
    """Return a note with more signature lines under it; one that is there already is not added again.

    Args:
        note: the note.
        lines: signature lines, each without the line feed that ends it. None of them is verified.

    Raises:
        CheckpointError: the note or a line is malformed, or there are too many.
    """
    _, there = split_note(note)
    for line in lines:
        parsed = split_line(line)
        if parsed not in there:
            there.append(parsed)
            note += f"{line}\n"
    if len(there) > MAX_SIGNATURES:
        raise CheckpointError(f"a note has at most {MAX_SIGNATURES} signature lines, not {len(there)}")
    return note


@lru_cache(maxsize=64)
def _parse_vkey(vkey: str) -> Verifier:
    return Verifier(*split_vkey(vkey, ED25519, "an Ed25519 verifier key"))


def _load_private_key(private_key: bytes) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise MissingExtraError("sign", "signing a log") from error
    return Ed25519PrivateKey.from_private_bytes(private_key)


@lru_cache(maxsize=64)
def _load_public_key(public_key: bytes) -> Ed25519PublicKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise MissingExtraError("sign", "verifying a signature") from error
    return Ed25519PublicKey.from_public_bytes(public_key)
