"""A ledger of 200 rows over seven sessions and four budgets, with a row of every kind, made by honest use."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sessions import Desk, ask, calls_of, seeing
from stores.kit import ORIGIN, begin

from donewhen.checks import Regex
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import Failure, read_reply
from donewhen.errors import PermitClosedError
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner
from donewhen.opening import open_session
from donewhen.outbox import Outbox, ToFile
from donewhen.reconcile import NO_WORK, Found, iter_in_doubt, reconcile
from donewhen.review_surface import ReviewSurface
from donewhen.session import Session
from donewhen.spec_writer import SpecResult
from donewhen.testing import make_reply
from donewhen.tools import Tool
from donewhen.usage import Usage

ROWS = 200
FIRST = LocalSigner(ORIGIN, b"\1" * 32)
SIGNER = LocalSigner(ORIGIN, b"\2" * 32)
"""The log's key after it was rotated."""
THIRD = LocalSigner(ORIGIN, b"\6" * 32)
"""The key that it is rotated to in a crash."""
STRANGER = LocalSigner(ORIGIN, b"\3" * 32)
ADA = LocalSigner("ada", b"\4" * 32)
BOB = LocalSigner("bob", b"\5" * 32)
KEY = SIGNER.verifier

BUDGETS = ("acme", "acme/support", "acme/support/mail", "old")
SESSIONS = ("audit", "breached", "refused", "doubtful", "erased", "held", "by-hand")


def promise(session: str) -> SpecResult:
    return SpecResult("audit one page", "change it", "a report is printed", session)


