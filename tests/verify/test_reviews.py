"""What people said, and what was done on their word: honest reviews verify, and what the log's key signs besides does not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from auditing import attack, body_of, reseal, rewrite
from reviews import House, ask_to_pay

from donewhen import canonical
from donewhen.dsse import loads
from donewhen.entry import Entry
from donewhen.errors import LedgerTamperedError
from donewhen.keys import made_here
from donewhen.ledger import Draft, Ledger
from donewhen.notes import LocalSigner
from donewhen.outbox import Outbox, ToFile
from donewhen.testing import make_reply
from donewhen.verify import VerifyReport, verify_ledger


@pytest.fixture
def house(tmp_store: Path) -> Iterator[House]:
    house = House(tmp_store)
    house.enroll("ann", "ben")
    yield house
    house.close()


def say(house: House, name: str, decision: str = "attest", session: str = "s") -> None:
    house.clock.move(1)
    if decision == "attest":
        house.surface.attest(session, name, reviewer_key=house.keys[name])
    else:
        house.surface.reject(session, name, "no", reviewer_key=house.keys[name])


def release(house: House, session: str = "s", name: str = "out.txt") -> None:
    Outbox(house.ledger, now=house.clock.now).release(session, ToFile(house.path.parent / name))


@pytest.fixture
def released(house: House) -> House:
    """An output that two people attested, and that was handed to two places."""
    house.finish(quorum=2)
    say(house, "ann")
    say(house, "ben")
    release(house)
    release(house, name="two.txt")
    return house


def verify(house: House) -> VerifyReport:
    return verify_ledger(house.path, house.log_key.verifier)


def row_of(house: House, kind: str, place: int = 0, **data: Any) -> int:
    """Return the id of a row of a kind whose data says so."""
    rows = [row for row in house.ledger.iter_rows() if row.kind == kind]
    return [row.id for row in rows if all(row.data.get(name) == value for name, value in data.items())][place]


def refuse(house: House, told: str, row_id: int | None = None) -> None:
    """Seal what was changed with the log's own key, and see that it is refused all the same."""
    reseal(house.path, house.log_key)
    with pytest.raises(LedgerTamperedError, match=told) as caught:
        verify(house)
    assert row_id is None or caught.value.row_id == row_id, str(caught.value)


# -- honest reviews ----------------------------------------------------------------------------------------------------


def test_words_and_releases_are_counted(released: House) -> None:
    report = verify(released)
    assert (report.signed_words, report.named_words, report.releases) == (2, 0, 2)
    assert not [warning for warning in report.warnings if "clock" not in warning]  # a reviewer's is another


def test_words_that_are_only_names_are_counted_and_told(tmp_store: Path) -> None:
    house = House(tmp_store)
    house.finish()
    house.surface.attest("s", "somebody")
    house.surface.reject("s", "nobody", "no")
    report = verify(house)
    assert (report.signed_words, report.named_words) == (0, 2)
    assert report.warnings == ("2 words of reviewers are names without a signature: named, not proven",)
    house.close()


def test_what_was_erased_after_its_release_verifies(released: House) -> None:
    released.ledger.erase("s", who="Ada", why="asked to")
    report = verify(released)
    assert (report.releases, report.erased > 0) == (2, True)


def test_a_word_stays_good_when_its_key_is_revoked_later(released: House) -> None:
    released.revoke("ann")
    assert verify(released).signed_words == 2


def test_a_rejection_that_was_taken_back_verifies(house: House) -> None:
    house.finish()
    say(house, "ann", "reject")
    say(house, "ann")
    release(house)
    assert verify(house).releases == 1


def test_held_calls_that_were_let_pass_or_refused_verify(house: House) -> None:
    for session, decision in (("s", "attest"), ("t", "reject")):
        house.hold(session)
        say(house, "ann", decision, session)
        house.run(make_reply("done"), session=session, resume=True)
    assert house.paid == ["bank"]
    assert verify(house).signed_words == 2


