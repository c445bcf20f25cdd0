"""Whether what reviewers said is enough: quorum, order, expiry, and everything that must not count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reviews import STARTER, House

from donewhen import canonical
from donewhen.attestation import Statement
from donewhen.dsse import Envelope, loads
from donewhen.entry import Entry, LedgerRow
from donewhen.framing import output_of
from donewhen.keyring import Keyring
from donewhen.ledger import Draft, Ledger
from donewhen.notes import LocalSigner
from donewhen.policy import Call, Output, Policy, judge

HOUR = 3600


@pytest.fixture
def house(tmp_store: Path) -> Iterator[House]:
    made = House(tmp_store)
    made.enroll("ann", "ben", "eve")
    yield made
    made.close()


def attest(house: House, name: str, **options: Any) -> Any:
    house.clock.move(1)
    return house.surface.attest("s", name, reviewer_key=house.keys[name], **options)


def reject(house: House, name: str, reason: str = "wrong", **options: Any) -> Any:
    house.clock.move(1)
    return house.surface.reject("s", name, reason, reviewer_key=house.keys[name], **options)


def envelope_of(row: LedgerRow) -> Envelope:
    return loads(row.data["envelope"])


def forge(house: House, row: LedgerRow, key: LocalSigner, session: str | None = None, **changes: Any) -> LedgerRow:
    """Append what a row says, changed and signed anew, past everything that would refuse it."""
    statement = replace(Statement.read(envelope_of(row)), **changes)
    entry = statement.entry(statement.envelope().sign(key))
    return house.ledger.note(Draft(replace(entry, session_id=session or row.session_id)))


def why(house: House, row_id: int, session: str = "s", **options: Any) -> str:
    [found] = [one.why for one in house.judged(session, **options).not_counted if one.row_id == row_id]
    return found


# -- how many ----------------------------------------------------------------------------------------------------------


def test_nobody_has_said_anything(house: House) -> None:
    house.finish()
    found = house.judged()
    assert (found.released_ok, found.missing, found.counted, found.rejected) == (False, 1, (), ())
    assert found.sentence == "1 more reviewer must attest"


def test_as_many_as_the_quorum_must_attest_and_each_counts_once(house: House) -> None:
    house.finish(quorum=2, reviewers=("ann", "ben", "eve"))
    first = attest(house, "ann")
    again = attest(house, "ann")
    found = house.judged()
    assert (found.released_ok, found.missing, [one.row_id for one in found.counted]) == (False, 1, [again.id])
    assert found.sentence == "1 more reviewer of ben, eve must attest; so far attested by ann (signed)"
    assert why(house, first.id) == f"the same reviewer attested again in row {again.id}"
    attest(house, "ben")
    found = house.judged()
    assert (found.released_ok, found.missing) == (True, 0)
    assert found.sentence == "attested by ann (signed), ben (signed)"


def test_one_key_under_two_names_is_one_reviewer(house: House) -> None:
    other_name = LocalSigner("reviewer/other", house.keys["ann"].private_bytes)
    house.slip_in_key("ann the second", other_name.vkey)
    house.finish(quorum=2)
    attest(house, "ann")
    house.clock.move(1)
    house.surface.attest("s", "ann the second", reviewer_key=other_name)
    assert house.judged().missing == 1


@pytest.mark.parametrize("name", ["ANN", " ann ", "\uff41nn"])
def test_one_name_in_other_letters_is_one_reviewer(tmp_store: Path, name: str) -> None:
    house = House(tmp_store)
    house.finish(quorum=2)
    house.surface.attest("s", "ann")
    house.surface.attest("s", name)
    assert house.judged().missing == 1
    house.close()


# -- rejections --------------------------------------------------------------------------------------------------------


def test_a_rejection_stands_against_everybody_else(house: House) -> None:
    house.finish()
    attest(house, "ann")
    reject(house, "ben", "It invents a figure.")
    attest(house, "eve")
    found = house.judged()
    assert (found.released_ok, found.missing) == (False, 0)
    assert found.sentence == "ben rejected it: It invents a figure."
    assert [(one.reviewer, one.signed, one.words) for one in found.rejected] == [("ben", True, "It invents a figure.")]


def test_a_rejection_before_any_attestation_stands_too(house: House) -> None:
    house.finish()
    reject(house, "ben")
    attest(house, "ann")
    assert not house.judged().released_ok


def test_the_same_reviewer_takes_a_rejection_back(house: House) -> None:
    house.finish()
    rejected = reject(house, "ben")
    again = attest(house, "ben")
    assert house.judged().released_ok
    assert why(house, rejected.id) == f"the same reviewer attested again in row {again.id}"


def test_a_reviewer_takes_an_attestation_back(house: House) -> None:
    house.finish()
    attested = attest(house, "ann")
    rejected = reject(house, "ann")
    found = house.judged()
    assert (found.counted, found.missing, len(found.rejected)) == ((), 1, 1)
    assert why(house, attested.id) == f"the same reviewer rejected it in row {rejected.id}"


def test_a_signed_rejection_is_not_taken_back_by_a_mere_name(house: House) -> None:
    house.finish(signed=False)
    reject(house, "ben")
    written = house.surface.attest("s", "ben")
    assert "the rejection in row" in why(house, written.id)
    assert house.judged().rejected


def test_an_unsigned_rejection_is_taken_back_by_a_name_or_a_signature(tmp_store: Path) -> None:
    house = House(tmp_store)
    house.finish()
    house.surface.reject("s", "ben", "wrong")
    assert house.judged().sentence == "ben rejected it: wrong"
    house.surface.attest("s", "ben")
    assert house.judged().released_ok
    house.close()


def test_an_attestation_that_was_signed_before_the_rejection_does_not_lift_it(house: House) -> None:
    """It was made and not handed in; then its maker changed their mind, and somebody else hands it in."""
    house.finish()
    early = house.surface.sign("s", "ann", house.keys["ann"])
    reject(house, "ann")
    house.clock.move(1)
    with pytest.raises(Exception, match="was not signed after it"):
        house.surface.take(early)
    row = house.ledger.note(Draft(Statement.read(loads(early)).entry(loads(early))))
    assert "was not signed after it" in why(house, row.id)
    assert not house.judged().released_ok


def test_a_new_frame_is_judged_anew(house: House) -> None:
    house.finish()
    rejected, attested = reject(house, "ben"), attest(house, "ann")
    house.ledger.write("s", 9, "late", "more", 0, 0, True)
    found = house.judged()
    assert (found.counted, found.rejected, found.missing) == ((), (), 1)
    assert {why(house, rejected.id), why(house, attested.id)} == {
        "it is about another frame than the one that is shown now"
    }


# -- time --------------------------------------------------------------------------------------------------------------


def test_an_attestation_expires_and_can_be_given_again(house: House) -> None:
    house.finish(expiry_hours=72)
    written = attest(house, "ann")
    at = house.clock.now()
    assert written.expires_at == (at + timedelta(hours=72)).isoformat()
    assert house.judged(now=at + timedelta(hours=72, microseconds=-1)).released_ok
    late = at + timedelta(hours=72)
    assert not house.judged(now=late).released_ok
    assert why(house, written.id, now=late) == f"it expired at {written.expires_at}"
    house.clock.move(73 * HOUR)
    attest(house, "ann")
    assert house.judged().released_ok


def test_an_expiry_that_was_signed_counts_where_the_policy_has_none(house: House) -> None:
    house.finish()
    row = house.rows("attest") or [house.rows()[-1]]
    attest(house, "ann")
    [row] = house.rows("attest")
    until = (house.clock.now() + timedelta(hours=1)).isoformat()
    later = (house.clock.now() + timedelta(seconds=1)).isoformat()
    forge(house, row, house.keys["ann"], expires_at=until, at=later)
    assert house.judged().released_ok
    house.clock.move(2 * HOUR)
    assert house.judged().counted[0].row_id == row.id, "the one that never expires still counts"
    assert f"it expired at {until}" in {one.why for one in house.judged().not_counted}


def test_a_reviewers_fast_clock_does_not_make_an_attestation_last_longer(house: House) -> None:
    house.finish(expiry_hours=1)
    attest(house, "ann")
    [row] = house.rows("attest")
    ahead = house.clock.now() + timedelta(days=900)
    forge(house, row, house.keys["ben"], reviewer="ben", at=ahead.isoformat(), expires_at=None)
    house.clock.move(2 * HOUR)
    assert house.judged().counted == ()


def test_an_expired_word_takes_no_rejection_back(house: House) -> None:
    house.finish(expiry_hours=1)
    reject(house, "ann")
    attest(house, "ann")
    assert house.judged().released_ok
    house.clock.move(2 * HOUR)
    assert house.judged().sentence == "ann rejected it: wrong"


# -- keys --------------------------------------------------------------------------------------------------------------


def test_what_was_signed_before_the_key_was_revoked_counts(house: House) -> None:
    house.finish()
    attest(house, "ann")
    house.revoke("ann")
    assert house.judged().released_ok


def test_a_key_that_is_enrolled_later_does_not_count_for_what_stands_before_it(house: House) -> None:
    house.finish()
    attest(house, "ann")
    row = forge(house, house.rows("attest")[0], house.keys["mal"], reviewer="mal")
    house.enroll("mal")
    assert why(house, row.id) == "the key of mal was not enrolled yet"


def test_a_key_that_is_enrolled_anew_under_a_name_is_not_the_one_that_was_fixed(house: House) -> None:
    """Whoever keeps the ledger cannot make themselves a reviewer of a session that has begun."""
    house.finish(reviewers=("ann",))
    house.revoke("ann")
    house.slip_in_key("ann", house.keys["mal"].vkey)
    with pytest.raises(Exception, match="another key than ann had when the session opened"):
        house.surface.attest("s", "ann", reviewer_key=house.keys["mal"])


def test_a_reviewer_who_had_no_key_at_the_opening_gets_none_later(house: House) -> None:
    house.finish(reviewers=("ann", "dan"))
    house.enroll("dan")
    with pytest.raises(Exception, match="no key of dan was enrolled when the session opened"):
        attest(house, "dan")


def test_several_signatures_count_where_one_is_the_reviewers(house: House) -> None:
    house.finish()
    envelope = loads(house.surface.sign("s", "ann", house.keys["ann"]))
    both = Envelope(envelope.payload, envelope.payload_type).sign(house.keys["mal"]).sign(house.keys["ann"])
    house.surface.take(both.dumps())
    assert [one.reviewer for one in house.judged().counted] == ["ann"]


def test_without_the_logs_key_its_signature_is_no_reviewers_either(house: House) -> None:
    house.finish()
    attest(house, "ann")
    later = (house.clock.now() + timedelta(seconds=1)).isoformat()
    row = forge(house, house.rows("attest")[0], house.log_key, at=later)
    subject = output_of(house.standing().frame)
    keyring, now = Keyring.read(house.ledger), house.clock.now()
    found = judge(house.rows(), subject, keyring, Policy(), now, house.ledger.origin)
    [told] = [one.why for one in found.not_counted if one.row_id == row.id]
    assert told == "it is signed with no key that was ever enrolled in this log"


# -- what was moved or changed -----------------------------------------------------------------------------------------


def test_the_same_envelope_twice_counts_once_and_never_again(house: House) -> None:
    """Whoever writes the ledger cannot answer a rejection with the attestation before it."""
    house.finish()
    attest(house, "ann")
    [row] = house.rows("attest")
    reject(house, "ann")
    again = house.copy(row)
    assert why(house, again.id) == f"it is the same that row {row.id} holds, and counts once"
    assert not house.judged().released_ok


def test_an_envelope_signed_again_is_the_same_word(house: House) -> None:
    house.finish()
    attest(house, "ann")
    [row] = house.rows("attest")
    reject(house, "ann")
    resigned = envelope_of(row).sign(house.keys["mal"])
    again = house.copy(row, envelope=resigned.dumps())
    assert "counts once" in why(house, again.id)


def test_an_attestation_of_another_session_is_none_of_this_one(house: House) -> None:
    house.finish("t")
    house.finish("s")
    house.surface.attest("t", "ann", reviewer_key=house.keys["ann"])
    [row] = house.rows("attest", session="t")
    moved = house.copy(row, session="s")
    assert why(house, moved.id) == "it was signed for another session, t"


def test_an_attestation_of_another_log_is_none_of_this_one(house: House, tmp_path: Path) -> None:
    house.finish()
    Ledger(tmp_path / "other.db", signer=house.log_key).close()
    other = House(tmp_path / "other.db")
    other.enroll("ann")
    other.finish()
    text = other.surface.sign("s", "ann", other.keys["ann"])
    with pytest.raises(Exception, match=f"it was signed for another log, {other.ledger.origin}"):
        house.surface.take(text)
    row = house.ledger.note(Draft(Statement.read(loads(text)).entry(loads(text))))
    assert why(house, row.id) == f"it was signed for another log, {other.ledger.origin}"
    other.close()


CHANGES: dict[str, dict[str, Any]] = {
    "the reviewer": {"reviewer": "ben"},
    "the frame": {"frame_hash": "0" * 64},
    "the notes": {"notes": "other"},
    "the output": {"output_hash": "0" * 64},
    "the calls": {"calls": ["0" * 64]},
    "the verdicts": {"verdicts": []},
    "the expiry": {"expires_at": "2099-01-01T00:00:00+00:00"},
    "an adopted mark": {"adopted": {}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_row_that_says_something_else_than_was_signed_does_not_count(house: House, name: str) -> None:
    house.finish()
    text = house.surface.sign("s", "ann", house.keys["ann"])
    entry = Statement.read(loads(text)).entry(loads(text))
    row = house.ledger.note(Draft(replace(entry, data={**entry.data, **CHANGES[name]})))
    assert why(house, row.id) == "the row says something else than what was signed"


def test_an_attestation_in_the_row_of_a_rejection_does_not_count(house: House) -> None:
    house.finish()
    text = house.surface.sign("s", "ann", house.keys["ann"])
    entry = Statement.read(loads(text)).entry(loads(text))
    data = {name: value for name, value in entry.data.items() if name not in ("notes", "verdicts")}
    row = house.ledger.note(Draft(replace(entry, kind="reject", state_origin="reject", data={**data, "reason": ""})))
    assert "something else" in why(house, row.id)


def test_an_attestation_of_the_frame_and_another_output_does_not_count(house: House) -> None:
    house.finish()
    attest(house, "ann")
    row = forge(house, house.rows("attest")[0], house.keys["ben"], reviewer="ben", output_hash="0" * 64)
    assert why(house, row.id) == "it is about another output"


MALFORMED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "an envelope that is no text": {"reviewer": "ann", "envelope": 1},
    "an envelope that is none": {"reviewer": "ann", "envelope": "{}"},
    "an envelope of something else": {
        "reviewer": "ann",
        "envelope": Envelope(b"{}", "text/x").dumps(),
    },
    "a reviewer that is no text": {"reviewer": 7, "frame_hash": "0" * 64, "notes": ""},
    "a blank reviewer": {"reviewer": " ", "notes": ""},
    "notes that are no text": {"reviewer": "ann", "notes": []},
    "an expiry that is no time": {"reviewer": "ann", "notes": "", "expires_at": "soon"},
    "calls that are no list": {"reviewer": "ann", "notes": "", "calls": 7},
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("kind", ["attest", "reject"])
def test_a_malformed_row_does_not_count_and_stops_nothing(tmp_store: Path, kind: str, name: str) -> None:
    house = House(tmp_store)
    house.finish()
    data = dict(MALFORMED[name])
    if kind == "reject":
        data = {("reason" if field == "notes" else field): value for field, value in data.items()}
        data.pop("expires_at", None)
    entry = Entry(kind=kind, session_id="s", state_origin=kind, data=data)
    row = house.ledger.note(Draft(entry))
    for subject in (Output("0" * 64, None), Call("0" * 64)):
        found = judge(house.rows(), subject, Keyring(()), Policy(named=True), house.clock.now(), house.ledger.origin)
        assert (found.counted, found.rejected, [one.row_id for one in found.not_counted]) == ((), (), [row.id])
    house.close()


# -- sessions without a policy row -------------------------------------------------------------------------------------


def test_rows_by_hand_are_judged_by_the_default_at_each_rows_place(tmp_store: Path) -> None:
    """A name was enough when ann said it, and is not since somebody has a key."""
    house = House(tmp_store)
    house.ledger.write_spec(house_spec())
    house.ledger.write("s", 1, "llm", "task", 1, 1, True)
    house.surface.attest("s", "ann")
    assert house.judged().sentence == "attested by ann (named, not proven)"
    house.enroll("ben")
    assert house.judged().released_ok
    late = house.surface.attest("s", "eve")
    assert "this session asks for signed ones" in why(house, late.id)
    house.surface.attest("s", "ben", reviewer_key=house.keys["ben"])
    assert [one.signed for one in house.judged().counted] == [False, True]
    house.close()


def house_spec() -> Any:
    from donewhen.spec_writer import SpecResult

    return SpecResult("Reports.", "Nothing else.", "A report.", "s")


def test_a_policy_row_that_comes_later_softens_nothing(house: House) -> None:
    house.finish(reviewers=("ann",))
    data = {**Policy(named=True, started_by=STARTER).data(), "reviewers": []}
    house.ledger.note(Draft(Entry(kind="policy", session_id="s", state_origin="policy", data=data)))
    house.surface.attest("s", "mal")
    assert not house.judged().released_ok


def test_the_judgement_of_the_same_rows_is_the_same(house: House) -> None:
    house.finish(quorum=2)
    attest(house, "ann")
    reject(house, "ben")
    assert house.judged() == house.judged()


# -- any order of words ------------------------------------------------------------------------------------------------

WORDS = st.lists(st.tuples(st.sampled_from(["attest", "reject"]), st.sampled_from(["ann", "ben", "cyd"])), max_size=9)


@given(words=WORDS, quorum=st.integers(1, 3))
def test_whatever_is_said_the_newest_word_of_each_decides(words: list[tuple[str, str]], quorum: int) -> None:
    rows = [said(kind, name, at) for at, (kind, name) in enumerate(words, start=1)]
    newest = {name: kind for kind, name in words}
    found = judge(rows, Output("f" * 64, None), Keyring(()), Policy(quorum=quorum, named=True), NOW, "log")
    yes = {name for name, kind in newest.items() if kind == "attest"}
    no = {name for name, kind in newest.items() if kind == "reject"}
    assert ({one.reviewer for one in found.counted}, {one.reviewer for one in found.rejected}) == (yes, no)
    assert found.released_ok == (not no and len(yes) >= quorum)
    assert len(found.counted) + len(found.rejected) + len(found.not_counted) == len(rows)
    assert canonical.dumps(found.sentence)


@pytest.mark.parametrize("at", ["", "soon", "2026-01-01", "2026-01-01T00:00:00"])
def test_a_row_that_does_not_say_when_it_was_written_does_not_count(at: str) -> None:
    row = replace(said("attest", "ann", 1), created_at=at)
    found = judge([row], Output("f" * 64, None), Keyring(()), Policy(named=True), NOW, "log")
    assert (found.counted, [one.why for one in found.not_counted]) == (
        (),
        ["the row does not say when it was written"],
    )


def said(kind: str, name: str, at: int) -> LedgerRow:
    words = {"attest": "notes", "reject": "reason"}[kind]
    data = {"reviewer": name, "frame_hash": "f" * 64, words: "so"}
    return LedgerRow(at, "s", 0, kind, "", 0, 0, True, None, NOW.isoformat(), at, kind, "0" * 64, data=data)


def _now() -> Any:
    from donewhen.testing import FakeClock

    return FakeClock().now()


NOW = _now()
