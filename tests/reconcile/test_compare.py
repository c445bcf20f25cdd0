"""The ledger beside a provider's usage report."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sessions import a_session, ask

from donewhen.client import Failure, read_reply
from donewhen.ledger import Ledger
from donewhen.reconcile import NO_WORK, Found, iter_in_doubt, reconcile
from donewhen.reconcile.compare import Comparison, compare
from donewhen.testing import FakeClock, make_reply
from donewhen.usage import Usage
from donewhen.usage_report import UsageRow

LOST = Failure(rejected=False, problem="the connection broke")
MODEL = "claude-m"
USED, NOTHING = Usage(10, 5), Usage(0, 0)


class Book:
    """A ledger whose clock the test sets, and what the provider would say of it."""

    def __init__(self, path: Path) -> None:
        self.clock = FakeClock()
        self.ledger = Ledger(path, now=self.clock.now)
        self.session = a_session(self.ledger, tokens=10**6)
        self.zero = self.clock.now().replace(second=0, microsecond=0)
        self.at(0)

    def at(self, seconds: float) -> None:
        """Set the clock to so many seconds after the whole minute that it began in."""
        self.clock.set_wall((self.zero - self.clock.now()).total_seconds() + seconds)

    def call(self, usage: Usage = USED, *, model: str = MODEL, answers_as: str | None = None, takes: int = 1) -> None:
        permit = self.session.admit(ask(model=model))
        self.at((self.clock.now() - self.zero).total_seconds() + takes)
        tokens = {
            "cache_read_input_tokens": usage.cache_read_tokens,
            "cache_creation_input_tokens": usage.cache_write_tokens,
        }
        reply = make_reply("ok", input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, **tokens)
        self.session.settle(permit, read_reply({**reply, "model": answers_as or model}))

    def lose(self) -> int:
        permit = self.session.admit(ask(model=MODEL))
        self.session.abandon(permit, LOST)
        return permit.reserved.tokens

    def minute(
        self, number: int, usage: Usage = NOTHING, *, model: str | None = MODEL, key: str | None = "k1"
    ) -> UsageRow:
        start = self.zero + timedelta(minutes=number)
        end = start + timedelta(minutes=1)
        return UsageRow(
            provider="anthropic", starts_at=start, ends_at=end, model=model, key=key, usage=usage, requests=None
        )

    def beside(self, *rows: UsageRow, **options: Any) -> Comparison:
        return compare(rows, self.ledger.iter_rows(), **options)


@pytest.fixture
def book(tmp_store: Path) -> Iterator[Book]:
    made = Book(tmp_store)
    yield made
    made.ledger.close()


def kinds(comparison: Comparison) -> list[str]:
    return [one.kind for one in comparison.mismatches]


def test_what_agrees_is_no_mismatch(book) -> None:
    book.call(Usage(10, 5, 100, 20))
    book.call(Usage(1, 1))
    found = book.beside(book.minute(0, Usage(11, 6, 100, 20)), book.minute(1))
    assert (found.mismatches, found.calls, found.stretches, found.other_calls) == ((), 2, 2, 0)


def test_several_rows_of_a_minute_are_added_up_and_a_date_in_a_name_makes_no_difference(book) -> None:
    book.call(Usage(10, 5), answers_as="claude-m-20260101")
    rows = [book.minute(0, Usage(4, 5), model="claude-m-2026-01-01"), book.minute(0, Usage(6, 0), key="k2")]
    assert book.beside(*rows).mismatches == ()


def test_calls_that_the_ledger_lacks_name_minute_model_and_key(book) -> None:
    book.call()
    found = book.beside(book.minute(0, Usage(10, 5)), book.minute(3, Usage(7, 7), key="stolen"))
    (one,) = found.mismatches
    assert (one.kind, one.model, one.keys, one.provider.total, one.calls) == ("ledger_lacks", MODEL, ("stolen",), 14, 0)
    assert (one.starts_at, one.ends_at) == (book.zero + timedelta(minutes=3), book.zero + timedelta(minutes=4))


def test_calls_that_the_provider_lacks_are_told(book) -> None:
    book.call()
    (one,) = book.beside(book.minute(0), book.minute(1)).mismatches
    assert (one.kind, one.ledger, one.calls) == ("provider_lacks", Usage(10, 5), 1)


def test_models_that_differ_are_told_as_such(book) -> None:
    book.call(model="claude-small")
    (one,) = book.beside(book.minute(0, Usage(10, 5), model="claude-large")).mismatches
    assert (one.kind, one.model, one.other_model, one.calls) == ("model", "claude-large", "claude-small", 1)


def test_a_report_that_tells_no_models_apart_is_compared_as_a_whole(book) -> None:
    book.call(Usage(10, 5), model="claude-small")
    book.call(Usage(1, 1))
    assert book.beside(book.minute(0, Usage(11, 6), model=None)).mismatches == ()


@pytest.mark.parametrize(("tolerance", "expected"), [(0, ["drift"]), (9, ["drift"]), (10, [])])
def test_tokens_may_drift_as_far_as_was_said(book, tolerance, expected) -> None:
    book.call(Usage(90, 5))
    assert kinds(book.beside(book.minute(0, Usage(100, 5)), tolerance_percent=tolerance)) == expected


def test_the_kinds_of_tokens_are_compared_one_by_one(book) -> None:
    book.call(Usage(10, 5))
    assert kinds(book.beside(book.minute(0, Usage(5, 5, 5)))) == ["drift"]


def test_a_call_over_the_end_of_a_minute_may_be_counted_in_either(book) -> None:
    book.at(58)
    book.call(takes=4)
    for counted in (0, 1):
        rows = [book.minute(number, Usage(10, 5) if number == counted else Usage(0, 0)) for number in range(3)]
        assert book.beside(*rows).mismatches == ()
    (one,) = book.beside(*map(book.minute, range(3))).mismatches
    assert (one.ends_at - one.starts_at, one.kind) == (timedelta(minutes=2), "provider_lacks")


def test_what_a_call_in_doubt_can_explain_is_no_mismatch(book) -> None:
    reserved = book.lose()
    most = Usage(reserved - 5, 5)
    for used in (Usage(0, 0), Usage(9, 2), most):
        assert book.beside(book.minute(0, used)).mismatches == ()
    (one,) = book.beside(book.minute(0, Usage(reserved, 5))).mismatches
    assert (one.kind, one.in_doubt) == ("drift", reserved)


def test_what_was_reconciled_counts_as_it_was_said(book) -> None:
    book.lose()
    book.lose()
    first, second = iter_in_doubt(book.ledger)
    reconcile(book.ledger, first, Found(usage=Usage(9, 2)), who="Ada", why="x")
    reconcile(book.ledger, second, NO_WORK, who="Ada", why="x")
    assert book.beside(book.minute(0, Usage(9, 2))).mismatches == ()
    assert kinds(book.beside(book.minute(0, Usage(9, 3)))) == ["drift"]


def test_a_released_call_that_was_billed_is_told(book) -> None:
    book.session.release(book.session.admit(ask(model=MODEL)), LOST)
    assert kinds(book.beside(book.minute(0, Usage(9, 2)))) == ["ledger_lacks"]


def test_calls_of_others_and_at_other_times_are_counted_and_not_compared(book) -> None:
    book.call(model="gpt-4o")
    book.at(7_200)
    book.call()
    found = book.beside(book.minute(0))
    assert (found.mismatches, found.calls, found.other_calls) == ((), 0, 2)


def test_the_rows_of_one_key_can_be_compared_alone(book) -> None:
    book.call()
    rows = [book.minute(0, Usage(10, 5)), book.minute(0, Usage(900, 900), key="another team's")]
    assert kinds(book.beside(*rows)) == ["drift"]
    assert book.beside(*rows, key="k1").mismatches == ()


def test_a_long_chain_of_calls_over_minutes_is_one_stretch(book) -> None:
    for number in range(30):
        book.at(60 * number + 59)
        book.call(takes=2)
    rows = [book.minute(number, Usage(10, 5)) for number in range(1, 31)]
    assert book.beside(book.minute(0), *rows).mismatches == ()


def test_no_report_and_two_providers_reports_are_refused(book) -> None:
    with pytest.raises(ValueError, match="has no row"):
        book.beside()
    row = book.minute(0)
    other = UsageRow(
        provider="openai",
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        model=None,
        key=None,
        usage=Usage(0, 0),
        requests=0,
    )
    with pytest.raises(ValueError, match="two providers"):
        book.beside(row, other)
    assert row.starts_at.tzinfo is not None
    assert row.starts_at > datetime(2000, 1, 1, tzinfo=timezone.utc)
