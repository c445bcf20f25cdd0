"""The offline client: real tool calls, real counts, the same reply for the same conversation."""

from __future__ import annotations

import asyncio
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.client import LLMClient, Reply, read_reply
from donewhen.demo.site import DemoSite
from donewhen.providers.offline import AsyncOfflineClient, OfflineClient
from donewhen.seo import REPORT_HEADINGS, audit_tools

TOOLS = [
    {"name": tool.__name__, "description": tool.__doc__, "input_schema": {"type": "object", "properties": {"url": {}}}}
    for tool in audit_tools()
]


def ask(client: OfflineClient, messages: list[Any], **settings: Any) -> Reply:
    request = {"model": "any", "max_tokens": 4_096, "system": "spec", "messages": messages, **settings}
    return read_reply(client.messages.create(**request))


def talk(client: OfflineClient, task: str, *, turns: int = 8, **settings: Any) -> tuple[list[Any], list[Reply]]:
    """Play the loop's part: run the tools, say continue."""
    run = {tool.__name__: tool for tool in audit_tools()}
    messages: list[Any] = [{"role": "user", "content": task}]
    replies: list[Reply] = []
    while len(replies) < turns and (not replies or replies[-1].stop_reason != "end_turn"):
        replies.append(ask(client, messages, **settings))
        messages.append({"role": "assistant", "content": replies[-1].echo})
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": json.dumps(run[call.name](**call.arguments))}
            for call in replies[-1].tool_calls
        ]
        if replies[-1].stop_reason != "end_turn":
            messages.append({"role": "user", "content": results or "continue"})
    return messages, replies


def test_it_is_a_client_and_says_what_it_is() -> None:
    client = OfflineClient()
    assert isinstance(client, LLMClient)
    reply = ask(client, [{"role": "user", "content": "Write a poem."}])
    assert reply.model == "offline-rules"
    assert "rule-based, not a language model" in reply.text


def test_it_audits_a_page_with_the_tools_one_turn_after_another() -> None:
    with DemoSite() as site:
        _, replies = talk(OfflineClient(), f"Audit {site.url}.", tools=TOOLS)
    assert [call.name for reply in replies for call in reply.tool_calls] == ["fetch_url", "audit_page", "check_links"]
    assert [reply.stop_reason for reply in replies] == ["tool_use"] * 3 + ["end_turn"]
    assert "rule-based, not a language model" in replies[0].text
    assert all(f"\n## {heading}\n" in replies[-1].text for heading in REPORT_HEADINGS)
    assert "spring-offer (status 404)" in replies[-1].text


def test_without_tools_it_says_what_it_needs() -> None:
    reply = ask(OfflineClient(), [{"role": "user", "content": "Audit http://example.org/"}])
    assert "needs the tool audit_page" in reply.text
    assert reply.tool_calls == ()


def test_a_check_that_was_not_met_corrects_the_report() -> None:
    with DemoSite() as site:
        messages, _ = talk(OfflineClient(), f"Audit {site.url}", tools=TOOLS)
    complaint = "A check was not met: the output does not match the pattern '(?m)^## Recommendations$'"
    corrected = ask(OfflineClient(), [*messages, {"role": "user", "content": complaint}], tools=TOOLS)
    assert "\n## Recommendations\n\n1. Repair or remove the broken links." in corrected.text
    as_json = ask(
        OfflineClient(), [*messages, {"role": "user", "content": "not met: the output is not JSON: x"}], tools=TOOLS
    )
    assert json.loads(as_json.text)["links"]["broken"][0]["problem"] == "status 404"


