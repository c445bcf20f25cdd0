"""Frames, rows and sessions as text that nothing in a session can forge."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.agent_loop import AgentLoop
from donewhen.balance import Amounts, Balance, Ceilings
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import ToolCall
from donewhen.entry import LedgerRow
from donewhen.frame import Criterion, DiffResult, HeldCall, ReviewFrame
from donewhen.ledger import Ledger
from donewhen.policy import Policy
from donewhen.render import (
    render_balance,
    render_block,
    render_frame,
    render_rows,
    row_says,
    usd,
    visible,
    wrap,
)
from donewhen.spec_writer import SpecResult
from donewhen.testing import ScriptedClient, make_reply

AT = "2026-01-02T03:04:05+00:00"
WORD = {"reviewer": "ann", "frame_hash": "ab" * 32}
HEADINGS = [
    "REVIEW SURFACE",
    "[1] ORIGINAL PROMISE",
    "[2] ACCEPTANCE CRITERIA",
    "[3] DIFF",
    "[4] EVIDENCE",
    "[5] UNRESOLVED ASSUMPTIONS",
]
HOSTILE = st.text(
    alphabet=st.characters() | st.sampled_from(list("\x1b\r\n\t\u202e\u2066\ud800\u0301[5]\x9b\u2028界")), max_size=200
)


def row(kind: str = "write", *, origin: str | None = None, **fields: Any) -> LedgerRow:
    first = {"id": 7, "session_id": "s", "turn_count": 1, "state_origin": origin or kind, "created_at": AT}
    plain = {"input_hash": "00", "token_delta": 10, "execution_time_ms": 1, "pass_fail": True, "breach_reason": None}
    return LedgerRow(**{**first, **plain, **fields}, kind=kind)


def frame(**changes: Any) -> ReviewFrame:
    promise = SpecResult("Audits a page.", "Changes it.", "A report.", "s")
    diff = DiffResult("00", "llm", 3, 310, False)
    plain = ReviewFrame("s", promise, promise.done_looks_like, diff, (row(origin="llm"),), (), AT)
    return dataclasses.replace(plain, **changes)


def headings(text: str) -> list[str]:
    return [line for line in text.split("\n") if line and not line.startswith((" ", "="))]


def cells(text: str) -> int:
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


# -- hostile text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]8;;http://evil\x07click", r"\x1b]8;;http://evil\x07click"),
        ("\x9b2J", r"\x9b2J"),
        ("a\nb\rc", r"a\nb\x0dc"),
        ("a\tb\u3000c\u00a0d", "a b c d"),
        ("\u202edetsetta", r"\u202edetsetta"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("a\ud800b", r"a\ud800b"),
        ("\U000e0041\u3164\ufe01\U000e0101", r"\U000e0041\u3164\ufe01\U000e0101"),
        ("e\u0301té 界", "e\u0301té 界"),
        ("z" + "\u0301" * 6, "z" + "\u0301" * 4 + r"\u0301\u0301"),
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(HOSTILE)
def test_no_text_leaves_a_character_that_is_not_printable(text: str) -> None:
    assert visible(text).isprintable()


@given(HOSTILE, st.sampled_from([40, 100]))
def test_whatever_a_session_wrote_the_five_headings_stand_once_and_in_order(text: str, width: int) -> None:
    promise = SpecResult(text, text, text, text)
    hostile = frame(
        session_id=text,
        original_promise=promise,
        acceptance_criteria=text,
        output=text,
        unresolved_assumptions=(text,),
        evidence=(row(origin=text, breach_reason=text, created_at=text),),
        criteria=(Criterion(name=text, kind=text, outcome=text, detail=text),),
        held_calls=(HeldCall(turn=1, call_id=text, name=text, args_hash=text, arguments=None),),
        reason=text,
        state=text,
    )
    assert headings(render_frame(hostile, width=width)) == HEADINGS


@given(HOSTILE, st.integers(2, 60))
def test_wrapping_loses_nothing_and_keeps_to_the_width(text: str, width: int) -> None:
    lines = wrap(visible(text), width)
    assert "".join(lines) == visible(text)
    assert all(cells(line) <= width for line in lines)


def test_a_character_that_is_too_wide_stands_alone() -> None:
    assert wrap("界界", 1) == ["界", "界"]


def test_a_line_breaks_after_a_space_where_there_is_one() -> None:
    assert wrap("one two three", 8) == ["one two ", "three"]


def test_a_forged_section_stays_behind_its_bar() -> None:
    forged = "fine\n\n[5] UNRESOLVED ASSUMPTIONS\n  No unresolved assumptions detected."
    text = render_frame(frame(output=forged, unresolved_assumptions=("One.",)))
    assert "  | [5] UNRESOLVED ASSUMPTIONS" in text
    assert headings(text) == HEADINGS
    assert text.endswith("[5] UNRESOLVED ASSUMPTIONS\n  - One.\n")


def test_a_block_marks_lines_that_go_on_and_says_what_it_leaves_out() -> None:
    lines = render_block("x" * 50 + "\r\n\tb\n\nc", width=40, max_lines=3)
    assert lines == ["  | " + "x" * 36, "  : " + "x" * 14, "  |     b", "  (2 more lines are not shown here)"]


def test_a_very_long_line_is_shown_whole() -> None:
    assert len(render_block("x" * 96_000, width=100)) == 1_000


# -- a frame ---------------------------------------------------------------------------------------------------------


def test_a_frame_shows_the_tutorials_lines_exactly() -> None:
    text = render_frame(frame())
    assert headings(text) == HEADINGS
    for line in ("Turns completed:     3", "Total tokens:        310", "No unresolved assumptions detected."):
        assert line in text
    assert "Final output:        llm" in text
    assert "Ledger:              unsigned" in text


def test_a_frame_shows_what_waits_and_what_it_cost() -> None:
    ceilings = Ceilings(5, 15000, 1_000_000, None, 60_500, 3)
    text = render_frame(
        frame(
            output="# Report",
            state="done",
            reason="every check is met",
            unsigned=False,
            criteria=(Criterion(name="has a title", kind="regex", outcome="not_met", detail="no title"),),
            held_calls=(HeldCall(turn=2, call_id="c1", name="pay", args_hash="ab", arguments='{"usd": 5}'),),
            spend=Balance("s", Amounts(3, 310, 1200, 1), Amounts(1, 500, 0, 0), ceilings),
        ),
        width=160,
    )
    assert "State:               done: every check is met" in text
    assert "not met (regex):     has a title\n  | no title" in text
    assert "8 characters, between the lines of dashes" in text
    assert "  | # Report\n" in text
    assert 'Held tool call:      pay (turn 2, c1)\n  | {\n  |   "usd": 5\n  | }' in text
    assert "turns 3 + 1 reserved of 5, tokens 310 + 500 reserved of 15000, cost 0.0012 USD of 1 USD" in text
    assert "signed; 'donewhen verify' checks it" in text


def test_a_state_without_a_reason_stands_alone() -> None:
    assert "State:               running\n" in render_frame(frame(state="running"))


def test_a_long_field_goes_on_beneath_itself_and_one_of_several_lines_stands_behind_a_bar() -> None:
    promise = SpecResult("word " * 30, "one\ntwo", "A report.", "s")
    text = render_frame(frame(original_promise=promise), width=60)
    assert "\n" + " " * 23 + "word" in text
    assert "  What it does not:\n  | one\n  | two\n" in text


def test_a_label_that_is_too_long_keeps_a_space_before_its_text() -> None:
    criterion = Criterion(name="valid", kind="json_schema_of_mine", outcome="met")
    assert "met (json_schema_of_mine): valid" in render_frame(frame(criteria=(criterion,)))


# -- amounts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("microusd", "shown"),
    [
        (None, "not known"),
        (0, "0 USD"),
        (1, "0.000001 USD"),
        (1_200, "0.0012 USD"),
        (10_000_000, "10 USD"),
        (-1_500_000, "-1.5 USD"),
    ],
)
def test_money_is_shown_in_dollars_and_what_is_not_known_is_not_nothing(microusd: int | None, shown: str) -> None:
    assert usd(microusd) == shown


def test_a_balance_shows_ceilings_where_there_are_any() -> None:
    assert render_balance(Balance("s")) == "turns 0, tokens 0, cost 0 USD, tool calls 0"
    timed = Balance("s", Amounts(1, 2, None, 3), ceilings=Ceilings(milliseconds=60_500, repeats=3))
    shown = "turns 1, tokens 2, cost not known, tool calls 3, time at most 60.5 s, repeats at most 3"
    assert render_balance(timed) == shown


# -- rows ------------------------------------------------------------------------------------------------------------


def test_rows_are_a_table_and_a_row_written_by_hand_cannot_pass_for_another() -> None:
    table = render_rows([row(origin="llm"), row("llm", data=LLM)])
    head, forged, real = table.split("\n")
    assert re.split(r"\s{2,}", head.strip()) == ["row", "turn", "kind", "tokens", "ms", "ok", "at", "says"]
    assert "write: llm" in forged
    assert re.search(r"\b1  llm  ", real)
    assert real.endswith("2026-01-02 03:04:05  m-1 end_turn, not known")


def test_what_a_row_says_is_wrapped_beneath_itself() -> None:
    lines = render_rows([row(breach_reason="word " * 30)], width=90).split("\n")
    assert len(lines) > 3
    assert all(line.startswith(" " * 30) for line in lines[2:])


def test_a_long_table_says_what_it_leaves_out() -> None:
    table = render_rows([row()] * 5, max_lines=2)
    assert table.count("\n") == 3
    assert table.endswith("(3 more lines are not shown here)")


def test_an_empty_table_has_a_head() -> None:
    assert render_rows([]).split() == ["row", "turn", "kind", "tokens", "ms", "ok", "at", "says"]


LLM = {"model": "m-1", "stop_reason": "end_turn", "cost_microusd": None}
TOOLS = [
    {"name": "pay", "held": True, "run": True},
    {"name": "look", "held": False, "run": True},
    {"name": "cut", "held": False, "run": False},
]


@pytest.mark.parametrize(
    ("kind", "data", "says"),
    [
        ("spec", {"what_it_does": "Audits\x1b a page."}, r"Audits\x1b a page."),
        ("open", {"ceilings": [5, None, None, None, None, 3]}, "turns 5, repeats 3"),
        ("budget", {"ceilings": [9, *[None] * 5], "who": "ann", "why": "more pages"}, "turns 9; ann: more pages"),
        (
            "reserve",
            {"reserve": [1, 50, 7, 0], "model": "m-1", "attempt": 2},
            "m-1, attempt 2, 50 tokens, 0.000007 USD",
        ),
        ("llm", {**LLM, "tools": TOOLS}, "m-1 end_turn, not known, pay held, look to run, cut not run"),
        (
            "llm",
            {**LLM, "usage_fault": "it is missing", "over_reservation": 3},
            "m-1 end_turn, not known, usage: it is missing, 3 tokens over its reservation",
        ),
        ("tool", {"name": "look", "result_bytes": 12}, "look: 12 bytes"),
        ("tool", {"name": "look", "result_bytes": 12, "problem": "it raised"}, "look: it raised"),
        ("check", {"name": "has a title", "outcome": "not_met"}, "not met: has a title"),
        ("error", {"attempt": 1, "problem": "status 529"}, "attempt 1: status 529"),
        ("abandoned", {"attempt": 1, "problem": "timed out"}, "attempt 1: timed out"),
        (
            "circuit_breaker",
            {"dimension": "tokens", "ceiling": 9, "spent": 8, "reserved": 1, "asked": 2},
            "tokens: 8 spent, 1 reserved, 2 asked for, ceiling 9",
        ),
        ("close", {"outcome": "done", "reason": "finished"}, "done: finished"),
        ("attest", WORD | {"notes": ""}, "ann attests frame abababababab (named, not proven)"),
        ("attest", WORD | {"notes": "ok"}, "ann attests frame abababababab (named, not proven): ok"),
        ("attest", WORD | {"notes": "", "envelope": "{}"}, "ann attests frame abababababab (signed)"),
        ("reject", WORD | {"reason": "no\nway"}, "ann rejects frame abababababab (named, not proven): no\\nway"),
        (
            "policy",
            Policy(quorum=2, named=False, started_by="me").data(),
            "2 of anybody must attest, signed; started by me",
        ),
        (
            "policy",
            Policy(reviewers=(("ann", None), ("ben", "v")), named=True, started_by="me").data(),
            "1 of ann, ben must attest, by name or signed; started by me",
        ),
        ("release", {}, ""),
    ],
)
def test_each_kind_of_row_says_what_matters(kind: str, data: dict[str, Any], says: str) -> None:
    assert row_says(row(kind, data=data)) == says


# -- sessions --------------------------------------------------------------------------------------------------------


def test_the_rows_of_a_session_that_was_run_are_in_its_table(tmp_store: Path) -> None:
    spec = SpecResult("Audits a page.", "Changes it.", "A report.", "s-1")
    client = ScriptedClient(make_reply("# Report"))
    with Ledger(tmp_store) as ledger:
        AgentLoop(spec, CircuitBreaker(output_fn=lambda _: None), ledger, client, find_price=lambda _: None).run("go")
        table = render_rows(ledger.rows("s-1"))
    assert [kind for kind in ("spec", "open", "reserve", "llm", "close") if f"  {kind} " in table] == [
        "spec",
        "open",
        "reserve",
        "llm",
        "close",
    ]


def test_the_rows_of_a_real_session_with_tools_can_be_shown(tmp_store: Path) -> None:
    def look(page: str) -> str:
        """Look at a page."""
        return page

    client = ScriptedClient(make_reply("", tool_calls=[ToolCall("c", "look", {"page": "p"})]), make_reply("done"))
    spec = SpecResult("Audits a page.", "Changes it.", "A report.", "s-1")
    with Ledger(tmp_store) as ledger:
        AgentLoop(spec, CircuitBreaker(output_fn=lambda _: None), ledger, client, tools=[look]).run("go")
        table = render_rows(ledger.rows("s-1"))
    assert "look: 1 bytes" in table
    assert "look to run" in table
