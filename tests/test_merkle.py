"""Trees, roots and proofs, held against pymerkle and against the definitions of the RFC."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from donewhen.errors import LedgerTamperedError
from donewhen.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    peak_nodes,
    root_of,
    verify_consistency,
    verify_inclusion,
)

VECTORS = json.loads((Path(__file__).parent / "vectors" / "merkle.json").read_text(encoding="utf-8"))

MOST = 300
BODIES = [f"row {number}".encode() for number in range(MOST)]
LEAVES = [leaf_hash(body) for body in BODIES]

sizes = st.integers(1, MOST)
bits = st.integers(0, 255)


class Nodes:
    """Every node that a frontier completes, as a store would keep them."""

    def __init__(self, size: int) -> None:
        self.frontier = Frontier()
        self.roots = [self.frontier.root()]
        self._nodes: dict[tuple[int, int], bytes] = {}
        for leaf in LEAVES[:size]:
            for level, digest in enumerate(self.frontier.append(leaf)):
                self._nodes[level, (self.frontier.size - 1) >> level] = digest
            self.roots.append(self.frontier.root())

    def get(self, level: int, index: int) -> bytes:
        return self._nodes[level, index]


NODES = Nodes(MOST)


def oracle_root(size: int) -> bytes:
    """Return the root of the first leaves; before version 7, the last for Python 3.10, it was called the state."""
    return (ORACLE.get_root if hasattr(ORACLE, "get_root") else ORACLE.get_state)(size)


def oracle(size: int) -> InmemoryTree:
    tree = InmemoryTree(algorithm="sha256")
    for body in BODIES[:size]:
        tree.append_entry(body)
    return tree


ORACLE = oracle(MOST)


def rfc_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, as it is defined there."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    split = max(1 << n for n in range(20) if 1 << n < len(leaves))
    return hashlib.sha256(b"\x01" + rfc_root(leaves[:split]) + rfc_root(leaves[split:])).digest()


def rfc_subproof(old: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962 section 2.1.2, as it is defined there."""
    if old == len(leaves):
        return [] if whole else [rfc_root(leaves)]
    split = max(1 << n for n in range(20) if 1 << n < len(leaves))
    if old <= split:
        return [*rfc_subproof(old, leaves[:split], whole), rfc_root(leaves[split:])]
    return [*rfc_subproof(old - split, leaves[split:], False), rfc_root(leaves[:split])]


def altered(proof: list[bytes], data: st.DataObject) -> list[bytes]:
    """Change one bit, drop a digest, add one, or swap two that differ."""
    proof = list(proof)
    where = data.draw(st.integers(0, max(0, len(proof) - 1)))
    change = data.draw(st.sampled_from(["bit", "drop", "swap", "add", "cut"] if len(proof) > 1 else ["add"]))
    if change == "bit":
        flipped = bytearray(proof[where])
        flipped[data.draw(st.integers(0, 31))] ^= 1 << data.draw(st.integers(0, 7))
        proof[where] = bytes(flipped)
    elif change == "drop":
        del proof[where]
    elif change == "swap":
        proof[where], proof[where - 1] = proof[where - 1], proof[where]
    elif change == "cut":
        proof[where] = proof[where][:-1]
    else:
        proof.insert(where, data.draw(st.binary(min_size=32, max_size=32)))
    return proof


# The tree that certificate logs test themselves with, roots for 1 to 8 leaves.
# Source: github.com/google/certificate-transparency, merkle tree tests.
CT_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_certificate_logs(size: int) -> None:
    assert root_of(leaf_hash(bytes.fromhex(leaf)) for leaf in CT_LEAVES[:size]).hex() == CT_ROOTS[size - 1]


@pytest.mark.parametrize("vector", VECTORS["leaves"], ids=lambda vector: vector["body"])
def test_leaf_hashes_are_the_frozen_ones(vector: dict[str, str]) -> None:
    assert leaf_hash(vector["body"].encode()).hex() == vector["leaf"]


@pytest.mark.parametrize("vector", VECTORS["roots"], ids=lambda vector: str(vector["size"]))
def test_roots_are_the_frozen_ones(vector: dict[str, object]) -> None:
    assert NODES.roots[vector["size"]].hex() == vector["root"]