def test_a_log_that_was_handed_on_in_between_verifies(house: House) -> None:
    house.finish()
    say(house, "ann")
    house.ledger.rotate_key(LocalSigner("log/two", bytes([78]) * 32), why="yearly", who="keeper", made_by="eve@desk")
    release(house)
    assert verify(house).releases == 1


def test_the_tree_alone_says_nothing_of_people(released: House) -> None:
    report = verify_ledger(released.path, released.log_key.verifier, fast=True)
    assert (report.signed_words, report.releases, report.sessions) == (0, 0, 0)


# -- keys in one hand --------------------------------------------------------------------------------------------------


def test_a_reviewer_s_key_that_is_the_log_s_is_told(house: House) -> None:
    house.slip_in_key("mal", house.log_key.vkey)
    assert verify(house).warnings == ("the key of mal (row 3) is the log's own, so it proves no person",)


def test_a_key_is_not_taken_for_the_log_s_for_a_plus_at_its_end(house: House) -> None:
    house.finish()
    log_key, other = (LocalSigner("log/two", bytes([seed]) * 32) for seed in (38, 94))
    assert {log_key.vkey[-1], other.vkey[-1]} == {"+"}
    house.ledger.rotate_key(log_key, why="yearly", who="keeper", made_by="eve@desk")
    house.slip_in_key("mal", other.vkey)
    assert verify(house).warnings == ()


def test_keys_that_one_user_made_on_one_host_are_told(house: House) -> None:
    key = house.keys["eve"]
    house.ledger.enroll_reviewer("eve", key.vkey, who="keeper", made_by="root@box")
    assert verify(house).warnings == ()
    [warning] = verify_ledger(house.path, house.log_key.verifier, key_made_by="root@box").warnings
    assert "the key of eve (row 3) and the log's were made by one user on one host, root@box" in warning


def test_the_host_is_known_from_a_row_that_hands_the_log_on(house: House) -> None:
    house.ledger.enroll_reviewer("eve", house.keys["eve"].vkey, who="keeper", made_by="root@box")
    house.ledger.rotate_key(LocalSigner("log/two", bytes([78]) * 32), why="yearly", who="keeper", made_by="root@box")
    [warning] = verify(house).warnings
    assert "root@box" in warning


def test_a_reviewer_s_key_that_was_made_where_sessions_ran_is_told(house: House) -> None:
    house.ledger.enroll_reviewer("eve", house.keys["eve"].vkey, who="keeper", made_by=made_here())
    assert verify(house).warnings == ()
    house.finish()
    [warning] = [warning for warning in verify(house).warnings if "clock" not in warning]
    assert f"the key of eve (row 3) was made by {made_here()}, under whom sessions ran" in warning


# -- what the log's key signs, and no person did -----------------------------------------------------------------------


def envelope_of(house: House, row_id: int) -> dict[str, Any]:
    return json.loads(body_of(house.path, row_id)["data"]["envelope"])


def change_envelope(house: House, row_id: int, change: Callable[[dict[str, Any]], None]) -> None:
    envelope = envelope_of(house, row_id)
    change(envelope)
    rewrite(house.path, row_id, envelope=canonical.dumps(envelope).decode())


def flip_signature(envelope: dict[str, Any]) -> None:
    signature = envelope["signatures"][0]["sig"]
    envelope["signatures"][0]["sig"] = signature[:10] + signature[10:20].swapcase() + signature[20:]


def test_a_forged_signature_is_refused(released: House) -> None:
    row_id = row_of(released, "attest")
    change_envelope(released, row_id, flip_signature)
    refuse(released, "no key that was enrolled for 'ann' by then signed it", row_id)


def test_an_envelope_without_a_signature_is_refused(released: House) -> None:
    row_id = row_of(released, "attest")
    change_envelope(released, row_id, lambda envelope: envelope.update(signatures=[]))
    refuse(released, "not a reviewer's|no key that was enrolled", row_id)


def test_the_envelope_of_another_row_is_refused(released: House) -> None:
    first, second = row_of(released, "attest"), row_of(released, "attest", 1)
    rewrite(released.path, first, envelope=body_of(released.path, second)["data"]["envelope"])
    refuse(released, "it says something else than what was signed", first)


