"""A signed ledger with reviewers, and sessions in it that wait for them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from stores.kit import ORIGIN, begin

from donewhen.agent_loop import AgentLoop, LoopResult
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import ToolCall
from donewhen.entry import LOG_SESSION, Entry, LedgerRow
from donewhen.framing import read_record
from donewhen.ledger import Draft, Ledger
from donewhen.notes import LocalSigner
from donewhen.owner import this_user
from donewhen.policy import Judgement
from donewhen.review_surface import ReviewSurface
from donewhen.reviewing import Standing, standing_of
from donewhen.spec import Review, Spec
from donewhen.spec_writer import SpecResult
from donewhen.testing import FakeClock, ScriptedClient, make_reply
from donewhen.tools import tool

STARTER = this_user()
PEOPLE = ("ann", "ben", "eve", "dan", "mal", STARTER)


class House:
    """A signed ledger, the keys of people, and a surface to review with.

    Everybody in `PEOPLE` has a key. Who is enrolled is up to the test.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.clock = FakeClock()
        self.log_key = LocalSigner(ORIGIN, bytes([77]) * 32)
        self.keys = {name: LocalSigner(f"reviewer/{at}", bytes([at]) * 32) for at, name in enumerate(PEOPLE, start=1)}
        begin(path, self.log_key)
        self.ledger = Ledger(path, signer=self.log_key, now=self.clock.now, **options)
        self.surface = ReviewSurface(path, path, signer=self.log_key, now=self.clock.now)
        self.paid: list[str] = []

    def enroll(self, *names: str) -> None:
        for name in names:
            self.ledger.enroll_reviewer(name, self.keys[name].vkey, who="keeper")

    def revoke(self, name: str) -> None:
        self.ledger.revoke_reviewer(self.keys[name].vkey, why="left", who="keeper")

    def slip_in_key(self, name: str, vkey: str) -> None:
        """Enrol a key by a row of its own, past everything that would refuse it."""
        data = {"action": "enroll", "name": name, "vkey": vkey, "who": "mal"}
        self.ledger.note(Draft(Entry(kind="key", session_id=LOG_SESSION, state_origin="key", data=data)))

    # -- sessions --------------------------------------------------------------------------------------------------

    def run(self, *script: Any, session: str = "s", resume: bool = False, **review: Any) -> LoopResult:
        """Run a session, or go on with it; `review` is what its spec says about the review."""

        @tool(held=True)
        def pay(to: str) -> str:
            """Pay somebody."""
            self.paid.append(to)
            return "paid"

        spec = Spec(
            what_it_does="Reports.",
            what_it_does_not="Nothing else.",
            done_looks_like="A report.",
            keep="conversation",
            held_tools=("pay",),
            review=Review(**review),
        )
        loop = AgentLoop(
            SpecResult("Reports.", "Nothing else.", "A report.", session),
            CircuitBreaker(9, 1_000_000, output_fn=lambda _: None),
            self.ledger,
            ScriptedClient(*script),
            keep="conversation",
            terms=spec.terms(),
            tools=[pay],
            find_price=lambda _: None,
        )
        return loop.resume() if resume else loop.run("Report it")

    def finish(self, session: str = "s", text: str = "# Report", **review: Any) -> LoopResult:
        """Run a session to its end: its output waits."""
        return self.run(make_reply(text), session=session, **review)

    def hold(self, session: str = "s", *calls: ToolCall, **review: Any) -> LoopResult:
        """Run a session until a call waits for a person."""
        return self.run(ask_to_pay(*calls), session=session, **review)

    # -- what is so ------------------------------------------------------------------------------------------------

    def standing(self, session: str = "s", now: datetime | None = None) -> Standing:
        return standing_of(read_record(self.ledger, session, now=now or self.clock.now()))

    def judged(self, session: str = "s", now: datetime | None = None) -> Judgement:
        return self.standing(session, now).output

    def rows(self, *kinds: str, session: str = "s") -> list[LedgerRow]:
        return [row for row in self.ledger.rows(session) if not kinds or row.kind in kinds]

    def copy(self, row: LedgerRow, session: str | None = None, **changes: Any) -> LedgerRow:
        """Append a row that says the same, or nearly."""
        data = {**row.data, **changes}
        to = session or row.session_id
        return self.ledger.note(Draft(Entry(kind=row.kind, session_id=to, state_origin=row.kind, data=data)))

    def close(self) -> None:
        self.ledger.close()


def ask_to_pay(*calls: ToolCall) -> Any:
    return make_reply("Paying.", tool_calls=list(calls) or [ToolCall("c1", "pay", {"to": "bank"})])
