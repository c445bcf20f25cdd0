"""The loop with the official SDKs, against a provider on loopback that speaks their wires."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from sessions import ASYNCHRONOUS, BLOCKING, SPEC, Desk, seeing

from donewhen.checks import Regex
from donewhen.ledger import Ledger
from donewhen.providers.openai import AsyncOpenAIClient, OpenAIClient
from donewhen.testing import Answer, Cut, FakeProvider, Fault

CLIENTS = ("anthropic", "async anthropic", "openai", "async openai")


class Wired(Desk):
    """A desk whose loops talk to a provider by one of the SDKs."""

    def __init__(self, ledger: Ledger, provider: FakeProvider, kind: str) -> None:
        super().__init__(ledger, ASYNCHRONOUS if kind.startswith("async") else BLOCKING)
        self.provider, self.kind = provider, kind

    def over(self, *steps: Any, url: str | None = None, **options: Any) -> Any:
        self.provider.script(*steps)
        url = url or self.provider.url
        if self.driver == BLOCKING:
            return self._blocking(url, options)
        return asyncio.run(self._asynchronous(url, options))

    def _blocking(self, url: str, options: dict[str, Any]) -> Any:
        if self.kind == "anthropic":
            with anthropic.Anthropic(base_url=url, api_key="any") as sdk:
                return self.make(client=sdk, **options).run("task")
        with openai.OpenAI(base_url=f"{url}/v1", api_key="any") as sdk:
            return self.make(client=OpenAIClient(sdk), **options).run("task")

    async def _asynchronous(self, url: str, options: dict[str, Any]) -> Any:
        if self.kind == "async anthropic":
            async with anthropic.AsyncAnthropic(base_url=url, api_key="any") as sdk:
                return await self.make(client=sdk, **options).run("task")
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as sdk:
            return await self.make(client=AsyncOpenAIClient(sdk), **options).run("task")


@pytest.fixture(params=CLIENTS)
def wired(request, tmp_store) -> Iterator[Wired]:
    with FakeProvider() as provider, Ledger(tmp_store) as ledger:
        yield Wired(ledger, provider, request.param)


def balance(desk: Desk) -> Any:
    return desk.rows()[-1].after[-1]


def test_a_session_of_tools_and_checks_is_done_and_the_books_agree_with_the_provider(wired) -> None:
    seen: list[int] = []
    steps = [
        Answer("let me look", tool_calls=[("look", {"x": 1}), ("look", {"x": 2})]),
        Answer("a draft"),
        Answer("DONE"),
    ]
    result = wired.over(*steps, tools=[seeing(seen)], checks=[Regex("DONE")])
    assert (result.outcome, result.turns, result.output, seen) == ("done", 3, "DONE", [1, 2])
    assert result.total_tokens == wired.provider.served.total
    assert SPEC.done_looks_like in str(wired.provider.requests[0].body)


def test_a_cut_reply_stays_charged_and_is_tried_again(wired) -> None:
    result = wired.over(Cut(Answer("lost"), after_bytes=20), Answer("done"))
    assert (result.success, len(wired.rows("abandoned"))) == (True, 1)
    assert result.total_tokens >= wired.provider.served.total


@pytest.mark.parametrize("status", [429, 529])
def test_a_provider_with_too_much_to_do_is_asked_again(wired, status) -> None:
    result = wired.over(Fault(status, headers={"retry-after": "3"}), Answer("done"))
    assert (result.success, wired.slept, balance(wired).reserved.tokens) == (True, [3], 0)
    assert len(wired.provider.requests) == 2


def test_a_failing_provider_stays_charged(wired) -> None:
    result = wired.over(Fault(500, after=Answer("billed all the same")), Answer("done"))
    assert (result.success, len(wired.rows("abandoned")), result.turns) == (True, 1, 1)
    assert result.total_tokens >= wired.provider.served.total


def test_a_wrong_key_is_not_tried_again(wired) -> None:
    result = wired.over(Fault(401))
    assert (result.outcome, len(wired.provider.requests), balance(wired).used.tokens) == ("interrupted", 1, 0)


def test_a_provider_that_is_not_there_is_released(wired) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        result = wired.over(url=f"http://127.0.0.1:{taken.getsockname()[1]}", max_attempts=2)
    assert (result.outcome, len(wired.rows("error")), balance(wired).used.tokens) == ("interrupted", 2, 0)
    assert "could not be reached" in result.reason


def test_a_retry_after_of_a_day_ends_in_one_sentence(wired) -> None:
    result = wired.over(Fault(429, headers={"retry-after": "99999"}))
    assert (result.outcome, "99999 s" in result.reason, wired.slept) == ("interrupted", True, [])


@pytest.mark.parametrize("usage", ["missing", {}])
def test_a_reply_without_usage_is_charged_whole(wired, usage) -> None:
    result = wired.over(Answer("done", usage=usage))
    assert result.total_tokens == wired.rows("reserve")[0].data["reserve"][1] > 1024


def test_a_refusal_ends_the_session_as_failed(wired) -> None:
    assert wired.over(Answer("I would rather not", stop_reason="refusal")).outcome == "failed"


def test_a_reply_cut_at_its_limit_never_runs_its_cut_off_call(wired) -> None:
    seen: list[int] = []
    long = Answer(tool_calls=[("look", {"x": 123_456, "y": "z" * 400})])
    result = wired.over(long, Answer("done"), tools=[seeing(seen)], max_tokens=30)
    assert (result.success, seen) == (True, [])
    assert [row.data["stop_reason"] for row in wired.rows("llm")] == ["max_tokens", "end_turn"]


def test_the_thinking_of_a_turn_is_echoed_as_it_came(tmp_store) -> None:
    with FakeProvider() as provider, Ledger(tmp_store) as ledger:
        wired = Wired(ledger, provider, "anthropic")
        thinks = Answer("hm", tool_calls=[("look", {"x": 1})], thinking="I should look")
        extra = {"thinking": {"type": "enabled", "budget_tokens": 1_024}}
        wired.over(thinks, Answer("done"), tools=[seeing([])], max_tokens=2_000, extra=extra)
        echoed = provider.requests[1].body["messages"][1]["content"]
    assert [block["type"] for block in echoed] == ["thinking", "text", "tool_use"]
    assert echoed[0]["thinking"] == "I should look"
    assert echoed[0]["signature"]
