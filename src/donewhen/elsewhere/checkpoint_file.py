"""A file of checkpoints on another disk or machine: an old witness that cannot be talked round.

A checkpoint is added at the end, in one write, and is on that disk before anybody goes on. Nothing in the file is ever
changed, so it can be made append-only for the user who writes it (``chattr +a`` on Linux). Before a checkpoint is
added, the ledger is held against the newest one that is there: a ledger that was cut back or rewritten is refused.

Each checkpoint is followed by an empty line. What a crash or a full disk left of one is marked as a part before the
next is added, so that nobody takes it for a whole one; `donewhen.cosignatures.iter_notes` steps over it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from donewhen.cosignatures import iter_notes
from donewhen.errors import LedgerError, LedgerTamperedError
from donewhen.notes import Checkpoint
from donewhen.whole_file import sync_folder

TAIL_BYTES = 65_536
"""How much of the end of a file is read at first. A checkpoint is shorter, unless it has many signatures."""

PART = "— what stands before this line is a part of a checkpoint that was never written whole\n\n"
"""Spoils what stands before it as a checkpoint: it looks like a signature line and is none."""

_FLAGS: int = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_WAIT: int = getattr(os, "O_NONBLOCK", 0)  # so that a device that is slow to open is an error, not a wait


def keep_in_file(path: str, note: str, find_note: Callable[[int], str | None]) -> bool:
    """Add a checkpoint to a file, and tell whether it was not there yet.

    On return it is on that disk.

    Args:
        path: the file; made where it is missing, in a folder that is there.
        note: the checkpoint, as it was stored.
        find_note: gives the checkpoint that the ledger stored for exactly so many rows, None where it has none.

    Raises:
        LedgerTamperedError: the file holds a checkpoint of this log that the ledger does not have.
        LedgerError: the file cannot be read or written; says why.
    """
    checkpoint = _checkpoint_of(note)
    with _opened(path) as descriptor:
        end = os.fstat(descriptor).st_size
        newest = _find_newest(descriptor, end, checkpoint.origin)
        if newest is not None:
            size = _checkpoint_of(newest).size
            stored = find_note(size)
            if stored is None or _checkpoint_of(stored) != _checkpoint_of(newest):
                raise LedgerTamperedError(
                    f"{path} holds a checkpoint of {size} rows of this log, and the ledger never had those {size} "
                    "rows. It was cut back or rewritten, or this is another copy of it",
                    row_id=size,
                )
            # To the letter: the part of a signed checkpoint can look like an unsigned one.
            if newest == stored and size >= checkpoint.size:
                return False
        _append(path, descriptor, _mend(_read(descriptor, max(0, end - TAIL_BYTES), end), note) + f"{note}\n")
    return True


def _checkpoint_of(note: str) -> Checkpoint:
    """Read what a note says. Who signed it was looked at when it was stored, or does not matter."""
    text, blank, _ = note.rpartition("\n\n")
    return Checkpoint.parse(f"{text}\n" if blank else note)


@contextmanager
def _opened(path: str) -> Generator[int, None, None]:
    try:
        is_new = not os.path.lexists(path)
        descriptor = os.open(path, _FLAGS | _NO_WAIT, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise LedgerError(f"{path} is no file, so no checkpoint can be kept in it")
            if is_new:
                sync_folder(Path(path).absolute().parent)
            yield descriptor
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LedgerError(f"{path}: no checkpoint can be kept there ({reason})") from error


def _find_newest(descriptor: int, end: int, origin: str) -> str | None:
    """Return the checkpoint with the most rows of a log, among the newest in a file; None if there is none."""
    length = TAIL_BYTES
    while True:
        start = max(0, end - length)
        found = [note for note in iter_notes(_read(descriptor, start, end)) if _checkpoint_of(note).origin == origin]
        if found or start == 0:
            return max(found, key=lambda note: _checkpoint_of(note).size, default=None)
        length *= 8  # the newest may be those of other logs


def _read(descriptor: int, start: int, end: int) -> str:
    """Return a part of a file, from the first checkpoint that is whole in it."""
    os.lseek(descriptor, start, os.SEEK_SET)
    parts: list[bytes] = []
    while start < end and (part := os.read(descriptor, end - start)):
        parts.append(part)
        start += len(part)
    data = b"".join(parts)
    if len(data) < end:
        data = data.partition(b"\n\n")[2]
    return data.decode("utf-8", "replace")  # bytes that are no text are no checkpoint either


def _mend(tail: str, note: str) -> str:
    """Return what marks the end of a file as a part of a checkpoint; nothing where it is whole.

    Args:
        tail: how the file ends now.
        note: what is to be added.
    """
    if not tail or tail.endswith("\n\n"):
        last = list(iter_notes(tail))[-1:]
        # A signed checkpoint was cut off exactly where its text ends: an unsigned log has no signed one to add.
        is_part = bool(last) and "\n\n" not in last[0] and "\n\n" in note
        is_part = (
            is_part and tail.endswith(f"{last[0]}\n") and _checkpoint_of(last[0]).origin == _checkpoint_of(note).origin
        )
        return PART if is_part else ""
    return PART if tail.endswith("\n") else f"\n{PART}"


def _append(path: str, descriptor: int, text: str) -> None:
    data = text.encode("utf-8")
    written = os.write(descriptor, data)
    # A crash before this line may leave a part of the checkpoint, or nothing; the next one is added after it.
    os.fsync(descriptor)
    if written < len(data):
        raise LedgerError(f"{path}: only a part of the checkpoint could be written there. Is the disk full?")
