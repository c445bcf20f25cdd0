"""`donewhen review` and `attest`."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import as_json, donewhen, run_for_json

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
