"""`donewhen new`."""

from __future__ import annotations

from pathlib import Path

from command import donewhen

from donewhen.spec_file import load_spec

ANSWERS = "Audits a page.\nIt changes nothing.\nA report.\n"


def test_the_answers_become_a_spec_file_that_can_be_read() -> None:
    result = donewhen("new", "my.toml", stdin=ANSWERS + "2\n^ok$\n")
    assert (result.exit_code, result.stdout) == (0, "my.toml\n")
    spec = load_spec("my.toml")
    assert spec.done_looks_like == "A report."
    assert spec.done_when == ({"check": "regex", "pattern": "^ok$"},)


def test_the_questions_are_talk_and_not_data() -> None:
    result = donewhen("new", stdin=ANSWERS)
    assert result.stdout == "spec.toml\n"
    assert "What does this NOT do?" in result.stderr


def test_a_file_that_is_there_is_not_written_over() -> None:
    Path("spec.toml").write_text("mine")
    result = donewhen("new", stdin=ANSWERS)
    assert result.exit_code == 2
    assert "not written over" in result.stderr
    assert Path("spec.toml").read_text() == "mine"


def test_a_folder_that_is_missing_is_told_before_anybody_is_asked() -> None:
    result = donewhen("new", "nowhere/spec.toml", stdin=ANSWERS)
    assert result.exit_code == 2
    assert "What does this do?" not in result.stderr


def test_the_end_of_the_input_is_one_clear_error_and_leaves_no_file() -> None:
    result = donewhen("new", stdin="Audits a page.\n")
    assert result.exit_code == 2
    assert "the input ended before this was answered" in result.stderr
    assert not Path("spec.toml").exists()


def test_the_third_blank_answer_is_one_clear_error() -> None:
    result = donewhen("new", stdin="\n\n\n\n")
    assert result.exit_code == 2
    assert result.stderr.count("missing answer") == 3
