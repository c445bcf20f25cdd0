"""Merkle trees of RFC 6962: roots, proofs that a leaf is under a root, proofs that one root extends another.

A tree over n leaves is a row of complete subtrees, largest first, one for each bit of n: its peaks. They are all
that is needed to append a leaf and to give the root, so a writer holds a `Frontier` and never the tree. A node is
named by its level (0 for leaves) and its index in that level; a proof is read from stored nodes through a function.

What goes in and out are digests of 32 bytes. A leaf here is always the `leaf_hash` of a body, never the body. A
proof ties a leaf to a root at an index and a size that the caller knows from a signed checkpoint: the root alone
does not fix the size.

Source: RFC 6962 section 2.1; verification as in RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from donewhen.errors import LedgerTamperedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
"""The root over no leaves."""


def leaf_hash(body: bytes) -> bytes:
    """Hash the body of a leaf.

    Source: RFC 6962 section 2.1.
    """
    return sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into the one above them.

    Source: RFC 6962 section 2.1.
    """
    return sha256(b"\x01" + left + right).digest()


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaves, from left to right.

    Raises:
        ValueError: a leaf is not a digest of 32 bytes.
    """
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def peak_nodes(size: int) -> list[tuple[int, int]]:
    """Name the complete subtrees that make up a tree.

    Args:
        size: leaves in the tree.

    Returns:
        Level and index of each, the largest (leftmost) first.

    Raises:
        ValueError: the size is negative.
    """
    if size < 0:
        raise ValueError(f"a tree has no size below 0: {size}")
    return _cover(0, size)


class Frontier:
    """The right edge of a tree: its size and its peaks, which is all that appending needs."""

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """Take up a tree where it was left.

        Args:
            size: leaves in the tree.
            peaks: the digests of its complete subtrees, largest first, as `peak_nodes` names them.

        Raises:
            ValueError: the size is negative, the number of peaks is not that of the size, or one is not a digest.
        """
        if size < 0 or len(peaks) != size.bit_count() or any(len(peak) != HASH_BYTES for peak in peaks):
            raise ValueError(f"a tree of {size} leaves does not have these {len(peaks)} peaks")
        self.size = size
        self._peaks = list(peaks)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frontier):
            return NotImplemented
        return self.size == other.size and self._peaks == other._peaks

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # it changes

    def __repr__(self) -> str:
        return f"Frontier(size={self.size}, root={self.root().hex()})"

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """Return the digests of the complete subtrees, largest first."""
        return tuple(self._peaks)

    def append(self, leaf: bytes) -> list[bytes]:
        """Add one leaf at the right.

        Args:
            leaf: the leaf's hash.

        Returns:
            The digests of the subtrees that this leaf completes: the leaf itself at level 0, then level by level
            upwards. The one at level ``n`` has the index ``(size - 1) >> n``, by the size after the leaf.

        Raises:
            ValueError: the leaf is not a digest of 32 bytes.
        """
        if len(leaf) != HASH_BYTES:
            raise ValueError(f"a leaf's hash has {HASH_BYTES} bytes, not {len(leaf)}")
        completed = [leaf]
        size = self.size
        # Each low bit that is set is a peak of the same height as what has been completed so far.
        while size & 1:
            leaf = sha256(b"\x01" + self._peaks.pop() + leaf).digest()
            completed.append(leaf)
            size >>= 1
        self._peaks.append(leaf)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """Return the root over all leaves; over none it is the digest of nothing."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in self._peaks[-2::-1]:
            root = sha256(b"\x01" + peak + root).digest()
        return root

    def copy(self) -> Frontier:
        """Return another frontier of the same tree, to be appended to on its own."""
        other = Frontier.__new__(Frontier)  # what is copied was checked when it was made
        other.size, other._peaks = self.size, self._peaks.copy()
        return other


