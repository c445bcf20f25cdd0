"""`donewhen verify`: what it says, what it remembers, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from auditing import SIGNER, attack, fill, flip, reseal, rewrite
from command import as_json, donewhen, run_offline
from stores.kit import ORIGIN, begin

from donewhen.cli.store import signer_for
from donewhen.cosignatures import cosign_text, cosigner_of
from donewhen.keys import KEY_FILE
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner, Verifier
from donewhen.stores import Cosigned

STORE = Path(".donewhen/ledger.db")
WITNESS = LocalSigner("witness.example/w1", b"\x05" * 32)


@pytest.fixture
def vkey(spec_file: Path) -> str:
    """The public key of a ledger with one session in it."""
    run_offline(spec_file)
    with Ledger(STORE, read_only=True) as ledger:
        assert ledger.signed_by is not None
        return ledger.signed_by


@pytest.fixture
def stranger(vkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who has no key of their own, looking at that ledger."""
    monkeypatch.setenv("DONEWHEN_CONFIG_DIR", str(tmp_path / "nobody"))


def edit_a_row() -> None:
    attack(STORE, "UPDATE entries SET body = replace(body, '\"tokens\":', '\"tokens\":1') WHERE id = 4")


def verified(*words: str | Path, code: int = 0) -> Any:
    result = donewhen("verify", *words)
    assert result.exit_code == code, result.stderr
    return result


def keep_a_checkpoint() -> Path:
    donewhen("checkpoint", "--to", "kept.txt")
    return Path("kept.txt")


def go_on() -> None:
    """Add to the ledger as its owner does."""
    with Ledger(STORE, signer=signer_for(STORE)) as ledger:
        ledger.write("more", 1, "step", "x", 1, 1, True)


# -- keys --------------------------------------------------------------------------------------------------------------


def test_without_a_key_it_is_held_against_the_users_own_and_says_so(vkey: str) -> None:
    assert "your own, from" in verified().stdout
    assert as_json("verify")["signed_by"] == vkey


def test_a_key_may_be_given_as_text_or_as_a_file(vkey: str, stranger: None) -> None:
    Path("key.txt").write_text(f"{vkey}\n# made_by: ada@desk\n")
    for key in (vkey, "key.txt"):
        assert "given with --key" in verified("--key", key).stdout


def test_another_key_ends_with_7(vkey: str) -> None:
    log = vkey.partition("+")[0]
    result = verified("--key", LocalSigner.generate(log).vkey, code=7)
    assert result.stdout == ""
    assert "names another key" in result.stderr


def test_a_key_that_is_another_log_s_ends_with_7_though_its_private_half_is_the_same(vkey: str) -> None:
    for name in ("donewhen.local/another", "donewhen/log"):
        result = verified("--key", Verifier.parse(vkey).named(name).vkey, code=7)
        assert f"and the key is that of {name}" in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["--key", "--witness"])
@pytest.mark.parametrize("key", ["nonsense", "a+b+c", "no/such/file", "\u0001"])
def test_what_is_no_key_ends_with_2(vkey: str, option: str, key: str) -> None:
    verified(option, key, code=2)


def test_without_any_key_nothing_is_proven_and_it_ends_with_8(vkey: str, stranger: None, tmp_path: Path) -> None:
    result = verified(code=8)
    assert "Verified:" in result.stdout
    assert "Not proven: no key was given" in result.stdout
    assert "nothing vouches for rows 1 to" in result.stderr
    assert not (tmp_path / "nobody").exists()  # what no key was held against is not remembered


def test_the_key_in_the_file_is_never_taken_for_the_user_s_own(vkey: str, stranger: None, tmp_path: Path) -> None:
    (tmp_path / "nobody").mkdir()
    (tmp_path / "nobody" / KEY_FILE).write_text(LocalSigner.generate("mine").skey + "\n")
    (tmp_path / "nobody" / KEY_FILE).chmod(0o600)
    verified(code=8)


def test_an_unsigned_ledger_ends_with_8_whatever_the_key(vkey: str) -> None:
    fill(Path("unsigned.db"), signer=None)
    result = verified("unsigned.db", code=8)
    assert "Not proven: the ledger is unsigned" in result.stdout
    verified("unsigned.db", "--key", vkey, code=7)


def test_an_empty_ledger_is_verified_and_an_emptied_one_ends_with_7(vkey: str) -> None:
    begin(Path("empty.db"), SIGNER)
    assert "Verified: 0 rows" in verified("empty.db", "--key", SIGNER.vkey).stdout
    attack(STORE, "DELETE FROM texts", "DELETE FROM entries", "DELETE FROM sealed")
    for words in ((), ("--key", vkey), ("--fast",), ("--no-remember",)):
        assert "no checkpoint of no rows" in verified(*words, code=7).stderr


