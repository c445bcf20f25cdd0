"""The auditor: honest ledgers pass, and every attack is caught and its row named."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from auditing import (
    CEILINGS,
    KEY,
    OTHER,
    ROWS,
    SIGNER,
    abandon,
    append_honestly,
    attack,
    attack_data,
    bodies,
    body_of,
    fill,
    flip,
    forge_last,
    insert,
    made_entry,
    renumber,
    reseal,
    reserve,
    rewrite,
    seal_as_it_is,
    settle,
    spend_less,
    start,
    swap,
)
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from sessions import SPEC, Desk, calls_of, seeing
from stores.kit import begin

from donewhen import canonical
from donewhen.entry import spec_hash
from donewhen.errors import (
    LedgerError,
    LedgerFormatError,
    LedgerTamperedError,
    LedgerUnavailableError,
)
from donewhen.ledger import Draft, Ledger
from donewhen.notes import LocalSigner, Verifier
from donewhen.reconcile import NO_WORK, Found, iter_in_doubt, reconcile
from donewhen.testing import make_reply
from donewhen.usage import Usage
from donewhen.verify import VerifyReport, rederive, verify_ledger

NAMED = "1 word of a reviewer is a name without a signature: named, not proven"
"""What is told of the ledger that the attacks are made on."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "ledger.db"
    fill(path)
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path / "ledger.db"))


def test_an_honest_signed_ledger_verifies(path: Path) -> None:
    report = verify_ledger(path, KEY)
    assert (report.rows, report.sessions, report.checkpoints, report.texts) == (ROWS, 3, 14, 5)
    assert (report.signed_by, report.unsigned, report.warnings) == (SIGNER.vkey, False, (NAMED,))
    assert (report.not_proven, report.signatures, report.vouched_to) == (None, 1, 0)
    assert (report.signed_words, report.named_words, report.releases, report.erased) == (0, 1, 0, 0)
    with Ledger(path, read_only=True) as ledger:
        assert report.origin == ledger.origin
        assert verify_ledger(ledger, KEY) == verify_ledger(ledger.store, KEY) == report


def test_without_a_key_the_report_says_that_no_signature_was_checked(path: Path) -> None:
    report = verify_ledger(path, None)
    assert (report.unsigned, report.signed_by, report.key_in_file) == (True, None, SIGNER.vkey)
    assert report.not_proven == "no key was given, so no signature was checked"


def test_an_unsigned_ledger_verifies_and_is_called_unsigned(tmp_store: Path) -> None:
    fill(tmp_store, signer=None)
    report = verify_ledger(tmp_store, None)
    assert report.unsigned
    assert "unsigned" in (report.not_proven or "")


def test_an_unsigned_ledger_is_refused_where_a_key_is_given(tmp_store: Path) -> None:
    fill(tmp_store, signer=None)
    with pytest.raises(LedgerTamperedError, match="not signed"):
        verify_ledger(tmp_store, KEY)


def test_a_ledger_that_was_begun_and_has_no_row_is_signed_and_verifies(tmp_store: Path) -> None:
    begin(tmp_store, SIGNER)
    report = verify_ledger(tmp_store, KEY)
    assert (report.rows, report.checkpoints, report.signatures) == (0, 0, 1)
    assert (report.signed_by, report.not_proven) == (KEY.vkey, None)
    assert report.checkpoint.startswith(f"{KEY.name}\n0\n")


@pytest.mark.parametrize("signer", [SIGNER, None])
def test_a_ledger_without_any_checkpoint_was_emptied(tmp_store: Path, signer: LocalSigner | None) -> None:
    fill(tmp_store, signer)
    attack(tmp_store, "DELETE FROM texts", "DELETE FROM entries", "DELETE FROM sealed")
    for key in (None, None if signer is None else KEY):
        with pytest.raises(LedgerTamperedError, match="no checkpoint of no rows"):
            verify_ledger(tmp_store, key)
    with Ledger(tmp_store, signer=signer) as ledger:
        with pytest.raises(LedgerTamperedError, match="not even that of no rows"):
            ledger.write("s", 1, "a", "x", 1, 1, True)
        with pytest.raises(LedgerTamperedError, match="not even that of no rows"):
            ledger.store.newest_sealed()


