"""What a type checker sees of guarded clients. Checked by test_types.py, never run."""

from __future__ import annotations

import anthropic
import openai
from anthropic.types import Message
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from typing_extensions import assert_type  # of the SDKs' own dependencies

from donewhen import Session, guard


def blocking(session: Session, one: anthropic.Anthropic, two: openai.OpenAI) -> None:
    claude, gpt = guard(one, session), guard(two, session)
    assert_type(claude, anthropic.Anthropic)
    assert_type(gpt, openai.OpenAI)
    message = claude.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": "hi"}])
    assert_type(message, Message)
    completion = gpt.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert_type(completion, ChatCompletion)
    chunks = gpt.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
    assert_type(chunks, openai.Stream[ChatCompletionChunk])
    assert_type(gpt.responses.create(model="m", input="hi"), Response)
    assert_type(claude.with_options(timeout=3), anthropic.Anthropic)
    with claude.messages.stream(model="m", max_tokens=5, messages=[]) as stream:
        assert_type(stream.get_final_text(), str)


async def asynchronous(session: Session, one: anthropic.AsyncAnthropic, two: openai.AsyncOpenAI) -> None:
    claude, gpt = guard(one, session), guard(two, session)
    assert_type(claude, anthropic.AsyncAnthropic)
    assert_type(gpt, openai.AsyncOpenAI)
    message = await claude.messages.create(model="m", max_tokens=5, messages=[])
    assert_type(message, Message)
    assert_type(await gpt.responses.create(model="m", input="hi"), Response)
