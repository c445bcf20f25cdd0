"""`donewhen checkpoint`, and the checkpoints that a spec asks for."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import as_json, donewhen, run_offline, write_spec
from processes import PATIENCE_SECONDS
from stores.kit import say, tamper
from terminal import at_a_terminal
from witnesses import KEEPER, answering

from donewhen.cosignatures import iter_notes
from donewhen.ledger import Ledger
from donewhen.notes import Checkpoint, Verifier, open_note
from donewhen.testing import Witness
from donewhen.testing.http_server import Connection

STORE = Path(".donewhen/ledger.db")


@pytest.fixture
def note(spec_file: Path) -> str:
    """The newest checkpoint of a ledger with one session in it."""
    assert run_offline(spec_file).exit_code == 0
    return newest()


def newest() -> str:
    with Ledger(STORE, read_only=True) as ledger:
        sealed = ledger.store.newest_sealed()
        assert sealed is not None
        return sealed.note


@pytest.fixture
def witness() -> Iterator[Witness]:
    with Witness(signer=KEEPER) as opened:
        yield opened


def trusted(witness: Witness) -> tuple[str, ...]:
    """Let a witness know the ledger, and return the words that name it."""
    with Ledger(STORE, read_only=True) as ledger:
        assert ledger.signed_by is not None
        witness.trust(ledger.origin, ledger.signed_by)
    return "--witness", witness.url, "--witness-key", witness.vkey


def notes(path: str) -> list[str]:
    return list(iter_notes(Path(path).read_text(encoding="utf-8")))


def test_the_newest_checkpoint_is_printed_as_it_is_stored(note: str) -> None:
    result = donewhen("checkpoint")
    assert (result.exit_code, result.stdout, result.stderr) == (0, note, "")
    with Ledger(STORE, read_only=True) as ledger:
        assert ledger.signed_by is not None
        text = open_note(result.stdout, Verifier.parse(ledger.signed_by))
        assert Checkpoint.parse(text).size == len(list(ledger.iter_rows()))


def test_it_is_kept_in_files_and_by_a_witness(note: str, witness: Witness) -> None:
    result = donewhen("checkpoint", "--to", "a.txt", "--to", "b.txt", *trusted(witness))
    rows = note.splitlines()[1]
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"a.txt: holds the checkpoint of {rows} rows.",
        f"b.txt: holds the checkpoint of {rows} rows.",
        f"{witness.url}: cosigned the checkpoint of {rows} rows.",
    ]
    assert notes("a.txt") == notes("b.txt") == [note]
    with Ledger(STORE, read_only=True) as ledger:
        assert len(ledger.store.read_cosigned()) == 1
    assert "already held" in donewhen("checkpoint", "--to", "a.txt").stdout


def test_it_is_told_as_json(note: str, witness: Witness) -> None:
    found = as_json("checkpoint", "--to", "a.txt", *trusted(witness))
    assert found["note"] == note
    assert (found["origin"], str(found["size"])) == tuple(note.splitlines()[:2])
    assert [(at["kind"], at["is_new"], at["problem"]) for at in found["places"]] == [
        ("file", True, None),
        ("witness", True, None),
    ]


def test_a_place_that_fails_ends_with_7_and_the_others_keep_it(note: str, witness: Witness) -> None:
    words = ("checkpoint", "--to", "missing/a.txt", "--to", "b.txt", *trusted(witness))
    result = donewhen(*words)
    assert result.exit_code == 7
    assert result.stderr.startswith("Not kept: missing/a.txt: no checkpoint can be kept there")
    assert notes("b.txt") == [note]
    told = donewhen(*words, "--json")
    assert told.exit_code == 7
    assert [at["problem"] is None for at in json.loads(told.stdout)["places"]] == [False, True, True]


def test_a_witness_that_does_not_know_the_ledger_ends_with_7(note: str, witness: Witness) -> None:
    result = donewhen("checkpoint", "--witness", witness.url, "--witness-key", witness.vkey)
    assert (result.exit_code, result.stdout) == (7, "")
    assert (
        result.stderr == f"Not kept: the witness {KEEPER.name}: it does not cosign (404): this log is not known here\n"
    )


def test_a_ledger_that_was_cut_back_ends_with_7(note: str, witness: Witness) -> None:
    words = trusted(witness)
    assert donewhen("checkpoint", "--to", "a.txt", *words).exit_code == 0
    with Ledger(STORE, read_only=True) as ledger:
        before = [sealed.size for sealed in ledger.store.iter_sealed()][-2]
    tamper(STORE, "DELETE FROM cosigned", f"DELETE FROM entries WHERE id > {before}")
    tamper(STORE, f"DELETE FROM sealed WHERE size > {before}")
    result = donewhen("checkpoint", "--to", "a.txt", *words)
    assert result.exit_code == 7
    assert result.stderr.count("Not kept: ") == 2
    assert "cut back" in result.stderr
    assert notes("a.txt") == [note]


def test_an_unsigned_ledger_says_so() -> None:
    with Ledger("unsigned.db") as ledger:
        say(ledger)
    result = donewhen("checkpoint", "--store", "unsigned.db", "--to", "a.txt")
    assert result.exit_code == 0
    assert "the ledger is unsigned" in result.stderr
    assert len(notes("a.txt")) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--witness", "http://127.0.0.1:1"), "each --witness needs its --witness-key"),
        (("--witness-key", "x+y+z"), "each --witness needs its --witness-key"),
        (("--witness", "http://127.0.0.1:1", "--witness-key", "x+y+z"), "--witness-key: not an Ed25519 witness's key"),
        (("--witness", "nowhere", "--witness-key", "{vkey}"), "--witness: only http and https URLs"),
    ],
)
def test_a_witness_that_cannot_be_one_ends_with_2(
    note: str, witness: Witness, words: tuple[str, ...], said: str
) -> None:
    result = donewhen("checkpoint", *[word.format(vkey=witness.vkey) for word in words])
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_ledger_without_rows_has_a_checkpoint_too_and_one_without_a_file_ends_with_7() -> None:
    Ledger("empty.db").close()
    assert "\n0\n" in donewhen("checkpoint", "--store", "empty.db").stdout
    assert donewhen("checkpoint", "--store", "missing.db", "--to", "a.txt").exit_code == 7
    assert not Path("a.txt").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no terminal of that kind")
def test_whoever_waits_for_a_slow_witness_sees_who_is_asked(note: str, witness: Witness) -> None:
    go_on = threading.Event()

    def slow(connection: Connection) -> None:
        go_on.wait(PATIENCE_SECONDS)
        connection.send_bytes(500, {}, b"at last")

    with (
        answering(slow) as url,
        at_a_terminal("checkpoint", "--witness", url, "--witness-key", witness.vkey) as terminal,
    ):
        assert f"asking {url}" in terminal.wait_for(f"asking {url}")
        go_on.set()
        code, rest = terminal.end()
    assert code == 7
    assert "(500): at last" in rest


# -- by a spec ---------------------------------------------------------------------------------------------------------


def test_a_run_keeps_its_checkpoints_where_its_spec_says(tmp_path: Path) -> None:
    record = '\n[record]\ncheckpoint_to = ["kept.txt"]\n'
    assert run_offline(write_spec(tmp_path / "kept.toml", record)).exit_code == 0
    assert notes("kept.txt")[-1] == newest()


def test_a_run_whose_checkpoint_cannot_be_kept_says_so_and_loses_nothing(tmp_path: Path, witness: Witness) -> None:
    record = (
        '\n[record]\ncheckpoint_to = ["missing/kept.txt"]\nevery_rows = 1\n'
        f'witnesses = [{{ url = "{witness.url}", vkey = "{witness.vkey}" }}]\n'
    )
    result = run_offline(write_spec(tmp_path / "kept.toml", record))
    assert result.exit_code == 0
    assert "donewhen: a checkpoint is not kept elsewhere: missing/kept.txt: " in result.stderr
    assert "it does not cosign (404)" in result.stderr
    assert donewhen("verify").exit_code in (0, 8)
