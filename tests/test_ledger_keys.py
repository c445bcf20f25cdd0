"""Handing a log on to another key, and enrolling and revoking reviewers' keys."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest
from stores.kit import ORIGIN, SIGNER, STRANGER, begin, run, say, tamper

from donewhen import open_session
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.entry import LOG_SESSION, Entry
from donewhen.errors import (
    CheckpointError,
    LedgerError,
    LedgerTamperedError,
    LedgerUnavailableError,
)
from donewhen.keyring import Keyring
from donewhen.ledger import Draft, Ledger, utc_now
from donewhen.notes import LocalSigner, Signer, open_checkpoint
from donewhen.spec_writer import SpecResult
from donewhen.stores.sqlite import SQLiteStore
from donewhen.testing import FaultyStore

NEXT = LocalSigner(ORIGIN, bytes(31) + b"\2")
THIRD = LocalSigner(ORIGIN, bytes(31) + b"\3")
ADA = LocalSigner("ada", bytes(31) + b"\4")
BOB = LocalSigner("bob", bytes(31) + b"\5")


@pytest.fixture
def ledger(tmp_store: Path):
    begin(tmp_store)
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        say(ledger, "first")
        yield ledger


def rotate(ledger: Ledger, signer: Signer = NEXT):
    return ledger.rotate_key(signer, why="yearly", who="ann", made_by="ann@office")


def signers_of(ledger: Ledger) -> list[list[str]]:
    """Return, for each checkpoint, which of the keys here signed it; every line must be one of theirs."""
    keys = {"test": SIGNER, "next": NEXT, "third": THIRD, "stranger": STRANGER}
    found: list[list[str]] = []
    for sealed in ledger.store.iter_sealed():
        names: list[str] = []
        for name, key in keys.items():
            try:
                open_checkpoint(sealed.note, key.verifier)
            except CheckpointError:
                continue
            names.append(name)
        assert len(names) == sealed.note.count("\n— ")
        found.append(names)
    return found


# -- rotation ----------------------------------------------------------------------------------------------------------


def test_the_old_key_signs_the_rotation_and_the_new_key_everything_after_it(ledger, tmp_store) -> None:
    row = rotate(ledger)
    say(ledger, "after")
    assert (row.session_id, row.kind, row.id) == (LOG_SESSION, "key", 2)
    assert row.data == {
        "action": "rotate",
        "vkey": NEXT.vkey,
        "old": SIGNER.vkey,
        "why": "yearly",
        "who": "ann",
        "made_by": "ann@office",
    }
    # Both sign the checkpoint of the rotation itself: the new key agrees to the place.
    assert signers_of(ledger) == [["test"], ["test", "next"], ["next"]]
    assert Keyring.read(ledger).log_keys(ledger.signed_by) == [(0, SIGNER.vkey), (3, NEXT.vkey)]
    with Ledger(tmp_store, signer=NEXT) as again:
        say(again, "and again")
    assert [row.state_origin for row in ledger.get_all()] == ["first", "after", "and again"]


def test_a_log_can_be_handed_on_again_and_again(ledger, tmp_store) -> None:
    rotate(ledger)
    rotate(ledger, THIRD)  # with no row between
    with Ledger(tmp_store, signer=THIRD) as again:
        say(again)
        assert signers_of(again) == [["test"], ["test", "next"], ["next", "third"], ["third"]]


def test_whoever_has_the_log_open_with_the_old_key_is_refused_and_stores_nothing(ledger, tmp_store) -> None:
    with Ledger(tmp_store, signer=SIGNER) as other:
        say(other)
        rotate(ledger)
        for _ in range(2):
            with pytest.raises(LedgerError, match="handed on to another key while this process had it open") as caught:
                say(other)
            assert not isinstance(caught.value, LedgerTamperedError)
        say(ledger, "after")
        with pytest.raises(LedgerError, match="open the ledger again with the new key"):
            say(other)
        assert len(other.get_all()) == 3  # it can read


def test_the_old_key_no_longer_opens_the_ledger(ledger, tmp_store) -> None:
    rotate(ledger)
    for signer in (SIGNER, STRANGER, None):
        with pytest.raises(LedgerError, match=re.escape(f"signed by the key of {NEXT.vkey}")):
            Ledger(tmp_store, signer=signer)
    with Ledger(tmp_store, read_only=True) as reading:
        assert reading.signed_by == SIGNER.vkey  # what it was begun with


FORK = """
import os, sys
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner
from stores.kit import ORIGIN, begin, SIGNER, say
with Ledger(sys.argv[1], signer=SIGNER) as ledger:
    ledger.rotate_key(LocalSigner.parse(sys.argv[2]), why="yearly", who="ann")
    if os.fork() == 0:
        say(ledger, "child")
        os._exit(0)
    os.wait()
    say(ledger, "parent")
