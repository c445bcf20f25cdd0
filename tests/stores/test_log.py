"""The log: who may extend it, and what it refuses to seal."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores.kit import SIGNER, STRANGER, add, an_entry, begin, open_sqlite, said, say, tamper

from donewhen.errors import (
    LedgerError,
    LedgerFormatError,
    LedgerTamperedError,
    LedgerUnavailableError,
    PermitClosedError,
)
from donewhen.ledger import Draft, Ledger
from donewhen.merkle import Frontier, leaf_hash, root_of
from donewhen.notes import Checkpoint, LocalSigner, Verifier
from donewhen.stores.log import LogState
from donewhen.stores.log_tree import completed_before, find_node, load_frontier
from donewhen.testing import FakeClock

SLIPPED = "INSERT INTO entries (id, body) SELECT {id}, json_set(body, '$.id', {id}, '$.seq', {seq}) FROM entries"
SIGNERS = pytest.mark.parametrize("signer", [None, SIGNER], ids=["unsigned", "signed"])


@pytest.fixture(params=[None, SIGNER], ids=["unsigned", "signed"])
def ledger(request, tmp_store):
    with Ledger(tmp_store, signer=request.param) as ledger:
        for number in range(3):
            say(ledger, str(number))
        yield ledger


def another(ledger: Ledger) -> Ledger:
    """Open the same file as another process would."""
    return Ledger(ledger.path, signer=SIGNER if ledger.signed_by else None)


def refused(ledger: Ledger, match: str) -> int | None:
    """Assert that neither who has the log open nor who opens it anew can write, and return the row that is named."""
    before = contents(ledger.path)
    with another(ledger) as new:
        for writer in (ledger, new):
            with pytest.raises(LedgerTamperedError, match=match) as caught:
                say(writer)
    assert contents(ledger.path) == before
    return caught.value.row_id


def contents(path: str) -> list[str]:
    with closing(sqlite3.connect(path)) as raw:
        return list(raw.iterdump())


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "then", "says"),
    [
        (SIGNER, None, "signed by the key of donewhen/"),
        (SIGNER, STRANGER, "signed by the key of donewhen/"),
        (SIGNER, LocalSigner("other", bytes(31) + b"\2"), "signed by the key of donewhen/"),
        (None, SIGNER, "begun without a key"),
    ],
)
def test_only_the_key_that_began_a_log_may_write_to_it(tmp_store, first, then, says) -> None:
    Ledger(tmp_store, signer=first).close()
    with pytest.raises(LedgerError, match=says):
        Ledger(tmp_store, signer=then)
    with Ledger(tmp_store, signer=first) as ledger:
        assert say(ledger) == 1


def test_the_signature_is_made_in_the_same_transaction(tmp_store) -> None:
    class Breaks:
        name, vkey = SIGNER.name, SIGNER.vkey

        def sign(self, message: bytes) -> bytes:
            raise ConnectionError("the key is far away")

    with pytest.raises(LedgerUnavailableError, match="the key is far away"):
        Ledger(tmp_store, signer=Breaks())
    begin(tmp_store)  # which finds nothing of the one that failed
    with Ledger(tmp_store, signer=Breaks()) as ledger:
        with pytest.raises(ConnectionError):
            say(ledger)
        assert ledger.get_all() == []


# -- what is not sealed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [4, 99])
def test_a_row_that_was_slipped_in_is_not_sealed_in_passing(ledger, tmp_store, seq) -> None:
    tamper(tmp_store, SLIPPED.format(id=4, seq=seq) + " WHERE id = 1")
    assert refused(ledger, "4 rows and its newest checkpoint covers 3") == 4


def through_our_own_connection(ledger: Ledger, statement: str) -> None:
    ledger.store._connections.writer.execute(statement)


def through_another_connection(ledger: Ledger, statement: str) -> None:
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as raw:
        raw.execute(statement)


def through_another_process(ledger: Ledger, statement: str) -> None:
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation_level=None).execute(sys.argv[2])"
    subprocess.run([sys.executable, "-c", code, ledger.path, statement], check=True, timeout=60)


ROUTES = [through_our_own_connection, through_another_connection, through_another_process]


@pytest.mark.parametrize("through", ROUTES)
def test_a_row_that_is_slipped_in_between_two_writes_is_seen_whichever_way_it_came(ledger, through) -> None:
    for number in range(3):
        say(ledger, str(number))  # by now nothing but the file's version is looked at before a write
    through(ledger, SLIPPED.format(id=7, seq=99) + " WHERE id = 1")
    for _ in range(2):
        assert refused(ledger, "7 rows and its newest checkpoint covers 6") == 7


@pytest.mark.parametrize("through", ROUTES)
def test_a_row_that_is_slipped_in_after_a_write_failed_is_seen(ledger, through) -> None:
    with pytest.raises(LedgerFormatError):
        ledger.note(Draft(an_entry("z", "check", data={})), Draft(an_entry("z", "no kind", data={})))
    through(ledger, SLIPPED.format(id=4, seq=99) + " WHERE id = 1")
    assert refused(ledger, "4 rows and its newest checkpoint covers 3") == 4


def test_the_head_of_the_log_is_read_again_only_when_somebody_else_has_written(ledger) -> None:
    statements: list[str] = []
    ledger.store._connections.writer.set_trace_callback(statements.append)

    def read_the_head() -> bool:
        statements.clear()
        say(ledger)
        return any("sealed ORDER BY size DESC" in statement for statement in statements)

    assert [read_the_head() for _ in range(2)] == [False, False]
    through_another_connection(ledger, "INSERT INTO shape (id) VALUES (1)")  # no row, but it could have been one
    assert [read_the_head() for _ in range(2)] == [True, False]
    with another(ledger) as new:
        say(new)
    assert [read_the_head() for _ in range(2)] == [True, False]


def test_a_reservation_that_somebody_else_closed_is_closed(ledger) -> None:
    ledger.note(Draft(an_entry("z", "open", data={"ceilings": [9, 999, None, None, None, None]})))
    row = ledger.admit("z", lambda _: Draft(an_entry("z", "reserve", data={"reserve": [1, 10, 0, 0]})))
    free = Draft(an_entry("z", "error", closes=row.seq))
    with another(ledger) as new:
        new.close_reservation("z", row.seq, lambda _balance, _held: (free, []))
    for _ in range(2):
        with pytest.raises(PermitClosedError):
            ledger.close_reservation("z", row.seq, lambda _balance, _held: (free, []))
    assert [one.kind for one in ledger.rows("z")] == ["open", "reserve", "error"]


@pytest.mark.parametrize("row_id", [0, -7])
def test_a_row_that_was_slipped_in_below_the_first_is_not_built_upon(ledger, tmp_store, row_id) -> None:
    tamper(tmp_store, SLIPPED.format(id=row_id, seq=99) + " WHERE id = 1")
    with another(ledger) as new:
        with pytest.raises(LedgerTamperedError, match="not one of the log") as caught:
            say(new)
        assert [number for number, _ in new.store.iter_bodies()] == [row_id, 1, 2, 3]
    assert caught.value.row_id == row_id


def test_a_forged_balance_is_not_built_upon(ledger, tmp_store) -> None:
    ceilings = [9, 999, None, None, None, None]
    ledger.note(Draft(an_entry("z", "open", data={"ceilings": ceilings})))
    tamper(tmp_store, "UPDATE entries SET body = replace(body, '999', '998') WHERE id = 4")
    with another(ledger) as new, pytest.raises(LedgerTamperedError, match="not the one that was sealed") as caught:
        new.raise_ceilings("z", {"turns": 99}, why="more", who="ann")
    assert caught.value.row_id == 4


def test_a_forged_reservation_is_not_given_back(ledger, tmp_store) -> None:
    ceilings = [9, 999, None, None, None, None]
    ledger.note(Draft(an_entry("z", "open", data={"ceilings": ceilings})))
    reserve = an_entry("z", "reserve", data={"reserve": [1, 10, 0, 0]})
    ledger.admit("z", lambda _: Draft(reserve))
    ledger.note(Draft(an_entry("z", "check", data={})))
    tamper(tmp_store, "UPDATE entries SET body = replace(body, '[1,10,0,0]', '[9,90,0,0]') WHERE id = 5")
    free = Draft(an_entry("z", "error", closes=2))
    with another(ledger) as new, pytest.raises(LedgerTamperedError) as caught:
        new.close_reservation("z", 2, lambda _balance, _held: (free, []))
    assert caught.value.row_id == 5


def test_a_row_that_is_no_text_is_not_built_upon(ledger, tmp_store) -> None:
    tamper(tmp_store, "UPDATE entries SET body = CAST(body AS BLOB) WHERE id = 3")
    with another(ledger) as new, pytest.raises(LedgerTamperedError, match="not one of the log"):
        say(new)
    assert len(said_ids(tmp_store)) == 3


def said_ids(path) -> list[int]:
    with closing(sqlite3.connect(path)) as raw:
        return [number for (number,) in raw.execute("SELECT id FROM entries")]


CUTS = {
    "rows": ["DELETE FROM entries WHERE id = 3"],
    "rows and checkpoints": ["DELETE FROM entries WHERE id > 1", "DELETE FROM sealed WHERE size > 1"],
    "everything": ["DELETE FROM entries", "DELETE FROM sealed"],
}


def test_a_tail_that_was_cut_off_is_noticed(ledger, tmp_store) -> None:
    tamper(tmp_store, *CUTS["rows"])
    assert refused(ledger, "2 rows and its newest checkpoint covers 3") == 3


@pytest.mark.parametrize("what", ["rows and checkpoints", "everything"])
def test_a_log_that_was_rolled_back_while_it_was_open_is_noticed(ledger, tmp_store, what) -> None:
    tamper(tmp_store, *CUTS[what])
    with pytest.raises(LedgerTamperedError, match=r"cut back from 3 to|not even that of no rows"):
        say(ledger)


def test_a_log_that_was_rewritten_while_it_was_open_is_noticed(ledger, tmp_store, tmp_path) -> None:
    """The same name and key, and more rows than before, but other ones: only who was there can tell."""
    copy = tmp_path / "copy.db"
    ledger.close()
    shutil.copy(tmp_store, copy)
    tamper(copy, *CUTS["rows and checkpoints"])
    with Ledger(copy, signer=SIGNER if ledger.signed_by else None) as forger:
        add(forger.store, an_entry(), an_entry(), an_entry(), an_entry())
    assert say(ledger, "honest") == 4
    with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(tmp_store)) as target:
        source.backup(target)  # over the same file, as somebody does who has it open too
    with pytest.raises(LedgerTamperedError, match="rewritten while this process had it open") as caught:
        say(ledger)
    assert caught.value.row_id == 4


def test_an_older_copy_written_over_the_file_is_noticed(ledger, tmp_store, tmp_path) -> None:
    ledger.close()
    shutil.copy(tmp_store, tmp_path / "old.db")
    say(ledger, "newer")
    with closing(sqlite3.connect(tmp_path / "old.db")) as source, closing(sqlite3.connect(tmp_store)) as target:
        source.backup(target)
    with pytest.raises(LedgerTamperedError, match="cut back from 4 to 3 rows"):
        say(ledger)
    assert os.path.exists(tmp_store)


FORGED = {
    "another root": ("UPDATE sealed SET note = replace(note, '3' || char(10), '4' || char(10))", "of 4 rows"),
    "no checkpoint": ("UPDATE sealed SET note = 'x'", "is not good"),
    "other nodes": ("UPDATE sealed SET nodes = zeroblob(length(nodes))", "does not have the root"),
    "too few nodes": ("UPDATE sealed SET nodes = x''", "has a gap"),
    "a missing state": ("DELETE FROM sealed WHERE size = 2", "has a gap"),
    "another name": ("UPDATE sealed SET note = 'other' || substr(note, instr(note, char(10)))", "is not good|of other"),
}


@pytest.mark.parametrize("what", sorted(FORGED))
def test_a_changed_checkpoint_is_noticed_by_who_opens_the_log(ledger, tmp_store, what) -> None:
    statement, says = FORGED[what]
    tamper(tmp_store, statement)
    says = says if not ledger.signed_by or what not in ("another root", "another name") else "is not good"
    with another(ledger) as new, pytest.raises(LedgerTamperedError, match=says):
        say(new)
    assert said(tmp_store) == ["0", "1", "2"]


def test_a_checkpoint_by_another_key_is_noticed(tmp_store, tmp_path) -> None:
    for path, signer in ((tmp_store, SIGNER), (tmp_path / "forged.db", STRANGER)):
        with Ledger(path, signer=signer, now=FakeClock().now, random=bytes) as ledger:
            say(ledger)
    tamper(
        tmp_store,
        f"ATTACH '{tmp_path / 'forged.db'}' AS f",
        "DELETE FROM sealed",
        "INSERT INTO sealed SELECT * FROM f.sealed",
    )
    with Ledger(tmp_store, signer=SIGNER) as ledger, pytest.raises(LedgerTamperedError, match="is not good"):
        say(ledger)


class Another(LocalSigner):
    """A key of which a log cannot know what it does when it signs: it may remember it."""


def test_what_another_process_signed_with_the_same_key_is_compared_and_only_what_differs_is_verified(
    tmp_store, monkeypatch
) -> None:
    verified: list[bytes] = []
    verify = Verifier.verify
    monkeypatch.setattr(Verifier, "verify", lambda self, *given: verified.append(given[0]) or verify(self, *given))
    begin(tmp_store)
    with (
        Ledger(tmp_store, signer=SIGNER) as ours,
        Ledger(tmp_store, signer=SIGNER) as theirs,
        Ledger(tmp_store, signer=Another(SIGNER.name, bytes(32))) as other,
    ):
        assert [say(ours), say(theirs), say(ours), verified] == [1, 2, 3, []]
        assert (say(other), len(verified)) == (4, 1)
        text, line = ours._store.newest_sealed().note.split("\n\n")
        line = line.replace(line[-20], "A" if line[-20] != "A" else "B")
        tamper(tmp_store, f"UPDATE sealed SET note = '{text}\n\n{line}' WHERE size = 4")
        with pytest.raises(LedgerTamperedError, match="checkpoint of 4 rows is not good"):
            say(ours)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_log_without_a_name_is_refused(ledger, tmp_store, read_only) -> None:
    ledger.close()
    tamper(tmp_store, "DELETE FROM log")
    with pytest.raises(LedgerTamperedError, match="does not say which log it holds"):
        Ledger(tmp_store, read_only=read_only)
    with pytest.raises(LedgerTamperedError, match="does not say which log it holds"):
        say(ledger)


@pytest.mark.parametrize("change", ["vkey = 'nonsense'", "vkey = 'a+b+c'", "vkey = NULL", "origin = 'other'"])
def test_a_log_with_another_name_or_key_is_not_written_to(tmp_store, change) -> None:
    ledger = Ledger(tmp_store, signer=SIGNER)
    say(ledger)
    ledger.close()
    tamper(tmp_store, f"UPDATE log SET {change}")
    with pytest.raises(LedgerError):
        say(ledger)
    with pytest.raises(LedgerError), Ledger(tmp_store, signer=SIGNER) as new:
        say(new)
    assert said_ids(tmp_store) == [1]


# -- the tree that is stored -------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 5), max_size=20))
def test_every_node_of_the_tree_is_found_again(batches) -> None:
    log, states = LogState("origin", None, None), []
    leaves = [leaf_hash(bytes([number])) for number in range(sum(batches))]
    for batch in batches:
        sealed, frontier = log.extend(leaves[log.size : log.size + batch])
        log.commit(sealed, frontier)
        states.append(sealed)

    def sealed_at(leaf: int):
        return next((state for state in states if state.size > leaf), None)

    assert load_frontier(len(leaves), sealed_at) == Frontier(len(leaves), log.frontier.peaks)
    for level in range(len(leaves).bit_length()):
        for index in range(len(leaves) >> level):
            under = leaves[index << level : (index + 1) << level]
            assert find_node(level, index, sealed_at) == root_of(under)
    with pytest.raises(LedgerTamperedError, match="has a gap"):
        find_node(0, len(leaves), sealed_at)


def test_the_number_of_completed_subtrees_is_counted_as_the_tree_grows() -> None:
    frontier, completed = Frontier(), 0
    for leaf in range(100):
        assert completed_before(leaf) == completed
        completed += len(frontier.append(bytes(32)))


def test_extending_changes_nothing_before_the_commit() -> None:
    log = LogState("origin", None, None)
    sealed, frontier = log.extend([bytes(32)])
    assert (log.size, log.note) == (0, None)
    log.commit(sealed, frontier)
    assert (log.size, Checkpoint.parse(log.note).root) == (1, bytes(32))


@SIGNERS
def test_two_who_write_in_turn_catch_up_with_each_other(tmp_store, signer) -> None:
    both = [open_sqlite(tmp_store, signer=signer) for _ in range(2)]
    for number in range(1, 20):
        assert add(both[number % 2], an_entry())[0].id == number
    newest = (19, both[1]._log.note)
    with pytest.raises(LedgerTamperedError, match=r"has a gap|newest checkpoint is gone"):
        both[0]._log.catch_up(19, newest, lambda _: None)
    assert both[1]._log.catch_up(19, newest, lambda _: None) is False
    for store in both:
        store.close()
