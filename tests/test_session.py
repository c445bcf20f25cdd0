"""A session and its permits: bound, admit, settle, release, abandon."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sessions import SPEC, a_session, ask, calls_of

import donewhen
from donewhen.bounds import DEFAULT_MAX_TOKENS, Request
from donewhen.client import Failure, read_reply
from donewhen.drafts import end_draft
from donewhen.errors import (
    CircuitBreakerError,
    LedgerError,
    MissingExtraError,
    PermitClosedError,
    PriceUnknownError,
    UnboundedRequestError,
)
from donewhen.ledger import Draft, Ledger
from donewhen.permit import Permit
from donewhen.testing import make_reply
from donewhen.usage import Price, Rates

REPLY = read_reply(make_reply("ok"))
REFUSED = Failure(rejected=True, problem="the provider answered with status 429", status=429)
LOST = Failure(rejected=False, problem="the connection broke")


@pytest.fixture
def ledger(tmp_store) -> Any:
    with Ledger(tmp_store) as opened:
        yield opened


def kinds(ledger: Ledger) -> list[str]:
    return [row.kind for row in ledger.rows(SPEC.session_id)]


def note(ledger: Ledger, text: str = "x") -> Draft:
    return end_draft(SPEC.session_id, "failed", text, None)


# -- bound and admit --------------------------------------------------------------------------------------------------


def test_a_permit_reserves_the_bound_of_the_input_and_the_most_output(ledger) -> None:
    permit = a_session(ledger).admit(ask("hello", 100))
    assert (permit.turn, permit.attempt, permit.request.max_tokens) == (1, 1, 100)
    assert permit.reserved.tokens == permit.input_bound + 100
    assert ledger.rows(SPEC.session_id)[-1].after[-1].reserved == permit.reserved


def test_the_output_is_clamped_to_what_is_left(ledger) -> None:
    permit = a_session(ledger, tokens=500).admit(ask("hello", 4_000))
    assert permit.request.max_tokens == 500 - permit.input_bound
    assert permit.reserved.tokens == 500


def test_a_request_without_a_limit_gets_one(ledger) -> None:
    session = a_session(ledger)
    assert session.admit(ask(max_tokens=None)).request.max_tokens == DEFAULT_MAX_TOKENS
    assert ledger.rows(SPEC.session_id)[-1].data["max_tokens"] == DEFAULT_MAX_TOKENS


def test_less_room_than_a_useful_minimum_is_refused(ledger) -> None:
    session = a_session(ledger, tokens=ask().most_input_tokens("strict") + 15)
    with pytest.raises(CircuitBreakerError, match="token_ceiling"):
        session.admit(ask(max_tokens=100))
    assert session.admit(ask(max_tokens=15)).request.max_tokens == 15


def test_a_request_is_not_clamped_below_its_thinking_budget(ledger) -> None:
    session = a_session(ledger, tokens=2_000)
    thinking = {"type": "enabled", "budget_tokens": 3_000}
    with pytest.raises(CircuitBreakerError):
        session.admit(ask(max_tokens=4_000, thinking=thinking))
    fits = {"type": "enabled", "budget_tokens": 1_500}
    assert 1_500 < (session.admit(ask(max_tokens=4_000, thinking=fits)).request.max_tokens or 0) < 2_000


def test_a_refused_request_is_a_row_and_a_notice_and_an_error_in_this_order(ledger) -> None:
    told: list[tuple[str, str]] = []
    session = a_session(ledger, tokens=10, say=lambda notice: told.append((kinds(ledger)[-1], notice)))
    with pytest.raises(CircuitBreakerError) as caught:
        session.admit(ask())
    (kind, notice) = told[0]
    assert (kind, len(told)) == ("circuit_breaker", 1)
    assert "token_ceiling" in notice
    breach = caught.value.breach
    assert breach is not None
    assert (breach.dimension, breach.ceiling, breach.spent, breach.reserved) == ("tokens", 10, 0, 0)
    assert breach.asked > 10


def test_a_notice_that_cannot_be_printed_changes_no_breach(ledger) -> None:
    def closed(_notice: str) -> None:
        raise BrokenPipeError

    with pytest.raises(CircuitBreakerError) as caught:
        a_session(ledger, tokens=10, say=closed).admit(ask())
    assert isinstance(caught.value.__cause__, BrokenPipeError)
    assert kinds(ledger)[-1] == "circuit_breaker"


def test_the_notice_shows_the_ceilings_of_the_ledger_and_not_the_breakers(ledger) -> None:
    told: list[str] = []
    a_session(ledger, turns=1)
    ledger.raise_ceilings(SPEC.session_id, {"turns": 7}, why="more", who="alice")
    session = a_session(ledger, turns=1, tokens=10, say=told.append)
    for _ in range(7):
        session.admit(ask("a", 10))
    with pytest.raises(CircuitBreakerError, match="turn_ceiling"):
        session.admit(ask("a", 10))
    assert "8 / limit 7" in told[0]


def test_what_happened_before_is_written_whether_or_not_the_request_is_refused(ledger) -> None:
    session = a_session(ledger, tokens=500)
    session.admit(ask(max_tokens=500), results=[note(ledger, "first")])
    with pytest.raises(CircuitBreakerError):
        session.admit(ask(), results=[note(ledger, "second")])
    assert kinds(ledger) == ["spec", "policy", "open", "close", "reserve", "close", "circuit_breaker"]


def test_a_request_that_cannot_be_bounded_is_refused_and_nothing_is_written(ledger) -> None:
    request = Request.of(model="m", messages=[{"role": "user", "content": [{"type": "document"}]}], max_tokens=9)
    with pytest.raises(UnboundedRequestError, match="'document'"):
        a_session(ledger).admit(request, results=[note(ledger)])
    assert kinds(ledger) == ["spec", "policy", "open"]


def test_a_request_that_cannot_be_bounded_reserves_the_whole_context_window(ledger) -> None:
    message = {"role": "user", "content": [{"type": "document"}]}
    request = Request.of(model="m", messages=[message], max_tokens=9, context_window_tokens=5_000)
    assert a_session(ledger).admit(request).reserved.tokens == 5_009


def test_a_price_is_looked_up_once(ledger) -> None:
    asked: list[str] = []
    session = a_session(ledger, find_price=lambda model: asked.append(model))
    for _ in range(3):
        session.admit(ask())
    assert asked == ["m"]


def test_prices_that_are_not_installed_are_not_known(ledger) -> None:
    def missing(_model: str) -> None:
        raise MissingExtraError("prices", "a price")

    session = a_session(ledger, find_price=missing, limits={"cost_limit_microusd": 5})
    with pytest.raises(PriceUnknownError):
        session.admit(ask())
    assert kinds(ledger) == ["spec", "policy", "open"]


def test_a_cost_that_was_not_known_once_keeps_a_cost_ceiling_from_being_kept(ledger) -> None:
    price = Price(model="n", tiers=((0, Rates(input=1, output=1, cache_read=1, cache_write=1)),), source="t", as_of="d")
    session = a_session(ledger, find_price=lambda model: price if model == "n" else None)
    session.settle(session.admit(ask(model="m")), REPLY)
    ledger.raise_ceilings(SPEC.session_id, {"cost_microusd": 1_000_000}, why="a ceiling", who="alice")
    with pytest.raises(PriceUnknownError):
        session.admit(ask(model="n"))


def test_what_was_measured_is_used_for_the_conversation_that_goes_on(ledger) -> None:
    session = a_session(ledger)
    question, answer = {"role": "user", "content": "a" * 1_000}, {"role": "assistant", "content": "ok"}
    again = {"role": "user", "content": "more"}
    session.settle(session.admit(Request.of(model="m", messages=[question], max_tokens=9)), REPLY)
    goes_on = Request.of(model="m", messages=[question, answer, again], max_tokens=9)
    other = Request.of(model="other", messages=[question, answer, again], max_tokens=9)
    assert session.admit(goes_on).input_bound == 15 + 4 + 16
    assert session.admit(other).input_bound > 1_000


# -- settle, release, abandon -----------------------------------------------------------------------------------------

ENDINGS = {
    "llm": lambda session, permit: session.settle(permit, REPLY),
    "error": lambda session, permit: session.release(permit, REFUSED),
    "abandoned": lambda session, permit: session.abandon(permit, LOST),
}


@pytest.mark.parametrize("first", ["llm", "error"])
@pytest.mark.parametrize("second", ENDINGS)
def test_a_permit_that_was_closed_cannot_be_finished_again(ledger, first, second) -> None:
    session = a_session(ledger)
    permit = session.admit(ask())
    ENDINGS[first](session, permit)
    rows = len(ledger.rows(SPEC.session_id))
    with pytest.raises(
        PermitClosedError, match=f"row {permit.seq} of session session-1 was closed already .*'{first}'"
    ):
        ENDINGS[second](session, permit)
    assert len(ledger.rows(SPEC.session_id)) == rows


def test_a_permit_cannot_be_abandoned_twice(ledger) -> None:
    session = a_session(ledger)
    permit = session.admit(ask())
    session.abandon(permit, LOST)
    with pytest.raises(PermitClosedError, match="'abandoned'"):
        session.abandon(permit, LOST)


def test_a_late_answer_still_closes_an_abandoned_call(ledger) -> None:
    session = a_session(ledger)
    permit = session.admit(ask())
    session.abandon(permit, LOST)
    ENDINGS["llm"](session, permit)
    assert session.newest_balance.reserved.tokens == 0
    assert session.newest_balance.spent.tokens == 15


def test_an_abandoned_call_is_not_released_since_its_turn_may_be_another_attempts(ledger) -> None:
    session = a_session(ledger)
    first = session.admit(ask())
    session.abandon(first, LOST)
    session.settle(session.admit(ask(), retry_of=first), REPLY)
    with pytest.raises(PermitClosedError, match="abandoned"):
        session.release(first, REFUSED)
    assert session.newest_balance.used.turns == 1


def test_a_row_that_is_no_reservation_cannot_be_settled(ledger) -> None:
    session = a_session(ledger)
    permit = session.admit(ask())
    wrong = Permit(**{name: getattr(permit, name) for name in Permit.__dataclass_fields__} | {"seq": 1})
    with pytest.raises(LedgerError, match="row 1 of session session-1 is not a reservation"):
        session.settle(wrong, REPLY)


def test_settling_may_ask_for_the_next_turn_in_the_same_transaction(ledger) -> None:
    session = a_session(ledger, turns=2)
    settled = session.settle(session.admit(ask()), REPLY, then=ask("more"), then_texts={"label": "text"})
    assert settled.permit is not None
    assert settled.permit.turn == 2
    assert ledger.find_text(ledger.rows(SPEC.session_id)[-1], "label") == "text"
    refused = session.settle(settled.permit, REPLY, then=ask("more"))
    assert (refused.permit, str(refused.breach).startswith("turn_ceiling")) == (None, True)
    assert kinds(ledger) == ["spec", "policy", "open", "reserve", "llm", "reserve", "llm", "circuit_breaker"]


def test_settling_may_end_the_session_in_the_same_transaction(ledger) -> None:
    session = a_session(ledger)
    settled = session.settle(session.admit(ask()), REPLY, end=note(ledger), texts={"said": "hello"})
    assert kinds(ledger)[-2:] == ["llm", "close"]
    assert ledger.find_text(settled.row, "said") == "hello"


def test_held_tools_are_told_apart(ledger) -> None:
    session = a_session(ledger, held_tools=["mail"])
    reply = read_reply(calls_of(("a", "mail", {}), ("b", "look", {})))
    settled = session.settle(session.admit(ask()), reply)
    assert ([call.id for call in settled.held], [call.id for call in settled.tools]) == (["a"], ["b"])


def test_a_released_turn_is_counted_again_and_an_abandoned_one_is_not(ledger) -> None:
    session = a_session(ledger)
    first = session.admit(ask())
    session.release(first, REFUSED)
    second = session.admit(ask(), retry_of=first)
    session.abandon(second, LOST)
    third = session.admit(ask(), retry_of=second)
    assert [permit.reserved.turns for permit in (first, second, third)] == [1, 1, 0]
    assert [permit.turn for permit in (first, second, third)] == [1, 1, 1]
    assert [permit.attempt for permit in (first, second, third)] == [1, 2, 3]


def test_a_session_is_a_context_and_leaving_it_ends_nothing(ledger) -> None:
    with a_session(ledger) as session:
        assert session.milliseconds_left() is None
    assert kinds(ledger) == ["spec", "policy", "open"]


# -- other processes --------------------------------------------------------------------------------------------------

SETTLER = """
import pickle, sys
from donewhen import CircuitBreaker, Ledger
from donewhen.client import read_reply
from donewhen.errors import PermitClosedError
from donewhen.session import Session
from donewhen.testing import make_reply