def test_a_broken_key_file_of_the_user_is_told(vkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DONEWHEN_CONFIG_DIR", str(tmp_path))
    (tmp_path / KEY_FILE).write_text("rubbish")
    (tmp_path / KEY_FILE).chmod(0o600)
    assert KEY_FILE in verified(code=2).stderr


def test_a_log_that_was_handed_on_is_told_key_by_key(tmp_path: Path) -> None:
    first, second = LocalSigner(ORIGIN, b"\x01" * 32), LocalSigner(ORIGIN, b"\x02" * 32)
    begin(Path("handed.db"), first)
    with Ledger("handed.db", signer=first) as ledger:
        ledger.write("s", 1, "a", "x", 1, 1, True)
        ledger.rotate_key(second, why="yearly", who="Eve")
        ledger.write("s", 1, "b", "x", 1, 1, True)
    result = verified("handed.db", "--key", second.vkey)
    one, two = (key.verifier.key_hash.hex() for key in (first, second))
    assert f"rows 1 to 3 stand on the key {two}, given with --key" in result.stdout
    assert f"the checkpoints of 0 to 2 rows are by {one}" in result.stdout
    assert f"the checkpoints of 3 to 3 rows are by {two}" in result.stdout
    assert "those before your key took over" in result.stdout
    assert "those before your key" not in verified("handed.db", "--key", first.vkey).stdout


# -- what is wrong -----------------------------------------------------------------------------------------------------


def test_an_edited_row_ends_with_7_and_is_named(vkey: str) -> None:
    edit_a_row()
    result = verified(code=7)
    assert result.stdout == ""
    assert "row 4" in result.stderr


def test_the_tree_alone_is_quick_and_finds_an_edited_row_too(vkey: str) -> None:
    assert "What rows say was not looked at" in verified("--fast").stdout
    assert as_json("verify", "--fast")["fast"] is True
    edit_a_row()
    verified("--fast", code=7)


def test_an_older_signature_is_verified_where_that_is_asked_for(vkey: str) -> None:
    flip("note", 4)(STORE)
    verified()
    assert "checkpoint of 4 rows is not good" in verified("--every-signature", code=7).stderr
    verified("--fast", "--every-signature", code=2)


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 9000)


def somebody_else_s(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id)")


def a_newer_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def without_tables(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall():
            connection.execute(f"DROP VIEW {name}")
        for name in ("texts", "entries", "cosigned", "sealed", "log", "shape"):
            connection.execute(f"DROP TABLE {name}")


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "spoil", [nothing, garbage, somebody_else_s, a_newer_version, without_tables, cut_in_half, a_folder, os.unlink]
)
def test_whatever_is_there_instead_of_a_ledger_is_one_sentence_and_7(vkey: str, spoil: Any) -> None:
    shutil.copy(STORE, "spoilt.db")
    spoil(Path("spoilt.db"))
    for words in ((), ("--key", vkey), ("--key", vkey, "--fast")):
        result = verified("spoilt.db", *words, code=7)
        assert result.stdout == ""
        assert result.stderr.startswith("donewhen: ")
        assert result.stderr.count("\n") == 1
        assert "fault of donewhen" not in result.stderr


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b"\x00", b"[" * 400, b'{"after":[],"at":' + b"9" * 300, b"\xff"]
)
def test_whatever_is_in_a_row_is_one_sentence_and_7(vkey: str, body: bytes) -> None:
    with Ledger(STORE, read_only=True) as ledger:
        stored = next(found for row_id, found in ledger.store.iter_bodies() if row_id == 4)
    # In the file itself: SQLite would refuse what is no JSON.
    STORE.write_bytes(STORE.read_bytes().replace(stored, body[: len(stored)].ljust(len(stored))))
    for words in ((), ("--fast",)):
        result = verified(*words, code=7)
        assert result.stdout == ""
        assert "row 4" in result.stderr or "malformed JSON" in result.stderr


# -- what is kept elsewhere --------------------------------------------------------------------------------------------


def test_rows_that_are_newer_than_what_was_kept_are_named(vkey: str) -> None:
    kept = keep_a_checkpoint()
    size = as_json("verify", "--no-remember")["rows"]
    result = verified("--seen", kept, "--no-remember")
    assert f"Kept elsewhere: kept.txt vouches for rows 1 to {size}" in result.stdout
    assert "newer" not in result.stderr
    go_on()
    result = verified("--seen", kept, "--no-remember")
    assert f"Row {size + 1} is newer than any checkpoint kept elsewhere: only the log's key vouches" in result.stderr
    assert as_json("verify", "--seen", kept, "--no-remember")["vouched_to"] == size
    assert "No checkpoint kept elsewhere was given" in verified("--no-remember").stderr


def test_a_ledger_that_was_cut_back_or_emptied_ends_with_7_beside_what_was_kept(vkey: str) -> None:
    kept = keep_a_checkpoint()
    for rows in (4, 0):
        tables = ("texts WHERE entry_id", "entries WHERE id", "sealed WHERE size")
        attack(STORE, *[f"DELETE FROM {table} > {rows}" for table in tables])
        result = verified("--seen", kept, "--no-remember", "--key", vkey, code=7)
        assert "cut back: the checkpoint in kept.txt covers" in result.stderr


