"""kill -9 after and before each durable step of a budget, a halt and a child: spend is never understated, no row is lost."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
from crash.dying_family import ORDERS, POINTS, STEPS, Family, live, promise
from crash.kit import SIGNER, Death, open_ledger, run_dying
from sessions import ask
from stores.kit import key_of

from donewhen.entry import LedgerRow
from donewhen.errors import HaltedError
from donewhen.kinds import BUDGET_PREFIX, EVERYTHING
from donewhen.ledger import Ledger
from donewhen.session import Session
from donewhen.verify import verify_ledger

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork, and no SIGKILL, there")

HALTED = {"child": ORDERS[0], f"{BUDGET_PREFIX}acme/support": ORDERS[1], EVERYTHING: ORDERS[2]}
"""By the name of the balance that is halted: how."""


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder that each process left, by the point where it was killed."""
    folders = {point: tmp_path_factory.mktemp("left") for point in POINTS}
    script = Path(__file__).parent / "crash" / "dying_family.py"
    assert run_dying(script, *folders.values()) == [-signal.SIGKILL] * len(POINTS)
    return folders


def served_in_all(folder: Path) -> int:
    served = folder / "served"
    return sum(map(int, served.read_text().split())) if served.exists() else 0


def assert_sound(folder: Path) -> list[LedgerRow]:
    """Assert that the auditor finds nothing, that every row that was acknowledged is there, once, and what was served counted."""
    path = folder / "ledger.db"
    report = verify_ledger(path, key_of(path, SIGNER))
    assert report.not_proven is None
    with Ledger(path, read_only=True) as ledger:
        rows, balance = list(ledger.iter_rows()), ledger.find_budget("acme")
    assert [row.id for row in rows] == list(range(1, report.rows + 1))
    acknowledged = (folder / "acknowledged").read_text().splitlines() if (folder / "acknowledged").exists() else []
    assert [f"{row.id} {row.kind} {row.prev}" for row in rows] == acknowledged
    closes = [(row.session_id, row.closes) for row in rows if row.closes is not None]
    assert len(closes) == len(set(closes))
    if balance is not None:
        assert balance.spent.tokens <= served_in_all(folder) <= balance.used_tokens
    return rows


def test_the_steps_are_those_that_are_killed_at(tmp_path: Path) -> None:
    with open_ledger(tmp_path, signed=True) as ledger:
        live(ledger, tmp_path / "served", Death(None))
    rows = assert_sound(tmp_path)
    assert " ".join(row.kind for row in rows) == " ".join(STEPS)


@pytest.mark.parametrize("point", POINTS)
def test_budgets_halts_and_children_survive_kill_9(left: dict[str, Path], point: str) -> None:
    folder = left[point]
    before = assert_sound(folder)
    kinds = [row.kind for row in before]
    if not point.startswith("call"):
        where, _, number = point.partition(":")
        steps = STEPS[: int(number) - (where == "uncommitted")]
        assert " ".join(kinds) == " ".join(steps)

    with open_ledger(folder, signed=True) as ledger:
        go_on(ledger, folder, {row.session_id for row in before})
    after = assert_sound(folder)
    assert after[: len(before)] == before
    # Each call that was under way is doubted, once.
    calls = {(row.session_id, row.seq) for row in before if row.kind == "reserve"}
    lost = sorted(calls - {(row.session_id, row.closes) for row in before})
    assert sorted((row.session_id, row.doubts) for row in after if row.kind == "abandoned") == lost


def go_on(ledger: Ledger, folder: Path, sessions: set[str]) -> None:
    """Go on after the crash as another process: what was halted is halted until it is lifted, and nothing else is."""
    family = Family(ledger, folder / "served", Death(None))
    for name in ("acme", "acme/support"):
        if BUDGET_PREFIX + name not in sessions:
            ledger.new_budget(name, tokens=5_000, who="ann")
        ledger.change_budget(name, {"tokens": 90_000}, why="enough", who="ann")
    for name, order in HALTED.items():
        orders = [row for row in ledger.rows(name) if row.kind == "halt"]
        is_halted = bool(orders) and orders[-1].data["halted"]
        assert (ledger.find_halt(name) is not None) == is_halted
        if is_halted:
            with pytest.raises(HaltedError), ExitStack() as opened:
                family.spend(begin_both(family, opened)[1])
            ledger.lift_halt(**order, why="go on", who="ann")
    with ExitStack() as opened:
        parent, child = begin_both(family, opened)
        grandchild = child.child(promise("grandchild"))
        opened.callback(grandchild.leave)
        for session in (parent, child, grandchild):
            family.spend(session)
        ledger.halt("parent", why="wait", who="ann")
        for session in (parent, child, grandchild):
            with pytest.raises(HaltedError):
                session.admit(ask("x", 100))
        ledger.lift_halt("parent", why="go on", who="ann")
        family.spend(grandchild)


def begin_both(family: Family, opened: ExitStack) -> tuple[Session, Session]:
    """Open the parent and its child again, and let go of them at the end."""
    parent = family.begin()
    opened.callback(parent.leave)
    child = parent.child(promise("child"))
    opened.callback(child.leave)
    return parent, child
