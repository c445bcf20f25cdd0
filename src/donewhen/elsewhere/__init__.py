"""Checkpoints kept elsewhere: in files on other disks, and with witnesses.

A signed log shows every change to whoever holds its public key, but not that it was cut back to an older state, or
written anew by whoever has the key. For that somebody else must remember how far it was. `Elsewhere` says who, and
when they are told: after so many rows or seconds, when a session or the ledger is closed, and before a release.

A place that fails is told of loudly and costs no row: rows are on disk before anybody elsewhere is asked. What a
release waits for is `keep`, which raises; what happens after a commit only warns, in a thread of its own, so that a
slow witness holds no call up.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, Protocol

from donewhen.cosignatures import Cosigner, cosigned_at
from donewhen.elsewhere.checkpoint_file import keep_in_file
from donewhen.elsewhere.witness import TIMEOUT_SECONDS, Cosignature, cosign, witness_address
from donewhen.errors import CheckpointError, DonewhenError, LedgerError, NotKeptError, WitnessRefusedError
from donewhen.notes import add_signature_lines
from donewhen.stores import Cosigned, Sealed, Store
from donewhen.stores.log_tree import consistency_proof

MOST_RACES = 3
"""How often a witness is asked anew because another process of this ledger was faster."""


class Keeper(Protocol):
    """Has a store, as a ledger does."""

    @property
    def store(self) -> Store:
        """Return the store."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAt:
    """What came of keeping a checkpoint in one place."""

    kind: Literal["file", "witness"]
    place: str
    """The file's path, or the witness's URL."""
    size: int
    """The rows under the checkpoint that is kept there now; 0 where that is not known."""
    is_new: bool = False
    """Whether something was added there."""
    problem: str | None = None
    """One sentence where it is not kept there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What came of keeping the newest checkpoint."""

    origin: str
    size: int
    """The rows under it."""
    places: tuple[KeptAt, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Return a sentence for each place where it is not kept."""
        return tuple(at.problem for at in self.places if at.problem is not None)


def tell_on_stderr(sentence: str) -> None:
    """Write a warning to standard error."""
    if sys.stderr is not None:
        print(f"donewhen: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 - a warning must reach somebody


class Elsewhere:
    """Say where a log's checkpoints are kept, and when.

    Args:
        files: append-only files, best on another disk or machine.
        witnesses: the URL and the public key of each.
        every_rows: keep after so many rows. None: not by rows.
        every_seconds: keep so many seconds after a row at the latest. None: not by time.
        warn: is given one sentence when an automatic keeping fails; called from another thread.
        timeout_seconds: how long one witness may take.
        now: aware UTC.

    Raises:
        ValueError: a URL cannot be used, or a number is below 1.
        CheckpointError: a key is not that of a witness.
    """

    def __init__(
        self,
        *,
        files: Iterable[str] = (),
        witnesses: Iterable[tuple[str, str]] = (),
        every_rows: int | None = None,
        every_seconds: float | None = None,
        warn: Callable[[str], object] = tell_on_stderr,
        timeout_seconds: float = TIMEOUT_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        for name, value in (("every_rows", every_rows), ("every_seconds", every_seconds)):
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be more than 0, not {value}")
        self.files = tuple(files)
        self.witnesses = tuple([(url, Cosigner.parse(vkey)) for url, vkey in witnesses])
        for url, _ in self.witnesses:
            witness_address(url)  # says now what is wrong with it, not when the first checkpoint is due
        self.every_rows = every_rows
        self.every_seconds = every_seconds
        self.warn = warn
        self._timeout_seconds = timeout_seconds
        self._now = now

    @classmethod
    def from_terms(
        cls, terms: Mapping[str, Any] | None, *, warn: Callable[[str], object] = tell_on_stderr
    ) -> Elsewhere | None:
        """Return what a spec's terms say; None where they say nothing about it.

        Args:
            terms: as a spec's row holds them; None: a spec without any.
            warn: as for `Elsewhere`.

        Raises:
            ValueError: they cannot be used.
        """
        record = (terms or {}).get("record")
        if record is None:
            return None
        try:
            return cls(
                files=record.get("checkpoint_to", ()),
                witnesses=[(one["url"], one["vkey"]) for one in record.get("witnesses", ())],
                every_rows=record.get("every_rows"),
                every_seconds=record.get("every_seconds"),
                warn=warn,
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"this does not say where checkpoints are kept: {record!r:.200}") from error

    def __bool__(self) -> bool:
        """Tell whether there is anywhere to keep a checkpoint."""
        return bool(self.files or self.witnesses)

    def keep(self, ledger: Keeper, *, progress: Callable[[str], object] | None = None) -> Kept:
        """Keep the newest checkpoint everywhere, and hold the ledger against what is kept there.

        Every place is tried, whatever becomes of the others. A witness is asked though it cosigned this checkpoint
        before: it may have seen a newer one since.

        Args:
            ledger: whose log.
            progress: is given each place before it is tried.

        Raises:
            NotKeptError: a place failed, or holds another log. The rows are where they were.
        """
        kept = self.attempt(ledger.store, progress=progress)
        if kept.problems:
            raise NotKeptError(kept.size, kept.problems)
        return kept

    def attempt(self, store: Store, *, progress: Callable[[str], object] | None = None) -> Kept:
        """Do what `keep` does, and return what failed instead of raising it."""
        newest = store.newest_sealed()
        tried: list[KeptAt] = []
        for path in self.files:
            _tell(progress, path)
            tried.append(_attempt("file", path, lambda path=path: self._keep_in_file(path, store, newest)))
            # A crash here leaves the checkpoint in some places and not in others. Each is asked anew the next time.
        for url, cosigner in self.witnesses:
            _tell(progress, url)
            tried.append(_attempt("witness", url, lambda u=url, c=cosigner: self._ask_witness(u, c, store)))
        return Kept(origin=store.origin, size=newest.size, places=tuple(tried))

    def _keep_in_file(self, path: str, store: Store, newest: Sealed) -> KeptAt:
        def find_note(size: int) -> str | None:
            sealed = store.sealed_at(size - 1)
            return sealed.note if sealed is not None and sealed.size == size else None

        is_new = keep_in_file(path, newest.note, find_note)
        return KeptAt(kind="file", place=path, size=newest.size, is_new=is_new)

    def _ask_witness(self, url: str, cosigner: Cosigner, store: Store) -> KeptAt:
        if store.vkey is None:
            raise LedgerError(f"the ledger is unsigned, and {cosigner.name} cosigns only what a key has signed")
        for _ in range(MOST_RACES - 1):
            try:
                return self._ask_once(url, cosigner, store)
            except WitnessRefusedError as refusal:
                newest = store.newest_sealed()
                if refusal.size is None or newest.size < refusal.size:
                    raise
                # Another process of this ledger has written and asked in between: there is a newer checkpoint now.
        return self._ask_once(url, cosigner, store)

    def _ask_once(self, url: str, cosigner: Cosigner, store: Store) -> KeptAt:
        sealed = store.newest_sealed()
        answered = cosign(
            url,
            cosigner,
            sealed.note,
            sealed.size,
            old_size=_size_cosigned(store, cosigner, sealed.size),
            prove=lambda old_size: consistency_proof(old_size, sealed.size, store.sealed_at),
            timeout_seconds=self._timeout_seconds,
            now=lambda: self._now().timestamp(),
        )
        # A crash here loses the cosignature, and nothing else: the witness knows the checkpoint, and signs it again.
        self._store_cosignature(store, sealed, cosigner, answered)
        return KeptAt(kind="witness", place=url, size=sealed.size, is_new=True)

    def _store_cosignature(self, store: Store, sealed: Sealed, cosigner: Cosigner, answered: Cosignature) -> None:
        at = self._now().astimezone(timezone.utc).isoformat()
        store.put_cosigned(Cosigned(sealed.size, cosigner.vkey, answered.line, at))


def _attempt(kind: Literal["file", "witness"], place: str, keep: Callable[[], KeptAt]) -> KeptAt:
    try:
        return keep()
    except DonewhenError as error:
        return KeptAt(kind=kind, place=place, size=0, problem=str(error))


def _tell(progress: Callable[[str], object] | None, place: str) -> None:
    if progress is not None:
        progress(place)


def _size_cosigned(store: Store, cosigner: Cosigner, most: int) -> int:
    """Return the size of the newest checkpoint that a witness is known to have cosigned; 0 if there is none."""
    for cosigned in reversed(store.read_cosigned()):
        sealed = store.sealed_at(cosigned.size - 1) if cosigned.size <= most else None
        if cosigned.vkey != cosigner.vkey or sealed is None or sealed.size != cosigned.size:
            continue
        # Anybody who can write the file can write such a row, so it is not believed unread.
        try:
            if cosigned_at(add_signature_lines(sealed.note, [cosigned.line]), cosigner) is not None:
                return cosigned.size
        except CheckpointError:
            continue
    return 0
