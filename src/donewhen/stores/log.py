"""The log over a store's rows: what this process knows of it, and how it is extended.

A log begins with a signed checkpoint of no rows, made in the transaction that makes its store. So one without any
checkpoint was never ours: it was emptied.

Every commit seals the rows it adds: their leaf hashes extend an RFC 6962 tree, and the new size and root are signed as
a C2SP checkpoint, in the same transaction as the rows. So there is never a row on disk that no checkpoint covers, and
before a writer extends the log it holds the stored head against what was signed. A row that somebody slipped in is
refused, not sealed in passing.

A log can be handed on to another key. The row that says so is the last of its commit, whose checkpoint both keys sign:
the old one since it was the log's until then, the new one so that nobody who has only the old key can hand the log on
at another place. Whoever follows a log follows each of these steps.

A commit stores the hashes of all subtrees that its rows complete, in one insert-only table, from which
`donewhen.stores.log_tree` finds any node: so extending costs the same at a million rows as at ten.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from functools import lru_cache
from hmac import compare_digest
from typing import Protocol, cast

from donewhen.entry import decode
from donewhen.errors import CheckpointError, LedgerError, LedgerTamperedError
from donewhen.keyring import ROTATE, KeyChange, Keyring
from donewhen.merkle import EMPTY_ROOT, Frontier, leaf_hash
from donewhen.notes import Checkpoint, LocalSigner, Signer, Verifier, checkpoint_text, open_checkpoint, sign_note
from donewhen.stores import Sealed
from donewhen.stores.log_tree import consistency_proof, load_frontier

KeyRows = Callable[[int], Sequence[tuple[int, str]]]
"""Gives (id, stored body) of the rows about keys after an id, in order."""


class CheckpointSigner(Signer, Protocol):
    """A signer that remembers what it signed, and signs a log only where it extends that."""

    def sign_checkpoint(self, text: str, old_size: int, proof: Sequence[bytes]) -> bytes:
        """Return the Ed25519 signature over a checkpoint: 64 bytes.

        Args:
            text: the checkpoint's text.
            old_size: the rows of the checkpoint that this one builds on.
            proof: the consistency proof between the two.

        Raises:
            LedgerTamperedError: the log does not extend what was signed before.
            LedgerUnavailableError: there is no answer, or none that is a signature; nothing is stored.
        """
        ...


class LogState:
    """What one process knows of a log: its size, its right edge, its newest checkpoint and its key.

    Args:
        origin: the log's name, the first line of every checkpoint.
        signer: signs checkpoints; None for a log that is read, or has no key.
        verifier: checks what other writers signed, named as the log is; None for a log that has no key.
    """

    def __init__(self, origin: str, signer: Signer | None, verifier: Verifier | None) -> None:
        self.origin = origin
        self.signer = signer
        self.verifier = verifier
        self.frontier = Frontier(0, ())
        self.note: str | None = None

    @property
    def size(self) -> int:
        """Return the number of rows this process has seen sealed."""
        return self.frontier.size

    def catch_up(
        self,
        rows: int,
        newest: tuple[int, str] | None,
        sealed_at: Callable[[int], Sealed | None],
        key_rows: KeyRows = lambda _after: (),
    ) -> bool:
        """Hold the stored head of the log against what was signed; tell whether somebody else has written.

        Args:
            rows: how many rows the store has.
            newest: size and note of its newest checkpoint, None if it has none.
            sealed_at: finds the first sealed state that covers more rows than its argument.
            key_rows: gives the rows about keys after an id.

        Raises:
            LedgerTamperedError: they do not agree; nothing may be appended.
            LedgerError: the log was handed on to another key than this process has; nothing may be appended.
        """
        if newest is None:
            raise LedgerTamperedError("there is no checkpoint, not even that of no rows with which a log begins")
        size, note = newest
        if rows != size:
            raise LedgerTamperedError(
                f"the log has {rows} rows and its newest checkpoint covers {size}", row_id=min(rows, size) + 1
            )
        if note == self.note:
            return False
        if size < self.size:
            raise LedgerTamperedError(
                f"the log was cut back from {self.size} to {size} rows while this process had it open", row_id=size + 1
            )
        known = None if self.note is None else sealed_at(self.size - 1)
        if self.note is not None and (known is None or known.size != self.size or known.note != self.note):
            raise LedgerTamperedError(
                "the log was rewritten while this process had it open: its newest checkpoint is gone",
                row_id=self.size or None,
            )
        verifier = follow_rotations(self.origin, self.verifier, key_rows(self.size), sealed_at)
        frontier = load_frontier(size, sealed_at)
        if not self._would_sign(frontier, note, verifier):
            root = read_checkpoint(note, self.origin, size, verifier)
            if frontier.root() != root:
                raise LedgerTamperedError(f"the stored tree of {size} rows does not have the root that was signed")
        if self.signer is not None and verifier not in (None, log_verifier(self.origin, self.signer)):
            raise LedgerError(
                "the log was handed on to another key while this process had it open. Nothing was written: open the "
                "ledger again with the new key."
            )
        self.frontier, self.note, self.verifier = frontier, note, verifier
        return True

    def _would_sign(self, frontier: Frontier, note: str, verifier: Verifier | None) -> bool:
        """Tell whether a note is to the byte what this process would make of a tree: then its signature is good.

        A key makes one Ed25519 signature of a text, in a third of the time that one is verified in. Another one can be
        good all the same. A signer elsewhere is not asked, since it remembers what it signs.
        """
        if type(self.signer) is not LocalSigner or verifier != log_verifier(self.origin, self.signer):
            return False
        text = checkpoint_text(self.origin, frontier.size, frontier.root())
        return compare_digest(sign_note(text, self.signer, self.origin).encode(), note.encode())

    def extend(
        self,
        leaves: Sequence[bytes],
        sealed_at: Callable[[int], Sealed | None] = lambda _leaf: None,
        successor: Signer | None = None,
    ) -> tuple[Sealed, Frontier]:
        """Return the sealed state that adds these leaf hashes. `commit` makes it this process's own.

        Args:
            leaves: the leaf hashes of the rows that are added.
            sealed_at: finds the first sealed state that covers more rows than its argument.
            successor: the key that the log is handed on to with the last of these rows; it signs too.

        Raises:
            CheckpointError: a signer gave no signature, or the successor one that is not good.
        """
        start = self.frontier.size
        frontier = self.frontier.copy()
        nodes = b"".join([node for leaf in leaves for node in frontier.append(leaf)])
        text = checkpoint_text(self.origin, frontier.size, frontier.root())
        sealed = Sealed(frontier.size, start, text, nodes)
        if self.signer is not None:
            note = _sign(self.signer, self.origin, sealed, sealed_at)
            if successor is not None:
                note += _sign(successor, self.origin, sealed, sealed_at).rpartition("\n\n")[2]
                # A new key that cannot sign would leave a log that nobody can go on with.
                open_checkpoint(note, log_verifier(self.origin, successor))
            sealed = Sealed(frontier.size, start, note, nodes)
        return sealed, frontier

    def commit(self, sealed: Sealed, frontier: Frontier, successor: Signer | None = None) -> None:
        """Take a sealed state as known, once it is on disk, and with it the key that the log was handed on to."""
        self.frontier, self.note = frontier, sealed.note
        if successor is not None:
            self.signer, self.verifier = successor, log_verifier(self.origin, successor)


def new_origin(random: Callable[[int], bytes]) -> str:
    """Return the name of a new log, which no other has.

    Args:
        random: returns so many random bytes.
    """
    return f"donewhen/{base64.b32encode(random(8)).decode().rstrip('=').lower()}"


def seal_nothing(origin: str, signer: Signer | None) -> Sealed:
    """Return the sealed state of no rows, with which a log begins.

    Args:
        origin: the log's name.
        signer: signs it; None: the log has no key.

    Raises:
        CheckpointError: the name cannot be a log's, or the signer gave no signature.
    """
    sealed = Sealed(0, 0, Checkpoint(origin, 0, EMPTY_ROOT).text(), b"")
    return sealed if signer is None else Sealed(0, 0, _sign(signer, origin, sealed, lambda _leaf: None), b"")


class _BoundSigner:
    """A signer that remembers, told which state it is to sign and on which it builds."""

    def __init__(self, signer: CheckpointSigner, sealed: Sealed, sealed_at: Callable[[int], Sealed | None]) -> None:
        self.name, self.vkey = signer.name, signer.vkey
        self._signer, self._sealed, self._sealed_at = signer, sealed, sealed_at

    def sign(self, message: bytes) -> bytes:
        old, sealed = self._sealed.start, self._sealed

        def with_new(leaf: int) -> Sealed | None:
            return sealed if leaf >= old else self._sealed_at(leaf)

        proof = consistency_proof(old, sealed.size, with_new)
        return self._signer.sign_checkpoint(message.decode(), old, proof)


def log_verifier(origin: str, signer: Signer) -> Verifier:
    """Return the public key of a log that a signer signs: its key, under the log's name."""
    return _named(signer.vkey, origin)


