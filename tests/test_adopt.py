"""Databases of the tutorial's own code are taken over whole, or not at all."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from donewhen import adopt as adopting
from donewhen.adopt import adopt
from donewhen.entry import LedgerRow
from donewhen.errors import LedgerError, LedgerFormatError, LedgerUnavailableError
from donewhen.ledger import Ledger
from donewhen.verify import verify_ledger

HASH = hashlib.sha256(b"input").hexdigest()
THEN = "2025-11-03T10:00:00.123456+00:00"

LEDGER = """CREATE TABLE ledger (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL, turn_count INTEGER NOT NULL,
    state_origin TEXT NOT NULL, input_hash TEXT NOT NULL, token_delta INTEGER NOT NULL,
    execution_time_ms INTEGER NOT NULL, pass_fail INTEGER NOT NULL, breach_reason TEXT, created_at TEXT NOT NULL)"""
SPEC = """CREATE TABLE spec (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL, what_it_does TEXT NOT NULL,
    what_it_does_not TEXT NOT NULL, done_looks_like TEXT NOT NULL, created_at TEXT NOT NULL)"""
ATTESTATIONS = """CREATE TABLE attestations (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL, reviewer TEXT NOT NULL,
    attested_at TEXT NOT NULL, notes TEXT, frame_hash TEXT NOT NULL)"""

ROWS: list[tuple[Any, ...]] = [
    (1, "s", 1, "llm", HASH, 110, 40, 1, None, THEN),
    (2, "t", 1, "llm", HASH, 5, 3, 1, None, THEN),
    (4, "s", 2, "circuit_breaker", HASH, 0, 0, 0, "token_ceiling", THEN),
]


def make(path: Path, *, rows: list[tuple[Any, ...]] = ROWS, spec: bool = True, attested: bool = True) -> Path:
    """Make a database as the tutorial's code does; columns hold whatever they are given."""
    loose = LEDGER.replace(" NOT NULL", "")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(loose)
        connection.executemany("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        if spec:
            connection.execute(SPEC)
            connection.execute("INSERT INTO spec VALUES (1, 's', 'Audits é', 'Edits', 'A report', ?)", (THEN,))
        if attested:
            connection.execute(ATTESTATIONS)
            connection.execute("INSERT INTO attestations VALUES (7, 's', 'Ada', ?, 'good', ?)", (THEN, HASH))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make(tmp_path / "tutorial.db")


def tutorial_columns(row: LedgerRow) -> tuple[object, ...]:
    return (
        row.session_id,
        row.turn_count,
        row.state_origin,
        row.input_hash,
        row.token_delta,
        row.execution_time_ms,
        int(row.pass_fail),
        row.breach_reason,
    )


@pytest.mark.parametrize("table", ["ledger", "spec", "attestations"])
def test_a_session_of_the_logs_own_is_not_adopted(source: Path, tmp_store: Path, table: str) -> None:
    with closing(sqlite3.connect(source)) as connection, connection:
        connection.execute(f"UPDATE {table} SET session_id = 'donewhen:log'")
    with Ledger(tmp_store) as ledger:
        with pytest.raises(
            LedgerFormatError, match=r"an id that only the log's own sessions have\. Nothing was adopted"
        ):
            adopt(source, ledger)
        assert list(ledger.iter_rows()) == []


def test_rows_keep_what_they_say(source: Path, tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        report = adopt(source, ledger)
        assert (report.specs, report.rows, report.attestations, report.sessions) == (1, 3, 1, 2)
        assert (report.added, report.already_there) == (5, 0)
        assert [tutorial_columns(row) for row in ledger.get_all()] == [row[1:9] for row in ROWS]
        assert {row.kind for row in ledger.get_all()} == {"write"}
        assert [row.turn_count for row in ledger.get_session("s")] == [1, 2]


def test_the_original_time_is_kept_and_is_not_the_time_of_the_row(source: Path, tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        adopt(source, ledger)
        rows = ledger.get_all()
        assert rows[2].data["adopted"] == {"table": "ledger", "id": 4, "created_at": THEN, "source": "tutorial.db"}
        assert all(row.created_at > THEN for row in rows)


def test_a_spec_becomes_the_sessions_spec(source: Path, tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        adopt(source, ledger)
        spec = ledger.find_spec("s")
        assert spec is not None
        assert spec.data["what_it_does"] == "Audits é"
        assert spec.data["adopted"]["created_at"] == THEN


def test_an_attestation_is_marked_as_adopted(source: Path, tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        adopt(source, ledger)
        row = ledger.newest_row("s")
        assert row is not None
        assert (row.kind, row.data["reviewer"], row.data["frame_hash"]) == ("attest", "Ada", HASH)
        assert row.data["adopted"]["created_at"] == THEN


def test_what_was_adopted_verifies(source: Path, tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        adopt(source, ledger)
        assert verify_ledger(ledger, None).rows == 5


def test_the_source_is_left_as_it_was(source: Path, tmp_store: Path) -> None:
    before, beside = source.read_bytes(), sorted(source.parent.iterdir())
    with Ledger(tmp_store) as ledger:
        adopt(source, ledger)
    assert source.read_bytes() == before
    assert [path for path in sorted(source.parent.iterdir()) if path.name.startswith("tutorial")] == beside


def test_adopting_twice_adds_nothing(source: Path, tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        adopt(source, ledger)
        again = adopt(source, ledger)
        assert (again.added, again.already_there) == (0, 5)
        assert len(list(ledger.iter_rows())) == 5


def test_rows_that_came_since_are_added(source: Path, tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        adopt(source, ledger)
        with closing(sqlite3.connect(source)) as connection, connection:
            connection.execute(f"INSERT INTO ledger VALUES (5, 't', 2, 'llm', '{HASH}', 1, 1, 1, NULL, '{THEN}')")
        assert adopt(source, ledger).rows == 1


def test_a_row_that_was_changed_since_is_refused(source: Path, tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        adopt(source, ledger)
        with closing(sqlite3.connect(source)) as connection, connection:
            connection.execute("UPDATE ledger SET token_delta = 1 WHERE id = 2")
        with pytest.raises(LedgerError, match="table ledger, id 2 was adopted before, and says something else"):
            adopt(source, ledger)


def test_spec_and_ledger_in_files_of_their_own_are_adopted_one_after_the_other(tmp_path: Path, tmp_store: Path) -> None:
    rows = make(tmp_path / "rows.db", spec=False, attested=False)
    promise = make(tmp_path / "promise.db", rows=[], attested=False)
    with Ledger(tmp_store) as ledger:
        assert adopt(rows, ledger).added == 3
        assert adopt(promise, ledger).added == 1
        assert [row.kind for row in ledger.rows("s")] == ["write", "write", "spec"]


def test_an_interrupted_adoption_goes_on_where_it_stopped(
    source: Path, tmp_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopting, "BATCH_ROWS", 2)

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with Ledger(tmp_store) as ledger:
        with pytest.raises(KeyboardInterrupt):
            adopt(source, ledger, progress=stop)
        assert len(list(ledger.iter_rows())) == 2
        assert (adopt(source, ledger).added, len(list(ledger.iter_rows()))) == (3, 5)


def test_progress_ends_with_all_rows(source: Path, tmp_store: Path) -> None:
    told: list[tuple[int, int]] = []
    with Ledger(tmp_store) as ledger:
        adopt(source, ledger, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (5, 5)


def test_nothing_is_adopted_into_a_session_with_rows_of_its_own(source: Path, tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        ledger.write("s", 1, "mine", "x", 1, 1, True)
        with pytest.raises(LedgerError, match=r"session s has rows of its own in the ledger \(row 1\)"):
            adopt(source, ledger)
        assert len(list(ledger.iter_rows())) == 1


def test_a_session_that_goes_on_after_adoption_takes_no_more(source: Path, tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        adopt(source, ledger)
        ledger.attest("s", "Ada", HASH)
        with pytest.raises(LedgerError, match="rows of its own"):
            adopt(source, ledger)


def test_a_writer_in_between_is_noticed(source: Path, tmp_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopting, "BATCH_ROWS", 1)
    with Ledger(tmp_store) as ledger, pytest.raises(LedgerError, match="session s was written to by someone else"):
        adopt(source, ledger, progress=lambda _done, _total: ledger.write("s", 9, "mine", "x", 1, 1, True))


BAD: dict[str, tuple[int, object]] = {
    "session_id": (1, None),
    "turn_count": (2, "one"),
    "state_origin": (3, b"\x00"),
    "input_hash": (4, "abc"),
    "token_delta": (5, -1),
    "execution_time_ms": (6, "slow"),
    "pass_fail": (7, 2),
    "breach_reason": (8, b"x"),
    "created_at": (9, "yesterday"),
}


@pytest.mark.parametrize("column", BAD)
def test_a_bad_value_is_one_error_that_names_it_and_nothing_is_adopted(
    tmp_path: Path, tmp_store: Path, column: str
) -> None:
    place, value = BAD[column]
    bad = list(ROWS[2])
    bad[place] = value
    source = make(tmp_path / "tutorial.db", rows=[*ROWS[:2], tuple(bad)])
    with Ledger(tmp_store) as ledger:
        with pytest.raises(LedgerFormatError, match=rf"table ledger, id 4, column {column}: .*Nothing was adopted"):
            adopt(source, ledger)
        assert list(ledger.iter_rows()) == []


@pytest.mark.parametrize("value", [None, -1, 1.5, 2**60, b"1", "1x"])
def test_a_number_that_is_none_is_refused(tmp_path: Path, tmp_store: Path, value: object) -> None:
    source = make(tmp_path / "tutorial.db", rows=[(1, "s", 1, "llm", HASH, value, 1, 1, None, THEN)])
    with Ledger(tmp_store) as ledger, pytest.raises(LedgerFormatError, match="column token_delta"):
        adopt(source, ledger)


def test_a_fraction_of_a_millisecond_is_dropped_as_write_does(tmp_path: Path, tmp_store: Path) -> None:
    source = make(tmp_path / "tutorial.db", rows=[(1, "s", 1, "llm", HASH, 1, 12.75, 1, None, "2025-11-03T10:00:00Z")])
    with Ledger(tmp_store) as ledger:
        adopt(source, ledger)
        assert ledger.get_session("s")[0].execution_time_ms == 12


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("UPDATE spec SET what_it_does = ' '", "table spec, id 1, column what_it_does: ' ' is blank"),
        (f"INSERT INTO spec VALUES (2, 's', 'a', 'b', 'c', '{THEN}')", "table spec, id 2: session s has another spec"),
        ("UPDATE attestations SET reviewer = ''", "table attestations, id 7, column reviewer"),
        ("UPDATE attestations SET frame_hash = 'x'", "table attestations, id 7, column frame_hash"),
        ("UPDATE spec SET done_looks_like = CAST(x'ff' AS TEXT)", "column done_looks_like: .* is not UTF-8"),
        (
            "UPDATE spec SET done_looks_like = 'a' || char(0)",
            "column done_looks_like: .* is not UTF-8 text without NUL",
        ),
    ],
)
def test_a_bad_spec_or_attestation_is_one_error(source: Path, tmp_store: Path, sql: str, told: str) -> None:
    with closing(sqlite3.connect(source)) as connection, connection:
        connection.execute(sql)
    with Ledger(tmp_store) as ledger:
        with pytest.raises(LedgerError, match=told):
            adopt(source, ledger)
        assert list(ledger.iter_rows()) == []


def test_an_id_that_is_there_twice_is_refused(tmp_path: Path, tmp_store: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection, connection:
        connection.execute(
            "CREATE TABLE ledger (id, session_id, turn_count, state_origin, input_hash, token_delta,"
            " execution_time_ms, pass_fail, breach_reason, created_at)"
        )
        connection.executemany("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [ROWS[0], ROWS[0]])
    with Ledger(tmp_store) as ledger, pytest.raises(LedgerFormatError, match="column id: 1 is there twice"):
        adopt(tmp_path / "x.db", ledger)


def no_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (id)")


def no_column(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE ledger (id, session_id)")


def ours(path: Path) -> None:
    Ledger(path).close()


@pytest.mark.parametrize(
    ("made_by", "told"),
    [
        (no_table, "has no table spec, ledger, attestations"),
        (no_column, "its table ledger has no column turn_count"),
        (ours, "is a ledger of donewhen already"),
        (lambda path: path.write_bytes(b"no database at all, but long enough " * 99), "is not a database"),
    ],
)
def test_what_is_not_the_tutorials_is_refused_by_name(
    tmp_path: Path, tmp_store: Path, made_by: Callable[[Path], object], told: str
) -> None:
    made_by(tmp_path / "other.db")
    with Ledger(tmp_store) as ledger, pytest.raises(LedgerFormatError, match=rf"other\.db.*{told}"):
        adopt(tmp_path / "other.db", ledger)


def test_a_file_that_is_not_there_is_one_error(tmp_path: Path, tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger, pytest.raises(LedgerUnavailableError, match="no file"):
        adopt(tmp_path / "nothing.db", ledger)


def test_an_adopted_session_is_refused_a_second_spec(source: Path, tmp_store: Path) -> None:
    answers = SimpleNamespace(what_it_does="a", what_it_does_not="b", done_looks_like="c", session_id="s")
    with Ledger(tmp_store) as ledger:
        adopt(source, ledger)
        with pytest.raises(LedgerError, match="has a spec already"):
            ledger.write_spec(answers)


def test_write_cannot_pretend_that_a_row_was_adopted(tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        ledger.write("s", 1, "adopted", "x", 1, 1, True)
        assert "adopted" not in ledger.get_session("s")[0].data