"""


def test_a_child_process_goes_on_with_the_key_that_its_parent_rotated_to(ledger, tmp_store) -> None:
    run(FORK, tmp_store, NEXT.skey)
    assert [row.state_origin for row in ledger.get_all()] == ["first", "child", "parent"]


def test_threads_that_write_meanwhile_are_signed_by_one_key_or_the_other(ledger, tmp_store) -> None:
    def write_many() -> None:
        for number in range(20):
            say(ledger, f"{number}", threading.current_thread().name)

    threads = [threading.Thread(target=write_many) for _ in range(3)]
    for thread in threads:
        thread.start()
    rotate(ledger)
    for thread in threads:
        thread.join()
    before, at, after = ["test"], ["test", "next"], ["next"]
    found = signers_of(ledger)
    place = found.index(at)
    assert found == [before] * place + [at] + [after] * (len(found) - place - 1)
    with Ledger(tmp_store, signer=NEXT) as again:
        assert say(again) == 63


def test_a_ledger_without_a_key_has_none_to_rotate(tmp_store) -> None:
    with Ledger(tmp_store) as ledger:
        say(ledger)
        with pytest.raises(LedgerError, match=r"begun without a key.*Begin a new ledger with a key"):
            rotate(ledger)
        assert say(ledger) == 2


def test_a_key_that_the_log_knows_is_not_rotated_to(ledger) -> None:
    ledger.enroll_reviewer("Ada", ADA.vkey, who="ann")
    rotate(ledger)
    renamed = LocalSigner("other-name", NEXT.private_bytes)
    for known in (NEXT, renamed, SIGNER, ADA):
        with pytest.raises(LedgerError, match=r"is or was the key of this log|is the key of the reviewer 'Ada'"):
            rotate(ledger, known)
    say(ledger)
    assert signers_of(ledger)[-1] == ["next"]


class Mute:
    """A new key whose signer cannot sign."""

    name, vkey = NEXT.name, NEXT.vkey

    def __init__(self, answer: bytes | Exception) -> None:
        self._answer = answer

    def sign(self, message: bytes) -> bytes:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    "answer",
    [b"", bytes(64), STRANGER.sign(b"something"), LedgerUnavailableError("there", "is nobody")],
    ids=["nothing", "zeros", "another key's", "no answer"],
)
def test_a_new_key_that_cannot_sign_is_found_out_before_anything_is_stored(ledger, tmp_store, answer) -> None:
    with pytest.raises(LedgerError):
        rotate(ledger, Mute(answer))
    say(ledger, "still the old key")
    with Ledger(tmp_store, signer=SIGNER) as again:
        say(again)
    assert signers_of(ledger) == [["test"]] * 3


@pytest.mark.parametrize("words", [{"why": " ", "who": "ann"}, {"why": "yearly", "who": ""}])
def test_a_rotation_says_who_and_why(ledger, words) -> None:
    with pytest.raises(ValueError, match="is blank"):
        ledger.rotate_key(NEXT, **words)


@pytest.mark.parametrize("stored", [False, True])
def test_a_rotation_whose_commit_reports_an_error_leaves_the_key_that_is_stored(tmp_store, stored) -> None:
    real = SQLiteStore(str(tmp_store), signer=SIGNER, now=utc_now, random=os.urandom)
    store = FaultyStore(real)
    with Ledger(tmp_store, store=store) as ledger:
        say(ledger)
        store.fail(stored=stored)
        with pytest.raises(LedgerUnavailableError):
            rotate(ledger)
        say(ledger, "goes on")
    with Ledger(tmp_store, signer=NEXT if stored else SIGNER) as again:
        assert say(again) == (4 if stored else 3)


# -- attacks on a rotation ---------------------------------------------------------------------------------------------


def forged_rotation(path: Path, signer: Signer, successor: Signer) -> None:
    """Do with the old key what its thief can: hand the log on, without the new key's agreement."""

    class Thief:
        name, vkey = successor.name, successor.vkey

        def sign(self, message: bytes) -> bytes:
            return signer.sign(message)

    with Ledger(path, signer=signer) as ledger, ledger.store.writing() as tx:
        data = {"action": "rotate", "vkey": successor.vkey, "old": signer.vkey, "who": "eve", "why": "mine"}
        tx.append(Entry(kind="key", session_id=LOG_SESSION, state_origin="key", data=data), ())
        if successor is not THIRD:
            tx.hand_over(Thief())


