"""A file of checkpoints on another disk: only added to, whole or marked as a part, and never talked round."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from stores.kit import run
from unprivileged import unprivileged
from witnesses import LOG, SmallLog

from donewhen.cosignatures import iter_notes
from donewhen.elsewhere.checkpoint_file import PART, TAIL_BYTES, keep_in_file
from donewhen.errors import LedgerError, LedgerTamperedError
from donewhen.notes import Checkpoint, LocalSigner, sign_note

SMALL = SmallLog(9)
SIZES = (2, 5, 9)


def stored(log: SmallLog = SMALL, sizes: tuple[int, ...] = SIZES) -> Callable[[int], str | None]:
    """Return what a ledger knows that committed at these sizes."""
    return lambda size: log.note(size) if size in sizes else None


def keep(path: Path, size: int, log: SmallLog = SMALL, sizes: tuple[int, ...] = SIZES) -> bool:
    return keep_in_file(str(path), log.note(size), stored(log, sizes))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints.txt"


def notes(path: Path) -> list[str]:
    return list(iter_notes(path.read_text(encoding="utf-8")))


# -- adding ------------------------------------------------------------------------------------------------------------


def test_checkpoints_are_added_one_after_the_other_and_once(path) -> None:
    assert [keep(path, size) for size in (2, 2, 5, 5, 9, 9)] == [True, False, True, False, True, False]
    assert path.read_text() == "".join(f"{SMALL.note(size)}\n" for size in SIZES)
    assert notes(path) == [SMALL.note(size) for size in SIZES]


def test_a_newer_one_that_is_there_already_is_enough(path) -> None:
    assert keep(path, 9)
    assert not keep(path, 5)


def test_the_checkpoints_of_several_logs_stand_in_one_file(path) -> None:
    other = sign_note(Checkpoint("another/log", 1000, bytes(32)).text(), LOG)
    assert keep(path, 2)
    assert keep_in_file(str(path), other, lambda size: other)
    assert keep(path, 5)
    assert notes(path) == [SMALL.note(2), other, SMALL.note(5)]


def test_a_log_whose_newest_is_far_back_is_found(path) -> None:
    keep(path, 9)
    other = LocalSigner("another/log", bytes(32))
    lines = [sign_note(Checkpoint("another/log", size, bytes(32)).text(), other) for size in range(1, 1000)]
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{note}\n" for note in lines)
    assert path.stat().st_size > 2 * TAIL_BYTES
    assert not keep(path, 9)
    with pytest.raises(LedgerTamperedError):
        keep(path, 5, sizes=(2, 5))


def test_an_unsigned_checkpoint_is_kept_too(path) -> None:
    for size in SIZES:
        assert keep_in_file(str(path), SMALL.text(size), lambda found: SMALL.text(found))
    assert notes(path) == [SMALL.text(size) for size in SIZES]
    assert not keep_in_file(str(path), SMALL.text(9), lambda found: SMALL.text(found))


# -- holding the ledger against it -----------------------------------------------------------------------------------------


def test_a_ledger_that_was_cut_back_is_refused(path) -> None:
    keep(path, 9)
    before = path.read_bytes()
    with pytest.raises(LedgerTamperedError, match="holds a checkpoint of 9 rows of this log") as caught:
        keep(path, 5, sizes=(2, 5))
    assert caught.value.row_id == 9
    assert path.read_bytes() == before


@pytest.mark.parametrize("sizes", [(5, 9), (2, 9)])
def test_a_ledger_that_was_rewritten_is_refused(path, sizes) -> None:
    keep(path, 5)
    with pytest.raises(LedgerTamperedError, match="was cut back or rewritten, or this is another copy"):
        keep(path, 9, SmallLog(9, "another row"), sizes)
    assert notes(path) == [SMALL.note(5)]


def test_a_checkpoint_signed_again_by_another_key_is_the_same_checkpoint(path) -> None:
    keep(path, 5)
    again = sign_note(SMALL.text(5), LocalSigner("rotated", bytes(32)))
    assert keep_in_file(str(path), SMALL.note(9), lambda size: again if size == 5 else SMALL.note(size))


# -- crashes and full disks --------------------------------------------------------------------------------------------------


NEXT = f"{SMALL.note(5)}\n".encode()


@pytest.mark.parametrize("end", range(len(NEXT) + 1))
def test_what_a_crash_left_of_one_is_marked_as_a_part(path, end) -> None:
    whole = f"{SMALL.note(2)}\n".encode()
    path.write_bytes(whole + NEXT[:end])
    assert keep(path, 9)
    assert notes_of(path) == [SMALL.note(size) for size in (SIZES if end == len(NEXT) else (2, 9))]
    assert path.read_bytes().startswith(whole + NEXT[:end])
    assert not keep(path, 9)
    assert (PART.encode() in path.read_bytes()) == (0 < end < len(NEXT))


@pytest.mark.parametrize("rubbish", [b"\xff\xfe\x00", b"\n\n\n\n\n", b"hello", b"\xe2\x80\x94 x y\n\n", b"a\n1\nb\n\n"])
def test_what_is_no_checkpoint_is_left_alone(path, rubbish) -> None:
    path.write_bytes(rubbish)
    assert keep(path, 5)
    assert path.read_bytes().startswith(rubbish)
    assert notes_of(path) == [SMALL.note(5)]


def notes_of(path: Path) -> list[str]:
    return list(iter_notes(path.read_text(encoding="utf-8", errors="replace")))


FULL = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from pathlib import Path
from elsewhere.test_checkpoint_file import keep
from donewhen.errors import LedgerError
path, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    keep(path, 5)
except LedgerError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(keep(path, 9))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a file's size has no limit there that a process could set")
@pytest.mark.parametrize("room", [0, 30, 100])
def test_a_full_disk_is_told_and_spoils_nothing(path, room) -> None:
    keep(path, 2)
    limit = path.stat().st_size + room
    first, second = run(FULL.format(tests=str(Path(__file__).parents[1])), path, limit).splitlines()
    assert first.startswith(f"{path}: ")
    assert ("only a part of the checkpoint" in first) == bool(room)
    assert second == "True"
    assert notes(path) == [SMALL.note(2), SMALL.note(9)]


def nowhere(tmp_path: Path) -> list[Path]:
    (tmp_path / "a-file").write_text("")
    places = [tmp_path / "missing" / "file", tmp_path, tmp_path / "a-file" / "below", tmp_path / "nul\0"]
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe")
        places += [tmp_path / "pipe", Path("/dev/null"), Path("/dev/full")]
    if sys.platform == "linux":
        places.append(Path("/proc/checkpoints.txt"))
    return places


def test_a_place_where_nothing_can_be_kept_is_told(tmp_path) -> None:
    for place in nowhere(tmp_path):
        with pytest.raises(LedgerError, match="no checkpoint can be kept") as caught:
            keep(place, 5)
        assert str(caught.value).startswith(str(place))


@pytest.mark.skipif(sys.platform == "win32", reason="modes say nothing there")
def test_a_file_that_may_not_be_written_is_told(tmp_path) -> None:
    with unprivileged(tmp_path) as folder:
        path = folder / "checkpoints.txt"
        assert keep(path, 2)
        path.chmod(0o444)
        with pytest.raises(LedgerError, match="Permission denied"):
            keep(path, 5)
        assert notes(path) == [SMALL.note(2)]
        path.chmod(0o644)
        assert keep(path, 5)


@pytest.mark.skipif(sys.platform == "win32", reason="modes say nothing there")
def test_a_file_is_made_for_everybody_to_read(path) -> None:
    before = os.umask(0o022)
    try:
        keep(path, 2)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


TOGETHER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from elsewhere.test_checkpoint_file import SMALL
from donewhen.elsewhere.checkpoint_file import keep_in_file
print("ready", flush=True)
input()
for size in range(1, 10):
    keep_in_file(sys.argv[1], SMALL.note(size), SMALL.note)
"""


def test_several_processes_add_to_one_file(path) -> None:
    from stores.kit import run_together

    run_together(3, TOGETHER.format(tests=str(Path(__file__).parents[1])), path)
    found = notes(path)
    assert SMALL.note(9) in found
    assert PART not in path.read_text(encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "".join(f"{note}\n" for note in found)
