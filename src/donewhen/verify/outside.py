"""Checkpoints that are kept elsewhere: what shows a log that was cut back, or rewritten by whoever holds its key.

Each must be one that this log went through: its root, at its size, is worked out from the tree, which was verified by
then. So it needs no proof. Whether the log's key signed it decides only what is said when it does not fit, except of the
newest one, which is to vouch for rows.

Source: C2SP tlog-checkpoint, tlog-cosignature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache

from donewhen.attestation import is_time
from donewhen.cosignatures import Cosigner, cosigned_at, is_line_of
from donewhen.errors import CheckpointError, LedgerTamperedError
from donewhen.merkle import EMPTY_ROOT
from donewhen.notes import Checkpoint, Verifier, open_checkpoint
from donewhen.signature_lines import split_note
from donewhen.stores.log_tree import load_frontier
from donewhen.verify.source import Source

MOST_WITNESSES = 64
"""How many witnesses' cosignatures are looked at: a log has a few."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A checkpoint that was kept outside the ledger."""

    note: str
    """The checkpoint, whole; signed, unless the log has no key."""
    where: str
    """Where it was kept, for messages."""

    def checkpoint(self) -> Checkpoint:
        """Return what it states.

        Raises:
            CheckpointError: it is no checkpoint.
        """
        return Checkpoint.parse(self.note if "\n\n" not in self.note else split_note(self.note)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """A checkpoint kept elsewhere that the log was held against, and extends."""

    size: int
    """The rows that it vouches for: 1 to this one."""
    where: str
    """The file, or the witness's name."""
    at: str | None = None
    """When a witness cosigned it, ISO 8601, UTC."""


class KeptElsewhere:
    """Holds a verified log against what is kept elsewhere.

    Args:
        source: where the tree was read from.
        origin: the log's name.
        size: its rows.
        keys: the log's keys in order, each with the first size that it signs; empty: the log is unsigned.
    """

    def __init__(self, source: Source, origin: str, size: int, keys: Sequence[tuple[int, str]]) -> None:
        self.others = 0
        """Checkpoints that say nothing of this log."""
        self._source = source
        self._origin = origin
        self._size = size
        self._keys = keys
        self._root_at: Callable[[int], bytes] = lru_cache(maxsize=1024)(self._work_out)

    def hold(self, seen: Iterable[Seen]) -> Outside | None:
        """Hold the log against checkpoints, and return the newest that is of this log; None if none is.

        Raises:
            CheckpointError: one is no checkpoint.
            LedgerTamperedError: the log never went through one of them.
        """
        newest: tuple[Checkpoint, Seen] | None = None
        for one in seen:
            try:
                checkpoint = one.checkpoint()
            except CheckpointError as error:
                raise CheckpointError(f"{one.where}: {error}") from error
            if checkpoint.origin != self._origin or (self._keys and "\n\n" not in one.note):
                self.others += 1  # of another log; or a part of one, since this log signs every checkpoint
                continue
            if checkpoint.size > self._size or self._root_at(checkpoint.size) != checkpoint.root:
                raise self._not_extended(checkpoint, one)
            if newest is None or checkpoint.size > newest[0].size:
                newest = checkpoint, one
        if newest is None:
            return None
        checkpoint, one = newest
        if not self._is_signed(checkpoint, one):
            problem = f"the checkpoint of {checkpoint.size} rows in {one.where} is not signed by the log's key"
            raise LedgerTamperedError(problem, size=checkpoint.size)
        return Outside(size=checkpoint.size, where=one.where)

    def find_cosigned(self, witness: Cosigner, seen: Iterable[Seen] = ()) -> Outside | None:
        """Return the newest checkpoint that a witness cosigned; None if there is none.

        Args:
            witness: whose key the caller trusts.
            seen: checkpoints kept elsewhere, where its lines may stand too.

        Raises:
            LedgerTamperedError: a cosignature in its name is not good.
        """
        found = [(size, line.decode("utf-8", "replace")) for size, line in self._source.cosigned_by(witness.vkey)]
        best: Outside | None = None
        for size, line in found[:1]:
            best = self._cosigned(size, line, witness)
        for one in seen:
            checkpoint = one.checkpoint()
            if checkpoint.origin != self._origin or (best is not None and checkpoint.size <= best.size):
                continue
            best = self._checked(checkpoint.size, one.note, witness) or best
        return best

    def verify_cosigned(self, *, every: bool) -> int:
        """Judge every stored cosignature, and verify each witness's newest, or all; return how many were verified.

        The keys are those that the file names, so this finds what is broken and proves nothing of who signed.

        Raises:
            LedgerTamperedError: one is not what it must be.
        """
        verified, witnesses = 0, dict[bytes, Cosigner]()
        for place, (found, size, vkey, line, at, sealed) in enumerate(self._source.cosigned(), 1):
            if found != place or type(at) is not bytes or not is_time(at.decode("utf-8", "replace")):
                raise LedgerTamperedError(
                    f"the cosignature {place} of {size!r} rows has another place or time", size=size
                )
            witness = witnesses.get(vkey)
            if witness is None:
                if len(witnesses) == MOST_WITNESSES:
                    raise LedgerTamperedError(f"there are cosignatures of more than {MOST_WITNESSES} witnesses")
                witness = witnesses[vkey] = _witness_of(size, vkey)
            self._refuse_malformed(size, line, sealed, witness)
            if every:
                self._cosigned(size, line.decode(), witness)
                verified += 1
        if not every:
            for witness in witnesses.values():
                size, line = next(self._source.cosigned_by(witness.vkey))
                self._cosigned(size, line.decode(), witness)
                verified += 1
        return verified

    def _refuse_malformed(self, size: int, line: object, sealed: object, witness: Cosigner) -> None:
        try:
            if sealed is None or type(line) is not bytes or not is_line_of(line.decode(), witness):
                raise CheckpointError("there is no such checkpoint, or the line is another's")
        except ValueError as error:
            problem = f"the cosignature of {witness.name} on the checkpoint of {size!r} rows is not one: {error}"
            raise LedgerTamperedError(problem, size=size) from error

    def _cosigned(self, size: int, line: str, witness: Cosigner) -> Outside:
        text = Checkpoint(self._origin, size, self._root_at(size)).text()
        found = self._checked(size, f"{text}\n{line}\n", witness)
        if found is None:
            raise LedgerTamperedError(f"the line of {witness.name} on {size} rows is another's", size=size)
        return found

    def _checked(self, size: int, note: str, witness: Cosigner) -> Outside | None:
        try:
            time = cosigned_at(note, witness)
        except CheckpointError as error:
            raise LedgerTamperedError(f"the checkpoint of {size} rows: {error}", size=size) from error
        return None if time is None else Outside(size=size, where=f"the witness {witness.name}", at=_time_of(time))

    def _is_signed(self, checkpoint: Checkpoint, seen: Seen) -> bool:
        """Tell whether the key that the log had at a checkpoint's size signed it."""
        if not self._keys:
            return True  # nothing of an unsigned log is signed; that it was kept elsewhere counts all the same
        vkey = next(vkey for first, vkey in reversed(self._keys) if first <= checkpoint.size)
        try:
            open_checkpoint(seen.note, Verifier.parse(vkey))
        except CheckpointError:
            return False
        return True

    def _not_extended(self, checkpoint: Checkpoint, seen: Seen) -> LedgerTamperedError:
        size = checkpoint.size
        signed = "" if self._is_signed(checkpoint, seen) else ", which is not signed by the log's key,"
        if size > self._size:
            problem = f"the ledger was cut back: the checkpoint in {seen.where}{signed} covers {size} rows, and it has {self._size}"
            return LedgerTamperedError(problem, row_id=self._size + 1, size=size)
        problem = (
            f"the ledger was rewritten: its first {size} rows are not those of the checkpoint in {seen.where}{signed}"
        )
        return LedgerTamperedError(problem.rstrip(","), size=size)

    def _work_out(self, size: int) -> bytes:
        return load_frontier(size, self._source.sealed_at).root() if size else EMPTY_ROOT


def _witness_of(size: int, vkey: object) -> Cosigner:
    try:
        return Cosigner.parse(vkey.decode() if isinstance(vkey, bytes) else str(vkey))
    except ValueError as error:
        raise LedgerTamperedError(f"a cosignature of {size!r} rows names no witness: {error}", size=size) from error


def _time_of(seconds: int) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat()
    except (OverflowError, ValueError, OSError):
        return None  # a time beyond all calendars says nothing
