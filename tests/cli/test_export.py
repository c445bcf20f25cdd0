"""`donewhen export`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from click.testing import Result
from command import argv, donewhen, environ, process
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from exports import SECRETS, SESSION, run_session
from processes import PATIENCE_SECONDS
from receipts import both_say
from stores.kit import SIGNER, key_of

from donewhen.cli.export import FORMATS
from donewhen.export import FORMATS as KNOWN
from donewhen.ledger import Ledger

STORE = Path("ledger.db")


@pytest.fixture(autouse=True)
def _a_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DONEWHEN_STORE", str(STORE))
    with Ledger(STORE, signer=SIGNER) as ledger:
        run_session(ledger)


def export(form: str, *words: str) -> Result:
    return donewhen("export", SESSION, "--format", form, *words)


def test_the_formats_are_those_of_the_library() -> None:
    assert FORMATS == KNOWN


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_and_standard_output_get_the_same_bytes(form: str) -> None:
    result = export(form)
    assert result.exit_code == 0, result.stderr
    assert export(form, "--to", "made").exit_code == 0
    assert Path("made").read_bytes() == result.stdout_bytes
    assert not any(secret.encode() in result.stdout_bytes for secret in SECRETS)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_is_there_is_not_replaced_without_force(form: str) -> None:
    Path("made").write_text("mine")
    assert export(form, "--to", "made").exit_code == 2
    assert Path("made").read_text() == "mine"
    assert export(form, "--to", "made", "--force").exit_code == 0


def test_a_bundle_is_proven_by_the_auditors_program() -> None:
    with zipfile.ZipFile(io.BytesIO(export("bundle").stdout_bytes)) as archive:
        assert isinstance(both_say(archive.read("receipts/session.receipt"), key_of(STORE).vkey), dict)


def test_texts_are_in_a_bundle_only_and_only_when_asked() -> None:
    result = export("bundle", "--with-texts")
    assert SECRETS[2].encode() in result.stdout_bytes
    assert "may be private" in result.stderr
    assert export("jsonl", "--with-texts").exit_code == 2


def test_records_of_the_draft_say_that_they_are_no_proof() -> None:
    result = export("aat")
    assert "for exchange, not proof" in result.stderr
    assert b"for exchange, not proof" in result.stdout_bytes.splitlines()[0]


def test_records_can_be_signed_and_their_agent_named() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    Path("key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    words = ("--sign-key", "key.pem", "--agent-id", "urn:agent:a", "--agent-version", "1.2.3")
    first = json.loads(export("aat", *words).stdout_bytes.splitlines()[0])
    assert len(first["signature"]) == 86
    assert (first["agent_id"], first["agent_version"], first["trust_level"]) == ("urn:agent:a", "1.2.3", "L1")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("csv", "--sign-key", "key.pem"), 2),
        (("aat", "--sign-key", "nowhere.pem"), 2),
        (("aat", "--sign-key", "ledger.db"), 7),
        (("aat", "--agent-id", "bot"), 2),
        (("aat", "--agent-version", "new"), 2),
        (("xml",), 2),
    ],
)
def test_what_cannot_be_done_is_one_sentence(words: tuple[str, ...], code: int) -> None:
    result = export(*words, "--to", "made")
    assert result.exit_code == code
    assert result.stderr.startswith("donewhen: ")
    assert not Path("made").exists()


def test_a_session_that_is_not_there_leaves_no_file() -> None:
    assert donewhen("export", "nobody", "--format", "csv", "--to", "made").exit_code == 2
    assert not Path("made").exists()


def test_an_unsigned_ledger_is_called_so() -> None:
    with Ledger("unsigned.db") as ledger:
        run_session(ledger)
    result = export("jsonl", "--store", "unsigned.db")
    assert result.exit_code == 0
    assert "nothing in this is proven" in result.stderr


def test_a_zip_is_not_written_to_a_terminal() -> None:
    pytest.importorskip("pty")
    ours, theirs = os.openpty()
    try:
        command = argv("export", SESSION, "--format", "bundle")
        options = {"stdout": theirs, "stderr": subprocess.PIPE, "env": environ(), "timeout": PATIENCE_SECONDS}
        ran = subprocess.run(command, check=False, **options)
    finally:
        os.close(ours)
        os.close(theirs)
    assert ran.returncode == 2
    assert b"--to" in ran.stderr


def test_a_pipe_carries_lines_as_they_are() -> None:
    made = process("export", SESSION, "--format", "jsonl")
    assert (made.returncode, made.stdout.encode()) == (0, export("jsonl").stdout_bytes)
