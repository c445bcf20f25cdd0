"""Where private keys are kept, and how they get there.

They live in the user's configuration folder, away from the ledgers they sign: ``log.key``, with which logs are signed,
and ``reviewer.key``, with which a person attests. The two are never the same. ``reviewer.vkey`` is the public half of
that one, to be handed to whoever enrols the reviewer. ``log.key`` has no such file: what an auditor is handed is the
public key of one log, which is this key under that log's name. Where there are no files, ``DONEWHEN_LOG_KEY`` holds the
text of the log's key, and comes first.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from donewhen.errors import KeyFileError
from donewhen.keys.files import (
    Ask,
    PublicKey,
    parse_private,
    read_private,
    read_public_file,
    spell_private,
    write_once,
)
from donewhen.notes import LocalSigner
from donewhen.texts import Hasher
from donewhen.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEY_FILE = "log.key"
REVIEWER_KEY_FILE = "reviewer.key"
REVIEWER_VKEY_FILE = "reviewer.vkey"
KEY_VARIABLE = "DONEWHEN_LOG_KEY"
INPUT_KEY_FILE = "input.key"
INPUT_KEY_VARIABLE = "DONEWHEN_INPUT_KEY"
PASSPHRASE_VARIABLE = "DONEWHEN_KEY_PASSPHRASE"  # noqa: S105 - the name, not the thing
FOLDER_VARIABLE = "DONEWHEN_CONFIG_DIR"

LOG_KEY_NAME = "donewhen/log"
"""What a log's key is called in its file. In a log's checkpoints it has the log's name."""

_INPUT_KEY_BYTES = 32
_HEX = re.compile("([0-9A-Fa-f]{2})+")


def config_dir(environ: Mapping[str, str], *, platform: str = sys.platform) -> Path:
    """Return the folder of the user's configuration, whether it exists or not.

    Args:
        environ: the environment. ``DONEWHEN_CONFIG_DIR`` comes first, then ``XDG_CONFIG_HOME`` (as its
            specification says, only if absolute).
        platform: as `sys.platform`: which system's own place is used where neither is set.
    """
    own = environ.get(FOLDER_VARIABLE)
    if own:
        return Path(own)
    shared = environ.get("XDG_CONFIG_HOME", "")
    if Path(shared).is_absolute():
        return Path(shared, "donewhen")
    home = environ.get("USERPROFILE" if platform == "win32" else "HOME")
    folder = Path(home) if home else Path.home()
    if platform == "win32":
        return Path(environ.get("APPDATA") or folder / "AppData" / "Roaming", "donewhen")
    return folder / ("Library/Application Support" if platform == "darwin" else ".config") / "donewhen"


# -- the log's key -----------------------------------------------------------------------------------------------------


def load_log_key(
    folder: Path, environ: Mapping[str, str] | None = None, *, ask: Ask | None = None
) -> LocalSigner | None:
    """Load the log's key, if there is one.

    Args:
        folder: where ``log.key`` is looked for.
        environ: the environment; the text of a key in ``DONEWHEN_LOG_KEY`` comes before the file, and
            ``DONEWHEN_KEY_PASSPHRASE`` unlocks it. None: file only.
        ask: asks a person for the passphrase, where the key is locked with one.

    Returns:
        The signer, or None where there is neither.

    Raises:
        KeyFileError: the key is there but is not a key, cannot be read or unlocked, or can be read by others. A
            variable that is set but blank is such a key: a secret that did not arrive must not make an unsigned log.
        MissingExtraError: there is a key, and the ``sign`` extra is not installed.
    """
    unlock = unlocking(environ or {}, ask)
    text = None if environ is None else environ.get(KEY_VARIABLE)
    if text is not None:
        return parse_private(text, KEY_VARIABLE, unlock)
    return _load(folder / KEY_FILE, unlock)


