"""Our checkpoints, proofs and cosignatures with the implementations of others, aics-tlog and aics-witness, both ways.

They need Python 3.12. Below that `tests/vectors/witness.json` holds what they made.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import PATIENCE_SECONDS, ending
from stores.kit import SIGNER, begin, say, tamper
from witnesses import COSIGNER, KEEPER, LOG, NOW, ORIGIN, SmallLog

from donewhen.cosignatures import Cosigner, cosign_text, cosigned_at
from donewhen.elsewhere import Elsewhere
from donewhen.errors import CheckpointError, NotKeptError
from donewhen.ledger import Ledger
from donewhen.merkle import leaf_hash, root_of, verify_consistency, verify_inclusion
from donewhen.notes import Checkpoint, LocalSigner, Verifier, add_signature_lines, open_note
from donewhen.stores.log_tree import consistency_proof, inclusion_proof
from donewhen.testing import Witness

if sys.version_info < (3, 12):
    pytest.skip("aics-tlog and aics-witness need Python 3.12", allow_module_level=True)

import aics_tlog as tlog
import aics_witness

SMALL = SmallLog(23)


# -- notes and keys ------------------------------------------------------------------------------------------------------


def test_our_keys_are_theirs_and_theirs_ours() -> None:
    for ours in (LOG.vkey, COSIGNER.vkey):
        assert tlog.format_vkey(tlog.parse_vkey(ours)) == ours
    assert tlog.format_vkey(tlog.cosignature_vkey(KEEPER.name, KEEPER.verifier.public_key)) == COSIGNER.vkey
    assert tlog.format_vkey(tlog.vkey_from_ed25519(ORIGIN, LOG.verifier.public_key)) == LOG.vkey


def verified(note: str, **wanted: Any) -> Any:
    log_key, witness = tlog.parse_vkey(LOG.vkey), tlog.parse_vkey(COSIGNER.vkey)
    return tlog.verify_checkpoint(tlog.parse_note(note), log_key, [witness], expected_origin=ORIGIN, now=NOW, **wanted)


def test_our_checkpoints_and_cosignatures_are_accepted_by_theirs() -> None:
    for size in (0, 1, 2, 22, 23):
        note = add_signature_lines(SMALL.note(size), [cosign_text(SMALL.text(size), KEEPER, NOW)])
        found = verified(note, quorum=1, max_age_seconds=10)
        assert (found.ok, found.error, found.size, found.root) == (True, None, size, SMALL.roots[size])
        assert found.timestamps == {KEEPER.name: NOW}


def test_what_is_not_good_is_refused_by_both() -> None:
    good = add_signature_lines(SMALL.note(5), [cosign_text(SMALL.text(5), KEEPER, NOW)])
    swapped = SMALL.text(6) + good[good.index("\n\n") + 1 :]
    stranger = add_signature_lines(
        SMALL.note(5), [cosign_text(SMALL.text(5), LocalSigner(KEEPER.name, bytes(32)), NOW)]
    )
    assert not verified(swapped).ok
    with pytest.raises(CheckpointError):
        open_note(swapped, LOG.verifier)
    assert not verified(stranger, quorum=1).ok
    assert cosigned_at(stranger, COSIGNER) is None


def test_their_checkpoints_and_cosignatures_are_accepted_by_ours() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    log_key, witness_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    for size in (0, 1, 5, 23):
        theirs = tlog.Checkpoint(origin="their.example/log", size=size, root=SMALL.roots[size])
        note = tlog.sign_checkpoint(theirs, log_key, "their.example/log")
        _, line = tlog.sign_cosignature(witness_key, "their.example/w", NOW, theirs.origin, size, theirs.root)
        text = tlog.Note(text=note.text, signatures=(*note.signatures, line)).serialise()
        vkey = tlog.format_vkey(tlog.vkey_from_ed25519("their.example/log", log_key.public_key()))
        assert Checkpoint.parse(open_note(text, Verifier.parse(vkey))).root == theirs.root
        cosigner = Cosigner.parse(tlog.format_vkey(tlog.cosignature_vkey("their.example/w", witness_key.public_key())))
        assert cosigned_at(text, cosigner) == NOW


# -- trees ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_store: Path) -> Iterator[Ledger]:
    begin(tmp_store)
    with Ledger(tmp_store, signer=SIGNER) as opened:
        for _ in range(5):
            say(opened)
        yield opened


def test_the_proofs_of_a_stored_ledger_are_accepted_by_theirs_and_theirs_by_ours(ledger) -> None:
    for _ in range(8):
        say(ledger)
    bodies = [body for _, body in ledger.store.iter_bodies()]
    leaves, tree = [leaf_hash(body) for body in bodies], tlog.MerkleTree(bodies)
    size = len(bodies)
    assert tree.root() == root_of(leaves)
    for index, leaf in enumerate(leaves):
        proof = inclusion_proof(index, size, ledger.store.sealed_at)
        assert tlog.verify_inclusion(leaf, index, size, proof, tree.root())
        verify_inclusion(leaf, index, size, tree.inclusion_proof(index), root_of(leaves))
        extends = consistency_proof(index, size, ledger.store.sealed_at)
        assert tlog.verify_consistency(index, size, tree.root(index), tree.root(), extends)
        verify_consistency(index, size, tree.consistency_proof(index, size), root_of(leaves[:index]), root_of(leaves))


# -- their witness, our client ---------------------------------------------------------------------------------------------


class TheirWitness:
    """Their witness as a process of its own."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.config = folder / "witness.json"
        self.vkey = self.run("init", "--name", "their.example/w1", "--listen", "127.0.0.1:0").strip()
        self.run("add-log", "--origin", ledger.origin, "--vkey", SIGNER.vkey)
        self.url = ""

    def argv(self, command: str, *words: str) -> list[str]:
        return [sys.executable, "-m", "aics_witness", command, "--config", str(self.config), *words]

    def run(self, command: str, *words: str) -> str:
        return subprocess.run(self.argv(command, *words), capture_output=True, text=True, check=True).stdout

    def serve(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(self.argv("serve"), stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            found = re.search(r"listening on (\S+) ", line)
            if found is not None:
                self.url = found[1]
                return process
        raise AssertionError(f"their witness ended with {process.wait()}")


@pytest.fixture
def theirs(tmp_path: Path, ledger: Ledger) -> Iterator[TheirWitness]:
    witness = TheirWitness(tmp_path, ledger)
    with ending(witness.serve()):
        yield witness


def at(witness: TheirWitness) -> Elsewhere:
    return Elsewhere(witnesses=[(witness.url, witness.vkey)], timeout_seconds=PATIENCE_SECONDS)


def test_their_witness_cosigns_our_ledger_as_it_grows(ledger, theirs) -> None:
    for _ in range(4):
        at(theirs).keep(ledger)
        say(ledger)
        say(ledger)
    cosigned = ledger.store.read_cosigned()
    assert [found.size for found in cosigned] == [5, 7, 9, 11]
    for found in cosigned:
        note = add_signature_lines(ledger.store.sealed_at(found.size - 1).note, [found.line])
        checked = tlog.verify_checkpoint(
            tlog.parse_note(note), tlog.parse_vkey(SIGNER.vkey), [tlog.parse_vkey(theirs.vkey)], quorum=1
        )
        assert (checked.ok, checked.size) == (True, found.size)


def test_their_witness_refuses_our_ledger_cut_back_or_rewritten(ledger, theirs, tmp_store) -> None:
    at(theirs).keep(ledger)
    ledger.close()
    tamper(
        tmp_store, *[f"DELETE FROM {table}" for table in ("cosigned", "entries WHERE id > 4", "sealed WHERE size > 4")]
    )
    with Ledger(tmp_store, signer=SIGNER) as cut:
        with pytest.raises(NotKeptError, match="has seen 5 rows of this log, and here there are 4"):
            at(theirs).keep(cut)
        for _ in range(3):
            say(cut, "written anew")
        with pytest.raises(NotKeptError, match=r"does not cosign \(422\)"):
            at(theirs).keep(cut)


def test_their_witness_does_not_know_another_ledger(theirs, tmp_path) -> None:
    with Ledger(tmp_path / "another.db", signer=SIGNER) as another:
        say(another)
        with pytest.raises(NotKeptError, match=r"\(404\)"):
            at(theirs).keep(another)


def test_their_witness_knows_what_it_saw_after_a_restart(ledger, tmp_path) -> None:
    witness = TheirWitness(tmp_path, ledger)
    for _ in range(2):
        with ending(witness.serve()) as process:
            say(ledger)
            at(witness).keep(ledger)
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0
    assert [found.size for found in ledger.store.read_cosigned()] == [6, 7]


# -- our witness, their client ----------------------------------------------------------------------------------------------


def test_their_client_is_content_with_our_witness() -> None:
    with Witness(signer=KEEPER) as ours:
        ours.trust(ORIGIN, LOG.vkey)
        with aics_witness.WitnessClient(ours.url, ours.vkey) as client:
            for size in (1, 2, 7, 23, 23):
                lines = client.submit(SMALL.note(size), lambda old, new: SMALL.prover(new)(old))
                merged = aics_witness.merge_cosignatures(SMALL.note(size), lines).decode()
                assert cosigned_at(merged, COSIGNER) is not None
            with pytest.raises(aics_witness.WitnessAhead):
                client.submit(SMALL.note(7), lambda old, new: SMALL.prover(new)(old), old_size=7)
        other = SmallLog(30, "another row")
        with aics_witness.WitnessClient(ours.url, ours.vkey) as client, pytest.raises(aics_witness.WitnessRejected):
            client.submit(other.note(30), lambda old, new: other.prover(new)(old))
