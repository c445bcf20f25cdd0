"""Asking for the promise, and keeping it."""

from __future__ import annotations

import builtins
import dataclasses
import io
import sqlite3
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from donewhen.errors import LedgerError, SpecError
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner
from donewhen.spec_writer import QUESTIONS, SpecResult, SpecWriter, ask, is_blank

ANSWERS = ["Audits a page.", "It does NOT change the page.", "A report with one line per fault."]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spec.db"


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def answering(*answers: object) -> Callable[[str], str]:
    waiting: Iterator[object] = iter(answers)
    return lambda _: next(waiting)  # pyright: ignore[reportReturnType]  some tests answer with what is no text


def refused(path: Path, *answers: object) -> SpecError:
    with pytest.raises(SpecError) as caught:
        SpecWriter(path, answering(*answers), [].append).run()
    return caught.value


class TestAsking:
    def test_three_answers_make_a_frozen_result(self, path: Path) -> None:
        result = SpecWriter(db_path=str(path), input_fn=answering(*ANSWERS), output_fn=[].append).run()
        assert [result.what_it_does, result.what_it_does_not, result.done_looks_like] == ANSWERS
        with pytest.raises(dataclasses.FrozenInstanceError):
            result.what_it_does = "more"  # pyright: ignore[reportAttributeAccessIssue]  that is the test

    def test_the_session_id_is_a_uuid4(self, path: Path) -> None:
        result = SpecWriter(path, answering(*ANSWERS), [].append).run()
        assert str(uuid.UUID(result.session_id, version=4)) == result.session_id

    def test_an_id_can_be_handed_in(self, path: Path) -> None:
        writer = SpecWriter(path, answering(*ANSWERS), [].append, new_id=lambda: "the-id")
        assert writer.run().session_id == "the-id"

    def test_the_three_questions_are_shown_in_order(self, path: Path) -> None:
        lines: list[str] = []
        SpecWriter(path, answering(*ANSWERS), lines.append).run()
        assert lines == [
            "What does this do?",
            "What does this NOT do?",
            "What does done look like in one sentence?",
        ]

    def test_a_prompt_is_always_given(self, path: Path) -> None:
        prompts: list[str] = []
        answers = answering(*ANSWERS)

        def told(*arguments: str) -> str:
            prompts.extend(arguments)
            return answers("")

        SpecWriter(path, told, [].append).run()
        assert len(prompts) == 3
        assert all(isinstance(prompt, str) for prompt in prompts)

    def test_each_blank_answer_is_named_once_and_asked_again(self, path: Path) -> None:
        lines: list[str] = []
        given = ["", ANSWERS[0], "   \t", ANSWERS[1], "\u200b\xa0", ANSWERS[2]]
        result = SpecWriter(path, answering(*given), lines.append).run()
        missing = [line for line in lines if "missing answer" in line]
        assert len(missing) == 3
        assert any("NOT do" in line for line in missing)
        assert any("done look like" in line for line in missing)
        assert result.done_looks_like == ANSWERS[2]

    def test_an_input_function_may_give_blanks_for_as_long_as_it_likes(self, path: Path) -> None:
        given = [""] * 50 + ANSWERS
        assert SpecWriter(path, answering(*given), [].append).run().what_it_does == ANSWERS[0]

    def test_answers_are_stripped(self, path: Path) -> None:
        result = SpecWriter(path, answering(*[f"  {answer}\n" for answer in ANSWERS]), [].append).run()
        assert result.what_it_does == ANSWERS[0]

    def test_it_asks_by_input_and_print_unless_told_otherwise(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        writer = SpecWriter()
        assert writer.db_path == "spec.db"
        assert writer.input_fn is input
        assert writer.output_fn is print

    def test_making_a_writer_makes_the_file(self, path: Path) -> None:
        SpecWriter(path)
        assert path.exists()

    def test_a_promise_is_not_kept_in_memory_alone(self) -> None:
        writer = SpecWriter(":memory:", answering(*ANSWERS), [].append)
        with pytest.raises(LedgerError, match="a ledger must be a file"):
            writer.run()

    def test_an_empty_file_is_as_good_as_none(self, path: Path) -> None:
        path.touch()
        result = SpecWriter(path, answering(*ANSWERS), [].append).run()
        assert SpecWriter(path).load(result.session_id) == result

    def test_a_file_that_is_no_ledger_is_refused_before_anybody_is_asked(self, path: Path) -> None:
        path.write_text("a letter to a friend, long enough to be mistaken for something else")
        with pytest.raises(LedgerError):
            SpecWriter(path)

    def test_a_ledger_that_cannot_be_written_is_refused_before_anybody_is_asked(self, path: Path) -> None:
        Ledger(path, signer=LocalSigner.generate("somebody-else")).close()
        lines: list[str] = []
        with pytest.raises(LedgerError, match="is signed by the key of"):
            SpecWriter(path, answering(*ANSWERS), lines.append).run()
        assert lines == []

    @pytest.mark.parametrize("blank", ["", " ", "\t\n", "\xa0", "\u200b", "\ufeff\u2060"])
    def test_what_nobody_can_see_is_blank(self, blank: str) -> None:
        assert is_blank(blank)

    @pytest.mark.parametrize("text", [".", "0", "日本", "👍", " x "])
    def test_what_somebody_can_see_is_not_blank(self, text: str) -> None:
        assert not is_blank(text)


class TestRefusing:
    @pytest.mark.parametrize("given", [0, 1, 2])
    def test_the_end_of_the_input_names_the_question(self, path: Path, given: int) -> None:
        error = refused(path, *ANSWERS[:given])
        assert list(QUESTIONS.values())[given] in str(error)
        assert error.field == list(QUESTIONS)[given]

    def test_an_input_function_that_says_end_of_file_ends_it(self, path: Path) -> None:
        def ended(_: str) -> str:
            raise EOFError

        with pytest.raises(SpecError, match="the input ended"):
            SpecWriter(path, ended, [].append).run()

    def test_another_error_of_an_input_function_is_its_own(self, path: Path) -> None:
        def broken(_: str) -> str:
            raise OSError("line noise")

        with pytest.raises(OSError, match="line noise"):
            SpecWriter(path, broken, [].append).run()

    def test_a_nul_is_refused(self, path: Path) -> None:
        assert "NUL" in refused(path, "a\0b").problem

    def test_a_lone_surrogate_is_refused(self, path: Path) -> None:
        assert "not UTF-8" in refused(path, "caf\udce9").problem

    @pytest.mark.parametrize("answer", [None, 5, b"bytes"])
    def test_what_is_no_text_is_refused(self, path: Path, answer: object) -> None:
        assert "must be text" in refused(path, answer).problem

    def test_a_refused_promise_is_not_stored(self, path: Path) -> None:
        refused(path, *ANSWERS[:2], "\0")
        with sqlite3.connect(path) as database:
            assert database.execute("SELECT count(*) FROM spec").fetchone() == (0,)
        database.close()


class TestStandardInput:
    def test_piped_answers_work(
        self, path: Path, piped: Callable[[str], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        piped("\n".join(ANSWERS))
        assert SpecWriter(path).run().done_looks_like == ANSWERS[2]
        assert "What does this NOT do?" in capsys.readouterr().out

    def test_its_end_is_one_error(self, path: Path, piped: Callable[[str], None]) -> None:
        piped(ANSWERS[0] + "\n")
        with pytest.raises(SpecError, match=r"the input ended before this was answered: What does this NOT do\?"):
            SpecWriter(path).run()

    def test_two_blanks_are_asked_again(self, path: Path, piped: Callable[[str], None]) -> None:
        piped("\n\n" + "\n".join(ANSWERS))
        assert SpecWriter(path).run().what_it_does == ANSWERS[0]

    def test_the_third_blank_is_one_error(
        self, path: Path, piped: Callable[[str], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        piped("\n \n\t\n" + "\n".join(ANSWERS))
        with pytest.raises(SpecError, match=r"missing answer: What does this do\?.*no terminal"):
            SpecWriter(path).run()
        assert capsys.readouterr().out.count("missing answer") == 2

    def test_a_terminal_is_asked_again_and_again(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setattr(sys, "stdin", Terminal("\n" * 10 + "\n".join(ANSWERS)))
        assert SpecWriter(path).run().what_it_does == ANSWERS[0]

    def test_a_process_without_one_is_told_so(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", None)
        with pytest.raises(SpecError, match="standard input cannot be read"):
            SpecWriter(path).run()

    def test_a_closed_one_is_told_so(self, path: Path, piped: Callable[[str], None]) -> None:
        piped("")
        sys.stdin.close()
        with pytest.raises(SpecError, match="standard input cannot be read"):
            SpecWriter(path).run()

    def test_bytes_that_are_not_text_are_told_so(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="utf-8"))
        with pytest.raises(SpecError, match="standard input cannot be read"):
            SpecWriter(path).run()

    def test_it_is_known_even_when_somebody_replaces_input(
        self, path: Path, piped: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        piped("\n\n\n\n")
        monkeypatch.setattr(builtins, "input", lambda _: "")
        with pytest.raises(SpecError, match="missing answer"):
            SpecWriter(path).run()


class TestAsk:
    def test_an_answer_may_stand_in_for_the_end(self) -> None:
        assert ask("Which?", answering(), [].append, at_end="none") == "none"

    def test_any_fault_is_told_and_asked_again(self) -> None:
        lines: list[str] = []
        asked = ask("Yes?", answering("no", "yes"), lines.append, fault=lambda a: None if a == "yes" else "not yes")
        assert (asked, lines) == ("yes", ["Yes?", "not yes: Yes?"])


class TestKeeping:
    def test_what_was_stored_comes_back_equal(self, path: Path) -> None:
        result = SpecWriter(path, answering(*ANSWERS), [].append).run()
        assert SpecWriter(path).load(result.session_id) == result

    def test_an_unknown_session_has_no_spec(self, path: Path) -> None:
        SpecWriter(path, answering(*ANSWERS), [].append).run()
        assert SpecWriter(path).load("nobody") is None

    def test_a_new_file_has_no_spec(self, path: Path) -> None:
        assert SpecWriter(path).load("nobody") is None

    def test_a_signed_ledger_is_written_with_its_key_and_read_without(self, path: Path) -> None:
        signer = LocalSigner.generate("test")
        result = SpecWriter(path, answering(*ANSWERS), [].append, signer=signer).run()
        assert SpecWriter(path).load(result.session_id) == result

    def test_two_runs_are_two_sessions(self, path: Path) -> None:
        first, second = (SpecWriter(path, answering(*ANSWERS), [].append).run() for _ in range(2))
        assert first.session_id != second.session_id
        assert [SpecWriter(path).load(result.session_id) for result in (first, second)] == [first, second]

    def test_it_can_be_read_with_sql(self, path: Path) -> None:
        result = SpecWriter(path, answering(*ANSWERS), [].append).run()
        with sqlite3.connect(path) as database:
            found = database.execute(
                "SELECT what_it_does, what_it_does_not, done_looks_like FROM spec WHERE session_id=?",
                (result.session_id,),
            ).fetchall()
        database.close()
        assert found == [tuple(ANSWERS)]

    @pytest.mark.parametrize("text", ["'; DROP TABLE spec; --", "ünï 日本 👍", 'a "quoted" \\ line', "a\nb\r\n\tc"])
    def test_any_text_comes_back_as_it_was(self, path: Path, text: str) -> None:
        result = SpecWriter(path, answering(text, text, text), [].append).run()
        assert result.what_it_does == text
        assert SpecWriter(path).load(result.session_id) == result

    def test_a_spec_stored_through_the_ledger_is_found(self, path: Path) -> None:
        result = SpecResult(*ANSWERS, session_id="by hand")
        ledger = Ledger(path)
        ledger.write_spec(result)
        ledger.close()
        assert SpecWriter(path).load("by hand") == result
