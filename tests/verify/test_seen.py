"""What was seen of each log: kept away from the ledger, newest only, and never believed where it is damaged."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.errors import CheckpointError, LedgerError
from donewhen.merkle import root_of
from donewhen.notes import Checkpoint, LocalSigner, sign_note
from donewhen.verify.seen import SeenLogs, read_seen

SIGNER = LocalSigner("log", b"\x01" * 32)


def note(size: int, origin: str = "donewhen.local/1", *, signed: bool = True) -> str:
    text = Checkpoint(origin, size, root_of([bytes([n % 256]) * 32 for n in range(size)])).text()
    return sign_note(text, SIGNER) if signed else text


@pytest.fixture
def logs(tmp_path: Path) -> SeenLogs:
    return SeenLogs(tmp_path / "config")


def test_nothing_is_made_before_something_is_remembered(logs: SeenLogs, tmp_path: Path) -> None:
    assert logs.recall("donewhen.local/1") == []
    assert logs.log_at(tmp_path / "ledger.db") is None
    assert logs.forget(tmp_path / "ledger.db") is None
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize("signed", [True, False])
def test_the_newest_checkpoint_of_each_log_is_kept_whole(logs: SeenLogs, tmp_path: Path, *, signed: bool) -> None:
    for size in (3, 9, 4):
        kept = logs.remember(note(size, signed=signed), tmp_path / "ledger.db")
    logs.remember(note(1, "another"), tmp_path / "other.db")
    [seen] = logs.recall("donewhen.local/1")
    assert (seen.note, seen.where) == (note(9, signed=signed), str(kept))
    assert seen.checkpoint().size == 9
    assert [one.note for one in read_seen(kept)] == [note(9, signed=signed)]
    assert logs.recall("another")[0].checkpoint().size == 1


def test_which_log_was_at_a_place_is_kept_and_forgotten(logs: SeenLogs, tmp_path: Path) -> None:
    place = tmp_path / "ledger.db"
    logs.remember(note(3), place)
    assert logs.log_at(place) == "donewhen.local/1"
    logs.remember(note(1, "another"), place)
    assert logs.log_at(place) == "another"
    assert logs.forget(place) == "another"
    assert (logs.log_at(place), logs.recall("another")) == (None, [])
    assert len(logs.recall("donewhen.local/1")) == 1


@pytest.mark.parametrize("origin", ["../../etc/passwd", "é 日本", "a" * 5000, ".", "con", "a/b\\c:d"])
def test_a_log_may_have_any_name(logs: SeenLogs, tmp_path: Path, origin: str) -> None:
    kept = logs.remember(note(2, origin), tmp_path / "ledger.db")
    assert kept.parent == tmp_path / "config" / "seen"
    assert logs.recall(origin)[0].checkpoint().origin == origin
    assert logs.log_at(tmp_path / "ledger.db") == origin


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has modes")
def test_what_was_seen_is_its_user_s_own(logs: SeenLogs, tmp_path: Path) -> None:
    logs.remember(note(2), tmp_path / "ledger.db")
    assert (tmp_path / "config" / "seen" / "paths").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"\xff" * 100, note(3, "another").encode() + b"\n"])
def test_what_is_damaged_is_never_believed(logs: SeenLogs, tmp_path: Path, damage: bytes) -> None:
    kept = logs.remember(note(2), tmp_path / "ledger.db")
    kept.write_bytes(damage)
    with pytest.raises(LedgerError, match=r"[Rr]emove it"):
        logs.recall("donewhen.local/1")


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file")
    logs = SeenLogs(tmp_path / "config")
    assert logs.recall("x") == []
    with pytest.raises(LedgerError, match="cannot be kept"):
        logs.remember(note(2), tmp_path / "ledger.db")


def test_whoever_verifies_at_once_the_newest_stays(logs: SeenLogs, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda size: logs.remember(note(size), tmp_path / "ledger.db"), range(1, 41)))
    assert logs.recall("donewhen.local/1")[0].checkpoint().size == 40
    assert {path.suffix for path in (tmp_path / "config" / "seen").iterdir()} == {".note", ""}


# -- files of checkpoints ----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=5))
def test_a_file_of_checkpoints_is_read_whole(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[int, bool]]
) -> None:
    path = tmp_path_factory.mktemp("kept") / "kept.txt"
    notes = [note(size, signed=signed) for size, signed in made]
    path.write_text("".join(f"{one}\n" for one in notes), encoding="utf-8")
    assert [seen.note for seen in read_seen(path)] == notes


@pytest.mark.parametrize("end", ["\n", "\n\n", "\n\n\n"])
def test_one_that_was_printed_is_read_too(tmp_path: Path, end: str) -> None:
    (tmp_path / "kept.txt").write_text(note(3).rstrip("\n") + end, encoding="utf-8")
    assert [seen.note for seen in read_seen(tmp_path / "kept.txt")] == [note(3)]


def test_a_part_of_one_is_stepped_over(tmp_path: Path) -> None:
    whole, cut = f"{note(3)}\n", note(4)
    for end in range(1, len(cut) - 1):
        (tmp_path / "kept.txt").write_text(whole + cut[:end], encoding="utf-8")
        first, *more = [seen.note for seen in read_seen(tmp_path / "kept.txt")]
        assert first == note(3)
        assert more in ([], [note(4, signed=False)])  # whose text is whole; a signed log takes no notice of it


@pytest.mark.parametrize("text", ["", "\n\n", "rubbish", "donewhen.local/1\n3\n", "\x00", "a\n-1\nAA==\n\n"])
def test_a_file_without_a_whole_checkpoint_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "kept.txt").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        read_seen(tmp_path / "kept.txt")


def test_what_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(CheckpointError):
            read_seen(path)
