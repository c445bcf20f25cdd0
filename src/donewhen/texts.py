"""Texts that are hashed, or kept beside a row by commitment.

A plain SHA-256 of a text that can be guessed can be found by trying. With an input key the same hash is an HMAC: equal
texts still have equal hashes, and nobody without the key can try. A commitment to a kept text is salted, so that it
needs no key to be safe and none to be checked.

Source: FIPS 180-4 (SHA-256), RFC 2104 (HMAC).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from donewhen import canonical

SALT_BYTES = 32
"""Of random salt for each kept text."""

ERASED_SALT = bytes(SALT_BYTES)
"""What stands in place of the salt of a text that was erased."""

LEAST_KEY_BYTES = 16
"""Of an input key: fewer could be tried."""

_KEY_ID_DOMAIN = "input-key"
_KEY_ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Hasher:
    """Hashes what a row says of texts that are not in it.

    Raises:
        ValueError: the key is not bytes, or is too short to keep a secret. It is not shown.
    """

    key: bytes | None = field(default=None, repr=False)
    """The input key; None: plain SHA-256, which anybody can compute."""

    def __post_init__(self) -> None:
        if self.key is None:
            return
        if type(self.key) is not bytes:
            raise ValueError(f"input_key is a {type(self.key).__name__}, not bytes")
        if len(self.key) < LEAST_KEY_BYTES:
            raise ValueError(
                f"input_key has {len(self.key)} bytes, and fewer than {LEAST_KEY_BYTES} can be guessed. "
                "Make one with secrets.token_bytes(32)."
            )

    @property
    def key_id(self) -> str | None:
        """Return what tells this key from others and does not give it away, lower-case hex; None without a key."""
        return None if self.key is None else self.hash_hex(_KEY_ID_DOMAIN, b"")[:_KEY_ID_DIGITS]

    def text(self, text: str) -> str:
        """Return the hash of a text's UTF-8, as lower-case hex.

        Raises:
            ValueError: it is not text.
        """
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers are not all typed
            raise ValueError(f"input_str is {text!r}, not text")
        data = encode_text(text)
        if self.key is None:
            return hashlib.sha256(data).hexdigest()
        return hmac.digest(self.key, data, "sha256").hex()

    def hash_hex(self, domain: str, data: bytes) -> str:
        """Return the digest of data under a domain, with a key the HMAC of that digest, as lower-case hex."""
        if self.key is None:
            return canonical.hash_hex(domain, data)
        return hmac.digest(self.key, canonical.digest(domain, data), "sha256").hex()


PLAIN = Hasher()
"""Hashes without a key."""


def hash_input(text: str) -> str:
    """Return the SHA-256 of a text, as lower-case hex."""
    return PLAIN.text(text)


def encode_text(text: str) -> bytes:
    """Return a text as UTF-8; a lone surrogate, which JSON can carry and UTF-8 cannot, as its three bytes."""
    return text.encode("utf-8", "surrogatepass")


def commit_to(salt: bytes, text: bytes) -> str:
    """Return the commitment to a kept text: without the salt, not even a guess of the text can be checked."""
    return canonical.hash_hex("text", salt + text)
