"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_IS_POSIX = os.name == "posix"


def write_whole(path: Path, data: bytes, *, replace: bool = False, mode: int = 0o666) -> None:
    """Write a file so that nobody ever sees a part of it, and so that it is on disk on return.

    A crash leaves the name as it was, and at most a file beside it whose name begins with a dot, used by nobody.

    Args:
        path: where; its folder must be there.
        data: all of it.
        replace: take the place of a file that has the name. Else a name that is taken is an error.
        mode: who may do what with it, as far as the user's own umask allows.

    Raises:
        FileExistsError: the name is taken, and is not to be replaced.
        OSError: it could not be written; the name is as it was.
    """
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        descriptor = os.open(draft, _FLAGS, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # A crash before this line leaves the name as it was.
        if replace:
            draft.replace(path)
        else:
            _give_name(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    if not _IS_POSIX:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give_name(draft: Path, path: Path) -> None:
    """Give a file its name, unless the name is taken."""
    if not _IS_POSIX:
        draft.rename(path)  # which fails there where the name is taken
        return
    try:
        os.link(draft, path)  # a rename would take the place of what has the name
    except FileExistsError:
        raise
    except OSError:
        # A disk without links. Whoever takes the name between these two lines loses it.
        if os.path.lexists(path):
            raise FileExistsError(f"{path} is there already") from None
        draft.replace(path)
