"""The auditor: works out again everything that a ledger says, and trusts nothing of it but bytes.

Read from one consistent state, in one pass: each row's spelling, place, chain and balances; its digest in the Merkle
tree; the tree's root in each checkpoint; the signatures that vouch for them, against the key that the caller brings and
never the one that the file names. Around that, the database: its schema must be ours to the letter, and its indexes
must list what the rows say. And beside it, whatever was kept elsewhere: a log that was cut back, or rewritten by whoever
holds its key, does not extend a checkpoint that somebody else kept.

Source: docs/ledger_format.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from donewhen.cosignatures import Cosigner
from donewhen.entry import LOG_SESSION, LedgerRow, decode
from donewhen.errors import LedgerFormatError, LedgerTamperedError
from donewhen.keyring import Keyring
from donewhen.notes import Verifier
from donewhen.stores import Store
from donewhen.stores.opening import require_postgres
from donewhen.stores.postgres_url import is_url
from donewhen.verify.notes import Notes
from donewhen.verify.outside import KeptElsewhere, Outside, Seen
from donewhen.verify.reviews import Reviews
from donewhen.verify.rows import Rows
from donewhen.verify.source import Source
from donewhen.verify.sqlite_source import open_sqlite
from donewhen.verify.tree import Tree

if TYPE_CHECKING:
    from donewhen.ledger import Ledger

__all__ = ["Outside", "Seen", "VerifyReport", "verify_ledger"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was verified, and what vouches for it. There is no report of a ledger that is not good."""

    origin: str
    """The log's name."""
    rows: int
    sessions: int
    """0 where only the tree was verified."""
    checkpoints: int
    texts: int
    """Kept texts that are those that were committed to."""
    erased: int
    """Texts that were erased, as a row says of each."""
    signed_words: int
    """Attestations and rejections with a signature that is their reviewer's."""
    named_words: int
    """Those that are only a name."""
    releases: int
    """Outputs that were handed on, each let pass by the words before it."""
    root: str
    """The Merkle root over all rows, lower-case hex."""
    checkpoint: str
    """The newest checkpoint, whole, to be kept elsewhere. Empty: there is none."""
    signed_by: str | None
    """The verifier key that was given and vouches for every row; None: none does."""
    key_in_file: str | None
    """The verifier key that the file names. It proves nothing."""
    keys: tuple[tuple[int, str], ...]
    """The log's keys in order, each with the size of the first checkpoint that it signs. All but the given one stand
    on it, or stood before it."""
    signatures: int
    """How many signatures were verified."""
    outside: tuple[Outside, ...]
    """The checkpoints kept elsewhere that the log extends."""
    fast: bool
    """Whether only the tree and the newest checkpoint were verified, and nothing of what rows say."""
    not_proven: str | None
    """Why the ledger is not proven although nothing is wrong with it; None: it is proven."""
    warnings: tuple[str, ...]
    """What is odd, and what nothing vouches for."""

    @property
    def unsigned(self) -> bool:
        """Tell whether no signature vouches for the rows."""
        return self.signed_by is None

    @property
    def vouched_to(self) -> int:
        """Return the last row that a checkpoint kept elsewhere vouches for; 0: none."""
        return max((one.size for one in self.outside), default=0)


def verify_ledger(
    path_or_store: str | os.PathLike[str] | Store | Ledger,
    verifier: Verifier | None,
    *,
    seen: Sequence[Seen] = (),
    recall: Callable[[str], Sequence[Seen]] | None = None,
    witness: Cosigner | None = None,
    key_made_by: str = "",
    fast: bool = False,
    every_signature: bool = False,
    progress: Callable[[int, int], None] | None = None,
    random: Callable[[int], bytes] = os.urandom,
) -> VerifyReport:
    """Work out again everything that a ledger says, and return what was verified. Nothing is written.

    Others may go on writing; what they add meanwhile is not looked at.

    Args:
        path_or_store: the file, the URL of a log on PostgreSQL, or what has either open.
        verifier: the public key that the caller trusts: the log's first, or any that it was handed on to. It is of one
            log, whose name it has; any other log is refused. None: everything but signatures, and the report says so.
        seen: checkpoints that the caller kept elsewhere. The log must extend those that are of it.
        recall: given the log's name, returns what the caller remembers of it; held against the log like `seen`, but
            not missed where there is none.
        witness: a witness whose cosignature the caller asks for.
        key_made_by: ``user@host`` where the given key was made, as its file says; to tell where a reviewer's was too.
        fast: verify only the tree, the newest checkpoint and what was kept elsewhere: that these rows, byte for byte,
            are what was signed, and not what they say.
        every_signature: also verify the signature under each older checkpoint. It vouches for nothing that the newest
            does not vouch for, and takes many times as long.
        progress: called with the rows done and the rows there are.
        random: gives so many bytes that nobody can guess.

    Raises:
        LedgerTamperedError: something is not what it must be; names the first bad row, or checkpoint, and what is wrong.
        LedgerFormatError: it is no ledger of ours, or damaged beyond reading.
        LedgerUnavailableError: it cannot be read.
        CheckpointError: one of `seen` is no checkpoint.
        MissingExtraError: signatures are to be verified, and the ``sign`` extra is not installed.
    """
    with _opened(path_or_store) as source:
        audit = _Audit(source, verifier, fast=fast, every_signature=every_signature, random=random)
        audit.run(progress)
        remembered = recall(audit.origin) if recall is not None else ()
        return audit.report(seen, remembered, witness, key_made_by)


