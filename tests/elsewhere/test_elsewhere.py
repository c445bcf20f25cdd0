"""Checkpoints kept elsewhere: what is kept shows a roll-back and a rewriting, and no fault there costs a row."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from processes import PATIENCE_SECONDS
from stores.kit import ORIGIN, SIGNER, STRANGER, begin, say, start, tamper
from witnesses import KEEPER, answering

from donewhen.cosignatures import Cosigner, cosigned_at, iter_notes
from donewhen.elsewhere import Elsewhere, tell_on_stderr
from donewhen.errors import CheckpointError, LedgerError, NotKeptError
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner, Verifier, add_signature_lines, open_note
from donewhen.stores import Cosigned
from donewhen.testing import FaultyStore, Witness

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def at_noon() -> datetime:
    return NOON


@pytest.fixture
def witness() -> Iterator[Witness]:
    with Witness(signer=KEEPER, now=lambda: NOON.timestamp()) as opened:
        yield opened


@pytest.fixture
def ledger(tmp_store) -> Iterator[Ledger]:
    begin(tmp_store)
    with Ledger(tmp_store, signer=SIGNER) as opened:
        say(opened)
        yield opened


def trusted(witness: Witness, ledger: Ledger) -> Witness:
    witness.trust(ledger.origin, SIGNER.vkey)
    return witness


def everywhere(tmp_path: Path, *witnesses: Witness) -> Elsewhere:
    return Elsewhere(
        files=[str(tmp_path / "one.txt"), str(tmp_path / "two.txt")],
        witnesses=[(witness.url, witness.vkey) for witness in witnesses],
        now=at_noon,
        timeout_seconds=30,
    )


def notes(path: Path) -> list[str]:
    return list(iter_notes(path.read_text(encoding="utf-8")))


# -- keeping -----------------------------------------------------------------------------------------------------------


def test_the_newest_checkpoint_is_kept_in_every_place(tmp_path, ledger, witness) -> None:
    elsewhere = everywhere(tmp_path, trusted(witness, ledger))
    kept = elsewhere.keep(ledger)
    newest = ledger.store.newest_sealed()
    assert [(at.kind, at.size, at.is_new, at.problem) for at in kept.places] == [
        ("file", 1, True, None),
        ("file", 1, True, None),
        ("witness", 1, True, None),
    ]
    assert (kept.origin, kept.size) == (ledger.origin, 1)
    assert notes(tmp_path / "one.txt") == notes(tmp_path / "two.txt") == [newest.note]
    (cosigned,) = ledger.store.read_cosigned()
    assert (cosigned.size, cosigned.vkey, cosigned.at) == (1, witness.vkey, NOON.isoformat())
    note = add_signature_lines(newest.note, [cosigned.line])
    assert cosigned_at(note, Cosigner.parse(witness.vkey)) == NOON.timestamp()
    assert open_note(note, Verifier.parse(SIGNER.vkey))


def test_each_later_checkpoint_is_proven_to_extend_the_one_before(tmp_path, ledger, witness) -> None:
    elsewhere = everywhere(tmp_path, trusted(witness, ledger))
    for count in (1, 2, 5, 1):
        elsewhere.keep(ledger)
        for _ in range(count):
            say(ledger)
    elsewhere.keep(ledger)
    assert [cosigned.size for cosigned in ledger.store.read_cosigned()] == [1, 2, 4, 9, 10]
    assert witness.statuses == [200] * 5
    assert len(notes(tmp_path / "one.txt")) == 5


def test_what_is_kept_already_is_held_against_and_asked_again(tmp_path, ledger, witness) -> None:
    elsewhere = everywhere(tmp_path, trusted(witness, ledger))
    elsewhere.keep(ledger)
    again = elsewhere.keep(ledger)
    assert [at.is_new for at in again.places] == [False, False, True]
    assert witness.statuses == [200, 200]
    assert len(ledger.store.read_cosigned()) == 1


def test_the_checkpoint_of_no_rows_is_kept_too_so_that_one_cut_back_to_nothing_is_refused(tmp_path, witness) -> None:
    begin(tmp_path / "empty.db")
    with Ledger(tmp_path / "empty.db", signer=SIGNER) as ledger:
        elsewhere = everywhere(tmp_path, trusted(witness, ledger))
        assert elsewhere.keep(ledger).size == 0
        assert witness.statuses == [200]
        say(ledger)
        assert elsewhere.keep(ledger).size == 1
    tamper(tmp_path / "empty.db", *[f"DELETE FROM {one}" for one in ("cosigned", "entries", "sealed WHERE size > 0")])
    with Ledger(tmp_path / "empty.db", signer=SIGNER) as ledger, pytest.raises(NotKeptError) as caught:
        elsewhere.keep(ledger)
    assert len(caught.value.problems) == 3


def test_each_place_is_named_before_it_is_tried(tmp_path, ledger, witness) -> None:
    told: list[str] = []
    everywhere(tmp_path, trusted(witness, ledger)).keep(ledger, progress=told.append)
    assert told == [str(tmp_path / "one.txt"), str(tmp_path / "two.txt"), witness.url]


def test_an_unsigned_log_is_kept_in_files_and_by_no_witness(tmp_path, witness) -> None:
    with Ledger(tmp_path / "unsigned.db") as ledger:
        say(ledger)
        with pytest.raises(NotKeptError, match="the ledger is unsigned"):
            everywhere(tmp_path, witness).keep(ledger)
        assert notes(tmp_path / "one.txt") == [ledger.store.newest_sealed().note]
    assert witness.statuses == []


def test_after_a_rotation_the_witness_that_knows_both_keys_goes_on(tmp_path, ledger, witness) -> None:
    elsewhere = everywhere(tmp_path, trusted(witness, ledger))
    elsewhere.keep(ledger)
    rotated = LocalSigner(ORIGIN, bytes([7] * 32))
    ledger.rotate_key(rotated, why="a test", who="me")
    say(ledger)
    with pytest.raises(NotKeptError, match=r"\(403\)"):
        elsewhere.keep(ledger)
    witness.trust(ledger.origin, rotated.vkey)
    assert elsewhere.keep(ledger).size == 3


# -- what is elsewhere shows ----------------------------------------------------------------------------------------------


def rolled_back(tmp_store: Path, size: int) -> Ledger:
    """Return the ledger as its owner can make it: cut back to an older signed state."""
    tables = f"DELETE FROM cosigned WHERE size > {size}", f"DELETE FROM entries WHERE id > {size}"
    tamper(tmp_store, *tables, f"DELETE FROM sealed WHERE size > {size}")
    return Ledger(tmp_store, signer=SIGNER)


@pytest.fixture
def kept_at_three(tmp_path, tmp_store, witness) -> Elsewhere:
    begin(tmp_store)
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        elsewhere = everywhere(tmp_path, trusted(witness, ledger))
        for _ in range(3):
            say(ledger)
            elsewhere.keep(ledger)
    return elsewhere


def test_a_ledger_that_was_cut_back_is_not_kept_again(tmp_path, tmp_store, kept_at_three) -> None:
    with rolled_back(tmp_store, 2) as ledger:
        with pytest.raises(NotKeptError) as caught:
            kept_at_three.keep(ledger)
        assert [row.id for row in ledger.iter_rows()] == [1, 2]
    one, two, witnessed = caught.value.problems
    assert "holds a checkpoint of 3 rows" in one
    assert "holds a checkpoint of 3 rows" in two
    assert "has seen 3 rows of this log, and here there are 2" in witnessed
    assert len(notes(tmp_path / "one.txt")) == 3


def test_a_ledger_that_was_cut_back_and_written_on_is_not_kept_again(tmp_store, kept_at_three) -> None:
    with rolled_back(tmp_store, 2) as ledger:
        say(ledger, "another third row")
        say(ledger, "a fourth row")
        with pytest.raises(NotKeptError) as caught:
            kept_at_three.keep(ledger)
    assert ["cut back or rewritten" in problem for problem in caught.value.problems] == [True, True, False]
    assert "does not cosign (422)" in caught.value.problems[2]


def test_a_cosignature_that_somebody_wrote_into_the_file_is_not_believed(tmp_store, kept_at_three, witness) -> None:
    line = "— witness.example/w1 " + "A" * 104
    tamper(tmp_store, f"INSERT INTO cosigned (size, vkey, line, at) VALUES (3, '{witness.vkey}', '{line}', 'now')")
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        say(ledger)
        assert kept_at_three.keep(ledger).size == 4
    assert 409 not in witness.statuses


# -- faults elsewhere ------------------------------------------------------------------------------------------------------


def test_every_place_is_tried_whatever_becomes_of_the_others(tmp_path, ledger, witness) -> None:
    with answering(lambda connection: connection.send_bytes(500, {}, b"out of order")) as broken:
        elsewhere = Elsewhere(
            files=[str(tmp_path / "missing" / "a.txt"), str(tmp_path / "good.txt")],
            witnesses=[(broken, witness.vkey), (trusted(witness, ledger).url, witness.vkey)],
            now=at_noon,
        )
        with pytest.raises(NotKeptError) as caught:
            elsewhere.keep(ledger)
    assert caught.value.size == 1
    assert len(caught.value.problems) == 2
    assert str(caught.value) == (
        f"the checkpoint of 1 row is not kept everywhere: {tmp_path / 'missing' / 'a.txt'}: no checkpoint can be kept "
        f"there (No such file or directory); the witness {KEEPER.name}: it does not cosign (500): out of order"
    )
    assert len(notes(tmp_path / "good.txt")) == len(ledger.store.read_cosigned()) == 1


@pytest.mark.parametrize("stored", [True, False])
def test_a_cosignature_that_could_not_be_stored_is_asked_for_again(tmp_path, ledger, witness, stored) -> None:
    elsewhere = everywhere(tmp_path, trusted(witness, ledger))
    faulty = FaultyStore(ledger.store)
    faulty.fail(stored=stored)
    kept = elsewhere.attempt(faulty)
    assert [at.problem is None for at in kept.places] == [True, True, False]
    assert len(ledger.store.read_cosigned()) == stored
    assert elsewhere.attempt(faulty).problems == ()
    assert len(ledger.store.read_cosigned()) == 1


def test_a_ledger_opened_for_reading_stores_no_cosignature_and_says_so(tmp_path, ledger, witness) -> None:
    elsewhere = everywhere(tmp_path, trusted(witness, ledger))
    with Ledger(ledger.path, read_only=True) as reading:
        assert ["opened for reading only" in problem for problem in elsewhere.attempt(reading.store).problems] == [True]
    assert elsewhere.keep(ledger).problems == ()


def test_another_process_that_was_faster_is_no_fault(tmp_path, tmp_store, ledger, witness) -> None:
    """The ledger has grown, and the witness was told, between what was read here and what is asked."""
    elsewhere = everywhere(tmp_path, trusted(witness, ledger))
    real, asked = ledger.store, []

    class Slow(FaultyStore):
        def newest_sealed(self):
            found = super().newest_sealed()
            if not asked:
                asked.append(found)
                say(ledger)
                elsewhere.attempt(real)
            return found

    kept = elsewhere.attempt(Slow(real))
    assert kept.problems == ()
    assert [at.size for at in kept.places] == [1, 1, 2]
    assert witness.statuses == [200, 200]


def test_a_witness_that_always_was_told_more_is_given_up(tmp_path, ledger) -> None:
    sizes = iter(range(1, 100))

    def ahead(connection) -> None:
        say(ledger)
        connection.send_bytes(409, {"content-type": "text/x.tlog.size"}, b"%d\n" % (ledger.store.newest_sealed().size))
        next(sizes)

    with answering(ahead) as url:
        kept = Elsewhere(witnesses=[(url, Cosigner("w", bytes([9] * 32)).vkey)]).attempt(ledger.store)
    assert len(kept.problems) == 1
    assert next(sizes) == 4


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from processes import PATIENCE_SECONDS
from stores.kit import ORIGIN, begin, SIGNER
from donewhen.elsewhere import Elsewhere
from donewhen.ledger import Ledger
from donewhen.stores.sqlite import SQLiteStore
class Mortal(SQLiteStore):
    def put_cosigned(self, *cosigned):
        os.kill(os.getpid(), signal.SIGKILL)
path, file, url, vkey = sys.argv[1:]
SQLiteStore.put_cosigned = Mortal.put_cosigned
Elsewhere(files=[file], witnesses=[(url, vkey)]).keep(Ledger(path, signer=SIGNER))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_crash_between_the_file_and_the_cosignature_costs_nothing(tmp_path, tmp_store, ledger) -> None:
    file = tmp_path / "one.txt"
    with Witness(signer=KEEPER) as witness:
        trusted(witness, ledger)
        script = KILLED.format(tests=str(Path(__file__).parents[1]))
        with start(script, tmp_store, file, witness.url, witness.vkey) as process:
            process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == -9
        assert (len(notes(file)), witness.size_of(ledger.origin)) == (1, 1)
        assert ledger.store.read_cosigned() == []
        kept = Elsewhere(files=[str(file)], witnesses=[(witness.url, witness.vkey)]).keep(ledger)
        assert [at.is_new for at in kept.places] == [False, True]
        assert witness.statuses == [200, 409, 200]
    assert len(notes(file)) == len(ledger.store.read_cosigned()) == 1


# -- making one -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [{"every_rows": 0}, {"every_seconds": 0}, {"every_seconds": -1.0}])
def test_how_often_is_more_than_never(number) -> None:
    with pytest.raises(ValueError, match="must be more than 0"):
        Elsewhere(files=["x"], **number)


def test_a_witness_that_cannot_be_one_is_refused_at_once(witness) -> None:
    with pytest.raises(ValueError, match="only http and https"):
        Elsewhere(witnesses=[("ftp://witness.example", witness.vkey)])
    with pytest.raises(CheckpointError, match="not an Ed25519 witness's key"):
        Elsewhere(witnesses=[(witness.url, SIGNER.vkey)])


def test_it_is_made_of_a_specs_terms(witness) -> None:
    record = {
        "checkpoint_to": ["a.txt"],
        "witnesses": [{"url": witness.url, "vkey": witness.vkey}],
        "every_rows": 10,
        "every_seconds": 60,
    }
    made = Elsewhere.from_terms({"keep": "nothing", "record": record})
    assert made is not None
    assert (made.files, made.witnesses) == (("a.txt",), ((witness.url, Cosigner.parse(witness.vkey)),))
    assert (made.every_rows, made.every_seconds) == (10, 60)
    assert Elsewhere.from_terms({"keep": "nothing"}) is Elsewhere.from_terms(None) is None


@pytest.mark.parametrize(
    "record", [5, [], "x", {"checkpoint_to": 5}, {"witnesses": [5]}, {"witnesses": [{"url": "x"}]}, {"every_rows": "x"}]
)
def test_terms_that_say_nothing_of_the_kind_are_refused(record) -> None:
    with pytest.raises(ValueError, match="this does not say where"):
        Elsewhere.from_terms({"record": record})


def test_whether_there_is_anywhere() -> None:
    assert not Elsewhere()
    assert Elsewhere(files=["x"])


def test_a_warning_reaches_standard_error_where_there_is_one(monkeypatch) -> None:
    told = io.StringIO()
    with redirect_stderr(told):
        tell_on_stderr("the disk is full")
    assert told.getvalue() == "donewhen: the disk is full\n"
    monkeypatch.setattr(sys, "stderr", None)
    tell_on_stderr("nobody hears this")


# -- what the store keeps -----------------------------------------------------------------------------------------------


def test_times_in_other_zones_are_stored_in_utc(tmp_path, ledger, witness) -> None:
    east = NOON.astimezone(timezone(timedelta(hours=9)))
    elsewhere = Elsewhere(witnesses=[(trusted(witness, ledger).url, witness.vkey)], now=lambda: east)
    elsewhere.keep(ledger)
    assert [cosigned.at for cosigned in ledger.store.read_cosigned()] == [NOON.isoformat()]


def test_a_cosignature_of_a_checkpoint_that_is_not_stored_is_refused(ledger) -> None:
    with pytest.raises(LedgerError, match="of a checkpoint that is stored"):
        ledger.store.put_cosigned(Cosigned(2, "v", "l", "now"))
    assert ledger.store.read_cosigned() == []


def test_a_strangers_ledger_is_not_the_one_the_witness_knows(tmp_path, ledger, witness) -> None:
    trusted(witness, ledger)
    with Ledger(tmp_path / "other.db", signer=STRANGER) as other:
        say(other)
        with pytest.raises(NotKeptError, match=r"\(404\): this log is not known here"):
            everywhere(tmp_path, witness).keep(other)