class Clock:
    """Stands still until it is moved. It begins before every other clock."""

    def __init__(self) -> None:
        self.now = datetime(2025, 3, 28, 12, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now


def build(folder: Path) -> Path:
    """Make the ledger in a folder, and return its path."""
    path, clock = folder / "ledger.db", Clock()
    begin(path, FIRST)
    with Ledger(path, signer=FIRST, now=clock) as ledger:
        ledger.enroll_reviewer("Ada", ADA.vkey, who="Eve", made_by="ada@desk")
        ledger.enroll_reviewer("Bob", BOB.vkey, who="Eve", made_by="bob@desk")
        _begin_budgets(ledger)
        desk = Desk(ledger)
        _run_sessions(desk)
        _leave_in_doubt(ledger)
        clock.now += timedelta(days=2)  # into other periods
        _halt_and_lift(ledger)
        desk.resume(calls_of(("h1", "send", {"to": "x"})), spec=promise("held"), **HELD)
        ledger.rotate_key(SIGNER, why="yearly", who="Eve")
    surface = ReviewSurface(folder / "none.db", path, signer=SIGNER)
    surface.attest("audit", "Ada", "reads well", reviewer_key=ADA)
    surface.attest("held", "Ada", "send it", reviewer_key=ADA)
    surface.attest("refused", "Bob", reviewer_key=BOB)
    surface.reject("refused", "Ada", "it is thin", reviewer_key=ADA)
    with Ledger(path, signer=SIGNER) as ledger:
        Outbox(ledger).release("audit", ToFile(folder / "report.txt"))
        ledger.erase("erased", who="Eve", why="asked to")
        ledger.change_budget("acme", {"tokens": None, "turns": 900}, why="turns are what counts", who="Eve")
        ledger.revoke_reviewer(BOB.vkey, why="left", who="Eve")
        _fill(ledger)
    return path


def _begin_budgets(ledger: Ledger) -> None:
    """Begin a tree of three, one with days and one with hours, and one that is raised, lowered and halted for good."""
    ledger.new_budget("acme", tokens=5_000_000, per="hours:24", who="Eve")
    ledger.new_budget("acme/support", tokens=4_000_000, turns=500, per="day", why="to begin with", who="Eve")
    ledger.new_budget("acme/support/mail", cost_microusd=None, tokens=10, who="Eve")
    ledger.new_budget("old", turns=5, per="month", who="Eve")
    ledger.change_budget("old", {"turns": 50}, why="more", who="Eve")
    ledger.change_budget("old", {"turns": 1}, why="less", who="Eve")
    ledger.halt(budget="old", why="it is not used any more", who="Eve")


HELD: dict[str, Any] = {
    "tools": [Tool("send", "Send it.", {"type": "object"}, lambda **_: "sent", held=True)],
    "keep": "conversation",
    "budget": "acme/support/mail",
}


def _run_sessions(desk: Desk) -> None:
    look = seeing([])
    asks = calls_of(("t1", "look", {"x": 1}))

    def delegate(x: int) -> str:
        """Have a sub-agent do it."""
        Desk(desk.ledger).run(make_reply("a secret"), spec=promise("erased"), parent=desk.loop.session)
        return "done"

    desk.run(
        calls_of(("t1", "delegate", {"x": 1})),
        make_reply("the report"),
        spec=promise("audit"),
        tools=[delegate],
        keep="conversation",
        budget="acme/support",
    )
    desk.run(asks, asks, asks, spec=promise("breached"), turns=2, tools=[look], keep="conversation")
    desk.ledger.raise_ceilings("breached", {"turns": 9}, why="more", who="Eve")
    desk.resume(make_reply("late"), spec=promise("breached"), turns=2, tools=[look], keep="conversation")
    desk.run(make_reply("thin"), spec=promise("refused"), checks=[Regex("thin")])
    # It is refused by its budget, which is then raised; it waits for a person at last.
    desk.run(make_reply("never sent"), spec=promise("held"), **HELD)
    desk.ledger.change_budget("acme/support/mail", {"tokens": 100_000}, why="it needs more", who="Eve")


def _leave_in_doubt(ledger: Ledger) -> None:
    """Make calls of which nobody knows the outcome, and settle them: by usage, as no work, and before a late reply."""
    breaker = CircuitBreaker(9, 900_000, output_fn=print)
    session = open_session(promise("doubtful"), breaker, ledger, budget="acme/support")
    session.release(session.admit(ask()), Failure(rejected=True, problem="busy", status=529))
    session.settle(session.admit(ask()), read_reply(make_reply("after all")))
    late = None
    for found in (Found(usage=Usage(20, 3)), NO_WORK, Found(tokens=7)):
        late = session.admit(ask())
        session.abandon(late, Failure(rejected=False, problem="nobody knows"))
        (lost,) = iter_in_doubt(ledger, "doubtful")
        reconcile(ledger, lost, found, who="Eve", why="the provider's console")
    assert late is not None
    with pytest.raises(PermitClosedError):
        session.settle(late, read_reply(make_reply("it comes late")))
    lost_for_good = session.admit(ask())
    session.abandon(lost_for_good, Failure(rejected=False, problem="nobody knows"))
    (lost,) = iter_in_doubt(ledger, "doubtful")
    reconcile(ledger, lost, Found(usage=Usage(20, 3)), who="Eve", why="the provider's console")
    session.leave()


def _halt_and_lift(ledger: Ledger) -> None:
    for order in ({"session_id": "held"}, {"budget": "acme/support"}, {"everything": True}):
        ledger.halt(**order, why="wait", who="Eve")
        ledger.lift_halt(**order, why="go on", who="Eve")


def _fill(ledger: Ledger) -> None:
    written = sum(1 for _ in ledger.iter_rows())
    for number in range(written, ROWS):
        ledger.write("by-hand", number, "step", f"input {number}", number, 1, number % 7 > 0)


def open_late(ledger: Ledger) -> Session:
    """Open another session: three rows in one commit."""
    return open_session(promise("late"), CircuitBreaker(9, 9_000, output_fn=print), ledger)


def kinds(rows: list[dict[str, Any]]) -> set[str]:
    return {row["kind"] for row in rows}
