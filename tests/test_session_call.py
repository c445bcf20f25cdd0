"""One call by any client, as a block: whatever happens in it, the reservation is closed or named. Both ways of `with`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest
from sessions import ASYNCHRONOUS, BLOCKING, SPEC, a_session, ask
from stores.kit import open_sqlite

from donewhen.client import Reply, ToolCall, read_reply
from donewhen.errors import CircuitBreakerError, LedgerUnavailableError, OutcomeUnknownError, PermitClosedError
from donewhen.ledger import Ledger
from donewhen.session import Session
from donewhen.session_call import SessionCall
from donewhen.testing import Answer, FakeClock, FakeProvider, FaultyStore
from donewhen.usage import Usage


@pytest.fixture
def ledger(tmp_store) -> Iterator[Ledger]:
    with Ledger(tmp_store) as opened:
        yield opened


@pytest.fixture(params=[BLOCKING, ASYNCHRONOUS])
def within(request) -> Callable[..., Any]:
    """Run something in the block of a call."""

    def blocking(session: Session, do: Callable[[SessionCall], Any], **options: Any) -> Any:
        with session.call(options.pop("request", None) or ask(), **options) as call:
            return do(call)

    def asynchronous(session: Session, do: Callable[[SessionCall], Any], **options: Any) -> Any:
        async def main() -> Any:
            async with session.call(options.pop("request", None) or ask(), **options) as call:
                return do(call)

        return asyncio.run(main())

    return blocking if request.param == BLOCKING else asynchronous


def raising(error: BaseException) -> Callable[[SessionCall], Any]:
    def do(_call: SessionCall) -> None:
        raise error

    return do


class RateLimitedError(Exception):
    status_code = 429


def last(ledger: Ledger) -> Any:
    return ledger.rows(SPEC.session_id)[-1]


def test_a_call_is_on_disk_before_the_block_begins_and_settled_in_it(ledger, within) -> None:
    def do(call: SessionCall) -> Any:
        reserve = last(ledger)
        assert (reserve.kind, reserve.seq) == ("reserve", call.permit.seq)
        assert call.request.as_kwargs()["max_tokens"] == 100
        return call.settle(Usage(7, 3, 2, 1))

    settled = within(a_session(ledger), do)
    assert (settled.row.kind, settled.row.token_delta) == ("llm", 13)
    assert settled.row.data["usage"] == {"input": 7, "output": 3, "cache_read": 2, "cache_write": 1}
    assert last(ledger).after[-1].reserved.tokens == 0


def test_a_request_is_clamped_to_what_is_left_and_gets_a_limit_where_it_has_none(ledger, within) -> None:
    session = a_session(ledger, tokens=400)
    assert within(session, lambda call: (call.settle(Usage(5, 5)), call.request.max_tokens)[1]) == 100
    small = within(
        session, lambda call: (call.settle(Usage(5, 5)), call.request.max_tokens)[1], request=ask(max_tokens=None)
    )
    assert 100 < small < 400


def test_a_breach_is_raised_and_the_block_is_never_entered(ledger, within) -> None:
    entered: list[object] = []
    with pytest.raises(CircuitBreakerError, match="token_ceiling"):
        within(a_session(ledger, tokens=10), entered.append)
    assert entered == []
    assert last(ledger).kind == "circuit_breaker"


def test_a_whole_reply_names_its_tool_calls(ledger, within) -> None:
    reply = Reply(
        content=(),
        text="",
        tool_calls=(ToolCall("1", "look", {"x": 1}),),
        stop_reason="tool_use",
        usage=Usage(4, 4),
    )
    settled = within(a_session(ledger), lambda call: call.settle(reply))
    assert [tool["name"] for tool in settled.row.data["tools"]] == ["look"]
    assert [call.name for call in settled.tools] == ["look"]


@pytest.mark.parametrize("usage", [Usage(0, 0), Usage(-1, 5), Usage(5, 10**13)])
def test_usage_that_cannot_be_true_is_charged_the_whole_reservation(ledger, within, usage) -> None:
    settled = within(a_session(ledger), lambda call: (call.settle(usage), call.permit.reserved.tokens))
    assert settled[0].row.token_delta == settled[1]
    assert "usage_fault" in settled[0].row.data


@pytest.mark.parametrize("error", [RateLimitedError(), ConnectionRefusedError()])
def test_a_block_that_fails_without_work_done_gives_its_reservation_back(ledger, within, error) -> None:
    with pytest.raises(type(error)):
        within(a_session(ledger), raising(error))
    row = last(ledger)
    assert (row.kind, row.after[-1].used.tokens) == ("error", 0)


@pytest.mark.parametrize("error", [TimeoutError(), ValueError("a bug"), KeyboardInterrupt(), SystemExit()])
def test_a_block_that_fails_otherwise_stays_charged_in_full(ledger, within, error) -> None:
    with pytest.raises(type(error)):
        within(a_session(ledger), raising(error))
    row = last(ledger)
    assert (row.kind, row.data["problem"]) == ("abandoned", f"the call ended with {type(error).__name__} and no reply")
    assert row.after[-1].reserved.tokens > 100


def test_a_block_that_ends_without_settle_is_an_error_that_names_the_reservation(ledger, within) -> None:
    with pytest.raises(OutcomeUnknownError, match=r"in row 4 of session session-1, stands"):
        within(a_session(ledger), lambda _call: None)
    row = last(ledger)
    assert (row.kind, row.doubts, row.after[-1].reserved.turns) == ("abandoned", 4, 1)


def test_a_call_can_be_released_or_abandoned_by_hand(ledger, within) -> None:
    session = a_session(ledger)
    within(session, lambda call: call.release())
    assert (last(ledger).kind, last(ledger).after[-1].used.tokens) == ("error", 0)
    within(session, lambda call: call.abandon("the line went dead"))
    assert (last(ledger).kind, last(ledger).data["problem"]) == ("abandoned", "the line went dead")


def test_what_fails_after_the_settlement_changes_nothing(ledger, within) -> None:
    def do(call: SessionCall) -> None:
        call.settle(Usage(5, 5))
        raise ValueError("in what the caller does with the answer")

    with pytest.raises(ValueError, match="answer"):
        within(a_session(ledger), do)
    assert (last(ledger).kind, last(ledger).after[-1].spent.tokens) == ("llm", 10)


def test_a_call_is_settled_once(ledger, within) -> None:
    def do(call: SessionCall) -> None:
        call.settle(Usage(5, 5))
        call.settle(Usage(5, 5))

    with pytest.raises(PermitClosedError):
        within(a_session(ledger), do)
    assert last(ledger).after[-1].spent.tokens == 10


def test_another_attempt_reserves_the_same_turn(ledger, within) -> None:
    session, permits = a_session(ledger), []
    with pytest.raises(RateLimitedError):
        within(session, lambda call: (permits.append(call.permit), raising(RateLimitedError())(call)))
    within(session, lambda call: call.settle(Usage(5, 5)), retry_of=permits[0])
    assert (last(ledger).turn_count, last(ledger).data["attempt"], last(ledger).after[-1].spent.turns) == (1, 2, 1)


def test_a_block_is_entered_once_and_reserves_nothing_before(ledger) -> None:
    call = a_session(ledger).call(ask())
    with pytest.raises(RuntimeError, match="before the block"):
        _ = call.request
    with call:
        call.settle(Usage(5, 5))
    with pytest.raises(RuntimeError, match="entered once"), call:
        pass


def test_how_long_the_call_took_is_in_its_row(ledger, within) -> None:
    clock = FakeClock()
    session = a_session(ledger, monotonic=clock.monotonic)
    within(session, lambda call: (clock.move(1.25), call.settle(Usage(5, 5))))
    assert last(ledger).execution_time_ms == 1250


def test_a_settlement_that_cannot_be_written_stays_charged(tmp_store, within) -> None:
    store = FaultyStore(open_sqlite(tmp_store))
    with Ledger(tmp_store, store=store) as ledger:
        session = a_session(ledger)

        def do(call: SessionCall) -> None:
            store.fail(stored=False, times=2)
            call.settle(Usage(5, 5))

        with pytest.raises(LedgerUnavailableError):
            within(session, do)
        assert (last(ledger).kind, last(ledger).after[-1].reserved.turns) == ("reserve", 1)


def test_a_task_that_is_cancelled_while_it_reserves_gives_back_and_one_that_has_sent_does_not(ledger) -> None:
    session = a_session(ledger)
    sent = threading.Event()

    async def make(*, wait: bool) -> None:
        async with session.call(ask()) as call:
            sent.set()
            await asyncio.sleep(60 if wait else 0)
            call.settle(Usage(5, 5))

    async def cancelled_at_once() -> None:
        task = asyncio.create_task(make(wait=True))
        await asyncio.sleep(0)  # it is in its first write
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def cancelled_later() -> None:
        task = asyncio.create_task(make(wait=True))
        await asyncio.to_thread(sent.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled_at_once())
    assert not sent.is_set()
    assert (last(ledger).kind, last(ledger).after[-1].used.tokens) == ("error", 0)
    asyncio.run(cancelled_later())
    assert (last(ledger).kind, last(ledger).after[-1].reserved.turns) == ("abandoned", 1)


def test_an_awaited_settlement_does_not_block_the_loop_and_is_the_same(ledger) -> None:
    async def main() -> Any:
        async with a_session(ledger).call(ask()) as call:
            return await call.asettle(Usage(5, 5))

    assert asyncio.run(main()).row.token_delta == 10


def test_any_client_is_governed_by_it(ledger, within) -> None:
    with FakeProvider(lambda _request: Answer("hello")) as provider:
        client = anthropic.Anthropic(base_url=provider.url, api_key="any", max_retries=0)
        with client:
            session = a_session(ledger)
            for _ in range(3):
                within(
                    session,
                    lambda call: call.settle(read_reply(client.messages.create(**call.request.as_kwargs()))),
                )
    assert last(ledger).after[-1].spent.tokens == provider.served.total
