"""The SQLite database around the rows: the schema to the letter, and indexes that list what the rows say."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from auditing import KEY, ROWS, attack, fill

from donewhen.errors import LedgerFormatError, LedgerTamperedError
from donewhen.ledger import Ledger
from donewhen.verify import sqlite_schema as verify_schema
from donewhen.verify import verify_ledger

LIES = {
    "a row is hidden from its session": ("$.session", "iif(id = 7, 'hidden', {})"),
    "a row is shown in another session": ("$.session", "iif(id = 10, 'w', {})"),
    "two rows change places": ("$.seq", "iif(id IN (13, 14), 7 - {}, {})"),
    "a row has another place": ("$.seq", "iif(id = 16, 99, {})"),
    "a reservation looks closed": ("$.closes", "iif(id = 16, 3, {})"),
    "a reservation looks open": ("$.closes", "iif(id = 4, NULL, {})"),
    "another reservation looks closed": ("$.closes", "iif(id = 4, 9, {})"),
    "a reservation does not look doubted": ("$.doubts", "iif(id = 14, NULL, {})"),
    "a place is text": ("$.seq", "iif(id = 16, x'36', {})"),
    "a session is bytes": ("$.session", "iif(id = 7, CAST({} AS BLOB), {})"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "ledger.db"
    fill(path)
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path / "ledger.db"))


def let_an_index_lie(path: Path, column: str, lie: str) -> None:
    """Let the indexes be made of another expression than the one that the schema then states."""
    ours = f"json_extract(body, '{column}')"
    change = "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = 'entries'"
    theirs = lie.replace("{}", ours)
    for old, new, then in ((ours, theirs, True), (theirs, ours, False)):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute(change, (old, new))
        if then:
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("REINDEX")


@pytest.mark.parametrize("name", LIES)
def test_an_index_that_lies_is_caught(path: Path, name: str) -> None:
    let_an_index_lie(path, *LIES[name])
    with pytest.raises(LedgerTamperedError, match=r"entries_(by_session|close_once|doubt_once)|NULL value"):
        verify_ledger(path, KEY)


@pytest.mark.parametrize("name", LIES)
def test_it_is_caught_by_sqlite_s_own_check_too(path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_schema, "_works_out", lambda *_: True)
    assert verify_ledger(shutil.copy(path, path.with_name("honest.db")), KEY).rows == ROWS
    let_an_index_lie(path, *LIES[name])
    with pytest.raises(LedgerTamperedError, match="does not hold together"):
        verify_ledger(path, KEY)


def test_our_own_check_asks_the_indexes_and_not_the_rows(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        works_out = verify_schema._works_out
        assert works_out(connection, "SELECT session_id FROM entries NOT INDEXED")
        for column, (index, condition) in verify_schema._INDEXES.items():
            sql = verify_schema._LISTED.format(column=column, index=index, condition=condition)
            assert not works_out(connection, sql)


@pytest.mark.parametrize("table", ["log", "sealed", "cosigned", "texts"])
def test_an_old_sqlite_without_a_check_of_one_table_checks_all(
    path: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_schema, "_HAS_CHECK_OF_A_TABLE", (99, 0, 0))
    assert verify_ledger(path, KEY).rows == ROWS


def test_an_index_of_a_small_table_that_hides_a_text_is_caught(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = sql || ' WHERE id <> 2' WHERE name = 'texts_by_entry'")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("REINDEX")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, ' WHERE id <> 2', '') WHERE name = 'texts_by_entry'"
        )
    with pytest.raises(LedgerTamperedError):
        verify_ledger(path, KEY)


def test_a_table_that_must_be_empty_is(path: Path) -> None:
    attack(path, "INSERT INTO shape (id) VALUES (1)")
    with pytest.raises(LedgerTamperedError, match="'shape' of the database has rows"):
        verify_ledger(path, KEY)


HIDDEN = {
    "a trigger named as statistics": ["CREATE TRIGGER sqlite_stat1 AFTER INSERT ON texts BEGIN SELECT 1; END"],
    "a view named as statistics": ["CREATE VIEW sqlite_stat4 AS SELECT body FROM texts"],
    "a table of texts named as statistics": ["CREATE TABLE sqlite_stat4 AS SELECT body FROM texts"],
    "a trigger named as a table": ["CREATE TRIGGER texts AFTER INSERT ON entries BEGIN SELECT 1; END"],
    "a trigger named as a table that is read after it": [
        "CREATE TRIGGER texts AFTER INSERT ON entries BEGIN SELECT 1; END",
        "UPDATE sqlite_master SET rowid = rowid + 1000 WHERE tbl_name = 'texts'",
    ],
}


@pytest.mark.parametrize("name", HIDDEN)
def test_nothing_hides_behind_a_name_that_is_known(path: Path, name: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for statement in HIDDEN[name]:
            connection.execute(statement)
    for fast in (False, True):
        with pytest.raises(LedgerTamperedError, match="of the database is not ours"):
            verify_ledger(path, KEY, fast=fast)


def test_the_statistics_of_sqlite_are_no_change(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("ANALYZE")
    assert verify_ledger(path, KEY).not_proven is None


@pytest.mark.parametrize("kind", ["trigger", "view", "index", "table"])
def test_every_part_of_the_schema_is_missed(path: Path, tmp_path: Path, kind: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = ? AND sql IS NOT NULL", (kind,)
            )
        ]
    assert names
    for name in names:
        copy = Path(shutil.copy(path, tmp_path / f"without {name}.db"))
        with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            connection.execute(f"DROP {kind} {name}")
        for fast in (False, True):
            with pytest.raises((LedgerTamperedError, LedgerFormatError), match=rf"{kind} '\w+' of the database"):
                verify_ledger(copy, KEY, fast=fast)


def test_a_database_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16le'")
        connection.execute("CREATE TABLE x (y)")
        connection.execute("DROP TABLE x")
    Ledger(path).close()
    with pytest.raises(LedgerTamperedError, match="encoding is UTF-16le"):
        verify_ledger(path, None)
