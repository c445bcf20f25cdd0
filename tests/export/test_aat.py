"""Records of the agent audit trail draft, checked with libraries that are not ours."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from exports import SESSION, run_session
from hypothesis import given, settings
from hypothesis import strategies as st
from stores.kit import SIGNER, add, an_entry, say

from donewhen.entry import DATA_FIELDS
from donewhen.errors import KeyFileError, LedgerFormatError
from donewhen.export import export_session
from donewhen.export.aat import LABEL, Agent, agent_of, es256_signer
from donewhen.ledger import Ledger
from donewhen.merkle import leaf_hash
from donewhen.testing import FakeClock

KEY = ec.generate_private_key(ec.SECP256R1())
MANDATORY = {
    "record_id",
    "timestamp",
    "agent_id",
    "agent_version",
    "session_id",
    "action_type",
    "action_detail",
    "outcome",
    "trust_level",
    "parent_record_id",
    "prev_hash",
}
OPTIONAL = {"signature", "model_id", "latency_ms", "output_hash"}
ACTIONS = {"tool_call", "tool_response", "decision", "delegation", "escalation", "error", "lifecycle"}
OUTCOMES = {"success", "failure", "timeout", "denied", "escalated"}


def pem(key: Any, password: bytes | None = None) -> bytes:
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)


def problems(data: bytes, key: ec.EllipticCurvePublicKey | None = None) -> list[str]:
    """Name what is wrong with a chain of records, by the draft's rules and with nothing of ours."""
    found: list[str] = []
    before: dict[str, Any] | None = None
    links = hashlib.sha256()
    records = [json.loads(line) for line in data.splitlines()]
    for number, record in enumerate(records):
        found += [f"{number}: {problem}" for problem in _problems_of(record)]
        parent = before["record_id"] if before else None
        prev = hashlib.sha256(rfc8785.dumps(before)).hexdigest() if before else None
        if (record["parent_record_id"], record["prev_hash"]) != (parent, prev):
            found.append(f"{number}: the chain is broken")
        if before and (record["session_id"], record["agent_id"]) != (before["session_id"], before["agent_id"]):
            found.append(f"{number}: of another session or agent")
        if before and record["timestamp"] < before["timestamp"]:
            found.append(f"{number}: time goes back")
        if key is not None and not _is_signed(record, key):
            found.append(f"{number}: not signed")
        links.update(bytes.fromhex(prev or ""))
        if record["action_detail"].get("event") == "session_end":
            said = record["action_detail"]
            if (said["session_hash"], said["record_count"]) != (links.hexdigest(), len(records)):
                found.append(f"{number}: the end does not cover the session")
        before = record
    first = records[0]
    if (first["action_type"], first["action_detail"].get("event")) != ("lifecycle", "session_start"):
        found.append("no genesis")
    if data != b"".join([rfc8785.dumps(record) + b"\n" for record in records]):
        found.append("not spelled as RFC 8785 spells it")
    return found


def _problems_of(record: dict[str, Any]) -> Iterator[str]:
    if not MANDATORY <= set(record) <= MANDATORY | OPTIONAL:
        yield f"fields {set(record) ^ MANDATORY}"
    for name in ("record_id", "session_id"):
        if uuid.UUID(record[name]).version != 4 or str(uuid.UUID(record[name])) != record[name]:
            yield f"{name} is no UUID of version 4"
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["timestamp"]):
        yield "timestamp"
    if not re.fullmatch(r"[a-z]+:\S+", record["agent_id"]) or not re.fullmatch(
        r"\d+\.\d+\.\d+", record["agent_version"]
    ):
        yield "agent"
    if record["action_type"] not in ACTIONS or record["outcome"] not in OUTCOMES or not record["action_detail"]:
        yield "a word that the draft does not have"
    if record["trust_level"] != ("L1" if "signature" in record else "L0"):
        yield "trust level"


