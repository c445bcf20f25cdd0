"""Tools in the loop: their order, their failures, their ceilings, and what the ledger says of them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from sessions import ASYNCHRONOUS, DRIVERS, Desk, calls_of, seeing

from donewhen.checks import Call, CheckResult, Human, Regex
from donewhen.drafts import hash_arguments
from donewhen.errors import SpecError, ToolError
from donewhen.ledger import Ledger
from donewhen.progress import read_progress
from donewhen.review_surface import ReviewSurface
from donewhen.testing import make_reply
from donewhen.texts import hash_input
from donewhen.tools import Tool, tool

SCHEMA = {"type": "object"}


@pytest.fixture(params=DRIVERS)
def desk(request, tmp_store) -> Any:
    with Ledger(tmp_store) as ledger:
        yield Desk(ledger, request.param)


def run_one(desk: Desk, handler: Any, arguments: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """Run a session that calls one tool once, and return what the model was told."""
    made = Tool("act", "", SCHEMA, handler, **options)
    result = desk.run(calls_of(("a", "act", arguments or {})), make_reply("done"), tools=[made])
    assert result.success
    (told,) = desk.results_told()
    return told


def test_results_of_parallel_calls_keep_their_order_in_one_message(desk) -> None:
    calls = [(f"id{n}", "look", {"x": n}) for n in range(5)]
    desk.run(calls_of(*calls), make_reply("done"), tools=[seeing([], "seen")])
    assert [block["tool_use_id"] for block in desk.results_told()] == ["id0", "id1", "id2", "id3", "id4"]
    assert all("is_error" not in block for block in desk.results_told())
    assert [row.data["call"] for row in desk.rows("tool")] == ["id0", "id1", "id2", "id3", "id4"]
    assert [tool["id"] for tool in desk.rows("llm")[0].data["tools"]] == ["id0", "id1", "id2", "id3", "id4"]


def test_slow_and_fast_tools_of_the_asynchronous_loop_keep_their_order(tmp_store) -> None:
    started: list[int] = []
    slow = asyncio.Event()

    async def look(x: int) -> int:
        started.append(x)
        if x == 0:
            await slow.wait()
        else:
            slow.set()
        return x

    with Ledger(tmp_store) as ledger:
        desk = Desk(ledger, ASYNCHRONOUS)
        desk.run(calls_of(("a", "look", {"x": 0}), ("b", "look", {"x": 1})), make_reply("done"), tools=[look])
        assert started == [0, 1]
        assert [block["content"] for block in desk.results_told()] == ["0", "1"]
        assert [row.data["call"] for row in desk.rows("tool")] == ["a", "b"]


def test_two_calls_with_one_id_get_their_own_results(desk) -> None:
    desk.run(calls_of(("a", "echo", {"x": 1}), ("a", "echo", {"x": 2})), make_reply("done"), tools=[echo])
    assert [block["content"] for block in desk.results_told()] == ["1", "2"]


def echo(x: int) -> int:
    return x


def test_a_tools_row_has_hashes_and_no_text(desk) -> None:
    run_one(desk, lambda **_: "private result", {"secret": "private argument"})
    (row,) = desk.rows("tool")
    assert row.data["result_hash"] == hash_input("private result")
    assert row.data["args_hash"] == row.input_hash == hash_arguments({"secret": "private argument"})
    assert (row.data["result_bytes"], row.data["is_error"], row.pass_fail) == (14, False, True)
    assert all("private" not in str(row) for row in desk.rows())


def test_a_tool_that_raises_is_an_error_for_the_model(desk) -> None:
    told = run_one(desk, lambda: {}["missing"])
    assert told["is_error"] is True
    assert "KeyError" in told["content"]
    assert desk.rows("tool")[0].data["problem"] == "KeyError"


def test_a_tool_that_hangs_is_an_error_after_its_time(desk) -> None:
    never = threading.Event()
    try:
        told = run_one(desk, lambda: never.wait(30), timeout_seconds=0.1)
    finally:
        never.set()
    assert (told["is_error"], told["content"]) == (True, "the tool timed out after 0.1 seconds")


def test_a_tool_that_returns_fifty_megabytes_is_an_error_with_both_sizes(desk) -> None:
    told = run_one(desk, lambda: "x" * 50_000_000)
    assert "50,000,000 bytes, more than the 100,000" in told["content"]
    assert desk.rows("tool")[0].data["problem"] == "result too large"


def test_a_result_that_is_not_json_is_an_error(desk) -> None:
    told = run_one(desk, lambda: object())
    assert "not JSON" in told["content"]
    assert desk.rows("tool")[0].data["problem"] == "result is not JSON"


def test_a_tool_that_does_not_exist_is_named_with_those_that_do(desk) -> None:
    desk.run(calls_of(("a", "fly", {})), make_reply("done"), tools=[echo])
    (told,) = desk.results_told()
    assert told == {
        "type": "tool_result",
        "tool_use_id": "a",
        "content": "there is no tool 'fly'; there are: echo",
        "is_error": True,
    }
    assert desk.rows("tool")[0].data["problem"] == "unknown tool"


@pytest.mark.parametrize("arguments", [{}, {"x": "no number"}, {"x": 1, "y": 2}])
def test_arguments_that_do_not_fit_are_an_error(desk, arguments) -> None:
    desk.run(calls_of(("a", "echo", arguments)), make_reply("done"), tools=[echo])
    assert "do not fit" in desk.results_told()[0]["content"]
    assert desk.rows("tool")[0].data["problem"] == "arguments do not fit"


@pytest.mark.parametrize(
    ("call_id", "name", "arguments"),
    [
        ("a\0b", "no\0such", {"nul": "\0"}),
        ("\ud800", "\udfff", {"\ud800": "\udfff"}),
        ("id", "x" * 100_000, {"n": 10**30, "f": 1e300}),
        ("", "", {"deep": [[[[[[[[[[]]]]]]]]]]}),
    ],
)
def test_a_model_that_sends_nonsense_does_not_stop_the_ledger(desk, call_id, name, arguments) -> None:
    result = desk.run(calls_of((call_id, name, arguments)), make_reply("done"), tools=[echo])
    assert (result.outcome, len(desk.rows("tool")), desk.results_told()[0]["is_error"]) == ("done", 1, True)


@pytest.mark.parametrize("text", ["\0", "\ud800", "a\0b" * 3])
def test_a_reply_of_odd_characters_does_not_stop_the_ledger(desk, text) -> None:
    reply = {**make_reply(text), "model": text, "id": text}
    assert desk.run(reply, keep="conversation").outcome == "done"
    assert desk.ledger.find_text(desk.rows("close")[0], "output") == text


def test_tools_are_offered_with_each_call(desk) -> None:
    desk.run(make_reply("done"), tools=[echo])
    assert [offered["name"] for offered in desk.calls[0]["tools"]] == ["echo"]


def test_two_tools_of_one_name_are_refused_when_the_loop_is_made(desk) -> None:
    with pytest.raises(ToolError, match="two tools are named 'echo'"):
        desk.make(tools=[echo, echo])


# -- ceilings -------------------------------------------------------------------------------------------------------


def test_no_call_of_a_reply_runs_that_would_cross_the_tool_ceiling(desk) -> None:
    seen: list[int] = []
    replies = [calls_of(("a", "look", {"x": 1})), calls_of(("b", "look", {"x": 2}), ("c", "look", {"x": 3}))]
    result = desk.run(*replies, tools=[seeing(seen)], limits={"tool_call_limit": 2})
    assert (result.breach_reason, result.turns, seen) == ("tool_call_ceiling", 2, [1])
    assert len(desk.calls) == 2
    assert [tool["run"] for tool in desk.rows("llm")[1].data["tools"]] == [False, False]
    assert desk.rows()[-1].after[-1].spent.tool_calls == 1
    assert "tool_call_ceiling" in desk.notices[0]


def test_the_tool_ceiling_itself_is_allowed(desk) -> None:
    seen: list[int] = []
    calls = calls_of(("a", "look", {"x": 1}), ("b", "look", {"x": 2}))
    assert desk.run(calls, make_reply("done"), tools=[seeing(seen)], limits={"tool_call_limit": 2}).success
    assert seen == [1, 2]


def test_a_tool_ceiling_of_zero_allows_none(desk) -> None:
    result = desk.run(calls_of(("a", "look", {})), tools=[seeing([])], limits={"tool_call_limit": 0})
    assert result.breach_reason == "tool_call_ceiling"


def test_the_same_call_again_and_again_is_no_progress(desk) -> None:
    seen: list[int] = []
    same = [calls_of((f"id{n}", "look", {"x": 1})) for n in range(9)]
    result = desk.run(*same, tools=[seeing(seen)], limits={"repeat_limit": 3})
    assert (result.outcome, result.breach_reason, result.turns) == ("breached", "no_progress", 3)
    assert seen == [1, 1]
    assert "3 in a row / limit 3" in desk.notices[0]


def test_fifteen_different_calls_are_not_a_repeat(desk) -> None:
    seen: list[int] = []
    different = [calls_of((f"id{n}", "look", {"x": n})) for n in range(15)]
    assert desk.run(*different, make_reply("done"), turns=20, tools=[seeing(seen)], limits={"repeat_limit": 2}).success
    assert seen == list(range(15))


def test_a_call_between_makes_it_no_repeat(desk) -> None:
    replies = [calls_of((f"id{n}", "look", {"x": n % 2})) for n in range(6)]
    assert desk.run(*replies, make_reply("done"), tools=[seeing([])], limits={"repeat_limit": 2}).success


def test_the_same_failing_check_again_and_again_is_no_progress(desk) -> None:
    replies = [make_reply(f"draft {n}") for n in range(9)]
    result = desk.run(*replies, checks=[Regex("DONE")], limits={"repeat_limit": 3})
    assert (result.outcome, result.breach_reason, len(desk.calls)) == ("unmet", "no_progress", 3)


def test_a_check_that_fails_beside_others_is_still_the_same_check(desk) -> None:
    replies = [make_reply("x"), make_reply("B"), make_reply("x"), make_reply("AB")]
    result = desk.run(*replies, checks=[Regex("A"), Regex("B")], limits={"repeat_limit": 3})
    assert (result.breach_reason, len(desk.calls)) == ("no_progress", 3)


def test_a_check_that_was_met_in_between_starts_anew(desk) -> None:
    replies = [make_reply("x"), make_reply("A"), make_reply("B"), make_reply("A"), make_reply("AB")]
    assert desk.run(*replies, checks=[Regex("A"), Regex("B")], limits={"repeat_limit": 3}).success


# -- checks ---------------------------------------------------------------------------------------------------------


def test_what_was_not_met_goes_back_to_the_model(desk) -> None:
    result = desk.run(make_reply("draft"), make_reply("DONE"), checks=[Regex("DONE", name="says done"), Human("nice?")])
    assert (result.success, result.turns, result.output) == (True, 2, "DONE")
    assert desk.last_messages()[-1]["content"].startswith("Not done yet. These checks are not met:\n- says done: ")
    outcomes = [(row.data["name"], row.data["outcome"], row.pass_fail) for row in desk.rows("check")]
    assert outcomes == [
        ("says done", "not_met", False),
        ("nice?", "pending", True),
        ("says done", "met", True),
        ("nice?", "pending", True),
    ]


def test_a_check_without_a_reason_is_told_as_not_met(desk) -> None:
    def judge(output: str) -> Any:
        return output == "DONE" or CheckResult("", "not_met")

    desk.run(make_reply("draft"), make_reply("DONE"), checks=[Call(judge, name="short")])
    assert desk.last_messages()[-1]["content"].endswith("- short: not met")


def test_a_check_that_is_broken_stops_the_session_and_is_not_the_models_problem(desk) -> None:
    def broken(_output: str) -> bool:
        raise OSError("disk gone")

    result = desk.run(make_reply("draft"), checks=[Call(broken, name="broken"), Regex("never")])
    assert (result.outcome, len(desk.calls), result.output) == ("failed", 1, "draft")
    assert "the check 'broken' could not be judged" in result.reason
    assert [row.data["outcome"] for row in desk.rows("check")] == ["error", "not_met"]


def test_success_on_the_last_allowed_turn_is_success(desk) -> None:
    assert desk.run(make_reply("DONE"), turns=1, tokens=2_000, checks=[Regex("DONE")]).success


def test_checks_that_are_not_met_on_the_last_allowed_turn_leave_the_session_unmet(desk) -> None:
    result = desk.run(make_reply("draft"), turns=1, checks=[Regex("DONE")])
    assert (result.outcome, result.breach_reason, result.turns, result.output) == ("unmet", "turn_ceiling", 2, "draft")
    assert desk.rows("close")[0].data["outcome"] == "unmet"


def test_a_session_that_went_on_after_its_checks_is_breached_and_not_unmet(desk) -> None:
    replies = [make_reply("draft"), make_reply("x", stop_reason="max_tokens")]
    result = desk.run(*replies, turns=2, checks=[Regex("DONE")])
    assert (result.outcome, result.output) == ("breached", "x")


def test_what_a_check_said_is_kept_outside_the_log(desk) -> None:
    def judge(output: str) -> Any:
        return output == "DONE" or f"found only {output}"

    desk.run(make_reply("a private draft"), make_reply("DONE"), checks=[Call(judge, name="judge")])
    first, second = desk.rows("check")
    assert desk.ledger.find_text(first, "detail") == "found only a private draft"
    assert desk.ledger.find_text(second, "detail") is None
    assert all("private" not in str(row) for row in desk.rows())


# -- held tools -----------------------------------------------------------------------------------------------------


def send_mail(seen: list[int]) -> Any:
    return tool(held=True, name="mail")(seeing(seen, "sent", name="mail"))


def held_desk(desk: Desk, seen: list[int], *script: Any, keep: str = "conversation") -> Any:
    """Run a session until it waits: one tool that runs, one that is held."""
    script = script or (calls_of(("a", "look", {"x": 1}), ("b", "mail", {"x": 2}), text="now"),)
    return desk.run(*script, tools=[seeing(seen), send_mail(seen)], keep=keep)


def resume(desk: Desk, seen: list[int], *script: Any, **options: Any) -> Any:
    return desk.resume(*script, tools=[seeing(seen), send_mail(seen)], keep="conversation", **options)


def attest(desk: Desk) -> None:
    ReviewSurface(desk.ledger.path, desk.ledger.path).attest("session-1", "alice", "the call is fine")


def test_a_held_tool_pauses_the_session_with_the_exact_call(desk) -> None:
    seen: list[int] = []
    result = held_desk(desk, seen)
    assert (result.outcome, result.success, result.output, seen) == ("held", False, "now", [1])
    assert [(call.id, call.name, call.arguments) for call in result.waits_for] == [("b", "mail", {"x": 2})]
    row = desk.rows("llm")[0]
    assert desk.ledger.find_text(row, "held") == '[{"arguments": {"x": 2}, "id": "b", "tool": "mail"}]'
    assert [(tool["held"], tool["run"]) for tool in row.data["tools"]] == [(False, True), (True, True)]
    progress = read_progress(desk.rows())
    assert progress is not None
    assert progress.state == "held"


def test_before_it_is_attested_a_held_call_stays_held(desk) -> None:
    seen: list[int] = []
    held_desk(desk, seen)
    for _ in range(2):
        result = resume(desk, seen)
        assert (result.outcome, [call.id for call in result.waits_for]) == ("held", ["b"])
    assert (seen, desk.calls) == ([1], [])


def test_after_it_is_attested_a_held_call_runs_once_and_the_session_goes_on(desk) -> None:
    seen: list[int] = []
    held_desk(desk, seen)
    attest(desk)
    result = resume(desk, seen, make_reply("done"))
    assert (result.success, seen) == (True, [1, 2])
    assert [(block["tool_use_id"], block["content"]) for block in desk.results_told()] == [("a", "ok"), ("b", "sent")]
    assert [row.data["call"] for row in desk.rows("tool")] == ["a", "b"]
    assert [row.turn_count for row in desk.rows("tool")] == [1, 1]


def test_a_held_call_whose_process_died_while_it_ran_waits_for_a_person_again(desk) -> None:
    """Nobody knows whether it acted, so it is not run a second time under the same word."""
    seen: list[int] = []
    held_desk(desk, seen)
    attest(desk)

    def dies(x: int) -> str:
        seen.append(x)
        raise KeyboardInterrupt

    deadly = tool(held=True, name="mail")(dies)
    with pytest.raises(KeyboardInterrupt):
        desk.resume(make_reply("done"), tools=[seeing(seen), deadly], keep="conversation")
    assert resume(desk, seen, make_reply("done")).outcome == "held"
    assert seen == [1, 2]
    attest(desk)
    assert resume(desk, seen, make_reply("done")).success
    assert seen == [1, 2, 2]


def test_an_attestation_of_an_earlier_call_is_none_of_a_later_one(desk) -> None:
    seen: list[int] = []
    held_desk(desk, seen)
    attest(desk)
    result = resume(desk, seen, calls_of(("c", "mail", {"x": 3})))
    assert (result.outcome, [call.id for call in result.waits_for], seen) == ("held", ["c"], [1, 2])
    assert resume(desk, seen).outcome == "held"


def test_a_held_call_alone_writes_no_tool_row(desk) -> None:
    seen: list[int] = []
    result = held_desk(desk, seen, calls_of(("b", "mail", {"x": 2})))
    assert (result.outcome, seen, desk.rows("tool")) == ("held", [], [])


def test_a_held_tool_needs_a_conversation_that_is_kept(desk) -> None:
    with pytest.raises(SpecError, match='needs keep = "conversation"'):
        held_desk(desk, [], keep="nothing")


def test_a_held_session_whose_terms_keep_nothing_needs_the_task_again_in_one_sentence(desk) -> None:
    seen: list[int] = []
    options = {"tools": [seeing(seen), send_mail(seen)], "terms": {}}
    result = desk.run(calls_of(("a", "look", {"x": 1}), ("b", "mail", {"x": 2})), **options)
    assert (result.outcome, desk.ledger.find_text(desk.rows("tool")[0], "result")) == ("held", None)
    attest(desk)
    with pytest.raises(SpecError, match="nothing was kept of the conversation, so resuming needs the task again"):
        desk.resume(**options)
    assert seen == [1]


def test_a_held_tool_may_be_named_by_the_terms(desk) -> None:
    seen: list[int] = []
    terms = {"held_tools": ["look"]}
    assert desk.run(calls_of(("a", "look", {})), tools=[seeing(seen)], terms=terms).outcome == "held"
    assert seen == []