def test_proofs_are_the_frozen_ones() -> None:
    for vector in VECTORS["inclusion"]:
        proof = inclusion_proof(vector["index"], vector["size"], NODES.get)
        assert [digest.hex() for digest in proof] == vector["proof"]
    for vector in VECTORS["consistency"]:
        proof = consistency_proof(vector["old"], vector["new"], NODES.get)
        assert [digest.hex() for digest in proof] == vector["proof"]


def test_the_root_of_nothing_is_the_digest_of_nothing() -> None:
    assert Frontier().root() == root_of([]) == EMPTY_ROOT == hashlib.sha256(b"").digest()


def test_roots_are_the_oracles_for_every_size() -> None:
    for size in range(1, MOST + 1):
        assert NODES.roots[size] == oracle_root(size)
    assert root_of(LEAVES) == NODES.roots[MOST] == rfc_root(LEAVES)


@given(sizes, st.data())
def test_an_inclusion_proof_is_the_oracles_and_holds(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, NODES.get)
    assert [LEAVES[index], *proof] == ORACLE.prove_inclusion(index + 1, size).path
    verify_inclusion(LEAVES[index], index, size, proof, NODES.roots[size])


@given(sizes, st.data())
def test_a_consistency_proof_is_the_rfcs_and_holds(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new))
    proof = consistency_proof(old, new, NODES.get)
    assert proof == rfc_subproof(old, LEAVES[:new], True)
    verify_consistency(old, new, proof, NODES.roots[old], NODES.roots[new])


def test_all_proofs_hold_in_small_trees() -> None:
    for size in range(1, 34):
        for index in range(size):
            proof = inclusion_proof(index, size, NODES.get)
            verify_inclusion(LEAVES[index], index, size, proof, NODES.roots[size])
        for old in range(size + 1):
            proof = consistency_proof(old, size, NODES.get)
            verify_consistency(old, size, proof, NODES.roots[old], NODES.roots[size])


@given(st.integers(2, MOST), st.data())
def test_an_altered_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = altered(inclusion_proof(index, size, NODES.get), data)
    with pytest.raises(LedgerTamperedError):
        verify_inclusion(LEAVES[index], index, size, proof, NODES.roots[size])


@given(st.integers(2, MOST), st.data())
def test_an_inclusion_proof_of_another_leaf_index_or_root_is_refused(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size - 1).filter(lambda place: place != index))
    proof, root = inclusion_proof(index, size, NODES.get), NODES.roots[size]
    for claim in (
        (LEAVES[other], index, size, proof, root),
        (LEAVES[index], other, size, proof, root),
        (LEAVES[index], index, size, inclusion_proof(other, size, NODES.get), root),
        (LEAVES[index], index, size, proof, NODES.roots[size - 1]),
        (LEAVES[index], index, size, proof, root[:-1]),
        (BODIES[index], index, size, proof, root),
        (LEAVES[index], -1, size, proof, root),
        (LEAVES[index], size, size, proof, root),
    ):
        with pytest.raises(LedgerTamperedError):
            verify_inclusion(*claim)


@given(st.integers(2, MOST), st.data())
def test_an_altered_consistency_proof_is_refused(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(0, new))
    proof = altered(consistency_proof(old, new, NODES.get), data)
    with pytest.raises(LedgerTamperedError):
        verify_consistency(old, new, proof, NODES.roots[old], NODES.roots[new])


@given(st.integers(2, MOST), st.data())
def test_a_consistency_proof_of_other_roots_or_sizes_is_refused(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new - 1))
    proof, earlier, later = consistency_proof(old, new, NODES.get), NODES.roots[old], NODES.roots[new]
    stranger = data.draw(st.binary(min_size=32, max_size=32))
    for claim in (
        (old, new, proof, stranger, later),
        (old, new, proof, earlier, stranger),
        (old, new, proof, later, earlier),
        (new, old, proof, later, earlier),
        (old, old, proof, earlier, later),
        (-1, new, proof, earlier, later),
        (old, new, proof, earlier[1:], later),
        (0, new, [], earlier, later),
        (new, new, [], stranger, later),
    ):
        with pytest.raises(LedgerTamperedError):
            verify_consistency(*claim)


