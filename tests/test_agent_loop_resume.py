"""Going on with a session: after an interruption, a breach, or the end of its process."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sessions import DRIVERS, SPEC, Desk, a_session, ask, calls_of, seeing

import donewhen
from donewhen.checks import Regex
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.errors import CircuitBreakerError, SessionBusyError, SessionEndedError, SpecError
from donewhen.ledger import Ledger
from donewhen.opening import open_session
from donewhen.progress import read_progress
from donewhen.review_surface import ReviewSurface
from donewhen.spec_writer import SpecResult
from donewhen.testing import FakeClock, make_reply
from donewhen.tools import tool

KEEP: dict[str, Any] = {"keep": "conversation"}
GO_ON = make_reply("more", stop_reason="max_tokens")


@pytest.fixture(params=DRIVERS)
def desk(request, tmp_store) -> Any:
    with Ledger(tmp_store) as ledger:
        yield Desk(ledger, request.param)


def interrupt(desk: Desk, *script: Any, **options: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        desk.run(*script, KeyboardInterrupt(), **options)


def raise_turns(desk: Desk, turns: int) -> None:
    desk.ledger.raise_ceilings("session-1", {"turns": turns}, why="it is nearly done", who="alice")


# -- interrupted ----------------------------------------------------------------------------------------------------


def test_an_interrupted_session_goes_on_mid_conversation_where_it_is_kept(desk) -> None:
    interrupt(desk, make_reply("first", stop_reason="max_tokens"), **KEEP)
    result = desk.run(make_reply("second"), task="ignored", **KEEP)
    assert result.success
    assert desk.last_messages() == [
        {"role": "user", "content": "task"},
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "continue"},
    ]


def test_an_interrupted_session_begins_anew_where_nothing_is_kept(desk) -> None:
    interrupt(desk, GO_ON)
    result = desk.run(make_reply("done"), task="the task again")
    assert desk.last_messages() == [{"role": "user", "content": "the task again"}]
    assert result.turns == 3


def test_the_spend_of_an_interrupted_session_is_intact(desk) -> None:
    interrupt(desk, GO_ON)
    (doubted,) = [row for row in desk.rows("reserve") if row.seq == desk.rows("abandoned")[0].doubts]
    result = desk.run(make_reply("done"))
    assert result.total_tokens == 15 + doubted.data["reserve"][1] + 15
    assert len(desk.rows("abandoned")) == 1


def test_resume_without_a_task_needs_a_kept_conversation(desk) -> None:
    interrupt(desk)
    with pytest.raises(SpecError, match="resuming needs the task again"):
        desk.resume(make_reply("done"))
    assert desk.calls == []


def test_a_reply_that_nobody_answered_is_answered_with_continue(desk) -> None:
    """The process was killed between the reply and its checks."""

    with pytest.raises(KeyboardInterrupt):
        desk.run(make_reply("draft"), checks=[_Raising(KeyboardInterrupt())], **KEEP)
    result = desk.run(make_reply("DONE"), checks=[_Raising(None)], **KEEP)
    assert result.success
    assert desk.last_messages()[1:] == [
        {"role": "assistant", "content": "draft"},
        {"role": "user", "content": "continue"},
    ]


class _Raising(Regex):
    """A check whose process is interrupted."""

    __slots__ = ("_error",)

    def __init__(self, error: BaseException | None) -> None:
        super().__init__("DONE")
        object.__setattr__(self, "_error", error)

    def run(self, context: Any) -> Any:
        if self._error is not None:
            raise self._error
        return super().run(context)

    async def arun(self, context: Any) -> Any:
        if self._error is not None:
            raise self._error
        return await super().arun(context)


def test_tool_calls_that_were_interrupted_are_not_run_again_and_told_so(desk) -> None:
    seen: list[int] = []

    def look(x: int) -> str:
        seen.append(x)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.run(calls_of(("a", "look", {"x": 1})), tools=[look], **KEEP)
    desk.run(make_reply("done"), tools=[look], **KEEP)
    (told,) = desk.results_told()
    assert (seen, told["is_error"], "not known" in told["content"]) == ([1], True, True)


def test_ids_that_a_server_uses_again_are_not_confused(desk) -> None:
    """The first turn's call "a" was held and has a kept result; the second turn's "a" was interrupted."""
    seen: list[int] = []
    mail = tool(held=True, name="mail")(seeing(seen, "sent", name="mail"))
    die = seeing(seen, name="look")
    desk.run(calls_of(("a", "mail", {"x": 1})), tools=[mail, die], **KEEP)
    ReviewSurface(desk.ledger.path, desk.ledger.path).attest("session-1", "alice")

    def look(x: int) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.resume(calls_of(("a", "look", {"x": 2})), tools=[mail, look], **KEEP)
    desk.resume(make_reply("done"), tools=[mail, die], **KEEP)
    assert "not known" in desk.results_told()[0]["content"]
    assert seen == [1]


def test_what_was_measured_is_remembered_with_the_kept_conversation(desk) -> None:
    interrupt(desk, make_reply("x" * 4_000, stop_reason="max_tokens", input_tokens=20, output_tokens=30), **KEEP)
    before = desk.rows("reserve")[-1].data["input_bound"]
    desk.run(make_reply("done"), **KEEP)
    assert desk.rows("reserve")[-1].data["input_bound"] == before < 100


def test_an_interruption_passes_even_where_nothing_can_be_written(desk) -> None:
    def close_and_interrupt(_call: Any) -> Any:
        os.rename(desk.ledger.path, desk.ledger.path + ".gone")
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            desk.run(close_and_interrupt)
    finally:
        os.rename(desk.ledger.path + ".gone", desk.ledger.path)
    assert desk.kinds()[-1] == "reserve"


# -- breached -------------------------------------------------------------------------------------------------------


def test_a_breached_session_whose_ceiling_was_raised_goes_on_mid_conversation(desk) -> None:
    assert desk.run(GO_ON, GO_ON, turns=2, **KEEP).breach_reason == "turn_ceiling"
    raise_turns(desk, 3)
    result = desk.resume(make_reply("done"), turns=2, **KEEP)
    assert (result.success, result.turns, result.total_tokens) == (True, 3, 45)
    assert [message["role"] for message in desk.last_messages()] == ["user", "assistant"] * 2 + ["user"]
    assert desk.last_messages()[0]["content"] == "task"


def test_a_breached_session_goes_on_afresh_where_nothing_is_kept(desk) -> None:
    desk.run(GO_ON, turns=1)
    raise_turns(desk, 2)
    assert desk.resume(make_reply("done"), task="again", turns=1).success
    assert [message["content"] for message in desk.last_messages()] == ["again"]


def test_a_breached_session_stays_stopped_until_a_ceiling_is_raised(desk) -> None:
    desk.run(GO_ON, turns=1, **KEEP)
    rows = len(desk.rows())
    for go_on in (desk.run, desk.resume):
        with pytest.raises(SessionEndedError, match="Raise its ceiling"):
            go_on(make_reply("done"), turns=1, **KEEP)
    assert len(desk.rows()) == rows
    raise_turns(desk, 2)
    with pytest.raises(SessionEndedError, match="then resume it"):
        desk.run(make_reply("done"), turns=1, **KEEP)


def test_a_session_that_is_breached_again_needs_another_raise(desk) -> None:
    desk.run(GO_ON, turns=1, **KEEP)
    raise_turns(desk, 2)
    assert desk.resume(GO_ON, turns=1, **KEEP).breach_reason == "turn_ceiling"
    with pytest.raises(SessionEndedError):
        desk.resume(GO_ON, turns=1, **KEEP)


def test_calls_that_a_ceiling_stopped_are_told_as_not_run(desk) -> None:
    seen: list[int] = []
    options = {"tools": [seeing(seen)], "limits": {"tool_call_limit": 0}, **KEEP}
    desk.run(calls_of(("a", "look", {})), **options)
    desk.ledger.raise_ceilings("session-1", {"tool_calls": 5}, why="it needs to look", who="alice")
    result = desk.resume(calls_of(("b", "look", {"x": 4})), make_reply("done"), **options)
    assert (result.success, seen) == (True, [4])
    (told,) = desk.calls[0]["messages"][-1]["content"]
    assert (told["tool_use_id"], "was not run" in told["content"]) == ("a", True)


def test_an_unmet_session_goes_on_where_its_checks_left_it(desk) -> None:
    desk.run(make_reply("draft"), turns=1, checks=[Regex("DONE", name="says done")], **KEEP)
    raise_turns(desk, 2)
    result = desk.resume(make_reply("DONE"), turns=1, checks=[Regex("DONE", name="says done")], **KEEP)
    assert result.success
    assert "says done" in desk.last_messages()[-1]["content"]


# -- ended, changed, busy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", [make_reply("done"), make_reply("no", stop_reason="refusal")])
def test_a_session_that_is_over_cannot_be_resumed(desk, reply) -> None:
    desk.run(reply)
    with pytest.raises(SessionEndedError, match="Begin a new session"):
        desk.resume(make_reply("done"), task="task")


@pytest.mark.parametrize(
    "change", [{"turns": 8}, {"bound": "strict"}, {"checks": [Regex("x")]}, {"limits": {"tool_call_limit": 1}}]
)
def test_terms_that_changed_since_the_session_opened_are_an_error(desk, change) -> None:
    interrupt(desk)
    with pytest.raises(SpecError, match="a spec is frozen"):
        desk.run(make_reply("done"), **change)
    assert desk.calls == []


def test_an_answer_that_changed_since_it_was_stored_is_an_error_that_names_it(desk) -> None:
    interrupt(desk)
    changed = SpecResult(SPEC.what_it_does, "nothing", SPEC.done_looks_like, SPEC.session_id)
    with pytest.raises(SpecError) as caught:
        desk.run(make_reply("done"), spec=changed)
    assert (caught.value.field, caught.value.value) == ("what_it_does_not", "nothing")


@pytest.mark.parametrize("answers", [("", "b", "c"), ("a", " \n", "c"), ("a", "b", "\t")])
def test_a_blank_answer_runs_nothing(desk, answers) -> None:
    with pytest.raises(SpecError, match="blank"):
        desk.run(make_reply("done"), spec=SpecResult(*answers, "session-1"))
    assert desk.rows() == []


HOLDER = """
import sys
from donewhen import AgentLoop, CircuitBreaker, Ledger, SpecResult
from types import SimpleNamespace

