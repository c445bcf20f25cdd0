"""Checkpoints kept elsewhere: what the key alone cannot show is shown by one of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from auditing import KEY, OTHER, ROWS, SIGNER, append_honestly, attack, fill, insert, reseal, rewrite
from stores.kit import ORIGIN, begin

from donewhen.cosignatures import Cosigner, cosign_text, cosigner_of
from donewhen.errors import CheckpointError, LedgerTamperedError
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner, sign_note
from donewhen.stores import Cosigned
from donewhen.verify import Seen, verify_ledger

WITNESS = LocalSigner("witness.example/w1", b"\x05" * 32)
COSIGNER = cosigner_of(WITNESS)
STRANGER = cosigner_of(LocalSigner("witness.example/w1", b"\x06" * 32))
AT = 1_700_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "ledger.db"
    fill(path)
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path / "ledger.db"))


def note_at(path: Path, size: int) -> str:
    with Ledger(path, read_only=True) as ledger:
        return next(sealed.note for sealed in ledger.store.iter_sealed() if sealed.size == size)


def seen_at(path: Path, *sizes: int) -> list[Seen]:
    return [Seen(note_at(path, size), "my file") for size in sizes]


def cosign(path: Path, size: int, signer: LocalSigner = WITNESS, time: int = AT) -> None:
    text = note_at(path, size).partition("\n\n")[0] + "\n"
    line = cosign_text(text, signer, time)
    with Ledger(path, signer=SIGNER) as ledger:
        at = "2026-01-01T00:00:00+00:00"
        ledger.store.put_cosigned(Cosigned(size=size, vkey=cosigner_of(signer).vkey, line=line, at=at))


def cut_back(path: Path) -> None:
    attack(
        path,
        "DELETE FROM texts WHERE entry_id > 14",
        "DELETE FROM entries WHERE id > 14",
        "DELETE FROM sealed WHERE size > 14",
    )


def empty(path: Path) -> None:
    attack(path, "DELETE FROM texts", "DELETE FROM entries", "DELETE FROM sealed WHERE size > 0")


def rewrite_with_the_key(path: Path) -> None:
    rewrite(path, 7, tokens=4)
    reseal(path, SIGNER)


# -- what was seen -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [False, True])
def test_what_was_seen_vouches_for_the_rows_before_it(path: Path, *, fast: bool) -> None:
    report = verify_ledger(path, KEY, seen=seen_at(path, 7, 12, 10), fast=fast)
    assert [(one.size, one.where, one.at) for one in report.outside] == [(12, "my file", None)]
    assert (report.vouched_to, report.not_proven) == (12, None)


@pytest.mark.parametrize("then", [lambda path: None, append_honestly])
@pytest.mark.parametrize("move", [cut_back, empty, rewrite_with_the_key])
def test_what_the_key_cannot_show_one_checkpoint_shows(
    path: Path, move: Callable[[Path], None], then: Callable[[Path], None]
) -> None:
    seen = seen_at(path, ROWS)
    move(path)
    then(path)
    for fast in (False, True):
        with pytest.raises(LedgerTamperedError, match=r"cut back|rewritten") as caught:
            verify_ledger(path, KEY, seen=seen, fast=fast)
        assert caught.value.size == ROWS
        with pytest.raises(LedgerTamperedError):
            verify_ledger(path, KEY, recall=lambda _origin: seen, fast=fast)


def test_an_empty_log_extends_an_empty_one(tmp_store: Path) -> None:
    begin(tmp_store, SIGNER)
    origin = verify_ledger(tmp_store, KEY).origin
    from donewhen.merkle import EMPTY_ROOT
    from donewhen.notes import Checkpoint

    seen = Seen(sign_note(Checkpoint(origin, 0, EMPTY_ROOT).text(), SIGNER), "my file")
    report = verify_ledger(tmp_store, KEY, seen=[seen])
    assert (report.vouched_to, report.not_proven) == (0, None)


def test_another_log_is_not_proven_by_what_was_seen_of_this_one(path: Path) -> None:
    seen = seen_at(path, 12)
    path.unlink()
    with Ledger(path, signer=SIGNER) as ledger:
        ledger.write("s", 1, "a", "x", 1, 1, True)
    report = verify_ledger(path, KEY.named(ledger.origin), seen=seen)
    assert (report.outside, report.vouched_to) == ((), 0)
    assert "none of the 1 checkpoints that were given is of the log" in (report.not_proven or "")


def test_what_is_recalled_is_not_missed_where_there_is_nothing(path: Path) -> None:
    asked: list[str] = []
    report = verify_ledger(path, KEY, recall=lambda origin: asked.append(origin) or [])
    assert (report.not_proven, asked) == (None, [report.origin])


def test_an_older_one_that_does_not_fit_is_found_beside_a_newer_one_that_does(path: Path) -> None:
    seen = seen_at(path, 7)
    rewrite_with_the_key(path)
    with pytest.raises(LedgerTamperedError, match=r"its first 7 rows are not those of the checkpoint in my file$"):
        verify_ledger(path, KEY, seen=[*seen_at(path, ROWS), *seen])


def test_one_that_the_log_s_key_did_not_sign_is_told_apart(path: Path) -> None:
    text = note_at(path, 12).partition("\n\n")[0] + "\n"
    with pytest.raises(LedgerTamperedError, match="checkpoint of 12 rows in my file is not signed by the log's key"):
        verify_ledger(path, KEY, seen=[Seen(sign_note(text, OTHER), "my file")])
    longer = text.replace("\n12\n", "\n99\n")
    with pytest.raises(LedgerTamperedError, match="in my file, which is not signed by the log's key, covers 99 rows"):
        verify_ledger(path, KEY, seen=[Seen(sign_note(longer, OTHER), "my file")])


def test_one_without_a_signature_says_nothing_of_a_signed_log(path: Path) -> None:
    text = note_at(path, 12).partition("\n\n")[0] + "\n"
    report = verify_ledger(path, KEY, seen=[Seen(text, "my file"), Seen(text.replace("\n12\n", "\n99\n"), "my file")])
    assert (report.vouched_to, report.not_proven is None) == (0, False)


@pytest.mark.parametrize("note", ["", "x", "\n\n", "a\nb\nc\n", "a\n1\nAAAA\n\n— x y\n", "\x00"])
def test_what_is_no_checkpoint_is_refused(path: Path, note: str) -> None:
    with pytest.raises(CheckpointError, match="my file"):
        verify_ledger(path, KEY, seen=[Seen(note, "my file")])


def test_an_unsigned_log_is_held_against_what_was_kept_too(tmp_store: Path) -> None:
    fill(tmp_store, signer=None)
    seen = seen_at(tmp_store, 12)
    assert verify_ledger(tmp_store, None, seen=seen).vouched_to == 12
    rewrite(tmp_store, 7, tokens=4)
    reseal(tmp_store, None)
    assert verify_ledger(tmp_store, None).rows == ROWS
    with pytest.raises(LedgerTamperedError, match="rewritten"):
        verify_ledger(tmp_store, None, seen=seen)


def test_a_checkpoint_of_before_the_log_was_handed_on_is_by_the_key_of_then(tmp_store: Path) -> None:
    first, second = LocalSigner(ORIGIN, b"\x01" * 32), LocalSigner(ORIGIN, b"\x02" * 32)
    begin(tmp_store, first)
    with Ledger(tmp_store, signer=first) as ledger:
        ledger.write("s", 1, "a", "x", 1, 1, True)
        ledger.rotate_key(second, why="yearly", who="Eve")
        ledger.write("s", 1, "b", "x", 1, 1, True)
    for size in (1, 2, 3):
        assert verify_ledger(tmp_store, second.verifier, seen=seen_at(tmp_store, size)).vouched_to == size
    text = note_at(tmp_store, 1).partition("\n\n")[0] + "\n"
    with pytest.raises(LedgerTamperedError, match="not signed by the log's key"):
        verify_ledger(tmp_store, first.verifier, seen=[Seen(sign_note(text, second), "my file")])


# -- witnesses ---------------------------------------------------------------------------------------------------------


def test_a_witness_vouches_for_what_it_cosigned_last(path: Path) -> None:
    for size in (7, 14, 12):
        cosign(path, size)
    for fast in (False, True):
        report = verify_ledger(path, KEY, witness=COSIGNER, fast=fast)
        assert [(one.size, one.at) for one in report.outside] == [(14, "2023-11-14T22:13:20+00:00")]
        assert (report.not_proven, report.signatures) == (None, 2)
    assert verify_ledger(path, KEY, every_signature=True).signatures == 15 + 3


def test_a_witness_that_was_asked_for_and_is_missing_leaves_it_unproven(path: Path) -> None:
    cosign(path, 7)
    for witness in (STRANGER, cosigner_of(LocalSigner("another", b"\x06" * 32))):
        report = verify_ledger(path, KEY, witness=witness)
        assert report.not_proven == f"the witness {witness.name} has cosigned no checkpoint of this log"


def test_a_witness_s_line_may_stand_under_a_checkpoint_that_was_kept(path: Path) -> None:
    note = note_at(path, 12)
    line = cosign_text(note.partition("\n\n")[0] + "\n", WITNESS, AT)
    report = verify_ledger(path, KEY, seen=[Seen(f"{note}{line}\n", "my file")], witness=COSIGNER)
    assert {(one.size, one.at is not None) for one in report.outside} == {(12, False), (12, True)}


def test_a_log_that_was_rewritten_after_a_witness_saw_it_is_refused(path: Path) -> None:
    cosign(path, 12)
    rewrite_with_the_key(path)
    for witness in (COSIGNER, None):
        with pytest.raises(LedgerTamperedError, match=r"cosignature of witness\.example/w1 is not good"):
            verify_ledger(path, KEY, witness=witness)


SPOILT = {
    "the line": "UPDATE cosigned SET line = 'x'",
    "the line is of bytes": "UPDATE cosigned SET line = x'00ff'",
    "the line is not UTF-8": "UPDATE cosigned SET line = CAST(x'ff' AS TEXT)",
    "the line has another name": "UPDATE cosigned SET line = replace(line, 'w1', 'w2')",
    "the size": "UPDATE cosigned SET size = 7",
    "the size of no checkpoint": "UPDATE cosigned SET size = 6",
    "the size is negative": "UPDATE cosigned SET size = -9223372036854775808",
    "the size is text": "UPDATE cosigned SET size = 'x'",
    "the key": f"UPDATE cosigned SET vkey = '{STRANGER.vkey}'",
    "the key is none": "UPDATE cosigned SET vkey = 'x'",
    "the key is a log's": f"UPDATE cosigned SET vkey = '{SIGNER.vkey}'",
    "the key is of bytes": "UPDATE cosigned SET vkey = x'ff'",
    "the place": "UPDATE cosigned SET id = 9",
    "the time": "UPDATE cosigned SET at = 'yesterday'",
    "the time is a number": "UPDATE cosigned SET at = x'00'",
}


@pytest.mark.parametrize("name", SPOILT)
def test_no_column_of_a_cosignature_can_be_spoilt(path: Path, name: str) -> None:
    cosign(path, 12)
    attack(path, "PRAGMA foreign_keys = OFF", SPOILT[name])
    with pytest.raises(LedgerTamperedError):
        verify_ledger(path, KEY)


def test_cosignatures_of_rows_that_are_gone_are_refused(path: Path) -> None:
    cosign(path, ROWS)
    cut_back(path)
    with pytest.raises(LedgerTamperedError, match=f"the checkpoint of {ROWS} rows is not one: there is no such"):
        verify_ledger(path, KEY)


def test_more_witnesses_than_any_log_has_are_refused(path: Path) -> None:
    for place in range(65):
        cosign(path, 12, LocalSigner(f"w{place}", bytes([place + 1]) * 32))
    with pytest.raises(LedgerTamperedError, match="more than 64 witnesses"):
        verify_ledger(path, KEY)


def test_a_time_beyond_all_calendars_is_not_told(path: Path) -> None:
    cosign(path, 12, time=2**62)
    assert verify_ledger(path, KEY, witness=COSIGNER).outside[0].at is None


def test_a_cosigner_is_the_same_however_it_is_made() -> None:
    assert Cosigner.parse(COSIGNER.vkey) == COSIGNER


def test_a_row_slipped_in_is_not_vouched_for(path: Path) -> None:
    seen = seen_at(path, ROWS)
    attack(path, insert(17))
    with pytest.raises(LedgerTamperedError, match="no checkpoint covers it"):
        verify_ledger(path, KEY, seen=seen)
