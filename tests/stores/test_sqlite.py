"""The SQLite file: its schema, what it refuses, and what happens when somebody else touches it."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import stat
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from stores.kit import SIGNER, STRANGER, a_balance, add, an_entry, open_sqlite, run, said, say, tamper

from donewhen.entry import Entry
from donewhen.errors import LedgerError, LedgerFormatError, LedgerTamperedError, LedgerUnavailableError
from donewhen.ledger import Draft, Ledger
from donewhen.notes import Verifier
from donewhen.stores import Cosigned, forks, sqlite_connections, sqlite_reads, sqlite_schema, sqlite_transaction
from donewhen.testing import FakeClock

LEDGER_COLUMNS = [
    ("id", "INTEGER"),
    ("session_id", "TEXT"),
    ("turn_count", "INTEGER"),
    ("state_origin", "TEXT"),
    ("input_hash", "TEXT"),
    ("token_delta", "INTEGER"),
    ("execution_time_ms", "INTEGER"),
    ("pass_fail", "INTEGER"),
    ("breach_reason", "TEXT"),
    ("created_at", "TEXT"),
]
ATTESTATION_COLUMNS = [
    ("id", "INTEGER"),
    ("session_id", "TEXT"),
    ("reviewer", "TEXT"),
    ("attested_at", "TEXT"),
    ("notes", "TEXT"),
    ("frame_hash", "TEXT"),
]
TUTORIAL = """
CREATE TABLE ledger (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL, turn_count INTEGER NOT NULL,
 state_origin TEXT NOT NULL, input_hash TEXT NOT NULL, token_delta INTEGER NOT NULL, execution_time_ms INTEGER NOT NULL,
 pass_fail INTEGER NOT NULL, breach_reason TEXT, created_at TEXT NOT NULL)
