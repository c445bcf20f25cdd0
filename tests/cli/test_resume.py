"""`donewhen resume`: a stopped session goes on as it was agreed."""

from __future__ import annotations

from pathlib import Path

from command import as_json, donewhen, run_for_json, run_offline, write_spec

STOPS = '[ceilings]\nturns = 1\ntokens = 20000\n[[done_when]]\ncheck = "regex"\npattern = "never this"\n'
KEEPS = 'keep = "conversation"\n'


def test_a_session_goes_on_without_its_spec_file_once_its_ceiling_was_raised(tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "s.toml", KEEPS + STOPS)
    session = run_for_json(spec)["session_id"]
    spec.unlink()
    assert donewhen("raise", session, "--turns", "3", "--why", "one more").exit_code == 0
    assert donewhen("resume", session, "--client", "offline").exit_code == 6
    assert as_json("show", session)["balance"]["spent"]["turns"] == 3


def test_a_session_whose_ceiling_was_not_raised_stays_stopped(tmp_path: Path) -> None:
    session = run_for_json(write_spec(tmp_path / "s.toml", KEEPS + STOPS))["session_id"]
    result = donewhen("resume", session, "--client", "offline")
    assert result.exit_code == 6
    assert "Raise its ceiling" in result.stderr


def test_without_a_kept_conversation_the_task_is_needed_again(tmp_path: Path) -> None:
    session = run_for_json(write_spec(tmp_path / "s.toml", STOPS))["session_id"]
    donewhen("raise", session, "--turns", "2", "--why", "one more")
    result = donewhen("resume", session, "--client", "offline")
    assert result.exit_code == 2
    assert "--task" in result.stderr
    assert donewhen("resume", session, "--client", "offline", "--task", "-", stdin="Hello.").exit_code == 6


def test_a_session_that_is_done_cannot_go_on(tmp_path: Path) -> None:
    session = run_for_json(write_spec(tmp_path / "s.toml", KEEPS))["session_id"]
    result = donewhen("resume", session, "--client", "offline")
    assert result.exit_code == 2
    assert "has ended (done)" in result.stderr


def test_a_spec_file_that_was_changed_since_is_refused(tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "s.toml", KEEPS + STOPS)
    session = run_for_json(spec)["session_id"]
    donewhen("raise", session, "--turns", "3", "--why", "one more")
    same = donewhen("resume", session, spec, "--client", "offline")
    spec.write_text(spec.read_text().replace("turns = 1", "turns = 9"))
    other = donewhen("resume", session, spec, "--client", "offline")
    assert (same.exit_code, other.exit_code) == (6, 2)
    assert "a spec is frozen" in other.stderr


def test_an_unknown_session_ends_with_2(tmp_path: Path) -> None:
    run_offline(write_spec(tmp_path / "s.toml"))
    result = donewhen("resume", "nobody", "--client", "offline")
    assert result.exit_code == 2
    assert "no such session" in result.stderr


def test_without_a_ledger_it_ends_with_7() -> None:
    result = donewhen("resume", "anything", "--client", "offline")
    assert result.exit_code == 7
    assert "there is no ledger" in result.stderr