def test_nobody_hands_a_log_on_to_a_key_that_they_do_not_have(ledger, tmp_store) -> None:
    ledger.close()
    with pytest.raises(CheckpointError, match="not good"):
        forged_rotation(tmp_store, SIGNER, NEXT)
    with Ledger(tmp_store, signer=SIGNER) as again:
        assert say(again) == 2


def test_a_rotation_that_the_new_key_did_not_sign_is_not_followed(ledger, tmp_store) -> None:
    ledger.close()
    forged_rotation(tmp_store, SIGNER, THIRD)
    with (
        Ledger(tmp_store, signer=THIRD) as new,
        pytest.raises(LedgerTamperedError, match=re.escape(f"not signed by {THIRD.vkey}")) as caught,
    ):
        say(new)
    assert caught.value.row_id == 2


def test_a_rotation_in_the_middle_of_a_commit_is_not_followed(ledger, tmp_store) -> None:
    data = {"action": "rotate", "vkey": NEXT.vkey, "old": SIGNER.vkey, "who": "eve", "why": "mine"}
    drafts = [Draft(Entry(kind="key", session_id=LOG_SESSION, state_origin="key", data=data))]
    ledger.note(*drafts, Draft(Entry(kind="write", session_id="s", state_origin="write")))
    with (
        Ledger(tmp_store, signer=NEXT) as new,
        pytest.raises(LedgerTamperedError, match="not the last row of its commit"),
    ):
        say(new)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (
            "UPDATE entries SET body = replace(body, 'ann@office', 'eve@office') WHERE id = 2",
            "not the row that was sealed",
        ),
        (
            f"UPDATE entries SET body = replace(body, '{NEXT.vkey}', '{THIRD.vkey}') WHERE id = 2",
            "not the row that was sealed",
        ),
        (
            "UPDATE entries SET body = replace(body, 'donewhen:log', 'donewhen:lag') WHERE id = 2",
            "not signed by donewhen/",
        ),
        ("UPDATE entries SET body = replace(body, 'rotate', 'dance') WHERE id = 2", "what no key row can"),
        ("UPDATE entries SET body = CAST(body AS BLOB) WHERE id = 2", "not one of the log"),
        ("UPDATE sealed SET size = 9 WHERE size = 2", "has 3 rows and its newest checkpoint covers 9"),
    ],
)
def test_a_changed_rotation_stops_every_writer(ledger, tmp_store, statement, says) -> None:
    rotate(ledger)
    say(ledger)
    ledger.close()
    tamper(tmp_store, statement)
    for signer in (SIGNER, NEXT, THIRD):
        with (
            pytest.raises(LedgerError, match=f"{says}|is signed by the key"),
            Ledger(tmp_store, signer=signer) as opened,
        ):
            say(opened)


# -- reviewers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[None, SIGNER], ids=["unsigned", "signed"])
def any_ledger(request, tmp_path):
    with Ledger(tmp_path / "any.db", signer=request.param) as ledger:
        yield ledger


def test_a_reviewer_is_enrolled_and_revoked_by_rows(any_ledger) -> None:
    enrolled = any_ledger.enroll_reviewer("Ada", ADA.vkey, who="ann", made_by="ada@laptop")
    assert enrolled.data == {"action": "enroll", "name": "Ada", "vkey": ADA.vkey, "who": "ann", "made_by": "ada@laptop"}
    assert Keyring.read(any_ledger).reviewers_at() == {ADA.vkey: "Ada"}
    revoked = any_ledger.revoke_reviewer(ADA.vkey, why="left", who="ann")
    assert revoked.data == {"action": "revoke", "vkey": ADA.vkey, "why": "left", "who": "ann"}
    keyring = Keyring.read(any_ledger)
    assert keyring.reviewers_at() == {}
    assert keyring.reviewers_at(revoked.id) == {ADA.vkey: "Ada"}