def test_a_tool_that_failed_ends_in_a_report_that_says_so() -> None:
    call = {"type": "tool_use", "id": "a", "name": "fetch_url", "input": {"url": "http://x.test/"}}
    result = {"type": "tool_result", "tool_use_id": "a", "is_error": True, "content": [{"type": "text", "text": "no"}]}
    messages = [
        {"role": "user", "content": "Audit http://x.test/"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    reply = ask(OfflineClient(), messages, tools=TOOLS)
    assert "The page could not be audited: no" in reply.text
    assert reply.stop_reason == "end_turn"


@pytest.mark.parametrize("max_tokens", [7, 40, 333])
def test_a_reply_that_is_cut_goes_on_where_it_stopped(max_tokens: int) -> None:
    diff = "--- a/x.py\n+++ b/x.py\n@@ -0,0 +1,9 @@\n" + "+print(1)  # TODO ünfertig\n" * 9
    whole = ask(OfflineClient(), [{"role": "user", "content": diff}]).text
    _, replies = talk(OfflineClient(), diff, turns=100, max_tokens=max_tokens)
    assert "".join(reply.text for reply in replies) == whole
    assert all(reply.usage and reply.usage.output_tokens <= max_tokens for reply in replies)


def test_a_tool_call_that_does_not_fit_is_not_sent() -> None:
    with DemoSite() as site:
        reply = ask(OfflineClient(), [{"role": "user", "content": f"Audit {site.url}"}], tools=TOOLS, max_tokens=20)
    assert reply.stop_reason == "max_tokens"
    assert reply.tool_calls == ()


def test_usage_is_counted_from_what_was_sent() -> None:
    short = ask(OfflineClient(), [{"role": "user", "content": "a" * 400}], system="")
    long = ask(OfflineClient(), [{"role": "user", "content": "a" * 800}], system="")
    assert short.usage is not None
    assert long.usage is not None
    assert long.usage.input_tokens - short.usage.input_tokens == 100
    assert short.usage.output_tokens == -(-len(short.text) // 4)


def test_the_same_conversation_has_the_same_reply() -> None:
    client = OfflineClient()
    request = [{"role": "user", "content": "Ticket: the site is down"}]
    assert client.messages.create(model="a", max_tokens=99, messages=request) == pickle.loads(
        pickle.dumps(client.messages.create(model="a", max_tokens=99, messages=request))
    )


def test_a_runaway_calls_a_tool_for_ever_with_new_arguments() -> None:
    client = OfflineClient(runaway=True)
    tool = {"name": "look", "input_schema": {"properties": {"where": {"type": "string"}, "n": {"type": "integer"}}}}
    messages: list[Any] = [{"role": "user", "content": "Look around."}]
    seen: list[str] = []
    for _ in range(12):
        reply = ask(client, messages, tools=[tool])
        seen.append(json.dumps(reply.tool_calls[0].arguments))
        result = {"type": "tool_result", "tool_use_id": reply.tool_calls[0].id, "content": "nothing"}
        messages += [{"role": "assistant", "content": reply.echo}, {"role": "user", "content": [result]}]
    assert len(set(seen)) == 12


def test_a_runaway_without_tools_never_stops_talking() -> None:
    _, replies = talk(OfflineClient(runaway=True), "Say it.", turns=6, max_tokens=50)
    assert [reply.stop_reason for reply in replies] == ["max_tokens"] * 6
    assert all(reply.usage and reply.usage.output_tokens == 50 for reply in replies)


def test_the_asynchronous_twin_says_the_same() -> None:
    request: dict[str, Any] = {
        "model": "a",
        "max_tokens": 99,
        "messages": [{"role": "user", "content": "Ticket: help"}],
    }
    assert asyncio.run(AsyncOfflineClient().messages.create(**request)) == OfflineClient().messages.create(**request)


@pytest.mark.parametrize("request_fields", [{"max_tokens": 0}, {"messages": []}])
def test_a_request_that_asks_for_nothing_is_refused(request_fields: dict[str, Any]) -> None:
    request = {"model": "a", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], **request_fields}
    with pytest.raises(ValueError, match="needs a message"):
        OfflineClient().messages.create(**request)


@given(st.text(max_size=200), st.integers(1, 30))
def test_any_task_has_a_reply_within_its_tokens(task: str, max_tokens: int) -> None:
    reply = ask(OfflineClient(), [{"role": "user", "content": task}], max_tokens=max_tokens)
    assert reply.usage is not None
    assert reply.usage.output_tokens <= max_tokens
    assert len(reply.text.encode()) <= 4 * max_tokens
