"""What a reply's stop reason leads to, for both drivers alike."""

from __future__ import annotations

from typing import Any

import pytest
from sessions import ASYNCHRONOUS, BLOCKING, DRIVERS, Desk, calls_of, seeing

from donewhen.agent_loop import AgentLoop
from donewhen.checks import Regex
from donewhen.ledger import Ledger
from donewhen.testing import make_reply

THINKING = {"type": "thinking", "thinking": "let me see", "signature": "c2lnbmF0dXJl", "kept": ["whole"]}
SEARCH = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "x"}}


@pytest.fixture(params=DRIVERS)
def desk(request, tmp_store) -> Any:
    with Ledger(tmp_store) as ledger:
        yield Desk(ledger, request.param)


def with_blocks(*blocks: dict[str, Any], **options: Any) -> dict[str, Any]:
    reply = make_reply("x", **options)
    return {**reply, "content": [*blocks, *reply["content"]]}


@pytest.mark.parametrize("reason", ["end_turn", "stop_sequence"])
def test_a_reply_that_finishes_ends_the_session_as_done(desk, reason) -> None:
    result = desk.run(make_reply("the report", stop_reason=reason))
    assert (result.success, result.outcome, result.turns, result.output) == (True, "done", 1, "the report")
    assert desk.kinds() == ["spec", "policy", "open", "reserve", "llm", "close"]
    assert desk.ledger.find_text(desk.rows("close")[0], "output") == "the report"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("refusal", "the model refused"),
        ("model_context_window_exceeded", "no longer fits"),
        ("brand_new_reason", "'brand_new_reason' is not known"),
        ("", "'' is not known"),
    ],
)
def test_a_reply_that_went_wrong_ends_the_session_as_failed(desk, reason, told) -> None:
    result = desk.run({**make_reply("half"), "stop_reason": reason})
    assert (result.success, result.outcome, result.output, result.breach_reason) == (False, "failed", "half", None)
    assert told in result.reason
    assert desk.kinds()[-2:] == ["llm", "close"]
    assert desk.rows("close")[0].data["outcome"] == "failed"


def test_a_stop_reason_that_is_no_text_fails_closed(desk) -> None:
    result = desk.run({**make_reply("half"), "stop_reason": None})
    assert (result.outcome, "None" in result.reason) == ("failed", True)


def test_tools_of_a_refusal_are_named_and_not_run(desk) -> None:
    seen: list[Any] = []
    result = desk.run(calls_of(("a", "look", {"x": 1}), stop_reason="refusal"), tools=[seeing(seen)])
    (row,) = desk.rows("llm")
    assert (result.outcome, seen, row.data["tools"][0]["run"]) == ("failed", [], False)
    assert row.after[-1].spent.tool_calls == 0


@pytest.mark.parametrize("reason", ["tool_use", "max_tokens"])
def test_a_reply_that_stopped_early_without_a_tool_call_is_answered_with_continue(desk, reason) -> None:
    desk.run(make_reply("first", stop_reason=reason), make_reply("second"))
    assert desk.last_messages()[1:] == [
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "continue"},
    ]


def test_an_empty_reply_that_stopped_early_is_not_echoed(desk) -> None:
    """Providers refuse an empty message."""
    desk.run(make_reply("", stop_reason="max_tokens"), make_reply("second"))
    assert [message["role"] for message in desk.last_messages()] == ["user", "user"]


def test_a_paused_turn_is_sent_again_as_it_is(desk) -> None:
    paused = with_blocks(SEARCH, stop_reason="pause_turn")
    desk.run(paused, make_reply("done"))
    assert desk.last_messages() == [
        {"role": "user", "content": "task"},
        {"role": "assistant", "content": [SEARCH, {"type": "text", "text": "x"}]},
    ]


def test_a_paused_turn_counts_as_a_turn(desk) -> None:
    result = desk.run(*[make_reply("x", stop_reason="pause_turn")] * 9, turns=3)
    assert (result.breach_reason, len(desk.calls)) == ("turn_ceiling", 3)


def test_thinking_is_echoed_untouched(desk) -> None:
    thinking = with_blocks(THINKING, stop_reason="max_tokens")
    desk.run(thinking, make_reply("done"))
    assert desk.last_messages()[1]["content"] == [THINKING, {"type": "text", "text": "x"}]


def test_thinking_beside_a_tool_call_is_echoed_untouched_and_first(desk) -> None:
    reply = calls_of(("a", "look", {"x": 1}))
    desk.run({**reply, "content": [THINKING, *reply["content"]]}, make_reply("done"), tools=[seeing([])])
    assert [block["type"] for block in desk.last_messages()[1]["content"]] == ["thinking", "tool_use"]
    assert desk.last_messages()[1]["content"][0] == THINKING


def test_a_tool_call_that_was_cut_off_never_runs(desk) -> None:
    seen: list[Any] = []
    cut = calls_of(("a", "look", {"x": 1}), ("b", "look", {}), stop_reason="max_tokens")
    result = desk.run(cut, make_reply("done"), tools=[seeing(seen)])
    assert (result.success, seen, desk.rows("tool")) == (True, [], [])
    told = desk.results_told()
    assert [(block["tool_use_id"], block["is_error"]) for block in told] == [("a", True), ("b", True)]
    assert "cut off" in told[0]["content"]
    assert [tool["run"] for tool in desk.rows("llm")[0].data["tools"]] == [False, False]


def test_tools_of_a_reply_that_says_it_finished_are_run(desk) -> None:
    seen: list[Any] = []
    desk.run(calls_of(("a", "look", {"x": 7}), stop_reason="end_turn"), make_reply("done"), tools=[seeing(seen)])
    assert seen == [7]


