"""What a signer remembers of each log it signed, so that it signs none that does not extend it.

The ledger asks for a signature before it commits, so the signer cannot know whether the last state it signed is on
disk. It keeps two: `confirmed`, on which something was built, and `pending`, the newest. A state that builds on
`pending` confirms it. One that builds on `confirmed` takes its place: the commit before it never happened, or was
undone. That is written into a journal, so that of each log at most the rows of one commit can ever have two signed
states, and it shows.

All of it is on disk before a signature leaves. A crash in between leaves a pending state that nobody has.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from donewhen.errors import CheckpointError, KeyFileError, LedgerTamperedError, LedgerUnavailableError
from donewhen.merkle import EMPTY_ROOT, verify_consistency
from donewhen.notes import Checkpoint
from donewhen.whole_file import sync_folder, write_whole

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

VERSION = 1

MAX_LOGS = 10_000
"""Logs that one signer remembers: whoever can reach it could name any number of them."""


@dataclass(frozen=True, slots=True)
class State:
    """A size and the root over so many rows."""

    size: int
    root: bytes | None
    """None: not known, since the signer was not there when it was signed."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of one log."""

    confirmed: State
    """The newest state on which something was built."""
    pending: State
    """The state that was signed last."""


def remember(memory: Memory | None, checkpoint: Checkpoint, old_size: int, proof: Sequence[bytes]) -> Memory:
    """Return what is to be remembered once a checkpoint is signed.

    Args:
        memory: what is remembered of its log; None: the log is new to this signer, which then believes the first size.
        checkpoint: what is to be signed.
        old_size: the rows of the state that it builds on.
        proof: the consistency proof between the two.

    Raises:
        LedgerTamperedError: it does not extend what was signed.
    """
    begins = checkpoint.size == old_size == 0 and (memory is None or not memory.pending.size)
    if not begins and not 0 <= old_size < checkpoint.size:
        raise LedgerTamperedError(f"a checkpoint of {checkpoint.size} rows cannot build on one of {old_size}")
    asked = State(checkpoint.size, checkpoint.root)
    if memory is None:
        base = State(old_size, None if old_size else EMPTY_ROOT)
    elif old_size == memory.pending.size:
        base = memory.pending
    elif old_size == memory.confirmed.size:
        base = memory.confirmed
    else:
        raise LedgerTamperedError(
            f"the log builds on a state of {old_size} rows, and this signer has signed {memory.pending.size}: it was "
            "rolled back, or put in the place of another",
            row_id=min(old_size, memory.pending.size) + 1,
        )
    if base.root is not None:
        verify_consistency(base.size, asked.size, proof, base.root, checkpoint.root)
    return Memory(base, asked)


