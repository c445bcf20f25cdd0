"""Use any server that speaks OpenAI's wire: `python examples/openai_compatible.py --base-url URL --model NAME`.

That is Ollama (http://localhost:11434/v1), vLLM, LM Studio and many more. Without a base URL a server is started on
this machine that speaks the wire and answers by rules; the official SDK talks to it over HTTP.
"""

from __future__ import annotations

import contextlib
import sys

from _shared import arguments_parser, new_session_id, open_store, show_end

from donewhen import AgentLoop, CircuitBreaker, Ledger, Regex, SpecResult
from donewhen.providers.offline import OFFLINE_MODEL, OfflineClient
from donewhen.providers.openai import make_openai
from donewhen.testing import Answer, FakeProvider, ProviderRequest

TICKET = "Support ticket: I was charged twice for my subscription. Please refund one payment."


def answer_by_rules(request: ProviderRequest) -> Answer:
    """Answer a request of the wire with what the offline client says."""
    messages = [message for message in request.body["messages"] if message["role"] != "system"]
    reply = OfflineClient().messages.create(
        model=OFFLINE_MODEL, max_tokens=request.max_tokens or 1_024, messages=messages
    )
    return Answer(text="".join(block.text for block in reply.content if block.type == "text"))


def main() -> int:
    parser = arguments_parser("Use a server that speaks OpenAI's wire.")
    parser.add_argument("--base-url", help="default: a server of our own on this machine")
    arguments = parser.parse_args()
    store = open_store(arguments)
    spec = SpecResult(
        what_it_does="Sorts one support ticket.",
        what_it_does_not="Answer the customer.",
        done_looks_like="The reply names the queue.",
        session_id=new_session_id(),
    )
    with contextlib.ExitStack() as stack:
        base_url = arguments.base_url or stack.enter_context(FakeProvider(answer_by_rules)).url + "/v1"
        client = stack.enter_context(contextlib.closing(make_openai(base_url=base_url)))
        loop = AgentLoop(
            spec,
            CircuitBreaker(turn_limit=3, token_limit=10_000),
            Ledger(store),
            client,
            model=arguments.model or OFFLINE_MODEL,
            checks=[Regex(r"(?i)\bqueue\b", name="the queue is named")],
        )
        result = loop.run(f"Which queue does this belong to? Answer with JSON: category, priority, queue.\n\n{TICKET}")
    print(f"\n{result.output or '(nothing)'}")
    return show_end(result, store)


if __name__ == "__main__":
    sys.exit(main())
