"""The frame as a value: its hash, its diff, its criteria."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen import canonical
from donewhen.balance import Amounts, Balance
from donewhen.entry import LedgerRow
from donewhen.frame import Criterion, DiffResult, HeldCall, ReviewFrame, judge_criteria, make_diff
from donewhen.spec_writer import SpecResult
from donewhen.texts import hash_input

AT = "2026-01-02T03:04:05+00:00"
PROMISE = SpecResult("Audits a page.", "Changes it.", "A report.", "s")
CALL = HeldCall(turn=1, call_id="c", name="pay", args_hash="ab", arguments="{}")


def row(kind: str = "write", *, turn: int = 1, origin: str | None = None, **fields: Any) -> LedgerRow:
    plain = {"input_hash": "00", "token_delta": 10, "execution_time_ms": 1, "pass_fail": True, "breach_reason": None}
    first = {"id": 1, "session_id": "s", "turn_count": turn, "state_origin": origin or kind, "created_at": AT}
    return LedgerRow(**{**first, **plain, **fields}, kind=kind)


def checked(name: str, outcome: str = "met", *, kind: str = "regex", turn: int = 1, output: str = "out") -> LedgerRow:
    data = {"name": name, "check": kind, "outcome": outcome}
    return row("check", turn=turn, data=data, input_hash=hash_input(output))


def frame(**changes: Any) -> ReviewFrame:
    evidence = (row(),)
    plain = ReviewFrame("s", PROMISE, "A report.", make_diff(evidence, None), evidence, (), AT)
    return dataclasses.replace(plain, **changes)


def judged(rows: list[LedgerRow], agreed: list[dict[str, Any]], output: str | None = "out") -> list[Criterion]:
    return list(judge_criteria(rows, agreed, output, lambda _row, _label: "because"))


# -- the hash --------------------------------------------------------------------------------------------------------


def test_the_frame_hash_is_64_hex_digits_and_the_same_every_time() -> None:
    assert frame().frame_hash == frame().frame_hash
    assert len(bytes.fromhex(frame().frame_hash)) == 32


@pytest.mark.parametrize(
    "change",
    [
        {"session_id": "t"},
        {"original_promise": SpecResult("Audits a page.", "Changes it.", "A report.", "t")},
        {"acceptance_criteria": "A report"},
        {"diff": DiffResult("00", "write", 1, 11, False)},
        {"evidence": (row(), row())},
        {"evidence": (row(turn=2),)},
        {"unresolved_assumptions": ("One.",)},
        {"created_at": "2026-01-02T03:04:06+00:00"},
        {"spec_hash": "ab"},
        {"output": ""},
        {"criteria": (Criterion(name="a", kind="regex", outcome="met"),)},
        {"outcome": "done"},
        {"reason": "Because."},
        {"held_calls": (CALL,)},
        {"unsigned": False},
        {"spend": Balance("s", Amounts(1, 2, None, 0))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_thing_that_is_shown_is_in_the_hash(change: dict[str, Any]) -> None:
    assert frame(**change).frame_hash != frame().frame_hash


def test_every_field_but_the_state_is_in_the_hash() -> None:
    unhashed = [part.name for part in dataclasses.fields(ReviewFrame) if not part.compare]
    assert unhashed == ["state"]
    assert frame(state="running").frame_hash == frame(state="interrupted").frame_hash


def test_a_missing_output_and_an_empty_one_are_different_frames() -> None:
    assert frame(output=None).frame_hash != frame(output="").frame_hash


def test_numbers_that_a_row_could_not_hold_can_be_hashed() -> None:
    huge = DiffResult("00", "write", 1, 2 * canonical.MAX_INT, False)
    assert frame(diff=huge).frame_hash != frame().frame_hash


def test_a_lone_surrogate_can_be_hashed() -> None:
    assert frame(output="\ud800").frame_hash != frame(output="\\ud800").frame_hash


# Texts that would run together where fields are joined with newlines, commas or nothing.
PIECES = st.text(alphabet=st.sampled_from(["a", "\n", ",", '"', "\\", ":", "\0", "]", "\ud800"]), max_size=3)


@given(*[st.tuples(PIECES, PIECES, PIECES, PIECES, st.lists(PIECES, max_size=3).map(tuple), st.none() | PIECES)] * 2)
def test_two_frames_share_a_hash_only_where_they_are_equal(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    frames = [
        frame(original_promise=SpecResult(a, b, c, "s"), acceptance_criteria=d, unresolved_assumptions=e, output=f)
        for a, b, c, d, e, f in (one, other)
    ]
    assert (frames[0].frame_hash == frames[1].frame_hash) is (frames[0] == frames[1]) is (one == other)


@given(PIECES, PIECES)
def test_moving_a_boundary_between_two_fields_changes_the_hash(left: str, right: str) -> None:
    joined = frame(unresolved_assumptions=(f"{left}\n{right}",))
    assert joined.frame_hash != frame(unresolved_assumptions=(left, right)).frame_hash
    moved = frame(acceptance_criteria=left + "\n", reason=right)
    assert moved.frame_hash != frame(acceptance_criteria=left, reason="\n" + right).frame_hash


# -- the diff --------------------------------------------------------------------------------------------------------


def test_rows_written_by_hand_count_as_turns_unless_the_breaker_wrote_them() -> None:
    rows = [row(origin="llm"), row(origin="llm", turn=2), row(origin="circuit_breaker", turn=3, token_delta=0)]
    assert make_diff(rows, None) == DiffResult("00", "circuit_breaker", 2, 20, False)


def test_of_a_session_that_donewhen_ran_only_replies_are_turns() -> None:
    rows = [row("abandoned", input_hash="empty"), row("llm", input_hash="task"), row("tool"), row("check")]
    diff = make_diff(rows, "text")
    assert (diff.first_input, diff.final_output, diff.turns_completed) == ("task", "text", 1)


def test_the_first_input_is_the_first_rows_where_no_row_had_one() -> None:
    assert make_diff([row("abandoned", input_hash="empty")], None).first_input == "empty"


def test_an_empty_output_is_an_output() -> None:
    assert make_diff([row("llm")], "").final_output == ""


@pytest.mark.parametrize(
    ("rows", "breached"),
    [
        ([row()], False),
        ([row(pass_fail=False)], True),
        ([row(breach_reason="turn_ceiling")], True),
        ([row("error", pass_fail=False)], False),
        ([row("circuit_breaker", pass_fail=False, breach_reason="turn_ceiling")], True),
    ],
)
def test_a_reason_breaches_and_so_does_a_failed_row_written_by_hand(rows: list[LedgerRow], breached: bool) -> None:
    assert make_diff(rows, None).breached is breached


# -- criteria --------------------------------------------------------------------------------------------------------

REGEX = {"check": "regex", "name": "has a title", "pattern": "^# "}
UNNAMED = {"check": "regex", "pattern": "^# "}
HUMAN = {"check": "human", "criterion": "The tone is friendly."}


def test_a_check_that_was_not_run_says_so_and_a_person_s_waits() -> None:
    found = judged([], [REGEX, UNNAMED, HUMAN, {"name": "mine"}])
    assert [(one.name, one.kind, one.outcome) for one in found] == [
        ("has a title", "regex", "not_run"),
        ("regex: ^# ", "regex", "not_run"),
        ("The tone is friendly.", "human", "pending"),
        ("mine", "call", "not_run"),
    ]


def test_an_unnamed_check_whose_argument_is_no_text_is_named_by_it_as_json() -> None:
    [found] = judged([], [{"check": "shell", "command": ["pytest", "-q"]}])
    assert found.name == 'shell: ["pytest", "-q"]'


def test_the_newest_turn_s_checks_count_in_the_order_of_the_spec() -> None:
    rows = [checked("a", "not_met"), checked("b"), checked("a", turn=2), checked("b", "error", turn=2)]
    found = judged(rows, [UNNAMED, UNNAMED])
    assert [(one.name, one.outcome, one.detail) for one in found] == [
        ("a", "met", "because"),
        ("b", "error", "because"),
    ]


def test_a_check_that_judged_another_output_was_not_run_on_this_one() -> None:
    [found] = judged([checked("a", output="older")], [UNNAMED])
    assert found.outcome == "not_run"
    assert found.detail == "met by the output of turn 1, which is not the one that waits"


def test_while_no_output_waits_the_newest_outcome_stands() -> None:
    [found] = judged([checked("a", "not_met", output="older")], [UNNAMED], None)
    assert found.outcome == "not_met"


def test_a_person_s_criterion_is_whole_whatever_the_row_calls_it() -> None:
    criterion = {"check": "human", "criterion": "Line one\nline two"}
    [found] = judged([checked("Line one line two", "pending", kind="human", output="older")], [criterion])
    assert found == Criterion(name="Line one\nline two", kind="human", outcome="pending")


def test_checks_that_do_not_follow_the_spec_are_found_by_name_and_the_rest_follow() -> None:
    rows = [checked("extra", kind="call"), checked("has a title", "not_met")]
    found = judged(rows, [REGEX, HUMAN])
    assert [(one.name, one.outcome) for one in found] == [
        ("has a title", "not_met"),
        ("The tone is friendly.", "pending"),
        ("extra", "met"),
    ]
