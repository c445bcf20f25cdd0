"""A halt while something is under way: it is asked to stop, what happened is written, and the session ends as halted."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from processes import PATIENCE_SECONDS
from sessions import ASYNCHRONOUS, BLOCKING, DRIVERS, SPEC, Desk, calls_of, seeing
from stores.kit import STORES, start

import donewhen
from donewhen.checks import Call, Regex, Shell
from donewhen.errors import HaltedError, LedgerUnavailableError
from donewhen.ledger import Ledger
from donewhen.progress import read_progress
from donewhen.testing import FakeClock, make_reply
from donewhen.verify import verify_ledger

WORDS = {"why": "it runs wild", "who": "ann"}
ORDERS = [{"session_id": SPEC.session_id}, {"budget": "acme"}, {"everything": True}]
REASON = "session session-1 was halted by ann: it runs wild"


class HaltedDesk(Desk):
    """A desk whose session can be halted, and whose loops look for that all the time."""

    def make(self, *script: Any, **options: Any) -> Any:
        return super().make(*script, **{"watch_seconds": 0.01, "keep": "conversation", **options})

    def halt(self, **order: Any) -> None:
        self.ledger.halt(**(order or ORDERS[0]), **WORDS)

    def lift(self, **order: Any) -> None:
        self.ledger.lift_halt(**(order or ORDERS[0]), **WORDS)

    def halting(self, answer: Any) -> Any:
        """Return a step of a script that orders the halt, and then answers."""

        def step(_call: Any) -> Any:
            self.halt()
            return answer

        return step

    @property
    def tokens(self) -> tuple[int, int]:
        balance = self.rows()[-1].after[-1]
        return balance.spent.tokens, balance.reserved.tokens


@pytest.fixture(autouse=True)
def patient(monkeypatch) -> None:
    """Give what was asked to stop all the time that a busy machine may need."""
    monkeypatch.setattr("donewhen.timeouts.GRACE_SECONDS", PATIENCE_SECONDS)


@pytest.fixture(params=sorted(STORES))
def ledger(request, tmp_path) -> Iterator[Ledger]:
    path = tmp_path / "ledger.db"
    with Ledger(path, store=STORES[request.param](path)) as opened:
        yield opened
        where = opened.path
    verify_ledger(where, None)


@pytest.fixture(params=DRIVERS)
def desk(request, ledger) -> HaltedDesk:
    return HaltedDesk(ledger, request.param)


@pytest.fixture
def blocking(ledger) -> HaltedDesk:
    return HaltedDesk(ledger, BLOCKING)


@pytest.fixture
def tasks(ledger) -> HaltedDesk:
    return HaltedDesk(ledger, ASYNCHRONOUS)


# -- tools ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS, ids=["session", "budget", "all"])
def test_a_tool_that_asks_ends_in_an_orderly_way_and_its_result_is_kept(desk, order) -> None:
    def look() -> str:
        desk.halt(**order)
        assert donewhen.stopping().wait(PATIENCE_SECONDS)
        return "stopped after page 7"

    desk.ledger.new_budget("acme", who="ann")
    result = desk.run(calls_of(("a", "look", {})), make_reply("done"), tools=[look], budget="acme")
    assert (result.outcome, "was halted by ann: it runs wild" in result.reason) == ("halted", True)
    assert [kind for kind in desk.kinds() if kind != "halt"][-3:] == ["llm", "tool", "close"]
    assert desk.rows("tool")[0].data["is_error"] is False
    assert desk.tokens == (15, 0)
    desk.lift(**order)
    assert desk.resume(make_reply("done"), tools=[look], budget="acme").outcome == "done"
    assert desk.results_told() == [{"type": "tool_result", "tool_use_id": "a", "content": "stopped after page 7"}]


def test_a_tool_that_does_not_listen_is_left_behind_and_its_row_says_so(desk, monkeypatch) -> None:
    monkeypatch.setattr("donewhen.timeouts.GRACE_SECONDS", 0.01)
    end = threading.Event()

    def look() -> str:
        desk.halt()
        end.wait(PATIENCE_SECONDS)
        return "late"

    result = desk.run(calls_of(("a", "look", {})), make_reply("done"), tools=[look])
    end.set()
    assert (result.outcome, result.reason) == ("halted", REASON)
    (row,) = desk.rows("tool")
    assert (row.data["is_error"], row.data["problem"]) == (True, "stopped by a halt")
    assert desk.rows("close")[0].data["outcome"] == "halted"
    desk.lift()
    desk.resume(make_reply("done"), tools=[look])
    assert "was stopped before it ended" in desk.results_told()[0]["content"]


def test_an_asynchronous_tool_is_cancelled(desk) -> None:
    tidied: list[bool] = []

    async def look() -> str:
        try:
            await asyncio.to_thread(desk.halt)
            await asyncio.Event().wait()
        finally:
            tidied.append(donewhen.stopping().is_set())
        return "late"

    assert desk.run(calls_of(("a", "look", {})), tools=[look]).outcome == "halted"
    assert (tidied, desk.rows("tool")[0].data["problem"]) == ([True], "stopped by a halt")


def test_tools_that_had_ended_keep_their_results(desk) -> None:
    begun = threading.Event()

    def first() -> str:
        begun.set()
        return "ended"

    def second() -> str:
        assert begun.wait(PATIENCE_SECONDS)
        desk.halt()
        assert donewhen.stopping().wait(PATIENCE_SECONDS)
        raise RuntimeError("its own way to stop")

    desk.run(calls_of(("a", "first", {}), ("b", "second", {})), tools=[first, second])
    assert [(row.data["call"], row.data.get("problem")) for row in desk.rows("tool")] == [
        ("a", None),
        ("b", "stopped by a halt"),
    ]


def test_tools_after_the_one_that_was_stopped_are_not_run(blocking) -> None:
    ran: list[str] = []

    def first() -> str:
        blocking.halt()
        assert donewhen.stopping().wait(PATIENCE_SECONDS)
        return "stopped"

    def second() -> str:
        ran.append("second")
        return "ran"

    blocking.run(calls_of(("a", "first", {}), ("b", "second", {})), tools=[first, second])
    assert (ran, [row.data.get("problem") for row in blocking.rows("tool")]) == ([], [None, "not run, by a halt"])


def test_no_tool_is_run_of_a_reply_that_came_after_the_halt(desk) -> None:
    ran: list[int] = []
    calls = calls_of(("a", "look", {}), ("b", "send", {}))
    options = {"tools": [seeing(ran), donewhen.tool(held=True)(seeing(ran, name="send"))]}
    result = desk.run(desk.halting(calls), **options)
    assert (result.outcome, result.reason, ran) == ("halted", REASON, [])
    assert [tool["run"] for tool in desk.rows("llm")[0].data["tools"]] == [False, False]
    assert desk.kinds() == ["spec", "policy", "open", "reserve", "halt", "llm", "close"]
    assert desk.tokens == (15, 0)
    desk.lift()
    assert desk.resume(make_reply("done"), **options).outcome == "done"
    assert ["was not run" in told["content"] for told in desk.results_told()] == [True, True]


def test_a_halt_that_was_lifted_before_the_next_call_lets_the_session_go_on(desk) -> None:
    def look() -> str:
        desk.halt()
        assert donewhen.stopping().wait(PATIENCE_SECONDS)
        desk.lift()
        return "stopped"

    def judge(_output: str) -> bool:
        return True

    result = desk.run(calls_of(("a", "look", {})), make_reply("done"), tools=[look], checks=[Call(judge)])
    assert result.outcome == "done"


# -- the call ---------------------------------------------------------------------------------------------------------


def test_an_awaited_call_is_cancelled_and_stays_charged_in_full(tasks) -> None:
    async def hang() -> None:
        await asyncio.to_thread(tasks.halt)
        await asyncio.Event().wait()

    result = tasks.run(lambda _call: hang())
    assert (result.outcome, result.reason) == ("halted", REASON)
    assert tasks.kinds() == ["spec", "policy", "open", "reserve", "halt", "abandoned", "close"]
    assert tasks.rows("abandoned")[0].data["problem"] == "interrupted by HaltedError"
    reserved = tasks.rows("reserve")[0].data["reserve"][1]
    assert tasks.tokens == (0, reserved)
    assert result.total_tokens == reserved
    tasks.lift()
    assert tasks.resume(make_reply("done")).outcome == "done"
    assert tasks.tokens == (15, reserved)


def test_a_blocking_call_runs_to_its_end_and_is_charged_what_it_used(blocking) -> None:
    result = blocking.run(blocking.halting(make_reply("x", stop_reason="max_tokens")))
    assert (result.outcome, result.reason) == ("halted", REASON)
    assert blocking.kinds() == ["spec", "policy", "open", "reserve", "halt", "llm", "close"]
    assert blocking.tokens == (15, 0)
    blocking.lift()
    assert blocking.resume(make_reply("y")).outcome == "done"
    assert blocking.last_messages()[-1] == {"role": "user", "content": "continue"}


def test_a_halt_before_the_first_call_keeps_the_task(desk) -> None:
    desk.ledger.halt(everything=True, **WORDS)
    assert desk.run(make_reply("done"), task="audit").outcome == "halted"
    assert (desk.calls, desk.kinds()) == ([], ["spec", "policy", "open", "close"])
    desk.lift(everything=True)
    assert desk.resume(make_reply("done")).outcome == "done"
    assert desk.last_messages() == [{"role": "user", "content": "audit"}]


# -- checks and waits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "check",
    [
        Shell("touch begun; exec tail -f /dev/null", timeout_seconds=1000),
        Regex("^(a+)+$", timeout_seconds=1000),
        Call(lambda _output: donewhen.stopping().wait(PATIENCE_SECONDS), name="waits"),
    ],
    ids=["shell", "regex", "call"],
)
def test_a_check_is_stopped_and_the_session_is_halted_not_failed(desk, check, tmp_path) -> None:
    text = "a" * 80 + "!"
    result = desk.run(desk.halting(make_reply(text)), checks=[check, Regex("never asked")], folder=tmp_path)
    assert (result.outcome, result.reason, result.output) == ("halted", REASON, text)
    assert desk.kinds() == ["spec", "policy", "open", "reserve", "halt", "llm", "close"]
    desk.lift()
    loop = desk.make(make_reply("b"), checks=[Regex("b")], folder=tmp_path, terms=desk.loop._terms)
    assert desk.waited(loop.resume()).outcome == "done"


def test_a_wait_for_the_provider_is_cut_short(desk) -> None:
    async def forever(_seconds: float) -> None:
        await asyncio.Event().wait()

    def blocks(_seconds: float) -> None:
        donewhen.stopping().wait(PATIENCE_SECONDS)

    sleep = forever if desk.driver == ASYNCHRONOUS else blocks
    result = desk.run(desk.halting(ConnectionRefusedError()), sleep=sleep)
    assert (result.outcome, result.reason) == ("halted", REASON)
    assert desk.kinds() == ["spec", "policy", "open", "reserve", "halt", "error", "close"]
    assert desk.tokens == (0, 0)


def test_an_error_while_it_waits_passes(desk) -> None:
    async def astray(_seconds: float) -> None:
        raise OSError("no clock")

    def strays(_seconds: float) -> None:
        raise OSError("no clock")

    with pytest.raises(OSError, match="no clock"):
        desk.run(ConnectionRefusedError(), sleep=astray if desk.driver == ASYNCHRONOUS else strays)


# -- when the ledger cannot be read, or the process dies --------------------------------------------------------------


def test_a_ledger_that_cannot_be_read_for_long_ends_what_is_under_way(desk, monkeypatch) -> None:
    clock, asked = FakeClock(), threading.Event()
    newest_sealed = desk.ledger.store.newest_sealed

    def unreadable() -> Any:
        clock.move(29)
        raise LedgerUnavailableError("the ledger", "nobody answers")

    def look() -> str:
        monkeypatch.setattr(desk.ledger.store, "newest_sealed", unreadable)
        asked.set()
        donewhen.stopping().wait(PATIENCE_SECONDS)
        return "stopped"

    with pytest.raises(LedgerUnavailableError, match="nobody answers"):
        desk.run(calls_of(("a", "look", {})), tools=[look], monotonic=clock.monotonic)
    assert clock.monotonic() == 58  # not at the first look: a server may be restarted
    monkeypatch.setattr(desk.ledger.store, "newest_sealed", newest_sealed)
    assert asked.is_set()
    assert desk.kinds() == ["spec", "policy", "open", "reserve", "llm"]
    assert desk.tokens == (15, 0)
    assert desk.run(make_reply("done"), tools=[look]).outcome == "done"


DYING = """
import asyncio, os, signal, sys
from donewhen import AsyncAgentLoop, CircuitBreaker, Ledger, SpecResult
from donewhen.testing import AsyncScriptedClient

