"""What a signed note is made of: its text, its signature lines, and the names and keys in them.

All is read strictly: a line, a key and a base64 text have one spelling each. Nothing here is verified; that is for
`donewhen.notes` and `donewhen.cosignatures`.

Source: C2SP signed-note.
"""

from __future__ import annotations

import base64
import hashlib
import re
from binascii import b2a_base64
from functools import lru_cache
from typing import NamedTuple

from donewhen.errors import CheckpointError

KEY_BYTES = 32
SIGNATURE_BYTES = 64

MAX_SIGNATURES = 100
"""Signature lines in one note."""

SKEY_PREFIX = "PRIVATE+KEY+"
"""How the text of a private key begins."""

CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff]")
"""Characters that no note can hold."""

_FIELD_PRIME = 2**255 - 19
SMALL_ORDER = frozenset(
    {
        0,
        1,
        _FIELD_PRIME - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)
"""The y-coordinates of Curve25519's eight points of small order: a signature under such a key can be forged."""


class SignatureLine(NamedTuple):
    """One line under a note's text, not verified."""

    name: str
    key_hash: bytes
    signature: bytes


def split_note(note: str) -> tuple[str, list[SignatureLine]]:
    """Return a note's text and its signature lines, none of them verified.

    Raises:
        CheckpointError: the note is malformed, or has too many lines.

    Source: C2SP signed-note.
    """
    end = note.rfind("\n\n")
    if end < 0 or not note.endswith("\n"):
        raise CheckpointError("a note is text, a blank line and signature lines, each line ended")
    text, lines = note[: end + 1], note[end + 2 : -1].split("\n")
    refuse_bad_text(text)
    if len(lines) > MAX_SIGNATURES:
        raise CheckpointError(f"a note has at most {MAX_SIGNATURES} signature lines, not {len(lines)}")
    return text, [split_line(line) for line in lines]


def split_line(line: str) -> SignatureLine:
    """Read one signature line, without the line feed that ends it.

    Raises:
        CheckpointError: it is not one.
    """
    parts = line.split(" ")
    blob = from_base64(parts[-1])
    if len(parts) != 3 or parts[0] != "—" or blob is None or len(blob) < 5:
        raise CheckpointError(f"not a signature line: {line[:200]!r}")
    refuse_bad_name(parts[1])
    return SignatureLine(parts[1], blob[:4], blob[4:])


def make_line(name: str, key_hash: bytes, signature: bytes) -> str:
    """Return a signature line, without the line feed that ends it."""
    return f"— {name} {to_base64(key_hash + signature)}"


def find_signature(lines: list[SignatureLine], name: str, key_hash: bytes) -> bytes | None:
    """Return what a key signed, None if it did not. Lines of other keys are not looked at, be they there twice.

    Raises:
        CheckpointError: the key signed twice.
    """
    found = [line.signature for line in lines if (line.name, line.key_hash) == (name, key_hash)]
    if len(found) > 1:
        raise CheckpointError(f"{name} signed the note twice")
    return found[0] if found else None


def split_vkey(vkey: str, algorithm: bytes, what: str) -> tuple[str, bytes]:
    """Return the name and the public key in a verifier key's text, ``name+hash+key``.

    Args:
        vkey: the text.
        algorithm: the byte that names the kind of key it must be.
        what: the kind in words, for the error.

    Raises:
        CheckpointError: the text is not such a key, or is spelled another way.

    Source: C2SP signed-note, verifier keys.
    """
    if vkey.startswith(SKEY_PREFIX):
        raise CheckpointError(
            "this is a signer key, which is private: give the verifier key instead ('donewhen key show')"
        )
    parts = vkey.split("+", 2)
    key = from_base64(parts[-1])
    if len(parts) != 3 or key is None or key[:1] != algorithm:
        raise CheckpointError(f"not {what} (name+hash+key): {vkey[:200]!r}")
    refuse_bad_name(parts[0])
    refuse_bad_key(key[1:])
    if make_vkey(parts[0], algorithm, key[1:]) != vkey:
        raise CheckpointError(f"a verifier key's hash is not the one of its name and key: {vkey[:200]!r}")
    return parts[0], key[1:]


def make_vkey(name: str, algorithm: bytes, public_key: bytes) -> str:
    """Return the text of a verifier key."""
    return f"{name}+{key_hash_of(name, algorithm, public_key).hex()}+{to_base64(algorithm + public_key)}"


@lru_cache(maxsize=64)
def key_hash_of(name: str, algorithm: bytes, public_key: bytes) -> bytes:
    """Return the 4 bytes that, beside the name, tell a key from others in a signature line."""
    return hashlib.sha256(name.encode("utf-8") + b"\n" + algorithm + public_key).digest()[:4]


def refuse_bad_text(text: str) -> None:
    """Refuse what cannot be a note's text.

    Raises:
        CheckpointError: it is not whole lines, or holds control characters.
    """
    if not text.endswith("\n") or CONTROLS.search(text):
        raise CheckpointError(f"a note's text is whole lines without control characters, not {text[:200]!r}")


def refuse_bad_name(name: str) -> None:
    """Refuse what cannot be a key's name.

    Raises:
        CheckpointError: it is blank, or holds white space, a plus or control characters.
    """
    if not name or "+" in name or any(letter.isspace() for letter in name) or CONTROLS.search(name):
        raise CheckpointError(f"a key's name is text without white space and plus, not {name[:200]!r}")


def refuse_bad_key(public_key: bytes) -> None:
    """Refuse what nobody may rely on as an Ed25519 public key.

    Raises:
        CheckpointError: it is not 32 bytes, is not the one spelling of a point, or is of small order.

    Source: RFC 8032 section 5.1.3; the points of small order, https://eprint.iacr.org/2020/1244 section 2.
    """
    if len(public_key) != KEY_BYTES:
        raise CheckpointError(f"an Ed25519 public key has {KEY_BYTES} bytes, not {len(public_key)}")
    y = int.from_bytes(public_key, "little") & (2**255 - 1)
    if y >= _FIELD_PRIME or y in SMALL_ORDER:
        raise CheckpointError("this public key is weak: anybody could sign for it. Ask for a proper one")


def to_base64(data: bytes) -> str:
    """Return the one spelling of bytes in base64."""
    return b2a_base64(data, newline=False).decode("ascii")


def from_base64(text: str) -> bytes | None:
    """Return the bytes, or None where the text is not the one spelling of any bytes."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return data if to_base64(data) == text else None
