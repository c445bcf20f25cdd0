"""What only the store on PostgreSQL has: roles, triggers, views, logs beside each other, and the schema's making."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from command import donewhen
from postgres_server import APP, OWNER, a_copy, a_database, execute, url_of
from stores.kit import SIGNER, add, an_entry, run_together

from donewhen.errors import LedgerError, LedgerFormatError
from donewhen.ledger import Ledger, utc_now
from donewhen.notes import Verifier
from donewhen.stores.opening import with_log_of
from donewhen.stores.postgres import PostgresStore
from donewhen.stores.postgres_init import init
from donewhen.stores.postgres_schema import MIGRATIONS
from donewhen.verify import verify_ledger

TABLES = ("entries", "balances", "sealed", "texts", "cosigned", "log", "migrations")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with a_database() as name:
        with closing(opened(url_of(name, role=APP))) as store, store.writing() as tx:
            tx.put_text(tx.append(an_entry("s"), ()), "one", b"s" * 32, b"a text")
        yield name


def opened(url: str) -> PostgresStore:
    return PostgresStore(url, signer=SIGNER, now=utc_now, random=os.urandom)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("what", ["DELETE FROM {}", "TRUNCATE {} CASCADE", "UPDATE {} SET {} = {}"])
def test_nothing_can_be_changed_or_removed_by_anybody(database: str, table: str, what: str) -> None:
    column = "number" if table == "migrations" else "log"
    statement = what.format(f"donewhen.{table}", column, column)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(url_of(database, role=APP), statement)
    if (table, what[:6]) == ("texts", "UPDATE"):
        statement = "UPDATE donewhen.texts SET body = 'other'"
    for role in (OWNER, None):
        with pytest.raises(psycopg.errors.RaiseException, match=r"append-only|cannot be changed"):
            execute(url_of(database, role=role), statement)


def test_the_application_may_read_and_add_and_nothing_else(database: str) -> None:
    granted = execute(
        url_of(database),
        "SELECT DISTINCT privilege_type FROM information_schema.role_table_grants"
        f" WHERE table_schema = 'donewhen' AND grantee = '{APP}' ORDER BY 1",
    )
    assert granted == [("INSERT",), ("SELECT",)]
    for other in ("PUBLIC",):
        assert (
            execute(
                url_of(database),
                f"SELECT 1 FROM information_schema.role_table_grants WHERE table_schema = 'donewhen' AND grantee = '{other}'",
            )
            == []
        )


def test_the_views_have_the_tutorials_columns_and_show_one_log(database: str) -> None:
    with Ledger(url_of(database, role=APP, log="shown"), signer=SIGNER) as ledger:
        ledger.write("s", 1, "step", "x", 2, 3, False, "why")
    named = execute(
        url_of(database),
        "SELECT string_agg(column_name, ' ' ORDER BY ordinal_position) FROM information_schema.columns"
        " WHERE table_schema = 'donewhen' AND table_name IN ('ledger', 'attestations') GROUP BY table_name ORDER BY 1",
    )
    assert named == [
        ("id session_id reviewer attested_at notes frame_hash",),
        (
            "id session_id turn_count state_origin input_hash token_delta execution_time_ms pass_fail breach_reason created_at",
        ),
    ]
    asked = "SELECT session_id, turn_count, state_origin, pass_fail, breach_reason FROM donewhen.ledger"
    assert execute(url_of(database, role=APP, **{"donewhen.log": "shown"}), asked) == [("s", 1, "step", 0, "why")]
    assert len(execute(url_of(database, role=APP), asked)) == 1


def test_logs_have_rows_of_their_own_and_a_session_is_found_in_its_log(database: str) -> None:
    with (
        closing(opened(url_of(database, role=APP, log="a"))) as one,
        closing(opened(url_of(database, role=APP, log="b"))) as two,
    ):
        add(one, an_entry("only-a"))
        with one.writing() as tx:
            tx.append(an_entry("only-a"), ())
            assert [row.id for row in add(two, an_entry("only-b"))] == [1]  # while the other log is locked
        assert (len(one.read_sessions()), two.read_sessions()) == (1, [("only-b", 1, 1)])
        assert one.origin != two.origin
    url = url_of(database, role=APP)
    assert with_log_of(url, "only-b").endswith("#b")
    assert with_log_of(url, "only-a").endswith("#a")
    assert with_log_of(url, "nobody") == url
    assert with_log_of(f"{url}#b", "only-a") == f"{url}#b"
    with pytest.raises(LedgerError, match="sessions of 2 logs begin with 'only'"):
        with_log_of(url, "only")


def test_making_the_schema_again_changes_nothing_and_roles_must_be_two(database: str) -> None:
    again = init(url_of(database), owner_role=OWNER, app_role=APP)
    assert (again.was, again.version) == (len(MIGRATIONS), len(MIGRATIONS))
    with pytest.raises(LedgerError, match="two roles"):
        init(url_of(database), owner_role=APP, app_role=APP)


def test_a_schema_of_something_else_is_left_alone() -> None:
    with a_copy("template0") as name:
        execute(url_of(name), "CREATE SCHEMA donewhen", "CREATE TABLE donewhen.theirs (x int)")
        with pytest.raises(LedgerFormatError, match="something else's"):
            init(url_of(name))


def test_a_log_that_is_not_there_is_not_begun_by_reading(database: str) -> None:
    with pytest.raises(LedgerFormatError, match=r"no log 'nobody'.*local"):
        Ledger(url_of(database, role=APP, log="nobody"), read_only=True)


def test_the_command_prepares_a_database_and_says_what_it_did() -> None:
    with a_copy("template0") as name:
        made = donewhen("store", "init", url_of(name), "--app-role", APP)
        again = donewhen("store", "init", url_of(name), "--app-role", APP)
        assert (made.exit_code, again.exit_code) == (0, 0)
        assert "has version 1 of the schema now" in made.stdout
        assert "already" in again.stdout


def test_a_transaction_is_two_exchanges_with_the_server_also_after_somebody_else(database: str, monkeypatch) -> None:
    url, exchanges = url_of(database, role=APP, log="exchanges"), []
    with closing(opened(url)) as store, closing(opened(url)) as other:
        add(store, an_entry("s"))
        add(other, an_entry("t"))
        waited = psycopg.Connection.wait
        monkeypatch.setattr(psycopg.Connection, "wait", lambda *given: exchanges.append(1) or waited(*given))
        add(store, an_entry("s"), an_entry("s"))
        assert len(exchanges) == 2
        with store.writing() as tx:  # of which nothing comes: the other one is the ROLLBACK
            assert (tx.head("s").seq, tx.balance("s")) == (3, None)
        assert len(exchanges) == 4
        monkeypatch.undo()
        assert [row.id for row in add(other, an_entry("t"))] == [5]


WRITER = """
import sys
from donewhen.ledger import Ledger
from stores.kit import SIGNER
print("ready", flush=True)
sys.stdin.readline()
with Ledger(sys.argv[1], signer=SIGNER) as ledger:
    for number in range(int(sys.argv[2])):
        ledger.write(sys.argv[3], number, "x", "x", 1, 1, True)
"""


def test_eight_processes_write_two_hundred_rows_each_and_all_of_it_verifies(database: str) -> None:
    url = url_of(database, role=APP, log="crowd")
    run_together(8, WRITER, url, 200)
    with Ledger(url, read_only=True) as ledger:
        assert sorted((session, len(ledger.rows(session))) for session, _, _ in ledger.sessions()) == [
            (str(number), 200) for number in range(8)
        ]
        key = Verifier.parse(ledger.signed_by or "")
    assert verify_ledger(url, key).rows == 1600
