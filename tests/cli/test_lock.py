"""One run of a spec file at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from donewhen.cli.exits import RUNNING, CommandError
from donewhen.cli.lock import only_one
from donewhen.errors import LedgerError


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_store: Path) -> None:
    import os

    with (
        only_one(tmp_store, "/a/spec.toml", "spec.toml"),
        pytest.raises(CommandError, match=rf"spec\.toml is already being run by process {os.getpid()} since") as caught,
        only_one(tmp_store, "/a/spec.toml", "spec.toml"),
    ):
        raise AssertionError("both hold it")
    assert caught.value.exit_code == RUNNING


def test_it_can_be_held_again_once_it_is_let_go(tmp_store: Path) -> None:
    held = 0
    for _ in range(2):
        with only_one(tmp_store, "/a/spec.toml", "spec.toml"):
            held += 1
    assert held == 2


def test_two_spec_files_do_not_disturb_each_other(tmp_store: Path) -> None:
    with only_one(tmp_store, "/a/one.toml", "one"), only_one(tmp_store, "/a/two.toml", "two"):
        assert len(list(tmp_store.parent.glob("run-*.lock"))) == 2


def test_what_an_older_holder_wrote_is_replaced_whole(tmp_store: Path) -> None:
    with only_one(tmp_store, "s", "s"):
        [path] = tmp_store.parent.glob("run-*.lock")
    path.write_text("x" * 500)
    with only_one(tmp_store, "s", "s"):
        assert set(json.loads(path.read_text())) == {"pid", "since"}


def test_a_holder_that_has_not_said_who_it_is_is_told_as_such(tmp_store: Path) -> None:
    with only_one(tmp_store, "s", "s"):
        [path] = tmp_store.parent.glob("run-*.lock")
        path.write_text("")
        with pytest.raises(CommandError, match="by another process"), only_one(tmp_store, "s", "s"):
            raise AssertionError("both hold it")


def test_a_lock_that_cannot_be_made_is_an_error_of_the_ledgers_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="overlapping"), only_one(tmp_path / "file" / "l.db", "s", "s"):
        raise AssertionError("it was made")
