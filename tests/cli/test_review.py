"""`donewhen review`, `attest` and `reject`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from command import as_json, donewhen, run_for_json, write_spec

ELEMENTS = (
    "[1] ORIGINAL PROMISE",
    "[2] ACCEPTANCE CRITERIA",
    "[3] DIFF",
    "[4] EVIDENCE",
    "[5] UNRESOLVED ASSUMPTIONS",
)


@pytest.fixture
def session(spec_file: Path) -> str:
    """A session that is done."""
    return str(run_for_json(spec_file)["session_id"])


def test_the_five_elements_are_shown_in_order_with_the_output(session: str) -> None:
    result = donewhen("review", session)
    assert result.exit_code == 0
    places = [result.stdout.index(element) for element in ELEMENTS]
    assert places == sorted(places)
    assert "rule-based" in result.stdout


def test_the_next_command_carries_the_hash_of_what_was_shown(session: str) -> None:
    frame_hash = as_json("review", session)["frame_hash"]
    assert f"--frame-hash {frame_hash}" in donewhen("review", session).stderr


def test_an_attestation_is_written_and_shown(session: str) -> None:
    frame_hash = as_json("review", session)["frame_hash"]
    words = ("--reviewer", "ann", "--notes", "as promised", "--frame-hash", frame_hash)
    assert donewhen("attest", session, *words).exit_code == 0
    [one] = as_json("review", session)["attestations"]
    assert (one["reviewer"], one["notes"], one["frame_hash"]) == ("ann", "as promised", frame_hash)
    assert "Attested by ann" in donewhen("review", session).stdout


def test_a_frame_that_is_not_the_one_that_was_shown_ends_with_3(session: str) -> None:
    result = donewhen("attest", session, "--reviewer", "ann", "--frame-hash", "0" * 64)
    assert (result.exit_code, result.stdout) == (3, "")
    assert as_json("review", session)["attestations"] == []


def test_without_a_frame_hash_it_says_what_was_attested(session: str) -> None:
    result = donewhen("attest", session, "--reviewer", "ann")
    assert result.exit_code == 0
    assert "as it is now" in result.stderr


@pytest.mark.parametrize("words", [(), ("--reviewer", " ")])
def test_a_reviewer_needs_a_name(session: str, words: tuple[str, ...]) -> None:
    assert donewhen("attest", session, *words).exit_code == 2


# -- signed, rejected, taken ------------------------------------------------------------------------------------------


@pytest.fixture
def reviewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of ann's own with her key in it; she is enrolled in the ledger of `session`."""
    mine, keepers = tmp_path / "ann", os.environ["DONEWHEN_CONFIG_DIR"]
    monkeypatch.setenv("DONEWHEN_CONFIG_DIR", str(mine))
    assert donewhen("key", "new", "--reviewer", "ann").exit_code == 0
    monkeypatch.setenv("DONEWHEN_CONFIG_DIR", keepers)
    return mine


def enroll(reviewer: Path) -> None:
    result = donewhen("key", "enroll", reviewer / "reviewer.vkey")
    assert result.exit_code == 0, result.stderr