def create(**_):
    print("calling", flush=True)
    sys.stdin.read()
    raise SystemExit

client = SimpleNamespace(messages=SimpleNamespace(create=create))
spec = SpecResult("audit one page", "change the page", "a report is printed", "session-1")
AgentLoop(spec, CircuitBreaker(9, 1_000_000), Ledger(sys.argv[1]), client, find_price=lambda _: None).run("task")
"""


def test_a_session_of_another_live_process_is_busy_until_it_is_gone(desk) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(donewhen.__file__).parent.parent)}
    command = [sys.executable, "-c", HOLDER, desk.ledger.path]
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "calling\n"
        with pytest.raises(SessionBusyError, match=f":{holder.pid}:"):
            desk.run(make_reply("done"))
        holder.kill()
        # Not waited for: a process that was killed and lies there as a zombie is gone.
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        assert desk.run(make_reply("done")).success
    (row,) = desk.rows("abandoned")
    assert row.data["problem"] == "its process is gone"


# -- the clock ------------------------------------------------------------------------------------------------------


def elapsed(desk: Desk) -> list[int]:
    return [row.data.get("elapsed_ms", 0) for row in desk.rows("open")]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def timed(tmp_path, clock) -> Any:
    with Ledger(tmp_path / "timed.db", now=clock.now) as ledger:
        yield Desk(ledger)


def reopen(desk: Desk, clock: FakeClock, seconds: float = 100) -> Any:
    limits = {"seconds_limit": seconds}
    return a_session(desk.ledger, limits=limits, monotonic=clock.monotonic, now=clock.now)


def test_time_counts_across_restarts_by_the_wall(timed, clock) -> None:
    reopen(timed, clock)
    clock.move(60)
    session = reopen(timed, clock)
    assert (session.elapsed_ms, session.milliseconds_left()) == (60_000, 40_000)
    clock.move(41)
    assert session.milliseconds_left() == 0
    with pytest.raises(CircuitBreakerError, match="time_ceiling"):
        session.admit(ask())


def test_a_clock_that_was_set_back_gives_no_time_back(timed, clock) -> None:
    reopen(timed, clock)
    clock.move(60)
    reopen(timed, clock)
    clock.set_wall(-3_600)
    reopen(timed, clock)
    clock.move(10)
    session = reopen(timed, clock)
    assert session.elapsed_ms == 70_000
    assert elapsed(timed) == [0, 60_000, 60_000, 70_000]


def test_setting_the_wall_does_not_change_the_time_within_a_process(timed, clock) -> None:
    session = reopen(timed, clock)
    clock.move(5)
    clock.set_wall(-3_600)
    assert session.elapsed_ms == 5_000


def test_times_smaller_than_a_millisecond_add_up(tmp_store) -> None:
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    ticks = iter(start + timedelta(microseconds=400 * n) for n in range(1_000))
    with Ledger(tmp_store, now=lambda: next(ticks)) as ledger:
        a_session(ledger)
        for _ in range(9):
            ledger.write("session-1", 1, "x", "x", 0, 0, True)
        progress = read_progress(ledger.rows("session-1"))
        assert progress is not None
        assert progress.elapsed_ms(start) == 3


def test_a_spec_that_was_stored_with_other_terms_is_refused(desk) -> None:
    desk.ledger.write_spec(SPEC, terms={"ceilings": 1})
    with pytest.raises(SpecError, match="not those that were stored"):
        desk.run(make_reply("done"))
    assert desk.kinds() == ["spec"]


def test_a_spec_that_was_stored_by_itself_gets_its_terms_when_it_opens(desk) -> None:
    desk.ledger.write_spec(SPEC)
    assert desk.run(make_reply("done")).success
    assert "ceilings" in desk.rows("open")[0].data["terms"]
    assert len(desk.rows("spec")) == 1


def test_opening_twice_in_one_process_goes_on(tmp_store) -> None:
    with Ledger(tmp_store) as ledger:
        breaker = CircuitBreaker(output_fn=lambda _: None)
        assert open_session(SPEC, breaker, ledger).before is None
        again = open_session(SPEC, breaker, ledger)
        assert again.before is not None
        assert again.before.state == "running"
