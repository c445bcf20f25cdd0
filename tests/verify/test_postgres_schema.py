"""The PostgreSQL database around the rows: the schema to the letter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from auditing import KEY, fill
from postgres_server import APP, OWNER, a_copy, a_database, execute, url_of

from donewhen.errors import LedgerFormatError, LedgerTamperedError, LedgerUnavailableError
from donewhen.verify import verify_ledger


@pytest.fixture(scope="module")
def made() -> Iterator[str]:
    with a_database() as name:
        fill(url_of(name, role=APP))
        yield name


@pytest.fixture
def database(made: str) -> Iterator[str]:
    with a_copy(made) as name:
        yield name


CHANGES = {
    "DROP TRIGGER entries_append_only ON donewhen.entries": "trigger 'entries_append_only' of the database is missing",
    "ALTER TABLE donewhen.sealed DISABLE TRIGGER sealed_append_only": "trigger 'sealed_append_only'.*was changed",
    "ALTER TABLE donewhen.texts DISABLE TRIGGER ALL": "'texts.*was changed",
    "CREATE OR REPLACE FUNCTION donewhen.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'": "function 'refuse",
    "CREATE OR REPLACE VIEW donewhen.spec AS SELECT id, 'x'::text AS session_id, what_it_does, what_it_does_not,"
    " done_looks_like, created_at FROM donewhen.spec WHERE id > 0": "view 'spec' of the database was changed",
    "CREATE RULE r AS ON INSERT TO donewhen.entries DO INSTEAD NOTHING": "table 'entries' of the database was changed",
    "ALTER TABLE donewhen.entries ALTER session DROP EXPRESSION": "table 'entries' of the database was changed",
    "ALTER TABLE donewhen.entries ADD note text": "table 'entries' of the database was changed",
    "ALTER TABLE donewhen.entries ENABLE ROW LEVEL SECURITY": "table 'entries' of the database was changed",
    "ALTER TABLE donewhen.entries SET UNLOGGED": "table 'entries' of the database was changed",
    "CREATE TABLE more () INHERITS (donewhen.entries)": "table 'entries' of the database was changed",
    "CREATE TABLE donewhen.mine (x int)": "table 'mine' of the database is not ours",
    "DROP INDEX donewhen.entries_close_once": "index 'entries_close_once' of the database is missing",
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'donewhen.entries_by_session'::regclass": "index",
    "DROP VIEW donewhen.attestations": "view 'attestations' of the database is missing",
    "ALTER TABLE donewhen.sealed DROP CONSTRAINT sealed_pkey CASCADE": "'(cosigned|sealed)",
    "CREATE TRIGGER entries_append_only BEFORE INSERT ON donewhen.balances FOR EACH ROW"
    " EXECUTE FUNCTION donewhen.erase_only(); DROP TRIGGER entries_append_only ON donewhen.entries; CREATE TRIGGER"
    " entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON donewhen.entries FOR EACH STATEMENT"
    " EXECUTE FUNCTION donewhen.refuse()": "trigger 'entries_append_only' of the database is not ours",
    "CREATE VIEW donewhen.entries_append_only AS SELECT 1": "view 'entries_append_only' of the database is not ours",
    "CREATE FUNCTION donewhen.readable(body text, less int) RETURNS int LANGUAGE sql RETURN 1;"
    " ALTER FUNCTION donewhen.readable(text) COST 101; ALTER FUNCTION donewhen.readable(text) COST 100": "function 'readable",
    "CREATE COLLATION donewhen.\"C\" (provider = icu, locale = 'und-u-ks-level1', deterministic = false);"
    ' ALTER TABLE donewhen.log ALTER vkey TYPE text COLLATE donewhen."C"': "table 'log' of the database was changed",
}


@pytest.mark.parametrize(
    ("view", "word"), [("attestations", "'attest'"), ("ledger", "'tool'"), ("spec", "'what_it_does'")]
)
def test_a_view_that_is_ours_but_for_a_word_that_begins_with_the_schema_s_name_is_refused(
    database: str, view: str, word: str
) -> None:
    """`donewhen.attest` is no kind, so the view would show no attestation."""
    address = url_of(database, allow_system_table_mods="on")
    [(shown,)] = execute(address, f"SELECT pg_get_viewdef('donewhen.{view}'::regclass)")
    assert word in shown
    before = execute(address, f"SELECT count(*) FROM donewhen.{view}")
    execute(
        address, f"CREATE OR REPLACE VIEW donewhen.{view} AS {shown.replace(word, word[0] + 'donewhen.' + word[1:])}"
    )
    assert execute(address, f"SELECT count(*) FROM donewhen.{view}") != before or view == "spec"
    with pytest.raises(LedgerTamperedError, match=f"view '{view}' of the database was changed"):
        verify_ledger(url_of(database, role=APP), KEY)


@pytest.mark.parametrize("statement", CHANGES)
@pytest.mark.parametrize("fast", [False, True])
def test_whatever_is_changed_is_named(database: str, statement: str, *, fast: bool) -> None:
    if statement.endswith("SET UNLOGGED"):
        execute(url_of(database), "ALTER TABLE donewhen.texts SET UNLOGGED")  # which refers to the other
    execute(url_of(database, allow_system_table_mods="on"), statement)
    with pytest.raises(LedgerTamperedError, match=CHANGES[statement]):
        verify_ledger(url_of(database, role=APP), KEY, fast=fast)


def test_statistics_grants_and_owners_are_no_change(database: str) -> None:
    execute(
        url_of(database),
        "ANALYZE",
        "VACUUM",
        f"GRANT ALL ON ALL TABLES IN SCHEMA donewhen TO {APP}",
        f"REASSIGN OWNED BY {OWNER} TO postgres",
    )
    assert verify_ledger(url_of(database, role=APP), KEY).not_proven is None


def test_nothing_is_left_of_the_schema_that_ours_is_held_against(database: str) -> None:
    objects = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'v')"
    before = execute(url_of(database), objects)
    verify_ledger(url_of(database, role=APP), KEY)
    assert execute(url_of(database), objects) == before


def test_a_role_that_may_not_make_temporary_tables_is_told_so(database: str) -> None:
    execute(url_of(database), f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
    with pytest.raises(LedgerUnavailableError, match="takes temporary tables"):
        verify_ledger(url_of(database, role=APP), KEY)


def test_a_schema_of_a_newer_donewhen_is_refused(database: str) -> None:
    execute(url_of(database), "INSERT INTO donewhen.migrations (number) VALUES (99)")
    with pytest.raises(LedgerFormatError, match="version 99"):
        verify_ledger(url_of(database, role=APP), KEY)
