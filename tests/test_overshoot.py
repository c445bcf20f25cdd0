"""Ceilings hold: against a provider that honours max_tokens, and one that ignores it, counted by the provider itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import anthropic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sessions import SPEC, a_session, ask

from donewhen.agent_loop import AgentLoop
from donewhen.bounds import Request
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import read_reply
from donewhen.errors import CircuitBreakerError, SessionEndedError
from donewhen.ledger import Ledger
from donewhen.session import Session
from donewhen.testing import Answer, FakeProvider, ProviderRequest, one_token_per_byte
from donewhen.testing.tokens import count_prompt

CEILING = 10_000
WORKERS = 8

TEXTS = {
    "ascii": "all work and no play ",
    "hex": "9f86d081884c7d659a2feaa0c55ad015",
    "chinese": "你好世界這是一個測試",
    "ligature": "\ufdfa",
    "emoji": "👩‍👩‍👧‍👦",
}


@pytest.fixture
def ledger(tmp_store) -> Iterator[Ledger]:
    with Ledger(tmp_store) as opened:
        yield opened


def repeated(pattern: str, length: int) -> str:
    return (pattern * (length // len(pattern) + 1))[:length]


def a_provider(answer: Any, **options: Any) -> FakeProvider:
    handler = answer if callable(answer) else lambda _request: answer
    return FakeProvider(handler, count=one_token_per_byte, **options)


def sdk(provider: FakeProvider) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=provider.url, api_key="any", max_retries=0)


def call_once(session: Session, client: Any, request: Request) -> bool:
    """Make one governed call; tell whether it was allowed."""
    try:
        permit = session.admit(request)
    except CircuitBreakerError:
        return False
    session.settle(permit, read_reply(client.messages.create(**permit.request.as_kwargs())))
    return True


def spend(session: Session, client: Any, requests: Iterable[Request]) -> list[bool]:
    return [call_once(session, client, request) for request in requests]


def assert_books_agree(ledger: Ledger, provider: FakeProvider) -> None:
    balance = ledger.rows(SPEC.session_id)[-1].after[-1]
    assert balance.reserved.tokens == 0
    assert balance.spent.tokens == provider.served.total


SERIES = {
    "a thousand and two hundred": [(1_000, 200)] * 20,
    "growing": [(100 * n, 40 * n) for n in range(1, 20)],
    "a huge question in the middle": [*[(1_000, 200)] * 3, (50_000, 200), *[(1_000, 200)] * 9],
    "a huge answer in the middle": [*[(1_000, 200)] * 3, (1_000, 50_000), *[(1_000, 200)] * 9],
}


@pytest.mark.parametrize("name", SERIES)
def test_strict_never_passes_the_ceiling(ledger, name) -> None:
    answers = {f"{n}": output for n, (_, output) in enumerate(SERIES[name])}

    def answer(request: ProviderRequest) -> Answer:
        number = request.body["messages"][0]["content"].partition(" ")[0]
        return Answer("b" * answers[number])

    requests = [ask(f"{n} " + "a" * (size - 3), most) for n, (size, most) in enumerate(SERIES[name])]
    with a_provider(answer) as provider, sdk(provider) as client:
        allowed = spend(a_session(ledger), client, requests)
    assert provider.served.total <= CEILING
    assert sum(allowed) == len(provider.requests) >= 3
    assert not all(allowed)
    assert_books_agree(ledger, provider)


@pytest.mark.parametrize("name", TEXTS)
def test_strict_holds_for_text_of_one_token_per_character_and_worse(ledger, name) -> None:
    answer = Answer(repeated(TEXTS[name], 400))
    requests = [ask(repeated(TEXTS[name], length), 1_024) for length in (10, 300, 20, 300, 40, 300, 1, 300, 1, 1, 1, 1)]
    with a_provider(answer) as provider, sdk(provider) as client:
        allowed = spend(a_session(ledger), client, requests)
    assert provider.served.total <= CEILING
    assert any(allowed)
    assert_books_agree(ledger, provider)


@pytest.mark.parametrize("name", TEXTS)
def test_a_strict_loop_that_never_ends_stays_below_its_ceiling(ledger, name) -> None:
    """The conversation grows: what was measured stands in for its beginning."""
    answer = Answer(repeated(TEXTS[name], 200), stop_reason="max_tokens")
    breaker = CircuitBreaker(1_000, CEILING, output_fn=lambda _notice: None)
    with a_provider(answer) as provider, sdk(provider) as client:
        loop = AgentLoop(SPEC, breaker, ledger, client, max_tokens=300, bound="strict")
        result = loop.run(repeated(TEXTS[name], 50))
        assert result.breach_reason == "token_ceiling"
        assert provider.served.total == result.total_tokens <= CEILING
        assert result.turns >= 3
        sent = len(provider.requests)
        for _ in range(20):
            for try_again in (loop.run, loop.resume):
                with pytest.raises(SessionEndedError, match="Raise its ceiling"):
                    try_again("task")
        assert len(provider.requests) == sent


def test_after_a_breach_twenty_more_tries_send_nothing(ledger) -> None:
    with a_provider(Answer("b" * 5_000)) as provider, sdk(provider) as client:
        session = a_session(ledger)
        while call_once(session, client, ask("a" * 500, 2_000)):
            pass
        sent = len(provider.requests)
        assert spend(session, client, [ask("a" * 500, 2_000)] * 20) == [False] * 20
        assert len(provider.requests) == sent


def test_a_reply_longer_than_allowed_passes_the_ceiling_once_and_is_marked(ledger) -> None:
    answer = Answer("b" * 50_000)
    requests = [ask("a" * 1_000, 200)] * 21
    with a_provider(answer, honours_max_tokens=False) as provider, sdk(provider) as client:
        allowed = spend(a_session(ledger), client, requests)
    assert allowed == [True] + [False] * 20
    assert len(provider.requests) == 1
    (row,) = [row for row in ledger.rows(SPEC.session_id) if row.kind == "llm"]
    (reserve,) = [row for row in ledger.rows(SPEC.session_id) if row.kind == "reserve"]
    assert row.data["over_reservation"] == provider.served.total - reserve.data["reserve"][1] > 0
    assert_books_agree(ledger, provider)


def test_small_overruns_pass_the_ceiling_by_the_last_reply_at_most(ledger) -> None:
    with a_provider(Answer("b" * 900), honours_max_tokens=False) as provider, sdk(provider) as client:
        spend(a_session(ledger), client, [ask("a" * 100, 50)] * 30)
        last = provider.requests[-1].input_tokens + 900
    assert provider.served.total - last <= CEILING
    rows = [row for row in ledger.rows(SPEC.session_id) if row.kind == "llm"]
    assert all("over_reservation" in row.data for row in rows)
    assert_books_agree(ledger, provider)


# -- eight at once ----------------------------------------------------------------------------------------------------


def in_threads(work: Any) -> None:
    barrier, errors = threading.Barrier(WORKERS), []

    def run(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_eight_threads_on_one_session_stay_below_its_ceiling(ledger) -> None:
    with a_provider(Answer("b" * 3_000)) as provider, sdk(provider) as client:
        session = a_session(ledger)

        def work(number: int) -> None:
            assert not all(spend(session, client, [ask("a" * 100 * (number + 1), 150)] * 12))

        in_threads(work)
    assert CEILING * 0.8 < provider.served.total <= CEILING
    assert_books_agree(ledger, provider)
    assert session.newest_balance == ledger.rows(SPEC.session_id)[-1].after[-1]


def test_eight_tasks_on_one_session_stay_below_its_ceiling(ledger) -> None:
    async def work(session: Session, client: Any, number: int) -> None:
        for _ in range(12):
            try:
                permit = session.admit(ask("a" * 100 * (number + 1), 150))
            except CircuitBreakerError:
                continue
            session.settle(permit, read_reply(await client.messages.create(**permit.request.as_kwargs())))

    async def main(url: str) -> None:
        session = a_session(ledger)
        async with anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as client:
            await asyncio.gather(*[work(session, client, number) for number in range(WORKERS)])

    with a_provider(Answer("b" * 3_000)) as provider:
        asyncio.run(main(provider.url))
    assert CEILING * 0.8 < provider.served.total <= CEILING
    assert_books_agree(ledger, provider)


@pytest.mark.parametrize("turns", [1, 5])
def test_eight_threads_never_make_more_turns_than_allowed(ledger, turns) -> None:
    with a_provider(Answer("ok")) as provider, sdk(provider) as client:
        session = a_session(ledger, turns=turns, tokens=1_000_000)
        in_threads(lambda _number: spend(session, client, [ask("a", 20)] * 3))
        assert len(provider.requests) == turns


# -- every sequence ---------------------------------------------------------------------------------------------------


class TruthfulClient:
    """A provider in this process that counts one token for each byte and honours max_tokens."""

    def __init__(self, replies: list[str]) -> None:
        self.messages = self
        self.served = 0
        self._replies = iter(replies)

    def create(self, **call: Any) -> Any:
        used = count_prompt(one_token_per_byte, call["messages"], call["system"])
        text = next(self._replies)
        while one_token_per_byte(text) > call["max_tokens"]:
            text = text[: len(text) * 3 // 4]
        spoken = max(1, one_token_per_byte(text))
        self.served += used + spoken
        content = [SimpleNamespace(type="text", text=text)] if text else []
        usage = SimpleNamespace(input_tokens=used, output_tokens=spoken)
        return SimpleNamespace(content=content, stop_reason="max_tokens", usage=usage)


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(sorted(TEXTS.values()))


@settings(max_examples=15)
@given(replies=st.lists(ANY_TEXT, min_size=30, max_size=30), task=ANY_TEXT, ceiling=st.integers(0, 3_000))
def test_no_conversation_passes_a_strict_ceiling(tmp_path_factory, replies, task, ceiling) -> None:
    client = TruthfulClient(replies)
    breaker = CircuitBreaker(25, ceiling, output_fn=lambda _notice: None)
    with Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db") as ledger:
        result = AgentLoop(SPEC, breaker, ledger, client, max_tokens=200, bound="strict").run(task)
    assert client.served == result.total_tokens <= ceiling
