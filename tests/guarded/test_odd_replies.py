"""Replies that no proper provider gives: what the ledger says is what they say was used, or the whole reservation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from guarded.kit import Desk
from guarded.raw_provider import a_raw_desk, as_stream, chunks, delta

CHAT = ("openai", "async openai")
USED = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
SO_FAR = {"prompt_tokens": 11, "completion_tokens": 1, "total_tokens": 12}


@pytest.fixture(params=CHAT)
def chat(request: pytest.FixtureRequest, tmp_store: Path) -> Iterator[Desk]:
    with a_raw_desk(request.param, tmp_store, held_tools=frozenset({"pay"})) as opened:
        yield opened


def answering(desk: Desk, answer: bytes) -> Desk:
    provider: Any = desk.provider
    provider.answer = answer
    return desk


# -- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [None, 99_999])
def test_a_count_in_the_middle_of_a_stream_is_not_taken_for_the_whole(chat: Desk, length: int | None) -> None:
    early: dict[str, Any] = {**delta(content="hi"), "usage": SO_FAR}
    with suppress(openai.APIError):  # a stream that is said to be longer
        answering(chat, as_stream(chunks(early, delta(content=" there"), usage=None), length=length)).stream()
    (reserve,) = chat.rows("reserve")
    assert chat.balance.used.tokens == reserve.data["reserve"][1] > 18


def test_of_counts_with_each_chunk_the_last_is_the_whole(chat: Desk) -> None:
    early: dict[str, Any] = {**delta(content="hi"), "usage": SO_FAR}
    answering(chat, as_stream(chunks(early, usage=USED))).stream()
    assert (chat.balance.spent.tokens, chat.balance.reserved.tokens) == (18, 0)
