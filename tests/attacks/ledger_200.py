"""A ledger of 200 rows over seven sessions, with a row of every kind that is written today, made by honest use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sessions import Desk, calls_of, seeing
from stores.kit import ORIGIN, begin

from donewhen.checks import Regex
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner
from donewhen.opening import open_session
from donewhen.outbox import Outbox, ToFile
from donewhen.reconcile import Found, iter_in_doubt, reconcile
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

SESSIONS = ("audit", "breached", "refused", "doubtful", "erased", "held", "by-hand")


def promise(session: str) -> SpecResult:
    return SpecResult("audit one page", "change it", "a report is printed", session)


class StatusError(Exception):
    """Fails as the official SDKs do, with a status."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


def build(folder: Path) -> Path:
    """Make the ledger in a folder, and return its path."""
    path = folder / "ledger.db"
    begin(path, FIRST)
    with Ledger(path, signer=FIRST) as ledger:
        ledger.enroll_reviewer("Ada", ADA.vkey, who="Eve", made_by="ada@desk")
        ledger.enroll_reviewer("Bob", BOB.vkey, who="Eve", made_by="bob@desk")
        _run_sessions(Desk(ledger))
        ledger.rotate_key(SIGNER, why="yearly", who="Eve")
    surface = ReviewSurface(folder / "none.db", path, signer=SIGNER)
    surface.attest("audit", "Ada", "reads well", reviewer_key=ADA)
    surface.attest("held", "Ada", "send it", reviewer_key=ADA)
    surface.attest("refused", "Bob", reviewer_key=BOB)
    surface.reject("refused", "Ada", "it is thin", reviewer_key=ADA)
    with Ledger(path, signer=SIGNER) as ledger:
        Outbox(ledger).release("audit", ToFile(folder / "report.txt"))
        ledger.erase("erased", who="Eve", why="asked to")
        (lost,) = iter_in_doubt(ledger, "doubtful")
        reconcile(ledger, lost, Found(usage=Usage(20, 3)), who="Eve", why="the provider's console")
        ledger.revoke_reviewer(BOB.vkey, why="left", who="Eve")
        _fill(ledger)
    return path


def _run_sessions(desk: Desk) -> None:
    look = seeing([])
    asks = calls_of(("t1", "look", {"x": 1}))
    desk.run(asks, make_reply("the report"), spec=promise("audit"), tools=[look], keep="conversation")
    desk.run(asks, asks, asks, spec=promise("breached"), turns=2, tools=[look], keep="conversation")
    desk.ledger.raise_ceilings("breached", {"turns": 9}, why="more", who="Eve")
    desk.resume(make_reply("late"), spec=promise("breached"), turns=2, tools=[look], keep="conversation")
    desk.run(make_reply("thin"), spec=promise("refused"), checks=[Regex("thin")])
    failing = (StatusError(529), TimeoutError("nobody knows"), make_reply("after all"))
    desk.run(*failing, spec=promise("doubtful"), max_attempts=3)
    desk.run(make_reply("a secret"), spec=promise("erased"))
    send = Tool("send", "Send it.", {"type": "object"}, lambda **_: "sent", held=True)
    desk.run(calls_of(("h1", "send", {"to": "x"})), spec=promise("held"), tools=[send], keep="conversation")


def _fill(ledger: Ledger) -> None:
    written = sum(1 for _ in ledger.iter_rows())
    for number in range(written, ROWS):
        ledger.write("by-hand", number, "step", f"input {number}", number, 1, number % 7 > 0)


def open_late(ledger: Ledger) -> Session:
    """Open another session: three rows in one commit."""
    return open_session(promise("late"), CircuitBreaker(9, 9_000, output_fn=print), ledger)


def kinds(rows: list[dict[str, Any]]) -> set[str]:
    return {row["kind"] for row in rows}
