"""The demo shows what it says, and fails when it does not see it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from command import donewhen

from donewhen.cli import main
from donewhen.demo import scenes
from donewhen.demo.promise import PLANTED_FAULTS, names_the_planted_faults
from donewhen.demo.scenes import SCENES, open_stage
from donewhen.demo.stage import Fact, Scene, Stage


def test_every_promise_is_seen_to_be_kept(tmp_path: Path) -> None:
    with open_stage(tmp_path) as stage:
        played = [play(stage) for play in SCENES]
    assert [(fact.claim, fact.seen) for scene in played for fact in scene.facts if not fact.holds] == []
    assert len(played) == 6


def test_the_command_ends_with_0_and_its_next_commands_work(tmp_path: Path) -> None:
    result = donewhen("demo", "--keep", tmp_path / "kept")
    assert result.exit_code == 0, result.stdout
    assert "NOT SEEN" not in result.stdout
    commands = [line.split("donewhen ", 1)[1] for line in result.stdout.splitlines() if line.startswith("  donewhen ")]
    assert [donewhen(*shlex.split(command)).exit_code for command in commands] == [0, 0, 0]


def test_it_leaves_the_users_own_key_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DONEWHEN_CONFIG_DIR", str(tmp_path / "config"))
    donewhen("demo", "--keep", tmp_path / "kept")
    assert not (tmp_path / "config").exists()


def test_a_promise_that_is_not_kept_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_stage: Stage) -> Scene:
        return Scene(title="t", promise="p", facts=(Fact("water is dry", "it is wet", False),))

    def raising(_stage: Stage) -> Scene:
        raise ValueError("no stage")

    monkeypatch.setattr(scenes, "SCENES", (scenes.no_spec_no_call, broken, raising))
    result = donewhen("demo", "--keep", tmp_path / "kept")
    assert result.exit_code == 1
    assert "NOT SEEN  water is dry: it is wet" in result.stdout
    assert "NOT SEEN: ValueError: no stage" in result.stdout


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    result = donewhen("demo", "--keep", tmp_path)
    assert result.exit_code == 2
    assert "not empty" in result.stderr


def test_the_check_of_the_audit_names_what_is_missing() -> None:
    report = "\n".join(f"- `{rule}`" for rule in PLANTED_FAULTS)
    assert names_the_planted_faults(report) is True
    assert names_the_planted_faults(report.replace("`image-alt`", "")) == "the report does not name image-alt"


def test_it_is_a_command_of_its_own() -> None:
    assert "demo" in main.commands