@pytest.mark.parametrize(
    "changes", [{"notes": "fine"}, {"reviewer": "ben"}, {"frame_hash": "ab" * 32}, {"verdicts": []}, {"calls": []}]
)
def test_a_word_that_says_more_than_was_signed_is_refused(released: House, changes: dict[str, Any]) -> None:
    row_id = row_of(released, "attest")
    rewrite(released.path, row_id, **changes)
    refuse(released, "it says something else than what was signed", row_id)


def test_a_word_that_was_moved_to_another_session_is_refused(released: House) -> None:
    released.finish("t")
    word = released.rows("attest")[0]
    row = released.copy(word, "t")
    refuse(released, "what was signed is about session s", row.id)


def test_a_word_about_another_log_is_refused(house: House, tmp_path: Path) -> None:
    house.finish()
    Ledger(tmp_path / "other.db", signer=house.log_key).close()  # under a name of its own
    other = House(tmp_path / "other.db")
    other.enroll("ann")
    other.finish()
    say(other, "ann")
    word = other.rows("attest")[0]
    house.copy(word)
    other.close()
    refuse(house, r"what was signed is about session s of donewhen/")


@pytest.mark.parametrize("name", ["ben", "dan"])
def test_a_word_signed_by_somebody_else_is_refused(house: House, name: str) -> None:
    house.finish()
    say(house, "ann")
    row_id = row_of(house, "attest")
    house.keys["ann"] = house.keys[name]
    envelope = envelope_of(house, row_id)
    unsigned = loads(canonical.dumps(envelope).decode())
    signed = type(unsigned)(unsigned.payload, unsigned.payload_type).sign(house.keys[name])
    rewrite(house.path, row_id, envelope=signed.dumps())
    refuse(house, "no key that was enrolled for 'ann' by then signed it", row_id)


def test_a_word_from_before_its_key_was_enrolled_or_after_it_was_revoked_is_refused(house: House) -> None:
    house.finish()
    say(house, "ann")
    house.revoke("ann")
    row = house.copy(house.rows("attest")[0])
    refuse(house, "no key that was enrolled for 'ann' by then signed it", row.id)


@pytest.mark.parametrize("envelope", ["", "{}", "x" * 1000, "[" * 5000, 5, None, {"a": 1}, "\x00"])
def test_what_is_no_envelope_is_refused(released: House, envelope: object) -> None:
    row_id = row_of(released, "attest")
    rewrite(released.path, row_id, envelope=envelope)
    refuse(released, "the word that it holds is not a reviewer's", row_id)


@pytest.mark.parametrize("reviewer", ["", "  ", None, 5, ["ann"]])
def test_a_word_that_nobody_is_behind_is_refused(released: House, reviewer: object) -> None:
    row_id = row_of(released, "attest")
    rewrite(released.path, row_id, reviewer=reviewer)
    refuse(released, "nobody is behind this attest row|it says something else", row_id)


# -- releases ----------------------------------------------------------------------------------------------------------


def test_a_release_that_too_few_had_attested_is_refused(released: House) -> None:
    begun = row_of(released, "release", state="begun")
    rewrite(released.path, row_of(released, "attest", 1), kind="note", state_origin="note")
    attack(released.path, ("DELETE FROM entries WHERE id = ?", (row_of_raw(released, "note"),)))
    renumber_all(released)
    refuse(released, "nothing allowed this release: 1 more reviewer", begun - 1)


