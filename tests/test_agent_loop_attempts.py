"""Attempts: what is released, what stays charged, how long is waited, and when there is no other attempt."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from sessions import DRIVERS, Desk, a_session, ask

from donewhen.client import Failure, read_reply
from donewhen.errors import CircuitBreakerError, PriceUnknownError
from donewhen.ledger import Ledger
from donewhen.testing import FakeClock, make_reply
from donewhen.usage import Price, Rates

PRICE = Price(model="m", tiers=((0, Rates(input=1_000_000, output=2_000_000, cache_read=0, cache_write=0)),), source="test", as_of="2026-01-01")  # fmt: skip


class StatusError(Exception):
    """An error of a provider's SDK."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"the message quotes the request: {status}")
        self.status_code = status
        self.response = SimpleNamespace(headers={name.replace("_", "-"): value for name, value in headers.items()})


class ConnectError(Exception):
    """Named as httpx names it: raised before anything was sent."""


class ReadError(ConnectionError):
    """Raised when the reply was cut off."""


@pytest.fixture(params=DRIVERS)
def desk(request, tmp_store) -> Any:
    with Ledger(tmp_store) as ledger:
        yield Desk(ledger, request.param)


def used(desk: Desk) -> tuple[int, int]:
    """Return what is spent and what is reserved, in tokens."""
    balance = desk.rows()[-1].after[-1]
    return balance.spent.tokens, balance.reserved.tokens


@pytest.mark.parametrize("status", [429, 529])
def test_a_refusal_that_may_pass_is_released_and_tried_again(desk, status) -> None:
    result = desk.run(StatusError(status), make_reply("done"))
    assert (result.success, result.turns, used(desk)) == (True, 1, (15, 0))
    assert desk.kinds() == ["spec", "policy", "open", "reserve", "error", "reserve", "llm", "close"]
    (error,) = desk.rows("error")
    assert (error.data["status"], error.data["attempt"], error.closes) == (status, 1, desk.rows("reserve")[0].seq)
    assert [row.data["attempt"] for row in desk.rows("reserve")] == [1, 2]


def test_no_row_says_what_the_error_said(desk) -> None:
    desk.run(StatusError(429), make_reply("done"))
    assert all("quotes the request" not in str(row) for row in desk.rows())


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_failure_that_may_have_been_billed_stays_charged_and_its_turn_counts_once(desk, status) -> None:
    result = desk.run(StatusError(status), make_reply("done"), turns=1)
    first, second = desk.rows("reserve")
    assert (result.success, result.turns) == (True, 1)
    assert used(desk) == (15, first.data["reserve"][1])
    assert (first.data["reserve"][0], second.data["reserve"][0]) == (1, 0)
    assert desk.rows("abandoned")[0].doubts == first.seq


def test_failures_of_both_kinds_count_one_turn(desk) -> None:
    script = [StatusError(429), StatusError(500), StatusError(529), make_reply("done")]
    result = desk.run(*script, turns=1)
    assert (result.success, result.turns) == (True, 1)
    assert [row.data["reserve"][0] for row in desk.rows("reserve")] == [1, 1, 0, 0]
    assert desk.rows()[-1].after[-1].used.turns == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_refusal_for_good_is_not_tried_again(desk, status) -> None:
    result = desk.run(StatusError(status))
    assert (result.outcome, len(desk.calls), desk.slept, used(desk)) == ("interrupted", 1, [], (0, 0))
    assert result.reason == f"the provider answered with status {status}; another attempt would not help"


def test_a_connection_that_is_refused_is_released_and_tried_again(desk) -> None:
    result = desk.run(ConnectError(), ConnectionRefusedError(), make_reply("done"))
    assert (result.success, used(desk), len(desk.rows("error"))) == (True, (15, 0), 2)
    assert "could not be reached" in desk.rows("error")[0].data["problem"]


@pytest.mark.parametrize("error", [ReadError(), TimeoutError(), ConnectionResetError()])
def test_a_reply_that_was_cut_off_stays_charged(desk, error) -> None:
    result = desk.run(error, make_reply("done"))
    assert (result.success, len(desk.rows("abandoned"))) == (True, 1)
    assert used(desk)[1] == desk.rows("reserve")[0].data["reserve"][1]
    assert result.total_tokens == sum(used(desk))


