"""The tree: commits of any size, faults told in the order of the rows, and memory that does not grow."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from auditing import KEY, SIGNER, attack, rewrite, seal_as_it_is
from command import environ
from stores.kit import begin

from donewhen.entry import Entry
from donewhen.errors import LedgerTamperedError
from donewhen.ledger import Draft, Ledger
from donewhen.verify import verify_ledger
from donewhen.verify.tree import PAGE_ROWS

ROWS = 2 * PAGE_ROWS + 40


@pytest.fixture(scope="module")
def one_commit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger whose rows, more than two pages of them, are one commit."""
    path = tmp_path_factory.mktemp("one") / "ledger.db"
    begin(path, SIGNER)
    with Ledger(path, signer=SIGNER) as ledger:
        ledger.note(*[Draft(Entry(kind="write", session_id="s", state_origin="x", turn_count=n)) for n in range(ROWS)])
    return path


@pytest.fixture
def path(one_commit: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(one_commit, tmp_path / "ledger.db"))


@pytest.mark.parametrize("rows", [1, 2, 3, 7, PAGE_ROWS - 1, PAGE_ROWS, PAGE_ROWS + 1, ROWS])
def test_however_many_rows_a_commit_has_it_verifies(path: Path, rows: int) -> None:
    seal_as_it_is(path, SIGNER, rows=rows)
    for fast in (False, True):
        report = verify_ledger(path, KEY, fast=fast)
        assert (report.rows, report.checkpoints) == (ROWS, -(-ROWS // rows))


@pytest.mark.parametrize("row_id", [1, 2, PAGE_ROWS, PAGE_ROWS + 1, 2 * PAGE_ROWS + 1, ROWS])
@pytest.mark.parametrize("fast", [False, True])
def test_a_row_is_named_wherever_it_stands_in_a_commit(path: Path, row_id: int, *, fast: bool) -> None:
    rewrite(path, row_id, tokens=9)
    with pytest.raises(LedgerTamperedError, match="not what was sealed") as caught:
        verify_ledger(path, KEY, fast=fast)
    assert caught.value.row_id == row_id


@pytest.mark.parametrize("place", [0, 31, 64, 9_000])
def test_a_stored_node_that_is_another_is_refused(path: Path, place: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        [nodes] = connection.execute("SELECT nodes FROM sealed WHERE size > 0").fetchone()
    changed = nodes[:place] + bytes([nodes[place] ^ 1]) + nodes[place + 1 :]
    attack(path, ("UPDATE sealed SET nodes = ? WHERE size > 0", (changed,)))
    with pytest.raises(LedgerTamperedError, match="not what was sealed"):
        verify_ledger(path, KEY, fast=True)


@pytest.mark.parametrize("cut", ["substr(nodes, 1, length(nodes) - 32)", "CAST(nodes || x'00' AS BLOB)", "x''"])
def test_nodes_too_few_or_too_many_are_refused(path: Path, cut: str) -> None:
    attack(path, f"UPDATE sealed SET nodes = {cut} WHERE size > 0")
    with pytest.raises(LedgerTamperedError, match=r"not what was sealed|wrong length"):
        verify_ledger(path, KEY, fast=True)


def test_what_is_wrong_with_an_earlier_row_is_told_before_a_later_fault(path: Path) -> None:
    rewrite(path, 5, seq=9999)
    seal_as_it_is(path, SIGNER, rows=ROWS)
    rewrite(path, 9, tokens=9)
    with pytest.raises(LedgerTamperedError, match="row 5: it is row 9999 of session s, where 5 belongs"):
        verify_ledger(path, KEY)


def test_what_is_wrong_with_a_row_is_told_before_a_checkpoint_after_it(path: Path) -> None:
    rewrite(path, 5, seq=9999)
    seal_as_it_is(path, SIGNER, rows=10)
    attack(path, "UPDATE sealed SET note = replace(note, '20', '21') WHERE size = 20")
    with pytest.raises(LedgerTamperedError, match="row 5"):
        verify_ledger(path, KEY)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE entries SET body = CAST(body AS BLOB) WHERE id = 100", "row 100: it is not stored as text"),
        ("UPDATE entries SET body = CAST(body AS BLOB) WHERE id = {last}", "row {last}: it is not stored as text"),
        ("UPDATE sealed SET note = CAST(note AS BLOB) WHERE size > 0", "row 1: no checkpoint covers it"),
        ("UPDATE sealed SET nodes = CAST(nodes AS TEXT) WHERE size > 0", "row 1: no checkpoint covers it"),
        ("UPDATE sealed SET start = 'x' WHERE size > 0", "row 1: the sealed states have a gap"),
        ("UPDATE sealed SET start = -1 WHERE size > 0", "row 1: the sealed states have a gap"),
        ("UPDATE sealed SET size = 9223372036854775807 WHERE size > 0", "row {next}: it is missing"),
        ("UPDATE sealed SET size = -9223372036854775808 WHERE size > 0", "row 1: there is no checkpoint of no rows"),
        ("INSERT INTO sealed VALUES (9999, {last}, CAST('x' AS BLOB), x'00')", "not stored as text"),
        ("INSERT INTO sealed VALUES (7, 0, CAST('x' AS BLOB), x'00')", "not stored as text"),
        ("INSERT INTO sealed VALUES (9999, {last}, 'x', x'00')", "row {next}: it is missing"),
        ("DELETE FROM sealed", "row 1: there is no checkpoint of no rows"),
        ("DELETE FROM sealed WHERE size > 0", "row 1: no checkpoint covers it"),
        ("DELETE FROM entries", "row 1: it is missing"),
        ("UPDATE entries SET id = -9223372036854775808 WHERE id = 1", "row 1: there is a row -9223372036854775808"),
        ("UPDATE entries SET id = 9223372036854775807 WHERE id = {last}", "row {last}: it is missing"),
    ],
)
def test_what_stands_in_the_columns_may_be_anything(path: Path, statement: str, told: str) -> None:
    attack(path, "PRAGMA foreign_keys = OFF", statement.format(last=ROWS))
    for fast in (True, False):
        with pytest.raises(LedgerTamperedError, match=told.format(last=ROWS, next=ROWS + 1)):
            verify_ledger(path, KEY, fast=fast)


FILL = """
import sys
from donewhen.entry import Entry
from donewhen.ledger import Draft, Ledger
path, rows = sys.argv[1], int(sys.argv[2])
with Ledger(path) as ledger:
    for start in range(0, rows, 500):
        ledger.note(*[
            Draft(Entry(kind="write", session_id=f"session {n}", state_origin="x")) for n in range(start, start + 500)
        ])
"""
MEASURE = """
import resource, sys
from donewhen.verify import verify_ledger
report = verify_ledger(sys.argv[1], None, fast=sys.argv[2] == "fast")
print(report.rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != "darwin" else 2**20))
"""


def printed(script: str, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)], env=environ(), capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell how much memory a process had at most")
@pytest.mark.parametrize("how", ["fast", "whole"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, how: str) -> None:
    used: dict[int, int] = {}
    for rows in (10_000, 20_000):  # each row a session of its own, which is more than are kept in mind
        printed(FILL, tmp_path / f"{rows}.db", rows)
        found, megabytes = printed(MEASURE, tmp_path / f"{rows}.db", how).split()
        assert int(found) == rows
        used[rows] = int(megabytes)
    assert used[20_000] - used[10_000] <= 3
