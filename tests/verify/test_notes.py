"""Checkpoints: which signatures vouch for what, also when the log was handed on from key to key."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from auditing import KEY, SIGNER, attack, fill, flip, insert, reseal, rewrite
from stores.kit import ORIGIN, begin

from donewhen.errors import LedgerTamperedError
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner, Verifier, open_note, sign_note
from donewhen.signature_lines import make_line, split_note
from donewhen.verify import named_keys, verify_ledger

KEYS = [LocalSigner(ORIGIN, bytes([place]) * 32) for place in (1, 2, 3)]
FIRST, SECOND, THIRD = KEYS
STRANGER = LocalSigner(ORIGIN, b"\x09" * 32)


@pytest.fixture(scope="module")
def handed_on(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of 8 rows whose log is handed on in rows 3 and 6."""
    path = tmp_path_factory.mktemp("handed on") / "ledger.db"
    begin(path, FIRST)
    with Ledger(path, signer=FIRST) as ledger:
        for new in (SECOND, THIRD, None):
            for step in ("a", "b"):
                ledger.write("s", 1, step, "x", 1, 1, True)
            if new is not None:
                ledger.rotate_key(new, why="yearly", who="Eve")
    return path


@pytest.fixture
def path(handed_on: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(handed_on, tmp_path / "ledger.db"))


@pytest.fixture
def plain(tmp_store: Path) -> Path:
    fill(tmp_store)
    return tmp_store


def test_any_key_that_the_log_had_can_be_given(path: Path) -> None:
    assert named_keys(path) == tuple(key.vkey for key in KEYS)
    for key in KEYS:
        for fast in (False, True):
            report = verify_ledger(path, key.verifier, fast=fast)
            assert (report.rows, report.signed_by, report.not_proven) == (8, key.vkey, None)
            assert report.keys == ((0, FIRST.vkey), (4, SECOND.vkey), (7, THIRD.vkey))
            assert report.signatures == 5  # the newest, and two at each place where it was handed on


def test_a_key_that_the_log_never_had_is_refused(path: Path) -> None:
    for key in (STRANGER, LocalSigner(ORIGIN, b"\x08" * 32)):
        with pytest.raises(LedgerTamperedError, match="names another key"):
            verify_ledger(path, key.verifier)


def test_every_signature_is_verified_where_that_is_asked_for(path: Path) -> None:
    assert verify_ledger(path, FIRST.verifier, every_signature=True).signatures == 11


def test_a_log_that_was_handed_on_by_its_last_row_verifies(tmp_store: Path) -> None:
    begin(tmp_store, FIRST)
    with Ledger(tmp_store, signer=FIRST) as ledger:
        ledger.write("s", 1, "a", "x", 1, 1, True)
        ledger.rotate_key(SECOND, why="yearly", who="Eve")
    for key in (FIRST, SECOND):
        report = verify_ledger(tmp_store, key.verifier)
        assert (report.rows, report.signatures) == (2, 2)


@pytest.mark.parametrize("size", [1, 2, 4, 5, 7])
def test_an_older_signature_that_is_not_good_is_found_where_every_one_is_verified(path: Path, size: int) -> None:
    flip("note", size)(path)
    assert verify_ledger(path, FIRST.verifier).not_proven is None
    with pytest.raises(LedgerTamperedError, match=f"checkpoint of {size} rows is not good") as caught:
        verify_ledger(path, FIRST.verifier, every_signature=True)
    assert (caught.value.row_id, caught.value.size) == (size, size)


@pytest.mark.parametrize("size", [3, 6, 8])
@pytest.mark.parametrize("fast", [False, True])
def test_the_newest_signature_and_those_of_a_key_that_is_handed_on_must_be_good(
    path: Path, size: int, *, fast: bool
) -> None:
    flip("note", size)(path)
    with pytest.raises(LedgerTamperedError, match=f"checkpoint of {size} rows is not good"):
        verify_ledger(path, FIRST.verifier, fast=fast)