def named_keys(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the public keys that a file names as its log's, the first to the newest. They prove nothing.

    Raises:
        The errors of `verify_ledger`, as far as it gets.
    """
    with _opened(path) as source:
        return tuple([vkey for _, vkey in _read_keyring(source).log_keys(source.vkey)])


class _Audit:
    """One verification, in one read transaction."""

    def __init__(
        self,
        source: Source,
        verifier: Verifier | None,
        *,
        fast: bool,
        every_signature: bool,
        random: Callable[[int], bytes],
    ) -> None:
        self.origin, self._vkey = source.origin, source.vkey
        self._source = source
        self._verifier = verifier
        self._fast = fast
        self._every = every_signature
        self._keyring = _read_keyring(source)
        self._keys = self._keyring.log_keys(self._vkey)
        self._refuse_other_key()
        self._total, size = source.totals()
        self._notes = Notes(
            self.origin,
            self._keys,
            size,
            roots=not fast,
            verifies=verifier is not None,
            every_signature=every_signature,
        )
        self._reviews = Reviews(source, self._keyring, self.origin, self._vkey)
        self._rows = None if fast else Rows(source, random, self._reviews.looks)

    def run(self, progress: Callable[[int, int], None] | None) -> None:
        """Verify everything that is in the file."""

        def tell(done: int) -> None:
            if progress is not None:
                progress(done, self._total)

        follow = None if self._rows is None else self._rows.follow
        self._tree = Tree(self._source, follow, self._notes, tell)
        self._tree.run()
        if self._rows is not None:
            self._rows.finish()
            self._source.verify_tables()
        tell(self._tree.size)

    def report(
        self, seen: Sequence[Seen], remembered: Sequence[Seen], witness: Cosigner | None, key_made_by: str
    ) -> VerifyReport:
        """Hold the log against what was kept elsewhere, and say what was verified."""
        kept = KeptElsewhere(self._source, self.origin, self._tree.size, self._keys)
        found = [kept.hold(seen), kept.hold(remembered)]
        found.append(None if witness is None else kept.find_cosigned(witness, seen))
        cosigned = 0 if self._vkey is None or self._verifier is None else kept.verify_cosigned(every=self._every)
        outside = tuple([one for one in found if one is not None])
        rows, texts = self._rows, None if self._rows is None else self._rows.texts
        newest = self._source.newest_note()
        return VerifyReport(
            origin=self.origin,
            rows=self._tree.size,
            sessions=0 if rows is None else rows.rederivation.sessions,
            checkpoints=self._tree.commits,
            texts=0 if texts is None else texts.verified,
            erased=0 if texts is None else texts.erased,
            signed_words=self._reviews.signed,
            named_words=self._reviews.named,
            releases=self._reviews.releases,
            root=self._tree.root().hex(),
            checkpoint="" if newest is None else newest.decode(),
            signed_by=None if self._verifier is None else self._verifier.vkey,
            key_in_file=self._vkey,
            keys=tuple(self._keys),
            signatures=self._notes.verified + cosigned,
            outside=outside,
            fast=self._fast,
            not_proven=self._why_not_proven(seen, witness, found),
            warnings=tuple(self._warnings(key_made_by)),
        )

    def _refuse_other_key(self) -> None:
        """Refuse a log that the given key is none of the keys of."""
        verifier = self._verifier
        if verifier is None or any(vkey == verifier.vkey for _, vkey in self._keys):
            return
        if not self._keys:
            raise LedgerTamperedError(f"the ledger is not signed, and was to be verified against {verifier.vkey}")
        if verifier.name != self.origin:
            raise LedgerTamperedError(f"this is the log {self.origin}, and the key is that of {verifier.name}")
        named = ", ".join(repr(vkey) for _, vkey in self._keys[-3:])
        raise LedgerTamperedError(
            f"the ledger names another key than the one it was verified against: {named}, not {verifier.vkey!r}"
        )

    def _why_not_proven(
        self, seen: Sequence[Seen], witness: Cosigner | None, found: Sequence[Outside | None]
    ) -> str | None:
        if self._vkey is None:
            return "the ledger is unsigned: whoever can write the file can rewrite it whole"
        if self._verifier is None:
            return "no key was given, so no signature was checked"
        if seen and found[0] is None:
            return f"none of the {len(seen)} checkpoints that were given is of the log {self.origin}"
        if witness is not None and found[2] is None:
            return f"the witness {witness.name} has cosigned no checkpoint of this log"
        return None

    def _warnings(self, key_made_by: str) -> list[str]:
        warnings = self._reviews.warnings(key_made_by)
        if self._rows is not None:
            rederivation = self._rows.rederivation
            warnings += rederivation.warnings
            if rederivation.more_warnings:
                warnings.append(f"{rederivation.more_warnings} more like these")
        return warnings


def _opened(path_or_store: str | os.PathLike[str] | Store | Ledger) -> AbstractContextManager[Source]:
    """Open one state of what somebody named, or has open, by itself."""
    is_named = isinstance(path_or_store, (str, os.PathLike))
    address = os.fspath(path_or_store) if is_named else path_or_store.address
    if not is_url(address):
        return open_sqlite(str(Path(address).absolute()))
    require_postgres()
    from donewhen.verify.postgres_source import open_postgres

    return open_postgres(address)


def _read_keyring(source: Source) -> Keyring:
    """Read what the log says of its keys. These rows are verified with all the others."""
    rows: list[LedgerRow] = []
    for row_id, body in source.bodies_of(LOG_SESSION):
        try:
            rows.append(decode(body, strict=True))
        except LedgerFormatError as error:
            raise LedgerTamperedError(str(error), row_id=row_id) from error
    return Keyring(rows)
