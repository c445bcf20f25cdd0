"""The anthropic SDK's own loop: each of its calls is a turn, and no tool runs that may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from anthropic import beta_async_tool, beta_tool
from guarded.kit import Desk, a_desk

from donewhen.errors import CircuitBreakerError, NotGovernedError
from donewhen.testing import Answer, Fault

WAYS = ("anthropic", "async anthropic")


@pytest.fixture(params=WAYS)
def desk(request: pytest.FixtureRequest, tmp_store: Path) -> Any:
    with a_desk(request.param, tmp_store) as opened:
        yield opened


def a_tool(desk: Desk, seen: list[int]) -> Any:
    def look(x: int = 0) -> str:
        """Look at a number."""
        seen.append(x)
        return f"seen {x}"

    async def alook(x: int = 0) -> str:
        """Look at a number."""
        return look(x)

    return beta_async_tool(alook, name="look") if desk.is_async else beta_tool(look)


def runner(desk: Desk, tool: Any, **more: Any) -> Any:
    arguments = desk.arguments("what do you see?", 200)
    return desk.client.beta.messages.tool_runner(**arguments, tools=[tool], **more)


def run(desk: Desk, made: Any) -> str:
    return desk.text_of(desk.run(made.until_done()))


@pytest.mark.parametrize("streams", [False, True])
def test_each_of_its_calls_is_a_turn_settled_to_the_token(desk: Desk, streams: bool) -> None:
    seen: list[int] = []
    desk.provider.script(
        Answer("let me look", tool_calls=[("look", {"x": 1}), ("look", {"x": 2})], thinking="hm"),
        Fault(529),
        Answer("again", tool_calls=[("look", {"x": 3})], cache_read_tokens=4),
        Answer("three numbers"),
    )
    assert run(desk, runner(desk, a_tool(desk, seen), stream=streams)) == "three numbers"
    assert seen == [1, 2, 3]
    assert desk.balance.spent.turns == 3
    assert [len(row.data.get("tools", ())) for row in desk.rows("llm")] == [2, 1, 0]
    desk.assert_books_agree()


def test_a_ceiling_stops_it_before_another_call_or_another_tool(desk: Desk) -> None:
    seen: list[int] = []
    desk.ledger.raise_ceilings(desk.session.session_id, {"turns": 2}, why="few", who="me")
    desk.provider.script(*[Answer("look", tool_calls=[("look", {"x": at})]) for at in range(3)])
    with pytest.raises(CircuitBreakerError, match="turn_ceiling"):
        run(desk, runner(desk, a_tool(desk, seen)))
    assert (seen, len(desk.provider.requests)) == ([0, 1], 2)


def test_a_reply_that_asks_for_too_many_tools_runs_none(desk: Desk) -> None:
    seen: list[int] = []
    desk.ledger.raise_ceilings(desk.session.session_id, {"tool_calls": 1}, why="few", who="me")
    desk.provider.script(Answer("look", tool_calls=[("look", {"x": 1}), ("look", {"x": 2})]))
    with pytest.raises(CircuitBreakerError, match="tool_call_ceiling"):
        run(desk, runner(desk, a_tool(desk, seen), stream=True))
    assert seen == []
    desk.assert_books_agree()


def test_it_runs_no_tool_that_waits_for_a_person_and_none_before_its_reply_is_written(desk: Desk) -> None:
    tool = a_tool(desk, [])
    with pytest.raises(NotGovernedError, match="run_tools_eagerly runs a tool before"):
        runner(desk, tool, stream=True, run_tools_eagerly=True)
    desk.session.held_tools = frozenset({"look"})
    with pytest.raises(NotGovernedError, match="'look', which is held"):
        runner(desk, tool)
    assert desk.provider.requests == []