@pytest.mark.parametrize("line", [1, 2])
def test_both_keys_must_have_signed_where_one_takes_over(path: Path, line: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        [note] = connection.execute("SELECT note FROM sealed WHERE size = 3").fetchone()
    lines = note.split("\n")
    del lines[3 + line]
    attack(path, ("UPDATE sealed SET note = ? WHERE size = 3", ("\n".join(lines),)))
    with pytest.raises(LedgerTamperedError, match="not what their checkpoint states"):
        verify_ledger(path, FIRST.verifier)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_a_checkpoint_signed_by_the_log_s_key_of_another_time_is_refused(path: Path, size: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        [note] = connection.execute("SELECT note FROM sealed WHERE size = ?", (size,)).fetchone()
    text = note.partition("\n\n")[0] + "\n"
    other = SECOND if size != 4 else FIRST
    attack(path, ("UPDATE sealed SET note = ? WHERE size = ?", (sign_note(text, other), size)))
    with pytest.raises(LedgerTamperedError, match="not what their checkpoint states"):
        verify_ledger(path, FIRST.verifier)


def test_a_row_that_hands_the_log_on_is_the_last_of_its_commit(path: Path) -> None:
    attack(path, "DELETE FROM sealed WHERE size = 3", "UPDATE sealed SET start = 2 WHERE size = 4")
    with pytest.raises(LedgerTamperedError):
        verify_ledger(path, FIRST.verifier)


def test_a_commit_that_passes_by_a_rotation_is_refused_though_it_is_the_newest(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT note, nodes FROM sealed WHERE size > 3 ORDER BY size").fetchall()
    text = found[-1][0].partition("\n\n")[0] + "\n"  # which the key of that time signs, and the newest never saw
    state = (sign_note(text, SECOND), b"".join([nodes for _, nodes in found]))
    attack(path, "DELETE FROM sealed WHERE size > 3", ("INSERT INTO sealed VALUES (8, 3, ?, ?)", state))
    for key in KEYS:
        with pytest.raises(LedgerTamperedError, match="not the last row of its commit") as caught:
            verify_ledger(path, key.verifier)
        assert caught.value.row_id == 6


def test_a_stolen_log_cannot_be_handed_on_without_its_key(plain: Path) -> None:
    data = {"action": "rotate", "old": SIGNER.vkey, "vkey": STRANGER.vkey, "who": "mal", "why": "mine"}
    row = insert(17, kind="key", state_origin="key", session="donewhen:log", data=data)
    attack(plain, row)
    reseal(plain, STRANGER)
    for fast in (False, True):
        with pytest.raises(LedgerTamperedError):
            verify_ledger(plain, KEY, fast=fast)


def test_a_rotation_from_a_key_that_the_log_did_not_have_is_refused(path: Path) -> None:
    rewrite(path, 6, old=FIRST.vkey)
    with pytest.raises(LedgerTamperedError, match="a rotation starts from the key") as caught:
        verify_ledger(path, FIRST.verifier)
    assert caught.value.row_id == 6


def test_the_root_of_an_older_checkpoint_is_held_against_the_rows_by_the_whole_verification(plain: Path) -> None:
    attack(
        plain,
        "UPDATE sealed SET note = (SELECT replace(note, substr(note, instr(note, char(10) || '7') + 3, 42),"
        " substr('" + "A" * 42 + "', 1, 42)) FROM sealed AS s WHERE s.size = 7) WHERE size = 7",
    )
    assert verify_ledger(plain, KEY, fast=True).not_proven is None
    with pytest.raises(LedgerTamperedError, match="rows 7 to 7 are not what their checkpoint states"):
        verify_ledger(plain, KEY)


@pytest.mark.parametrize("origin", ["", "a\x00b", "a\rb", "a\nb", "x" * 100_000 + "\x7f\x00"])
def test_a_name_that_no_log_can_have_is_refused(plain: Path, origin: str) -> None:
    attack(plain, ("UPDATE log SET origin = ?", (origin,)))
    with pytest.raises(LedgerTamperedError):
        verify_ledger(plain, KEY)


@pytest.mark.parametrize("vkey", ["", "x", "a+b+c", "\x00", SIGNER.vkey + " ", "+" * 1000])
def test_what_is_no_key_is_refused(plain: Path, vkey: str) -> None:
    attack(plain, ("UPDATE log SET vkey = ?", (vkey,)))
    for verifier in (KEY, None):
        with pytest.raises(LedgerTamperedError):
            verify_ledger(plain, verifier)


def test_without_a_key_no_signature_is_verified(path: Path) -> None:
    flip("note", 8)(path)
    report = verify_ledger(path, None, every_signature=True)
    assert (report.signatures, report.signed_by) == (0, None)
    assert report.not_proven == "no key was given, so no signature was checked"


def test_another_log_of_the_same_key_is_refused_by_its_name(plain: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with Ledger(other, signer=SIGNER) as ledger:
        ledger.write("s", 1, "a", "x", 1, 1, True)
    key = KEY.named(ledger.origin)
    assert verify_ledger(other, key).signed_by == ledger.signed_by == key.vkey
    for fast in (False, True):
        with pytest.raises(
            LedgerTamperedError, match=f"this is the log {ledger.origin}, and the key is that of {ORIGIN}"
        ):
            verify_ledger(other, KEY, fast=fast)
        with pytest.raises(LedgerTamperedError, match="and the key is that of"):
            verify_ledger(plain, key, fast=fast)


def test_another_log_of_the_same_key_is_refused_though_it_is_given_our_name(plain: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with Ledger(other, signer=SIGNER) as ledger:
        ledger.write("s", 1, "a", "x", 1, 1, True)
    named = f"UPDATE log SET origin = '{ORIGIN}', vkey = '{KEY.vkey}'"
    with closing(sqlite3.connect(other)) as connection:
        notes = connection.execute("SELECT note, size FROM sealed").fetchall()
    # The name in a signature line is not signed, and the key is the same: under our name each of them is good.
    ours = [(note.partition("\n\n")[0] + "\n\n" + renamed(note), size) for note, size in notes]
    attack(other, named, *[("UPDATE sealed SET note = ? WHERE size = ?", one) for one in ours])
    assert open_note(ours[-1][0], KEY)
    for fast in (False, True):
        with pytest.raises(LedgerTamperedError, match="not what their checkpoint states"):
            verify_ledger(other, KEY, fast=fast)


def renamed(note: str) -> str:
    """Return the signature line of a note under the name of `ORIGIN`."""
    [line] = split_note(note)[1]
    return make_line(ORIGIN, KEY.key_hash, line.signature) + "\n"


def test_a_verifier_is_parsed_the_same_however_it_is_made() -> None:
    assert Verifier.parse(FIRST.vkey) == FIRST.verifier
