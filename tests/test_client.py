from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.client import (
    NO_WORK_STATUSES,
    UNPARSED_ARGUMENTS,
    LLMClient,
    MessagesEndpoint,
    classify,
    read_reply,
    read_usage,
)
from donewhen.errors import ReplyError
from donewhen.testing import AsyncScriptedClient, ScriptedClient, make_reply
from donewhen.usage import Usage


def named(name: str, *bases: type[Exception]) -> type[Exception]:
    return type(name, bases or (Exception,), {})


ConnectError = named("ConnectError", named("TransportError"))
ReadTimeout = named("ReadTimeout", named("TransportError"))
APIConnectionError = named("APIConnectionError")
APITimeoutError = named("APITimeoutError", APIConnectionError)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def status_error(status: object, **headers: str) -> Exception:
    error = Exception("no text of the request may come from here")
    error.status_code = status  # type: ignore[attr-defined]  # as the SDKs carry it
    error.response = SimpleNamespace(headers=headers)  # type: ignore[attr-defined]  # as the SDKs carry it
    return error


# --- What is a client -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [ScriptedClient(), AsyncScriptedClient()])
def test_anything_with_messages_create_is_a_client(client: object) -> None:
    assert isinstance(client, LLMClient)
    assert isinstance(client.messages, MessagesEndpoint)


def test_something_without_messages_is_no_client() -> None:
    assert not isinstance(SimpleNamespace(create=print), LLMClient)


# --- Replies ----------------------------------------------------------------------------------------------------------


def test_a_reply_is_read_from_a_mapping() -> None:
    reply = read_reply({**make_reply("hello", input_tokens=7, output_tokens=2), "model": "m", "id": "msg_1"})
    assert (reply.text, reply.stop_reason, reply.model, reply.request_id) == ("hello", "end_turn", "m", "msg_1")
    assert reply.usage == Usage(7, 2)


def test_a_reply_is_read_from_objects_with_attributes() -> None:
    block = SimpleNamespace(type="text", text="hello")
    usage = SimpleNamespace(input_tokens=7, output_tokens=2)
    reply = read_reply(SimpleNamespace(content=[block], usage=usage))
    assert reply.content == ({"type": "text", "text": "hello"},)
    assert reply.stop_reason == "end_turn"  # a client that has no notion of stop reasons


def test_a_reply_is_read_from_dataclasses() -> None:
    @dataclasses.dataclass
    class Block:
        type: str
        text: str

    assert read_reply({"content": [Block("text", "hello")]}).text == "hello"


def test_content_that_is_a_string_is_one_text_block() -> None:
    assert read_reply({"content": "hello"}).content == ({"type": "text", "text": "hello"},)


@pytest.mark.parametrize("response", [None, {}, {"content": None}, {"content": 3}, "hello", object()])
def test_what_has_no_content_is_no_reply(response: object) -> None:
    with pytest.raises(ReplyError, match="without a list of content blocks"):
        read_reply(response)


def test_a_text_reply_is_echoed_as_a_string() -> None:
    assert read_reply(make_reply("hello")).echo == "hello"


def test_blocks_beside_text_are_echoed_untouched() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "abc="}
    content = [thinking, {"type": "text", "text": "hello"}]
    assert read_reply({"content": content}).echo == content


def test_text_with_citations_is_echoed_whole() -> None:
    content = [{"type": "text", "text": "hello", "citations": [{"cited_text": "h"}]}]
    assert read_reply({"content": content}).echo == content


def test_tool_calls_are_read_in_order() -> None:
    blocks = [{"type": "tool_use", "id": f"call_{n}", "name": "find", "input": {"n": n}} for n in range(3)]
    calls = read_reply({"content": blocks}).tool_calls
    assert [(call.id, call.name, call.arguments) for call in calls] == [
        (f"call_{n}", "find", {"n": n}) for n in range(3)
    ]


@pytest.mark.parametrize("change", [{"id": None}, {"name": 7}, {"input": "{}"}, {"input": None}])
def test_a_tool_call_that_lacks_something_is_no_reply(change: dict[str, Any]) -> None:
    block = {"type": "tool_use", "id": "call_1", "name": "find", "input": {}, **change}
    with pytest.raises(ReplyError, match="tool call without"):
        read_reply({"content": [block]})


def test_arguments_that_were_no_json_can_be_handed_on() -> None:
    block = {"type": "tool_use", "id": "call_1", "name": "find", "input": {UNPARSED_ARGUMENTS: "{oops"}}
    assert read_reply({"content": [block]}).tool_calls[0].arguments == {UNPARSED_ARGUMENTS: "{oops"}