permit = pickle.load(sys.stdin.buffer)
ledger = Ledger(sys.argv[1])
opened = ledger.store.find_opened(permit.session_id, 0)
session = Session(ledger=ledger, session_id=permit.session_id, breaker=CircuitBreaker(), bound="strict",
                  elapsed_before_ms=0, opened=opened)
try:
    session.settle(permit, read_reply(make_reply("ok")))
    print("settled")
except PermitClosedError as error:
    print(f"refused by {error.kind}")
"""


def test_a_pickled_permit_is_settled_by_another_process_once(ledger) -> None:
    session = a_session(ledger)
    permit = session.admit(ask())
    environ = {**os.environ, "PYTHONPATH": str(Path(donewhen.__file__).parent.parent)}
    command = [sys.executable, "-c", SETTLER, ledger.path]

    def settle_elsewhere() -> bytes:
        return subprocess.run(command, input=pickle.dumps(permit), env=environ, check=True, capture_output=True).stdout

    assert settle_elsewhere() == b"settled\n"
    assert settle_elsewhere() == b"refused by llm\n"
    with pytest.raises(PermitClosedError, match="'llm'"):
        session.settle(permit, REPLY)
    assert ledger.rows(SPEC.session_id)[-1].after[-1].used.tokens == 15


def test_a_permit_is_the_same_after_pickling(ledger) -> None:
    permit = a_session(ledger).admit(ask("hello"))
    copied = pickle.loads(pickle.dumps(permit))
    assert copied.request.as_kwargs() == permit.request.as_kwargs()
    assert (copied.seq, copied.reserved, copied.turn) == (permit.seq, permit.reserved, permit.turn)


def test_a_permit_that_was_released_is_a_turn_again_whatever_was_tried_on_it(ledger) -> None:
    session = a_session(ledger)
    first = session.admit(ask())
    session.release(first, REFUSED)
    with pytest.raises(PermitClosedError):
        session.abandon(first, LOST)
    assert session.admit(ask(), retry_of=first).reserved.turns == 1


def test_an_option_that_changes_the_price_makes_it_unknown_under_a_cost_ceiling(ledger) -> None:
    price = Price(model="m", tiers=((0, Rates(input=1, output=1, cache_read=1, cache_write=1)),), source="t", as_of="d")
    session = a_session(ledger, find_price=lambda _model: price, limits={"cost_limit_microusd": 1_000})
    with pytest.raises(PriceUnknownError, match="'service_tier'"):
        session.admit(ask(service_tier="priority"))
    assert session.admit(ask()).reserved.cost_microusd is not None