@lru_cache(maxsize=64)
def _named(vkey: str, origin: str) -> Verifier:
    return Verifier.parse(vkey).named(origin)


def _sign(signer: Signer, origin: str, sealed: Sealed, sealed_at: Callable[[int], Sealed | None]) -> str:
    """Return the note of a state that is not signed yet."""
    if hasattr(signer, "sign_checkpoint"):  # which is quicker than asking for the protocol, at every commit
        signer = _BoundSigner(cast("CheckpointSigner", signer), sealed, sealed_at)
    return sign_note(sealed.note, signer, origin)


def follow_rotations(
    origin: str,
    verifier: Verifier | None,
    key_rows: Sequence[tuple[int, str]],
    sealed_at: Callable[[int], Sealed | None],
) -> Verifier | None:
    """Return the key that signs a log after these rows, each step of which is proven.

    Args:
        origin: the log.
        verifier: the key before them; None: the log has none.
        key_rows: (id, stored body) of rows about keys, in order.
        sealed_at: finds the first sealed state that covers more rows than its argument.

    Raises:
        LedgerTamperedError: a rotation is not the last row of its commit, not the row that was sealed there, does not
            start from the key before it, or is not signed by both keys.
    """
    bodies = dict(key_rows)
    for change in Keyring(decode(body) for body in bodies.values()).changes:
        if change.action == ROTATE:
            body = bodies.get(change.row_id)
            if verifier is None or change.old != verifier.vkey or body is None:
                raise LedgerTamperedError("the rotation does not start from the log's key", row_id=change.row_id)
            verifier = _follow(origin, verifier, change, body, sealed_at)
    return verifier