def test_a_stop_reason_of_none_is_not_taken_for_an_end() -> None:
    assert read_reply({"content": [], "stop_reason": None}).stop_reason == "None"


# --- Usage ------------------------------------------------------------------------------------------------------------


def test_cache_tokens_are_part_of_usage() -> None:
    raw = {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 4}
    assert read_usage(raw, has_output=True) == (Usage(1, 2, 3, 4), None)


def test_cache_tokens_may_be_missing_or_none() -> None:
    raw = {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": None}
    assert read_usage(raw, has_output=True) == (Usage(1, 2), None)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (None, "the reply has no usage"),
        ({"output_tokens": 3}, "usage.input_tokens is None"),
        ({"input_tokens": 3}, "usage.output_tokens is None"),
        ({"input_tokens": -1, "output_tokens": 3}, "usage.input_tokens is -1, below zero"),
        (
            {"input_tokens": 10**13, "output_tokens": 3},
            "usage.input_tokens is above 1,000,000,000,000, more than any call can use",
        ),
        ({"input_tokens": 1.5, "output_tokens": 3}, "usage.input_tokens is 1.5"),
        ({"input_tokens": True, "output_tokens": 3}, "usage.input_tokens is True"),
        ({"input_tokens": "9", "output_tokens": 3}, "usage.input_tokens is '9'"),
        ({"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": -2}, "cache_read_input_tokens is -2"),
        ({"input_tokens": 0, "output_tokens": 0}, "zero tokens beside a reply"),
        ({"input_tokens": 5, "output_tokens": 0}, "zero tokens beside a reply"),
    ],
)
def test_usage_that_cannot_be_true_is_unknown_and_never_zero(raw: object, fault: str) -> None:
    usage, why = read_usage(raw, has_output=True)
    assert usage is None
    assert fault in (why or "")


def test_no_output_tokens_can_be_true_without_output() -> None:
    assert read_usage({"input_tokens": 5, "output_tokens": 0}, has_output=False) == (Usage(5, 0), None)


@given(st.dictionaries(st.sampled_from(["input_tokens", "output_tokens"]), st.integers() | st.none() | st.floats()))
def test_usage_is_either_believed_as_it_is_or_has_a_fault(raw: dict[str, Any]) -> None:
    usage, fault = read_usage(raw, has_output=True)
    assert (usage is None) == (fault is not None)
    if usage is not None:
        assert (usage.input_tokens, usage.output_tokens) == (raw["input_tokens"], raw["output_tokens"])


# --- Failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(NO_WORK_STATUSES))
def test_a_status_of_refusal_did_no_work(status: int) -> None:
    assert classify(status_error(status)).rejected


@pytest.mark.parametrize("status", [200, 402, 408, 409, 499, 500, 502, 503, 504, 599, None, "429", True])
def test_any_other_status_may_have_been_billed(status: object) -> None:
    assert not classify(status_error(status)).rejected


def test_a_connection_that_was_refused_was_never_sent() -> None:
    failure = classify(caused(APIConnectionError(), ConnectError()))
    assert failure.rejected
    assert failure.retryable


def test_a_bare_refused_connection_was_never_sent() -> None:
    assert classify(ConnectionRefusedError()).rejected


def test_a_time_out_may_have_been_billed_and_may_be_tried_again() -> None:
    failure = classify(caused(APITimeoutError(), ReadTimeout()))
    assert not failure.rejected
    assert failure.retryable


def test_a_time_out_after_an_earlier_try_was_refused_may_have_been_billed() -> None:
    second = caused(APITimeoutError(), ReadTimeout())
    second.__context__ = caused(APIConnectionError(), ConnectError())
    assert not classify(second).rejected


def test_a_lost_connection_while_a_refused_one_was_handled_may_have_been_billed() -> None:
    lost = ReadTimeout()
    lost.__context__ = ConnectError()
    assert not classify(lost).rejected


def test_a_wrapper_without_a_cause_may_have_been_billed() -> None:
    assert not classify(APIConnectionError()).rejected


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), RuntimeError()])
def test_an_unknown_error_may_have_been_billed_and_is_not_tried_again(error: BaseException) -> None:
    failure = classify(error)
    assert (failure.rejected, failure.retryable) == (False, False)


def test_errors_that_cause_each_other_in_a_circle_are_read_once() -> None:
    one, other = ConnectError(), ValueError()
    one.__context__, other.__context__ = other, one
    assert classify(one).rejected


def test_the_problem_never_quotes_the_request() -> None:
    assert "no text of the request" not in classify(status_error(500)).problem


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("99999", 99999.0),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_read_where_it_is_a_number_of_seconds(value: str, seconds: float | None) -> None:
    assert classify(status_error(429, **{"retry-after": value})).retry_after_seconds == seconds
