"""What is said of budgets is worked out again from the rows: every edit shows, even with all worked out anew around it."""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
from attacks.forger import Forger, Row
from sessions import ask

from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import read_reply
from donewhen.errors import LedgerTamperedError
from donewhen.ledger import Ledger
from donewhen.opening import open_session
from donewhen.spec_writer import SpecResult
from donewhen.verify import levels, rederive, verify_ledger

START = datetime(2026, 3, 28, 12, tzinfo=timezone.utc)
USAGE = SimpleNamespace(input_tokens=1, output_tokens=49)
REPLY = SimpleNamespace(content=[], stop_reason="end_turn", usage=USAGE)


def fill(path: Path) -> None:
    now = [START]
    with Ledger(path, now=lambda: now[0]) as ledger:
        ledger.new_budget("acme", tokens=5_000, per="day", zone="Europe/Berlin", who="ann")
        ledger.new_budget("acme/support", tokens=3_000, per="hours:24", who="ann", why="to begin with")
        ledger.new_budget("other", turns=9, who="ann")
        breaker = CircuitBreaker(99, 99_999, output_fn=lambda _: None)
        sessions = [
            open_session(SpecResult("a", "b", "c", name), breaker, ledger, budget=budget)
            for name, budget in (("one", "acme/support"), ("two", "acme"), ("three", None), ("four", "acme/support"))
        ]
        child = sessions[3].child(SpecResult("a", "b", "c", "five"))
        sessions.append(child.child(SpecResult("a", "b", "c", "six")))
        for _ in range(6):
            for session in sessions:
                session.settle(session.admit(ask("x", 100)), read_reply(REPLY))
                now[0] += timedelta(hours=2)
        ledger.halt(budget="other", why="wait", who="ann")
        ledger.halt("four", why="wait", who="ann")
        ledger.halt(everything=True, why="wait", who="ann")
        ledger.lift_halt(everything=True, why="go on", who="ann")
        ledger.change_budget("acme", {"tokens": 6_000}, why="more", who="ann")
        sessions[0].admit(ask("x", 100))


@pytest.fixture
def forger(tmp_path: Path) -> Forger:
    fill(tmp_path / "ledger.db")
    return Forger(tmp_path / "ledger.db")


def test_a_ledger_with_budgets_is_good(forger) -> None:
    assert verify_ledger(forger.path, None).warnings == ()
    forger.rewrite()
    assert verify_ledger(forger.path, None).rows == len(forger.rows)


def test_it_is_as_good_where_little_is_kept_in_mind(forger, monkeypatch) -> None:
    monkeypatch.setattr(rederive, "MOST_SESSIONS", 1)
    monkeypatch.setattr(levels, "MOST_LEVELS", 1)
    assert verify_ledger(forger.path, None).rows == len(forger.rows)


def last(forger: Forger, kind: str, session: str) -> Row:
    return [row for row in forger.rows if (row["kind"], row["session"]) == (kind, session)][-1]


def of(row: Row, name: str) -> Row:
    return next(balance for balance in row.get("after", ()) if balance["budget"] == "donewhen:budget:" + name)


def lower_what_was_spent(forger: Forger) -> None:
    of(last(forger, "llm", "one"), "acme")["spent"][1] -= 5


def raise_a_ceiling(forger: Forger) -> None:
    of(last(forger, "reserve", "one"), "acme")["ceiling"][1] += 5


def raise_it_by_its_row(forger: Forger) -> None:
    row = last(forger, "budget", "donewhen:budget:acme")
    row["data"]["ceilings"][1] = row["after"][0]["ceiling"][1] = 60_000


def leave_a_level_out(forger: Forger) -> None:
    del last(forger, "llm", "one")["after"][0]


def move_to_another_budget(forger: Forger) -> None:
    for row in forger.of_session("two"):
        for balance in row.get("after", ()):
            balance["budget"] = balance["budget"].replace("budget:acme", "budget:other")


def open_under_another_budget(forger: Forger) -> None:
    move_to_another_budget(forger)
    last(forger, "open", "two")["data"]["budget"] = "other"


def open_under_none(forger: Forger) -> None:
    del last(forger, "open", "two")["data"]["budget"]
    for row in forger.of_session("two"):
        if "after" in row:
            row["after"] = row["after"][-1:]


def open_under_one_that_is_not_there(forger: Forger) -> None:
    last(forger, "open", "two")["data"]["budget"] = "acme/sales"


def open_under_another_parent(forger: Forger) -> None:
    last(forger, "open", "six")["data"]["parent"] = "four"


def spare_a_parent(forger: Forger) -> None:
    row = last(forger, "llm", "six")
    balance = next(balance for balance in row.get("after", ()) if balance["budget"] == "four")
    balance["spent"][1] -= 5


def forget_a_child(forger: Forger) -> None:
    row = last(forger, "llm", "four")
    row["after"][-1]["spent"][1] -= 50


def let_a_period_last_longer(forger: Forger) -> None:
    for row in forger.rows:
        for balance in row.get("after", ()):
            if "until" in balance.get("period", ()):
                balance["period"]["until"] = "2027-01-01T00:00:00+00:00"


