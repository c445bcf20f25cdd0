"""What reviewers say through the surface: verdicts, calls, signatures made elsewhere, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from reviews import STARTER, House

from donewhen.attestation import Statement
from donewhen.checks import Human, Regex
from donewhen.client import ToolCall
from donewhen.dsse import Envelope, loads
from donewhen.errors import AttestationError, EnvelopeError, FrameChangedError, LedgerError, SessionNotFoundError
from donewhen.frame import AttestationResult, RejectionResult
from donewhen.review_surface import ReviewSurface
from donewhen.texts import hash_input


@pytest.fixture
def house(tmp_store: Path) -> Iterator[House]:
    made = House(tmp_store)
    made.enroll("ann", "ben")
    yield made
    made.close()


def statement(house: House, kind: str = "attest") -> Statement:
    return Statement.read(loads(house.rows(kind)[-1].data["envelope"]))


def sign(house: House, name: str = "ann", **options: Any) -> str:
    return house.surface.sign("s", name, house.keys[name], **options)


# -- what is said ------------------------------------------------------------------------------------------------------


def test_a_signed_attestation_names_the_output_the_frame_the_session_and_the_log(house: House) -> None:
    house.finish(expiry_hours=2)
    frame = house.surface.load("s")
    written = house.surface.attest("s", "ann", "Fine.", reviewer_key=house.keys["ann"], frame_hash=frame.frame_hash)
    said = statement(house)
    assert (said.decision, said.reviewer, said.words) == ("attest", "ann", "Fine.")
    assert (said.session_id, said.origin) == ("s", house.ledger.origin)
    assert (said.frame_hash, said.output_hash) == (frame.frame_hash, hash_input("# Report"))
    assert said.at == house.clock.now().isoformat()
    assert written.expires_at == said.expires_at == (house.clock.now() + timedelta(hours=2)).isoformat()
    assert (written.signed, house.surface.get_attestations("s")) == (True, [written])


def test_a_signed_rejection_keeps_its_reason(house: House) -> None:
    house.finish()
    written = house.surface.reject("s", "ann", "It invents a figure.", reviewer_key=house.keys["ann"])
    assert isinstance(written, RejectionResult)
    assert (written.reason, written.signed, written.reviewer) == ("It invents a figure.", True, "ann")
    assert statement(house, "reject").words == "It invents a figure."
    assert house.surface.get_rejections("s") == [written]
    assert house.surface.get_attestations("s") == []


def test_without_a_criterion_the_promise_in_one_sentence_is_the_criterion(house: House) -> None:
    house.finish()
    house.surface.attest("s", "ann", reviewer_key=house.keys["ann"])
    assert statement(house).verdicts == (("A report.", "met"),)
    house.surface.reject("s", "ann", "no", reviewer_key=house.keys["ann"])
    assert statement(house, "reject").verdicts == (("A report.", "not_judged"),)


def desk_with_checks(house: House) -> None:
    from donewhen.agent_loop import AgentLoop
    from donewhen.circuit_breaker import CircuitBreaker
    from donewhen.spec_writer import SpecResult
    from donewhen.testing import ScriptedClient, make_reply

    checks = [Regex("^# ", name="title"), Regex("figure", name="figure"), Human("it is true")]
    promise = SpecResult("a", "b", "c", "s")
    breaker = CircuitBreaker(1, 1_000_000, output_fn=lambda _: None)
    client = ScriptedClient(make_reply("# Report"))
    AgentLoop(promise, breaker, house.ledger, client, checks=checks, find_price=lambda _: None).run("go")


def test_each_criterion_has_a_verdict_the_machines_where_nothing_else_is_said(house: House) -> None:
    desk_with_checks(house)
    house.surface.attest("s", "ann", reviewer_key=house.keys["ann"])
    usual = (("title", "met"), ("figure", "not_met"), ("it is true", "met"))
    assert statement(house).verdicts == usual
    assert house.rows("attest")[0].data["verdicts"] == [{"criterion": name, "verdict": said} for name, said in usual]
    house.clock.move(1)
    house.surface.attest("s", "ann", reviewer_key=house.keys["ann"], verdicts={"it is true": "not_judged"})
    assert dict(statement(house).verdicts)["it is true"] == "not_judged"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"verdicts": {"more": "met"}}, "there is no criterion 'more' in the frame"),
        ({"verdicts": {"A report.": "yes"}}, "the verdict on 'A report.' is 'yes', none of met, not_met, not_judged"),
        ({"calls": ["c1"]}, "there is no held call 'c1' in the frame; it has none"),
    ],
)
def test_what_is_none_of_the_frames_is_refused(house: House, options: dict[str, Any], told: str) -> None:
    house.finish()
    for key in (None, house.keys["ann"]):
        with pytest.raises(ValueError, match=told):
            house.surface.attest("s", "ann", reviewer_key=key, **options)
    assert house.rows("attest") == []


@pytest.mark.parametrize("reason", ["", " \n", "\u200b"])
def test_whoever_rejects_says_why(house: House, reason: str) -> None:
    house.finish()
    with pytest.raises(ValueError, match="reason is blank: whoever rejects says why"):
        house.surface.reject("s", "ann", reason)


def test_held_calls_are_named_by_their_digests_all_or_those_that_are_meant(house: House) -> None:
    house.hold("s", ToolCall("c1", "pay", {"to": "a"}), ToolCall("c2", "pay", {"to": "b"}))
    calls = house.surface.load("s").held_calls
    house.surface.attest("s", "ann", reviewer_key=house.keys["ann"])
    assert statement(house).calls == tuple((call.call_id, call.call_hash) for call in calls)
    assert statement(house).output_hash is None
    house.surface.reject("s", "ben", "no", reviewer_key=house.keys["ben"], calls=["c2"])
    assert statement(house, "reject").calls == (("c2", calls[1].call_hash),)
    judged = {call.call_id: judgement for call, judgement in house.surface.judge("s").calls}
    assert (judged["c1"].released_ok, judged["c2"].released_ok) == (True, False)


def test_a_call_id_that_is_half_a_character_can_be_attested(house: House) -> None:
    house.hold("s", ToolCall("c\ud800", "pay", {"to": "a"}))
    house.surface.attest("s", "ann", reviewer_key=house.keys["ann"])
    assert statement(house).calls[0][0] == "c\\ud800"
    assert house.surface.judge("s").calls[0][1].released_ok


# -- what is not signed ------------------------------------------------------------------------------------------------


def test_a_name_is_written_even_where_it_is_not_enough_and_says_so(house: House) -> None:
    house.finish()
    written = house.surface.attest("s", "ann")
    assert (written.signed, written.expires_at) == (False, None)
    standing = house.surface.judge("s")
    assert not standing.output.released_ok
    assert "a name without a signature" in standing.output.not_counted[0].why


def test_whoever_started_it_can_reject_it_and_take_that_back_and_let_nothing_pass(house: House) -> None:
    house.enroll(STARTER)
    house.finish()
    key = house.keys[STARTER]
    with pytest.raises(AttestationError, match="started this session, so somebody else must attest it"):
        house.surface.attest("s", STARTER, reviewer_key=key)
    house.surface.reject("s", STARTER, "Not yet.", reviewer_key=key)
    house.surface.attest("s", "ann", reviewer_key=house.keys["ann"])
    assert house.judged().sentence == f"{STARTER} rejected it: Not yet."
    house.clock.move(1)
    house.surface.attest("s", STARTER, reviewer_key=key)
    found = house.judged()
    assert (found.released_ok, [one.reviewer for one in found.counted]) == (True, ["ann"])


# -- another frame -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decision", ["attest", "reject"])
def test_a_frame_that_has_changed_is_refused_with_what_is_new(house: House, decision: str) -> None:
    house.finish()
    shown = house.surface.load("s").frame_hash
    house.surface.attest("s", "ben", reviewer_key=house.keys["ben"])
    late = house.ledger.write("s", 9, "late", "more", 0, 0, True)
    say = getattr(house.surface, decision)
    for key in (None, house.keys["ann"]):
        with pytest.raises(FrameChangedError, match=rf"since this frame was shown: write \(row {late}\)\. Look"):
            say("s", "ann", "words", frame_hash=shown, reviewer_key=key)
    assert [row.data["reviewer"] for row in house.rows("attest", "reject")] == ["ben"]


def test_a_frame_that_changes_between_signing_and_writing_is_refused(house: House) -> None:
    house.finish()
    text = sign(house)
    late = house.ledger.write("s", 9, "late", "more", 0, 0, True)
    with pytest.raises(FrameChangedError, match=rf"write \(row {late}\)"):
        house.surface.take(text)
    assert house.rows("attest") == []


# -- signed elsewhere --------------------------------------------------------------------------------------------------


def test_signing_elsewhere_needs_no_log_key_and_writes_nothing(house: House) -> None:
    house.finish()
    before = house.path.read_bytes()
    reader = ReviewSurface(house.path, house.path, now=house.clock.now)
    text = reader.sign("s", "ann", house.keys["ann"], "Fine.")
    assert house.path.read_bytes() == before
    with pytest.raises(LedgerError, match="is signed by the key of"):
        reader.take(text)
    taken = house.surface.take(text)
    assert isinstance(taken, AttestationResult)
    assert (taken.reviewer, taken.notes) == ("ann", "Fine.")
    assert house.judged().released_ok


def test_a_rejection_that_was_signed_elsewhere_is_taken_too(house: House) -> None:
    house.finish()
    taken = house.surface.take(sign(house, words="no", decision="reject"))
    assert isinstance(taken, RejectionResult)
    assert house.judged().sentence == "ann rejected it: no"


def test_an_envelope_may_be_laid_out_as_its_sender_likes_and_is_stored_our_way(house: House) -> None:
    house.finish()
    text = sign(house)
    house.surface.take(json.dumps(json.loads(text), indent=2))
    assert house.rows("attest")[0].data["envelope"] == text


def test_an_envelope_is_only_of_the_session_that_was_asked_for(house: House) -> None:
    house.finish("t")
    house.finish("s")
    with pytest.raises(AttestationError, match="signed for another session, s"):
        house.surface.take(sign(house), session_id="t")
    assert house.surface.take(sign(house), session_id="s").session_id == "s"


def test_the_same_envelope_is_taken_once(house: House) -> None:
    house.finish()
    text = sign(house)
    first = house.surface.take(text)
    with pytest.raises(AttestationError, match=f"the same that row {first.id} holds, and counts once"):
        house.surface.take(text)
    assert len(house.rows("attest")) == 1


def resigned(house: House, **changes: Any) -> str:
    said = Statement.read(loads(sign(house)))
    fields = {name: getattr(said, name) for name in said.__slots__}
    return Statement(**{**fields, **changes}).envelope().sign(house.keys["ann"]).dumps()


def test_what_was_signed_of_something_else_is_refused(house: House) -> None:
    house.finish()
    for changes, told in (
        ({"output_hash": "0" * 64}, "about another output than the one that waits"),
        ({"output_hash": None}, "about another output than the one that waits"),
        ({"calls": (("c1", "0" * 64),)}, "names a held call that does not wait"),
        ({"origin": "elsewhere"}, "signed for another log, elsewhere; this one is"),
        ({"expires_at": "2001-01-01T00:00:00+00:00"}, "it expired at 2001"),
    ):
        with pytest.raises(AttestationError, match=told):
            house.surface.take(resigned(house, **changes))
    with pytest.raises(SessionNotFoundError):
        house.surface.take(resigned(house, session_id="nowhere"))
    with pytest.raises(FrameChangedError, match="none that this session has had"):
        house.surface.take(resigned(house, frame_hash="0" * 64))
    assert house.rows("attest", "reject") == []


def test_what_nobody_signed_is_refused(house: House) -> None:
    house.finish()
    envelope = loads(sign(house))
    with pytest.raises(AttestationError, match="signed with no key that was ever enrolled"):
        house.surface.take(Envelope(envelope.payload, envelope.payload_type).dumps())


@pytest.mark.parametrize("text", ["", "{}", "not json", Envelope(b"{}", "text/x").dumps()])
def test_what_is_no_review_is_refused(house: House, text: str) -> None:
    house.finish()
    with pytest.raises(EnvelopeError):
        house.surface.take(text)


def test_a_session_that_is_not_there_cannot_be_signed(house: House, tmp_path: Path) -> None:
    surface = ReviewSurface(tmp_path / "no.db", tmp_path / "no.db")
    with pytest.raises(SessionNotFoundError):
        surface.sign("s", "ann", house.keys["ann"])
    with pytest.raises(SessionNotFoundError):
        surface.reject("s", "ann", "no")
    assert surface.get_rejections("s") == []
