"""A log's key makes way for the next one, in the files.

The order leaves a usable key whatever is killed in between: the new key is stored as a file of its own
(``log.key.new-…``), the ledger's row is written, the old key is kept as ``log.key.old-…``, and the new one takes the
place of ``log.key``. `find_log_key` looks at all three names.

One key serves all ledgers of a user, and each of them is rotated by a row of its own. So the old key stays until the
user removes it: other ledgers still need it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from donewhen.errors import KeyFileError
from donewhen.keys import KEY_FILE, KEY_VARIABLE, LOG_KEY_NAME, unlocking
from donewhen.keys.files import (
    Ask,
    is_locked,
    locked,
    parse_private,
    public_half,
    read_private,
    spell_private,
    write_once,
)
from donewhen.notes import LocalSigner, Verifier
from donewhen.whole_file import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LOCK_FILE = "log.key.lock"


def find_log_key(
    folder: Path, vkey: str, environ: Mapping[str, str] | None = None, *, ask: Ask | None = None
) -> LocalSigner | None:
    """Load the log's key of this public half, also where a rotation was interrupted or went on without this ledger.

    Args:
        folder: where the keys are.
        vkey: the key that a ledger's log has now, under whatever name.
        environ: as in `load_log_key`. A key in ``DONEWHEN_LOG_KEY`` is the only one that counts.
        ask: as in `load_log_key`.

    Returns:
        The signer, or None where there is no such key.

    Raises:
        KeyFileError: as for `load_log_key`.
    """
    unlock = unlocking(environ or {}, ask)
    if environ is not None and KEY_VARIABLE in environ:
        signer = parse_private(environ[KEY_VARIABLE], KEY_VARIABLE, unlock)
        return signer if _public_key(signer.vkey) == _public_key(vkey) else None
    for path in (folder / KEY_FILE, _new_path(folder, vkey), _old_path(folder, vkey)):
        text = read_private(path)
        if text is not None and _public_key(public_half(text, str(path))) == _public_key(vkey):
            return parse_private(text, str(path), unlock)
    return None


def own_log_verifier(folder: Path, environ: Mapping[str, str]) -> Verifier | None:
    """Return the public half of the key that `load_log_key` would load, for which no passphrase is needed.

    Its name is that of the key's file. A log's public key is this one under the log's name.

    Raises:
        KeyFileError: it is there, but is no key, or can be read by others.
    """
    if KEY_VARIABLE in environ:
        return Verifier.parse(public_half(environ[KEY_VARIABLE], KEY_VARIABLE))
    path = folder / KEY_FILE
    text = read_private(path)
    return None if text is None else Verifier.parse(public_half(text, str(path)))


def stage_log_key(
    folder: Path, *, random: Callable[[int], bytes] = os.urandom, passphrase: str | None = None
) -> LocalSigner:
    """Make the log's next key and store it durably beside the present one, which stays what it is.

    A key that an interrupted rotation left is taken up again, where neither that nor this one is locked.

    Args:
        folder: where ``log.key`` is.
        random: gives so many bytes that nobody can guess.
        passphrase: locks the key; None: its file's mode alone protects it.

    Raises:
        KeyFileError: it could not be stored.
    """
    try:
        with locked(folder / _LOCK_FILE):
            left = None if passphrase is not None else _left_behind(folder)
            if left is not None:
                return left
            signer = LocalSigner.generate(LOG_KEY_NAME, random=random)
            write_once(_new_path(folder, signer.vkey), spell_private(signer, passphrase))
            return signer
    except OSError as error:
        raise KeyFileError(str(folder / KEY_FILE), f"no new key could be stored: {error.strerror}") from error


def install_log_key(folder: Path, vkey: str) -> Path | None:
    """Put a staged key in the place of ``log.key``, keeping the old one, once a ledger's row says so.

    Whatever it is interrupted by, the key is found by `find_log_key`, and the next call ends what this one began.

    Args:
        folder: where the keys are.
        vkey: the public half of the staged key, under whatever name.

    Returns:
        Where the old key is kept; None where there was none, or nothing was left to do.

    Raises:
        KeyFileError: there is no such key, or it could not be put there.
    """
    try:
        with locked(folder / _LOCK_FILE):
            return _take_place(folder, vkey)
    except OSError as error:
        raise KeyFileError(str(folder / KEY_FILE), f"the new key could not be put there: {error.strerror}") from error


def is_unfinished(folder: Path, vkey: str) -> bool:
    """Tell whether a rotation to a key was interrupted: it is not in its place yet."""
    return _new_path(folder, vkey).exists()


def _public_key(vkey: str) -> bytes:
    """Return what is the same whatever a key is called."""
    return Verifier.parse(vkey).public_key


def _new_path(folder: Path, vkey: str) -> Path:
    return folder / f"{KEY_FILE}.new-{_short(vkey)}"


def _old_path(folder: Path, vkey: str) -> Path:
    return folder / f"{KEY_FILE}.old-{_short(vkey)}"


def _short(vkey: str) -> str:
    return hashlib.sha256(_public_key(vkey)).hexdigest()[:8]


def _left_behind(folder: Path) -> LocalSigner | None:
    """Return the key that an interrupted rotation left, if there is one without a passphrase."""
    for path in sorted(folder.glob(f"{KEY_FILE}.new-*")):
        text = read_private(path)
        if text is not None and not is_locked(text):
            return parse_private(text, str(path))
    return None


def _take_place(folder: Path, vkey: str) -> Path | None:
    path, staged = folder / KEY_FILE, _new_path(folder, vkey)
    text = read_private(path)
    old = None if text is None else public_half(text, str(path))
    if old is not None and _public_key(old) == _public_key(vkey):
        staged.unlink(missing_ok=True)
        return None
    if read_private(staged) is None:
        raise KeyFileError(str(staged), "is not there, so it cannot become the log's key")
    kept = _keep_old(path, folder, old)
    # A crash before this line leaves the old key under both names and the new one under its own.
    staged.replace(path)
    sync_folder(folder)
    return kept


def _keep_old(path: Path, folder: Path, old: str | None) -> Path | None:
    if old is None:
        return None
    kept = _old_path(folder, old)
    try:
        os.link(path.resolve(), kept)
    except FileExistsError:
        if public_half(read_private(kept) or "", str(kept)) != old:
            raise KeyFileError(str(kept), "is there, and is not the key that was to be kept under this name") from None
    return kept
