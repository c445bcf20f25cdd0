"""Cosignatures: what others signed is read, ours is read by others' rules, and there is one spelling of everything."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donewhen.cosignatures import MAX_TIME, Cosigner, cosign_text, cosigned_at, cosigner_of, is_line_of, iter_notes
from donewhen.errors import CheckpointError
from donewhen.notes import MAX_SIGNATURES, Checkpoint, LocalSigner, Verifier, add_signature_lines, open_note, sign_note
from donewhen.signature_lines import SMALL_ORDER, split_line, split_note

VECTORS = json.loads((Path(__file__).parent / "vectors" / "witness.json").read_text(encoding="utf-8"))
SPEC: dict[str, Any] = VECTORS["spec"]
OTHERS: dict[str, Any] = VECTORS["others"]

LOG = LocalSigner("log.example/1", bytes(range(32)))
WITNESS = LocalSigner("witness.example/w1", bytes(range(1, 33)))
OTHER = LocalSigner("witness.example/w2", bytes(range(2, 34)))
COSIGNER = cosigner_of(WITNESS)

CHECKPOINT = Checkpoint("log.example/1", 42, bytes(range(32)))
TEXT = CHECKPOINT.text()
NOTE = sign_note(TEXT, LOG)
LINE = cosign_text(TEXT, WITNESS, 1_700_000_000)
COSIGNED = f"{NOTE}{LINE}\n"

MANY = settings(max_examples=200)
"""Five properties, each with ten spellings an example: 10,000 cases."""


LETTERS = sorted({*NOTE, *COSIGNER.vkey, *" \t\r\0-_=/–0A\u00a0\u2028\x7f\ud800"})


def spoilt(text: str) -> st.SearchStrategy[list[str]]:
    """Draw ten other spellings of a text: something changed, put in, taken out, doubled, or in another case."""

    def spoil(drawn: bytes) -> str:
        first, second = sorted(int.from_bytes(drawn[place : place + 2], "big") % (len(text) + 1) for place in (1, 3))
        letter = LETTERS[drawn[5] % len(LETTERS)]
        other = (
            text[:first] + letter + text[first + 1 :],
            text[:first] + letter + text[first:],
            text[:first] + text[first + 1 :],
            text[:first] + text[second:],
            text[:second] + text[first:],
            text[:first] + text[first:].swapcase(),
        )[drawn[0] % 6]
        return other if other != text else f"{text} "

    # Bytes are the cheapest draw there is: six make one spelling.
    return st.binary(min_size=60, max_size=60).map(lambda drawn: [spoil(drawn[at : at + 6]) for at in range(0, 60, 6)])


Read = TypeVar("Read")


def unless_refused(read: Callable[[], Read]) -> Read | None:
    try:
        return read()
    except CheckpointError:
        return None


# -- spelling: 10,000 cases --------------------------------------------------------------------------------------------


@given(spoilt(TEXT))
@MANY
def test_another_spelling_of_a_checkpoint_is_refused_or_is_another_checkpoint(texts: list[str]) -> None:
    for text in texts:
        found = unless_refused(lambda text=text: Checkpoint.parse(text))
        assert found is None or (found.text() == text and found != CHECKPOINT)


@given(spoilt(NOTE))
@MANY
def test_another_spelling_of_a_note_is_refused_or_has_lines_of_strangers(notes: list[str]) -> None:
    for note in notes:
        found = unless_refused(lambda note=note: open_note(note, LOG.verifier))
        assert found is None or (found == TEXT and note.startswith(NOTE.removesuffix("\n")))


@given(spoilt(COSIGNED.removeprefix(NOTE)))
@MANY
def test_another_spelling_of_a_cosignature_is_refused_or_a_strangers(lines: list[str]) -> None:
    for line in lines:
        at = unless_refused(lambda line=line: cosigned_at(f"{NOTE}{line}", COSIGNER))
        assert at is None or (at == 1_700_000_000 and line.startswith(LINE))


@given(spoilt(COSIGNER.vkey))
@MANY
def test_another_spelling_of_a_witnesss_key_is_refused(vkeys: list[str]) -> None:
    assert [vkey for vkey in vkeys if unless_refused(lambda vkey=vkey: Cosigner.parse(vkey))] == []


@given(spoilt(LOG.vkey))
@MANY
def test_another_spelling_of_a_logs_key_is_refused(vkeys: list[str]) -> None:
    assert [vkey for vkey in vkeys if unless_refused(lambda vkey=vkey: Verifier.parse(vkey))] == []


# -- what others made --------------------------------------------------------------------------------------------------


def test_the_specifications_example_is_read_as_it_says() -> None:
    text, lines = split_note(SPEC["note"])
    assert (Checkpoint.parse(text).size, lines[1].name) == (SPEC["size"], "witness.example.com/w1")
    assert int.from_bytes(lines[1].signature[:8], "big") == SPEC["time"]
    assert len(lines[1].signature) == 8 + 64


class Recorder(LocalSigner):
    """Signs, and remembers what."""

    def __init__(self, name: str, private_key: bytes) -> None:
        super().__init__(name, private_key)
        self.messages: list[bytes] = []

    def sign(self, message: bytes) -> bytes:
        self.messages.append(message)
        return super().sign(message)


def test_what_is_signed_is_the_specifications_message() -> None:
    signer = Recorder("witness.example.com/w1", bytes(range(32)))
    cosign_text(split_note(SPEC["note"])[0], signer, SPEC["time"])
    assert signer.messages == [SPEC["signed"].encode()]


@pytest.mark.parametrize("vector", OTHERS["checkpoints"], ids=lambda vector: f"{vector['old']}-{vector['size']}")
def test_cosignatures_that_others_made_are_read(vector: dict[str, Any]) -> None:
    cosigner = Cosigner.parse(OTHERS["witness"])
    assert cosigner.vkey == OTHERS["witness"]
    assert cosigned_at(vector["cosigned"], cosigner) == vector["time"]
    assert add_signature_lines(vector["note"], [vector["line"]]) == vector["cosigned"]
    checkpoint = Checkpoint.parse(open_note(vector["cosigned"], Verifier.parse(OTHERS["log"])))
    assert checkpoint.size == vector["size"]


def test_a_checkpoint_of_gos_module_database_is_read() -> None:
    found = VECTORS["sumdb"]
    assert Checkpoint.parse(open_note(found["note"], Verifier.parse(found["vkey"]))).size == found["size"]


# -- reading ------------------------------------------------------------------------------------------------------------


@given(st.integers(1, MAX_TIME), st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_what_was_cosigned_is_read(time: int, size: int, root: bytes) -> None:
    text = Checkpoint("log.example/1", size, root).text()
    note = add_signature_lines(sign_note(text, LOG), [cosign_text(text, WITNESS, time)])
    assert cosigned_at(note, COSIGNER) == time
    assert open_note(note, LOG.verifier) == text


def test_a_note_that_a_witness_did_not_sign_is_not_cosigned_by_it() -> None:
    assert cosigned_at(NOTE, COSIGNER) is None
    assert cosigned_at(COSIGNED, cosigner_of(OTHER)) is None
    assert cosigned_at(COSIGNED, Cosigner(WITNESS.name, OTHER.verifier.public_key)) is None


def line_with(blob: bytes) -> str:
    return f"— {COSIGNER.name} {base64.b64encode(COSIGNER.key_hash + blob).decode()}"


GOOD = split_line(LINE).signature


@pytest.mark.parametrize(
    ("blob", "said"),
    [
        ((0).to_bytes(8, "big") + GOOD[8:], "no proper time"),
        ((2**63).to_bytes(8, "big") + GOOD[8:], "no proper time"),
        (GOOD[:-1], "no proper time"),
        (GOOD + b"\0", "no proper time"),
        (GOOD[8:], "no proper time"),
        ((1_700_000_001).to_bytes(8, "big") + GOOD[8:], "not of this checkpoint, or forged"),
        (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), "not of this checkpoint, or forged"),
        (GOOD[:8] + LOG.sign(TEXT.encode()), "not of this checkpoint, or forged"),
        (GOOD[:8] + WITNESS.sign(TEXT.encode()), "not of this checkpoint, or forged"),
    ],
)
def test_a_cosignature_that_is_not_good_refuses_the_note(blob: bytes, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        cosigned_at(f"{NOTE}{line_with(blob)}\n", COSIGNER)


def test_a_cosignature_of_another_checkpoint_is_not_good() -> None:
    other = sign_note(Checkpoint("log.example/1", 43, bytes(32)).text(), LOG)
    with pytest.raises(CheckpointError, match="not of this checkpoint"):
        cosigned_at(f"{other}{LINE}\n", COSIGNER)


def test_a_witness_that_signed_twice_refuses_the_note_and_a_stranger_does_not() -> None:
    twice = f"{NOTE}{LINE}\n{cosign_text(TEXT, WITNESS, 1_700_000_001)}\n"
    with pytest.raises(CheckpointError, match="twice"):
        cosigned_at(twice, COSIGNER)
    assert cosigned_at(f"{twice}{cosign_text(TEXT, OTHER, 5)}\n", cosigner_of(OTHER)) == 5
    assert open_note(twice, LOG.verifier) == TEXT


def test_a_plain_signature_of_the_same_key_is_no_cosignature() -> None:
    note = f"{NOTE}{sign_note(TEXT, WITNESS).removeprefix(f'{TEXT}{chr(10)}')}"
    assert cosigned_at(note, COSIGNER) is None
    assert open_note(note, WITNESS.verifier) == TEXT


def test_what_is_no_checkpoint_is_not_cosigned() -> None:
    for text in ("a note\n", f"{TEXT}an extension\n"):
        with pytest.raises(CheckpointError, match="three lines"):
            cosign_text(text, WITNESS, 1)
        with pytest.raises(CheckpointError, match="three lines"):
            cosigned_at(sign_note(text, LOG), COSIGNER)


@pytest.mark.parametrize("time", [0, -1, MAX_TIME + 1])
def test_a_time_out_of_range_is_not_signed(time: int) -> None:
    with pytest.raises(CheckpointError, match="time is from 1"):
        cosign_text(TEXT, WITNESS, time)


# -- keys ---------------------------------------------------------------------------------------------------------------


def test_the_keys_of_logs_and_of_witnesses_are_not_taken_for_each_other() -> None:
    assert Cosigner.parse(COSIGNER.vkey) == COSIGNER
    with pytest.raises(CheckpointError, match="not an Ed25519 witness's key"):
        Cosigner.parse(WITNESS.vkey)
    with pytest.raises(CheckpointError, match="not an Ed25519 verifier key"):
        Verifier.parse(COSIGNER.vkey)
    with pytest.raises(CheckpointError, match="which is private"):
        Cosigner.parse(WITNESS.skey)


P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P


def x_of(y: int) -> int:
    """Work out one of the two x of the curve's points with this y."""
    squared = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    root = pow(squared, (P + 3) // 8, P)
    root = root if (root * root - squared) % P == 0 else root * pow(2, (P - 1) // 4, P) % P
    assert (root * root - squared) % P == 0, "no point of the curve"
    return root


def doubled(x: int, y: int) -> tuple[int, int]:
    k = D * x * x * y * y % P
    return 2 * x * y * pow(1 + k, P - 2, P) % P, (y * y + x * x) * pow(1 - k, P - 2, P) % P


def test_the_points_of_small_order_are_all_there() -> None:
    points = {(x, y) for y in SMALL_ORDER for x in (x_of(y), -x_of(y) % P)}
    assert len(points) == 8, "the curve has eight of them"
    assert {doubled(*doubled(*doubled(*point))) for point in points} == {(0, 1)}


WEAK = [
    *[y.to_bytes(32, "little") for y in sorted(SMALL_ORDER)],
    P.to_bytes(32, "little"),
    (P + 1).to_bytes(32, "little"),
    (2**255 - 1).to_bytes(32, "little"),
    b"\xff" * 32,
]


@pytest.mark.parametrize("key", WEAK + [bytes([*key[:31], key[31] ^ 0x80]) for key in WEAK], ids=bytes.hex)
@pytest.mark.parametrize("kind", [Cosigner, Verifier])
def test_a_key_that_anybody_could_sign_for_is_refused(kind: type[Cosigner | Verifier], key: bytes) -> None:
    with pytest.raises(CheckpointError, match="weak"):
        kind("name", key)


# -- adding lines --------------------------------------------------------------------------------------------------------


def test_lines_are_added_once_and_in_order() -> None:
    other = cosign_text(TEXT, OTHER, 7)
    note = add_signature_lines(NOTE, [LINE, other, LINE])
    assert note == f"{NOTE}{LINE}\n{other}\n" == add_signature_lines(note, [other, LINE])
    assert (cosigned_at(note, COSIGNER), cosigned_at(note, cosigner_of(OTHER))) == (1_700_000_000, 7)


@pytest.mark.parametrize("line", ["", "nothing", f"{LINE}\n", f"{LINE}\n{LINE}", f" {LINE}", LINE[:-4]])
def test_what_is_no_line_is_not_added(line: str) -> None:
    with pytest.raises(CheckpointError, match="not a signature line"):
        add_signature_lines(NOTE, [line] if line != LINE[:-4] else [line + "*"])


def test_too_many_lines_are_not_added() -> None:
    lines = [f"— w{number} AAAAAGFueXRoaW5n" for number in range(MAX_SIGNATURES)]
    with pytest.raises(CheckpointError, match="at most 100"):
        add_signature_lines(NOTE, lines)
    assert open_note(add_signature_lines(NOTE, lines[1:]), LOG.verifier) == TEXT


def test_whose_line_it_says_it_is() -> None:
    assert is_line_of(LINE, COSIGNER)
    assert not is_line_of(LINE, cosigner_of(OTHER))
    with pytest.raises(CheckpointError):
        is_line_of("nothing", COSIGNER)


# -- files of notes ------------------------------------------------------------------------------------------------------

SECOND = sign_note(Checkpoint("another log", 7, bytes(32)).text(), OTHER)
UNSIGNED = Checkpoint("unsigned", 1, bytes(32)).text()
FILE = "".join(f"{note}\n" for note in (NOTE, COSIGNED, SECOND, UNSIGNED, NOTE))


def test_the_notes_of_a_file_are_read_in_order() -> None:
    assert list(iter_notes(FILE)) == NOTES
    assert list(iter_notes("")) == []


NOTES = [NOTE, COSIGNED, SECOND, UNSIGNED, NOTE]


@pytest.mark.parametrize("end", range(0, len(FILE), 3))
def test_what_a_crash_left_of_the_last_note_is_left_out(end: int) -> None:
    found = list(iter_notes(FILE[:end]))
    assert found[:-1] == NOTES[: len(found) - 1] if found else True
    # Cut off exactly at the end of its text a note looks unsigned, and never like another one.
    assert not found or NOTES[len(found) - 1].startswith(found[-1])


@given(st.text("abc—\n 1=", max_size=60))
def test_a_file_of_anything_yields_checkpoints_alone(text: str) -> None:
    assert all(Checkpoint.parse(split_note(note)[0] if "\n\n" in note else note) for note in iter_notes(text))