"""


@pytest.fixture
def ledger(tmp_store):
    """Two written rows, an attested spec, and a reservation with its closing and a kept text."""
    with Ledger(tmp_store) as ledger:
        say(ledger, "one")
        say(ledger, "two")
        ledger.attest("s", "ann", "f" * 64, "fine")
        ceilings = [9, 999, None, None, None, None]
        ledger.note(Draft(an_entry("z", "open", data={"ceilings": ceilings}), {"task": "text"}))
        reserve = an_entry("z", "reserve", data={"reserve": [1, 10, 0, 0]})
        row = ledger.admit("z", lambda _: Draft(reserve))
        ledger.doubt_reservation("z", row.seq, Draft(an_entry("z", "abandoned", doubts=row.seq)))
        closing_entry = an_entry("z", "llm", closes=row.seq, data={"cost_microusd": 0})
        ledger.close_reservation("z", row.seq, lambda _balance, _held: (Draft(closing_entry), []))
        ledger.store.put_cosigned(Cosigned(2, "a witness", "its line", "now"))
        yield ledger


@pytest.fixture
def raw(ledger):
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as connection:
        yield connection


def columns(raw: sqlite3.Connection, name: str) -> list[tuple[str, str]]:
    return [(column[1], column[2]) for column in raw.execute(f"PRAGMA table_info({name})")]


# -- schema ------------------------------------------------------------------------------------------------------------


def test_the_views_have_the_tutorials_columns_and_types(raw) -> None:
    assert columns(raw, "ledger") == LEDGER_COLUMNS
    assert columns(raw, "attestations") == ATTESTATION_COLUMNS


def test_the_views_show_what_the_ledger_shows(raw, ledger) -> None:
    shown = raw.execute("SELECT * FROM ledger").fetchall()
    rows = ledger.get_all()
    assert [row[:8] for row in shown[:2]] == [
        (1, "s", 1, "one", rows[0].input_hash, 1, 1, 1),
        (2, "s", 1, "two", rows[1].input_hash, 1, 1, 1),
    ]
    assert [(row[0], row[8], row[9]) for row in shown] == [(row.id, row.breach_reason, row.created_at) for row in rows]
    (attestation,) = raw.execute("SELECT * FROM attestations")
    assert (attestation[0], *attestation[1:3], *attestation[4:]) == (3, "s", "ann", "fine", "f" * 64)


def test_what_stands_in_the_table_of_types_is_shown_nowhere(raw) -> None:
    views = {name: raw.execute(f"SELECT * FROM {name}").fetchall() for name in ("ledger", "attestations", "spec")}
    raw.execute("INSERT INTO shape (id, session_id, token_delta, reviewer) VALUES (1, 's', 999, 'eve')")
    assert {name: raw.execute(f"SELECT * FROM {name}").fetchall() for name in views} == views


def test_a_view_finds_a_session_by_its_index(raw) -> None:
    plan = raw.execute("EXPLAIN QUERY PLAN SELECT SUM(token_delta) FROM ledger WHERE session_id = 's'").fetchall()
    assert any("USING INDEX entries_by_session" in step[3] for step in plan)


def test_the_columns_hold_what_their_types_say(raw) -> None:
    for view, wanted in (("ledger", LEDGER_COLUMNS), ("attestations", ATTESTATION_COLUMNS)):
        kinds = {"INTEGER": "integer", "TEXT": "text"}
        for name, declared in wanted:
            found = {kind for (kind,) in raw.execute(f"SELECT typeof({name}) FROM {view}")}
            assert found - {"null"} <= {kinds[declared]}, name


def test_the_tutorials_sql_works(raw) -> None:
    assert raw.execute("SELECT SUM(token_delta) FROM ledger WHERE session_id = ?", ("s",)).fetchone() == (2,)
    assert raw.execute("SELECT COUNT(*) FROM ledger WHERE pass_fail = 1").fetchone() == (4,)
    assert raw.execute("SELECT state_origin FROM ledger ORDER BY id LIMIT 2").fetchall() == [("one",), ("two",)]


TABLES = ("entries", "sealed", "cosigned", "log", "ledger", "attestations", "spec")


@pytest.mark.parametrize("table", TABLES)
def test_nothing_can_be_updated_or_deleted(raw, table) -> None:
    before = list(raw.iterdump())
    for statement in (
        f"UPDATE {table} SET id = 1" if table != "sealed" else "UPDATE sealed SET start = 0",
        f"UPDATE OR REPLACE {table} SET {'size' if table == 'sealed' else 'id'} = 1",
        f"DELETE FROM {table}",
    ):
        with pytest.raises(sqlite3.Error, match=r"append-only|is a view"):
            raw.execute(statement)
    assert list(raw.iterdump()) == before


COPY = "SELECT 1, body FROM entries WHERE id = 1"
REPLACING = {
    "the id": f"INSERT OR REPLACE INTO entries (id, body) {COPY}",
    "the session and seq": "INSERT OR REPLACE INTO entries (id, body) SELECT 8, body FROM entries WHERE id = 2",
    "closes": "INSERT OR REPLACE INTO entries (id, body) SELECT 8, json_set(body, '$.seq', 99) FROM entries"
    " WHERE closes IS NOT NULL",
    "doubts": "INSERT OR REPLACE INTO entries (id, body) SELECT 8, json_set(body, '$.seq', 99) FROM entries"
    " WHERE doubts IS NOT NULL",
    "a gap": "INSERT INTO entries (id, body) SELECT 99, json_set(body, '$.seq', 99) FROM entries WHERE id = 1",
    "a negative id": "INSERT INTO entries (id, body) SELECT -1, json_set(body, '$.seq', 99) FROM entries WHERE id = 1",
    "no id": "INSERT INTO entries (body) SELECT json_set(body, '$.seq', 99) FROM entries WHERE id = 1",
    "a checkpoint": "INSERT OR REPLACE INTO sealed SELECT * FROM sealed",
    "an old checkpoint": "INSERT INTO sealed SELECT 0, 0, note, nodes FROM sealed LIMIT 1",
    "a cosignature": "INSERT OR REPLACE INTO cosigned SELECT * FROM cosigned",
    "a cosignature by its id": "INSERT OR REPLACE INTO cosigned SELECT id, size, vkey, 'x', at FROM cosigned",
    "a cosignature by what it says": "INSERT OR REPLACE INTO cosigned (size, vkey, line, at)"
    " SELECT size, vkey, line, 'x' FROM cosigned",
    "a cosignature of nothing": "INSERT INTO cosigned (size, vkey, line, at) VALUES (99, 'w', 'x', 'now')",
    "the log": "INSERT OR REPLACE INTO log (id, origin) VALUES (1, 'mine')",
    "a second log": "INSERT INTO log (id, origin) VALUES (2, 'mine')",
    "a text": "INSERT OR REPLACE INTO texts (entry_id, label, salt, body) SELECT entry_id, label, salt, 'x' FROM texts",
    "a text by its id": "INSERT OR REPLACE INTO texts (id, entry_id, label, salt, body) SELECT id, 1, 'l', salt, 'x'"
    " FROM texts",
    "the text itself": "UPDATE texts SET body = 'x'",
    "the view": "INSERT INTO ledger (id) VALUES (1)",
    "the attestations": "REPLACE INTO attestations (id) VALUES (1)",
    "the spec": "INSERT INTO spec (id) VALUES (1)",
}


@pytest.mark.parametrize("what", sorted(REPLACING))
def test_nothing_can_be_replaced(raw, what) -> None:
    before = list(raw.iterdump())
    assert raw.execute("SELECT max(id) FROM entries").fetchone() == (7,)
    with pytest.raises(sqlite3.Error, match=r"append-only|is a view|only erased|one first key"):
        raw.execute(REPLACING[what])
    assert list(raw.iterdump()) == before


def test_a_kept_text_can_be_erased(raw, ledger) -> None:
    (row,) = [row for row in ledger.rows("z") if row.kind == "open"]
    assert ledger.find_text(row, "task") == "text"
    raw.execute("UPDATE texts SET salt = zeroblob(32), body = zeroblob(length(body))")
    assert ledger.find_text(row, "task") is None


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM texts",
        "UPDATE texts SET body = zeroblob(length(body))",
        "UPDATE texts SET salt = zeroblob(32)",
        "UPDATE texts SET salt = zeroblob(32), body = zeroblob(1)",
        "UPDATE texts SET salt = zeroblob(32), body = zeroblob(length(body)), label = 'other'",
        "UPDATE texts SET salt = zeroblob(32), body = zeroblob(length(body)), entry_id = 1",
    ],
)
def test_a_kept_text_goes_in_no_other_way(raw, ledger, statement) -> None:
    (row,) = [row for row in ledger.rows("z") if row.kind == "open"]
    with pytest.raises(sqlite3.Error, match="only erased"):
        raw.execute(statement)
    assert ledger.find_text(row, "task") == "text"


def test_a_changed_text_is_noticed(ledger) -> None:
    (row,) = [row for row in ledger.rows("z") if row.kind == "open"]
    tamper(Path(ledger.path), "UPDATE texts SET body = CAST('tex+' AS BLOB)")
    with pytest.raises(LedgerTamperedError, match="committed to") as caught:
        ledger.find_text(row, "task")
    assert caught.value.row_id == row.id


@pytest.mark.parametrize("kinds", [None, ("llm", "write")])
def test_reading_a_session_does_not_scan(raw, kinds) -> None:
    marks = "" if kinds is None else f" AND kind IN ({', '.join(repr(kind) for kind in kinds)})"
    plan = raw.execute(f"EXPLAIN QUERY PLAN {sqlite_reads._SESSION}{marks} ORDER BY seq", ("s",)).fetchall()
    assert [line[3] for line in plan] == ["SEARCH entries USING INDEX entries_by_session (session_id=?)"]


@pytest.mark.parametrize("name", ["HEAD", "_ROW", "_CLOSING", "_DOUBTING", "SEALED_AT"])
def test_what_a_turn_reads_is_found_by_an_index(raw, name) -> None:
    sql = getattr(sqlite_transaction, name)
    plan = raw.execute(f"EXPLAIN QUERY PLAN {sql}", ("s", 1)[: sql.count("?")]).fetchall()
    assert all("SEARCH" in line[3] for line in plan), plan


def test_full_sync_and_a_write_ahead_log(ledger) -> None:
    writer = ledger.store._connections.writer
    assert writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# -- the file ----------------------------------------------------------------------------------------------------------


def test_a_closed_ledger_is_one_whole_file(ledger, tmp_path) -> None:
    rows = ledger.get_all()
    ledger.close()
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith(("-wal", "-shm"))]
    shutil.copy(ledger.path, tmp_path / "copy.db")
    with Ledger(tmp_path / "copy.db") as copy:
        assert copy.get_all() == rows


def test_a_ledger_that_is_dropped_closes_itself(tmp_store) -> None:
    out = run("from donewhen.ledger import Ledger; import sys; Ledger(sys.argv[1]).get_all()", tmp_store)
    say(Ledger(tmp_store))
    gc.collect()
    assert (out, tmp_store.with_name("ledger.db-wal").exists()) == ("", False)


@pytest.mark.parametrize("odd", ["a b", "50%", "a?b#c", "ü", "a'b"])
def test_any_file_name_will_do(tmp_path, odd) -> None:
    with Ledger(tmp_path / odd) as ledger:
        say(ledger, "here")
    assert said(tmp_path / odd) == ["here"]


@pytest.mark.parametrize("path", [":memory:", "file:x.db"])
def test_a_ledger_must_be_a_file(path) -> None:
    with pytest.raises(LedgerUnavailableError, match="must be a file"):
        Ledger(path)


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path) -> None:
    with pytest.raises(LedgerUnavailableError, match="unable to open") as caught:
        Ledger(tmp_path / "no" / "ledger.db")
    assert caught.value.stored is False
    with pytest.raises(LedgerUnavailableError, match="there is no file"):
        Ledger(tmp_path / "ledger.db", read_only=True)
    assert not list(tmp_path.iterdir())


def test_an_empty_file_becomes_a_ledger(tmp_store) -> None:
    tmp_store.touch()
    with Ledger(tmp_store) as ledger:
        assert say(ledger) == 1


@pytest.mark.parametrize("size", [0, 3])
def test_an_empty_file_is_no_ledger_to_read(tmp_store, size) -> None:
    tmp_store.write_bytes(b"\0" * size)
    with pytest.raises((LedgerFormatError, LedgerUnavailableError)):
        Ledger(tmp_store, read_only=True)
    assert tmp_store.stat().st_size == size


@pytest.mark.parametrize("content", [b"hello\n", b"# notes\n" * 2000, bytes(range(256)) * 64, b"\0" * 8192])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_store, content, read_only) -> None:
    tmp_store.write_bytes(content)
    with pytest.raises(LedgerFormatError, match="not a database"):
        Ledger(tmp_store, read_only=read_only)
    assert tmp_store.read_bytes() == content


def test_the_tutorials_database_is_named_and_left_alone(tmp_store) -> None:
    with closing(sqlite3.connect(tmp_store)) as raw, raw:
        raw.execute(TUTORIAL)
    before = tmp_store.read_bytes()
    for read_only in (False, True):
        with pytest.raises(LedgerFormatError, match=r"donewhen adopt .*ledger\.db"):
            Ledger(tmp_store, read_only=read_only)
    assert tmp_store.read_bytes() == before


def test_another_programs_database_and_a_newer_version_are_refused(tmp_path) -> None:
    for name, statement in (("other", "CREATE TABLE t (x)"), ("marked", "PRAGMA application_id = 7")):
        with closing(sqlite3.connect(tmp_path / name)) as raw, raw:
            raw.execute(statement)
        with pytest.raises(LedgerFormatError, match="something else"):
            Ledger(tmp_path / name)
    Ledger(tmp_path / "new").close()
    tamper(tmp_path / "new", f"PRAGMA user_version = {len(sqlite_schema.MIGRATIONS) + 1}")
    with pytest.raises(LedgerFormatError, match="Upgrade"):
        Ledger(tmp_path / "new")


def test_a_schema_that_cannot_be_finished_is_not_begun(tmp_store, monkeypatch) -> None:
    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half (x)")
        raise sqlite3.OperationalError("by order")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_schema, "MIGRATIONS", (broken,))
        with pytest.raises(LedgerUnavailableError, match="by order"):
            Ledger(tmp_store)
    with closing(sqlite3.connect(tmp_store)) as raw:
        assert raw.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    with Ledger(tmp_store) as ledger:
        assert say(ledger) == 1


# -- somebody else touches it ------------------------------------------------------------------------------------------


def test_a_file_that_was_deleted_is_not_made_again(tmp_store) -> None:
    ledger = Ledger(tmp_store)
    say(ledger)
    tmp_store.unlink()
    for attempt in (lambda: say(ledger), ledger.get_all, lambda: say(ledger)):
        with pytest.raises(LedgerUnavailableError, match="was removed while it was open, with 1 rows") as caught:
            attempt()
        assert caught.value.stored is False
    ledger.close()
    with pytest.raises(LedgerUnavailableError, match="was removed"):
        say(ledger)
    assert not tmp_store.exists()


@pytest.mark.parametrize("is_open", [True, False])
def test_a_file_that_another_ledger_replaced_is_refused_each_time(tmp_store, tmp_path, is_open) -> None:
    ledger = Ledger(tmp_store)
    say(ledger)
    origin = ledger.origin
    with Ledger(tmp_path / "other.db") as other:
        for _ in range(3):
            say(other, "foreign")
    if not is_open:
        ledger.close()
    os.replace(tmp_path / "other.db", tmp_store)
    content = tmp_store.read_bytes()
    for attempt in (lambda: say(ledger), ledger.get_all, lambda: say(ledger), lambda: ledger.get_session("s")):
        with pytest.raises(LedgerTamperedError, match="replaced") as caught:
            attempt()
        assert caught.value.row_id == 1
    assert ledger.origin == origin
    ledger.close()
    assert tmp_store.read_bytes() == content


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("signer", [None, SIGNER])
def test_a_file_that_an_older_copy_of_itself_replaced_is_refused(tmp_store, tmp_path, signer, is_open) -> None:
    ledger = Ledger(tmp_store, signer=signer)
    say(ledger)
    ledger.close()
    shutil.copy(tmp_store, tmp_path / "old.db")
    say(ledger)
    if not is_open:
        ledger.close()
    os.replace(tmp_path / "old.db", tmp_store)
    for _ in range(2):
        with pytest.raises(LedgerTamperedError, match=r"lacks the 2 rows|with 2 rows. Put the file back"):
            say(ledger)
    ledger.close()


def test_an_identical_copy_in_its_place_is_gone_on_with(tmp_store, tmp_path) -> None:
    ledger = Ledger(tmp_store)
    say(ledger)
    ledger.close()
    shutil.copy(tmp_store, tmp_path / "copy.db")
    say(Ledger(tmp_path / "copy.db"), "by somebody")
    gc.collect()
    os.replace(tmp_path / "copy.db", tmp_store)
    assert say(ledger, "by us") == 3
    ledger.close()
    assert said(tmp_store) == ["note", "by somebody", "by us"]


def test_a_ledger_begun_anew_with_another_key_is_not_written_to(tmp_store) -> None:
    ledger = Ledger(tmp_store, signer=SIGNER)
    say(ledger)
    ledger.close()
    tmp_store.unlink()
    Ledger(tmp_store, signer=STRANGER).close()
    with pytest.raises(LedgerError, match=r"signed by the key of donewhen/"):
        say(ledger)


@pytest.mark.parametrize("size", [0, 100, 4096, 5000, 20000])
def test_a_file_that_was_cut_off_is_never_written_over_in_silence(tmp_store, size) -> None:
    ledger = Ledger(tmp_store)
    for _ in range(20):
        say(ledger)
    ledger.close()
    os.truncate(tmp_store, size)
    for attempt in (lambda: say(ledger), ledger.get_all):
        with pytest.raises(LedgerError):
            attempt()


def test_a_damaged_page_is_told_as_a_damaged_file(tmp_store) -> None:
    ledger = Ledger(tmp_store)
    for _ in range(50):
        say(ledger)
    ledger.close()
    content = bytearray(tmp_store.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    tmp_store.write_bytes(content)
    with pytest.raises(LedgerFormatError, match="damaged"):
        say(ledger)


# -- reading only ------------------------------------------------------------------------------------------------------


def test_a_ledger_opened_for_reading_writes_nothing(ledger, tmp_path) -> None:
    names = {path.name for path in tmp_path.iterdir()}
    with Ledger(ledger.path, read_only=True) as reader:
        assert reader.get_all() == ledger.get_all()
        assert (reader.origin, reader.signed_by) == (ledger.origin, None)
        with pytest.raises(LedgerUnavailableError, match="reading only") as caught:
            say(reader)
        assert caught.value.stored is False
        say(ledger, "three")
        assert reader.get_session("s")[-1].state_origin == "three"
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_signed_ledger_is_read_without_its_key(tmp_store) -> None:
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        say(ledger)
    with Ledger(tmp_store, read_only=True) as reader:
        key = Verifier.parse(SIGNER.vkey).named(reader.origin)
        assert (len(reader.get_all()), reader.signed_by) == (1, key.vkey)


def test_a_ledger_is_read_where_sqlite_can_make_no_file_of_its_own(ledger, monkeypatch) -> None:
    ledger.close()
    real = sqlite3.connect

    def on_a_full_disk(path: str, *args: object, **options: object) -> sqlite3.Connection:
        if "immutable" not in path:
            raise sqlite3.OperationalError("unable to open database file")
        return real(path, *args, **options)

    monkeypatch.setattr(sqlite_connections.sqlite3, "connect", on_a_full_disk)
    with Ledger(ledger.path, read_only=True) as reader:
        assert len(reader.rows("s")) == 3
    Path(ledger.path + "-wal").write_bytes(b"")
    with pytest.raises(LedgerUnavailableError, match="unable to open"):
        Ledger(ledger.path, read_only=True)


READ_ONLY_DISK = """
import sys
from donewhen.errors import LedgerUnavailableError
from donewhen.ledger import Ledger
import sqlite3
ledger = Ledger(sys.argv[1])
ledger.store._connections.writer.execute("PRAGMA query_only = ON")
try:
    ledger.write("s", 1, "lost", "x", 1, 1, True)
