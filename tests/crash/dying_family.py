"""Let a parent and its children spend from budgets that are raised, lowered and halted, until a point is reached.

python dying_family.py FOLDER..., one folder for each of `POINTS`. Its durable steps are `STEPS`; the points are those of
`crash.kit`, where ``call:N`` is after the Nth reply has left the provider, who has written down what it served.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from crash.kit import Death, MortalStore, die_each, open_ledger
from sessions import ask

from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import read_reply
from donewhen.ledger import Ledger
from donewhen.opening import open_session
from donewhen.permit import Permit
from donewhen.session import Session
from donewhen.spec_writer import SpecResult
from donewhen.testing import make_reply

OPEN = "spec policy open"
ORDERS: tuple[dict[str, Any], ...] = ({"session_id": "child"}, {"budget": "acme/support"}, {"everything": True})

STEPS = (
    *["budget", "budget"],
    *[OPEN, "reserve"],
    *[OPEN, "reserve", "llm"],
    *[OPEN, "reserve", "llm"],
    *["budget", "budget"],
    *["halt", "halt"] * len(ORDERS),
    "llm",
)
"""The kinds of the rows that each of them writes."""

POINTS = (
    *[f"{where}:{n}" for where in ("commit", "uncommitted") for n in range(1, len(STEPS) + 1)],
    *[f"call:{n}" for n in (1, 2, 3)],
)


class Family:
    """A session under a budget, its child, and a child of that.

    Args:
        served: where the provider writes how many tokens each reply used.
        death: comes after a reply has left it.
    """

    def __init__(self, ledger: Ledger, served: Path, death: Death) -> None:
        self._ledger, self._served, self._death = ledger, served, death

    def begin(self) -> Session:
        breaker = CircuitBreaker(99, 100_000, output_fn=lambda _notice: None)
        return open_session(promise("parent"), breaker, self._ledger, budget="acme/support")

    def serve(self, session: Session, permit: Permit) -> None:
        with self._served.open("a") as book:
            book.write(f"{permit.reserved.tokens}\n")  # a provider that uses all that it may
        self._death("call")
        session.settle(permit, read_reply(make_reply("hm", input_tokens=1, output_tokens=permit.reserved.tokens - 1)))

    def spend(self, session: Session) -> None:
        self.serve(session, session.admit(ask("x", 100)))


def promise(session: str) -> SpecResult:
    return SpecResult("a", "b", "c", session)


def live(ledger: Ledger, served: Path, death: Death) -> None:
    """Do all of it, in `STEPS`."""
    family = Family(ledger, served, death)
    ledger.new_budget("acme", tokens=9_000, who="ann")
    ledger.new_budget("acme/support", tokens=5_000, who="ann")
    parent = family.begin()
    under_way = parent.admit(ask("x", 100))
    child = parent.child(promise("child"))
    family.spend(child)
    family.spend(child.child(promise("grandchild")))
    ledger.change_budget("acme", {"tokens": 20_000}, why="more", who="ann")
    ledger.change_budget("acme/support", {"tokens": 2_000}, why="less", who="ann")
    for order in ORDERS:
        ledger.halt(**order, why="wait", who="ann")
        ledger.lift_halt(**order, why="go on", who="ann")
    family.serve(parent, under_way)


def die(folder: Path, point: str) -> None:
    ledger = open_ledger(folder, signed=True, point=point)
    live(ledger, folder / "served", MortalStore.death)


if __name__ == "__main__":
    die_each(partial(die, Path(folder), point) for folder, point in zip(sys.argv[1:], POINTS, strict=True))
