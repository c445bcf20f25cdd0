"""`donewhen sessions`, `show` and `raise`."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import as_json, donewhen, run_for_json, write_spec

from donewhen.ledger import Ledger


@pytest.fixture
def session(tmp_path: Path) -> str:
    """A session that stopped at its turn ceiling."""
    more = '[ceilings]\nturns = 1\ntokens = 20000\nusd = 1\nminutes = 5\n[[done_when]]\ncheck = "regex"\npattern = "never this"\n'
    return str(run_for_json(write_spec(tmp_path / "stopped.toml", more))["session_id"])


def test_sessions_are_listed_with_their_state(session: str) -> None:
    lines = donewhen("sessions").stdout.splitlines()
    assert lines[0].split() == ["session", "state", "began", "turns", "tokens", "what", "it", "does"]
    assert lines[1].split()[:2] == [session[:8], "unmet"]


def test_a_session_written_by_hand_is_listed_too() -> None:
    with Ledger("hand.db") as ledger:
        ledger.write("mine", 1, "llm", "x", 10, 5, True)
    [found] = as_json("sessions", "--store", "hand.db")
    assert (found["session_id"], found["state"], found["balance"]) == ("mine", "by hand", None)
    assert "write: llm" in donewhen("show", "mine", "--store", "hand.db").stdout


def test_an_empty_ledger_lists_nothing() -> None:
    Ledger("empty.db").close()
    result = donewhen("sessions", "--store", "empty.db")
    assert (result.exit_code, result.stdout) == (0, "")


def test_show_tells_promise_spend_and_rows(session: str) -> None:
    told = donewhen("show", session).stdout
    assert "done when  A greeting." in told
    assert "turns      1 of 1" in told
    assert "circuit_breaker" in told
    assert "attempt 1" not in told  # of a reservation, which is bookkeeping
    assert "attempt 1" in donewhen("show", session, "--all").stdout


def test_show_takes_the_beginning_of_an_id(session: str) -> None:
    assert as_json("show", session[:8])["session_id"] == session


def test_a_beginning_that_two_sessions_share_is_refused(tmp_path: Path) -> None:
    with Ledger("two.db") as ledger:
        ledger.write("same-1", 1, "llm", "x", 1, 1, True)
        ledger.write("same-2", 1, "llm", "x", 1, 1, True)
    result = donewhen("show", "same", "--store", "two.db")
    assert result.exit_code == 2
    assert "2 sessions begin with 'same'" in result.stderr
    assert [row["session_id"] for row in as_json("sessions", "--store", "two.db")] == ["same-1", "same-2"]


def test_show_has_every_row_as_json(session: str) -> None:
    told = as_json("show", session)
    assert [row["kind"] for row in told["rows"]][:5] == ["spec", "policy", "open", "reserve", "llm"]
    assert told["signed_by"].startswith("donewhen/")


def test_what_a_terminal_would_obey_is_escaped(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J"
    session = run_for_json(write_spec(tmp_path / "evil.toml", what_it_does=f"Says {evil}"))["session_id"]
    for command in (("show", session), ("sessions",), ("watch", session), ("review", session)):
        assert "\x1b" not in donewhen(*command).stdout


def test_a_raise_is_a_row_that_says_who_and_why(session: str) -> None:
    result = donewhen("raise", session, "--turns", "3", "--usd", "1.5", "--why", "worth it", "--who", "ann")
    assert result.exit_code == 0
    assert result.stdout == "turns: 1 -> 3\nusd: 1 USD -> 1.5 USD\n"
    last = as_json("show", session)["rows"][-1]
    assert (last["kind"], last["data"]["who"], last["data"]["why"]) == ("budget", "ann", "worth it")
    assert as_json("show", session)["balance"]["ceilings"]["cost_microusd"] == 1_500_000


def test_money_and_minutes_are_read_as_typed(session: str) -> None:
    assert donewhen("raise", session, "--usd", "1.000001", "--minutes", "5.5", "--why", "w").exit_code == 0
    ceilings = as_json("show", session)["balance"]["ceilings"]
    assert (ceilings["cost_microusd"], ceilings["milliseconds"]) == (1_000_001, 330_000)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "say which ceiling"),
        (("--turns", "1"), "already"),
        (("--turns", "0"), "already"),
        (("--tool-calls", "9"), "there is no ceiling on tool calls"),
        (("--usd", "much"), "is not a number"),
        (("--usd", "NaN"), "is not a number"),
        (("--minutes", "-1"), "is not a number"),
        (("--turns", "x"), "--turns"),
    ],
)
def test_what_is_no_raise_is_refused_with_2(session: str, words: tuple[str, ...], problem: str) -> None:
    result = donewhen("raise", session, "--why", "because", *words)
    assert result.exit_code == 2
    assert problem in result.stderr


@pytest.mark.parametrize("why", [(), ("--why", "  ")])
def test_a_raise_needs_a_reason(session: str, why: tuple[str, ...]) -> None:
    result = donewhen("raise", session, "--turns", "3", *why)
    assert result.exit_code == 2
    assert "--why" in result.stderr


def test_a_session_that_was_never_opened_cannot_be_raised() -> None:
    with Ledger("hand.db") as ledger:
        ledger.write("mine", 1, "llm", "x", 10, 5, True)
    result = donewhen("raise", "mine", "--turns", "3", "--why", "w", "--store", "hand.db")
    assert result.exit_code == 2
    assert "never opened" in result.stderr


@pytest.mark.parametrize("command", [("sessions",), ("show", "x"), ("watch",), ("verify",), ("review", "x")])
def test_without_a_ledger_reading_ends_with_7_and_makes_none(command: tuple[str, ...]) -> None:
    result = donewhen(*command)
    assert (result.exit_code, result.stdout) == (7, "")
    assert not Path(".donewhen").exists()