def inclusion_proof(index: int, size: int, get_node: Callable[[int, int], bytes]) -> list[bytes]:
    """Prove that a leaf is under the root of a tree.

    Args:
        index: the leaf's index, from 0.
        size: leaves in the tree.
        get_node: gives the digest of a complete subtree by its level and index.

    Returns:
        The digests from the leaf's sibling up to the root's child.

    Raises:
        ValueError: the tree has no such leaf.

    Source: RFC 6962 section 2.1.1.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    proof: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        split = begin + _largest_power_below(end - begin)
        if index < split:
            proof.append(_subtree(split, end, get_node))
            end = split
        else:
            proof.append(_subtree(begin, split, get_node))
            begin = split
    return proof[::-1]


def consistency_proof(old: int, new: int, get_node: Callable[[int, int], bytes]) -> list[bytes]:
    """Prove that a tree begins with all leaves of an earlier tree.

    Args:
        old: leaves in the earlier tree.
        new: leaves in the later tree.
        get_node: gives the digest of a complete subtree by its level and index.

    Returns:
        The digests, as the RFC orders them. Empty where there is nothing to prove: from no leaves, or equal sizes.

    Raises:
        ValueError: the sizes are not those of an earlier and a later tree.

    Source: RFC 6962 section 2.1.2.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves does not extend one of {old}")
    if old in (0, new):
        return []
    proof: list[bytes] = []
    begin, end = 0, new
    while old != end:
        split = begin + _largest_power_below(end - begin)
        if old <= split:
            proof.append(_subtree(split, end, get_node))
            end = split
        else:
            proof.append(_subtree(begin, split, get_node))
            begin = split
    # The verifier has the old root already; it needs what is left of the old tree only if that is not all of it.
    if begin:
        proof.append(_subtree(begin, end, get_node))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Hold an inclusion proof against a root.

    Args:
        leaf: the leaf's hash.
        index: the leaf's index, from 0.
        size: leaves in the tree.
        proof: the digests, sibling first.
        root: the root, from a checkpoint that was verified.

    Raises:
        LedgerTamperedError: the proof does not lead from the leaf to the root.

    Source: RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise LedgerTamperedError(f"a tree of {size} leaves has no leaf {index}")
    _refuse_malformed(leaf, root, *proof)
    place, last, current = index, size - 1, leaf
    for digest in proof:
        if not last:
            raise LedgerTamperedError(f"the inclusion proof of leaf {index} is too long for {size} leaves")
        if place & 1 or place == last:
            current = node_hash(digest, current)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            current = node_hash(current, digest)
        place, last = place >> 1, last >> 1
    if last or current != root:
        raise LedgerTamperedError(f"leaf {index} is not under the root of {size} leaves")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Hold a consistency proof against two roots.

    Args:
        old: leaves in the earlier tree.
        new: leaves in the later tree.
        proof: the digests, as `consistency_proof` orders them.
        old_root: the earlier root, from a checkpoint that was verified.
        new_root: the later root, from a checkpoint that was verified.

    Raises:
        LedgerTamperedError: the later tree does not extend the earlier one, or the proof does not show it.

    Source: RFC 9162 section 2.1.4.2.
    """
    if not 0 <= old <= new:
        raise LedgerTamperedError(f"a tree of {new} leaves does not extend one of {old}")
    _refuse_malformed(old_root, new_root, *proof)
    if old in (0, new):
        expected = EMPTY_ROOT if old == 0 else new_root
        if proof or old_root != expected or (new == 0 and new_root != EMPTY_ROOT):
            raise LedgerTamperedError(f"the root of {new} leaves does not extend the root of {old}")
        return
    if _roots_from_consistency(old, new, proof, old_root) != (old_root, new_root):
        raise LedgerTamperedError(f"the root of {new} leaves does not extend the root of {old}")


def _roots_from_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes) -> tuple[bytes, bytes]:
    """Return the two roots that a proof leads to, for sizes ``0 < old < new``."""
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        raise LedgerTamperedError(f"the consistency proof from {old} to {new} leaves is empty")
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    earlier = later = path[0]
    for digest in path[1:]:
        if not last:
            raise LedgerTamperedError(f"the consistency proof from {old} to {new} leaves is too long")
        if place & 1 or place == last:
            earlier, later = node_hash(digest, earlier), node_hash(digest, later)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            later = node_hash(later, digest)
        place, last = place >> 1, last >> 1
    if last:
        raise LedgerTamperedError(f"the consistency proof from {old} to {new} leaves is too short")
    return earlier, later


def _refuse_malformed(*digests: bytes) -> None:
    for digest in digests:
        if len(digest) != HASH_BYTES:
            raise LedgerTamperedError(f"a digest in a proof has {HASH_BYTES} bytes, not {len(digest)}")


def _largest_power_below(width: int) -> int:
    """Return the largest power of two that is smaller than a width of at least 2."""
    return 1 << ((width - 1).bit_length() - 1)


def _cover(begin: int, end: int) -> list[tuple[int, int]]:
    """Name the complete subtrees over leaves begin..end-1, where begin is where a subtree of that width can start."""
    nodes: list[tuple[int, int]] = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        nodes.append((level, begin >> level))
        begin += 1 << level
    return nodes


def _subtree(begin: int, end: int, get_node: Callable[[int, int], bytes]) -> bytes:
    digests = [get_node(level, index) for level, index in _cover(begin, end)]
    root = digests.pop()
    while digests:
        root = node_hash(digests.pop(), root)
    return root
