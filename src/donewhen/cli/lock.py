"""One run of a spec file at a time, so that a cron job never overlaps itself.

The lock belongs to the process, not to a file's existence: the system lets go of it when the process dies, however it
dies. What stands in the file only says who holds it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from donewhen.cli.exits import RUNNING, CommandError
from donewhen.errors import LedgerError

_LOCKED_BYTE = 1 << 30
"""Where Windows locks a byte: far behind the text, since a locked byte cannot be read."""


@contextmanager
def only_one(store: Path, subject: str, told_as: str) -> Generator[None, None, None]:
    """Hold the lock of a spec file or a session, beside the store.

    Args:
        store: the ledger's file.
        subject: what is locked: the real path of a spec file, or a session's id.
        told_as: the same, for the sentence.

    Raises:
        CommandError: somebody else holds it; says who, and since when.
        LedgerError: the lock cannot be made.
    """
    digest = hashlib.sha256(subject.encode("utf-8", "surrogateescape")).hexdigest()
    path = store.parent / f"run-{digest[:16]}.lock"
    try:
        store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise LedgerError(f"{path}: the lock against overlapping runs cannot be made: {error.strerror}") from error
    try:
        if not _take(descriptor):
            raise CommandError(f"{told_as} is already being run by {_holder(descriptor)}", RUNNING)
        # The file stays: removing it would let two processes hold locks on two files of one name.
        os.ftruncate(descriptor, 0)
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, json.dumps({"pid": os.getpid(), "since": since}).encode())
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    """Take the lock and say whether it was free."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _holder(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        told = json.loads(os.read(descriptor, 1000))
        return f"process {told['pid']} since {told['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"  # which has taken the lock and not yet said so
