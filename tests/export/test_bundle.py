"""The bundle: an auditor who was not there opens it with the standard library and the public key."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from exports import SECRETS, SESSION, run_session
from receipts import WITNESS, both_say, cosign
from stores.kit import SIGNER, STRANGER, add, an_entry, begin, say, tamper

from donewhen.cosignatures import cosigner_of
from donewhen.export import export_session
from donewhen.ledger import Ledger


@pytest.fixture
def ledger(tmp_store: Path) -> Iterator[Ledger]:
    begin(tmp_store)
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        run_session(ledger)
        yield ledger


def opened(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def bundle(ledger: Ledger, **options: Any) -> dict[str, bytes]:
    return opened(export_session(ledger, SESSION, "bundle", **options))


def test_it_has_what_an_auditor_needs_and_a_list_of_it(ledger: Ledger) -> None:
    files = bundle(ledger)
    assert sorted(files) == ["README.txt", "checkpoint.txt", "manifest.json", "receipts/session.receipt", "rows.jsonl"]
    manifest = json.loads(files.pop("manifest.json"))
    for name, data in files.items():
        assert manifest["files"].pop(name) == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert manifest["files"] == {}
    assert (manifest["session"], manifest["origin"], manifest["signed"]) == (SESSION, ledger.origin, True)
    assert manifest["rows"] == len(ledger.rows(SESSION))


def test_its_receipt_proves_its_rows(ledger: Ledger) -> None:
    files = bundle(ledger)
    proven = both_say(files["receipts/session.receipt"])
    assert isinstance(proven, dict)
    assert len(proven["rows"]) == len(ledger.rows(SESSION))
    assert b"\n" + files["rows.jsonl"] in files["receipts/session.receipt"]
    assert files["receipts/session.receipt"].endswith(files["checkpoint.txt"])


def test_the_logs_own_rows_are_proven_under_the_same_checkpoint(ledger: Ledger) -> None:
    ledger.enroll_reviewer("ada", STRANGER.vkey, who="the owner")
    cosign(ledger, WITNESS)
    say(ledger, "later", "other")
    files = bundle(ledger)
    witness = cosigner_of(WITNESS).vkey
    log = both_say(files["receipts/log.receipt"], SIGNER.vkey, witness)
    session = both_say(files["receipts/session.receipt"], SIGNER.vkey, witness)
    assert isinstance(log, dict)
    assert isinstance(session, dict)
    assert log["log"] == session["log"]
    assert [row[3] for row in log["rows"]] == ["key"]


def test_what_reviewers_signed_is_in_it_as_they_signed_it(ledger: Ledger) -> None:
    add(ledger.store, an_entry(SESSION, "attest", data={"reviewer": "ada", "envelope": '{"payload":"x"}'}))
    add(ledger.store, an_entry(SESSION, "reject", data={"reviewer": "bob", "envelope": '{"payload":"y"}'}))
    files = bundle(ledger)
    last = ledger.rows(SESSION)[-1].id
    assert files[f"attestations/{last - 1}-attest.dsse.json"] == b'{"payload":"x"}'
    assert files[f"attestations/{last}-reject.dsse.json"] == b'{"payload":"y"}'


def test_kept_texts_are_in_it_where_that_was_asked_for_with_what_ties_them_to_their_rows(ledger: Ledger) -> None:
    files = bundle(ledger, with_texts=True)
    told = json.loads(files["texts.json"])
    rows = {row.id: row for row in ledger.rows(SESSION)}
    assert SECRETS[2].encode() in files.values()
    for one in told:
        data = b"donewhen/v1/text\0" + bytes.fromhex(one["salt"]) + files[one["file"]]
        assert hashlib.sha256(data).hexdigest() == one["commitment"] == rows[one["row"]].data["texts"][one["label"]]
    assert len(told) == sum(len(row.data.get("texts", {})) for row in rows.values()) > 0


def test_an_erased_text_is_left_out(ledger: Ledger) -> None:
    tamper(Path(ledger.path), "DELETE FROM texts")
    files = bundle(ledger, with_texts=True)
    assert json.loads(files["texts.json"]) == []


@pytest.mark.parametrize("label", ["../../evil", "a/b", "C:\\x", "", "é", "x" * 300])
def test_a_label_never_leads_out_of_the_folder(ledger: Ledger, label: str) -> None:
    from donewhen.entry import Entry
    from donewhen.ledger import Draft

    ledger.note(Draft(Entry(kind="close", session_id=SESSION, state_origin="close", data={}), {label: "kept"}))
    for name in bundle(ledger, with_texts=True):
        assert ".." not in name
        assert name.isascii()
        assert len(name) < 80
        assert name.count("/") <= 1


def test_the_same_rows_give_the_same_bytes_and_no_time_of_day(ledger: Ledger) -> None:
    data = export_session(ledger, SESSION, "bundle", with_texts=True)
    with Ledger(ledger.path, read_only=True) as reader:
        assert export_session(reader, SESSION, "bundle", with_texts=True) == data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {(entry.compress_type, entry.create_system) for entry in entries} == {(zipfile.ZIP_STORED, 3)}
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)


def test_of_an_unsigned_ledger_it_says_that_nothing_is_proven(tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        run_session(ledger)
        files = bundle(ledger)
    assert sorted(files) == ["README.txt", "checkpoint.txt", "manifest.json", "rows.jsonl"]
    assert b"NOTHING IS PROVEN" in files["README.txt"]
    assert json.loads(files["manifest.json"])["signed"] is False


def test_the_page_for_the_auditor_names_no_key_and_cannot_be_written_into(tmp_store: Path) -> None:
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        name = "s\n\nThe key is evil+00000000+AAAA\x1b[2J"
        say(ledger, "x", name)
        readme = opened(export_session(ledger, name, "bundle"))["README.txt"].decode()
    assert SIGNER.vkey not in readme
    assert "\nThe key is" not in readme
    assert "\x1b" not in readme
