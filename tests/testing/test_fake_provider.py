from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any

import pytest

from donewhen.testing import Answer, Cut, FakeProvider, Fault, Hang, ProviderRequest, one_token_per_byte
from donewhen.usage import Usage

HI = [{"role": "user", "content": "hi"}]
MESSAGES = "/v1/messages"
CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
PATIENCE_SECONDS = 60.0


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


def post(provider: FakeProvider, path: str, **body: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
    data = json.dumps(body).encode()
    request = urllib.request.Request(provider.url + path, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
            return response.status, json.load(response), dict(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), dict(error.headers)


def ask(provider: FakeProvider, text: str = "hi", max_tokens: int = 100, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return post(provider, MESSAGES, model="m", max_tokens=max_tokens, messages=messages, **more)[1]


# --- Scripts ----------------------------------------------------------------------------------------------------------


def test_replies_come_in_the_order_of_the_script(provider: FakeProvider) -> None:
    provider.script(Answer("one"), Answer("two"))
    assert [ask(provider)["content"][0]["text"] for _ in range(2)] == ["one", "two"]


def test_a_script_that_ran_out_is_an_error_that_nobody_tries_again(provider: FakeProvider) -> None:
    status, body, _ = post(provider, MESSAGES, model="m", max_tokens=9, messages=HI)
    assert status == 400
    assert "nothing left" in body["error"]["message"]


def test_a_handler_answers_what_the_script_leaves() -> None:
    def handler(request: ProviderRequest) -> Answer:
        return Answer(f"request {request.number}")

    with FakeProvider(handler) as provider:
        provider.script(Answer("scripted"))
        assert [ask(provider)["content"][0]["text"] for _ in range(2)] == ["scripted", "request 2"]


def test_what_a_handler_raises_is_raised_on_leaving() -> None:
    def handler(request: ProviderRequest) -> Answer:
        raise AssertionError("the test's own assertion")

    with pytest.raises(AssertionError, match="the test's own"), FakeProvider(handler) as provider:
        ask(provider)


def test_requests_are_kept_with_their_headers_and_bodies(provider: FakeProvider) -> None:
    provider.script(Answer("hello"))
    ask(provider, "what is it?")
    (request,) = provider.requests
    assert (request.number, request.wire, request.max_tokens, request.streams) == (1, "messages", 100, False)
    assert request.headers["content-type"] == "application/json"
    assert request.body["messages"][0]["content"] == "what is it?"


def test_an_unknown_path_is_not_found(provider: FakeProvider) -> None:
    assert post(provider, "/v1/embeddings")[0] == 404
    assert provider.requests == []


# --- Counting and billing ---------------------------------------------------------------------------------------------


def test_tokens_are_counted_truthfully(provider: FakeProvider) -> None:
    provider.script(Answer("12345678"))
    usage = ask(provider, "1234é")["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (3 + 1 + 1, 2)  # the message, four bytes, one character


def test_a_reply_counts_the_same_when_it_is_echoed() -> None:
    with FakeProvider(count=one_token_per_byte) as provider:
        provider.script(Answer("x" * 11, thinking="y" * 7, tool_calls=[("find", {"query": "é"})]), Answer("ok"))
        first = ask(provider)
        results = [{"type": "tool_result", "tool_use_id": "call_1_1", "content": "z"}]
        messages = [*HI, {"role": "assistant", "content": first["content"]}, {"role": "user", "content": results}]
        second = post(provider, MESSAGES, model="m", max_tokens=9, messages=messages)[1]
    new = second["usage"]["input_tokens"] - first["usage"]["input_tokens"] - first["usage"]["output_tokens"]
    assert new == 3 + 3 + 1  # two messages and the result


def test_counts_that_are_given_are_used(provider: FakeProvider) -> None:
    answer = Answer("x", input_tokens=70, output_tokens=40, cache_read_tokens=5, cache_write_tokens=6)
    provider.script(answer)
    ask(provider)
    assert provider.served == Usage(70, 40, 5, 6)


def test_usage_can_be_missing_or_a_lie_and_is_billed_all_the_same(provider: FakeProvider) -> None:
    provider.script(Answer("x", usage="missing", output_tokens=5), Answer("x", usage={"input_tokens": -3}))
    assert "usage" not in ask(provider)
    assert ask(provider)["usage"] == {"input_tokens": -3}
    assert provider.served.output_tokens == 6


def test_max_tokens_is_honoured(provider: FakeProvider) -> None:
    provider.script(Answer("x" * 400))
    reply = ask(provider, max_tokens=10)
    assert (reply["stop_reason"], reply["usage"]["output_tokens"]) == ("max_tokens", 10)
    assert reply["content"][0]["text"] == "x" * 40


def test_max_tokens_can_be_ignored() -> None:
    with FakeProvider(honours_max_tokens=False) as provider:
        provider.script(Answer("x" * 400))
        reply = ask(provider, max_tokens=10)
    assert (reply["stop_reason"], reply["usage"]["output_tokens"]) == ("end_turn", 100)


def test_a_tool_call_that_does_not_fit_is_cut_off(provider: FakeProvider) -> None:
    provider.script(Answer(tool_calls=[("find", {"query": "x" * 400})]))
    reply = ask(provider, max_tokens=5)
    assert reply["stop_reason"] == "max_tokens"
    assert reply["content"][0]["input"] == {}


def test_counting_is_not_billed(provider: FakeProvider) -> None:
    assert post(provider, "/v1/messages/count_tokens", model="m", messages=HI)[1] == {"input_tokens": 4}
    assert (len(provider.counted), provider.requests, provider.served.total) == (1, [], 0)


def test_faults_are_not_billed_unless_work_came_before_them(provider: FakeProvider) -> None:
    provider.script(Fault(500), Fault(500, after=Answer(input_tokens=4, output_tokens=3)))
    ask(provider)
    assert provider.served.total == 0
    ask(provider)
    assert provider.served.total == 7


def test_what_each_request_was_billed_is_told_by_its_number(provider: FakeProvider) -> None:
    provider.script(Answer("abcd"), Fault(503), Cut(Answer("abcdefgh")))
    for _ in range(2):
        post(provider, MESSAGES, model="m", max_tokens=10, messages=HI)
    with pytest.raises(HTTPException):
        post(provider, MESSAGES, model="m", max_tokens=10, messages=HI)
    assert provider.billed == {1: Usage(4, 1), 3: Usage(4, 2)}
    assert sum(used.total for used in provider.billed.values()) == provider.served.total


def test_many_threads_are_served_and_billed_once_each() -> None:
    answer = Answer("x", input_tokens=10, output_tokens=1)
    with FakeProvider(lambda _: answer) as provider, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ask(provider), range(40)))
        assert provider.served.total == 40 * 11
        assert sorted(request.number for request in provider.requests) == list(range(1, 41))


# --- Errors and cuts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_errors_of_messages_have_their_real_form(provider: FakeProvider, status: int, kind: str) -> None:
    provider.script(Fault(status, headers={"retry-after": "99999"}, message="no"))
    got, body, headers = post(provider, MESSAGES, model="m", max_tokens=9, messages=HI)
    assert (got, headers["retry-after"], headers["request-id"]) == (status, "99999", "req_0001")
    assert body == {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "req_0001"}


@pytest.mark.parametrize(("path", "prompt"), [(CHAT, {"messages": HI}), (RESPONSES, {"input": HI})])
def test_errors_of_openai_have_their_real_form(provider: FakeProvider, path: str, prompt: dict[str, Any]) -> None:
    provider.script(Fault(429, message="slow down"))
    status, body, headers = post(provider, path, model="m", **prompt)
    error = {"message": "slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
    assert (status, body, headers["x-request-id"]) == (429, {"error": error}, "req_0001")


@pytest.mark.parametrize("after_bytes", [None, 0, 20])
def test_a_cut_breaks_the_connection_and_is_billed(provider: FakeProvider, after_bytes: int | None) -> None:
    provider.script(Cut(Answer(input_tokens=5, output_tokens=2), after_bytes=after_bytes))
    with pytest.raises((OSError, ValueError, urllib.error.URLError, Exception)) as caught:
        ask(provider)
    assert caught.type.__name__ in {"IncompleteRead", "RemoteDisconnected", "JSONDecodeError", "ConnectionResetError"}
    assert provider.served.total == 7


def test_a_hanging_reply_comes_when_its_event_does(provider: FakeProvider) -> None:
    event = threading.Event()
    provider.script(Hang(event, Answer("at last")))
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(ask, provider)
        provider.wait_for_requests(1, timeout_seconds=PATIENCE_SECONDS)
        assert not reply.done()
        event.set()
        assert reply.result(PATIENCE_SECONDS)["content"][0]["text"] == "at last"


def test_closing_ends_what_hangs() -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        with FakeProvider() as provider:
            provider.script(Hang())
            reply = pool.submit(ask, provider)
            provider.wait_for_requests(1, timeout_seconds=PATIENCE_SECONDS)
        assert reply.exception(PATIENCE_SECONDS) is not None
    assert time.monotonic() - began < PATIENCE_SECONDS / 2  # nobody had to wait until a time ran out


def test_waiting_for_requests_that_do_not_come_is_an_error(provider: FakeProvider) -> None:
    with pytest.raises(TimeoutError, match="0 of 1 requests"):
        provider.wait_for_requests(1, timeout_seconds=0)


# --- What providers refuse --------------------------------------------------------------------------------------------

CALL = {"type": "tool_use", "id": "call_1", "name": "find", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "call_1", "content": "x"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"max_tokens": 0, "messages": HI}, "greater than or equal to 1"),
        ({"messages": HI}, "max_tokens: Field required"),
        ({"max_tokens": True, "messages": HI}, "wrong type"),
        ({"max_tokens": 9, "messages": []}, "at least one message"),
        ({"max_tokens": 9, "messages": [{"role": "user", "content": ""}]}, "must be non-empty"),
        ({"max_tokens": 9, "messages": [{"role": "user", "content": []}]}, "non-empty content"),
        ({"max_tokens": 9, "messages": [*HI, {"role": "assistant", "content": [CALL]}]}, "without a `tool_result`"),
        ({"max_tokens": 9, "messages": [*HI, {"role": "assistant", "content": [CALL]}, *HI]}, "without `tool_result`"),
        ({"max_tokens": 9, "messages": [{"role": "user", "content": [RESULT]}]}, "unexpected `tool_use_id`"),
        ({"max_tokens": 9, "messages": HI, "thinking": {"budget_tokens": 9}}, "budget_tokens"),
    ],
)
def test_messages_refuses_what_anthropic_refuses(provider: FakeProvider, body: dict[str, Any], reason: str) -> None:
    provider.script(Answer("never sent"))
    status, error, _ = post(provider, MESSAGES, model="m", **body)
    assert status == 400
    assert reason in error["error"]["message"]
    assert provider.served.total == 0


