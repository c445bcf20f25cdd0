"""`donewhen verify` and `adopt`."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from command import as_json, donewhen, run_offline

from donewhen.keys import VKEY_FILE
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner

STORE = Path(".donewhen/ledger.db")


@pytest.fixture
def vkey(spec_file: Path) -> str:
    """The public key of a ledger with one session in it."""
    run_offline(spec_file)
    with Ledger(STORE, read_only=True) as ledger:
        assert ledger.signed_by is not None
        return ledger.signed_by


def edit_a_row(path: Path) -> None:
    """Edit a row as the owner of the file can, and put the triggers back."""
    with closing(sqlite3.connect(path)) as database:
        triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE entries SET body = replace(body, '\"tokens\":', '\"tokens\":1') WHERE id = 4")
        for _, sql in triggers:
            database.execute(sql)
        database.commit()


def test_without_a_key_it_is_held_against_the_users_own_and_says_so(vkey: str) -> None:
    result = donewhen("verify")
    assert result.exit_code == 0
    assert "your own, from" in result.stdout
    assert as_json("verify")["signed_by"] == vkey


def test_a_key_may_be_given_as_text_or_as_a_file(vkey: str) -> None:
    Path("key.txt").write_text(f"{vkey}\n")
    for key in (vkey, "key.txt"):
        result = donewhen("verify", "--key", key)
        assert (result.exit_code, "given with --key" in result.stdout) == (0, True), result.stderr


def test_another_key_ends_with_7(vkey: str) -> None:
    result = donewhen("verify", "--key", LocalSigner.generate("donewhen/log/other").vkey)
    assert (result.exit_code, result.stdout) == (7, "")
    assert "names another key" in result.stderr


@pytest.mark.parametrize("key", ["nonsense", "a+b+c", "no/such/file"])
def test_what_is_no_key_ends_with_2(vkey: str, key: str) -> None:
    assert donewhen("verify", "--key", key).exit_code == 2


def test_an_edited_row_ends_with_7_and_is_named(vkey: str) -> None:
    edit_a_row(STORE)
    result = donewhen("verify")
    assert (result.exit_code, result.stdout) == (7, "")
    assert "row 4" in result.stderr


def test_without_any_key_it_says_what_is_not_proven(vkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DONEWHEN_CONFIG_DIR", str(tmp_path / "nobody"))
    result = donewhen("verify")
    assert result.exit_code == 0
    assert "Not proven" in result.stdout
    assert not (tmp_path / "nobody").exists()


def test_an_unsigned_ledger_says_so_even_to_someone_with_a_key(vkey: str) -> None:
    Ledger("unsigned.db").close()
    result = donewhen("verify", "--store", "unsigned.db")
    assert result.exit_code == 0
    assert "The ledger is unsigned" in result.stdout
    assert donewhen("verify", "--store", "unsigned.db", "--key", vkey).exit_code == 7


def test_a_broken_key_file_of_the_user_is_told(vkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DONEWHEN_CONFIG_DIR", str(tmp_path))
    (tmp_path / VKEY_FILE).write_text("rubbish")
    result = donewhen("verify")
    assert result.exit_code == 2
    assert VKEY_FILE in result.stderr


@pytest.fixture
def tutorials(tmp_path: Path) -> Path:
    """A database as the tutorial's own code made it."""
    path = tmp_path / "tutorial.db"
    columns = (
        "id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL, turn_count INTEGER NOT NULL, "
        "state_origin TEXT NOT NULL, input_hash TEXT NOT NULL, token_delta INTEGER NOT NULL, "
        "execution_time_ms INTEGER NOT NULL, pass_fail INTEGER NOT NULL, breach_reason TEXT, created_at TEXT NOT NULL"
    )
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"CREATE TABLE ledger ({columns})")
        values = (1, "old", 1, "llm", "0" * 64, 10, 5, 1, None, "2025-01-01T00:00:00+00:00")
        database.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        database.commit()
    return path


def test_a_database_of_the_tutorials_is_adopted_once(tutorials: Path) -> None:
    assert donewhen("adopt", tutorials).exit_code == 0
    assert as_json("adopt", tutorials)["added"] == 0
    assert [session["session_id"] for session in as_json("sessions")] == ["old"]
    assert donewhen("verify").exit_code == 0


def test_every_other_command_refuses_it_by_name(tutorials: Path, spec_file: Path) -> None:
    for command in (("sessions",), ("run", spec_file, "--client", "offline")):
        result = donewhen(*command, "--store", tutorials)
        assert result.exit_code == 7
        assert "donewhen adopt" in result.stderr


def test_what_cannot_be_adopted_is_told(vkey: str) -> None:
    assert donewhen("adopt", "nowhere.db").exit_code == 2
    shutil.copy(STORE, "copy.db")
    assert donewhen("adopt", "copy.db").exit_code == 7
