"""Signed notes and checkpoints: what others sign is read, and one spelling only."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.errors import CheckpointError
from donewhen.notes import MAX_SIGNATURES, MAX_SIZE, Checkpoint, LocalSigner, Signer, Verifier, open_note, sign_note

VECTORS = json.loads((Path(__file__).parent / "vectors" / "notes.json").read_text(encoding="utf-8"))
OURS = VECTORS["ours"]

SIGNER = LocalSigner("example.com/log", bytes(range(32)))
OTHER = LocalSigner("example.com/other", bytes(range(1, 33)))
TEXT = "first line\n\nlast line\n"
NOTE = sign_note(TEXT, SIGNER)

lines = st.text(st.characters(min_codepoint=0x20, exclude_categories=("Cs",)), max_size=30)
texts = st.lists(lines, min_size=1, max_size=5).map(lambda parts: "".join(f"{part}\n" for part in parts))


def line_of(signer: LocalSigner, text: str = TEXT) -> str:
    return sign_note(text, signer).removeprefix(f"{text}\n")


def unknown_line(number: int) -> str:
    return f"— example.com/{number} {base64.b64encode(bytes(4) + b'anything').decode()}\n"


@pytest.mark.parametrize("vector", VECTORS["others"], ids=lambda vector: vector["name"])
def test_notes_that_others_signed_are_opened(vector: dict[str, str]) -> None:
    verifier = Verifier.parse(vector["vkey"])
    assert open_note(vector["note"], verifier) == vector["text"]
    assert verifier.vkey == vector["vkey"]


def test_our_note_is_the_frozen_one() -> None:
    signer = LocalSigner.parse(OURS["skey"])
    checkpoint = Checkpoint(OURS["origin"], OURS["size"], bytes.fromhex(OURS["root"]))
    assert signer.private_bytes.hex() == OURS["private_key"]
    assert signer.vkey == OURS["vkey"]
    assert sign_note(checkpoint.text(), signer) == OURS["note"]
    assert Checkpoint.parse(open_note(OURS["note"], signer.verifier)) == checkpoint


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda vector: vector["vkey"].split("+")[0])
def test_keys_that_others_made_are_read(vector: dict[str, str]) -> None:
    signer = LocalSigner.parse(vector["skey"])
    assert signer.vkey == vector["vkey"]
    assert signer.skey == vector["skey"]


@given(texts)
def test_what_was_signed_is_opened(text: str) -> None:
    assert open_note(sign_note(text, SIGNER), SIGNER.verifier) == text


@given(st.data())
def test_a_note_with_one_character_changed_is_refused(data: st.DataObject) -> None:
    where = data.draw(st.integers(0, len(NOTE) - 1))
    letter = data.draw(st.characters().filter(lambda letter: letter != NOTE[where]))
    with pytest.raises(CheckpointError):
        open_note(NOTE[:where] + letter + NOTE[where + 1 :], SIGNER.verifier)


@given(st.integers(0, len(NOTE) - 1))
def test_a_note_that_was_cut_off_is_refused(end: int) -> None:
    with pytest.raises(CheckpointError):
        open_note(NOTE[:end], SIGNER.verifier)


@pytest.mark.parametrize("text", ["", "no newline", "a\r\n", "a\tb\n", "a\0\n", "\ud800\n"])
def test_text_that_no_note_can_hold_is_not_signed(text: str) -> None:
    with pytest.raises(CheckpointError, match="whole lines without control characters"):
        sign_note(text, SIGNER)


def test_lines_of_unknown_signers_are_ignored() -> None:
    note = f"{TEXT}\n{unknown_line(1)}{line_of(SIGNER)}{line_of(OTHER)}"
    assert open_note(note, SIGNER.verifier) == TEXT
    assert open_note(note, OTHER.verifier) == TEXT


def test_a_key_of_the_same_name_is_another_key() -> None:
    namesake = LocalSigner(SIGNER.name, bytes(32))
    note = f"{TEXT}\n{line_of(namesake)}{line_of(SIGNER)}"
    assert open_note(note, SIGNER.verifier) == TEXT
    with pytest.raises(CheckpointError, match="is not signed by"):
        open_note(NOTE, namesake.verifier)


def test_a_known_key_whose_signature_is_not_good_refuses_the_note() -> None:
    note = f"{TEXT}\n{line_of(SIGNER, 'another text' + chr(10))}"
    with pytest.raises(CheckpointError, match="is not good"):
        open_note(note, SIGNER.verifier)


def test_a_key_that_signed_twice_refuses_the_note() -> None:
    note = f"{TEXT}\n{line_of(OTHER)}{line_of(SIGNER) * 2}"
    with pytest.raises(CheckpointError, match="signed the note twice"):
        open_note(note, SIGNER.verifier)
    assert open_note(note, OTHER.verifier) == TEXT


def test_a_note_has_at_most_a_hundred_signatures() -> None:
    most = "".join(unknown_line(number) for number in range(MAX_SIGNATURES - 1))
    assert open_note(f"{TEXT}\n{line_of(SIGNER)}{most}", SIGNER.verifier) == TEXT
    with pytest.raises(CheckpointError, match="at most 100 signature lines"):
        open_note(f"{TEXT}\n{line_of(SIGNER)}{most}{unknown_line(1000)}", SIGNER.verifier)


@pytest.mark.parametrize(
    "line",
    [
        "- example.com/1 AAAAAGFueXRoaW5n",
        "—  example.com/1 AAAAAGFueXRoaW5n",
        "— example.com/1  AAAAAGFueXRoaW5n",
        "— example.com/1 AAAAAGFueXRoaW5n ",
        "— example.com/1",
        "— example.com/1 ",
        "— exam+ple/1 AAAAAGFueXRoaW5n",
        "— exam\u00a0ple/1 AAAAAGFueXRoaW5n",
        "— example.com/1 AAAAAA==",
        "— example.com/1 AAAAAGFueXRoaW5",
        "— example.com/1 AAAAAGFueXRoaW5nZZ==",
        "— example.com/1 AAAAAGFueXRoaW5n\r",
        "— example.com/1 AAAAAGFueXRoaW_n",
        "— exämple AAAAAGFueXRoaW5é",
        "",
    ],
)
def test_a_line_that_is_no_signature_line_refuses_the_note(line: str) -> None:
    with pytest.raises(CheckpointError):
        open_note(f"{TEXT}\n{line_of(SIGNER)}{line}\n", SIGNER.verifier)


def test_a_signature_with_another_spelling_is_refused() -> None:
    head, _, encoded = NOTE[:-1].rpartition(" ")
    data = base64.b64decode(encoded)
    assert encoded.endswith("=")
    # The last letter before the padding has bits that stand for nothing; any of them set is another spelling.
    loose = encoded[:-2] + chr(ord(encoded[-2]) + 1) + "="
    assert base64.b64decode(loose) == data
    with pytest.raises(CheckpointError, match="not a signature line"):
        open_note(f"{head} {loose}\n", SIGNER.verifier)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\tb", "a\u2003b", "a\x00b", "a\ud800"])
def test_a_name_that_no_signature_line_can_hold_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="a key's name is text without white space and plus"):
        LocalSigner(name, bytes(32))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_keys_have_32_bytes(length: int) -> None:
    with pytest.raises(CheckpointError, match="private key has 32 bytes"):
        LocalSigner("name", bytes(length))
    with pytest.raises(CheckpointError, match="public key has 32 bytes"):
        Verifier("name", bytes(length))


def vkeys() -> list[str]:
    name, key_hash, key = SIGNER.vkey.split("+", 2)
    cosigner = base64.b64encode(b"\x04" + SIGNER.verifier.public_key).decode()
    return [
        "",
        name,
        f"{name}+{key_hash}",
        f"{name}+{key_hash.upper()}+{key}",
        f"{name}+00000000+{key}",
        f"{name}x+{key_hash}+{key}",
        f"{name}+{key_hash}+{key}\n",
        f" {name}+{key_hash}+{key}",
        f"{name}+{key_hash}+{key[:-4]}",
        f"{name}+{key_hash}+{cosigner}",
        f"{name}+{key_hash}+{key}é",
    ]


@pytest.mark.parametrize("vkey", vkeys())
def test_a_verifier_key_has_one_spelling(vkey: str) -> None:
    with pytest.raises(CheckpointError):
        Verifier.parse(vkey)
    assert Verifier.parse(SIGNER.vkey) == SIGNER.verifier


def test_a_private_key_given_as_a_verifier_key_is_not_repeated_in_the_error() -> None:
    with pytest.raises(CheckpointError, match="which is private") as caught:
        Verifier.parse(SIGNER.skey)
    assert SIGNER.skey.rpartition("+")[2] not in str(caught.value)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda skey: "",
        lambda skey: skey + "\n",
        lambda skey: skey.lower(),
        lambda skey: skey.replace("PRIVATE+KEY+", ""),
        lambda skey: skey.replace("example.com/log", "example.com/log2"),
        lambda skey: skey.replace("+AQ", "+BA"),
        lambda skey: skey[:-4],
        lambda skey: skey.rpartition("+")[0],
    ],
)
def test_a_signer_key_has_one_spelling_and_is_never_shown(spoil: object) -> None:
    spoilt = spoil(SIGNER.skey)
    assert spoilt != SIGNER.skey
    with pytest.raises(CheckpointError) as caught:
        LocalSigner.parse(spoilt)
    assert SIGNER.skey[-44:-4] not in str(caught.value)


def test_a_signer_and_its_parts_fit_together() -> None:
    signer = LocalSigner.generate("name", random=lambda count: bytes([7]) * count)
    assert isinstance(signer, Signer)
    assert signer.private_bytes == bytes([7]) * 32
    assert LocalSigner.parse(signer.skey).vkey == signer.vkey
    assert signer.verifier.verify(b"message", signer.sign(b"message"))
    assert not signer.verifier.verify(b"another", signer.sign(b"message"))
    assert not signer.verifier.verify(b"message", b"short")
    assert LocalSigner.generate("name").private_bytes != LocalSigner.generate("name").private_bytes


def test_a_private_key_does_not_travel_and_does_not_show() -> None:
    for travel in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="holds a private key"):
            travel(SIGNER)
    shown = f"{SIGNER!r} {SIGNER} {vars(SIGNER) if hasattr(SIGNER, '__dict__') else ''}"
    assert SIGNER.vkey in shown
    for secret in (SIGNER.private_bytes.hex(), base64.b64encode(SIGNER.private_bytes).decode(), SIGNER.skey):
        assert secret not in shown


class LazySigner:
    """A signer that hands out what no key signed."""

    name = SIGNER.name
    vkey = SIGNER.vkey

    def sign(self, message: bytes) -> bytes:
        return b"soon"


def test_a_signer_that_gives_no_signature_is_refused() -> None:
    with pytest.raises(CheckpointError, match="which is no Ed25519 signature"):
        sign_note(TEXT, LazySigner())


@given(lines.filter(bool), st.integers(0, MAX_SIZE), st.binary(min_size=32, max_size=32))
def test_a_checkpoint_is_read_as_it_was_written(origin: str, size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin, size, root)
    assert Checkpoint.parse(checkpoint.text()) == checkpoint
    assert Checkpoint.parse(open_note(sign_note(checkpoint.text(), SIGNER), SIGNER.verifier)) == checkpoint


ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"\n1\n{ROOT}\n",
        f"origin\n01\n{ROOT}\n",
        f"origin\n+1\n{ROOT}\n",
        f"origin\n-1\n{ROOT}\n",
        f"origin\n 1\n{ROOT}\n",
        f"origin\n1_0\n{ROOT}\n",
        f"origin\n\u0661\n{ROOT}\n",
        f"origin\n\n{ROOT}\n",
        f"origin\n{2**63}\n{ROOT}\n",
        f"origin\n{'9' * 5000}\n{ROOT}\n",
        f"origin\n1\n{ROOT}",
        f"origin\n1\n{ROOT}\n\n",
        f"origin\n1\n{ROOT}\nan extension\n",
        f"origin\r\n1\r\n{ROOT}\r\n",
        f"origin\n1\n {ROOT}\n",
        f"origin\n1\n{ROOT[:-2]}B=\n",
        f"origin\n1\n{ROOT.rstrip('=')}\n",
        f"origin\n1\n{base64.b64encode(bytes(31)).decode()}\n",
        f"origin\n1\n{base64.b64encode(bytes(33)).decode()}\n",
        f"ori\tgin\n1\n{ROOT}\n",
    ],
)
def test_a_checkpoint_has_one_spelling(text: str) -> None:
    with pytest.raises(CheckpointError):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    ("origin", "size", "root", "named"),
    [
        ("", 0, bytes(32), "origin"),
        ("a\nb", 0, bytes(32), "origin"),
        ("\ud800", 0, bytes(32), "origin"),
        ("a", -1, bytes(32), "size"),
        ("a", MAX_SIZE + 1, bytes(32), "size"),
        ("a", 0, bytes(20), "root"),
    ],
)
def test_a_field_that_has_no_place_in_a_checkpoint_is_named(origin: str, size: int, root: bytes, named: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(f"a checkpoint's {named}")):
        Checkpoint(origin, size, root)


WITHOUT_CRYPTOGRAPHY = """
import sys
from donewhen.errors import MissingExtraError
from donewhen.notes import Checkpoint, LocalSigner, Verifier
assert not [name for name in sys.modules if name.startswith("cryptography")]
sys.modules["cryptography.hazmat.primitives.asymmetric.ed25519"] = None
Checkpoint("origin", 0, bytes(32)).text()
for use in (lambda: LocalSigner("name", bytes(32)), lambda: Verifier("name", bytes([2] * 32)).verify(b"", bytes(64))):
    try:
        use()
    except MissingExtraError as error:
        print(error.extra)
"""


def test_the_module_is_light_and_names_the_extra_it_needs() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT_CRYPTOGRAPHY], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("sign\nsign\n", "")
