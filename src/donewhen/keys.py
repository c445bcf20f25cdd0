"""Where a log's private key is kept, and how it gets there.

The key lives in the user's configuration folder, away from the ledger it signs: ``log.key``, one line that other
tools for signed notes read too, for its owner's eyes only. ``log.vkey`` beside it is the public half, to be handed to
whoever audits. Where there are no files, ``DONEWHEN_LOG_KEY`` holds the text of the key, and comes first.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from donewhen.errors import CheckpointError, KeyFileError
from donewhen.notes import LocalSigner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEY_FILE = "log.key"
VKEY_FILE = "log.vkey"
KEY_VARIABLE = "DONEWHEN_LOG_KEY"
FOLDER_VARIABLE = "DONEWHEN_CONFIG_DIR"

_MAX_KEY_FILE_BYTES = 4096
# Not every system has every flag. Not blocking: a pipe in the key's place must not hang who opens it.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_HAS_MODES = os.name == "posix"


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


def load_log_key(folder: Path, environ: Mapping[str, str] | None = None) -> LocalSigner | None:
    """Load the log's key, if there is one.

    Args:
        folder: where ``log.key`` is looked for.
        environ: the environment; the text of a key in ``DONEWHEN_LOG_KEY`` comes before the file. None: file only.

    Returns:
        The signer, or None where there is neither.

    Raises:
        KeyFileError: the key is there but is not a key, cannot be read, or can be read by others. A variable that
            is set but blank is such a key: a secret that did not arrive must not make an unsigned log.
        MissingExtraError: there is a key, and the ``sign`` extra is not installed.
    """
    text = None if environ is None else environ.get(KEY_VARIABLE)
    if text is not None:
        return _parse(text, KEY_VARIABLE)
    path = folder / KEY_FILE
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(str(path), f"cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        _refuse_exposed(path, os.fstat(descriptor))
        data = file.read(_MAX_KEY_FILE_BYTES)
    return _parse(data.decode("utf-8", "replace"), str(path))


def load_or_make_log_key(
    folder: Path, *, random: Callable[[int], bytes] = os.urandom, environ: Mapping[str, str] | None = None
) -> LocalSigner:
    """Load the log's key, or make one where there is none.

    However many processes do this at once, one key is made and all of them return it. A key that is there is never
    written over, whatever is wrong with it.

    Args:
        folder: where ``log.key`` and ``log.vkey`` are; made if missing, for its owner only.
        random: gives so many bytes that nobody can guess.
        environ: as in `load_log_key`.

    Raises:
        KeyFileError: the key is there but cannot be used, or none could be stored.
        MissingExtraError: the ``sign`` extra is not installed.
    """
    if environ is not None and KEY_VARIABLE in environ:
        return _parse(environ[KEY_VARIABLE], KEY_VARIABLE)
    path, vkey_path = folder / KEY_FILE, folder / VKEY_FILE
    signer = load_log_key(folder)
    if signer is not None and (vkey_path.exists() or not os.access(folder, os.W_OK)):
        return signer
    try:
        if signer is None:
            made = LocalSigner.generate(f"donewhen/log/{random(4).hex()}", random=random)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_once(path, f"{made.skey}\n")
            # Another process may have been first: what is on disk is the key.
            signer = load_log_key(folder)
        if signer is None:
            raise KeyFileError(
                str(path), "is a name that is taken, and there is no file: a link to nowhere, or removed just now"
            )
        # A crash before this line leaves a key without its public half; the next call ends here again.
        _replace(vkey_path, f"{signer.vkey}\n", mode=0o644)
    except OSError as error:
        raise KeyFileError(str(path), f"no key could be stored: {error.strerror}") from error
    return signer


def _parse(text: str, where: str) -> LocalSigner:
    try:
        return LocalSigner.parse(text.removesuffix("\n"))
    except CheckpointError as error:
        raise KeyFileError(where, f"{error}. It is kept as it is: restore it, or move it away") from None


def _refuse_exposed(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise KeyFileError(str(path), "is not a file")
    if not _HAS_MODES:
        return
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise KeyFileError(str(path), f"can be read or written by others (mode {mode:04o}). chmod 600 {path}")
    around = path.parent.stat().st_mode
    if around & 0o022 and not around & stat.S_ISVTX:
        raise KeyFileError(str(path), f"is in a folder where others can replace it. chmod 700 {path.parent}")


def _write_once(path: Path, text: str) -> None:
    """Write a file for its owner only, whole, unless the name is taken."""
    draft = _write_draft(path, text, mode=0o600)
    try:
        # A link, not a rename: it fails where the name is taken, so that the first of many wins for all.
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()
    _sync_folder(path.parent)


def _replace(path: Path, text: str, *, mode: int) -> None:
    """Write a file, whole, over whatever has the name."""
    draft = _write_draft(path, text, mode=mode)
    try:
        draft.replace(path)
    except OSError:
        draft.unlink()
        raise
    _sync_folder(path.parent)


def _write_draft(path: Path, text: str, *, mode: int) -> Path:
    """Write and sync a file of a name of its own beside a path. A crash leaves it there, used by nobody."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())
    draft = Path(name)
    draft.chmod(mode)
    return draft


def _sync_folder(folder: Path) -> None:
    if not _HAS_MODES:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
