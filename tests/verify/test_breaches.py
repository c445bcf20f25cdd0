"""What a breach says is held against the balances: every edit shows, even with all worked out anew around it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from attacks.forger import Forger, Row
from sessions import ask

from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import Failure, read_reply
from donewhen.errors import CircuitBreakerError, LedgerTamperedError, PermitClosedError
from donewhen.ledger import Ledger
from donewhen.opening import open_session
from donewhen.reconcile import Found, iter_in_doubt, reconcile
from donewhen.session import Session
from donewhen.spec_writer import SpecResult
from donewhen.verify import rederive, verify_ledger

USAGE = SimpleNamespace(input_tokens=1, output_tokens=9)
REPLY = read_reply(SimpleNamespace(content=[], stop_reason="end_turn", usage=USAGE))


def use_up(session: Session) -> None:
    """Make a call that is open, and one that a ceiling refuses."""
    with suppress(CircuitBreakerError):
        while True:
            session.settle(session.admit(ask("x", 100)), REPLY)
            session.admit(ask("x", 100))


def fill(path: Path) -> None:
    now = [0.0]
    with Ledger(path) as ledger:
        ledger.new_budget("acme", tokens=400, who="ann")

        def opened(name: str, tokens: int = 9_999, **options: object) -> Session:
            breaker = CircuitBreaker(99, tokens, seconds_limit=60, output_fn=lambda _: None)
            spec = SpecResult("a", "b", "c", name)
            return open_session(spec, breaker, ledger, monotonic=lambda: now[0], **options)

        use_up(opened("own", 300))
        use_up(opened("under", budget="acme"))
        parent = opened("parent", 300)
        use_up(parent.child(SpecResult("a", "b", "c", "child"), CircuitBreaker(99, 9_999, output_fn=lambda _: None)))
        slow = opened("slow")
        now[0] = 61.0
        use_up(slow)
        now[0] = 0.0
        doubtful = opened("doubtful")
        permit = doubtful.admit(ask("x", 100))
        doubtful.settle(doubtful.admit(ask("x", 100)), REPLY)
        doubtful.abandon(permit, Failure(rejected=False, problem="nobody knows"))
        [call] = iter_in_doubt(ledger, "doubtful")
        reconcile(ledger, call, Found(tokens=50), who="ann", why="the bill")
        with pytest.raises(PermitClosedError):
            doubtful.settle(permit, REPLY)
        doubtful.leave()
        opened("doubtful").leave()


@pytest.fixture
def forger(tmp_path: Path) -> Forger:
    fill(tmp_path / "ledger.db")
    return Forger(tmp_path / "ledger.db")


def the(kind: str, session: str) -> Callable[[Forger], Row]:
    return lambda forger: [row for row in forger.of_session(session) if row["kind"] == kind][-1]


BREACHES = {name: the("circuit_breaker", name) for name in ("own", "under", "child", "slow")}
REOPENED, LATE = the("open", "doubtful"), the("reconcile", "doubtful")


def test_what_the_breaches_say_is_so(forger: Forger, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = [find(forger)["breach"] for find in BREACHES.values()]
    assert reasons == ["token_ceiling", "budget:acme:token_ceiling", "parent:parent:token_ceiling", "time_ceiling"]
    assert REOPENED(forger)["data"]["resumes"] is True
    assert LATE(forger)["data"]["outcome"] == "late"
    assert verify_ledger(forger.path, None).warnings == ()
    monkeypatch.setattr(rederive, "MOST_SESSIONS", 1)
    assert verify_ledger(forger.path, None).rows == len(forger.rows)


@pytest.mark.parametrize("whose", BREACHES)
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ceiling": 9}, "it tells of a ceiling of 9 "),
        ({"ceiling": None}, "it tells of a ceiling of None "),
        ({"asked": -1}, "it refuses what would have crossed no ceiling"),
        ({"asked": "many"}, "it refuses what would have crossed no ceiling"),
        ({"spent": True}, "(spent and|would have crossed no ceiling)"),
        ({"dimension": "turns"}, "its reason is"),
        ({"dimension": "luck"}, "its reason is"),
        ({"budget": "other"}, "its reason is"),
        ({"parent": "own", "budget": "acme"}, "its reason is"),
    ],
)
def test_what_is_not_so_is_refused(forger: Forger, whose: str, changes: Row, told: str) -> None:
    row = BREACHES[whose](forger)
    row["data"].update(changes)
    assert_refused(forger, row, told)


@pytest.mark.parametrize("whose", ["own", "under", "child"])
@pytest.mark.parametrize("part", ["spent", "reserved"])
def test_other_amounts_than_those_of_the_balance_are_refused(forger: Forger, whose: str, part: str) -> None:
    row = BREACHES[whose](forger)
    row["data"][part] += 1
    assert_refused(forger, row, "it tells of .* spent and .* reserved, where it was")


def test_what_fitted_is_not_refused_in_a_row(forger: Forger) -> None:
    row = BREACHES["under"](forger)
    row["data"]["asked"] = row["data"]["ceiling"] - row["data"]["spent"] - row["data"]["reserved"]
    assert_refused(forger, row, "it refuses what would have crossed no ceiling")


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("budget:other:token_ceiling", {"budget": "other"}),
        ("parent:slow:token_ceiling", {"parent": "slow"}),
        ("parent:own:token_ceiling", {"parent": "own"}),
    ],
)
def test_a_ceiling_under_which_the_session_does_not_stand_is_refused(forger: Forger, reason: str, data: Row) -> None:
    row = BREACHES["own"](forger)
    row["breach"], row["data"] = reason, {**row["data"], **data}
    assert_refused(forger, row, "under which its session does not stand")


def test_a_breach_closes_nothing_and_its_session_is_open(forger: Forger) -> None:
    row = BREACHES["own"](forger)
    row["closes"] = 3
    assert_refused(forger, row, "cannot be one that closes")


def test_a_session_that_is_opened_again_has_the_ceilings_that_it_has(forger: Forger) -> None:
    row = REOPENED(forger)
    row["data"]["ceilings"][1] += 1
    assert_refused(forger, row, "tells of ceilings that it does not have")


@pytest.mark.parametrize("seq", [3, 5, None, "4", 99])
def test_a_late_reply_is_of_a_call_that_was_reconciled(forger: Forger, seq: object) -> None:
    row = LATE(forger)
    assert row["data"]["reservation"] == 4
    row["data"]["reservation"] = seq
    assert_refused(forger, row, "which is no reservation that was reconciled before it")


def assert_refused(forger: Forger, row: Row, told: str) -> None:
    forger.rewrite()
    with pytest.raises(LedgerTamperedError, match=told) as caught:
        verify_ledger(forger.path, None)
    assert caught.value.row_id == row["id"]
