"""Each call of a guarded client is a turn: reserved, sent once for each attempt, settled to the token."""

from __future__ import annotations

import socket
from typing import Any

import anthropic
import openai
import pytest

from donewhen.drafts import hash_arguments
from donewhen.errors import CircuitBreakerError, NotGovernedError, UnboundedRequestError
from donewhen.testing import Answer, Cut, Fault
from donewhen.verify import verify_ledger

ERRORS = (anthropic.APIStatusError, openai.APIStatusError)
LOST = (anthropic.APIConnectionError, openai.APIConnectionError)


def test_a_reply_is_what_the_sdk_makes_of_it_and_settled_to_the_token(desk) -> None:
    desk.provider.script(Answer("hello there"))
    response = desk.ask()
    assert desk.text_of(response) == "hello there"
    assert type(response).__module__.startswith(("anthropic.types", "openai.types"))
    assert [row.kind for row in desk.rows()][-2:] == ["reserve", "llm"]
    desk.assert_books_agree()


def test_a_session_of_calls_verifies(desk, tmp_store) -> None:
    desk.provider.script(Answer("one"), Fault(429), Answer("two"), Answer("three"))
    for text in ("a", "b"):
        desk.ask(text)
    desk.stream("c")
    desk.assert_books_agree()
    assert verify_ledger(tmp_store, None).rows == len(desk.rows())


def test_what_is_reserved_is_the_limit_that_is_sent(desk) -> None:
    desk.provider.script(Answer("x" * 4000), Answer("y"))
    desk.ask(most=300)
    desk.ask("more", most=1_000 if desk.wire == "messages" else None)  # whose SDK demands one
    limits = [request.max_tokens for request in desk.provider.requests]
    assert limits == [row.data["max_tokens"] for row in desk.rows("reserve")]
    assert limits[0] == 300
    assert 1_000 <= (limits[1] or 0) <= 1_024
    assert desk.rows("llm")[0].data["stop_reason"] == "max_tokens"
    desk.assert_books_agree()


@pytest.mark.parametrize("streams", [False, True])
def test_cached_tokens_thinking_and_tool_calls_are_all_in_the_books(desk, streams) -> None:
    desk.provider.script(
        Answer("let me look", tool_calls=[("look", {"x": 1})], thinking="a long thought", cache_read_tokens=7),
        Answer("again", tool_calls=[("look", {"x": 2}), ("look", {})], cache_write_tokens=5, input_tokens=11),
    )
    for text in ("first", "second"):
        (desk.stream if streams else desk.ask)(text, tools=desk.tools)
    first, second = desk.rows("llm")
    assert [tool["name"] for tool in first.data["tools"]] == ["look"]
    assert [tool["run"] for tool in second.data["tools"]] == [True, True]
    assert (first.data["stop_reason"], first.data["usage"]["cache_read"]) == ("tool_use", 7)
    desk.assert_books_agree()


@pytest.mark.parametrize("streams", [False, True])
def test_a_tool_call_is_named_the_same_streamed_or_not(desk, streams) -> None:
    desk.provider.script(Answer("text", tool_calls=[("look", {"x": [1, {"y": "ü"}]})], thinking="hm"))
    (desk.stream if streams else desk.ask)("q", tools=desk.tools)
    (tool,) = desk.rows("llm")[0].data["tools"]
    assert (tool["id"], tool["args_hash"]) == ("call_1_1", hash_arguments({"x": [1, {"y": "ü"}]}))


def test_a_held_tool_is_passed_on_and_stands_in_the_ledger_as_held(desk) -> None:
    desk.session.held_tools = frozenset({"pay"})
    desk.provider.script(Answer(tool_calls=[("pay", {"amount": 3})]))
    desk.ask(tools=desk.tools)
    (tool,) = desk.rows("llm")[0].data["tools"]
    assert (tool["name"], tool["held"]) == ("pay", True)


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [False, True])
def test_a_breach_is_raised_and_nothing_is_sent(desk, streams) -> None:
    with pytest.raises(CircuitBreakerError, match="token_ceiling"):
        desk.ask("a" * 2_000_000, stream=streams)
    assert desk.provider.requests == []
    assert desk.rows()[-1].kind == "circuit_breaker"


@pytest.mark.parametrize("streams", [False, True])
def test_a_reply_with_more_tool_calls_than_allowed_is_charged_and_not_passed_on(desk, streams) -> None:
    desk.ledger.raise_ceilings(desk.session.session_id, {"tool_calls": 1}, why="few", who="me")
    desk.provider.script(Answer("look", tool_calls=[("look", {}), ("look", {})]))
    with pytest.raises(CircuitBreakerError, match="tool_call_ceiling"):
        (desk.stream if streams else desk.ask)(tools=desk.tools)
    assert [tool["run"] for tool in desk.rows("llm")[0].data["tools"]] == [False, False]
    desk.assert_books_agree()


