"""Kept texts: each is the one that was committed to, or was erased by a row that says so."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from auditing import KEY, SIGNER, attack, fill, reseal, rewrite
from stores.kit import begin

from donewhen.errors import LedgerTamperedError
from donewhen.ledger import Ledger
from donewhen.verify import verify_ledger


@pytest.fixture
def path(tmp_store: Path) -> Path:
    """A ledger whose session `s` kept texts beside rows 3, 6 and 9, all erased in row 17; `u` kept beside 13 and 16."""
    fill(tmp_store)
    begin(tmp_store, SIGNER)
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        ledger.erase("s", who="Ada", why="asked to")
    return tmp_store


def refuse(path: Path, told: str) -> int | None:
    with pytest.raises(LedgerTamperedError, match=told) as caught:
        verify_ledger(path, KEY)
    return caught.value.row_id


def restored(path: Path) -> tuple[Any, ...]:
    """Return a text of the session as it was before it was erased."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT salt, body FROM texts WHERE entry_id = 9").fetchone()


def test_what_was_erased_is_counted_and_no_fault(path: Path) -> None:
    report = verify_ledger(path, KEY)
    assert (report.rows, report.texts, report.erased, report.not_proven) == (17, 2, 3, None)


def test_a_session_can_be_erased_again_once_it_has_kept_more(path: Path) -> None:
    with Ledger(path, signer=SIGNER) as ledger:
        ledger.erase("u", who="Ada", why="asked to")
        assert ledger.erase("u", who="Ada", why="again").row is None
    report = verify_ledger(path, KEY)
    assert (report.texts, report.erased) == (0, 5)


def test_a_text_that_is_put_back_is_refused(tmp_store: Path) -> None:
    fill(tmp_store)
    salt, text = restored(tmp_store)
    begin(tmp_store, SIGNER)
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        ledger.erase("s", who="Ada", why="asked to")
    attack(tmp_store, ("UPDATE texts SET salt = ?, body = ? WHERE entry_id = 9", (salt, text)))
    assert refuse(tmp_store, "it erased every text of its session, and one is there") == 17


def test_a_text_that_nobody_said_they_erased_is_refused(path: Path) -> None:
    attack(path, "UPDATE texts SET salt = zeroblob(32), body = zeroblob(length(body)) WHERE entry_id = 16")
    refuse(path, "4 texts are erased, and rows say so of 3")


def test_a_text_that_is_gone_is_refused(path: Path) -> None:
    attack(path, "DELETE FROM texts WHERE entry_id = 16")
    assert refuse(path, "a text that it commits to is gone, and was not erased") == 16
    attack(path, "DELETE FROM texts WHERE entry_id = 9")
    assert refuse(path, "a text that it commits to is gone, and was not erased") == 9


def test_an_erased_text_holds_nothing(path: Path) -> None:
    attack(path, "UPDATE texts SET body = x'0001' WHERE entry_id = 9")
    assert refuse(path, "the kept text 'output' is not the one that it commits to") == 9


def test_a_text_under_a_salt_of_zeros_is_never_read(path: Path) -> None:
    attack(path, "UPDATE texts SET salt = zeroblob(32) WHERE entry_id = 16")
    assert refuse(path, "is not the one that it commits to") == 16


@pytest.mark.parametrize("place", [0, -1, 9, 9223372036854775807])
def test_the_places_of_texts_count_from_1(path: Path, place: int) -> None:
    attack(path, ("UPDATE texts SET id = ? WHERE entry_id = 16", (place,)))
    refuse(path, "do not count from 1 to 5")


@pytest.mark.parametrize("erased", [0, -3, 2, 4, True, None, "3", 2**53 - 1, [3]])
def test_a_row_that_erased_says_how_many(path: Path, erased: object) -> None:
    rewrite(path, 17, erased=erased)
    reseal(path, SIGNER)
    assert refuse(path, "erased") == 17


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE texts SET entry_id = -5 WHERE entry_id = 16",
        "UPDATE texts SET entry_id = 9223372036854775807 WHERE entry_id = 16",
        "UPDATE texts SET entry_id = 1.5 WHERE entry_id = 16",
        "UPDATE texts SET entry_id = x'00' WHERE entry_id = 16",
        "UPDATE texts SET label = x'00' WHERE entry_id = 16",
        "UPDATE texts SET label = CAST(x'ff00' AS TEXT) WHERE entry_id = 16",
        "UPDATE texts SET salt = 0 WHERE entry_id = 16",
        "UPDATE texts SET body = 1e300 WHERE entry_id = 16",
        "UPDATE texts SET body = CAST(body AS TEXT) WHERE entry_id = 16",
    ],
)
def test_what_stands_in_the_columns_may_be_anything(path: Path, statement: str) -> None:
    attack(path, "PRAGMA foreign_keys = OFF", statement)
    refuse(path, "text")
