"""Calls in doubt: found, and settled once, by a person who says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sessions import SPEC, a_session, ask
from specs import made
from stores.kit import STORES

from donewhen.balance import Amounts
from donewhen.client import Failure, read_reply
from donewhen.errors import LedgerError, LedgerTamperedError, PermitClosedError, SessionBusyError
from donewhen.ledger import Draft, Ledger
from donewhen.progress import read_progress
from donewhen.reconcile import NO_WORK, CallInDoubt, Found, find_call, iter_in_doubt, reconcile
from donewhen.review_surface import ReviewSurface
from donewhen.testing import make_reply
from donewhen.usage import Price, Rates, Usage
from donewhen.verify import verify_ledger

LOST = Failure(rejected=False, problem="the connection broke")
WORDS = {"who": "Ada", "why": "the provider's console"}
RATES = Rates(input=3_000_000, output=15_000_000, cache_read=300_000, cache_write=3_750_000)


def priced(model: str) -> Price:
    return Price(model=model, tiers=((0, RATES),), source="a list", as_of="2026-01-01")


@pytest.fixture(params=sorted(STORES))
def ledger(request: pytest.FixtureRequest, tmp_store: Path) -> Any:
    with Ledger(tmp_store, store=STORES[request.param](tmp_store)) as opened:
        yield opened
        place = opened.path
    verify_ledger(place, None)


def lost(ledger: Ledger, *, doubted: bool = True, **options: Any) -> CallInDoubt:
    """Leave a call in doubt: abandoned, or as a crash leaves it."""
    session = a_session(ledger, **options)
    permit = session.admit(ask())
    if doubted:
        session.abandon(permit, LOST)
    session.leave()
    return the_one(ledger)


def the_one(ledger: Ledger, alive: Callable[[str], bool | None] = lambda _owner: False) -> CallInDoubt:
    (call,) = iter_in_doubt(ledger, alive=alive)
    return call


def balance(ledger: Ledger) -> Any:
    return ledger.rows(SPEC.session_id)[-1].after[-1]


# -- finding ----------------------------------------------------------------------------------------------------------


def test_a_call_in_doubt_says_which_it_is_and_what_it_holds(ledger) -> None:
    call = lost(ledger)
    assert (call.session_id, call.turn, call.attempt, call.model) == (SPEC.session_id, 1, 1, "m")
    assert (call.problem, call.process, call.reserved) == ("the connection broke", "gone", balance(ledger).reserved)
    assert call.owner.count(":") == 2


@pytest.mark.parametrize(("is_alive", "process"), [(True, "running"), (False, "gone"), (None, "unknown")])
def test_what_is_known_of_its_process_is_told(ledger, is_alive, process) -> None:
    lost(ledger, doubted=False)
    call = the_one(ledger, lambda _owner: is_alive)
    assert (call.process, call.problem, call.may_run) == (process, None, process != "gone")


def test_a_call_that_was_settled_or_released_is_not_in_doubt(ledger) -> None:
    session = a_session(ledger)
    session.settle(session.admit(ask()), read_reply(make_reply("ok")))
    session.release(session.admit(ask()), replace(LOST, rejected=True))
    assert list(iter_in_doubt(ledger)) == []


def test_one_of_several_is_found_by_turn_and_attempt(ledger) -> None:
    session = a_session(ledger)
    first = session.admit(ask())
    session.abandon(first, LOST)
    session.abandon(session.admit(ask(), retry_of=first), LOST)
    session.abandon(session.admit(ask()), LOST)
    calls = list(iter_in_doubt(ledger, SPEC.session_id))
    assert find_call(calls, 2, None) is calls[2]
    assert find_call(calls, 1, 2) is calls[1]
    with pytest.raises(LedgerError, match="2 calls of turn 1 are in doubt; say which attempt: 1, 2"):
        find_call(calls, 1, None)
    with pytest.raises(LedgerError, match="no call of attempt 3 of turn 1 is in doubt"):
        find_call(calls, 1, 3)


# -- settling ---------------------------------------------------------------------------------------------------------


def test_what_was_used_replaces_what_was_reserved(ledger) -> None:
    row = reconcile(
        ledger, lost(ledger, find_price=priced), Found(usage=Usage(10, 2, 50, 20)), find_price=priced, **WORDS
    )
    assert (row.kind, row.closes, row.turn_count, row.token_delta) == ("reconcile", 4, 1, 82)
    assert row.data == {
        "outcome": "used",
        "usage": {"input": 10, "output": 2, "cache_read": 50, "cache_write": 20},
        "cost_microusd": 150,
        "price": {"source": "a list", "as_of": "2026-01-01"},
        "process": "gone",
        **WORDS,
    }
    assert (balance(ledger).spent, balance(ledger).reserved) == (Amounts(1, 82, 150), Amounts())


def test_tokens_without_their_kinds_cost_the_most_that_they_can(ledger) -> None:
    row = reconcile(ledger, lost(ledger, find_price=priced), Found(tokens=120), find_price=priced, **WORDS)
    # At most the 100 output tokens that were asked for, and the rest input at the dearest rate.
    assert (row.data["usage"], row.data["cost_microusd"]) == (None, 100 * 15 + 20 * 3.75)
    assert balance(ledger).spent.tokens == 120


def test_no_work_costs_nothing_and_the_turn_stays_used(ledger) -> None:
    row = reconcile(ledger, lost(ledger, find_price=priced), NO_WORK, find_price=priced, **WORDS)
    assert (row.data["outcome"], row.token_delta, "price" in row.data) == ("none", 0, False)
    assert (balance(ledger).spent, balance(ledger).reserved) == (Amounts(1, 0, 0), Amounts())


def test_without_a_price_the_cost_stays_what_was_reserved(ledger) -> None:
    call = lost(ledger, find_price=priced)
    row = reconcile(ledger, call, Found(tokens=5), **WORDS)
    assert row.data["cost_microusd"] == call.reserved.cost_microusd


def test_an_agreed_price_counts(ledger) -> None:
    agreed = replace(priced("m"), source="a contract")
    call = lost(ledger, terms=made(prices=(agreed,)).terms())
    row = reconcile(ledger, call, Found(usage=Usage(1, 1)), **WORDS)
    assert (row.data["price"]["source"], row.data["cost_microusd"]) == ("a contract", 18)


def test_more_than_was_reserved_is_charged_and_told(ledger) -> None:
    call = lost(ledger)
    row = reconcile(ledger, call, Found(tokens=call.reserved.tokens + 7), **WORDS)
    assert (row.data["over_reservation"], balance(ledger).spent.tokens) == (7, call.reserved.tokens + 7)


def test_a_call_is_reconciled_once(ledger) -> None:
    call = lost(ledger)
    reconcile(ledger, call, NO_WORK, **WORDS)
    rows = len(ledger.rows(SPEC.session_id))
    with pytest.raises(PermitClosedError, match="closed already"):
        reconcile(ledger, call, Found(tokens=5), **WORDS)
    assert (len(ledger.rows(SPEC.session_id)), list(iter_in_doubt(ledger))) == (rows, [])


@pytest.mark.parametrize("is_alive", [True, None])
def test_a_call_that_may_still_run_is_only_reconciled_by_force(ledger, is_alive) -> None:
    lost(ledger, doubted=False)
    call = the_one(ledger, lambda _owner: is_alive)
    with pytest.raises(SessionBusyError, match=SPEC.session_id):
        reconcile(ledger, call, NO_WORK, **WORDS)
    assert ledger.rows(SPEC.session_id)[-1].kind == "reserve"
    assert reconcile(ledger, call, NO_WORK, force=True, **WORDS).data["process"] == call.process
    assert "closes a call that may have been under way" in verify_ledger(ledger.path, None).warnings[0]


def test_an_abandoned_call_of_a_living_process_needs_no_force(ledger) -> None:
    lost(ledger)
    assert reconcile(ledger, the_one(ledger, lambda _owner: True), NO_WORK, **WORDS).data["process"] == "running"
    assert verify_ledger(ledger.path, None).warnings == ()


@pytest.mark.parametrize("words", [{"who": " ", "why": "x"}, {"who": "Ada", "why": ""}, {"who": "a\0", "why": "x"}])
def test_nobody_or_no_reason_is_refused(ledger, words) -> None:
    call = lost(ledger)
    with pytest.raises(ValueError, match=r"who|why"):
        reconcile(ledger, call, NO_WORK, **words)


@pytest.mark.parametrize("wrong", [-1, True, 1.5, 2**53])
def test_a_number_of_tokens_must_be_one(wrong) -> None:
    with pytest.raises(ValueError, match="tokens"):
        Found(tokens=wrong)
    with pytest.raises(ValueError, match="tokens"):
        Found(usage=Usage(1, wrong))
    with pytest.raises(ValueError, match="not both"):
        Found(usage=Usage(1, 1), tokens=2)


# -- what comes after -------------------------------------------------------------------------------------------------


def test_a_late_reply_changes_no_balance_and_becomes_a_note(ledger) -> None:
    session = a_session(ledger)
    permit = session.admit(ask())
    reconcile(ledger, the_one(ledger), Found(tokens=60), **WORDS)
    before = balance(ledger)
    with pytest.raises(PermitClosedError, match="reconcile"):
        session.settle(permit, read_reply(make_reply("late", input_tokens=50, output_tokens=10)))
    note = ledger.rows(SPEC.session_id)[-1]
    assert (note.kind, note.closes, note.token_delta, note.after[-1]) == ("reconcile", None, 0, before)
    assert (note.data["outcome"], note.data["reservation"]) == ("late", permit.seq)
    assert note.data["usage"] == {"input": 50, "output": 10, "cache_read": 0, "cache_write": 0}
    later = session.admit(ask())
    assert session.settle(later, read_reply(make_reply("ok"))).row.turn_count == 2


def test_what_was_given_back_can_be_spent_again(ledger) -> None:
    call = lost(ledger, tokens=250)
    session = a_session(ledger)
    reconcile(ledger, call, NO_WORK, **WORDS)
    assert session.admit(ask()).request.max_tokens == 100


def test_the_frame_no_longer_shows_what_was_reconciled(tmp_path, ledger) -> None:
    call = lost(ledger)
    surface = ReviewSurface(tmp_path / "none.db", ledger.path)

    def doubts() -> list[str]:
        return [line for line in surface.load(SPEC.session_id).unresolved_assumptions if "nobody knows" in line]

    assert len(doubts()) == 1
    reconcile(ledger, call, Found(tokens=60), **WORDS)
    assert doubts() == []
    progress = read_progress(ledger.rows(SPEC.session_id))
    assert progress is not None
    assert progress.in_doubt == ()


# -- what the auditor says --------------------------------------------------------------------------------------------

FORGED: list[tuple[dict[str, Any], str]] = [
    ({"outcome": "none"}, "did no work, and charges"),
    ({"outcome": "other"}, "its outcome is 'other'"),
    ({"process": "resting"}, "of a process that is 'resting'"),
    ({"who": " "}, "does not say who"),
    ({"why": 5}, "does not say why"),
    ({"usage": {"input": 5}}, "it is charged 60 tokens, and its usage is"),
    ({"usage": {"input": -5}}, "its usage is"),
    ({"over_reservation": 5}, "more than were reserved, and says otherwise"),
    ({"reservation": 1}, "its outcome is 'used'"),
]


@pytest.mark.parametrize(("change", "said"), FORGED)
def test_a_row_that_does_not_follow_is_refused(tmp_store, change, said) -> None:
    from donewhen.drafts import reconcile_entry

    with Ledger(tmp_store) as ledger:
        call = lost(ledger)
        entry = reconcile_entry(call.row, call.reserved, None, 60, None, {**WORDS, "process": "gone"})
        forged = replace(entry, data={**entry.data, **change})
        ledger.close_reservation(SPEC.session_id, call.row.seq, lambda _b, _h: (Draft(forged), []))
    with pytest.raises(LedgerTamperedError, match=said):
        verify_ledger(tmp_store, None)


@pytest.mark.parametrize(("reservation", "tokens"), [(4, 0), (99, 0), (0, 0), ("4", 0), (None, 0), (1, 5)])
def test_a_late_note_is_about_a_reservation_that_is_closed(tmp_store, reservation, tokens) -> None:
    from donewhen.entry import Entry

    with Ledger(tmp_store) as ledger:
        lost(ledger)
        data = {"outcome": "late", "reservation": reservation, "usage": None, "who": "h:1:1"}
        entry = Entry(
            kind="reconcile", session_id=SPEC.session_id, state_origin="reconcile", token_delta=tokens, data=data
        )
        ledger.note(Draft(entry))
    with pytest.raises(LedgerTamperedError, match="notes a late reply for row"):
        verify_ledger(tmp_store, None)
