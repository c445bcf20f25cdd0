"""A log on PostgreSQL under the auditor's eyes: everything that its owner can do to it shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from auditing import KEY, ROWS, SIGNER, fill
from postgres_server import APP, a_copy, a_database, force, url_of

from donewhen.entry import Entry
from donewhen.errors import LedgerFormatError, LedgerTamperedError, LedgerUnavailableError
from donewhen.ledger import Draft, Ledger
from donewhen.stores.postgres_cursor import FETCHED_ROWS
from donewhen.verify import named_keys, verify_ledger

LOG = "acme"


@pytest.fixture(scope="module")
def made() -> Iterator[str]:
    """A database with two logs of the same rows."""
    with a_database() as name:
        for log in (LOG, "other"):
            fill(url_of(name, role=APP, log=log), is_ours=log == LOG)
        yield name


@pytest.fixture
def database(made: str) -> Iterator[str]:
    with a_copy(made) as name:
        yield name


def url(database: str, log: str = LOG) -> str:
    return url_of(database, role=APP, log=log)


def refuse(database: str, told: str) -> int | None:
    with pytest.raises(LedgerTamperedError, match=told) as caught:
        verify_ledger(url(database), KEY)
    return caught.value.row_id


def test_an_honest_log_is_proven_and_says_what_was_verified(made: str) -> None:
    told: list[tuple[int, int]] = []
    report = verify_ledger(url(made), KEY, progress=lambda done, total: told.append((done, total)))
    assert (report.rows, report.checkpoints, report.texts, report.sessions) == (ROWS, 14, 5, 3)
    assert (report.not_proven, report.signed_by, told[-1]) == (None, SIGNER.vkey, (ROWS, ROWS))
    assert verify_ledger(url(made), KEY, fast=True, every_signature=True).root == report.root
    assert named_keys(url(made)) == (SIGNER.vkey,)


def test_an_open_ledger_is_verified_by_its_own_address(made: str) -> None:
    with Ledger(url(made), read_only=True) as ledger:
        assert verify_ledger(ledger, KEY) == verify_ledger(url(made), KEY)


def test_logs_of_one_database_are_verified_each_by_itself(database: str) -> None:
    force(database, "DELETE FROM donewhen.entries WHERE log = 'other' AND id = 4")
    assert verify_ledger(url(database), KEY).rows == ROWS
    with Ledger(url(database, "other"), read_only=True) as ledger:
        key = KEY.named(ledger.origin)
    with pytest.raises(LedgerTamperedError, match="it is missing"):
        verify_ledger(url(database, "other"), key)


@pytest.mark.parametrize(
    ("statement", "told", "row_id"),
    [
        (
            "UPDATE donewhen.entries SET body = replace(body, '\"tokens\":90', '\"tokens\":91')",
            "not what was sealed",
            4,
        ),
        ("DELETE FROM donewhen.entries WHERE id = 4", "it is missing", 4),
        ("DELETE FROM donewhen.entries WHERE id = 16", "none follows", 16),
        ("DELETE FROM donewhen.sealed WHERE size = 7", "gap", 7),
        ("DELETE FROM donewhen.sealed WHERE size = 16", "no checkpoint covers it", 16),
        ("UPDATE donewhen.sealed SET nodes = nodes || 'x' WHERE size = 4", "wrong length", 4),
        ("UPDATE donewhen.sealed SET note = replace(note, 'g', 'h') WHERE size = 16", "checkpoint", None),
        ("UPDATE donewhen.log SET origin = origin || 'x'", "names a key of another log", None),
        ("UPDATE donewhen.texts SET body = 'other' WHERE entry_id = 9", "not the one that it commits to", 9),
        ("DELETE FROM donewhen.texts WHERE entry_id = 9", "is gone", 9),
        ("UPDATE donewhen.texts SET id = id + 1 WHERE id = (SELECT max(id) FROM donewhen.texts)", "places", None),
    ],
)
def test_what_its_owner_changes_shows(database: str, statement: str, told: str, row_id: int | None) -> None:
    where = f" AND log = '{LOG}'" if "WHERE" in statement else f" WHERE log = '{LOG}'"
    force(database, statement + where)
    assert refuse(database, told) == row_id or row_id is None


def test_a_row_beyond_the_newest_checkpoint_shows(database: str) -> None:
    force(
        database,
        "INSERT INTO donewhen.entries (log, id, body) SELECT log, 17, replace(body, '\"seq\":1,', '\"seq\":2,')"
        f" FROM donewhen.entries WHERE log = '{LOG}' AND id = 7",
    )
    assert refuse(database, "no checkpoint covers it") == 17


def test_a_longer_log_is_read_page_by_page(database: str) -> None:
    more = 2 * FETCHED_ROWS + 5
    with Ledger(url(database), signer=SIGNER) as ledger:
        ledger.note(*[Draft(Entry(kind="write", session_id="w", state_origin="x"))] * more)
    assert verify_ledger(url(database), KEY).rows == ROWS + more


def test_a_database_without_a_ledger_and_one_without_the_log_are_told_apart(database: str) -> None:
    with a_copy("template0") as empty, pytest.raises(LedgerFormatError, match="holds no ledger"):
        verify_ledger(url_of(empty), KEY)
    with pytest.raises(LedgerTamperedError, match="does not name the log 'nobody'"):
        verify_ledger(url(database, "nobody"), KEY)


def test_a_server_that_is_not_there_is_no_tampering(tmp_path) -> None:
    with pytest.raises(LedgerUnavailableError):
        verify_ledger(f"postgresql://u@/d?host={tmp_path}", KEY)


def test_no_password_is_in_what_is_shown() -> None:
    with pytest.raises(LedgerUnavailableError) as caught:
        verify_ledger("postgresql://ada:secret@127.0.0.1:1/d?sslpassword=hidden&sslmode=disable#acme", KEY)
    assert "ada@127.0.0.1:1/d?sslmode=disable#acme" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)