@pytest.mark.parametrize(
    "change",
    [
        "note = replace(note, char(10) || '0', char(10) || '1')",
        "start = 1",
        "nodes = x'00'",
        "size = -1",
        "note = CAST(note AS BLOB)",
        "note = ''",
    ],
)
def test_the_checkpoint_of_no_rows_must_be_what_it_was(path: Path, change: str) -> None:
    attack(path, f"UPDATE sealed SET {change} WHERE size = 0")
    for fast in (False, True):
        with pytest.raises(LedgerTamperedError):
            verify_ledger(path, KEY, fast=fast, every_signature=not fast)


def test_a_ledger_is_verified_while_others_write(path: Path) -> None:
    seen: list[int] = []
    with Ledger(path, signer=SIGNER) as ledger:

        def meddle(done: int, _total: int) -> None:
            seen.append(done)
            ledger.write("w", 2, "step", "more", 1, 1, True)

        assert verify_ledger(path, KEY, progress=meddle).rows == ROWS
        assert verify_ledger(path, KEY).rows == ROWS + len(seen)


def test_a_ledger_whose_writer_never_closed_it_verifies(path: Path, tmp_path: Path) -> None:
    ledger = Ledger(path, signer=SIGNER)
    ledger.write("w", 2, "step", "more", 1, 1, True)
    left = tmp_path / "left.db"
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{left}{suffix}")
    ledger.close()
    assert verify_ledger(left, KEY).rows == ROWS + 1