TOOL_CALLS = {"role": "assistant", "tool_calls": [{"id": "call_1", "function": {"name": "f", "arguments": "{}"}}]}


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        (CHAT, {}, "messages: Field required"),
        (CHAT, {"messages": []}, "array too short"),
        (CHAT, {"messages": [TOOL_CALLS, *HI]}, "did not have response messages"),
        (CHAT, {"messages": [TOOL_CALLS]}, "did not have response messages"),
        (CHAT, {"messages": [{"role": "tool", "tool_call_id": "x", "content": ""}]}, "must answer a preceding"),
        (RESPONSES, {}, "input: Field required"),
        (RESPONSES, {"input": HI, "max_output_tokens": 15}, "below minimum value"),
        (RESPONSES, {"input": [{"type": "function_call", "call_id": "c"}]}, "No tool output found"),
        (RESPONSES, {"input": [{"type": "function_call_output", "call_id": "c"}]}, "No tool call found"),
        (RESPONSES, {"input": [{"type": "reasoning", "id": "rs_1"}]}, "required following item"),
    ],
)
def test_openais_wires_refuse_what_openai_refuses(
    provider: FakeProvider, path: str, body: dict[str, Any], reason: str
) -> None:
    status, error, _ = post(provider, path, model="m", **body)
    assert status == 400
    assert reason in error["error"]["message"]


def test_a_body_that_is_no_json_object_is_refused(provider: FakeProvider) -> None:
    request = urllib.request.Request(provider.url + MESSAGES, b"[1]")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=PATIENCE_SECONDS)
    caught.value.close()
    assert provider.requests == []