def _follow(
    origin: str, old: Verifier, change: KeyChange, body: str, sealed_at: Callable[[int], Sealed | None]
) -> Verifier:
    size, new = change.row_id, Verifier.parse(change.vkey)
    sealed = sealed_at(size - 1)
    if sealed is None or sealed.size != size:
        raise LedgerTamperedError("the rotation is not the last row of its commit", row_id=size)
    frontier = load_frontier(size - 1, sealed_at)
    frontier.append(leaf_hash(body.encode()))
    for verifier in (old, new):
        if read_checkpoint(sealed.note, origin, size, verifier) != frontier.root():
            raise LedgerTamperedError("the rotation is not the row that was sealed in its place", row_id=size)
    return new


def check_signer(path: str, origin: str, signer: Signer | None, vkey: str | None) -> None:
    """Refuse to write to a log with another key than its own, or with none.

    Args:
        path: the store, for messages.
        origin: the log.
        signer: holds the key of whoever wants to write; None: no key.
        vkey: the public key of the log, the newest where it was rotated; None: it has none.

    Raises:
        LedgerError: they are not the same.
    """
    given = None if signer is None else log_verifier(origin, signer).vkey
    if given == vkey:
        return
    if vkey is None:
        raise LedgerError(f"{path} was begun without a key. Open it without one, or begin a new ledger.")
    raise LedgerError(f"{path} is signed by the key of {vkey}. Hand in that key to write to it.")


def current_key(first_vkey: str | None, key_rows: Sequence[tuple[int, str]]) -> str | None:
    """Return the public key that a log has now, as its rows say. `LogState.catch_up` holds that against what was signed.

    Args:
        first_vkey: the key that the log was begun with; None: it has none.
        key_rows: (id, stored body) of all rows about keys, in order.

    Raises:
        LedgerTamperedError: the rows do not lead from one key to the next.
    """
    return Keyring(decode(body) for _, body in key_rows).current_log_key(first_vkey)


def read_checkpoint(note: str, origin: str, size: int, verifier: Verifier | None) -> bytes:
    """Return the root that a stored note states.

    Args:
        note: the stored note.
        origin: the log it must belong to.
        size: the size it must state.
        verifier: whose signature it must carry; None: the log has no key, and the note no signature.

    Raises:
        LedgerTamperedError: it is malformed, not signed by that key, or of another log or size.
    """
    try:
        checkpoint = Checkpoint.parse(note) if verifier is None else open_checkpoint(note, verifier)
    except CheckpointError as error:
        raise LedgerTamperedError(f"the checkpoint of {size} rows is not good: {error}", row_id=size) from error
    if checkpoint.origin != origin or checkpoint.size != size:
        raise LedgerTamperedError(
            f"the checkpoint stored for {size} rows of {origin} is of {checkpoint.size} rows of {checkpoint.origin}",
            row_id=size,
        )
    return checkpoint.root
