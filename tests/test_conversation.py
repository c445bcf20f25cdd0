"""The messages of a session: what is said, heard, kept, and read back."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sessions import calls_of

from donewhen.bounds import Measured, Transcript
from donewhen.client import ToolCall, read_reply
from donewhen.conversation import LABEL, Conversation
from donewhen.testing import make_reply
from donewhen.tools import ToolResult

CALL = ToolCall("a", "look", {"x": 1})
TEXT = st.text(max_size=20)


def a_conversation(*, kept: bool = True) -> Conversation:
    return Conversation(Transcript(model="m"), kept=kept)


class Kept:
    """Rows with texts beside them, as a ledger has them."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.texts: dict[tuple[int, str], str] = {}

    def add(self, kind: str, texts: dict[str, str], **data: Any) -> None:
        row = SimpleNamespace(id=len(self.rows), kind=kind, token_delta=50, data={"usage": {}, **data, "texts": texts})
        self.rows.append(row)
        self.texts.update({(row.id, label): text for label, text in texts.items()})

    def find(self, row: Any, label: str) -> str | None:
        return self.texts.get((row.id, label))

    def read_back(self) -> tuple[Conversation, list[Measured]]:
        conversation, remembered = a_conversation(), []
        conversation.take_up(self.rows, self.find, remembered.append)
        return conversation, remembered


def test_messages_are_kept_once_each_beside_the_row_they_came_with() -> None:
    conversation = a_conversation()
    conversation.say("task")
    assert json.loads(conversation.unkept()[LABEL]) == [{"role": "user", "content": "task"}]
    assert conversation.unkept() == {}
    assert json.loads(conversation.hear(read_reply(make_reply("ok")))[LABEL]) == [
        {"role": "assistant", "content": "ok"}
    ]


def test_nothing_is_kept_where_nothing_is_to_be() -> None:
    conversation = a_conversation(kept=False)
    conversation.say("task")
    assert (conversation.unkept(), conversation.hear(read_reply(make_reply("ok")))) == ({}, {})


@given(st.lists(st.tuples(TEXT, TEXT), max_size=5))
def test_what_is_read_back_is_what_was_said(turns) -> None:
    conversation, kept = a_conversation(), Kept()
    for asked, told in turns:
        conversation.say(asked)
        kept.add("reserve", conversation.unkept())
        kept.add("llm", conversation.hear(read_reply(calls_of(CALL, text=told))))
        conversation.answer([(CALL, ToolResult(asked, bool(told)))], told or None)
    kept.add("reserve", conversation.unkept())
    again, remembered = kept.read_back()
    assert again.messages == conversation.messages
    assert len(remembered) == len(turns)
    assert again.unkept() == {}
    for measured in remembered:
        assert conversation.transcript.digest_at(measured.messages) == measured.digest


def test_an_error_of_a_tool_is_marked_and_a_notice_comes_last() -> None:
    conversation = a_conversation()
    conversation.answer([(CALL, ToolResult("bad", True)), (ToolCall("b", "look", {}), ToolResult("good"))], "hurry")
    assert conversation.messages[-1]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "bad", "is_error": True},
        {"type": "tool_result", "tool_use_id": "b", "content": "good"},
        {"type": "text", "text": "hurry"},
    ]


def test_open_calls_are_those_of_the_last_message_alone() -> None:
    conversation = a_conversation()
    conversation.hear(read_reply(make_reply("text")))
    assert conversation.open_calls() == []
    conversation.hear(read_reply(calls_of(CALL, text="and")))
    assert conversation.open_calls() == [CALL]
    conversation.answer([(CALL, ToolResult("ok"))])
    assert conversation.open_calls() == []


def test_results_that_were_kept_are_those_after_the_newest_reply() -> None:
    kept = Kept()
    for number in (1, 2):
        kept.add("llm", a_conversation().hear(read_reply(calls_of(CALL))))
        kept.add("tool", {"result": f"seen {number}"}, call="a", is_error=number == 2)
    assert kept.read_back()[0].kept_results == {"a": ToolResult("seen 2", True)}
    kept.add("llm", a_conversation().hear(read_reply(calls_of(CALL))))
    assert kept.read_back()[0].kept_results == {}


def test_texts_that_were_erased_are_left_out() -> None:
    kept = Kept()
    kept.add("llm", {LABEL: "[]", "x": ""})
    kept.add("tool", {"result": "seen"}, call="a", is_error=False)
    kept.texts.clear()
    conversation, remembered = kept.read_back()
    assert (conversation.messages, conversation.kept_results, remembered) == ([], {}, [])


def test_a_reply_without_usage_measures_nothing() -> None:
    kept = Kept()
    kept.add("llm", a_conversation().hear(read_reply(make_reply("ok"))), usage=None)
    conversation, remembered = kept.read_back()
    assert (len(conversation.messages), remembered) == (1, [])


def test_half_a_conversation_is_none() -> None:
    """A text in its middle was erased: what is left would be another conversation."""
    kept = Kept()
    for number in (1, 2, 3):
        kept.add("reserve", {LABEL: f'[{{"role": "user", "content": "{number}"}}]'})
    del kept.texts[1, LABEL]
    assert kept.read_back()[0].messages == []


def test_what_was_measured_under_another_header_is_not_remembered() -> None:
    kept, before = Kept(), Conversation(Transcript(model="m", system="short"), kept=True)
    before.say("task")
    kept.add("reserve", before.unkept())
    kept.add("llm", before.hear(read_reply(make_reply("ok"))))
    longer = Conversation(Transcript(model="m", system="s" * 1_000), kept=True)
    remembered: list[Measured] = []
    longer.take_up(kept.rows, kept.find, remembered.append)
    assert (len(longer.messages), remembered) == (2, [])


def test_a_turn_that_was_paused_goes_on_without_a_word() -> None:
    for reason, messages in (("pause_turn", 1), ("max_tokens", 2)):
        kept = Kept()
        kept.add("llm", a_conversation().hear(read_reply(make_reply("x"))), stop_reason=reason)
        again, _ = kept.read_back()
        again.take_turn()
        assert len(again.messages) == messages


def test_a_reply_that_was_cut_off_goes_on_in_the_next() -> None:
    conversation = Conversation(Transcript(model="m"), kept=False)
    conversation.listen(read_reply(make_reply("the first half, ", stop_reason="max_tokens")))
    whole = conversation.listen(read_reply(make_reply("the second")))
    assert whole == conversation.text == "the first half, the second"
    assert conversation.listen(read_reply(make_reply("another"))) == conversation.text == "another"
