"""The witness that ships for tests: it is held to the specification, and to what others ask theirs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from witnesses import COSIGNER, KEEPER, LOG, NOW, ORIGIN, SmallLog

from donewhen.cosignatures import Cosigner, cosigned_at
from donewhen.errors import CheckpointError
from donewhen.notes import Checkpoint, LocalSigner, add_signature_lines, sign_note
from donewhen.posting import Answer, post, read_address
from donewhen.signature_lines import to_base64
from donewhen.testing import Witness

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "witness.json").read_text(encoding="utf-8"))
SMALL = SmallLog(9)


@pytest.fixture
def witness() -> Iterator[Witness]:
    with Witness(signer=KEEPER, now=lambda: NOW) as opened:
        opened.trust(ORIGIN, LOG.vkey)
        yield opened


def ask(witness: Witness, body: str | bytes, path: str = "/add-checkpoint") -> Answer:
    data = body.encode() if isinstance(body, str) else body
    address = read_address(f"{witness.url}{path}")
    return post(address, data, content_type="text/plain", deadline=time.monotonic() + 60, max_bytes=10_000)


def request(old: int, size: int, log: SmallLog = SMALL) -> str:
    proof = "".join(f"{to_base64(digest)}\n" for digest in log.prover(size)(old))
    return f"old {old}\n{proof}\n{log.note(size)}"


def status(witness: Witness, body: str | bytes) -> int:
    return ask(witness, body).status


# -- what others ask their witnesses -------------------------------------------------------------------------------------


def test_it_answers_as_others_expect_of_theirs() -> None:
    exchange = VECTORS["exchange"]
    with Witness() as witness:
        witness.trust(exchange["origin"], exchange["vkey"])
        answers = [ask(witness, step["request"]) for step in exchange["requests"]]
        assert [found.status for found in answers] == [step["status"] for step in exchange["requests"]]
        for found, step in zip(answers, exchange["requests"], strict=True):
            assert found.body.decode() == step["answer"] if "answer" in step else True
        assert witness.size_of(exchange["origin"]) == 5


def test_it_cosigns_what_others_made() -> None:
    others: dict[str, Any] = VECTORS["others"]
    with Witness(signer=KEEPER, now=lambda: NOW) as witness:
        witness.trust("log.example/vectors", others["log"])
        for step in others["checkpoints"]:
            found = ask(witness, step["request"])
            assert (found.status, found.headers["content-type"]) == (200, "text/plain; charset=utf-8")
            lines = found.body.decode().splitlines()
            assert cosigned_at(add_signature_lines(step["note"], lines), COSIGNER) == NOW


# -- the specification's order -------------------------------------------------------------------------------------------


def test_it_goes_on_from_what_it_saw(witness) -> None:
    assert [status(witness, request(*sizes)) for sizes in ((0, 3), (3, 3), (3, 8), (8, 9))] == [200] * 4
    again = ask(witness, request(3, 9))
    assert (again.status, again.body, again.headers["content-type"]) == (409, b"9\n", "text/x.tlog.size")
    assert status(witness, request(0, 3)) == 409


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        "old 0\n" + SMALL.note(3),
        "old 00\n\n" + SMALL.note(3),
        "old -1\n\n" + SMALL.note(3),
        "old  0\n\n" + SMALL.note(3),
        "new 0\n\n" + SMALL.note(3),
        "old 0\r\n\r\n" + SMALL.note(3),
        "old 0\nAAAA\n\n" + SMALL.note(3),
        "old 0\n" + f"{to_base64(bytes(32))}\n" * 64 + "\n" + SMALL.note(3),
        "old 0\n\n",
        "old 0\n\n" + SMALL.text(3),
        "old 0\n\n" + SMALL.note(3).rstrip("\n"),
        "old 0\n\n" + sign_note(f"{SMALL.text(3)}an extension\n", LOG),
        "old 4\n\n" + SMALL.note(3),
    ],
)
def test_what_is_malformed_is_400(witness, body) -> None:
    assert status(witness, body) == 400


def test_a_log_it_was_not_told_of_is_404(witness) -> None:
    stranger = sign_note(Checkpoint("another/log", 1, SMALL.roots[1]).text(), LOG)
    assert status(witness, f"old 0\n\n{stranger}") == 404
    assert ask(witness, request(0, 3), "/elsewhere").status == 404
    assert witness.size_of("another/log") == 0


def test_a_checkpoint_that_no_known_key_signed_is_403(witness) -> None:
    forger = LocalSigner(ORIGIN, bytes(32))
    assert status(witness, f"old 0\n\n{sign_note(SMALL.text(3), forger)}") == 403
    name, _, blob = SMALL.note(4).splitlines()[-1].rpartition(" ")
    assert status(witness, f"old 0\n\n{SMALL.text(3)}\n{name} {blob}\n") == 403
    both = add_signature_lines(SMALL.note(3), sign_note(SMALL.text(3), forger).splitlines()[-1:])
    assert status(witness, f"old 0\n\n{both}") == 200


@pytest.mark.parametrize("old", [0, 3])
def test_a_proof_that_does_not_hold_is_422(witness, old) -> None:
    assert not old or status(witness, request(0, old)) == 200
    proof = "".join(f"{to_base64(bytes([n]) * 32)}\n" for n in range(3))
    assert status(witness, f"old {old}\n{proof}\n{SMALL.note(9)}") == 422
    assert status(witness, request(old, 9)) == 200


def test_another_root_of_the_same_size_and_a_false_empty_one_are_422(witness) -> None:
    false = sign_note(Checkpoint(ORIGIN, 0, bytes(32)).text(), LOG)
    assert status(witness, f"old 0\n\n{false}") == 422
    assert status(witness, request(0, 9)) == 200
    assert status(witness, request(9, 9, SmallLog(9, "another row"))) == 422
    assert witness.size_of(ORIGIN) == 9


def test_an_empty_log_is_cosigned(witness) -> None:
    found = ask(witness, request(0, 0))
    assert found.status == 200
    assert cosigned_at(f"{SMALL.note(0)}{found.body.decode()}", COSIGNER) == NOW


def test_a_second_key_of_a_log_is_taken_too(witness) -> None:
    second = LocalSigner("log.example/2", bytes(32))
    witness.trust(ORIGIN, second.vkey)
    assert status(witness, f"old 0\n\n{sign_note(SMALL.text(3), second)}") == 200
    with pytest.raises(CheckpointError):
        witness.trust(ORIGIN, COSIGNER.vkey)


def test_each_has_a_key_of_its_own() -> None:
    with Witness() as one, Witness() as other:
        assert one.vkey != other.vkey
        assert Cosigner.parse(one.vkey).name == "witness.test/w1"