def options_that_are_refused(wire: str) -> list[dict[str, Any]]:
    return {
        "messages": [
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            {"extra_body": {"container": "c_1"}},
            {"extra_body": {"mcp_servers": [{"url": "http://x"}]}},
            {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]},
            {
                "messages": [
                    {"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}]}
                ]
            },
            {"extra_body": {"something_new": 1}},
        ],
        "chat": [
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
            {"messages": [{"role": "assistant", "content": "x", "audio": {"id": "a"}}]},
            {
                "messages": [
                    {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}
                ]
            },
            {"web_search_options": {}},
            {"prediction": {"type": "content", "content": "x"}},
            {"extra_body": {"best_of": 3}},
            {"n": 2},
        ],
        "responses": [
            {"previous_response_id": "resp_1"},
            {"conversation": "conv_1"},
            {"prompt": {"id": "p"}},
            {"background": True},
            {"input": [{"type": "item_reference", "id": "i"}]},
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            {"input": [{"type": "computer_call_output", "call_id": "c", "output": {"image_url": "http://x"}}]},
            {"tools": [{"type": "web_search"}]},
            {"tools": [{"type": "mcp", "server_label": "x", "server_url": "http://x"}]},
        ],
    }[wire]


def test_what_cannot_be_bounded_is_refused_with_the_reason_and_nothing_is_sent_or_written(desk) -> None:
    before = len(desk.rows())
    for options in options_that_are_refused(desk.wire):
        with pytest.raises((UnboundedRequestError, NotGovernedError)) as told:
            desk.ask(**options)
        assert len(str(told.value)) > 30, options
    assert desk.provider.requests == []
    assert len(desk.rows()) == before


def test_options_that_add_nothing_are_sent_as_they_are(desk) -> None:
    harmless: dict[str, dict[str, Any]] = {
        "messages": {"metadata": {"user_id": "u"}, "stop_sequences": ["x"]},
        "chat": {"temperature": 0.5, "n": 1, "store": True, "logprobs": True, "seed": 3, "user": "u"},
        "responses": {
            "temperature": 0.5,
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "truncation": "auto",
        },
    }
    desk.provider.script(Answer("ok"))
    desk.ask(**harmless[desk.wire])
    body = desk.provider.requests[0].body
    assert body.items() >= harmless[desk.wire].items()


def test_extra_body_cannot_go_round_the_limit(desk) -> None:
    name = {"messages": "max_tokens", "chat": "max_completion_tokens", "responses": "max_output_tokens"}[desk.wire]
    desk.provider.script(Answer("x" * 40_000))
    desk.ask(most=50, extra_body={name: 200})
    (reserve,) = desk.rows("reserve")
    assert desk.provider.requests[0].body[name] == reserve.data["max_tokens"] == 200
    desk.assert_books_agree()


def test_a_stream_that_only_extra_body_asks_for_or_calls_off_is_refused(desk) -> None:
    before = len(desk.rows())
    for given, asked in ((False, True), (True, False)):
        with pytest.raises(NotGovernedError, match="give stream as an argument"):
            desk.ask(stream=given, extra_body={"stream": asked})
    assert (desk.provider.requests, len(desk.rows())) == ([], before)


def test_what_the_body_cannot_be_made_of_costs_nothing(desk) -> None:
    if desk.wire != "chat":
        pytest.skip("the others send the body as it is")
    with pytest.raises(TypeError):
        desk.ask(stream=True, stream_options="include_usage")
    assert desk.provider.requests == []
    assert (desk.rows()[-1].kind, desk.balance.used.tokens) == ("error", 0)


# -- attempts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("status", [429, 529])
def test_each_attempt_is_admitted_by_itself_and_waits_as_it_is_told(desk, status, streams) -> None:
    desk.provider.script(Fault(status, headers={"retry-after": "7"}), Fault(status), Answer("done"))
    (desk.stream if streams else desk.ask)()
    assert desk.slept == [7, 1.0]
    assert [row.kind for row in desk.rows()][-6:] == ["reserve", "error", "reserve", "error", "reserve", "llm"]
    assert [row.data["attempt"] for row in desk.rows("reserve")] == [1, 2, 3]
    assert desk.balance.spent.turns == 1
    desk.assert_books_agree()


