"""kill -9 after each durable step of a turn and inside the provider's call: spend is never understated, no row lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from crash.kit import SIGNER, SPEC, TASK, answer, make_loop, open_ledger
from processes import PATIENCE_SECONDS
from stores.kit import key_of

import donewhen
from donewhen.agent_loop import LoopResult
from donewhen.errors import SessionEndedError
from donewhen.ledger import Ledger
from donewhen.progress import read_progress
from donewhen.testing import FakeProvider
from donewhen.verify import verify_ledger

TESTS = Path(__file__).parent
SOURCE = Path(donewhen.__file__).parent.parent

# What each durable step of the session writes.
STEPS = (
    "spec policy open",
    "reserve",
    "llm",
    "tool tool reserve",
    "llm",
    "check reserve",
    "llm",
    "check close",
)
POINTS = (
    *[f"commit:{n}" for n in range(1, len(STEPS) + 1)],
    *[f"uncommitted:{n}" for n in range(1, len(STEPS) + 1)],
    *[f"{where}:{n}" for where in ("send", "call") for n in (1, 2, 3)],
    *["tool:1", "tool:2", "check:1", "check:2"],
)
AFRESH = ("commit:2", "commit:3", "commit:4", "uncommitted:4", "call:1", "call:3", "tool:1", "check:2")


def run_until(point: str, folder: Path, url: str, keep: str) -> int:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), str(TESTS)])}
    command = [sys.executable, str(TESTS / "crash" / "dying_session.py"), str(folder), url, keep, point]
    return subprocess.run(command, env=environ, check=False, timeout=PATIENCE_SECONDS).returncode


def reopened(folder: Path, url: str, keep: str) -> LoopResult | None:
    """Go on with the session to its end; None: it had ended."""
    with open_ledger(folder, signed=keep == "conversation") as ledger:
        try:
            return make_loop(folder, url, ledger, keep=keep).run(TASK)
        except SessionEndedError:
            return None


def assert_sound(folder: Path, keep: str, served: int, *, ended: bool) -> None:
    """Assert that the books hold what was served, and every row that was acknowledged, once."""
    verifier = key_of(folder / "ledger.db", SIGNER) if keep == "conversation" else None
    report = verify_ledger(folder / "ledger.db", verifier)
    with Ledger(folder / "ledger.db", signer=SIGNER if verifier else None) as ledger:
        rows = list(ledger.iter_rows())
    assert [row.id for row in rows] == list(range(1, report.rows + 1))
    assert {f"{row.id} {row.kind} {row.prev}" for row in rows} >= set(acknowledged(folder))
    closes = [row.closes for row in rows if row.closes is not None]
    assert len(closes) == len(set(closes))
    progress = read_progress(rows)
    if progress is not None:
        assert progress.balance.used.tokens >= served
        assert ended == (progress.outcome is not None)


def acknowledged(folder: Path) -> list[str]:
    path = folder / "acknowledged"
    return path.read_text().splitlines() if path.exists() else []


def test_the_steps_are_those_that_are_killed_at(tmp_path) -> None:
    with FakeProvider(answer) as provider:
        result = reopened(tmp_path, provider.url, "conversation")
    assert result is not None
    assert (result.outcome, result.turns) == ("done", 3)
    assert result.total_tokens == provider.served.total
    assert " ".join(line.split()[1] for line in acknowledged(tmp_path)) == " ".join(STEPS)


@pytest.mark.parametrize(
    ("keep", "point"),
    [*[("conversation", point) for point in POINTS], *[("nothing", point) for point in AFRESH]],
)
def test_a_session_survives_kill_9(tmp_path, keep, point) -> None:
    with FakeProvider(answer) as provider:
        assert run_until(point, tmp_path, provider.url, keep) == -signal.SIGKILL
        had_ended = point == f"commit:{len(STEPS)}"
        assert_sound(tmp_path, keep, provider.served.total, ended=had_ended)

        result = reopened(tmp_path, provider.url, keep)
        assert_sound(tmp_path, keep, provider.served.total, ended=True)
        requests = len(provider.requests)
    if had_ended:
        assert result is None
        return
    assert result is not None
    assert (result.outcome, result.output, result.session_id) == ("done", "the report: DONE", SPEC.session_id)
    assert result.turns >= requests
    if keep == "conversation":
        path = tmp_path / "effects"
        effects = path.read_text().splitlines() if path.exists() else []
        # A tool whose process was killed is not run a second time: nobody knows whether it acted.
        assert len(effects) == len(set(effects)) <= 2


@pytest.mark.parametrize("point", ["commit:2", "call:1", "call:2", "commit:4"])
def test_a_call_that_was_under_way_stays_charged_and_is_doubted_once(tmp_path, point) -> None:
    with FakeProvider(answer) as provider:
        run_until(point, tmp_path, provider.url, "conversation")
        reopened(tmp_path, provider.url, "conversation")
    with Ledger(tmp_path / "ledger.db", signer=SIGNER) as ledger:
        rows = ledger.rows(SPEC.session_id)
    (abandoned,) = [row for row in rows if row.kind == "abandoned"]
    (doubted,) = [row for row in rows if row.seq == abandoned.doubts]
    assert doubted.kind == "reserve"
    assert rows[-1].after[-1].reserved.tokens == doubted.data["reserve"][1]


def test_a_session_killed_again_and_again_still_ends(tmp_path) -> None:
    with FakeProvider(answer) as provider:
        for point in ("commit:2", "commit:2", "call:1", "tool:1", "check:1", "commit:3"):
            run_until(point, tmp_path, provider.url, "conversation")
            assert_sound(tmp_path, "conversation", provider.served.total, ended=False)
        result = reopened(tmp_path, provider.url, "conversation")
        assert_sound(tmp_path, "conversation", provider.served.total, ended=True)
    assert result is not None
    assert result.success
