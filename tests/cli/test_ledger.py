"""`donewhen adopt`."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from command import as_json, donewhen, run_offline

STORE = Path(".donewhen/ledger.db")


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


def test_what_cannot_be_adopted_is_told(spec_file: Path) -> None:
    run_offline(spec_file)
    assert donewhen("adopt", "nowhere.db").exit_code == 2
    shutil.copy(STORE, "copy.db")
    assert donewhen("adopt", "copy.db").exit_code == 7