@given(st.integers(3, MOST), st.data())
def test_a_history_with_one_leaf_changed_has_no_consistency_proof(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(2, new - 1))
    changed = list(LEAVES[:new])
    changed[data.draw(st.integers(0, old - 1))] = leaf_hash(b"another row")
    for proof in (rfc_subproof(old, changed, True), consistency_proof(old, new, NODES.get)):
        with pytest.raises(LedgerTamperedError):
            verify_consistency(old, new, proof, NODES.roots[old], rfc_root(changed))


def test_nothing_is_extended_by_anything_but_only_from_the_empty_root() -> None:
    verify_consistency(0, 5, [], EMPTY_ROOT, NODES.roots[5])
    verify_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
    with pytest.raises(LedgerTamperedError):
        verify_consistency(0, 0, [], EMPTY_ROOT, NODES.roots[5])


def test_a_proof_between_different_trees_is_never_empty() -> None:
    with pytest.raises(LedgerTamperedError):
        verify_consistency(3, 5, [], NODES.roots[3], NODES.roots[3])
    with pytest.raises(LedgerTamperedError):
        verify_consistency(4, 5, [], NODES.roots[4], NODES.roots[4])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_no_inclusion_proof_is_made_for_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="has no leaf"):
        inclusion_proof(index, size, NODES.get)


@pytest.mark.parametrize(("old", "new"), [(4, 3), (-1, 3)])
def test_no_consistency_proof_is_made_backwards(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="does not extend"):
        consistency_proof(old, new, NODES.get)


@given(st.integers(0, MOST))
def test_peaks_are_the_nodes_that_peak_nodes_names(size: int) -> None:
    frontier = Frontier()
    for leaf in LEAVES[:size]:
        frontier.append(leaf)
    assert frontier.peaks == tuple(NODES.get(level, index) for level, index in peak_nodes(size))
    assert sum(1 << level for level, _ in peak_nodes(size)) == size


@given(st.integers(0, MOST), st.integers(0, 40))
def test_a_frontier_goes_on_from_its_peaks(size: int, more: int) -> None:
    peaks = tuple(NODES.get(level, index) for level, index in peak_nodes(size))
    frontier = Frontier(size, peaks)
    for leaf in LEAVES[size : size + more]:
        frontier.append(leaf)
    assert frontier.root() == NODES.roots[min(size + more, MOST)]


def test_append_returns_what_the_leaf_completes() -> None:
    frontier = Frontier()
    first, second, third, fourth = LEAVES[:4]
    assert frontier.append(first) == [first]
    assert frontier.append(second) == [second, node_hash(first, second)]
    assert frontier.append(third) == [third]
    assert frontier.append(fourth) == [fourth, node_hash(third, fourth), NODES.roots[4]]


def test_a_copy_grows_on_its_own() -> None:
    frontier = Frontier()
    frontier.append(LEAVES[0])
    copy = frontier.copy()
    assert copy == frontier
    copy.append(LEAVES[1])
    assert (frontier.size, copy.size) == (1, 2)
    assert copy != frontier
    assert frontier.root() == NODES.roots[1]
    assert frontier != "a frontier"
    assert NODES.roots[1].hex() in repr(frontier)


def test_a_frontier_cannot_be_a_key() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Frontier())


@pytest.mark.parametrize(("size", "peaks"), [(-1, ()), (1, ()), (2, (b"x" * 32, b"x" * 32)), (1, (b"x",))])
def test_peaks_that_are_not_those_of_the_size_are_refused(size: int, peaks: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="does not have these"):
        Frontier(size, peaks)


def test_a_body_is_not_taken_for_a_leaf() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Frontier().append(b"a body")
    with pytest.raises(ValueError, match="below 0"):
        peak_nodes(-1)


def test_a_proof_reads_few_nodes_however_large_the_tree() -> None:
    asked: list[tuple[int, int]] = []

    def get(level: int, index: int) -> bytes:
        asked.append((level, index))
        return hashlib.sha256(f"{level} {index}".encode()).digest()

    generator = random.Random(1)
    for _ in range(50):
        new = generator.randrange(2, 1 << 40)
        old = generator.randrange(1, new)
        asked.clear()
        consistency_proof(old, new, get)
        inclusion_proof(old, new, get)
        assert len(asked) <= 2 * 2 * 40
        assert all((index + 1) << level <= new for level, index in asked)