def load_or_make_log_key(
    folder: Path,
    *,
    random: Callable[[int], bytes] = os.urandom,
    environ: Mapping[str, str] | None = None,
    passphrase: str | None = None,
    ask: Ask | None = None,
) -> LocalSigner:
    """Load the log's key, or make one where there is none.

    However many processes do this at once, one key is made and all of them return it. A key that is there is never
    written over, whatever is wrong with it.

    Args:
        folder: where ``log.key`` is; made if missing, for its owner only.
        random: gives so many bytes that nobody can guess.
        environ: as in `load_log_key`.
        passphrase: locks the key that is made; None: its file's mode alone protects it.
        ask: as in `load_log_key`.

    Raises:
        KeyFileError: the key is there but cannot be used, or none could be stored.
        MissingExtraError: the ``sign`` extra is not installed.
    """
    unlock = unlocking(environ or {}, ask)
    if environ is not None and KEY_VARIABLE in environ:
        return parse_private(environ[KEY_VARIABLE], KEY_VARIABLE, unlock)
    path = folder / KEY_FILE
    return _make(path, LOG_KEY_NAME, _load(path, unlock), random=random, passphrase=passphrase, unlock=unlock)


# -- a reviewer's key --------------------------------------------------------------------------------------------------


def load_reviewer_key(
    folder: Path, environ: Mapping[str, str] | None = None, *, ask: Ask | None = None
) -> LocalSigner | None:
    """Load the reviewer's key, if there is one.

    Args:
        folder: where ``reviewer.key`` is looked for.
        environ: the environment; ``DONEWHEN_KEY_PASSPHRASE`` unlocks the key.
        ask: asks a person for the passphrase, where the key is locked with one.

    Raises:
        KeyFileError: the key is there but is not a key, cannot be read or unlocked, or can be read by others.
        MissingExtraError: there is a key, and the ``sign`` extra is not installed.
    """
    return _load(folder / REVIEWER_KEY_FILE, unlocking(environ or {}, ask))


def make_reviewer_key(
    folder: Path,
    name: str,
    *,
    random: Callable[[int], bytes] = os.urandom,
    passphrase: str | None = None,
    made_by: str | None = None,
) -> tuple[LocalSigner, PublicKey]:
    """Make a reviewer's key, or load the one that this reviewer has here already.

    However many processes do this at once, one key is made and all of them return it.

    Args:
        folder: where ``reviewer.key`` and ``reviewer.vkey`` are; made if missing, for its owner only.
        name: the reviewer: printable text on one line.
        random: gives so many bytes that nobody can guess.
        passphrase: locks the key; None: its file's mode alone protects it.
        made_by: ``user@host``; None: as this process sees itself.

    Returns:
        The signer, and its public half as its file tells of it.

    Raises:
        KeyFileError: there is a key of another reviewer, or one that cannot be used, or none could be stored.
        ValueError: the name is blank, or not printable.
    """
    if not name.strip() or not name.isprintable():
        raise ValueError(f"a reviewer's name is printable text on one line, not {name!r}")
    key_name = "donewhen/reviewer/" + re.sub(r"[\s+]+", "-", name.strip())
    unlock = None if passphrase is None else _giving(passphrase)
    path = folder / REVIEWER_KEY_FILE
    signer = _make(path, key_name, _load(path, unlock), random=random, passphrase=passphrase, unlock=unlock)
    if signer.name != key_name:
        raise KeyFileError(str(path), f"is the key {signer.name!r} already. One folder holds one reviewer's key")
    return signer, _tell_public_half(folder, PublicKey(signer.vkey, name.strip(), made_by or made_here()))


def read_reviewer_vkey(folder: Path) -> PublicKey | None:
    """Return the public half of the reviewer's key, None where there is none. It needs no passphrase.

    Raises:
        KeyFileError: its file cannot be read, or is none.
    """
    return read_public_file(folder / REVIEWER_VKEY_FILE)


# -- the key for inputs ------------------------------------------------------------------------------------------------