def test_progress_is_told_and_ends_with_all_rows(path: Path) -> None:
    told: list[tuple[int, int]] = []
    verify_ledger(path, KEY, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (ROWS, ROWS)


def test_statistics_of_the_database_are_no_tampering(path: Path) -> None:
    attack(path, "ANALYZE")
    assert verify_ledger(path, KEY).rows == ROWS


def test_a_clock_that_was_set_back_is_a_warning(tmp_store: Path) -> None:
    from donewhen.testing.clock import FakeClock

    clock = FakeClock()
    with Ledger(tmp_store, now=clock.now) as ledger:
        ledger.write("w", 1, "step", "a", 1, 1, True)
        clock.set_wall(-3600)
        ledger.write("w", 2, "step", "b", 1, 1, True)
    assert "row 2 is older" in verify_ledger(tmp_store, None).warnings[0]


def test_a_reservation_past_a_ceiling_is_a_warning(tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        start(ledger, "s")
        ledger.admit("s", reserve("s", 2_000_000))
    assert "row 3 reserves past a ceiling: 2000000 tokens of 1000000" in verify_ledger(tmp_store, None).warnings[0]


# -- honest use, at random --------------------------------------------------------------------------------------------

MOVES = st.lists(
    st.tuples(
        st.sampled_from(["write", "reserve", "settle", "release", "abandon", "raise", "attest", "reconcile"]),
        st.integers(0, 7),
    ),
    max_size=40,
)


def say(ledger: Ledger, session: str, move: str, number: int) -> None:
    """Write what a person says."""
    if move == "raise":
        ledger.raise_ceilings(session, {"turns": number}, why="more", who="Ada")
    elif move == "attest":
        ledger.attest(session, "Ada", "ef" * 32, "日")
    else:
        found = (NO_WORK, Found(tokens=90 + 3 * number), Found(usage=Usage(number, 60, number, 7)))[number % 3]
        for call in list(iter_in_doubt(ledger, session))[:1]:
            reconcile(ledger, call, found, who="Ada", why="the console", force=True)


def play(ledger: Ledger, moves: list[tuple[str, int]]) -> None:
    """Use a ledger as its callers do, eight sessions at once."""
    opened: dict[str, list[int]] = {}
    for number, (move, of) in enumerate(moves):
        session = f"session {of}"
        held = opened.get(session)
        if move == "write":
            ledger.write(session, number, "step é", "input", number, 1, number % 2 == 0, "why 日\U0001f600")
            continue
        if held is None:
            start(ledger, session)
            held = opened[session] = []
        if move == "reserve":
            held.append(ledger.admit(session, reserve(session, 100 + number)).seq)
        elif move == "settle" and held:
            settle(ledger, session, held.pop(), 90 + 3 * number, end=number % 5 == 0)
        elif move == "release" and held:
            seq = held.pop(0)
            refused = Draft(made_entry("error", session, closes=seq, data={"attempt": 1, "status": 429}))
            ledger.close_reservation(session, seq, lambda _b, _h, refused=refused: (refused, []))
        elif move == "abandon" and held:
            abandon(ledger, session, held.pop())
        elif move in ("raise", "attest", "reconcile"):
            say(ledger, session, move, number)
            held[:] = [call.row.seq for call in iter_in_doubt(ledger, session) if call.row.seq in held]


@limits(max_examples=15)
@given(MOVES)
def test_whatever_is_done_honestly_verifies(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("random") / "ledger.db"
    begin(path, SIGNER)
    with Ledger(path, signer=SIGNER) as ledger:
        play(ledger, moves)
        assert verify_ledger(path, KEY).rows == sum(1 for _ in ledger.iter_rows())


def test_a_session_can_be_called_nothing(tmp_store: Path) -> None:
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        for session in ("", "s", ""):
            ledger.write(session, 1, "step", "input", 1, 1, True)
        key = Verifier.parse(ledger.signed_by or "")
    assert verify_ledger(tmp_store, key).sessions == 2


def test_sessions_that_were_forgotten_are_taken_up_again(tmp_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(tmp_store, SIGNER)
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        play(ledger, [(move, of) for of in range(8) for move in ("write", "reserve", "settle", "raise", "attest")])
        for of in range(8):
            session = f"session {of}"
            ledger.write(session, 9, "late", "x", 1, 1, True)
            (newest,) = ledger.rows(session)[-1:]
            ceilings = newest.after[-1].ceilings.as_list()
            data = {"spec_hash": ledger.rows(session)[1].data["spec_hash"], "resumes": True, "ceilings": ceilings}
            ledger.note(Draft(made_entry("open", session, data=data)))
            settle(ledger, session, ledger.admit(session, reserve(session)).seq, 70)
    whole = verify_ledger(tmp_store, KEY)
    monkeypatch.setattr(rederive, "MOST_SESSIONS", 2)
    assert verify_ledger(tmp_store, KEY) == whole
    rewrite(tmp_store, whole.rows, seq=99)
    reseal(tmp_store, SIGNER)
    with pytest.raises(LedgerTamperedError, match="row 99 of session session 7"):
        verify_ledger(tmp_store, KEY)


def test_what_the_loop_writes_verifies_whatever_happens_to_it(tmp_store: Path) -> None:
    begin(tmp_store, SIGNER)
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        desk = Desk(ledger)
        asks = calls_of(("t1", "look", {"x": 1}))
        desk.run(
            TimeoutError("nobody knows"), asks, asks, turns=2, tools=[seeing([])], keep="conversation", max_attempts=2
        )
        assert verify_ledger(tmp_store, KEY).rows == len(desk.rows())
        ledger.raise_ceilings(SPEC.session_id, {"turns": 9}, why="more", who="Ada")
        desk.resume(asks, make_reply("done"), turns=2, tools=[seeing([])], keep="conversation")
        kinds = set(desk.kinds())
        assert verify_ledger(tmp_store, KEY).rows == len(desk.rows())
    assert kinds >= {"spec", "open", "reserve", "llm", "tool", "abandoned", "circuit_breaker", "budget", "close"}


# -- attacks ----------------------------------------------------------------------------------------------------------


ATTACKS: dict[str, tuple[Callable[[Path], None], int | None]] = {
    "a row is modified": (lambda path: rewrite(path, 7, tokens=4), 7),
    "the last row is modified": (lambda path: rewrite(path, 16, max_tokens=11), 16),
    "the first row is modified": (lambda path: rewrite(path, 1, what_it_does="z"), 1),
    "a row is spelled another way": (
        lambda path: attack(path, "UPDATE entries SET body = body || ' ' WHERE id = 7"),
        7,
    ),
    "a row is stored as a blob": (
        lambda path: attack(path, "UPDATE entries SET body = CAST(body AS BLOB) WHERE id = 7"),
        7,
    ),
    "a row is deleted": (lambda path: attack(path, "DELETE FROM entries WHERE id = 7"), 7),
    "a row is deleted and the rest renumbered": (renumber, 7),
    "the first row is deleted": (lambda path: attack(path, "DELETE FROM texts", "DELETE FROM entries WHERE id = 1"), 1),
    "a session is deleted": (lambda path: attack(path, "DELETE FROM entries WHERE session_id = 'w'"), 7),
    "all rows are deleted": (lambda path: attack(path, "DELETE FROM texts", "DELETE FROM entries"), 1),
    "two rows are swapped": (swap, 7),
    "the tail is cut": (
        lambda path: attack(path, "DELETE FROM texts WHERE entry_id > 14", "DELETE FROM entries WHERE id > 14"),
        15,
    ),
    "the tail is cut inside a commit, with its checkpoints": (
        lambda path: attack(
            path,
            "DELETE FROM texts WHERE entry_id > 8",
            "DELETE FROM entries WHERE id > 8",
            "DELETE FROM sealed WHERE size > 8",
        ),
        8,
    ),
    "the tail is cut, but for its texts": (
        lambda path: attack(path, "DELETE FROM entries WHERE id > 14", "DELETE FROM sealed WHERE size > 14"),
        16,
    ),
    "the checkpoints of the tail are removed": (lambda path: attack(path, "DELETE FROM sealed WHERE size > 14"), 15),
    "a checkpoint in the middle is removed": (lambda path: attack(path, "DELETE FROM sealed WHERE size = 7"), 7),
    "a row is slipped in without a checkpoint": (lambda path: attack(path, insert(17)), 17),
    "a row is slipped in before the first": (lambda path: attack(path, insert(0)), 1),
    "a row is slipped in, signed by another key": (lambda path: forge_last(path, OTHER), 17),
    "a row is slipped in, unsigned": (lambda path: forge_last(path, None), 17),
    "a balance is lowered": (spend_less, 16),
    "a ceiling is raised": (lambda path: rewrite(path, 12, ceilings=[99, 99, None, None, None, None]), 12),
    "a node of the tree is changed": (flip("nodes", 7), 7),
    "a signature is not well formed": (
        lambda path: attack(
            path, "UPDATE sealed SET note = substr(note, 1, length(note) - 9) || char(10) WHERE size = 7"
        ),
        7,
    ),
    "a signature names another key": (
        lambda path: attack(path, "UPDATE sealed SET note = replace(note, '— donewhen', '— donewhom') WHERE size = 7"),
        7,
    ),
    "a signature is stripped": (
        lambda path: attack(path, "UPDATE sealed SET note = substr(note, 1, instr(note, '—') - 2) WHERE size = 7"),
        7,
    ),
    "the newest signature is changed": (flip("note", 16), 16),
    "a checkpoint covers rows of another": (
        lambda path: attack(path, "UPDATE sealed SET start = start - 1 WHERE size = 7"),
        7,
    ),
    "nodes are cut off": (
        lambda path: attack(path, "UPDATE sealed SET nodes = substr(nodes, 1, 31) WHERE size = 7"),
        7,
    ),
    "a note is a blob": (lambda path: attack(path, "UPDATE sealed SET note = CAST(note AS BLOB) WHERE size = 7"), 7),
    "a note gets a line more": (lambda path: attack(path, "UPDATE sealed SET note = note || note WHERE size = 7"), 7),
    "a note carries another signature too": (
        lambda path: attack(path, "UPDATE sealed SET note = note || '— a AAAAAAAA' || char(10) WHERE size = 7"),
        7,
    ),
    "a note is that of another size": (
        lambda path: attack(path, "UPDATE sealed SET note = (SELECT note FROM sealed WHERE size = 10) WHERE size = 7"),
        7,
    ),
    "everything is rewritten without the key": (lambda path: (rewrite(path, 7, tokens=4), reseal(path, OTHER)), 1),
    "everything is rewritten unsigned": (lambda path: reseal(path, None), 1),
    "the log is renamed": (lambda path: attack(path, "UPDATE log SET origin = 'other'"), None),
    "the log is nameless": (lambda path: attack(path, "DELETE FROM log"), None),
    "the log names another key": (lambda path: attack(path, ("UPDATE log SET vkey = ?", (OTHER.vkey,))), None),
    "the log names no key": (lambda path: attack(path, "UPDATE log SET vkey = NULL"), None),
    "a kept text is changed": (lambda path: attack(path, "UPDATE texts SET body = x'00' WHERE entry_id = 9"), 9),
    "a salt is changed": (lambda path: attack(path, "UPDATE texts SET salt = x'00' WHERE entry_id = 9"), 9),
    "a salt is text": (lambda path: attack(path, "UPDATE texts SET salt = 'a' WHERE entry_id = 9"), 9),
    "a text is put beside a row": (
        lambda path: attack(path, "INSERT INTO texts VALUES (99, 7, 'output', x'00', x'00')"),
        7,
    ),
    "a text is moved": (lambda path: attack(path, "UPDATE texts SET entry_id = 8 WHERE entry_id = 9"), 8),
    "a text gets another label": (lambda path: attack(path, "UPDATE texts SET label = 'x' WHERE entry_id = 9"), 9),
    "a text is put beside no row at all": (
        lambda path: attack(path, "INSERT INTO texts VALUES (99, 'x', 'output', x'00', x'00')"),
        None,
    ),
    "a text has a label of bytes": (
        lambda path: attack(path, "UPDATE texts SET label = x'ff' WHERE entry_id = 9"),
        9,
    ),
    "a row is not UTF-8": (
        lambda path: attack(path, "UPDATE entries SET body = replace(body, 'input', CAST(x'ff' AS TEXT)) WHERE id = 7"),
        7,
    ),
    "a view is replaced": (
        lambda path: attack(path, "DROP VIEW ledger", "CREATE VIEW ledger AS SELECT * FROM entries WHERE id < 5"),
        None,
    ),
    "a view is dropped": (lambda path: attack(path, "DROP VIEW attestations"), None),
    "a table is added": (lambda path: attack(path, "CREATE TABLE more (id)"), None),
    "an index is dropped": (lambda path: attack(path, "DROP INDEX entries_close_once"), None),
    "a trigger is added": (
        lambda path: attack(path, "CREATE TRIGGER t AFTER INSERT ON entries BEGIN SELECT 1; END"),
        None,
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_caught_and_its_row_named(path: Path, name: str) -> None:
    change, row_id = ATTACKS[name]
    change(path)
    with pytest.raises(LedgerTamperedError) as caught:
        verify_ledger(path, KEY)
    assert caught.value.row_id == row_id, str(caught.value)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_caught_after_an_honest_append_too(path: Path, name: str) -> None:
    change, _ = ATTACKS[name]
    change(path)
    append_honestly(path)
    with pytest.raises(LedgerTamperedError):
        verify_ledger(path, KEY)


# What only the whole verification looks at: texts, and what rows say.
BEYOND_THE_TREE = {name for name in ATTACKS if "text" in name or "salt" in name}


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - BEYOND_THE_TREE))
def test_an_attack_on_the_rows_or_the_tree_is_caught_with_the_tree_alone(path: Path, name: str) -> None:
    change, row_id = ATTACKS[name]
    change(path)
    with pytest.raises(LedgerTamperedError) as caught:
        verify_ledger(path, KEY, fast=True)
    assert caught.value.row_id == row_id, str(caught.value)


def test_a_trigger_that_is_not_put_back_is_missed(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER entries_no_update")
    with pytest.raises(LedgerTamperedError, match="trigger 'entries_no_update' of the database is missing"):
        verify_ledger(path, KEY)


def test_a_generated_column_that_shows_something_else_is_caught(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, '$.closes', '$.turn') WHERE name = 'entries'")
    with pytest.raises(LedgerTamperedError, match="table 'entries' of the database was changed"):
        verify_ledger(path, KEY)


def test_an_index_that_hides_a_row_is_caught(path: Path) -> None:
    change = "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = 'entries'"
    ours, theirs = "json_extract(body, '$.session')", "iif(id = 7, 'hidden', json_extract(body, '$.session'))"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(change, (ours, theirs))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("REINDEX")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(change, (theirs, ours))
    with Ledger(path, read_only=True) as ledger:
        assert ledger.get_session("w") == []
    with pytest.raises(LedgerTamperedError, match="entries_by_session"):
        verify_ledger(path, KEY)


def test_another_key_is_refused_and_both_are_named(path: Path) -> None:
    with pytest.raises(LedgerTamperedError, match="names another key") as caught:
        verify_ledger(path, Verifier.parse(OTHER.vkey))
    assert SIGNER.vkey in str(caught.value)
    assert OTHER.vkey in str(caught.value)


def test_a_log_of_another_key_under_the_name_of_ours_is_refused(tmp_store: Path) -> None:
    fill(tmp_store, signer=OTHER)
    attack(tmp_store, ("UPDATE log SET vkey = ?", (SIGNER.vkey,)))
    with pytest.raises(LedgerTamperedError, match="no rows are not what their checkpoint states"):
        verify_ledger(tmp_store, KEY)


def test_an_older_signed_state_passes_here_but_not_a_writer_that_saw_the_newer(path: Path) -> None:
    with Ledger(path, signer=SIGNER) as ledger:
        ledger.write("w", 2, "step", "x", 1, 1, True)
        attack(
            path,
            "DELETE FROM texts WHERE entry_id > 14",
            "DELETE FROM entries WHERE id > 14",
            "DELETE FROM sealed WHERE size > 14",
        )
        with pytest.raises(LedgerTamperedError, match="cut back"):
            ledger.write("w", 3, "step", "x", 1, 1, True)
    assert verify_ledger(path, KEY).rows == 14


# -- what a key that signs anything cannot make true: rows that do not follow from the rows before ---------------------

LIES: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "a reply moves no balance": (lambda path: rewrite(path, 4, after=body_of(path, 3)["after"]), 4, "balances"),
    "a reservation that holds less than none": (lambda path: rewrite(path, 13, reserve=[1, -5, None, 0]), 13, "-5"),
    "a reservation that is no amounts": (lambda path: rewrite(path, 13, reserve="much"), 13, "much"),
    "a reply without usage that is not charged whole": (lambda path: rewrite(path, 4, usage=None), 4, "charged 90"),
    "a reply that used more than it says": (lambda path: rewrite(path, 4, tokens=80), 4, "charged 80"),
    "a reply whose usage is not numbers": (lambda path: rewrite(path, 4, usage={"input": "9"}), 4, "usage"),
    "a reply whose cost is below nothing": (lambda path: rewrite(path, 4, cost_microusd=-1), 4, "cost"),
    "an overrun that is not said": (lambda path: rewrite(path, 8, over_reservation=1), 8, "20"),
    "a reply that closes nothing that is there": (lambda path: rewrite(path, 8, closes=77), 8, "not a reservation"),
    "a tool that closes a reservation": (lambda path: rewrite(path, 5, closes=77), 5, "cannot be one"),
    "a tool that doubts one": (lambda path: rewrite(path, 5, doubts=3), 5, "cannot be one"),
    "a doubt of what is not there": (lambda path: rewrite(path, 14, doubts=1), 14, "not a reservation"),
    "a spec whose hash is another's": (lambda path: rewrite(path, 1, what_it_does="z"), 1, "spec_hash"),
    "a spec without answers": (lambda path: attack_data(path, 1, {"spec_hash": "ab" * 32}), 1, "answers"),
    "a session opened under another spec": (lambda path: rewrite(path, 2, spec_hash="ab" * 32), 2, "another spec"),
    "a session opened under other terms": (lambda path: rewrite(path, 2, terms={"n": 2}), 2, "another spec"),
    "a session opened under a spec that is no digest": (lambda path: rewrite(path, 2, spec_hash=[]), 2, "another spec"),
    "a reservation of a flag": (lambda path: rewrite(path, 13, reserve=[True, 1, None, 0]), 13, "it reserves"),
    "a reservation of a cost below nothing": (lambda path: rewrite(path, 13, reserve=[1, 1, -1, 0]), 13, "it reserves"),
    "a reservation of three amounts": (lambda path: rewrite(path, 13, reserve=[1, 1, 0]), 13, "it reserves"),
    "tools that are no list": (lambda path: rewrite(path, 4, tools=5), 4, "tools"),
    "a session opened without ceilings": (lambda path: rewrite(path, 2, ceilings=None), 2, "amounts"),
    "a row out of its order": (lambda path: rewrite(path, 10, seq=99), 10, "row 99 of session s"),
    "a kind under the name of another": (lambda path: rewrite(path, 10, state_origin="llm"), 10, "origin"),
    "commitments that are none": (lambda path: rewrite(path, 9, texts=["output"]), 9, "commitments"),
    "a field that no such row has": (lambda path: rewrite(path, 9, who="Ada"), 9, "not a proper"),
    "a row of no known kind": (lambda path: rewrite(path, 10, kind="note", state_origin="note"), 10, "not a proper"),
}


@pytest.mark.parametrize("more", [b'"after":[]', b'"after":[],"aft":[]', b'"after":[1.0]', b'"after":[ ]', b'"aft":[]'])
def test_balances_have_one_spelling(tmp_store: Path, more: bytes) -> None:
    with Ledger(tmp_store) as ledger:
        ledger.write("s", 1, "step", "x", 1, 1, True)
    [body] = bodies(tmp_store)
    edited = body.replace(b'{"at":', b"{" + more + b',"at":')
    attack(tmp_store, ("UPDATE entries SET body = ? WHERE id = 1", (edited.decode(),)))
    seal_as_it_is(tmp_store)
    with pytest.raises(LedgerTamperedError, match=r"balances|canonical|closed set") as caught:
        verify_ledger(tmp_store, None)
    assert caught.value.row_id == 1


@pytest.mark.parametrize("name", LIES)
def test_a_signed_lie_is_caught(path: Path, name: str) -> None:
    change, row_id, told = LIES[name]
    change(path)
    reseal(path, SIGNER)
    with pytest.raises(LedgerTamperedError, match=told) as caught:
        verify_ledger(path, KEY)
    assert caught.value.row_id == row_id, str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"), [({"id": 8}, "row 10: it says that it is row 8"), ({"prev": "ab" * 32}, "row 10: .* follow")]
)
def test_a_signed_row_must_be_in_its_place(path: Path, change: dict[str, Any], told: str) -> None:
    rewrite(path, 10, **change)
    reseal(path, SIGNER, relink=False)
    with pytest.raises(LedgerTamperedError, match=told):
        verify_ledger(path, KEY)


def test_a_time_that_is_none_is_told(path: Path) -> None:
    for row_id in (3, 4):
        rewrite(path, row_id, at="yesterday")
    reseal(path, SIGNER)
    assert verify_ledger(path, KEY).warnings == (
        NAMED,
        "row 3 has no readable time: 'yesterday'",
        "row 4 has no readable time: 'yesterday'",
    )


def test_warnings_beyond_a_number_are_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rederive, "MOST_WARNINGS", 1)
    for row_id in (3, 4, 5):
        rewrite(path, row_id, at="yesterday")
    reseal(path, SIGNER)
    assert verify_ledger(path, KEY).warnings == (NAMED, "row 3 has no readable time: 'yesterday'", "2 more like these")


def test_a_second_spec_of_a_session_is_told(path: Path) -> None:
    body = body_of(path, 1)
    attack(path, insert(17, **{**body, "seq": 7, "session": "u", "after": body_of(path, 16)["after"], "id": 17}))
    reseal(path, SIGNER)
    assert "row 17 is another spec for session u" in verify_ledger(path, KEY).warnings


def test_a_session_opened_without_the_terms_of_its_spec_is_told(path: Path) -> None:
    answers = body_of(path, 1)["data"]
    whole = spec_hash(answers["what_it_does"], answers["what_it_does_not"], answers["done_looks_like"])
    opened = body_of(path, 2)
    data = {name: value for name, value in opened["data"].items() if name != "terms"} | {"spec_hash": whole}
    attack_data(path, 2, data)
    reseal(path, SIGNER)
    assert verify_ledger(path, KEY).warnings == (NAMED, "row 2 opens session s without the terms of its spec")


def test_a_log_with_a_name_of_two_lines_is_refused(path: Path) -> None:
    attack(path, "UPDATE log SET origin = 'a' || char(10) || 'b'")
    with pytest.raises(LedgerTamperedError, match="no proper name"):
        verify_ledger(path, KEY)


def test_rewriting_everything_with_the_key_passes_here(path: Path) -> None:
    rewrite(path, 7, tokens=4)
    reseal(path, SIGNER)
    assert verify_ledger(path, KEY).rows == ROWS


@pytest.mark.parametrize("kind", ["reserve", "budget", "llm", "open"])
def test_nothing_is_spent_before_there_is_a_spec_and_a_session(tmp_store: Path, kind: str) -> None:
    data = {"reserve": [1, 1, None, 0]} if kind == "reserve" else {"texts": {}}
    data = {"ceilings": CEILINGS} if kind == "budget" else data
    with Ledger(tmp_store) as ledger:
        ledger.write("s", 1, "step", "x", 1, 1, True)
    attack(tmp_store, insert(2, kind=kind, state_origin=kind, session="x", data=data))
    reseal(tmp_store, None)
    with pytest.raises(LedgerTamperedError, match=r"row 2: .*(not opened|nothing was reserved|without a spec)"):
        verify_ledger(tmp_store, None)


HOSTILE: list[Any] = [None, True, 0, -1, 2**53 - 1, "", "x", "\x00", "\ud800", [], [1], {}, {"a": 1}, [[]], [{}]]


def places(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to everything in a row."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [one for name, member in inner for one in ((*before, name), *places(member, (*before, name)))]


@limits(max_examples=60)
@given(st.data())
def test_whatever_a_signed_row_says_is_judged_or_refused_in_one_sentence(
    made: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = Path(shutil.copy(made, tmp_path_factory.mktemp("hostile") / "ledger.db"))
    row_id = data.draw(st.integers(1, ROWS))
    body = body_of(path, row_id)
    *way, last = data.draw(st.sampled_from([one for one in places(body) if one[0] not in ("id", "session", "seq")]))
    inner: Any = body
    for step in way:
        inner = inner[step]
    inner[last] = data.draw(st.sampled_from(HOSTILE))
    spelled = canonical.dumps(body).decode()
    try:
        attack(path, ("UPDATE entries SET body = ? WHERE id = ?", (spelled, row_id)))
    except sqlite3.Error:
        return  # an index of the database refuses it
    reseal(path, SIGNER)
    try:
        rows = verify_ledger(path, KEY).rows
    except (LedgerTamperedError, LedgerFormatError):
        rows = ROWS
    assert rows == ROWS


# -- the format, as docs/ledger_format.md tells it to somebody who has none of our code --------------------------------


def root_over(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root_over(leaves[:split]) + root_over(leaves[split:])).digest()


def test_the_document_is_enough_to_work_out_every_root(made: Path) -> None:
    with closing(sqlite3.connect(made)) as connection:
        bodies = [body.encode() for (body,) in connection.execute("SELECT body FROM entries ORDER BY id")]
        sealed = connection.execute("SELECT size, start, note, nodes FROM sealed ORDER BY size").fetchall()
        [origin] = connection.execute("SELECT origin FROM log").fetchone()
    leaves = [hashlib.sha256(b"\x00" + body).digest() for body in bodies]
    assert sealed[0][0] == 0
    for size, before, note, nodes in sealed:
        lines = note.split("\n")
        assert lines[:3] == [origin, str(size), base64.b64encode(root_over(leaves[:size])).decode()]
        assert (lines[3], len(lines)) == ("", 6)
        if not size:
            assert (before, nodes) == (0, b"")
            continue
        assert nodes[:32] == leaves[before]
        assert len(nodes) // 32 == (2 * size - size.bit_count()) - (2 * before - before.bit_count())


def test_the_document_is_enough_to_check_a_kept_text(made: Path) -> None:
    with closing(sqlite3.connect(made)) as connection:
        row = connection.execute("SELECT e.body, t.salt, t.body FROM texts t JOIN entries e ON e.id = t.entry_id")
        body, salt, text = row.fetchone()
    assert (
        json.loads(body)["data"]["texts"]["request"] == hashlib.sha256(b"donewhen/v1/text\0" + salt + text).hexdigest()
    )


# -- what is not a ledger ----------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailableError, match="no file"):
        verify_ledger(tmp_path / "nothing.db", None)


def test_a_folder_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailableError):
        verify_ledger(tmp_path, None)


def test_what_is_no_database_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database, and long enough to be sure of that " * 99)
    with pytest.raises(LedgerFormatError, match="not a database"):
        verify_ledger(tmp_path / "x.db", None)


@pytest.mark.parametrize("sql", ["CREATE TABLE ledger (id)", "CREATE TABLE other (id)", "PRAGMA user_version = 0"])
def test_the_database_of_something_else_is_one_error(tmp_path: Path, sql: str) -> None:
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        connection.execute(sql)
    with pytest.raises(LedgerFormatError):
        verify_ledger(tmp_path / "x.db", None)


def test_a_damaged_file_is_one_error(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5000:60_000] = bytes(55_000)
    path.write_bytes(bytes(data))
    with pytest.raises(LedgerError):
        verify_ledger(path, KEY)


def test_a_report_cannot_be_changed(path: Path) -> None:
    report: VerifyReport = verify_ledger(path, KEY)
    with pytest.raises(AttributeError):
        report.rows = 1  # pyright: ignore[reportAttributeAccessIsue]
