"""A process that is killed in the middle of a stream leaves its reservation charged, and the session goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from guarded.kit import Desk
from processes import PATIENCE_SECONDS
from sessions import SPEC, a_session

import donewhen
from donewhen.ledger import Ledger
from donewhen.testing import Answer, FakeProvider, Hang
from donewhen.verify import verify_ledger

TESTS = Path(__file__).parent.parent
SOURCE = Path(donewhen.__file__).parent.parent


@pytest.mark.parametrize("sdk", ["anthropic", "openai"])
def test_kill_9_in_the_middle_of_a_stream_leaves_it_charged(tmp_store, sdk) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), str(TESTS)])}
    with FakeProvider() as provider:
        provider.script(Hang(answer=Answer("a long reply " * 20), after_events=4))
        command = [sys.executable, str(TESTS / "guarded" / "dying_stream.py"), str(tmp_store), provider.url, sdk]
        ended = subprocess.run(command, env=environ, check=False, timeout=PATIENCE_SECONDS)
        assert ended.returncode == -signal.SIGKILL
        with Ledger(tmp_store) as ledger:
            left = ledger.rows(SPEC.session_id)[-1]
            assert (left.kind, left.after[-1].reserved.tokens) == ("reserve", left.data["reserve"][1])
            assert left.after[-1].used.tokens >= provider.served.total > 0

            desk = Desk(sdk, provider, ledger, a_session(ledger, tokens=100_000))
            provider.script(Answer("on"))
            desk.ask()
            desk.done()
            assert [row.doubts for row in desk.rows("abandoned")] == [left.seq]
            assert desk.balance.reserved.tokens == left.data["reserve"][1]
            assert desk.balance.used.tokens >= provider.served.total
    verify_ledger(tmp_store, None)
