"""`erase`: it asks first, says what it did, and says so where traces are left."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from command import as_json, donewhen, run_for_json, write_spec

from donewhen.stores import sqlite_connections

LEDGER = Path(".donewhen/ledger.db")


@pytest.fixture
def session(tmp_path: Path) -> str:
    spec = write_spec(tmp_path / "spec.toml", 'keep = "conversation"\n')
    ended: str = run_for_json(spec)["session_id"]
    return ended


def test_the_texts_go_and_the_row_says_who_and_why(session: str) -> None:
    output = as_json("review", session)["output"]
    result = donewhen("erase", session, "--why", "asked for", "--who", "ann", "--yes")
    assert (result.exit_code, f"of session {session} erased" in result.stdout) == (0, True)
    assert output.encode() not in b"".join(path.read_bytes() for path in LEDGER.parent.iterdir())
    assert as_json("review", session)["output"] is None
    assert donewhen("verify").exit_code in (0, 8)
    with closing(sqlite3.connect(LEDGER)) as raw:
        (body,) = raw.execute("SELECT body FROM entries WHERE kind = 'erase'").fetchone()
    assert '"who":"ann","why":"asked for"' in body


def test_json_tells_the_row_and_how_many(session: str) -> None:
    told = as_json("erase", session[:8], "--why", "asked for", "--yes")
    assert (told["session_id"], told["texts"] > 1, told["is_gone"]) == (session, True, True)
    again = as_json("erase", session, "--why", "asked for", "--yes")
    assert (again["row"], again["texts"], again["is_gone"]) == (None, 0, True)
    assert "nothing is kept" in donewhen("erase", session, "--why", "again", "--yes").stdout


def test_left_out_the_user_and_host_of_this_system_have_erased(session: str) -> None:
    donewhen("erase", session, "--why", "asked for", "--yes")
    with closing(sqlite3.connect(LEDGER)) as raw:
        (who,) = raw.execute("SELECT json_extract(body, '$.data.who') FROM entries WHERE kind = 'erase'").fetchone()
    assert "@" in who


@pytest.mark.parametrize("words", [("--why", "w"), ("--why", " ", "--yes"), ("--yes",)])
def test_nothing_is_erased_without_a_reason_or_a_yes(session: str, words: tuple[str, ...]) -> None:
    before = LEDGER.read_bytes()
    result = donewhen("erase", session, *words)
    assert (result.exit_code, LEDGER.read_bytes()) == (2, before)


def test_where_somebody_reads_it_says_what_to_do_and_ends_with_7(session: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connections, "EMPTYING_MS", 20)
    with closing(sqlite3.connect(LEDGER, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM texts").fetchone()
        result = donewhen("erase", session, "--why", "asked for", "--yes")
    assert (result.exit_code, "Somebody is reading" in result.stderr) == (7, True)
    assert donewhen("erase", session, "--why", "asked for", "--yes").exit_code == 0


def test_a_session_that_is_not_there_is_wrong_usage(session: str) -> None:
    assert donewhen("erase", f"{session}x", "--why", "w", "--yes").exit_code == 2