def test_checkpoints_of_another_log_alone_end_with_8(vkey: str) -> None:
    fill(Path("other.db"))
    donewhen("checkpoint", "--store", "other.db", "--to", "kept.txt")
    assert "none of the 1 checkpoints that were given" in verified("--seen", "kept.txt", code=8).stdout
    keep_a_checkpoint()
    verified("--seen", "kept.txt")


@pytest.mark.parametrize("text", ["", "rubbish", "\x00" * 100, "a\n1\n"])
def test_a_file_without_a_checkpoint_ends_with_2(vkey: str, text: str) -> None:
    Path("kept.txt").write_text(text)
    assert "kept.txt" in verified("--seen", "kept.txt", code=2).stderr
    assert "nowhere.txt" in verified("--seen", "nowhere.txt", code=2).stderr


def test_a_witness_that_was_asked_for_is_told_or_missed(vkey: str) -> None:
    cosigner = cosigner_of(WITNESS).vkey
    assert "has cosigned no checkpoint" in verified("--witness", cosigner, code=8).stdout
    with Ledger(STORE, signer=signer_for(STORE)) as ledger:
        newest = ledger.store.newest_sealed()
        assert newest is not None
        line = cosign_text(newest.note.partition("\n\n")[0] + "\n", WITNESS, 1_700_000_000)
        at = "2026-01-01T00:00:00+00:00"
        ledger.store.put_cosigned(Cosigned(size=newest.size, vkey=cosigner, line=line, at=at))
    told = f"the witness witness.example/w1 vouches for rows 1 to {newest.size}, at 2023-11-14"
    assert told in verified("--witness", cosigner).stdout


# -- what is remembered ------------------------------------------------------------------------------------------------


def test_the_newest_state_that_was_seen_is_remembered(vkey: str, tmp_path: Path) -> None:
    shutil.copy(STORE, "older.db")
    go_on()
    found = as_json("verify")
    assert found["outside"] == []
    assert Path(found["remembered_in"]).is_file()
    assert as_json("verify")["vouched_to"] == found["rows"]
    shutil.copy("older.db", STORE)
    result = verified(code=7)
    assert "cut back" in result.stderr
    assert found["remembered_in"] in result.stderr
    verified("--no-remember")
    assert as_json("verify", "--no-remember")["remembered_in"] is None


def test_a_rewritten_ledger_is_refused_by_who_saw_it_before() -> None:
    fill(Path("ledger.db"))
    verified("ledger.db", "--key", SIGNER.vkey)
    rewrite(Path("ledger.db"), 7, tokens=4)
    reseal(Path("ledger.db"), SIGNER)
    assert "rewritten" in verified("ledger.db", "--key", SIGNER.vkey, code=7).stderr


def test_another_log_of_the_same_key_at_the_same_place_is_refused_until_the_old_one_is_forgotten() -> None:
    fill(Path("ledger.db"))
    verified("ledger.db", "--key", SIGNER.vkey)
    Path("ledger.db").unlink()
    with Ledger("ledger.db", signer=SIGNER) as ledger:
        ledger.write("s", 1, "a", "x", 1, 1, True)
    verified("ledger.db", "--key", SIGNER.vkey, code=7)  # whose key this is not
    key = str(ledger.signed_by)
    for _ in range(2):
        result = verified("ledger.db", "--key", key, code=7)
        assert "when you last verified it" in result.stderr
        assert "--forget" in result.stderr
    verified("ledger.db", "--key", key, "--no-remember")
    verified("ledger.db", "--key", key, "--forget")
    verified("ledger.db", "--key", key)


def test_a_memory_that_cannot_be_written_is_told_and_no_fault(
    vkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("a file, not a folder")
    monkeypatch.setenv("DONEWHEN_CONFIG_DIR", str(tmp_path / "config"))
    result = verified("--key", vkey, code=0)
    assert "cannot be kept" in result.stderr


def test_a_damaged_memory_is_one_sentence_and_7(vkey: str) -> None:
    Path(as_json("verify")["remembered_in"]).write_text("rubbish")
    result = verified(code=7)
    assert "remove it to forget that" in result.stderr
    verified("--no-remember")


def test_what_the_json_says_is_all_that_is_known(vkey: str) -> None:
    found = as_json("verify")
    assert found["keys"] == [[0, vkey]]
    assert (found["not_proven"], found["key_in_file"], found["vouched_to"]) == (None, vkey, 0)
    assert found["checkpoint"].count("\n") == 5
    assert Verifier.parse(found["signed_by"]).vkey == vkey


def test_json_is_told_where_it_is_not_proven_too(vkey: str, stranger: None) -> None:
    result = donewhen("verify", "--json")
    assert result.exit_code == 8
    assert "no key was given" in json.loads(result.stdout)["not_proven"]