def test_an_error_of_an_unknown_kind_passes_after_its_call_is_abandoned(desk) -> None:
    with pytest.raises(ZeroDivisionError):
        desk.run(ZeroDivisionError("a bug"))
    (row,) = desk.rows("abandoned")
    assert row.data["problem"] == "interrupted by ZeroDivisionError"
    assert used(desk)[1] > 1024


@pytest.mark.parametrize("reply", [None, "text", {"content": None}, {"content": [{"type": "tool_use"}]}])
def test_something_that_is_no_reply_stays_charged_and_ends_in_one_sentence(desk, reply) -> None:
    result = desk.run({} if reply is None else reply)
    assert (result.outcome, len(desk.rows("abandoned"))) == ("interrupted", 1)
    assert "the reply has" in result.reason or "without a list of content blocks" in result.reason


# -- waiting --------------------------------------------------------------------------------------------------------


def test_waits_double_up_to_half_a_minute(desk) -> None:
    desk.run(*[StatusError(529)] * 9, make_reply("done"), max_attempts=10)
    assert desk.slept == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_waits_are_jittered_down_to_a_half(desk) -> None:
    desk.run(StatusError(529), StatusError(529), make_reply("done"), jitter=lambda: 0.0)
    assert desk.slept == [0.25, 0.5]


def test_the_provider_may_ask_for_a_longer_wait(desk) -> None:
    desk.run(StatusError(429, retry_after="7"), StatusError(429, retry_after="0"), make_reply("done"))
    assert desk.slept == [7, 1]
    assert desk.rows("error")[0].data["retry_after_ms"] == 7_000


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2026 07:28:00 GMT", "nan", "inf", "-3", ""])
def test_a_wait_that_is_no_number_of_seconds_is_not_heeded(desk, header) -> None:
    desk.run(StatusError(429, retry_after=header), make_reply("done"))
    assert desk.slept == [0.5]


def test_a_wait_that_is_too_long_ends_in_one_sentence(desk) -> None:
    result = desk.run(StatusError(429, retry_after="99999"))
    assert (result.outcome, desk.slept, used(desk)) == ("interrupted", [], (0, 0))
    told = "the provider answered with status 429 and asks to wait 99999 s, longer than the 300 s that are allowed"
    assert result.reason == told


def test_a_wait_must_fit_under_the_time_ceiling(desk) -> None:
    result = desk.run(StatusError(429, retry_after="20"), limits={"seconds_limit": 10}, monotonic=lambda: 0.0)
    assert (result.outcome, desk.slept) == ("interrupted", [])
    assert "longer than the 10 s that are allowed" in result.reason


def test_a_session_whose_attempts_are_exhausted_is_interrupted_and_goes_on(desk) -> None:
    result = desk.run(*[StatusError(529)] * 4)
    assert (result.outcome, len(desk.calls), result.success) == ("interrupted", 4, False)
    assert result.reason == "the provider answered with status 529, 4 times"
    assert desk.rows("close") == []
    assert desk.run(make_reply("done")).success


def test_one_attempt_is_one_call(desk) -> None:
    result = desk.run(StatusError(529), max_attempts=1)
    assert (len(desk.calls), desk.slept, "1 times" in result.reason) == (1, [], True)


def test_another_attempt_that_does_not_fit_is_a_breach(desk) -> None:
    result = desk.run(StatusError(500), tokens=500)
    assert (result.breach_reason, len(desk.calls), result.turns) == ("token_ceiling", 1, 1)


def test_the_clocks_own_sleep_is_used_where_none_is_given(desk, monkeypatch) -> None:
    slept: list[float] = []

    async def asleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("time.sleep", slept.append)
    if desk.driver == "asynchronous":
        monkeypatch.setattr(asyncio, "sleep", asleep)
    desk.run(StatusError(529), make_reply("done"), sleep=None)
    assert 0.5 in slept


def test_a_clients_own_retries_are_switched_off(desk) -> None:
    asked: list[dict[str, Any]] = []
    client = SimpleNamespace(
        messages=None, with_options=lambda **options: asked.append(options) or "the client without"
    )
    assert (desk.make(client=client).client, asked) == ("the client without", [{"max_retries": 0}])


def test_something_that_is_no_client_is_refused_when_the_loop_is_made(desk) -> None:
    with pytest.raises(TypeError, match=r"a object has no messages\.create"):
        desk.make(client=object())


# -- turns of threads -----------------------------------------------------------------------------------------------


