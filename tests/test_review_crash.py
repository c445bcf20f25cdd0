"""Reviewers at the same moment, and kill -9 in the middle of attesting: a word is there whole, or it is not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from crash.kit import SIGNER
from processes import PATIENCE_SECONDS, ending, finish, let_go_together
from stores.kit import key_of

import donewhen
from donewhen.agent_loop import AgentLoop
from donewhen.attestation import Statement
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.dsse import loads
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner
from donewhen.review_surface import ReviewSurface
from donewhen.spec import Review, Spec
from donewhen.spec_writer import SpecResult
from donewhen.testing import ScriptedClient, make_reply
from donewhen.verify import verify_ledger

TESTS = Path(__file__).parent
SOURCE = Path(donewhen.__file__).parent.parent
SEEDS = {"ann": 1, "ben": 2, "eve": 3}
PROMISE = SpecResult("Reports.", "Nothing else.", "A report.", "s")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a session in a signed ledger that waits for two of three reviewers."""
    review = Review(quorum=2, reviewers=tuple(SEEDS))
    spec = Spec(what_it_does="Reports.", what_it_does_not="Nothing else.", done_looks_like="A report.", review=review)
    with Ledger(tmp_path / "ledger.db", signer=SIGNER) as ledger:
        for name, seed in SEEDS.items():
            vkey = LocalSigner(f"reviewer/{name}", bytes([seed]) * 32).vkey
            ledger.enroll_reviewer(name, vkey, who="keeper")
        breaker = CircuitBreaker(output_fn=lambda _: None)
        client = ScriptedClient(make_reply("# Report"))
        loop = AgentLoop(PROMISE, breaker, ledger, client, terms=spec.terms(), find_price=lambda _: None)
        assert loop.run("Report it").success
    return tmp_path


def command(folder: Path, name: str, point: str) -> list[str]:
    return [sys.executable, str(TESTS / "crash" / "dying_reviewer.py"), str(folder), name, str(SEEDS[name]), point]


def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), str(TESTS)])}


def surface_of(folder: Path) -> ReviewSurface:
    return ReviewSurface(folder / "ledger.db", folder / "ledger.db", signer=SIGNER)


@pytest.mark.parametrize(("point", "words"), [("appended", 0), ("uncommitted", 0), ("committed", 1)])
def test_a_reviewer_who_is_killed_has_said_it_whole_or_not_at_all(folder: Path, point: str, words: int) -> None:
    died = subprocess.run(command(folder, "ann", point), env=environ(), check=False, timeout=PATIENCE_SECONDS)
    assert died.returncode == -signal.SIGKILL
    surface = surface_of(folder)
    said = surface.get_attestations("s")
    assert (len(said), surface.judge("s").output.missing) == (words, 2 - words)
    with Ledger(folder / "ledger.db", read_only=True) as ledger:
        for row in ledger.rows("s"):
            if row.kind == "attest":
                assert Statement.read(loads(row.data["envelope"])).reviewer == "ann"
    for name in ("ann", "ben"):
        key = LocalSigner(f"reviewer/{name}", bytes([SEEDS[name]]) * 32)
        surface.attest("s", name, reviewer_key=key)
    assert surface.judge("s").output.released_ok
    assert verify_ledger(folder / "ledger.db", key_of(folder / "ledger.db", SIGNER)).rows == len(SEEDS) + 6 + words + 2


@pytest.mark.parametrize("names", [("ann", "ben"), ("ann", "ann")])
def test_reviewers_who_attest_at_the_same_moment_are_both_written_and_each_counts_once(
    folder: Path, names: tuple[str, str]
) -> None:
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                ending(
                    subprocess.Popen(
                        command(folder, name, "none"),
                        env=environ(),
                        text=True,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                    )
                )
            )
            for name in names
        ]
        let_go_together(processes)
        finish(*processes)
    judged = surface_of(folder).judge("s").output
    assert [one.reviewer for one in surface_of(folder).get_attestations("s")] in ([*names], [*reversed(names)])
    assert {one.reviewer for one in judged.counted} == set(names)
    assert judged.missing == 2 - len(set(names))
