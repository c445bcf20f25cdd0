"""Files that hold private keys: how they are read, written and locked with a passphrase.

A key's file is for its owner only, is written whole or not at all, and is never written over. It holds one line that
other tools for signed notes read too; or, where a passphrase locks it, the public half as a comment and an encrypted
PKCS #8 key as text.

Source: RFC 5958 (PKCS #8), RFC 7468 (its text); golang.org/x/mod/sumdb/note (the line).
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from donewhen.errors import CheckpointError, KeyFileError, MissingExtraError
from donewhen.notes import LocalSigner, Verifier
from donewhen.whole_file import write_whole

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LEAST_PASSPHRASE = 12
"""Characters. A file that was copied can be tried against every short passphrase."""

Ask = Callable[[str], str]
"""Asks a person for the passphrase of the file that is named."""

_MAX_KEY_FILE_BYTES = 4096
# Not every system has every flag. Not blocking: a pipe in the key's place must not hang who opens it.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_HAS_MODES = os.name == "posix"
_VKEY_COMMENT = "# vkey: "
_PEM = "-----BEGIN ENCRYPTED PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key as its file tells of it."""

    vkey: str
    name: str = ""
    """Whose key it is, in the words of whoever made it; empty where the file does not say."""
    made_by: str = ""
    """``user@host`` where it was made; empty where the file does not say."""

    def text(self) -> str:
        """Return the text that `read_public` reads."""
        said = [f"# {field}: {value}\n" for field in ("name", "made_by") if (value := getattr(self, field))]
        return "".join([f"{self.vkey}\n", *said])


def read_public(text: str, where: str) -> PublicKey:
    """Read a public key, with what its file says of it.

    Args:
        text: the key in one line, and comments that begin with ``#``.
        where: the file, for messages.

    Raises:
        KeyFileError: there is not one key in it.
    """
    lines = [line.strip() for line in text[:_MAX_KEY_FILE_BYTES].splitlines() if line.strip()]
    keys = [line for line in lines if not line.startswith("#")]
    comments = [line[1:].strip().partition(": ") for line in lines if line.startswith("#")]
    said = {field: value for field, _, value in comments}
    try:
        if len(keys) != 1:
            raise CheckpointError(f"a file with a public key holds it in one line, and not {len(keys)} of them")
        return PublicKey(Verifier.parse(keys[0]).vkey, said.get("name", ""), said.get("made_by", ""))
    except CheckpointError as error:
        raise KeyFileError(where, str(error)) from None


def read_private(path: Path) -> str | None:
    """Return the text of a private key's file, None where there is none.

    Raises:
        KeyFileError: it is no file, cannot be read, or can be read or replaced by others.
    """
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(str(path), f"cannot be read: {error.strerror}") from error
    try:
        _refuse_exposed(path, os.fstat(descriptor))
        data = os.read(descriptor, _MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise KeyFileError(str(path), f"cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return data.decode("utf-8", "replace")


def read_public_file(path: Path) -> PublicKey | None:
    """Return the public key in a file, None where there is no file.

    Raises:
        KeyFileError: it cannot be read, or holds no public key.
    """
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(str(path), f"cannot be read: {error.strerror}") from error
    try:
        data = os.read(descriptor, _MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise KeyFileError(str(path), f"cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return read_public(data.decode("utf-8", "replace"), str(path))


def parse_private(text: str, where: str, unlock: Ask | None = None) -> LocalSigner:
    """Return the signer that a key's text makes.

    Args:
        text: one line, or a key that a passphrase locks.
        where: the file or the variable, for messages, which never hold the text.
        unlock: gives the passphrase; None: there is none to be had.

    Raises:
        KeyFileError: it is no key, or the passphrase is missing or wrong.
        MissingExtraError: the ``sign`` extra is not installed.
    """
    try:
        if not is_locked(text):
            return LocalSigner.parse(text.removesuffix("\n"))
        if unlock is None:
            raise CheckpointError(
                "the key is locked with a passphrase: give it in DONEWHEN_KEY_PASSPHRASE, or at a terminal"
            )
        return _unlock(text, unlock(where))
    except CheckpointError as error:
        raise KeyFileError(where, f"{error}. It is kept as it is: restore it, or move it away") from None


def is_locked(text: str) -> bool:
    """Tell whether a passphrase locks a key."""
    return _PEM in text


def public_half(text: str, where: str) -> str:
    """Return the public half of a key's text, for which no passphrase is needed.

    Raises:
        KeyFileError: it is no key.
        MissingExtraError: the ``sign`` extra is not installed.
    """
    if not is_locked(text):
        return parse_private(text, where).vkey
    return read_public(text.partition("\n")[0].removeprefix(_VKEY_COMMENT), where).vkey


def spell_private(signer: LocalSigner, passphrase: str | None) -> str:
    """Return the text of a key's file.

    Args:
        signer: holds the key.
        passphrase: locks it; None: the file's mode alone protects it.

    Raises:
        KeyFileError: the passphrase is too short.
    """
    if passphrase is None:
        return f"{signer.skey}\n"
    if len(passphrase) < LEAST_PASSPHRASE:
        raise KeyFileError("passphrase", f"has fewer than {LEAST_PASSPHRASE} characters. Take several words")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    key = Ed25519PrivateKey.from_private_bytes(signer.private_bytes)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(_spell(passphrase)))
    return f"{_VKEY_COMMENT}{signer.vkey}\n{locked.decode('ascii')}"


def write_once(path: Path, text: str) -> None:
    """Write a file for its owner only, whole, unless the name is taken: the first of many wins for all."""
    with suppress(FileExistsError):
        write_whole(path, text.encode("utf-8"), mode=0o600)


@contextmanager
def locked(path: Path) -> Generator[None, None, None]:
    """Let one process at a time through, as long as it lives; the others wait. No lock where the system has none.

    Args:
        path: the lock file; made when missing, never removed.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _unlock(text: str, passphrase: str) -> LocalSigner:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise MissingExtraError("sign", "unlocking a key") from error

    comment, _, pem = text.partition("\n")
    verifier = Verifier.parse(comment.removeprefix(_VKEY_COMMENT))
    try:
        key = load_pem_private_key(pem.encode("utf-8"), _spell(passphrase))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CheckpointError("the passphrase is not the one that locks the key, or the file is damaged") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise CheckpointError("the key is not an Ed25519 key")
    signer = LocalSigner(verifier.name, key.private_bytes_raw())
    if signer.vkey != verifier.vkey:
        raise CheckpointError("the locked key is not the private half of the public key that its first line names")
    return signer


def _spell(passphrase: str) -> bytes:
    # Keyboards differ in how they spell an accented letter.
    return unicodedata.normalize("NFC", passphrase).encode("utf-8")


def _refuse_exposed(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise KeyFileError(str(path), "is not a file")
    if not _HAS_MODES:
        return
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise KeyFileError(str(path), f"can be read or written by others (mode {mode:04o}). chmod 600 {path}")
    for folder in {path.parent, path.resolve().parent}:  # where it is a link, both can be replaced
        around = folder.stat().st_mode
        if around & 0o022 and not around & stat.S_ISVTX:
            raise KeyFileError(str(path), f"is in a folder where others can replace it. chmod 700 {folder}")