class SignerMemory:
    """Keep what is remembered of every log in a file, for one process at a time.

    Args:
        path: the file; made when missing. Its folder must be there.
        now: aware UTC, for the journal.

    Raises:
        LedgerUnavailableError: another signer has it, or it cannot be read or written.
        KeyFileError: it is not such a file. It is kept as it is.
    """

    def __init__(self, path: Path, *, now: Callable[[], datetime]) -> None:
        self.path = path
        self.journal = path.with_name(f"{path.name}.journal")
        self._now = now
        self._lock: int | None = _take(path.with_name(f"{path.name}.lock"))
        try:
            self.is_new = not path.exists()
            self._logs = {} if self.is_new else _read(path)
            if self.is_new:
                self._write(self._logs)
        except BaseException:
            self.close()
            raise

    def find(self, origin: str) -> Memory | None:
        """Return what is remembered of a log; None: nothing."""
        return self._logs.get(origin)

    def extend(self, checkpoint: Checkpoint, old_size: int, proof: Sequence[bytes]) -> str | None:
        """Remember a checkpoint that may then be signed. On return it is on disk.

        Returns:
            What is odd and must be told: that a state was signed before which this one replaces. None: nothing.

        Raises:
            LedgerTamperedError: it does not extend what was signed; nothing is changed.
            LedgerUnavailableError: it could not be stored; it must not be signed.
        """
        before = self._logs.get(checkpoint.origin)
        after = remember(before, checkpoint, old_size, proof)
        if before is None and len(self._logs) >= MAX_LOGS:
            raise LedgerUnavailableError(str(self.path), f"this signer remembers {MAX_LOGS} logs and takes no more")
        odd = _told(before, after, checkpoint.origin)
        if before == after:
            return None
        if odd is not None:
            self._note(checkpoint.origin, before, after)
        self._write({**self._logs, checkpoint.origin: after})
        return odd

    def is_newest(self, checkpoint: Checkpoint) -> bool:
        """Tell whether a checkpoint is the one that was signed last of its log."""
        memory = self._logs.get(checkpoint.origin)
        return memory is not None and memory.pending == State(checkpoint.size, checkpoint.root)

    def close(self) -> None:
        """Let another process have the file."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _write(self, logs: Mapping[str, Memory]) -> None:
        text = json.dumps({"version": VERSION, "logs": {origin: _spell(memory) for origin, memory in logs.items()}})
        try:
            # A crash leaves the old file or the new one, each of them whole.
            write_whole(self.path, f"{text}\n".encode(), replace=True, mode=0o600)
        except OSError as error:
            raise LedgerUnavailableError(str(self.path), f"cannot be written ({error.strerror})") from error
        self._logs = dict(logs)

    def _note(self, origin: str, before: Memory | None, after: Memory) -> None:
        """Write into the journal, durably, which signed state another one replaces."""
        line = {
            "at": self._now().isoformat(),
            "origin": origin,
            "replaced": None if before is None else _spell_state(before.pending),
            "by": _spell_state(after.pending),
        }
        try:
            is_new = not self.journal.exists()
            descriptor = os.open(self.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{json.dumps(line)}\n")
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                sync_folder(self.journal.parent)
        except OSError as error:
            raise LedgerUnavailableError(str(self.journal), f"cannot be written ({error.strerror})") from error


def _told(before: Memory | None, after: Memory, origin: str) -> str | None:
    if before is None:
        at = "its beginning" if after.confirmed.size == 0 else f"{after.confirmed.size} rows, on its word"
        return f"the log {origin} is new to this signer, which knows it from {at}"
    is_built_upon = before.pending in (before.confirmed, after.confirmed)
    is_replaced = not is_built_upon and after.pending != before.pending
    if not is_replaced:
        return None
    return (
        f"the log {origin} had a state of {before.pending.size} rows signed that it does not have: another of "
        f"{after.pending.size} rows takes its place, from row {after.confirmed.size + 1} on"
    )


def _take(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise LedgerUnavailableError(str(path), f"cannot be opened ({error.strerror})") from error
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise LedgerUnavailableError(str(path), "another signer works with this state") from error
    return descriptor


def _read(path: Path) -> dict[str, Memory]:
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict) or set(cast("dict[str, Any]", raw)) != {"version", "logs"}:
            raise ValueError("it is not an object of version and logs")
        fields = cast("dict[str, Any]", raw)
        if fields["version"] != VERSION:
            raise ValueError(f"it has version {fields['version']!r}, and this donewhen knows {VERSION}")
        return {origin: _parse(origin, memory) for origin, memory in fields["logs"].items()}
    except OSError as error:
        raise LedgerUnavailableError(str(path), f"cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, CheckpointError) as error:
        raise KeyFileError(
            str(path),
            f"does not say what was signed ({error}). It is kept as it is: restore it, since a signer that forgot can be "
            "made to sign twice",
        ) from error


def _parse(origin: str, raw: Any) -> Memory:
    if set(raw) != {"confirmed", "pending"}:
        raise ValueError(f"what it says of {origin!r} is not two states")
    confirmed, pending = (_parse_state(origin, raw[name]) for name in ("confirmed", "pending"))
    if pending.root is None or confirmed.size > pending.size or (confirmed.size == pending.size and pending.size):
        raise ValueError(f"what it says of {origin!r} is not one state and a later one")
    return Memory(confirmed, pending)


def _parse_state(origin: str, raw: Any) -> State:
    root = None if raw["root"] is None else base64.b64decode(raw["root"], validate=True)
    if type(raw["size"]) is not int or len(raw) != 2:
        raise ValueError(f"what it says of {origin!r} is not a state")
    Checkpoint(origin, raw["size"], root or EMPTY_ROOT)  # which refuses what cannot be one
    return State(raw["size"], root)


def _spell(memory: Memory) -> dict[str, Any]:
    return {"confirmed": _spell_state(memory.confirmed), "pending": _spell_state(memory.pending)}


def _spell_state(state: State) -> dict[str, Any]:
    return {"size": state.size, "root": None if state.root is None else base64.b64encode(state.root).decode()}
