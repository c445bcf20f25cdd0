"""A connection to PostgreSQL that is lost at each step, cut off by the server, and what is said of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres_server import APP, a_database, execute, start_again, url_of, worker_database
from stores.kit import add, an_entry, open_postgres, postgres_url
from stores.small_disk import postgres_on_a_small_disk

from donewhen.errors import LedgerUnavailableError
from donewhen.ledger import utc_now
from donewhen.notes import LocalSigner, Verifier
from donewhen.stores import postgres_connections
from donewhen.stores.postgres import PostgresStore
from donewhen.verify import verify_ledger

KILL = (
    "SELECT pg_terminate_backend(pid, 10000) FROM (SELECT pid FROM pg_stat_activity WHERE application_name = 'donewhen'"
    " AND datname = '{}' ORDER BY wait_event IS DISTINCT FROM 'advisory' OFFSET 0) AS ours"
)
"""Ends every connection of ours to a database, those that wait for the log first, and waits until they have ended."""

WAITING = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'donewhen' AND datname = '{}' AND wait_event = '{}'"


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A database of which no other test has a connection."""
    with a_database() as name:
        yield name


@pytest.fixture
def url(database: str, tmp_path: Path) -> str:
    return url_of(database, role=APP, log=tmp_path.name)


class Signing:
    """A signer that does something first."""

    def __init__(self, first: Callable[[], object]) -> None:
        self._signer = LocalSigner("lost", bytes(range(32)))
        self.name, self.vkey = self._signer.name, self._signer.vkey
        self.first = first

    def sign(self, message: bytes) -> bytes:
        self.first()
        return self._signer.sign(message)


def opened(url: str, **options: Any) -> PostgresStore:
    return PostgresStore(url, **{"signer": None, "now": utc_now, "random": os.urandom, **options})


def kill(database: str) -> None:
    assert execute(url_of(database), KILL.format(database)), "there was no connection to end"


def kill_when_it_waits(database: str, event: str) -> None:
    """End our connections as soon as one of them waits for something."""
    asked = url_of(database)
    while not execute(asked, WAITING.format(database, event)):
        continue
    kill(database)


@contextmanager
def meanwhile(do: Callable[[], object]) -> Iterator[None]:
    faults: list[BaseException] = []

    def run() -> None:
        try:
            do()
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert faults == []


def lost(store: PostgresStore) -> LedgerUnavailableError:
    """Return the error of a commit whose connection is lost."""
    with pytest.raises(LedgerUnavailableError, match="lost at the commit") as caught:
        add(store, an_entry())
    return caught.value


def test_a_connection_that_was_lost_while_nobody_used_it_is_made_again(database: str, url: str) -> None:
    with closing(opened(url)) as store:
        add(store, an_entry())
        kill(database)
        assert len(store.read_session("s")) == 1
        kill(database)
        assert add(store, an_entry())[0].id == 2


def test_one_that_is_lost_while_it_waits_for_the_lock_is_made_again(database: str, url: str) -> None:
    def write_and_lose(store: PostgresStore, other: PostgresStore) -> None:
        with store.writing() as tx:
            tx.append(an_entry("lost"), ())
            with meanwhile(lambda: add(other, an_entry("other"))):
                kill_when_it_waits(database, "advisory")  # which cuts the holder of the lock off too

    with closing(opened(url)) as store, closing(opened(url)) as other:
        with pytest.raises(LedgerUnavailableError) as caught:
            write_and_lose(store, other)
        assert caught.value.stored is False
        assert store.read_sessions() == [("other", 1, 1)]


def test_one_that_is_lost_with_the_lock_stores_nothing_and_lets_the_others_in(database: str, url: str) -> None:
    def write_and_lose(store: PostgresStore) -> None:
        with store.writing() as tx:
            assert tx.head("s") is None
            kill(database)
            tx.head("t")

    with closing(opened(url)) as store, closing(opened(url)) as other:
        with pytest.raises(LedgerUnavailableError, match="Nothing was written"):
            write_and_lose(store)
        assert [row.id for row in (*add(other, an_entry()), *add(store, an_entry()))] == [1, 2]


def test_one_that_is_lost_before_the_commit_stores_nothing(database: str, url: str) -> None:
    signer = Signing(lambda: None)
    with closing(opened(url, signer=signer)) as store:
        add(store, an_entry())
        signer.first = lambda: kill(database)
        with pytest.raises(LedgerUnavailableError, match="lost at the commit") as caught:
            add(store, an_entry())
        assert caught.value.stored is False
        signer.first = lambda: None
        assert add(store, an_entry())[0].id == 2
    assert verify_ledger(url, Verifier.parse(store.vkey or "")).rows == 2