except LedgerUnavailableError as error:
    print(error.stored, "readonly" in str(error))
ledger.close()
"""


def test_a_file_that_cannot_be_written_is_told(ledger) -> None:
    assert run(READ_ONLY_DISK, ledger.path) == "False True\n"
    assert len(ledger.get_all()) == 4


# -- a commit that fails -----------------------------------------------------------------------------------------------

FULL = """
import resource, signal, sys
from donewhen.errors import LedgerUnavailableError
from donewhen.ledger import Ledger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger = Ledger(sys.argv[1])
last = ledger.write("s", 1, "0", "x", 1, 1, True)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
for number in range(1, 2000):
    try:
        last = ledger.write("s", 1, str(number), "x", 1, 1, True)
    except LedgerUnavailableError as error:
        print(error.stored, number)
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(len(ledger.get_all()), ledger.write("s", 1, "after", "x", 1, 1, True))
ledger.close()
"""


@pytest.mark.parametrize("limit", [110_000, 200_000, 300_001])
def test_a_full_disk_is_told_with_what_is_stored(tmp_store, limit) -> None:
    with Ledger(tmp_store):
        first, second = run(FULL, tmp_store, limit).splitlines()
        stored, number = first.split()
        rows, after = second.split()
    # Before Python 3.11 SQLite's reason cannot be read, and then nobody claims to know.
    assert stored == ("False" if sys.version_info >= (3, 11) else "None")
    assert (rows, int(after)) == (number, int(number) + 1)
    assert said(tmp_store) == [*map(str, range(int(number))), "after"]


class Fails(sqlite3.Connection):
    """A connection whose COMMIT reports an error, before or after it has committed."""

    order: str | None = None
    code: int | None = None

    def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
        if sql == "ROLLBACK" and self.order == "rollback":
            raise sqlite3.OperationalError("no rollback")
        if self.order is not None and sql == "COMMIT":
            if self.order == "stored":
                super().execute(sql)
            if self.order == "gone":
                super().execute("ROLLBACK")
                self.close()
            error = sqlite3.OperationalError("disk I/O error")
            if self.code is not None:
                error.sqlite_errorcode = self.code
            raise error
        return super().execute(sql, *parameters)


@pytest.fixture
def failing(tmp_store, monkeypatch):
    real = sqlite3.connect
    monkeypatch.setattr(
        sqlite_connections.sqlite3, "connect", lambda *args, **options: real(*args, factory=Fails, **options)
    )
    with Ledger(tmp_store) as ledger:
        say(ledger)
        yield ledger
        Fails.order = Fails.code = None


@pytest.mark.parametrize(
    ("order", "code", "told", "count"),
    [
        ("unstored", 778, False, 1),
        ("stored", 778, True, 2),
        ("unstored", 1034, None, 1),
        ("stored", None, None, 2),
        ("gone", 778, None, 1),
        ("rollback", 778, None, 1),
    ],
)
def test_a_commit_that_reports_an_error_is_looked_into(failing, order, code, told, count) -> None:
    Fails.order, Fails.code = order, code
    with pytest.raises(LedgerUnavailableError, match="the commit failed") as caught:
        say(failing)
    Fails.order = None
    assert caught.value.stored is told
    assert len(failing.get_all()) == count
    assert say(failing) == count + 1


# -- forks -------------------------------------------------------------------------------------------------------------


def test_a_store_that_cannot_be_paused_is_left_to_the_parent(tmp_store, monkeypatch) -> None:
    store = open_sqlite(tmp_store)
    with store.writing() as tx:
        assert store.pause_for_fork() is False
        tx.append(an_entry(), ())
    assert store.pause_for_fork() is True
    store.resume_after_fork()
    before = (store._write_lock, store._read_lock)
    store.start_as_child()
    assert not {id(lock) for lock in before} & {id(store._write_lock), id(store._read_lock)}
    store.close()


def test_a_system_without_fork_needs_no_hook(tmp_store, monkeypatch) -> None:
    monkeypatch.setattr(forks, "_hooked", False)
    monkeypatch.delattr(os, "register_at_fork")
    with Ledger(tmp_store) as ledger:
        assert (say(ledger), forks._hooked) == (1, False)


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_a_thread_that_writes_too_long_is_told(tmp_store) -> None:
    store = open_sqlite(tmp_store, wait_seconds=0.02)
    faults: list[BaseException] = []

    def waits() -> None:
        try:
            add(store, an_entry())
        except LedgerUnavailableError as fault:
            faults.append(fault)

    with store.writing():
        thread = threading.Thread(target=waits)
        thread.start()
        thread.join(20)
    assert ["another thread" in str(fault) for fault in faults] == [True]
    assert add(store, an_entry())[0].id == 1
    store.close()


def test_somebody_elses_open_transaction_is_waited_for_and_told(ledger, monkeypatch) -> None:
    ledger.close()
    store = open_sqlite(Path(ledger.path), wait_seconds=0.02)
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailableError, match="locked") as caught:
            add(store, an_entry())
        raw.execute("ROLLBACK")
    assert caught.value.stored is False
    assert add(store, an_entry())[0].id == 8
    store.close()


def test_switching_to_a_write_ahead_log_is_tried_until_the_wait_is_over() -> None:
    class Locked:
        says = "database is locked"

        def execute(self, sql: str) -> None:
            raise sqlite3.OperationalError(self.says)

    clock, locked = FakeClock(), Locked()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite_connections.use_wal(locked, 1.0, clock.monotonic, clock.sleep)
    assert 1.0 <= sum(clock.slept) < 1.1
    locked.says = "disk is full"
    with pytest.raises(sqlite3.OperationalError, match="full"):
        sqlite_connections.use_wal(locked, 1.0, clock.monotonic, lambda _: pytest.fail("waited"))


def indexed(path: Path):
    """Make a ledger with a balance that a row of another session leaves."""
    with closing(open_sqlite(path)) as store, store.writing() as tx:
        tx.append(an_entry("pool"), (a_balance("pool", 1),))
        tx.append(an_entry("a"), (a_balance("pool", 2), a_balance("a", 2)))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE balances SET entry_id = 1",
        "UPDATE OR REPLACE balances SET name = 'mine'",
        "DELETE FROM balances",
        "INSERT OR REPLACE INTO balances SELECT * FROM balances",
        "INSERT INTO balances VALUES ('pool', 1)",
        "INSERT INTO balances VALUES ('pool', 3)",
        "INSERT INTO balances VALUES ('pool', NULL)",
    ],
)
def test_what_is_listed_for_a_balance_stays(tmp_store, statement) -> None:
    indexed(tmp_store)
    with closing(sqlite3.connect(tmp_store)) as raw:
        with pytest.raises(sqlite3.Error, match="append-only"):
            raw.execute(statement)
        assert raw.execute("SELECT * FROM balances").fetchall() == [("pool", 2)]


def test_a_row_that_does_not_leave_the_balance_it_is_listed_for_is_refused(tmp_store) -> None:
    indexed(tmp_store)
    tamper(tmp_store, "INSERT INTO balances VALUES ('other', 2)")
    with closing(open_sqlite(tmp_store)) as store:
        for look in (lambda tx: tx.balance("other"), lambda _: store.find_balance("other")):
            with pytest.raises(LedgerTamperedError, match=r"row 2.*'other'"), store.writing() as tx:
                look(tx)


def test_a_changed_row_that_is_listed_for_a_balance_is_refused(tmp_store) -> None:
    indexed(tmp_store)
    tamper(tmp_store, "UPDATE entries SET body = json_set(body, '$.after[0].spent[1]', 0) WHERE id = 2")
    with closing(open_sqlite(tmp_store)) as store:
        for read in ("balance", "head"):
            with pytest.raises(LedgerTamperedError, match="not the one that was sealed"), store.writing() as tx:
                getattr(tx, read)({"balance": "pool", "head": "a"}[read])


def test_a_session_without_a_budget_lists_nothing(tmp_store) -> None:
    with closing(open_sqlite(tmp_store)) as store, store.writing() as tx:
        tx.append(an_entry("a"), (a_balance("a"),))
        tx.append(an_entry("a"), (a_balance("a"),))
    with closing(sqlite3.connect(tmp_store)) as raw:
        assert raw.execute("SELECT count(*) FROM balances").fetchone() == (0,)


def test_only_so_many_heads_are_remembered(tmp_store, monkeypatch) -> None:
    monkeypatch.setattr(sqlite_transaction, "MOST_HEADS", 3)
    store = open_sqlite(tmp_store)
    for turn in range(3):
        rows = [add(store, an_entry(str(number)))[0] for number in range(9)]
        assert {row.seq for row in rows} == {turn + 1}
        assert len(store._known.heads) <= 4
    store.close()


# -- leaks -------------------------------------------------------------------------------------------------------------


def test_a_ledger_that_cannot_be_opened_leaves_no_file_open(tmp_path) -> None:
    (tmp_path / "text").write_text("hello")
    Ledger(tmp_path / "signed", signer=SIGNER).close()
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    for name in ("text", "signed"):
        with pytest.raises(LedgerError):
            Ledger(tmp_path / name)
    gc.collect()
    after = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    assert len(after) <= len(before) + 2  # the turnstile's two files go with the store


def test_the_file_has_the_folders_permissions_and_no_more(ledger) -> None:
    mode = stat.S_IMODE(os.stat(ledger.path).st_mode)
    assert mode & 0o111 == 0


def test_the_kinds_in_the_views_are_the_visible_ones(raw) -> None:
    entry = Entry(kind="close", session_id="z", state_origin="close")
    assert entry.kind not in {kind for (kind,) in raw.execute("SELECT state_origin FROM ledger")}
