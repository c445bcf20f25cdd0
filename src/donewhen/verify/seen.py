"""What this user saw of each log: its newest checkpoint, kept away from the ledger, as SSH keeps the keys of hosts.

A ledger that was cut back to an older signed state is signed as well as the newer one. Whoever saw the newer one once,
and kept its checkpoint, can tell. So each verification that held leaves the log's newest checkpoint here, one file for
each log, and the next one holds the log against it. Which log a path held is kept too: another log in its place, signed
by the same key, is a good log, and not the one that was there.

The files are whole checkpoints, which any tool for signed notes reads, and which `donewhen verify --seen` takes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from donewhen.cosignatures import iter_notes
from donewhen.errors import CheckpointError, LedgerError
from donewhen.keys.files import locked
from donewhen.verify.outside import Seen
from donewhen.whole_file import write_whole

MOST_BYTES = 64 * 2**20
"""Of a file of checkpoints: whatever is larger is none."""

_FOLDER = "seen"
_PATHS = "paths"
_LOCK = "lock"


class SeenLogs:
    """The newest checkpoint that this user saw of each log.

    Args:
        folder: the user's configuration folder; a folder in it is made when something is first remembered.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _FOLDER

    def recall(self, origin: str) -> list[Seen]:
        """Return the newest checkpoint that was seen of a log; nothing if none was.

        Raises:
            LedgerError: it is there, and cannot be read.
        """
        path = self._note_path(origin)
        seen = _read_if_there(path)
        if any(one.checkpoint().origin != origin for one in seen):
            raise LedgerError(f"{path} should hold a checkpoint of the log {origin}, and holds another's. Remove it")
        return seen

    def log_at(self, path: Path | str) -> str | None:
        """Return the name of the log that was last seen at a path; None if none was.

        Raises:
            LedgerError: it was written down, and cannot be read.
        """
        place = self._place_path(path)
        try:
            return place.read_text(encoding="utf-8").partition("\n")[0] if place.exists() else None
        except (OSError, UnicodeError) as error:
            raise LedgerError(f"{place} cannot be read: {error}") from error

    def remember(self, note: str, path: Path | str) -> Path:
        """Keep a checkpoint, unless a newer one of its log is kept, and which log it is that is at a path.

        Args:
            note: the checkpoint, which the log was found to have reached.
            path: where the ledger is; one that is no file, as text without secrets.

        Returns:
            The file that it is kept in.

        Raises:
            LedgerError: it could not be kept.
        """
        new = Seen(note, str(path))
        origin = new.checkpoint().origin
        kept = self._note_path(origin)
        with self._changing():
            size = max((one.checkpoint().size for one in self.recall(origin)), default=-1)
            if new.checkpoint().size > size:
                write_whole(kept, f"{note}\n".encode(), replace=True)
            if self.log_at(path) != origin:
                write_whole(self._place_path(path), f"{origin}\n{_place(path)}\n".encode(), replace=True)
        return kept

    def forget(self, path: Path | str) -> str | None:
        """Forget which log was at a path and what was seen of it; return its name, None if none was known.

        Raises:
            LedgerError: it could not be forgotten.
        """
        origin = self.log_at(path)
        if origin is None:
            return None
        with self._changing():
            self._note_path(origin).unlink(missing_ok=True)
            self._place_path(path).unlink(missing_ok=True)
        return origin

    def _note_path(self, origin: str) -> Path:
        return self._folder / f"{_name_of(origin)}.note"

    def _place_path(self, path: Path | str) -> Path:
        return self._folder / _PATHS / _name_of(_place(path))

    @contextmanager
    def _changing(self) -> Generator[None, None, None]:
        try:
            (self._folder / _PATHS).mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self._folder / _LOCK):
                yield
        except OSError as error:
            raise LedgerError(f"what was seen cannot be kept in {self._folder}: {error}") from error


def _place(path: Path | str) -> str:
    return path if isinstance(path, str) else str(path.absolute())


def read_seen(path: Path) -> list[Seen]:
    """Return the checkpoints in a file, as `donewhen checkpoint --to` writes it, or of one alone.

    Raises:
        CheckpointError: it cannot be read, or there is no whole checkpoint in it.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode("utf-8", "replace")
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    if len(text) > MOST_BYTES:
        raise CheckpointError(f"{path} is larger than any file of checkpoints")
    # One that was printed, and not added to a file, has no empty line after it. A line that is not ended is a part.
    notes = list(iter_notes(f"{text}\n" if text.endswith("\n") else text))
    if not notes:
        raise CheckpointError(f"{path} holds no whole checkpoint")
    return [Seen(note, str(path)) for note in notes]


def _read_if_there(path: Path) -> list[Seen]:
    if not path.exists():
        return []
    try:
        return read_seen(path)
    except CheckpointError as error:
        raise LedgerError(f"{error}. It is what was seen of a log: restore it, or remove it to forget that") from error


def _name_of(text: str) -> str:
    """Return a file's name for a log's name or a path, either of which may be anything."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