def as_ann(reviewer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DONEWHEN_CONFIG_DIR", str(reviewer))


def test_a_name_is_shown_as_named_not_proven(session: str) -> None:
    result = donewhen("attest", session, "--reviewer", "ann")
    assert result.stdout.endswith("(named, not proven)\n")
    assert "Now: attested by ann (named, not proven)." in result.stderr
    shown = donewhen("review", session).stdout
    assert "Attested by ann (named, not proven), this frame," in shown
    assert "So: attested by ann (named, not proven)." in shown
    assert "attested by ann (named, not proven)" in donewhen("show", session).stdout


def test_the_review_says_who_may_and_what_is_missing(tmp_path: Path) -> None:
    more = '\n[review]\nquorum = 2\nreviewers = ["ann", "ben"]\nexpiry_hours = 72\n'
    session = str(run_for_json(write_spec(tmp_path / "two.toml", more))["session_id"])
    shown = donewhen("review", session).stdout
    assert "Who may: 2 of ann (by name), ben (by name); not " in shown
    assert "who started it; for 72 hours" in shown
    assert "So: 2 more reviewers of ann, ben must attest." in shown
    told = as_json("review", session)
    assert (told["policy"]["quorum"], told["judgement"]["missing"], told["rejections"]) == (2, 2, [])
    assert donewhen("attest", session, "--reviewer", "mal").exit_code == 3
    assert donewhen("attest", session, "--reviewer", "ann").exit_code == 0
    assert "1 more reviewer of ben must attest" in donewhen("show", session).stdout


def test_it_is_signed_where_the_key_is_here_and_enrolled(
    session: str, reviewer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enroll(reviewer)
    keeper_key = Path(os.environ["DONEWHEN_CONFIG_DIR"]) / "log.key"
    as_ann(reviewer, monkeypatch)
    (reviewer / "log.key").write_text(keeper_key.read_text())
    (reviewer / "log.key").chmod(0o600)
    result = donewhen("attest", session)
    assert (result.exit_code, result.stdout.endswith("(signed)\n")) == (0, True), result.stderr
    unsigned = donewhen("attest", session, "--unsigned", "--reviewer", "ann", "--json")
    assert (unsigned.exit_code, json.loads(unsigned.stdout)["signed"]) == (0, False)
    wrong = donewhen("attest", session, "--reviewer", "ben")
    assert (wrong.exit_code, wrong.stdout) == (3, "")
    assert "it is signed with the key of ann, and names ben" in wrong.stderr


def test_a_reviewer_on_another_machine_signs_only_and_the_keeper_takes_it(
    tmp_path: Path, spec_file: Path, reviewer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_for_json(spec_file)  # makes the ledger
    enroll(reviewer)
    session = str(run_for_json(spec_file)["session_id"])
    keepers = os.environ["DONEWHEN_CONFIG_DIR"]
    as_ann(reviewer, monkeypatch)
    frame_hash = as_json("review", session)["frame_hash"]
    signed = donewhen("attest", session, "--sign-only", "--notes", "as promised", "--frame-hash", frame_hash)
    assert (signed.exit_code, signed.stderr) == (0, "")
    assert as_json("review", session)["attestations"] == []
    monkeypatch.setenv("DONEWHEN_CONFIG_DIR", keepers)
    envelope = tmp_path / "ann.dsse.json"
    envelope.write_text(signed.stdout)
    taken = donewhen("attest", session, "--envelope", envelope)
    assert (taken.exit_code, "(signed)" in taken.stdout) == (0, True), taken.stderr
    [one] = as_json("review", session)["attestations"]
    assert (one["reviewer"], one["notes"], one["signed"]) == ("ann", "as promised", True)
    again = donewhen("attest", "--envelope", "-", stdin=signed.stdout)
    assert (again.exit_code, again.stdout) == (3, "")
    assert "counts once" in again.stderr


def test_a_rejection_that_was_signed_elsewhere_is_taken_too(
    tmp_path: Path, session: str, reviewer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enroll(reviewer)
    keepers = os.environ["DONEWHEN_CONFIG_DIR"]
    as_ann(reviewer, monkeypatch)
    signed = donewhen("reject", session, "--sign-only", "--reason", "It invents a figure.").stdout
    monkeypatch.setenv("DONEWHEN_CONFIG_DIR", keepers)
    taken = donewhen("attest", "--envelope", "-", "--json", stdin=signed)
    assert taken.exit_code == 0, taken.stderr
    assert json.loads(taken.stdout)["reason"] == "It invents a figure."
    assert donewhen("attest", session, "--reviewer", "ben").exit_code == 5


def test_a_rejection_is_shown_with_its_reason_and_stands(session: str) -> None:
    result = donewhen("reject", session, "--reviewer", "ben", "--reason", "It invents\na figure.")
    assert (result.exit_code, "ben rejects frame" in result.stdout) == (0, True)
    assert "Now: ben rejected it: It invents\\na figure." in result.stderr
    assert "Rejected by ben (named, not proven), this frame," in donewhen("review", session).stdout
    assert "ben rejected it: It invents" in donewhen("show", session).stdout
    assert donewhen("attest", session, "--reviewer", "ann").exit_code == 5
    assert donewhen("attest", session, "--reviewer", "ben").exit_code == 0


def test_a_key_that_is_not_enrolled_signs_only_where_nothing_is_written(
    session: str, reviewer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_ann(reviewer, monkeypatch)
    signed = donewhen("attest", session, "--sign-only")
    assert (signed.exit_code, "payloadType" in signed.stdout) == (0, True), signed.stderr
    told = donewhen("attest", session)
    assert (told.exit_code, told.stdout) == (7, ""), "the ledger is signed by the keeper's key"


def test_a_key_that_is_not_enrolled_leaves_a_name(
    session: str, reviewer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper_key = (Path(os.environ["DONEWHEN_CONFIG_DIR"]) / "log.key").read_text()
    as_ann(reviewer, monkeypatch)
    (reviewer / "log.key").write_text(keeper_key)
    (reviewer / "log.key").chmod(0o600)
    nobody = donewhen("attest", session)
    assert (nobody.exit_code, nobody.stdout) == (2, "")
    named = donewhen("attest", session, "--reviewer", "ann")
    assert (named.exit_code, "(named, not proven)" in named.stdout) == (0, True)
    assert "not enrolled in this ledger, so this is a name, not a proof" in named.stderr


def test_rows_by_hand_are_reviewed_by_anybody_until_a_key_is_enrolled() -> None:
    from donewhen.ledger import Ledger
    from donewhen.spec_writer import SpecResult

    Path(".donewhen").mkdir()
    with Ledger(".donewhen/ledger.db") as ledger:
        ledger.write_spec(SpecResult("Reports.", "Nothing else.", "A report.", "by-hand"))
        ledger.write("by-hand", 1, "llm", "task", 1, 1, True)
    assert "Who may: 1 of anybody by name, until a reviewer's key is enrolled" in donewhen("review", "by-hand").stdout
    assert donewhen("attest", "by-hand", "--reviewer", "ann").exit_code == 0


def test_verdicts_are_said_by_criterion(session: str) -> None:
    said = donewhen("attest", session, "--reviewer", "ann", "--verdict", "A greeting.=not_judged", "--json")
    assert said.exit_code == 0, said.stderr
    for wrong in ("A greeting.", "A greeting.=fine", "more=met"):
        assert donewhen("attest", session, "--reviewer", "ann", "--verdict", wrong).exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("attest",),
        ("reject", "SESSION", "--reviewer", "ann"),
        ("reject", "SESSION", "--reviewer", "ann", "--reason", " "),
        ("attest", "SESSION", "--reviewer", "ann", "--sign-only"),
        ("attest", "SESSION", "--reviewer", "ann", "--call", "c1"),
        ("attest", "SESSION", "--envelope", "-", "--reviewer", "ann"),
        ("attest", "SESSION", "--envelope", "missing.json"),
    ],
)
def test_what_cannot_be_said_ends_with_2_and_writes_nothing(session: str, words: tuple[str, ...]) -> None:
    result = donewhen(*[session if word == "SESSION" else word for word in words])
    assert (result.exit_code, result.stdout) == (2, "")
    told = as_json("review", session)
    assert (told["attestations"], told["rejections"]) == ([], [])


@pytest.mark.parametrize("text", ["", "{}", "nonsense"])
def test_what_is_no_envelope_ends_with_3(session: str, text: str) -> None:
    result = donewhen("attest", session, "--envelope", "-", stdin=text)
    assert (result.exit_code, result.stdout) == (3, "")
