"""Receipts read by others: the auditor's one-file program, and implementations that are not ours."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree, verify_inclusion
from receipts import AUDITOR, OTHER_WITNESS, PROGRAM, WITNESS, both_say, cosign, fill, run_program
from stores.kit import ORIGIN, SIGNER, STRANGER, add, an_entry, begin, key_of, say

from donewhen import canonical
from donewhen.cosignatures import cosigner_of
from donewhen.ledger import Ledger
from donewhen.merkle import Frontier, leaf_hash
from donewhen.notes import Checkpoint, sign_note
from donewhen.receipt import Receipt, make_receipt

W1, W2 = cosigner_of(WITNESS).vkey, cosigner_of(OTHER_WITNESS).vkey


def make(*, witnesses: bool) -> bytes:
    """Return a receipt of three rows, cosigned or not."""
    with tempfile.TemporaryDirectory() as folder:
        begin(Path(folder, "l.db"))
        with Ledger(Path(folder, "l.db"), signer=SIGNER) as ledger:
            fill(ledger)
            if witnesses:
                cosign(ledger, WITNESS, OTHER_WITNESS)
            return make_receipt(ledger, "session-1").dumps()


PLAIN, COSIGNED = make(witnesses=False), make(witnesses=True)
PROVEN = both_say(COSIGNED)


def same_or_refused(data: bytes, *witnesses: str, fewer: bool = False) -> None:
    """Assert that a damaged receipt is refused by both programs, or proves to both exactly the same rows.

    Where whole lines were taken out, it may be a good receipt of the last rows alone.
    """
    found = both_say(data, SIGNER.vkey, *witnesses)
    if not isinstance(found, str):
        assert isinstance(PROVEN, dict)
        rows = PROVEN["rows"][-len(found["rows"]) :] if fewer else PROVEN["rows"]
        assert (found["rows"], found["log"]) == (rows, PROVEN["log"])


# -- the two programs --------------------------------------------------------------------------------------------------


def test_both_programs_prove_a_good_receipt() -> None:
    assert isinstance(PROVEN, dict)
    assert len(PROVEN["rows"]) == 3
    cosigned = both_say(COSIGNED, SIGNER.vkey, W1, W2)
    assert isinstance(cosigned, dict)
    assert [name for name, _ in cosigned["cosigned"]] == [WITNESS.name, OTHER_WITNESS.name]


def test_both_programs_refuse_another_key_and_miss_a_witness() -> None:
    assert both_say(COSIGNED, STRANGER.vkey) == "not proven"
    assert both_say(PLAIN, SIGNER.vkey, W1) == "not provable"


@pytest.mark.parametrize("change", [1, 0x20, 0x80])
def test_every_byte_of_a_receipt_counts(change: int) -> None:
    for place in range(len(COSIGNED)):
        damaged = bytearray(COSIGNED)
        damaged[place] ^= change
        same_or_refused(bytes(damaged))


def test_without_any_one_byte_it_is_refused_or_the_same() -> None:
    for place in range(len(COSIGNED)):
        same_or_refused(COSIGNED[:place] + COSIGNED[place + 1 :])


def test_a_receipt_that_was_cut_off_proves_nothing() -> None:
    whole = len(PLAIN)
    assert {json.dumps(both_say(PLAIN[:end])) for end in range(whole)} == {'"not proven"'}


def test_a_demanded_cosignature_has_no_byte_to_spare() -> None:
    line = COSIGNED.rindex("— witness.example/w2".encode())
    for place in range(line, len(COSIGNED)):
        damaged = bytearray(COSIGNED)
        damaged[place] ^= 1
        assert both_say(bytes(damaged), SIGNER.vkey, W2) in ("not proven", "not provable")


@settings(max_examples=600)
@given(st.data())
def test_what_was_moved_or_mixed_is_refused_or_the_same(data: st.DataObject) -> None:
    lines = COSIGNED.decode().split("\n")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(lines) - 1))
        other = data.draw(st.integers(0, len(lines) - 1))
        act = data.draw(st.sampled_from(["swap", "drop", "twice", "blank", "put"]))
        if act == "swap":
            lines[place], lines[other] = lines[other], lines[place]
        elif act == "put":
            lines[place] = data.draw(st.sampled_from([*lines, "", "x", "index 0", "c2sp.org/tlog-proof@v1"]))
        else:
            lines[place : place + 1] = {"drop": [], "twice": [lines[place]] * 2, "blank": [lines[place], ""]}[act]
        lines = lines or [""]
    same_or_refused("\n".join(lines).encode(), *data.draw(st.sampled_from([(), (W1,), (W1, W2)])), fewer=True)


@settings(max_examples=500)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_rubbish_is_refused_by_both(data: bytes) -> None:
    assert both_say(data) == "not proven"
    assert both_say(b"donewhen.receipt/v1\n" + data) == "not proven"


# -- rows that the key signed and no ledger writes ---------------------------------------------------------------------


def signed(body: str) -> bytes:
    """Return a receipt of one row, whatever it says, properly signed."""
    frontier = Frontier()
    frontier.append(leaf_hash(body.encode()))
    note = sign_note(Checkpoint(ORIGIN, 1, frontier.root()).text(), SIGNER)
    return Receipt(bodies=(body,), index=0, proof=(), note=note).dumps()


ROW: dict[str, Any] = {
    "at": "2026-01-01T00:00:00+00:00",
    "id": 1,
    "input_hash": "",
    "kind": "spec",
    "ms": 0,
    "pass": 1,
    "prev": "A" * 43 + "=",
    "seq": 1,
    "session": "s",
    "state_origin": "spec",
    "tokens": 0,
    "turn": 0,
    "v": 1,
}
DEEP: Any = 0
for _ in range(98):
    DEEP = [DEEP]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(VALUES)
def test_both_programs_know_the_one_spelling_of_anything(value: Any) -> None:
    assert AUDITOR.spell(value).encode() == canonical.dumps(value)
    found = both_say(signed(canonical.dumps({**ROW, "data": {"terms": value}}).decode()))
    assert isinstance(found, dict)


@pytest.mark.parametrize("field", sorted(ROW))
def test_both_programs_demand_every_field_and_its_type(field: str) -> None:
    without = {name: value for name, value in ROW.items() if name != field}
    for row in (without, {**ROW, field: None}, {**ROW, field: [1]}, {**ROW, field: True}):
        assert both_say(signed(canonical.dumps(row).decode())) == "not proven"


@pytest.mark.parametrize(
    "more",
    [
        {"x": 1},
        {"after": []},
        {"after": "x"},
        {"data": []},
        {"data": {}},
        {"closes": "1"},
        {"breach": None},
        {"v": 2},
        {"doubts": True},
    ],
)
def test_both_programs_refuse_fields_that_no_row_has(more: Any) -> None:
    assert both_say(signed(canonical.dumps({**ROW, **more}).decode())) == "not proven"


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(ROW),
        json.dumps(ROW, separators=(",", ":"), sort_keys=True).replace('"ms":0', '"ms":0.0'),
        json.dumps(ROW, separators=(",", ":"), sort_keys=True).replace('"ms":0', '"ms":-0'),
        json.dumps(ROW, separators=(",", ":"), sort_keys=True).replace('"ms":0', '"ms":0,"ms":0'),
        json.dumps(ROW, separators=(",", ":"), sort_keys=True).replace('"ms":0', '"ms":9007199254740992'),
        json.dumps(ROW, separators=(",", ":"), sort_keys=True).replace('"ms":0', '"ms":NaN'),
        json.dumps(ROW, separators=(",", ":"), sort_keys=True).replace('"s"', '"\\u0073"'),
        json.dumps({**ROW, "data": {"terms": [[DEEP]]}}, separators=(",", ":"), sort_keys=True),
        "[" * 100_000,
        "9" * 10_000,
        '"text"',
        "null",
        "[]",
    ],
)
def test_both_programs_refuse_other_spellings_and_what_is_no_row(body: str) -> None:
    assert both_say(signed(body)) == "not proven"


def test_the_deepest_row_there_can_be_is_read_by_both() -> None:
    body = canonical.dumps({**ROW, "data": {"terms": DEEP}}).decode()
    assert isinstance(both_say(signed(body)), dict)


# -- the auditor's program by itself -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("receipts")
    (folder / "good").write_bytes(COSIGNED)
    (folder / "bad").write_bytes(COSIGNED.replace(b'"tokens":1', b'"tokens":2'))
    (folder / "log.vkey").write_text(f"# made_by: ada@host\n{SIGNER.vkey}\n")
    return folder


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("good", "--key", SIGNER.vkey), 0),
        (("good", "--key", "log.vkey", "--witness", W1, "--witness", W2), 0),
        (("bad", "--key", SIGNER.vkey), 7),
        (("good", "--key", STRANGER.vkey), 7),
        (("good", "--key", SIGNER.vkey, "--witness", cosigner_of(STRANGER).vkey), 8),
        (("good", "--key", W1), 8),
        (("good", "--key", SIGNER.vkey[:-4]), 8),
        (("nowhere", "--key", SIGNER.vkey), 2),
        (("good",), 2),
    ],
)
def test_the_program_ends_with_the_code_it_documents(
    files: Path, monkeypatch: pytest.MonkeyPatch, words: Any, code: int
) -> None:
    monkeypatch.chdir(files)
    ran = run_program(*words)
    assert ran.returncode == code, ran.stderr
    assert (b"PROVEN: these 3 rows" in ran.stdout) == (code == 0)
    assert b"Traceback" not in ran.stderr


def test_the_program_reads_standard_input_and_says_what_is_not_said(files: Path) -> None:
    ran = run_program("-", "--key", SIGNER.vkey, stdin=COSIGNED)
    assert b"whether the session has rows after its no. 3" in ran.stdout
    assert b"no witness was asked for" in ran.stdout
    assert b"witness.example" not in ran.stdout
    assert b"2027-01-15" in run_program("-", "--key", SIGNER.vkey, "--witness", W1, stdin=COSIGNED).stdout


def test_the_program_shows_no_character_that_a_terminal_obeys(tmp_store: Path) -> None:
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        say(ledger, "x", "\x1b[2J\u202eevil")
        made = make_receipt(ledger, "\x1b[2J\u202eevil").dumps()
    ran = run_program("-", "--key", key_of(tmp_store).vkey, stdin=made)
    assert ran.returncode == 0
    assert "\x1b" not in ran.stdout.decode("ascii")
    assert b"\\x1b[2J\\u202eevil" in ran.stdout


def test_the_program_needs_the_standard_library_and_cryptography_alone() -> None:
    tree = ast.parse(PROGRAM.read_text("utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    packages = {module.partition(".")[0] for module in modules}
    assert packages - sys.stdlib_module_names == {"cryptography"}


def test_the_program_is_short_enough_to_be_read() -> None:
    assert len(PROGRAM.read_text("utf-8").splitlines()) < 400


# -- implementations that are not ours ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9, 64, 100])
def test_the_proof_is_the_one_of_pymerkle(tmp_store: Path, rows: int) -> None:
    tree = InmemoryTree(algorithm="sha256")
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        add(ledger.store, *[an_entry(f"s{number}") for number in range(rows)])
        for _, body in ledger.store.iter_bodies():
            tree.append_entry(body)
        for number in {0, rows // 2, rows - 1}:
            receipt = make_receipt(ledger, f"s{number}")
            theirs = tree.prove_inclusion(number + 1, rows)
            leaf = leaf_hash(receipt.bodies[0].encode())
            assert [leaf, *receipt.proof] == theirs.path
            verify_inclusion(leaf, Checkpoint.parse(receipt.note.split("\n\n")[0] + "\n").root, theirs)


def test_the_tlog_proof_is_read_and_verified_by_proofbundle() -> None:
    theirs = pytest.importorskip("proofbundle.tlogproof")
    receipt = Receipt.loads(COSIGNED)
    parsed = theirs.parse_tlog_proof(receipt.tlog_proof)
    assert (parsed["index"], parsed["proof"], parsed["extra"]) == (receipt.index, list(receipt.proof), None)
    assert theirs.format_tlog_proof(receipt.index, receipt.proof, receipt.note) == receipt.tlog_proof
    body = receipt.bodies[-1].encode()
    verdict = theirs.verify_tlog_proof(receipt.tlog_proof, body, SIGNER.vkey, [W1, W2], threshold=2)
    assert verdict["ok"], verdict
    assert not theirs.verify_tlog_proof(receipt.tlog_proof, body + b" ", SIGNER.vkey)["ok"]
    assert not theirs.verify_tlog_proof(receipt.tlog_proof, body, STRANGER.vkey)["ok"]


def test_the_checkpoint_and_the_proof_are_verified_by_aics_tlog() -> None:
    theirs = pytest.importorskip("aics_tlog")
    receipt = Receipt.loads(COSIGNED)
    note = theirs.parse_note(receipt.note)
    checkpoint = theirs.parse_checkpoint(note.text)
    assert theirs.verify_note(note, [theirs.parse_vkey(SIGNER.vkey)])
    body = receipt.bodies[-1].encode()
    assert theirs.verify_leaf_inclusion(body, receipt.index, checkpoint.size, list(receipt.proof), checkpoint.root)


def test_a_proof_made_by_hand_of_the_standard_is_proven() -> None:
    # RFC 6962 section 2.1 written out for two leaves, with nothing of ours but the spelling of a row.
    rows = [canonical.dumps({**ROW, "id": number, "session": f"s{number}"}) for number in (1, 2)]
    leaves = [hashlib.sha256(b"\0" + row).digest() for row in rows]
    root = base64.b64encode(hashlib.sha256(b"\1" + leaves[0] + leaves[1]).digest()).decode()
    note = sign_note(f"{ORIGIN}\n2\n{root}\n", SIGNER)
    sibling = base64.b64encode(leaves[0]).decode()
    text = f"donewhen.receipt/v1\n{rows[1].decode()}\n\nc2sp.org/tlog-proof@v1\nindex 1\n{sibling}\n\n{note}"
    assert isinstance(both_say(text.encode()), dict)