def load_input_key(folder: Path, environ: Mapping[str, str] | None = None) -> bytes | None:
    """Load the key with which a ledger's inputs are hashed, if there is one.

    Args:
        folder: where ``input.key`` is looked for.
        environ: the environment; the text of a key in ``DONEWHEN_INPUT_KEY`` comes before the file. None: file only.

    Returns:
        The key's bytes, or None where there is neither.

    Raises:
        KeyFileError: the key is there but is not a key, cannot be read, or can be read by others. A variable that is
            set but blank is such a key: a secret that did not arrive must not make hashes that can be guessed.
    """
    text, where = None if environ is None else environ.get(INPUT_KEY_VARIABLE), INPUT_KEY_VARIABLE
    if text is None:
        text, where = read_private(folder / INPUT_KEY_FILE), str(folder / INPUT_KEY_FILE)
    if text is None:
        return None
    if not _HEX.fullmatch(text.strip()):
        raise KeyFileError(where, "is not a key for inputs: two hexadecimal digits for each byte, in one line")
    key = bytes.fromhex(text.strip())
    try:
        Hasher(key)
    except ValueError as error:
        raise KeyFileError(where, str(error)) from None
    return key


def make_input_key(folder: Path, *, random: Callable[[int], bytes] = os.urandom) -> bytes:
    """Make the key with which a ledger's inputs are hashed, where there is none; return the one that is there then.

    Args:
        folder: where ``input.key`` is; made if missing, for its owner only.
        random: gives so many bytes that nobody can guess.

    Raises:
        KeyFileError: the key is there but cannot be used, or none could be stored.
    """
    path = folder / INPUT_KEY_FILE
    try:
        if not os.path.lexists(path):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_once(path, f"{random(_INPUT_KEY_BYTES).hex()}\n")
    except OSError as error:
        raise KeyFileError(str(path), f"no key could be stored: {error.strerror}") from error
    # Another process may have been first: what is on disk is the key.
    key = load_input_key(folder)
    if key is None:
        raise KeyFileError(str(path), "is a name that is taken, and there is no file")
    return key


def made_here() -> str:
    """Return who makes a key here, ``user@host``, as far as the system says."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        user = f"uid-{os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return f"{user}@{platform.node() or 'localhost'}"


def unlocking(environ: Mapping[str, str], ask: Ask | None = None) -> Ask | None:
    """Return what gives the passphrase of a key: ``DONEWHEN_KEY_PASSPHRASE``, else whoever is asked, else nobody."""
    if PASSPHRASE_VARIABLE not in environ:
        return ask
    return _giving(environ[PASSPHRASE_VARIABLE])


def _giving(passphrase: str) -> Ask:
    return lambda _where: passphrase


def _load(path: Path, unlock: Ask | None) -> LocalSigner | None:
    text = read_private(path)
    return None if text is None else parse_private(text, str(path), unlock)


def _make(
    path: Path,
    name: str,
    signer: LocalSigner | None,
    *,
    random: Callable[[int], bytes],
    passphrase: str | None,
    unlock: Ask | None,
) -> LocalSigner:
    """Return the key that is there, else make it."""
    if signer is not None:
        return signer
    try:
        text = spell_private(LocalSigner.generate(name, random=random), passphrase)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_once(path, text)
    except OSError as error:
        raise KeyFileError(str(path), f"no key could be stored: {error.strerror}") from error
    # Another process may have been first: what is on disk is the key.
    signer = _load(path, unlock if passphrase is None else _giving(passphrase))
    if signer is None:
        raise KeyFileError(
            str(path), "is a name that is taken, and there is no file: a link to nowhere, or removed just now"
        )
    return signer


def _tell_public_half(folder: Path, public: PublicKey) -> PublicKey:
    """Write a reviewer's public half, unless it is there: who made the key is told once, where it was made."""
    path = folder / REVIEWER_VKEY_FILE
    try:
        found = read_public_file(path)
        if found is None or found.vkey != public.vkey:
            write_whole(path, public.text().encode("utf-8"), replace=True, mode=0o644)
    except OSError as error:
        raise KeyFileError(str(path), f"the public half could not be stored: {error.strerror}") from error
    return found if found is not None and found.vkey == public.vkey else public