def test_a_turn_that_was_released_is_asked_for_again_whatever_others_did_meanwhile(tmp_store) -> None:
    """Else a thread that tries again would call for free once another has taken its turn."""
    with Ledger(tmp_store) as ledger:
        session = a_session(ledger, turns=2, tokens=1_000_000)
        session.admit(ask())
        second = session.admit(ask())
        session.release(second, Failure(rejected=True, problem="429"))
        session.admit(ask())
        with pytest.raises(CircuitBreakerError, match="turn_ceiling"):
            session.admit(ask(), retry_of=second)


# -- ceilings of cost and time --------------------------------------------------------------------------------------


def test_an_unknown_price_under_a_cost_ceiling_refuses_the_first_call(desk) -> None:
    with pytest.raises(PriceUnknownError, match="'claude-sonnet-4-6'"):
        desk.run(make_reply("done"), limits={"cost_limit_microusd": 1_000_000})
    assert (desk.calls, desk.kinds()) == ([], ["spec", "policy", "open"])


def test_a_session_without_a_way_to_find_prices_knows_none(tmp_store) -> None:
    with Ledger(tmp_store) as ledger:
        session = a_session(ledger, limits={"cost_limit_microusd": 10})
        with pytest.raises(PriceUnknownError):
            session.admit(ask())


def test_without_a_cost_ceiling_an_unknown_price_is_no_matter(desk) -> None:
    assert desk.run(make_reply("done")).success
    assert desk.rows("llm")[0].data["cost_microusd"] is None


def test_a_cost_ceiling_holds(desk) -> None:
    """Ten microusd for the input, ten for the output: 1 and 2 microusd for each token."""
    script = [make_reply("x", stop_reason="max_tokens")] * 20
    ceiling = {"cost_limit_microusd": 250}
    result = desk.run(*script, limits=ceiling, turns=50, find_price=lambda _: PRICE, model="m")
    cost = desk.rows()[-1].after[-1].used.cost_microusd
    assert (result.breach_reason, cost <= 250) == ("cost_ceiling", True)
    assert cost == len(desk.calls) * 20 > 0
    assert all(call["max_tokens"] * 2 <= 250 for call in desk.calls)
    assert desk.rows("llm")[0].data["price"] == {"source": "test", "as_of": "2026-01-01"}


def test_usage_that_cannot_be_believed_costs_the_whole_reservation(desk) -> None:
    desk.run({**make_reply("x"), "usage": None}, find_price=lambda _: PRICE, model="m")
    row = desk.rows("llm")[0]
    assert row.data["cost_microusd"] == desk.rows("reserve")[0].data["reserve"][2] > 0


def test_free_output_is_not_clamped_by_a_cost_ceiling(tmp_store) -> None:
    free = Price(model="m", tiers=((0, Rates(input=1, output=0, cache_read=0, cache_write=0)),), source="t", as_of="d")
    with Ledger(tmp_store) as ledger:
        session = a_session(ledger, limits={"cost_limit_microusd": 10}, find_price=lambda _: free)
        assert session.admit(ask(max_tokens=500)).request.max_tokens == 500


def test_a_time_ceiling_holds(desk) -> None:
    clock = FakeClock()

    def slow(_call: Any) -> Any:
        clock.move(4)
        return make_reply("x", stop_reason="max_tokens")

    result = desk.run(*[slow] * 9, limits={"seconds_limit": 10}, monotonic=clock.monotonic)
    assert (result.breach_reason, len(desk.calls)) == ("time_ceiling", 3)
    assert [row.execution_time_ms for row in desk.rows("llm")] == [4_000] * 3


def test_waiting_for_a_provider_counts_as_time(desk) -> None:
    clock = FakeClock()
    sleep = clock.asleep if desk.driver == "asynchronous" else clock.sleep
    script = [StatusError(529, retry_after="6"), StatusError(529, retry_after="6")]
    result = desk.run(*script, limits={"seconds_limit": 10}, monotonic=clock.monotonic, sleep=sleep)
    assert (clock.slept, result.outcome, len(desk.calls)) == ((6,), "interrupted", 2)


def test_threads_agree_on_the_newest_balance(tmp_store) -> None:
    with Ledger(tmp_store) as ledger:
        session = a_session(ledger, tokens=1_000_000)

        def work() -> None:
            for _ in range(5):
                permit = session.admit(ask())
                session.settle(permit, read_reply(make_reply("x")))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert session.newest_balance == ledger.rows("session-1")[-1].after[-1]
        assert session.newest_balance.used.tokens == 40 * 15