def test_the_result_counts_every_turn_and_token(desk) -> None:
    result = desk.run(*[make_reply("x", stop_reason="max_tokens")] * 2, make_reply("done"))
    assert (result.turns, result.total_tokens) == (3, 45)


# -- the last allowed turn ------------------------------------------------------------------------------------------


def notices(desk: Desk) -> list[int]:
    """Return the numbers of the calls whose newest message tells that it is the last turn."""
    return [n for n, call in enumerate(desk.calls, 1) if "last turn" in str(call["messages"][-1]["content"])]


def test_the_model_is_told_when_its_last_allowed_turn_has_come(desk) -> None:
    desk.run(*[make_reply("x", stop_reason="max_tokens")] * 9, turns=3, tokens=10_000)
    assert notices(desk) == [3]
    assert "9,970 tokens are left" in desk.last_messages()[-1]["content"]


def test_the_notice_stands_behind_the_results_of_tools(desk) -> None:
    desk.run(calls_of(("a", "look", {})), make_reply("done"), turns=2, tools=[seeing([])])
    assert [block["type"] for block in desk.last_messages()[-1]["content"]] == ["tool_result", "text"]
    assert notices(desk) == [2]


def test_the_notice_stands_behind_checks_that_are_not_met(desk) -> None:
    desk.run(make_reply("draft"), make_reply("DONE"), turns=2, checks=[Regex("DONE")])
    assert notices(desk) == [2]


def test_checks_that_are_not_met_after_a_reply_without_usage_end_the_session_as_failed(desk) -> None:
    result = desk.run({**make_reply("draft"), "usage": None}, checks=[Regex("DONE")])
    assert (result.outcome, len(desk.calls), "no usage" in result.reason) == ("failed", 1, True)


def test_checks_that_are_met_after_a_reply_without_usage_are_success(desk) -> None:
    assert desk.run({**make_reply("DONE"), "usage": None}, checks=[Regex("DONE")]).success


def test_the_notice_is_off_by_an_argument(desk) -> None:
    desk.run(*[make_reply("x", stop_reason="max_tokens")] * 9, turns=3, wrap_up_notice=False)
    assert notices(desk) == []


# -- usage ----------------------------------------------------------------------------------------------------------

BAD_USAGE = [
    None,
    {},
    {"input_tokens": 1},
    {"input_tokens": -1, "output_tokens": 5},
    {"input_tokens": 1.5, "output_tokens": 5},
    {"input_tokens": True, "output_tokens": 5},
    {"input_tokens": 10, "output_tokens": 0},
    {"input_tokens": 0, "output_tokens": 0},
    {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": -1},
]


@pytest.mark.parametrize("usage", BAD_USAGE)
def test_usage_that_cannot_be_believed_is_charged_whole_and_stops_a_session_that_would_go_on(desk, usage) -> None:
    result = desk.run({**make_reply("x", stop_reason="max_tokens"), "usage": usage})
    (reserve,) = desk.rows("reserve")
    assert (result.outcome, result.total_tokens) == ("failed", reserve.data["reserve"][1])
    assert "whole reservation was charged" in result.reason
    assert desk.rows("llm")[0].data["usage_fault"] in result.reason
    assert desk.rows("llm")[0].after[-1].reserved.tokens == 0


def test_tools_of_a_reply_without_usage_are_not_run(desk) -> None:
    seen: list[Any] = []
    result = desk.run({**calls_of(("a", "look", {})), "usage": None}, tools=[seeing(seen)])
    assert (result.outcome, seen) == ("failed", [])
    assert "no usage" in result.reason
    assert [tool["run"] for tool in desk.rows("llm")[0].data["tools"]] == [False]
    assert desk.kinds()[-2:] == ["llm", "close"]


def test_a_reply_that_used_more_than_was_reserved_is_charged_and_marked(desk) -> None:
    result = desk.run(make_reply("x", input_tokens=3_000, output_tokens=5_000), tokens=4_000)
    (row,) = desk.rows("llm")
    assert (result.success, result.total_tokens) == (True, 8_000)
    assert row.data["over_reservation"] == 8_000 - desk.rows("reserve")[0].data["reserve"][1]


# -- both drivers write the same ------------------------------------------------------------------------------------


def test_both_drivers_write_the_same_rows(tmp_path) -> None:
    written = []
    for driver in (BLOCKING, ASYNCHRONOUS):
        with Ledger(tmp_path / f"{driver}.db") as ledger:
            desk = Desk(ledger, driver)
            replies = [calls_of(("a", "look", {"x": 1}), ("b", "none", {})), make_reply("draft"), make_reply("DONE")]
            desk.run(*replies, tools=[seeing([])], checks=[Regex("DONE")], monotonic=lambda: 0.0)
            written.append([(r.kind, r.turn_count, r.input_hash, r.token_delta, r.after) for r in desk.rows()])
    assert written[0] == written[1]


@pytest.mark.parametrize("argument", ["max_tokens", "max_attempts"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "7"])
def test_an_argument_that_is_no_whole_number_is_refused(desk, argument, value) -> None:
    with pytest.raises(ValueError, match=f"{argument} is {value!r}"):
        desk.make(make_reply("x"), **{argument: value})


def test_the_loop_waits_with_the_real_clock_where_nobody_says_otherwise(desk) -> None:
    loop = desk.make(sleep=None)
    assert loop._sleep is None
    assert AgentLoop.__init__.__kwdefaults__["sleep"] is None
