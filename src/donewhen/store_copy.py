"""A ledger moved from one store into another, and verified at both ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from donewhen.errors import LedgerError
from donewhen.notes import Verifier
from donewhen.stores.copying import Dump, Progress
from donewhen.stores.opening import named, require_postgres
from donewhen.stores.postgres_url import is_url
from donewhen.verify import Seen, VerifyReport, named_keys, verify_ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was copied. Both ends were verified, against the key that they name."""

    source: str
    target: str
    report: VerifyReport
    """Of the target."""


def copy_store(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Copied:
    """Copy a log from a SQLite file or PostgreSQL into the other, or into another of its kind, byte for byte.

    Rows, sealed states, cosignatures and kept texts are the same afterwards, and so is the log's name. Whoever goes on
    writing to the source after this has two logs of one name.

    Args:
        source: a path, or a URL.
        target: a path where there is no file yet, or the URL of a log that is not there yet.
        progress: is told the rows done and the rows there are: of verifying, of copying, and of verifying again.

    Raises:
        LedgerTamperedError: the source is not what was signed, and nothing was copied; or the target is not.
        LedgerError: the target is not empty, or the source has grown meanwhile.
        LedgerFormatError: the source is no ledger of ours.
        LedgerUnavailableError: one of them cannot be read or written.
    """
    here, there = _whole(source), _whole(target)
    with _open_dump(here) as dump:
        _refuse_taken(there, dump.origin)  # before the source is verified, which may take long
    verifier = next((Verifier.parse(vkey) for vkey in named_keys(here)), None)
    before = verify_ledger(here, verifier, progress=progress)
    with _open_dump(here) as dump:
        _load(there, dump, lambda done: None if progress is None else progress(done, dump.count))
    seen = [Seen(before.checkpoint, named(here))] if before.checkpoint else []
    report = verify_ledger(there, verifier, seen=seen, progress=progress)
    with _open_dump(here) as dump:
        if dump.count != report.rows:
            raise LedgerError(
                f"{named(here)} has grown from {report.rows} to {dump.count} rows meanwhile, and the copy in "
                f"{named(there)} lacks them. Stop what writes to it, and copy it again into another place."
            )
    return Copied(source=named(here), target=named(there), report=report)


def _whole(place: str | os.PathLike[str]) -> str:
    name = os.fspath(place)
    return name if is_url(name) else os.path.abspath(name)


def _open_dump(address: str) -> AbstractContextManager[Dump]:
    """Open one state of a log."""
    if is_url(address):
        require_postgres()
        from donewhen.stores import postgres_copy

        return postgres_copy.dump(address)
    from donewhen.stores import sqlite_copy

    return sqlite_copy.dump(address)


def _refuse_taken(address: str, origin: str) -> None:
    if is_url(address):
        require_postgres()
        from donewhen.stores import postgres_copy

        postgres_copy.refuse_taken(address, origin)
        return
    from donewhen.stores import sqlite_copy

    sqlite_copy.refuse_taken(address)


def _load(address: str, dump: Dump, progress: Progress) -> None:
    """Write a log into a store that has none, or nothing of it."""
    if is_url(address):
        require_postgres()
        from donewhen.stores import postgres_copy

        postgres_copy.load(address, dump, progress)
        return
    from donewhen.stores import sqlite_copy

    sqlite_copy.load(address, dump, progress)