def test_a_name_has_one_key_at_a_time(any_ledger) -> None:
    any_ledger.enroll_reviewer("Ada", ADA.vkey, who="ann")
    for name in ("Ada", "ada", " ADA "):
        with pytest.raises(LedgerError, match=r"has a key already.*Revoke that one first"):
            any_ledger.enroll_reviewer(name, BOB.vkey, who="ann")
    any_ledger.revoke_reviewer(ADA.vkey, why="lost", who="ann")
    any_ledger.enroll_reviewer("Ada", BOB.vkey, who="ann")
    assert Keyring.read(any_ledger).reviewers_at() == {BOB.vkey: "Ada"}


def test_a_key_has_one_name_and_is_not_taken_back_once_revoked(any_ledger) -> None:
    any_ledger.enroll_reviewer("Ada", ADA.vkey, who="ann")
    renamed = LocalSigner("somebody-else", ADA.private_bytes).vkey
    for vkey in (ADA.vkey, renamed):
        with pytest.raises(LedgerError, match="is the key of the reviewer 'Ada', so it is enrolled already"):
            any_ledger.enroll_reviewer("Bob", vkey, who="ann")
    any_ledger.revoke_reviewer(ADA.vkey, why="lost", who="ann")
    with pytest.raises(LedgerError, match="and was revoked since: make a new key"):
        any_ledger.enroll_reviewer("Ada", ADA.vkey, who="ann")


def test_the_key_of_the_log_is_no_reviewers_key(ledger) -> None:
    rotate(ledger)
    renamed = LocalSigner("reviewer", NEXT.private_bytes).vkey
    for vkey in (SIGNER.vkey, NEXT.vkey, renamed):
        with pytest.raises(LedgerError, match="must not sign as a reviewer"):
            ledger.enroll_reviewer("Ada", vkey, who="ann")


def test_only_an_enrolled_key_is_revoked(any_ledger) -> None:
    with pytest.raises(LedgerError, match="was never enrolled"):
        any_ledger.revoke_reviewer(ADA.vkey, why="x", who="ann")
    any_ledger.enroll_reviewer("Ada", ADA.vkey, who="ann")
    any_ledger.revoke_reviewer(ADA.vkey, why="x", who="ann")
    with pytest.raises(LedgerError, match="was revoked already, in row 2"):
        any_ledger.revoke_reviewer(ADA.vkey, why="x", who="ann")


@pytest.mark.parametrize(
    ("name", "vkey", "who"),
    [(" ", ADA.vkey, "ann"), ("Ada", "no key", "ann"), ("Ada", ADA.skey, "ann"), ("Ada", ADA.vkey, "")],
)
def test_what_enrols_nobody_is_refused_and_not_written(any_ledger, name, vkey, who) -> None:
    with pytest.raises(ValueError, match=r"blank|key"):
        any_ledger.enroll_reviewer(name, vkey, who=who)
    assert Keyring.read(any_ledger).changes == ()


ENROLLERS = """
import sys
from donewhen.errors import LedgerError
from donewhen.ledger import Ledger
from stores.kit import ORIGIN, begin, SIGNER
with Ledger(sys.argv[1], signer=SIGNER) as ledger:
    try:
        print(ledger.enroll_reviewer("Ada", sys.argv[2], who="ann").id)
    except LedgerError as error:
        print(error)
"""


def test_a_second_process_cannot_enrol_what_the_first_has_enrolled(ledger, tmp_store) -> None:
    assert run(ENROLLERS, tmp_store, ADA.vkey) == "2\n"
    assert "enrolled already" in run(ENROLLERS, tmp_store, ADA.vkey)


# -- the log's own session ---------------------------------------------------------------------------------------------


def test_the_logs_own_session_is_none_of_its_users(ledger) -> None:
    spec = SpecResult("does", "does not", "done", LOG_SESSION)
    refused = r"ids that begin with 'donewhen:' are the log's own"
    for write in (
        lambda: say(ledger, session_id=LOG_SESSION),
        lambda: say(ledger, session_id="donewhen:anything"),
        lambda: ledger.write_spec(spec),
        lambda: ledger.attest(LOG_SESSION, "ann", "0" * 64),
        lambda: open_session(spec, CircuitBreaker(1, 10), ledger),
    ):
        with pytest.raises(ValueError, match=refused):
            write()
    assert Keyring.read(ledger).changes == ()


def test_the_logs_own_session_is_not_listed_among_the_sessions(ledger) -> None:
    rotate(ledger)
    assert [session_id for session_id, _, _ in ledger.sessions()] == ["s"]
    assert [session_id for session_id, _, _ in ledger.store.read_sessions()] == ["s", LOG_SESSION]