def test_a_release_after_a_rejection_that_stands_is_refused(house: House) -> None:
    house.finish(quorum=1)
    say(house, "ann")
    release(house)
    say(house, "ben", "reject")
    order = [row.id for row in house.ledger.iter_rows()]
    moved = order[:-3] + order[-1:] + order[-3:-1]
    reorder(house, moved)
    refuse(house, "nothing allowed this release: ben rejected it")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"attests": []}, "which are not those that count"),
        ({"attests": [1, 2]}, "which are not those that count"),
        ({"attests": None}, "which are not those that count"),
        ({"frame_hash": "ab" * 32}, "nothing allowed this release"),
        ({"frame_hash": None}, "nothing allowed this release"),
        ({"output_hash": "ab" * 32}, "its key is not that of its session, output and target"),
        ({"target": "elsewhere"}, "its key is not that of its session, output and target"),
        ({"target": 5}, "its key is not that"),
        ({"key": "ab" * 32}, "its key is not that"),
        ({"key": []}, "its key is not that"),
        ({"bytes": 1}, "what it releases is not what the session had come to"),
        ({"bytes": True}, "what it releases is not what the session had come to"),
        ({"state": "lost"}, "no release is 'lost'"),
        ({"state": "done"}, "cannot be judged|did not begin"),
        ({"state": None}, "no release is None"),
    ],
)
def test_a_release_is_what_was_allowed(released: House, changes: dict[str, Any], told: str) -> None:
    begun = row_of(released, "release", state="begun")
    rewrite(released.path, begun, **changes)
    refuse(released, told, begun)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"begun": 1}, "did not begin in row 1 of its session"),
        ({"begun": None}, "did not begin in row None"),
        ({"begun": []}, "did not begin in row"),
        ({"state": "lost"}, "no release is 'lost'"),
        ({"key": "cd" * 32}, "its key is not that"),
    ],
)
def test_the_end_of_a_release_is_of_one_that_began(released: House, changes: dict[str, Any], told: str) -> None:
    done = row_of(released, "release", state="done")
    rewrite(released.path, done, **changes)
    refuse(released, told, done)


def test_a_release_is_done_once(released: House) -> None:
    again = released.copy(released.rows("release")[0])
    refuse(released, "the same output was handed to .* before", again.id)


def test_a_release_ends_once(released: House) -> None:
    done = released.rows("release")[1]
    rewrite(released.path, done.id, state="failed")
    again = released.copy(done, state="failed")
    refuse(released, "has ended before", again.id)


@pytest.mark.parametrize("data", [{}, {"state": "begun"}, {"key": "x"}, {"attests": {}}])
def test_a_release_row_that_says_little_is_refused(released: House, data: dict[str, Any]) -> None:
    entry = Entry(kind="release", session_id="s", state_origin="release", data=data)
    row = released.ledger.note(Draft(entry))
    refuse(released, "cannot be judged", row.id)


def test_a_release_of_a_session_that_nobody_promised_is_refused(released: House) -> None:
    first = released.rows("release")[0]
    released.ledger.write("w", 1, "step", "x", 1, 1, True)
    row = released.copy(first, "w")
    refuse(released, "its key is not that", row.id)


# -- held calls --------------------------------------------------------------------------------------------------------


def test_a_held_call_that_was_run_without_anybody_s_word_is_refused(house: House) -> None:
    house.hold()
    say(house, "ann")
    house.run(make_reply("done"), resume=True)
    opening = next(row.id for row in house.rows("open") if "runs" in row.data)
    body = body_of(house.path, opening)
    del body["data"]["runs"]
    attack(house.path, ("UPDATE entries SET body = ? WHERE id = ?", (canonical.dumps(body).decode(), opening)))
    refuse(house, "the held call of 'pay' was run, and nobody had let it pass")


def test_an_opening_that_takes_up_what_nobody_let_pass_is_refused(house: House) -> None:
    house.hold()
    say(house, "ann")
    house.run(make_reply("done"), resume=True)
    word, opening = row_of(house, "attest"), next(row.id for row in house.rows("open") if "runs" in row.data)
    attack(house.path, ("DELETE FROM entries WHERE id = ?", (word,)))
    renumber_all(house)
    refuse(house, "it takes up held calls that nobody had let pass", opening - 1)


@pytest.mark.parametrize("runs", ["all", [5], {"a": 1}, None])
def test_what_an_opening_takes_up_is_a_list_of_digests(house: House, runs: object) -> None:
    house.finish()
    opening = row_of(house, "open")
    rewrite(house.path, opening, runs=runs)
    refuse(house, "the calls that it takes up are", opening)


