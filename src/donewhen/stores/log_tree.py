"""The tree of a log, read from the sealed states that hold its nodes.

A commit stores the hashes of all subtrees that its rows complete, so any node of the tree is found from its leaf.

Source: RFC 6962 section 2.1; docs/ledger_format.md.
"""

from __future__ import annotations

from collections.abc import Callable

from donewhen import merkle
from donewhen.errors import LedgerTamperedError
from donewhen.merkle import Frontier, peak_nodes
from donewhen.stores import Sealed

HASH_BYTES = 32


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


def inclusion_proof(index: int, size: int, sealed_at: Callable[[int], Sealed | None]) -> list[bytes]:
    """Prove from the stored nodes that a row is under the root of an earlier or the newest checkpoint.

    Args:
        index: the row's place in the log, from 0: its id less one.
        size: rows under the checkpoint.
        sealed_at: finds the first sealed state that covers more rows than its argument.

    Returns:
        The digests from the leaf's sibling up to the root's child.

    Raises:
        ValueError: there is no such row under that checkpoint.
        LedgerTamperedError: a node is missing.
    """
    return merkle.inclusion_proof(index, size, lambda level, place: find_node(level, place, sealed_at))


def consistency_proof(old: int, new: int, sealed_at: Callable[[int], Sealed | None]) -> list[bytes]:
    """Prove from the stored nodes that the log of `new` rows begins with its first `old` rows.

    Args:
        old: rows under the earlier checkpoint.
        new: rows under the later one.
        sealed_at: finds the first sealed state that covers more rows than its argument.

    Returns:
        The digests, as RFC 6962 orders them. Empty from no rows, and between equal sizes.

    Raises:
        ValueError: the sizes are not those of an earlier and a later state.
        LedgerTamperedError: a node is missing.
    """
    return merkle.consistency_proof(old, new, lambda level, place: find_node(level, place, sealed_at))


def completed_before(leaf: int) -> int:
    """Return how many subtrees, leaves included, the first `leaf` leaves of a tree complete.

    Source: the size of a Merkle mountain range of n leaves is 2n minus the number of ones in n.
    """
    return 2 * leaf - leaf.bit_count()
