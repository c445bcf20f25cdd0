"""The most tokens that a request can use: never too low, and never worked out twice for the same words."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen import bounds
from donewhen.balance import Amounts, Balance, Ceilings
from donewhen.bounds import Measured, Request, Transcript, output_that_fits
from donewhen.client import read_reply
from donewhen.sizing import minimum_output
from donewhen.testing import four_bytes_per_token, make_reply, one_token_per_byte
from donewhen.testing.tokens import count_prompt
from donewhen.usage import Price, Rates

TEXT = st.text(max_size=40) | st.sampled_from(
    ["\ufdfa" * 9, "你好", "e\u0301" * 5, "\uff21" * 5, "\ud800", '"\\\n\t' * 9, "👩‍👩‍👧‍👦"]
)
SENT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(["\ufdfa" * 9, "你好" * 9])
KEYS = st.text("abc_\ufdfa", min_size=1, max_size=8)
ARGUMENTS = st.dictionaries(KEYS, SENT | st.integers() | st.lists(SENT, max_size=3), max_size=5)
TEXT_BLOCKS = st.builds(lambda text: {"type": "text", "text": text}, SENT)
RESULT_BLOCKS = st.builds(
    lambda text, blocks: {"type": "tool_result", "tool_use_id": text, "content": blocks},
    SENT,
    SENT | st.lists(TEXT_BLOCKS),
)
CALL_BLOCKS = st.builds(
    lambda name, given: {"type": "tool_use", "id": "a", "name": name, "input": given}, SENT, ARGUMENTS
)
THINKING = st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}, SENT)
MESSAGES = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "assistant"]),
    SENT | st.lists(TEXT_BLOCKS | RESULT_BLOCKS | CALL_BLOCKS | THINKING, max_size=4),
)


def raw_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def normal_bytes(text: str) -> int:
    return raw_bytes(unicodedata.normalize("NFKC", text))


def size(*messages: dict[str, Any], kind: Any = "strict", **options: Any) -> int:
    return Request.of(model="m", messages=messages, **options).most_input_tokens(kind)


def said(content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": content}


# -- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [raw_bytes, normal_bytes, four_bytes_per_token])
@given(messages=st.lists(MESSAGES, max_size=4), system=st.none() | SENT, tool=st.none() | ARGUMENTS)
def test_a_strict_bound_is_never_below_what_a_byte_tokenizer_counts(count, messages, system, tool) -> None:
    tools = [] if tool is None else [{"name": "t", "description": "d", "input_schema": tool}]
    truth = count_prompt(count, messages, system, tools)
    assert size(*messages, system=system, tools=tools) >= truth


@given(text=SENT)
def test_a_text_is_bounded_by_the_worst_of_both_tokenizers(text) -> None:
    assert size(said(text)) >= count_prompt(one_token_per_byte, [said(text)])


@given(messages=st.lists(MESSAGES, max_size=3), more=MESSAGES)
def test_a_bound_only_grows(messages, more) -> None:
    for kind in ("strict", "estimate"):
        assert size(*messages, more, kind=kind) > size(*messages, kind=kind)


@given(messages=st.lists(MESSAGES, max_size=4))
def test_an_estimate_is_never_above_the_strict_bound(messages) -> None:
    assert size(*messages, kind="estimate") <= size(*messages)


def test_json_is_counted_as_a_prompt_spells_it() -> None:
    given_to = {f"k{n}": n for n in range(200)}
    block = {"type": "tool_use", "id": "a", "name": "t", "input": given_to}
    assert size(said([block])) - size(said([])) >= len(json.dumps(given_to))


def test_what_stands_beside_the_content_is_counted() -> None:
    """An assistant's message in OpenAI's form has its tool calls beside the content."""
    calls = [{"id": "a", "type": "function", "function": {"name": "t", "arguments": "x" * 500}}]
    assert size({**said(None, "assistant"), "tool_calls": calls}) - size(said(None, "assistant")) > 500


def test_system_tools_and_options_are_counted() -> None:
    plain = size(said("hi"))
    assert size(said("hi"), system="s" * 100) == plain + 100
    assert size(said("hi"), system=[{"type": "text", "text": "s" * 100}]) > plain + 100
    assert size(said("hi"), tools=[{"name": "n", "description": "d" * 300, "input_schema": {}}]) > plain + 1_024 + 300
    assert size(said("hi"), output_format={"d": "x" * 300}) > plain + 300


# -- measured beginnings ----------------------------------------------------------------------------------------------

QUESTION, ANSWER, MORE = said("a" * 4_000), said("ok", "assistant"), said("more")


def measured(request: Request, text: str = "ok", tokens: int = 60) -> Measured:
    return request.measured_by(read_reply(make_reply(text)).echo, tokens)


def of(*messages: dict[str, Any], **options: Any) -> Request:
    return Request.of(**{"model": "m", "messages": messages, "max_tokens": 9, **options})


def test_the_measured_tokens_stand_in_for_the_words_that_were_sent() -> None:
    known = measured(of(QUESTION))
    assert of(QUESTION, ANSWER, MORE).most_input_tokens("strict", known) == 60 + 16 + 4
    assert of(QUESTION, ANSWER, MORE).most_input_tokens("estimate", known) == 60 + 4 + 1


CHANGED: dict[str, dict[str, Any]] = {
    "another word": {"messages": [said("a" * 3_999 + "b"), ANSWER, MORE]},
    "another role": {"messages": [said("a" * 4_000, "assistant"), ANSWER, MORE]},
    "another answer": {"messages": [QUESTION, said("ok!", "assistant"), MORE]},
    "another form": {"messages": [said([{"type": "text", "text": "a" * 4_000}]), ANSWER, MORE]},
    "another model": {"model": "n"},
    "another system": {"system": "s"},
    "other tools": {"tools": [{"name": "t", "input_schema": {}}]},
    "another tool choice": {"tool_choice": {"type": "any"}},
    "thinking": {"thinking": {"type": "enabled", "budget_tokens": 5}},
    "betas": {"betas": ["b"]},
    "cut shorter": {"messages": [QUESTION]},
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_beginning_that_is_not_word_for_word_the_same_is_counted_whole(name) -> None:
    request = Request.of(**{"model": "m", "messages": [QUESTION, ANSWER, MORE], **CHANGED[name]})
    assert request.most_input_tokens("strict", measured(of(QUESTION))) > 3_990


@given(messages=st.lists(MESSAGES, min_size=1, max_size=4), other=st.lists(MESSAGES, min_size=1, max_size=4))
def test_two_conversations_share_a_digest_only_if_they_are_the_same(messages, other) -> None:
    one, two = of(*messages).transcript, of(*other).transcript
    same = json.dumps(messages, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (one.digest_at(len(messages)) == two.digest_at(len(other))) == same


def test_turn_1000_hashes_its_new_messages_only(monkeypatch) -> None:
    hashed: list[int] = []
    real = hashlib.sha256

    def counting(data: bytes) -> Any:
        hashed.append(len(data))
        return real(data)

    monkeypatch.setattr(bounds.hashlib, "sha256", counting)
    transcript = Transcript(model="m")

    def take_turn(known: Measured | None) -> tuple[Measured, list[int]]:
        hashed.clear()
        transcript.append(said("x" * 100))
        request = transcript.request(9)
        request.most_input_tokens("strict", known)
        now = request.measured_by("ok", 10)
        transcript.append(said("ok", "assistant"))
        return now, list(hashed)

    known, first = take_turn(None)
    for _ in range(998):
        known, _ = take_turn(known)
    assert take_turn(known)[1] == first
    assert sum(first) < 500


def test_a_transcript_that_is_emptied_has_the_same_header() -> None:
    full = of(QUESTION, system="s", tools=[{"name": "t"}], tool_choice="any").transcript
    assert (full.emptied().messages, full.emptied().digest_at(0)) == ([], full.digest_at(0))


# -- the output -------------------------------------------------------------------------------------------------------


def test_a_request_has_only_what_is_used() -> None:
    assert set(of(QUESTION).as_kwargs()) == {"model", "max_tokens", "messages"}
    full = of(QUESTION, system="s", tools=({"name": "t"},), tool_choice="any").as_kwargs()
    assert full["tools"] == [{"name": "t"}]
    assert set(full) == {"model", "max_tokens", "messages", "system", "tools", "tool_choice"}


def test_a_request_keeps_its_messages_while_the_conversation_goes_on() -> None:
    transcript = of(QUESTION).transcript
    request = transcript.request(9)
    transcript.append(ANSWER)
    assert request.as_kwargs()["messages"] == [QUESTION]
    assert request.clamped(9) is request
    assert request.clamped(5).max_tokens == 5


@given(
    used=st.integers(0, 3_000), asked=st.integers(0, 2_000), wanted=st.integers(1, 3_000), cost=st.integers(0, 9_000)
)
def test_what_fits_is_under_each_ceiling_or_less_than_is_worth_a_call(used, asked, wanted, cost) -> None:
    rates = Rates(input=1_000_000, output=3_000_000, cache_read=1, cache_write=1)
    price = Price(model="m", tiers=((0, rates),), source="t", as_of="d")
    balance = Balance("s", Amounts(0, used, used), Amounts(), Ceilings(tokens=3_000, cost_microusd=cost))
    most = output_that_fits(balance, of(max_tokens=wanted), asked, price, "strict")
    fits = used + asked + most <= 3_000 and used + price.most_microusd(asked, most) <= cost
    assert 1 <= most <= wanted
    assert fits or most == min(wanted, minimum_output("strict"))


def test_without_ceilings_a_request_gets_what_it_asks_for() -> None:
    assert output_that_fits(Balance("s"), of(max_tokens=7), 0, None, "strict") == 7


@pytest.mark.parametrize("max_tokens", [0, -1, True, 1.5, "9"])
def test_a_limit_of_a_request_that_is_no_whole_number_is_refused(max_tokens) -> None:
    with pytest.raises(ValueError, match="max_tokens is"):
        of(QUESTION, max_tokens=max_tokens)
