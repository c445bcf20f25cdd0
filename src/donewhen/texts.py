"""Texts that are hashed, or kept beside a row by commitment."""

from __future__ import annotations

import hashlib

from donewhen import canonical

SALT_BYTES = 32
"""Of random salt for each kept text."""


def hash_input(text: str) -> str:
    """Return the SHA-256 of a text, as lower-case hex."""
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers are not all typed
        raise ValueError(f"input_str is {text!r}, not text")
    return hashlib.sha256(encode_text(text)).hexdigest()


def encode_text(text: str) -> bytes:
    """Return a text as UTF-8; a lone surrogate, which JSON can carry and UTF-8 cannot, as its three bytes."""
    return text.encode("utf-8", "surrogatepass")


def commit_to(salt: bytes, text: bytes) -> str:
    """Return the commitment to a kept text: without the salt, not even a guess of the text can be checked."""
    return canonical.hash_hex("text", salt + text)