def _is_signed(record: dict[str, Any], key: ec.EllipticCurvePublicKey) -> bool:
    unsigned = {name: value for name, value in record.items() if name != "signature"}
    text = record.get("signature", "")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if len(raw) != 64 or "=" in text:
        return False
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    try:
        key.verify(der, rfc8785.dumps(unsigned), ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


@pytest.fixture
def ledger(tmp_store: Path) -> Iterator[Ledger]:
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        run_session(ledger)
        yield ledger


def exported(ledger: Ledger, session: str = SESSION, **options: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export_session(ledger, session, "aat", **options).splitlines()]


# -- the chain ---------------------------------------------------------------------------------------------------------


def test_unsigned_records_keep_the_drafts_rules(ledger: Ledger) -> None:
    assert problems(export_session(ledger, SESSION, "aat")) == []


def test_signed_records_verify_with_the_public_key(ledger: Ledger) -> None:
    data = export_session(ledger, SESSION, "aat", sign=es256_signer(pem(KEY), "key.pem"))
    assert problems(data, KEY.public_key()) == []
    assert problems(data, ec.generate_private_key(ec.SECP256R1()).public_key()) != []


def test_whatever_is_changed_is_seen(ledger: Ledger) -> None:
    data = export_session(ledger, SESSION, "aat", sign=es256_signer(pem(KEY), "key.pem"))
    lines = data.splitlines(keepends=True)
    for number, line in enumerate(lines):
        changed = line.replace(b'"outcome":"success"', b'"outcome":"timeout"').replace(b'"L1"', b'"L4"')
        assert problems(b"".join([*lines[:number], changed, *lines[number + 1 :]]), KEY.public_key()) != []
    for number in range(len(lines) - 1):  # nothing hangs on the last one yet
        assert problems(b"".join(lines[:number] + lines[number + 1 :]), KEY.public_key()) != []


def test_unsigned_records_of_the_same_rows_are_the_same_bytes(ledger: Ledger) -> None:
    assert export_session(ledger, SESSION, "aat") == export_session(ledger, SESSION, "aat")


def test_the_first_record_says_what_the_others_are_worth(ledger: Ledger) -> None:
    first = exported(ledger)[0]["action_detail"]
    assert first["label"] == LABEL == "for exchange, not proof"
    assert (first["log"], first["session"]) == (ledger.origin, SESSION)
    assert first["draft"] == "draft-sharif-agent-audit-trail-00"


def test_the_first_record_says_whether_hashes_have_a_key(ledger: Ledger, tmp_path: Path) -> None:
    assert exported(ledger)[0]["action_detail"]["hashes_are"].startswith("parameters_hash: SHA-256 of")
    with Ledger(tmp_path / "keyed.db", input_key=bytes(32)) as keyed:
        run_session(keyed)
        assert exported(keyed)[0]["action_detail"]["hashes_are"].startswith("HMAC-SHA-256")


def test_every_other_record_names_its_row_and_its_digest(ledger: Ledger) -> None:
    bodies = dict(ledger.store.iter_bodies())
    named = [record["action_detail"]["donewhen"] for record in exported(ledger)[1:-1]]
    assert {place["row"] for place in named} == {row.id for row in ledger.rows(SESSION)}
    assert all(place["leaf_hash"] == leaf_hash(bodies[place["row"]]).hex() for place in named)


# -- what rows become --------------------------------------------------------------------------------------------------


def test_a_call_and_its_answer_are_records_of_their_own(ledger: Ledger) -> None:
    records = exported(ledger)
    [call] = [record for record in records if record["action_type"] == "tool_call"]
    [answer] = [record for record in records if record["action_type"] == "tool_response"]
    reply = next(row for row in ledger.rows(SESSION) if row.kind == "llm")
    tool = next(row for row in ledger.rows(SESSION) if row.kind == "tool")
    assert call["action_detail"]["tool_name"] == answer["action_detail"]["tool_name"] == "look"
    assert call["action_detail"]["parameters_hash"] == reply.data["tools"][0]["args_hash"]
    assert answer["action_detail"]["response_hash"] == tool.data["result_hash"]
    assert call["action_detail"]["call_id"] == answer["action_detail"]["call_id"] == "call-1"


def test_a_session_that_is_over_ends_and_one_that_is_not_does_not(ledger: Ledger) -> None:
    assert exported(ledger)[-1]["action_detail"]["event"] == "session_end"
    say(ledger, "by hand", "other")
    assert exported(ledger, "other")[-1]["action_type"] == "decision"


SAMPLES: dict[str, tuple[dict[str, Any], str, str]] = {
    "spec": ({"spec_hash": "0" * 64}, "lifecycle", "success"),
    "open": ({"resumes": True}, "lifecycle", "success"),
    "reserve": ({"model": "m"}, "decision", "success"),
    "llm": ({"model": "m", "stop_reason": "end_turn"}, "decision", "success"),
    "tool": ({"call": "c", "name": "n", "result_hash": "0" * 64, "problem": "p"}, "tool_response", "success"),
    "check": ({"name": "n", "check": "regex", "outcome": "pending"}, "decision", "escalated"),
    "error": ({"attempt": 1, "problem": "p", "status": 429}, "error", "failure"),
    "abandoned": ({"attempt": 1, "problem": "p"}, "error", "failure"),
    "circuit_breaker": ({"dimension": "tokens"}, "decision", "denied"),
    "close": ({"outcome": "breached", "reason": "r"}, "lifecycle", "success"),
    "write": ({}, "decision", "success"),
    "attest": ({"reviewer": "ada", "output_hash": "0" * 64}, "decision", "success"),
    "reject": ({"reviewer": "ada", "reason": "r"}, "decision", "denied"),
    "release": ({"target": "t", "state": "failed"}, "decision", "failure"),
    "erase": ({"who": "ada", "why": "w"}, "lifecycle", "success"),
    "key": ({"action": "rotate", "who": "ada"}, "lifecycle", "success"),
    "policy": ({"quorum": 1}, "lifecycle", "success"),
    "budget": ({"who": "ada", "why": "w"}, "lifecycle", "success"),
    "halt": ({"halted": True, "who": "ada", "why": "w"}, "decision", "denied"),
    "reconcile": ({}, "lifecycle", "success"),
}


def test_every_kind_of_row_has_its_place(tmp_store: Path) -> None:
    assert set(SAMPLES) == set(DATA_FIELDS)
    with Ledger(tmp_store) as ledger:
        add(ledger.store, *[an_entry("s", kind, data=data) for kind, (data, _, _) in SAMPLES.items()])
        assert problems(export_session(ledger, "s", "aat")) == []
        records = {record["action_detail"]["donewhen"]["kind"]: record for record in exported(ledger, "s")[1:]}
    for kind, (_, action, outcome) in SAMPLES.items():
        assert (records[kind]["action_type"], records[kind]["outcome"]) == (action, outcome), kind


@pytest.mark.parametrize(("held", "run", "outcome"), [(True, True, "escalated"), (False, False, "denied")])
def test_a_call_that_waits_or_is_not_run_says_so(tmp_store: Path, held: bool, run: bool, outcome: str) -> None:
    tools = [{"id": "c", "name": "n", "args_hash": "0" * 64, "held": held, "run": run}]
    with Ledger(tmp_store) as ledger:
        add(ledger.store, an_entry("s", "llm", data={"model": "m", "tools": tools}))
        assert exported(ledger, "s")[-1]["outcome"] == outcome


@pytest.mark.parametrize(
    ("kind", "data"), [("tool", {}), ("error", {}), ("llm", {"tools": [{}]}), ("llm", {"tools": 7}), ("check", {})]
)
def test_a_row_that_lacks_what_its_kind_has_is_named(tmp_store: Path, kind: str, data: Any) -> None:
    with Ledger(tmp_store) as ledger:
        add(ledger.store, an_entry("s", kind, data=data))
        with pytest.raises(LedgerFormatError, match="row 1 lacks"):
            export_session(ledger, "s", "aat")


def test_a_clock_that_went_back_is_told_and_time_does_not(tmp_store: Path) -> None:
    clock = FakeClock()
    with Ledger(tmp_store, now=clock.now) as ledger:
        say(ledger)
        clock.set_wall(-3600)
        say(ledger)
        assert problems(export_session(ledger, "s", "aat")) == []
        first, second = exported(ledger, "s")[1:]
    assert second["timestamp"] == first["timestamp"]
    assert second["action_detail"]["clock_said"] < first["timestamp"]


@settings(max_examples=25)
@given(st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=4))
def test_any_text_in_a_row_can_be_spelled(texts: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder, "l.db")) as ledger:
        rows = [{"call": text, "name": text, "result_hash": "", "problem": f"\ud800{text}"} for text in texts]
        add(ledger.store, *[an_entry("s", "tool", data=data) for data in rows])
        assert problems(export_session(ledger, "s", "aat")) == []