def test_one_that_is_lost_in_the_commit_before_it_counts_stores_nothing(database: str, url: str) -> None:
    """A check that waits holds the commit up, and is cut off there."""
    with closing(opened(url)) as store:  # which begins its log, before there is the check
        execute(
            url_of(database),
            "CREATE FUNCTION public.hold_up() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END'",
            "CREATE CONSTRAINT TRIGGER hold_up AFTER INSERT ON donewhen.sealed DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION public.hold_up()",
        )
        try:
            with meanwhile(lambda: kill_when_it_waits(database, "PgSleep")):
                caught = lost(store)
            assert caught.stored is False
            assert store.read_sessions() == []
        finally:
            execute(url_of(database), "DROP FUNCTION public.hold_up() CASCADE")


def test_one_that_is_lost_in_the_commit_after_it_counts_is_told_as_stored(database: str, tmp_path: Path) -> None:
    """A commit that waits for a standby is on this server's disk already, and is cut off there."""
    if not execute(url_of(database), "SELECT 1 WHERE current_setting('synchronous_standby_names') = 'nobody'"):
        pytest.skip("the server that was given waits for no standby, so a commit cannot be cut off at its end")
    url = url_of(database, role=APP, log=tmp_path.name, synchronous_commit="on")
    with closing(opened(url_of(database, role=APP, log=tmp_path.name))) as plain:
        with closing(opened(url)) as store:
            with meanwhile(lambda: kill_when_it_waits(database, "SyncRep")):
                caught = lost(store)
            assert caught.stored is True
            assert len(store.read_session("s")) == 1
        assert add(plain, an_entry())[0].id == 2


def test_a_server_that_is_gone_at_the_commit_leaves_it_unknown(url: str, database: str, monkeypatch) -> None:
    signer = Signing(lambda: None)
    with closing(opened(url, signer=signer)) as store:
        add(store, an_entry())

        def go() -> None:
            monkeypatch.setattr(store, "_connect", refuse)
            kill(database)

        def refuse() -> None:
            raise psycopg.OperationalError("connection refused")

        signer.first = go
        with pytest.raises(LedgerUnavailableError, match="may or may not be stored") as caught:
            add(store, an_entry())
        assert caught.value.stored is None


def test_a_server_that_dies_of_a_full_disk_leaves_the_commit_unknown_and_comes_back_whole() -> None:
    """It stops where it cannot write what a commit must be found again by; what was acknowledged is there when it runs again."""
    with postgres_on_a_small_disk() as (disk, url), closing(opened(url)) as store:
        add(store, an_entry(), an_entry())
        disk.fill()
        execute(url, "SELECT pg_switch_wal()")  # there is no room for the next file of it
        assert lost(store).stored is None
        with pytest.raises(LedgerUnavailableError) as caught:
            add(store, an_entry())
        assert caught.value.stored is False
        disk.free()
        start_again(disk.server)
        assert [row.seq for row in add(store, an_entry())] == [3]
        assert verify_ledger(store, None).rows == 3


def test_another_server_in_its_place_is_not_believed_that_nothing_is_stored(url: str, database: str) -> None:
    signer = Signing(lambda: None)
    with closing(opened(url, signer=signer)) as store:
        add(store, an_entry())

        def go() -> None:
            store._started = "another time"
            kill(database)

        signer.first = go
        with pytest.raises(LedgerUnavailableError) as caught:
            add(store, an_entry())
        assert caught.value.stored is None


def test_a_writer_that_waits_too_long_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(open_postgres(path)) as store, closing(open_postgres(path, wait_seconds=0.05)) as other:
        with store.writing() as tx:
            tx.append(an_entry(), ())
            with pytest.raises(LedgerUnavailableError, match="another process has been writing") as caught:
                add(other, an_entry())
        assert caught.value.stored is False
        assert add(other, an_entry())[0].id == 2


def test_a_process_that_stands_still_with_the_lock_loses_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(postgres_connections, "FROZEN_SECONDS", 1)
    with (
        closing(open_postgres(tmp_path / "ledger.db")) as store,
        closing(open_postgres(tmp_path / "ledger.db")) as other,
    ):

        def stand_still() -> None:
            with store.writing() as tx:
                tx.append(an_entry("still"), ())
                add(other, an_entry("other"))  # waits for the lock until the server has taken it from the first

        with pytest.raises(LedgerUnavailableError) as caught:
            stand_still()
        assert caught.value.stored is False
        assert store.read_sessions() == [("other", 1, 1)]


def test_commits_that_a_role_does_not_wait_for_are_waited_for(tmp_path: Path) -> None:
    careless = postgres_url(tmp_path / "ledger.db", synchronous_commit="off")
    with closing(opened(careless)) as store:
        shown = store._try_twice(lambda connection: connection.execute("SHOW synchronous_commit").fetchone())
        assert shown == ("local",)
    assert worker_database() in careless
