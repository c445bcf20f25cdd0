"""The log over a store's rows: what this process knows of it, and how it is extended.

Every commit seals the rows it adds: their leaf hashes extend an RFC 6962 tree, and the new size and root are signed as
a C2SP checkpoint, in the same transaction as the rows. So there is never a row on disk that no checkpoint covers, and
before a writer extends the log it holds the stored head against what was signed. A row that somebody slipped in is
refused, not sealed in passing.

A commit stores the hashes of all subtrees that its rows complete, in one insert-only table. Any node of the tree is
found from them, so that extending costs the same at a million rows as at ten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from donewhen.errors import CheckpointError, LedgerError, LedgerTamperedError
from donewhen.merkle import Frontier, peak_nodes
from donewhen.notes import Checkpoint, Signer, Verifier, open_note, sign_note
from donewhen.stores import Sealed

HASH_BYTES = 32


class LogState:
    """What one process knows of a log: its size, its right edge and its newest checkpoint.

    Args:
        origin: the log's name, the first line of every checkpoint.
        signer: signs checkpoints; None for a log that is read, or has no key.
        verifier: checks what other writers signed; None for a log that has no key.
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

    def catch_up(self, rows: int, newest: tuple[int, str] | None, sealed_at: Callable[[int], Sealed | None]) -> bool:
        """Hold the stored head of the log against what was signed; tell whether somebody else has written.

        Args:
            rows: how many rows the store has.
            newest: size and note of its newest checkpoint, None if it has none.
            sealed_at: finds the first sealed state that covers more rows than its argument.

        Raises:
            LedgerTamperedError: they do not agree; nothing may be appended.
        """
        size, note = newest or (0, None)
        if rows != size:
            raise LedgerTamperedError(
                f"the log has {rows} rows and its newest checkpoint covers {size}", row_id=min(rows, size) + 1
            )
        if note == self.note:
            return False
        if note is None or size < self.size:
            raise LedgerTamperedError(
                f"the log was cut back from {self.size} to {size} rows while this process had it open", row_id=size + 1
            )
        known = sealed_at(self.size - 1) if self.size else None
        if self.size and (known is None or known.size != self.size or known.note != self.note):
            raise LedgerTamperedError(
                "the log was rewritten while this process had it open: its newest checkpoint is gone", row_id=self.size
            )
        frontier = load_frontier(size, sealed_at)
        root = read_checkpoint(note, self.origin, size, self.verifier)
        if frontier.root() != root:
            raise LedgerTamperedError(f"the stored tree of {size} rows does not have the root that was signed")
        self.frontier, self.note = frontier, note
        return True

    def extend(self, leaves: Sequence[bytes]) -> tuple[Sealed, Frontier]:
        """Return the sealed state that adds these leaf hashes. `commit` makes it this process's own."""
        start = self.frontier.size
        frontier = self.frontier.copy()
        nodes = b"".join([node for leaf in leaves for node in frontier.append(leaf)])
        text = Checkpoint(self.origin, frontier.size, frontier.root()).text()
        note = text if self.signer is None else sign_note(text, self.signer)
        return Sealed(frontier.size, start, note, nodes), frontier

    def commit(self, sealed: Sealed, frontier: Frontier) -> None:
        """Take a sealed state as known, once it is on disk."""
        self.frontier, self.note = frontier, sealed.note


def check_signer(path: str, given: str | None, vkey: str | None) -> None:
    """Refuse to write to a log with another key than the one that it was begun with, or with none.

    Args:
        path: the store, for messages.
        given: the public key of whoever wants to write; None: no key.
        vkey: the public key of the log; None: it has none.

    Raises:
        LedgerError: they are not the same.
    """
    if given == vkey:
        return
    if vkey is None:
        raise LedgerError(f"{path} was begun without a key. Open it without one, or begin a new ledger.")
    name = vkey.split("+", 1)[0]
    raise LedgerError(f"{path} is signed by the key {name!r}. Hand in that key to write to it.")


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
        checkpoint = Checkpoint.parse(note if verifier is None else open_note(note, verifier))
    except CheckpointError as error:
        raise LedgerTamperedError(f"the checkpoint of {size} rows is not good: {error}", row_id=size) from error
    if checkpoint.origin != origin or checkpoint.size != size:
        raise LedgerTamperedError(
            f"the checkpoint stored for {size} rows of {origin} is of {checkpoint.size} rows of {checkpoint.origin}",
            row_id=size,
        )
    return checkpoint.root


def load_frontier(size: int, sealed_at: Callable[[int], Sealed | None]) -> Frontier:
    """Return the right edge of the tree of `size` rows from the stored nodes.

    Raises:
        LedgerTamperedError: a node is missing.
    """
    peaks = [find_node(level, index, sealed_at) for level, index in peak_nodes(size)]
    return Frontier(size, tuple(peaks))


def find_node(level: int, index: int, sealed_at: Callable[[int], Sealed | None]) -> bytes:
    """Return the hash of a complete subtree from the stored nodes.

    Args:
        level: 0 for a leaf; the subtree has 2**level leaves.
        index: its place among the subtrees of its level, from 0.
        sealed_at: finds the first sealed state that covers more rows than its argument.

    Raises:
        LedgerTamperedError: it is missing.
    """
    last_leaf = ((index + 1) << level) - 1
    sealed = sealed_at(last_leaf)
    if sealed is None or sealed.start > last_leaf:
        raise LedgerTamperedError("the stored tree has a gap", row_id=last_leaf + 1)
    place = completed_before(last_leaf) - completed_before(sealed.start) + level
    node = sealed.nodes[place * HASH_BYTES : (place + 1) * HASH_BYTES]
    if len(node) != HASH_BYTES:
        raise LedgerTamperedError("the stored tree has a gap", row_id=last_leaf + 1)
    return node


def completed_before(leaf: int) -> int:
    """Return how many subtrees, leaves included, the first `leaf` leaves of a tree complete.

    Source: the size of a Merkle mountain range of n leaves is 2n minus the number of ones in n.
    """
    return 2 * leaf - leaf.bit_count()