def test_a_storm_ends_in_the_sdks_own_error(desk) -> None:
    desk.provider.script(*[Fault(429, headers={"retry-after": "1"})] * 5)
    with pytest.raises(ERRORS) as told:
        desk.ask()
    assert told.value.status_code == 429
    assert (len(desk.provider.requests), desk.balance.used.tokens, desk.balance.used.turns) == (3, 0, 0)


def test_a_wait_beyond_the_time_ceiling_is_not_waited(desk) -> None:
    desk.ledger.raise_ceilings(desk.session.session_id, {"milliseconds": 60_000}, why="short", who="me")
    desk.provider.script(Fault(429), Fault(429, headers={"retry-after": "3600"}))
    with pytest.raises(ERRORS):
        desk.ask()
    assert (desk.slept, len(desk.provider.requests)) == ([0.5], 2)


def test_a_wrong_request_is_not_tried_again_and_costs_nothing(desk) -> None:
    desk.provider.script(Fault(401))
    with pytest.raises(ERRORS):
        desk.ask()
    assert (len(desk.provider.requests), desk.balance.used.tokens) == (1, 0)


def test_a_failing_provider_stays_charged_for_each_attempt(desk) -> None:
    desk.provider.script(Fault(500, after=Answer("billed")), Cut(Answer("lost"), after_bytes=20), Answer("done"))
    desk.ask()
    assert len(desk.rows("abandoned")) == 2
    assert desk.balance.used.turns == 1
    assert desk.balance.used.tokens >= desk.provider.served.total


def test_a_ceiling_between_two_attempts_stops_the_second(desk) -> None:
    desk.ledger.raise_ceilings(desk.session.session_id, {"tokens": 600}, why="low", who="me")
    desk.provider.script(Fault(500, after=Answer("billed")), Answer("never asked for"))
    with pytest.raises(CircuitBreakerError) as told:
        desk.ask("a" * 300, most=200)
    assert isinstance(told.value.__cause__, ERRORS)
    assert len(desk.provider.requests) == 1


def test_a_provider_that_is_not_there_is_released(desk) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        elsewhere = desk.client.with_options(base_url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(LOST):
            desk.ask(client=elsewhere)
    assert (len(desk.rows("error")), desk.balance.used.tokens) == (3, 0)


def test_usage_that_is_missing_or_untrue_is_charged_whole(desk) -> None:
    desk.provider.script(Answer("a", usage="missing"), Answer("b", usage={"input_tokens": -1, "output_tokens": "x"}))
    desk.ask()
    desk.ask()
    for reserve, row in zip(desk.rows("reserve"), desk.rows("llm"), strict=True):
        assert row.token_delta == reserve.data["reserve"][1]
        assert "usage_fault" in row.data


# -- a conversation ---------------------------------------------------------------------------------------------------


def test_what_was_measured_stands_in_for_the_beginning_of_a_conversation(desk) -> None:
    if desk.wire == "responses":
        pytest.skip("a response comes back as several items, which are counted anew")
    desk.provider.script(Answer("b" * 400), Answer("c"))
    response = desk.ask("a" * 4_000, most=200)
    messages = [{"role": "user", "content": "a" * 4_000}]
    if desk.wire == "messages":
        messages.append({"role": "assistant", "content": response.content})
    else:
        messages.append(response.choices[0].message)
    desk.ask(messages=[*messages, {"role": "user", "content": "and?"}])
    first, second = (row.data["input_bound"] for row in desk.rows("reserve"))
    assert first >= 4_000
    assert second < 1_500
    desk.assert_books_agree()


def test_a_reply_in_its_raw_form_is_settled_too(desk) -> None:
    desk.provider.script(Answer("hello"))
    raw = desk.run(desk.endpoint().with_raw_response.create(**desk.arguments("hi", 50)))
    assert raw.headers["content-type"] == "application/json"
    assert desk.text_of(desk.run(raw.parse())) == "hello"
    desk.assert_books_agree()
    with pytest.raises(NotGovernedError, match="past the guard"):
        desk.run(desk.endpoint().with_raw_response.create(**desk.arguments("hi", 50), stream=True))
    assert len(desk.provider.requests) == 1


def test_a_client_whose_own_headers_ask_for_raw_responses_is_governed_too(desk) -> None:
    desk.provider.script(Answer("hello"))
    client = desk.client.with_options(default_headers={"X-Stainless-Raw-Response": "true"})
    assert desk.text_of(desk.run(desk.ask(client=client).parse())) == "hello"
    desk.assert_books_agree()
    with pytest.raises(NotGovernedError, match="past the guard"):
        desk.ask(client=client, stream=True)
    assert len(desk.provider.requests) == 1
