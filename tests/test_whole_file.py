"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from stores.kit import run_together

from donewhen.whole_file import write_whole

DIES = """
import os, signal, sys
from pathlib import Path
from donewhen import whole_file
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
owner, name = sys.argv[2].split(".")
setattr({"os": os, "Path": Path}[owner], name, die)
whole_file.write_whole(Path(sys.argv[1]), b"new" * 100_000, replace=True)
"""
ONE_OF_MANY = """
import sys
from pathlib import Path
from donewhen.whole_file import write_whole
print("ready", flush=True)
sys.stdin.readline()
try:
    write_whole(Path(sys.argv[1]), sys.argv[2].encode() * 100_000)
    print("won")
except FileExistsError:
    print("lost")
"""

posix_only = pytest.mark.skipif(os.name != "posix", reason="signals, modes and links as POSIX has them")


def beside(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir())


def test_a_file_is_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"\x00\r\n\xff")
    assert (tmp_path / "a").read_bytes() == b"\x00\r\n\xff"
    assert beside(tmp_path / "a") == ["a"]


def test_a_file_that_is_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    write_whole(path, b"new", replace=True)
    assert path.read_bytes() == b"new"
    assert beside(path) == ["a"]


def test_a_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for replace in (False, True):
        with pytest.raises(OSError, match=r".+"):
            write_whole(tmp_path / "a", b"new", replace=replace)
    assert beside(tmp_path / "a") == ["a"]


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "no" / "a", b"new")


@posix_only
def test_the_mode_is_what_the_umask_makes_of_it(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@posix_only
@pytest.mark.parametrize("call", ["os.fdopen", "os.fsync", "Path.replace"])
def test_a_process_that_is_killed_leaves_the_old_file(tmp_path: Path, call: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    ran = subprocess.run([sys.executable, "-c", DIES, str(path), call], env=environment, timeout=120, check=False)
    assert ran.returncode == -9
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("replace", [False, True])
def test_a_full_disk_leaves_the_name_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "a", b"new", replace=replace)
    assert list(tmp_path.iterdir()) == []


@posix_only
def test_a_disk_without_links_is_written_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_whole(tmp_path / "a", b"new")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "a", b"newer")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert beside(tmp_path / "a") == ["a"]


@posix_only
def test_of_many_that_write_one_name_at_once_one_wins(tmp_path: Path) -> None:
    said = run_together(4, ONE_OF_MANY, tmp_path / "a")
    assert sorted(said) == ["lost\n"] * 3 + ["won\n"]
    assert (tmp_path / "a").read_bytes() == str(said.index("won\n")).encode() * 100_000
    assert beside(tmp_path / "a") == ["a"]