# -- who acted, and who signs ------------------------------------------------------------------------------------------


def test_a_session_whose_id_is_a_uuid_keeps_it(tmp_store: Path) -> None:
    mine, odd = str(uuid.uuid4()), str(uuid.uuid4()).upper()
    with Ledger(tmp_store) as ledger:
        for session in (mine, odd, str(uuid.uuid1()), "s"):
            say(ledger, "x", session)
            assert (exported(ledger, session)[0]["session_id"] == session) == (session == mine)


def test_the_agent_is_named_after_the_log_unless_somebody_says_more(ledger: Ledger) -> None:
    plain = exported(ledger)[0]
    assert (plain["agent_id"], plain["agent_version"]) == (agent_of(ledger.origin).agent_id, "0.0.0")
    named = exported(ledger, agent=Agent(agent_id="urn:agent:auditor", version="1.2.3"))[-1]
    assert (named["agent_id"], named["agent_version"]) == ("urn:agent:auditor", "1.2.3")


@pytest.mark.parametrize("agent", [{"agent_id": "bot"}, {"agent_id": "urn: x"}, {"agent_id": "urn:x", "version": "1"}])
def test_what_is_no_uri_and_no_version_is_refused(agent: Any) -> None:
    with pytest.raises(ValueError, match="an agent"):
        Agent(**agent)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (b"", "not a private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a private key"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "not an ECDSA key on P-256"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "not an ECDSA key on P-256"),
        (pem(KEY, b"secret"), "locked with a passphrase"),
    ],
)
def test_only_a_p256_key_signs(key: bytes, says: str) -> None:
    with pytest.raises(KeyFileError, match=says) as caught:
        es256_signer(key, "key.pem")
    assert "key.pem" in str(caught.value)


def test_times_are_utc_in_milliseconds(tmp_store: Path) -> None:
    with Ledger(tmp_store, now=lambda: datetime(2026, 1, 1, 12, 0, 0, 999_999, timezone.utc)) as ledger:
        say(ledger)
        assert exported(ledger, "s")[1]["timestamp"] == "2026-01-01T12:00:00.999Z"
