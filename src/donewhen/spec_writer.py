"""The promise, in three answers, before anything runs.

`SpecWriter` asks until every question has an answer, stores the answers in the ledger's file, and hands them back as
a value that nobody can change.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from donewhen.errors import SpecError
from donewhen.ledger import Ledger

if TYPE_CHECKING:
    from donewhen.notes import Signer

QUESTIONS: Mapping[str, str] = {
    "what_it_does": "What does this do?",
    "what_it_does_not": "What does this NOT do?",
    "done_looks_like": "What does done look like in one sentence?",
}
"""What is asked, by the answer's name, in the order of asking."""

MOST_REFUSED_ANSWERS = 3
"""Where nobody sits at a terminal, so many bad answers to one question end the asking: a pipe learns nothing."""

_PROMPT = "> "
_STANDARD_INPUT = input


@dataclass(frozen=True, slots=True)
class SpecResult:
    """The stored promise."""

    what_it_does: str
    what_it_does_not: str
    done_looks_like: str
    session_id: str


class SpecWriter:
    """Ask for the promise and store it."""

    def __init__(
        self,
        db_path: str | os.PathLike[str] = "spec.db",
        input_fn: Callable[[str], str] = input,
        output_fn: Callable[[str], object] = print,
        *,
        signer: Signer | None = None,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """Say where to store and how to ask. The file is made here, where there is none.

        Args:
            db_path: the ledger's file.
            input_fn: takes a prompt, returns an answer.
            output_fn: takes a line for the person who answers.
            signer: signs the ledger, where it is a signed one. Loading needs none.
            new_id: makes the session's id.

        Raises:
            LedgerError: the file cannot be made, or is not a ledger.
        """
        self.db_path = db_path
        self.input_fn = input_fn
        self.output_fn = output_fn
        self._signer = signer
        self._new_id = new_id
        if os.fspath(db_path) != ":memory:":  # which `run` refuses
            # A file that holds something is only looked at, so that whoever loads needs no key and no leave to write.
            Ledger(db_path, signer=signer, read_only=_holds_something(db_path)).close()

    def run(self) -> SpecResult:
        """Ask the three questions, store the answers, and return them.

        A blank answer is asked for again. Nothing is stored unless all three are given.

        Raises:
            SpecError: the input ended or cannot be read, an answer cannot be stored as text, or standard input is
                no terminal and gave three blank answers to one question.
            LedgerError: the file cannot be read or written, or is not a ledger.
        """
        with Ledger(self.db_path, signer=self._signer) as ledger:  # first, so that no answer is given in vain
            answers = ask_promise(self.input_fn, self.output_fn)
            result = SpecResult(**answers, session_id=self._new_id())
            ledger.write_spec(result)
        return result

    def load(self, session_id: str) -> SpecResult | None:
        """Return the promise of a session, or None where there is none.

        Raises:
            LedgerError: the file cannot be read, or is not a ledger.
        """
        with Ledger(self.db_path, read_only=True) as ledger:
            row = ledger.find_spec(session_id)
        if row is None:
            return None
        return SpecResult(**{name: row.data[name] for name in QUESTIONS}, session_id=session_id)


def ask_promise(input_fn: Callable[[str], str], output_fn: Callable[[str], object]) -> dict[str, str]:
    """Ask the three questions and return the answers, stripped, by their names.

    Raises:
        SpecError: as `ask` says.
    """
    return {name: ask(question, input_fn, output_fn, field=name) for name, question in QUESTIONS.items()}


def is_blank(text: str) -> bool:
    """Tell whether a text says nothing: only white space, and characters that nobody can see."""
    return not any(character.isprintable() and not character.isspace() for character in text)


def text_fault(text: str) -> str | None:
    """Return why a text cannot be stored, or None if it can."""
    if "\0" in text:
        return "the text has a NUL character in it"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "the text has bytes in it that are not UTF-8"
    return None


def missing_answer(answer: str) -> str | None:
    """Return "missing answer" for a blank one, else None."""
    return "missing answer" if is_blank(answer) else None


def ask(
    question: str,
    input_fn: Callable[[str], str],
    output_fn: Callable[[str], object],
    *,
    field: str | None = None,
    fault: Callable[[str], str | None] = missing_answer,
    at_end: str | None = None,
) -> str:
    """Ask until there is a good answer, and return it stripped.

    Args:
        question: what is shown, once by itself and once more with each refusal.
        input_fn: takes a prompt, returns an answer.
        output_fn: takes a line for the person who answers.
        field: the answer's name, for the error.
        fault: why an answer is refused, in a few words; None where it is good.
        at_end: the answer where the input has ended. None: that is an error.

    Raises:
        SpecError: the input ended or cannot be read, the answer cannot be stored as text, or standard input is no
            terminal and gave three answers that were refused.
    """
    output_fn(question)
    refused = 0
    while True:
        answer = _read(question, input_fn, field, at_end)
        problem = fault(answer)
        if problem is None:
            return answer
        refused += 1
        if refused == MOST_REFUSED_ANSWERS and _is_piped(input_fn):
            raise SpecError(
                f"{problem}: {question} Standard input is no terminal, so it is not asked again", field=field
            )
        output_fn(f"{problem}: {question}")


def _read(question: str, input_fn: Callable[[str], str], field: str | None, at_end: str | None) -> str:
    try:
        answer = cast("object", input_fn(_PROMPT))
    except (EOFError, StopIteration) as end:
        if at_end is not None:
            return at_end
        raise SpecError(f"the input ended before this was answered: {question}", field=field) from end
    except (OSError, RuntimeError, ValueError) as failure:
        # Python's own ways to say that standard input is closed, lost, or not text. From another function they are
        # that function's affair.
        if input_fn is not _STANDARD_INPUT:
            raise
        raise SpecError(f"standard input cannot be read ({failure}): {question}", field=field) from failure
    if not isinstance(answer, str):
        raise SpecError(f"an answer must be text: {question}", field=field, value=answer)
    problem = text_fault(answer)
    if problem is not None:
        raise SpecError(f"{problem}: {question}", field=field, value=answer)
    return answer.strip()


def _is_piped(input_fn: Callable[[str], str]) -> bool:
    return input_fn is _STANDARD_INPUT and not sys.stdin.isatty()


def _holds_something(path: str | os.PathLike[str]) -> bool:
    # An empty file is what `tempfile` hands out: there is nothing in it to look at.
    return os.path.exists(path) and os.path.getsize(path) > 0
