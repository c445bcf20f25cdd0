"""What a reviewer signs: in-toto's shape, one spelling, and nothing that could mean something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen import canonical
from donewhen.attestation import PAYLOAD_TYPE, Statement, call_hash, expiry, is_time, signer_of
from donewhen.dsse import Envelope
from donewhen.entry import DATA_FIELDS
from donewhen.errors import EnvelopeError
from donewhen.notes import LocalSigner

AT = "2026-03-01T12:00:00+00:00"
ANN = LocalSigner("donewhen/reviewer/ann", bytes(range(32)))
BEN = LocalSigner("donewhen/reviewer/ben", bytes(range(1, 33)))
SAID = Statement(
    decision="attest",
    reviewer="ann",
    session_id="s",
    origin="example.com/log",
    frame_hash="a" * 64,
    output_hash="b" * 64,
    calls=(("c1", "c" * 64), ("c:2", "d" * 64)),
    verdicts=(("a report", "met"), ("shell: make", "not_met")),
    words="Fine.",
    expires_at="2026-03-04T12:00:00+00:00",
    at=AT,
)
REFUSED = replace(SAID, decision="reject", words="It invents a figure.", expires_at=None)

words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
names = words.filter(lambda text: bool(text.strip()))
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
statements = st.builds(
    Statement,
    decision=st.sampled_from(["attest", "reject"]),
    reviewer=names,
    session_id=words,
    origin=words,
    frame_hash=digests,
    output_hash=st.none() | digests,
    calls=st.lists(st.tuples(words, digests), max_size=3).map(tuple),
    verdicts=st.lists(st.tuples(words, st.sampled_from(["met", "not_met", "not_judged"])), max_size=3).map(tuple),
    words=names,
    expires_at=st.none() | st.just(AT),
    at=st.datetimes(timezones=st.just(timezone.utc)).map(datetime.isoformat),
)


def test_it_is_an_in_toto_statement_that_names_what_was_looked_at() -> None:
    raw = json.loads(SAID.payload())
    assert raw["_type"] == "https://in-toto.io/Statement/v1"
    assert raw["predicateType"] == "urn:donewhen:review:v1"
    assert raw["subject"] == [
        {"name": "output", "digest": {"sha256": "b" * 64}},
        {"name": "frame", "digest": {"sha256": "a" * 64}},
        {"name": "call:c1", "digest": {"sha256": "c" * 64}},
        {"name": "call:c:2", "digest": {"sha256": "d" * 64}},
    ]
    assert raw["predicate"] == {
        "decision": "attest",
        "reviewer": "ann",
        "session": "s",
        "origin": "example.com/log",
        "frameHash": "a" * 64,
        "verdicts": [
            {"criterion": "a report", "verdict": "met"},
            {"criterion": "shell: make", "verdict": "not_met"},
        ],
        "notes": "Fine.",
        "expiresAt": "2026-03-04T12:00:00+00:00",
        "at": AT,
    }


def test_a_rejection_has_a_reason_instead_of_notes() -> None:
    predicate = json.loads(REFUSED.payload())["predicate"]
    assert (predicate["decision"], predicate["reason"]) == ("reject", "It invents a figure.")
    assert "notes" not in predicate


def test_without_an_output_only_the_frame_and_the_calls_are_subjects() -> None:
    raw = json.loads(replace(SAID, output_hash=None).payload())
    assert [one["name"] for one in raw["subject"]] == ["frame", "call:c1", "call:c:2"]


@given(statements)
def test_a_statement_is_read_back_as_it_was(statement: Statement) -> None:
    envelope = statement.envelope()
    assert envelope.payload_type == PAYLOAD_TYPE
    assert canonical.dumps(json.loads(envelope.payload)) == envelope.payload
    assert Statement.read(envelope) == statement


@given(statements)
def test_its_row_has_the_fields_of_its_kind_and_nothing_empty(statement: Statement) -> None:
    entry = statement.entry(statement.envelope().sign(ANN))
    assert entry.kind == statement.decision
    assert DATA_FIELDS[entry.kind].issuperset(entry.data)
    assert all(value not in (None, [], {}) for value in entry.data.values())
    assert "envelope" not in statement.entry().data


def changed(change: Callable[[dict[str, Any]], Any]) -> Envelope:
    raw = json.loads(SAID.payload())
    change(raw)
    return Envelope(canonical.dumps(raw), PAYLOAD_TYPE)


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another type": lambda raw: raw.update(_type="https://in-toto.io/Statement/v0.1"),
    "another predicate": lambda raw: raw.update(predicateType="https://slsa.dev/provenance/v1"),
    "an unknown field": lambda raw: raw.update(more=1),
    "an unknown field of the predicate": lambda raw: raw["predicate"].update(more=1),
    "no predicate": lambda raw: raw.pop("predicate"),
    "a predicate that is a list": lambda raw: raw.update(predicate=[]),
    "no subject": lambda raw: raw.pop("subject"),
    "no frame": lambda raw: raw["subject"].pop(1),
    "another frame": lambda raw: raw["subject"][1]["digest"].update(sha256="0" * 64),
    "two frames": lambda raw: raw["subject"].append(raw["subject"][1]),
    "two outputs": lambda raw: raw["subject"].insert(0, {"name": "output", "digest": {"sha256": "0" * 64}}),
    "another digest too": lambda raw: raw["subject"][0]["digest"].update(sha512="0"),
    "a subject of another name": lambda raw: raw["subject"].append({"name": "x", "digest": {"sha256": "0" * 64}}),
    "a subject without a name": lambda raw: raw["subject"][0].update(name=7),
    "subjects in another order": lambda raw: raw["subject"].reverse(),
    "no decision": lambda raw: raw["predicate"].pop("decision"),
    "a decision that is a list": lambda raw: raw["predicate"].update(decision=[]),
    "another decision": lambda raw: raw["predicate"].update(decision="release"),
    "notes in a rejection": lambda raw: raw["predicate"].update(decision="reject"),
    "no reviewer": lambda raw: raw["predicate"].update(reviewer=" "),
    "a reviewer that is a number": lambda raw: raw["predicate"].update(reviewer=1),
    "a NUL": lambda raw: raw["predicate"].update(notes="a\0"),
    "half a character": lambda raw: raw["predicate"].update(notes="\ud800"),
    "a short digest": lambda raw: raw["predicate"].update(frameHash="a" * 63),
    "an upper-case digest": lambda raw: raw["predicate"].update(frameHash="A" * 64),
    "an unknown verdict": lambda raw: raw["predicate"]["verdicts"][0].update(verdict="fine"),
    "a verdict on nothing": lambda raw: raw["predicate"]["verdicts"][0].pop("criterion"),
    "verdicts that are none": lambda raw: raw["predicate"].update(verdicts=None),
    "no time": lambda raw: raw["predicate"].pop("at"),
    "a time without a zone": lambda raw: raw["predicate"].update(at="2026-03-01T12:00:00"),
    "a time of another zone": lambda raw: raw["predicate"].update(at="2026-03-01T12:00:00+01:00"),
    "a time spelled another way": lambda raw: raw["predicate"].update(at="2026-03-01 12:00:00+00:00"),
    "a time that is a number": lambda raw: raw["predicate"].update(at=1),
    "an expiry that is empty": lambda raw: raw["predicate"].update(expiresAt=""),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_review_is_refused(name: str) -> None:
    with pytest.raises(EnvelopeError):
        Statement.read(changed(WRONG[name]))


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (SAID.payload(), "application/json"),
        (SAID.payload() + b"\n", PAYLOAD_TYPE),
        (json.dumps(json.loads(SAID.payload())).encode(), PAYLOAD_TYPE),
        (b"", PAYLOAD_TYPE),
        (b"\xff", PAYLOAD_TYPE),
        (b"null", PAYLOAD_TYPE),
        (b"[[]]", PAYLOAD_TYPE),
    ],
)
def test_another_spelling_or_another_kind_of_thing_is_refused(payload: bytes, kind: str) -> None:
    with pytest.raises(EnvelopeError):
        Statement.read(Envelope(payload, kind))


def test_a_rejection_without_a_reason_is_none() -> None:
    with pytest.raises(EnvelopeError, match="a rejection its reason"):
        replace(REFUSED, words=" ")


def test_the_signer_is_found_whatever_the_key_ids_say() -> None:
    envelope = SAID.envelope().sign(BEN)
    assert signer_of(envelope, [ANN.vkey, BEN.vkey]) == BEN.vkey
    assert signer_of(envelope, [ANN.vkey]) is None
    assert signer_of(SAID.envelope(), [ANN.vkey, BEN.vkey]) is None
    assert signer_of(envelope.sign(ANN), [ANN.vkey]) == ANN.vkey


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="not a reviewer's key"):
        signer_of(SAID.envelope().sign(ANN), ["ann"])


def test_a_call_is_named_by_its_session_its_turn_its_tool_and_its_arguments() -> None:
    parts = ("s", 1, "c1", "pay", "e" * 64)
    others = [("t", 1, "c1", "pay", "e" * 64), ("s", 2, "c1", "pay", "e" * 64), ("s", 1, "c2", "pay", "e" * 64)]
    others += [("s", 1, "c1", "send", "e" * 64), ("s", 1, "c1", "pay", "f" * 64)]
    assert len({call_hash(*one) for one in [parts, *others]}) == 6
    spelled = {"args_hash": "e" * 64, "call": "c1", "session": "s", "tool": "pay", "turn": 1}
    assert call_hash(*parts) == canonical.hash_hex("call", canonical.dumps(spelled))


def test_an_expiry_is_hours_later_and_never_where_the_calendar_ends() -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
    assert expiry(at, 72) == "2026-03-04T12:00:00+00:00"
    assert expiry(at, None) is None
    assert expiry(at, 10**9) is None
    assert is_time(at.isoformat())


def test_of_ten_thousand_other_payloads_none_is_read_as_another_spelling() -> None:
    random, text, read = Random(7), SAID.payload().decode(), 0
    for _ in range(10_000):
        at, letter = random.randrange(len(text)), random.choice('0aZ+:- {}[]",\\\n\tuE.é')
        other = text[:at] + random.choice([letter, letter + text[at], "", text[at] * 2]) + text[at + 1 :]
        try:
            statement = Statement.read(Envelope(other.encode(), PAYLOAD_TYPE))
        except EnvelopeError:
            continue
        read += 1
        assert statement.payload() == other.encode()
        assert (statement == SAID) == (other == text)
    assert 100 < read < 9_000