def test_a_call_that_is_asked_for_again_needs_another_word(house: House) -> None:
    house.hold()
    say(house, "ann")
    house.run(ask_to_pay(), resume=True)
    assert house.paid == ["bank"]
    assert verify(house).signed_words == 1


# -- keys and policies -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"action": "promote"}, "a key row does what no key row can"),
        ({"action": None}, "a key row does what no key row can"),
        ({"vkey": "x"}, "a key row holds no key"),
        ({"vkey": ""}, "lacks vkey"),
        ({"name": ""}, "lacks name"),
        ({"who": 5}, "a key row does what no key row can"),
    ],
)
def test_a_key_row_says_what_one_can(house: House, changes: dict[str, Any], told: str) -> None:
    rewrite(house.path, 1, **changes)
    refuse(house, told, 1)


def test_a_key_is_enrolled_once(house: House) -> None:
    house.slip_in_key("mal", house.keys["ann"].vkey)
    refuse(house, "the key of 'mal' is enrolled already", 3)


def test_only_a_reviewer_s_key_is_revoked(house: House) -> None:
    house.revoke("ben")
    rewrite(house.path, 3, vkey=house.keys["dan"].vkey)
    refuse(house, "it revokes a key that no reviewer has", 3)


def test_a_key_row_stands_in_the_log_s_own_session(house: House) -> None:
    rewrite(house.path, 1, session="s")
    refuse(house, "a key row stands in session s", 1)


def test_only_keys_stand_in_the_log_s_own_session(house: House) -> None:
    rewrite(house.path, 2, kind="close", state_origin="close")
    body = body_of(house.path, 2)
    del body["data"]
    attack(house.path, ("UPDATE entries SET body = ? WHERE id = 2", (canonical.dumps(body).decode(),)))
    refuse(house, "a close row stands in the session of the log itself", 2)


def test_no_other_session_has_a_name_that_is_the_log_s(house: House) -> None:
    house.ledger.write("t", 1, "step", "x", 1, 1, True)
    rewrite(house.path, 3, session="donewhen:other")
    refuse(house, "no session can be called 'donewhen:other'", 3)


def test_a_policy_is_written_once_and_before_the_session_opens(house: House) -> None:
    house.finish()
    policy = house.rows("policy")[0]
    row = house.copy(policy)
    refuse(house, "another policy for session s, or comes after it was opened", row.id)


def test_a_policy_that_cannot_be_read_lets_nothing_pass(released: House) -> None:
    rewrite(released.path, row_of(released, "policy"), quorum="none")
    refuse(released, "cannot be judged")


# -- what the owner of the key can do to the order of rows ---------------------------------------------------------------


def row_of_raw(house: House, kind: str) -> int:
    with closing(sqlite3.connect(house.path)) as connection:
        return connection.execute("SELECT id FROM entries WHERE kind = ?", (kind,)).fetchone()[0]


def renumber_all(house: House) -> None:
    with closing(sqlite3.connect(house.path)) as connection:
        order = [row_id for (row_id,) in connection.execute("SELECT id FROM entries ORDER BY id")]
    reorder(house, order)


def reorder(house: House, order: list[int]) -> None:
    """Put rows into another order, each with its new place in the log and in its session."""
    seqs: dict[str, int] = {}
    statements: list[Any] = ["PRAGMA foreign_keys = OFF"]
    for row_id, old in enumerate(order, 1):
        body = body_of(house.path, old)
        seqs[body["session"]] = seqs.get(body["session"], 0) + 1
        moved = {**body, "id": row_id, "seq": seqs[body["session"]]}
        if body["kind"] == "release" and "begun" in body["data"]:
            moved["data"]["begun"] = moved["seq"] - 1
        statements.append(("INSERT INTO entries (id, body) VALUES (?, ?)", (row_id, canonical.dumps(moved).decode())))
        statements.append(("UPDATE texts SET entry_id = -? WHERE entry_id = ?", (row_id, old)))
    attack(house.path, "DELETE FROM entries", *statements, "UPDATE texts SET entry_id = -entry_id WHERE entry_id < 0")