class Dying(Ledger):
    def note(self, *drafts):
        os.kill(os.getpid(), signal.SIGKILL)
    doubt_reservation = note

async def main():
    with Dying(sys.argv[1]) as ledger:
        async def hang():
            ledger.halt("session-1", why="it runs wild", who="ann")
            await asyncio.Event().wait()
        spec = SpecResult("audit one page", "change the page", "a report is printed", "session-1")
        client = AsyncScriptedClient(lambda _call: hang())
        await AsyncAgentLoop(spec, CircuitBreaker(9, 1_000_000), ledger, client, watch_seconds=0.01).run("task")

asyncio.run(main())
"""


def test_a_process_that_is_killed_between_the_halt_and_its_row_leaves_what_it_reserved(tmp_path) -> None:
    path = tmp_path / "ledger.db"
    with start(DYING, path) as process:
        _, said = process.communicate()
        assert (process.returncode, said) == (-signal.SIGKILL, "")
    with Ledger(path) as ledger:
        desk = Desk(ledger)
        assert desk.kinds() == ["spec", "policy", "open", "reserve", "halt"]
        progress = read_progress(desk.rows())
        assert progress is not None
        reserved = progress.balance.reserved.tokens
        assert (progress.state, reserved > 1024) == ("halted", True)
        with pytest.raises(HaltedError):
            desk.run(make_reply("done"))
        ledger.lift_halt("session-1", **WORDS)
        assert desk.run(make_reply("done")).outcome == "done"
        assert desk.rows()[-1].after[-1].reserved.tokens == reserved
    verify_ledger(path, None)


def test_a_time_between_two_looks_that_is_none_is_refused_before_anything_is_written(desk) -> None:
    with pytest.raises(ValueError, match="watch_seconds is 0"):
        desk.make(watch_seconds=0)
    assert desk.rows() == []
