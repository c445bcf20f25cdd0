"""A ledger is moved from one store into another byte for byte, and verified at both ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import auditing
import pytest
from auditing import KEY, ROWS, SIGNER
from postgres_server import APP, execute, force, url_of, worker_database
from stores.kit import a_balance, add, an_entry, open_sqlite

from donewhen.errors import LedgerError, LedgerFormatError, LedgerTamperedError, LedgerUnavailableError
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner
from donewhen.store_copy import _load, _open_dump, copy_store
from donewhen.stores import Cosigned
from donewhen.verify import verify_ledger

TABLES = ("log", "entries", "balances", "sealed", "texts", "cosigned")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return url_of(worker_database(), role=APP, log=tmp_path.name)


def content(path: Path) -> list[list[Any]]:
    with closing(sqlite3.connect(path)) as connection:
        return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES]


def fill(path: Path, signer: LocalSigner | None = SIGNER) -> None:
    """Write the auditor's ledger under a name of its own: the tests share a database, which has each origin once."""
    Ledger(path, signer=signer).close()
    auditing.fill(path, signer)


def fill_all(path: Path) -> None:
    """Write a ledger with everything that a store keeps, and with what PostgreSQL's own texts cannot hold."""
    fill(path)
    with Ledger(path, signer=SIGNER) as ledger:
        ledger.erase("s", who="Ada", why="asked to")
    store = open_sqlite(path, signer=SIGNER)
    add(store, an_entry("s", "close", data={"outcome": "a lone \udfff", "reason": '\b \\ud800 "'}))
    add(store, an_entry("\\ud800"), an_entry("x" * 500), an_entry("a", "abandoned", doubts=1))
    with store.writing() as tx:
        tx.append(an_entry("child"), (a_balance('po"ol'), a_balance("child")))
        tx.put_cosigned(Cosigned(3, "w", "— w AAAA", "t"))
    store.close()


def test_what_goes_to_postgresql_and_back_is_the_same_byte_for_byte(tmp_path: Path, url: str) -> None:
    fill_all(tmp_path / "a.db")
    for source, target in ((tmp_path / "a.db", url), (url, tmp_path / "b.db")):
        with _open_dump(str(source)) as dump:
            _load(str(target), dump, lambda _: None)
    assert content(tmp_path / "a.db") == content(tmp_path / "b.db")


def test_both_ends_verify_and_either_can_be_written_on(tmp_path: Path, url: str) -> None:
    fill(tmp_path / "a.db")
    told: list[tuple[int, int]] = []
    there = copy_store(tmp_path / "a.db", url, progress=lambda done, total: told.append((done, total)))
    back = copy_store(url, tmp_path / "b.db")
    key = KEY.named(there.report.origin)
    assert there.report.root == back.report.root == verify_ledger(tmp_path / "a.db", key).root
    assert (there.report.rows, there.report.signed_by, told[-1]) == (ROWS, key.vkey, (ROWS, ROWS))
    for place in (url, tmp_path / "b.db"):
        with Ledger(place, signer=SIGNER) as ledger:
            assert ledger.write("s", 9, "on", "x", 1, 1, True) == ROWS + 1
        assert verify_ledger(place, key).rows == ROWS + 1


def test_an_unsigned_and_an_empty_ledger_are_copied_too(tmp_path: Path, url: str) -> None:
    fill(tmp_path / "a.db", signer=None)
    assert copy_store(tmp_path / "a.db", url).report.signed_by is None
    Ledger(tmp_path / "empty.db").close()
    assert copy_store(tmp_path / "empty.db", tmp_path / "too.db").report.rows == 0


def test_a_target_that_is_not_empty_stays_as_it_is(tmp_path: Path, url: str) -> None:
    fill(tmp_path / "a.db")
    copy_store(tmp_path / "a.db", url)
    copy_store(url, tmp_path / "b.db")
    before = content(tmp_path / "b.db")
    for source, target in ((tmp_path / "a.db", url), (url, tmp_path / "b.db"), (tmp_path / "a.db", tmp_path / "b.db")):
        with pytest.raises(LedgerError, match="is not empty"):
            copy_store(source, target)
    assert content(tmp_path / "b.db") == before
    with pytest.raises(
        LedgerError, match="has this ledger already, as its log"
    ):  # one origin is one log, also in one database
        copy_store(tmp_path / "a.db", f"{url}-again")


def test_a_source_that_was_changed_is_not_copied(tmp_path: Path, url: str) -> None:
    fill(tmp_path / "a.db")
    copy_store(tmp_path / "a.db", url)
    force(worker_database(), f"DELETE FROM donewhen.texts WHERE log = '{tmp_path.name}'")
    with pytest.raises(LedgerTamperedError, match="is gone"):
        copy_store(url, tmp_path / "b.db")
    assert not (tmp_path / "b.db").exists()


class Broken:
    """One state of a log that cannot be read to its end."""

    def __init__(self, whole: Any) -> None:
        self.origin, self.vkey, self.count = whole.origin, whole.vkey, whole.count
        self._whole = whole

    def rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        yield from self._whole.rows(table)
        if table == "texts":
            raise KeyboardInterrupt


def test_what_fails_in_the_middle_leaves_nothing(tmp_path: Path, url: str) -> None:
    fill(tmp_path / "a.db")
    for target in (url, str(tmp_path / "b.db")):
        with pytest.raises(KeyboardInterrupt), _open_dump(str(tmp_path / "a.db")) as dump:
            _load(target, Broken(dump), lambda _: None)
    assert not list(tmp_path.glob("b.db*"))
    assert execute(url, f"SELECT 1 FROM donewhen.log WHERE log = '{tmp_path.name}'") == []


def test_what_is_no_ledger_is_not_copied(tmp_path: Path, url: str) -> None:
    with pytest.raises(LedgerUnavailableError, match="there is no file"):
        copy_store(tmp_path / "a.db", url)
    with pytest.raises((LedgerTamperedError, LedgerFormatError), match="there is no log"):
        copy_store(url, tmp_path / "a.db")
    assert not (tmp_path / "a.db").exists()
