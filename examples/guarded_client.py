"""Put an agent that is already there under a session: `python examples/guarded_client.py`.

The agent is a plain loop over the official SDK and knows nothing of donewhen. With ANTHROPIC_API_KEY or OPENAI_API_KEY it
talks to the provider; without, to a server on this machine that speaks both wires and never says that it has finished.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

import anthropic
import openai
from _shared import KEYS, MODELS, arguments_parser, new_session_id, open_store

from donewhen import CircuitBreaker, CircuitBreakerError, Ledger, SpecResult, guard, open_session
from donewhen.testing import Answer, FakeProvider

Message = dict[str, Any]


def ask_claude(client: anthropic.Anthropic, model: str, messages: list[Message]) -> str:
    with client.messages.stream(model=model, max_tokens=400, messages=messages) as stream:
        return stream.get_final_text()


def ask_gpt(client: openai.OpenAI, model: str, messages: list[Message]) -> str:
    completion = client.chat.completions.create(model=model, messages=messages)
    return completion.choices[0].message.content or ""


def the_agent_that_was_there(ask: Any, client: Any, model: str) -> None:
    """Improve a title, for ever: nobody said when to stop."""
    messages: list[Message] = [{"role": "user", "content": "Suggest a better title for: 'Home'."}]
    while True:
        title = ask(client, model, messages)
        print(f"suggested: {title}")
        messages += [{"role": "assistant", "content": title}, {"role": "user", "content": "Better still?"}]


def make_client(arguments: Any, stack: contextlib.ExitStack) -> tuple[Any, Any, str]:
    """Return how to ask, the SDK's client, and the model."""
    with_key = [name for name, key in KEYS.items() if os.environ.get(key)]
    name = arguments.client or (with_key[0] if with_key else "offline")
    model = arguments.model or MODELS[name]
    print(f"client: {name}, model: {model}")
    if name == "openai":
        return ask_gpt, stack.enter_context(openai.OpenAI()), model
    if name == "anthropic":
        return ask_claude, stack.enter_context(anthropic.Anthropic()), model
    provider = stack.enter_context(FakeProvider(lambda request: Answer(f"Spring offers, take {request.number}")))
    return ask_claude, stack.enter_context(anthropic.Anthropic(base_url=provider.url, api_key="any")), model


def main() -> int:
    arguments = arguments_parser("Guard the client of an agent that is already there.").parse_args()
    spec = SpecResult("Suggests a title.", "Publish it.", "One title is suggested.", new_session_id())
    breaker = CircuitBreaker(turn_limit=4, token_limit=8_000)
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(Ledger(open_store(arguments)))
        ask, client, model = make_client(arguments, stack)
        session = stack.enter_context(open_session(spec, breaker, ledger))
        try:
            the_agent_that_was_there(ask, guard(client, session), model)  # the one line
        except CircuitBreakerError as breach:
            print(f"\nstopped: {breach}")
        for row in ledger.get_session(spec.session_id):
            print(f"turn {row.turn_count}: {row.state_origin}, {row.token_delta} tokens")
    return 0


if __name__ == "__main__":
    sys.exit(main())