def end_a_period_early(forger: Forger) -> None:
    balance = of(last(forger, "reserve", "one"), "acme")
    balance["spent"] = [0, 0, 0, 0]
    balance["period"]["until"] = "2026-03-31T22:00:00+00:00"


def forget_a_slice(forger: Forger) -> None:
    period = of(last(forger, "reserve", "one"), "acme/support")["period"]
    del period["slices"][0]


def change_a_period(forger: Forger) -> None:
    row = next(row for row in forger.rows if row["session"] == "donewhen:budget:acme/support")
    row["data"]["period"]["hours"] = 1


def say_nobody(forger: Forger) -> None:
    last(forger, "budget", "donewhen:budget:acme")["data"]["who"] = ""


def spend_in_a_budgets_own_session(forger: Forger) -> None:
    row = last(forger, "budget", "donewhen:budget:acme")
    row["kind"] = row["state_origin"] = "write"
    del row["data"]


def begin_without_its_parent(forger: Forger) -> None:
    for row in forger.of_session("donewhen:budget:other"):
        row["session"] = row["after"][0]["budget"] = "donewhen:budget:none/other"


def drop_a_change(forger: Forger) -> None:
    forger.rows.remove(last(forger, "budget", "donewhen:budget:acme"))


def drop_a_lift(forger: Forger) -> None:
    forger.rows.remove(last(forger, "halt", "donewhen:all"))


def drop_the_halt_of_a_budget(forger: Forger) -> None:
    last(forger, "halt", "donewhen:budget:other")["after"][0].pop("halted")


def lift_the_halt_of_a_session(forger: Forger) -> None:
    last(forger, "halt", "four")["data"]["halted"] = False


def halt_what_reserves(forger: Forger) -> None:
    """Move a halt of everything before the reservations that were made before it."""
    row = next(row for row in forger.rows if row["session"] == "donewhen:all")
    forger.rows.remove(row)
    forger.rows.insert(10, row)


def say_nobody_halts(forger: Forger) -> None:
    last(forger, "halt", "four")["data"]["who"] = " "


def halt_before_it_was_opened(forger: Forger) -> None:
    row = last(forger, "halt", "four")
    forger.rows.remove(row)
    forger.rows.insert(4, row)


ATTACKS: list[Callable[[Forger], None]] = [
    lower_what_was_spent,
    raise_a_ceiling,
    raise_it_by_its_row,
    leave_a_level_out,
    move_to_another_budget,
    open_under_another_budget,
    open_under_none,
    open_under_one_that_is_not_there,
    open_under_another_parent,
    spare_a_parent,
    forget_a_child,
    let_a_period_last_longer,
    end_a_period_early,
    forget_a_slice,
    change_a_period,
    say_nobody,
    spend_in_a_budgets_own_session,
    begin_without_its_parent,
    drop_a_change,
    drop_a_lift,
    drop_the_halt_of_a_budget,
    lift_the_halt_of_a_session,
    halt_what_reserves,
    say_nobody_halts,
    halt_before_it_was_opened,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_edit_shows_even_with_all_worked_out_anew_around_it(forger, attack) -> None:
    before = copy.deepcopy(forger.rows)
    attack(forger)
    assert forger.rows != before
    forger.rewrite()
    with pytest.raises(LedgerTamperedError, match=r"^row \d+: "):
        verify_ledger(forger.path, None)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM balances WHERE entry_id = (SELECT max(entry_id) FROM balances)",
        "INSERT INTO balances VALUES ('donewhen:budget:other', 20)",
        "INSERT INTO balances VALUES ('donewhen:budget:acme', 'zzz')",
        "INSERT INTO balances VALUES (CAST('donewhen:budget:acme' AS BLOB), 20)",
        "UPDATE balances SET name = 'donewhen:budget:other' WHERE name = 'donewhen:budget:acme'",
    ],
)
def test_a_table_of_balances_that_does_not_fit_the_rows_shows(forger, statement) -> None:
    forger.sql(statement)
    with pytest.raises(LedgerTamperedError, match=r"balances|stands under|does not hold together"):
        verify_ledger(forger.path, None)


def test_a_time_zone_that_is_not_known_here_is_told_and_is_no_fault(forger) -> None:
    for row in forger.rows:
        if "period" in row.get("data", ()) and "zone" in row["data"]["period"]:
            row["data"]["period"]["zone"] = "Mars/Olympus"
        for balance in row.get("after", ()):
            if "zone" in balance.get("period", ()):
                balance["period"]["zone"] = "Mars/Olympus"
    forger.rewrite()
    warnings = verify_ledger(forger.path, None).warnings
    assert warnings
    assert all("Mars/Olympus" in warning for warning in warnings)


def test_the_newest_row_that_touched_a_budget_is_listed_for_it(forger) -> None:
    with closing(sqlite3.connect(forger.path)) as raw:
        found = raw.execute("SELECT name, max(entry_id) FROM balances GROUP BY name").fetchall()
    newest = {balance["budget"]: row["id"] for row in forger.rows for balance in row.get("after", [])[:-1]}
    assert dict(found) == newest
