"""`donewhen receipt` and `verify-receipt`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from command import as_json, donewhen, process
from receipts import WITNESS, cosign, fill
from stores.kit import SIGNER, STRANGER, begin, say, tamper

from donewhen.cosignatures import cosigner_of
from donewhen.entry import LOG_SESSION
from donewhen.ledger import Ledger

STORE = Path("ledger.db")
W1 = cosigner_of(WITNESS).vkey


@pytest.fixture(autouse=True)
def _a_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DONEWHEN_STORE", str(STORE))
    begin(STORE)
    with Ledger(STORE, signer=SIGNER) as ledger:
        fill(ledger)


def receipt(*words: str) -> Path:
    result = donewhen("receipt", "session-0", "--to", "r", "--force", *words)
    assert result.exit_code == 0, result.stderr
    return Path("r")


def shown(*words: str) -> Any:
    return as_json("verify-receipt", receipt(*words), "--key", SIGNER.vkey)


def test_a_receipt_is_written_and_proves_its_rows() -> None:
    result = donewhen("verify-receipt", receipt(), "--key", SIGNER.vkey)
    assert result.exit_code == 0
    assert "Proven: 6 rows of session session-0." in result.stdout
    assert "whether the session has rows after its no. 6" in result.stdout
    assert "with the key that was given" in result.stdout


def test_it_goes_to_standard_output_as_it_is() -> None:
    made = donewhen("receipt", "session-0")
    assert made.stdout_bytes == receipt().read_bytes()
    assert "Receipt for 6 rows, under the checkpoint of 11 rows." in made.stderr
    assert donewhen("verify-receipt", "-", "--key", SIGNER.vkey, stdin=made.stdout_bytes).exit_code == 0


def test_a_turn_or_a_row_alone() -> None:
    assert [row["id"] for row in shown("--row", "4")["rows"]] == [4]
    assert len(shown("--turn", "1")["rows"]) == 6
    assert donewhen("receipt", "session-0", "--turn", "1", "--row", "4").exit_code == 2
    for part in (("--turn", "9"), ("--row", "2")):
        assert donewhen("receipt", "session-0", *part).exit_code == 2


def test_a_beginning_of_the_id_is_enough_and_the_logs_own_session_can_be_named() -> None:
    with Ledger(STORE, signer=SIGNER) as ledger:
        say(ledger, "x", "other")
        ledger.enroll_reviewer("ada", STRANGER.vkey, who="the owner")
    assert donewhen("receipt", "oth").exit_code == 0
    assert donewhen("receipt", "session-").exit_code == 2
    assert b'"kind":"key"' in donewhen("receipt", LOG_SESSION).stdout_bytes


def test_a_file_that_is_there_is_not_replaced_without_force() -> None:
    Path("r").write_text("mine")
    result = donewhen("receipt", "session-0", "--to", "r")
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert Path("r").read_text() == "mine"
    assert receipt().read_bytes().startswith(b"donewhen.receipt/v1\n")
    assert donewhen("receipt", "session-0", "--to", "no/such/folder/r").exit_code == 1


def test_without_a_key_nothing_is_proven_whatever_keys_the_user_has() -> None:
    config = Path(os.environ["DONEWHEN_CONFIG_DIR"])
    config.mkdir(parents=True)
    (config / "log.key").write_text(f"{SIGNER.skey}\n")
    (config / "log.key").chmod(0o600)
    result = donewhen("verify-receipt", receipt())
    assert (result.exit_code, result.stdout) == (8, "")
    assert "--key" in result.stderr


def test_a_key_may_be_a_file_with_a_comment() -> None:
    Path("log.vkey").write_text(f"# made_by: ada@host\n{SIGNER.vkey}\n")
    assert donewhen("verify-receipt", receipt(), "--key", "log.vkey").exit_code == 0


@pytest.mark.parametrize("key", ["nonsense", "a+b+c", "no/such/file", W1])
def test_what_is_no_key_ends_with_2(key: str) -> None:
    assert donewhen("verify-receipt", receipt(), "--key", key).exit_code == 2
    assert donewhen("verify-receipt", receipt(), "--key", SIGNER.vkey, "--witness", "a+b+c").exit_code == 2


def test_what_does_not_prove_its_rows_ends_with_7() -> None:
    path = receipt()
    assert donewhen("verify-receipt", path, "--key", STRANGER.vkey).exit_code == 7
    path.write_bytes(path.read_bytes().replace(b'"tokens":1', b'"tokens":2', 1))
    result = donewhen("verify-receipt", path, "--key", SIGNER.vkey)
    assert (result.exit_code, result.stdout) == (7, "")
    path.write_bytes(b"rubbish")
    assert donewhen("verify-receipt", path, "--key", SIGNER.vkey).exit_code == 7
    assert donewhen("verify-receipt", "nowhere", "--key", SIGNER.vkey).exit_code == 2


def test_a_witness_that_is_missing_ends_with_8_and_one_that_is_there_is_shown() -> None:
    assert donewhen("verify-receipt", receipt(), "--key", SIGNER.vkey, "--witness", W1).exit_code == 8
    with Ledger(STORE, signer=SIGNER) as ledger:
        cosign(ledger, WITNESS)
    result = donewhen("verify-receipt", receipt(), "--key", SIGNER.vkey, "--witness", W1)
    assert "Cosigned by 'witness.example/w1' at 2027-01-15T08:00:00+00:00." in result.stdout
    told = as_json("verify-receipt", receipt(), "--key", SIGNER.vkey, "--witness", W1)
    assert told["cosigned"] == [{"vkey": W1, "at": "2027-01-15T08:00:00+00:00"}]


def test_a_time_that_no_calendar_has_is_shown_as_a_number() -> None:
    with Ledger(STORE, signer=SIGNER) as ledger:
        cosign(ledger, WITNESS, at=2**62)
    result = donewhen("verify-receipt", receipt(), "--key", SIGNER.vkey, "--witness", W1)
    assert f"second {2**62} since 1970" in result.stdout


def test_an_unsigned_ledger_ends_with_8_and_an_edited_one_with_7() -> None:
    tamper(STORE, """UPDATE entries SET body = replace(body, '"tokens":1', '"tokens":2') WHERE id = 3""")
    assert donewhen("receipt", "session-0", "--to", "r").exit_code == 7
    with Ledger("unsigned.db") as ledger:
        say(ledger)
    assert donewhen("receipt", "s", "--to", "r", "--store", "unsigned.db").exit_code == 8
    assert not Path("r").exists()


def test_the_json_has_everything() -> None:
    told = shown("--row", "4")
    assert {"rows", "origin", "size", "root", "signed_by", "cosigned", "session_id", "not_said"} == set(told)
    assert told["signed_by"] == SIGNER.vkey


def test_a_pipe_carries_it_byte_by_byte() -> None:
    made = process("receipt", "session-0", cwd=Path.cwd())
    assert made.stdout.encode() == receipt().read_bytes()
    assert json.loads(process("verify-receipt", "r", "--key", SIGNER.vkey, "--json").stdout)["size"] == 11
