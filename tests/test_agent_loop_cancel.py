"""Cancelling: before a call is sent, in it, and while something is written."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from processes import PATIENCE_SECONDS
from sessions import ASYNCHRONOUS, BLOCKING, DRIVERS, SPEC, Desk, calls_of

from donewhen.agent_loop import AgentLoop
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import ToolCall
from donewhen.ledger import Ledger
from donewhen.steps import CallClient, Step, Write
from donewhen.testing import ScriptedClient, make_reply


@pytest.fixture(params=DRIVERS)
def desk(request, tmp_store) -> Any:
    with Ledger(tmp_store) as ledger:
        yield Desk(ledger, request.param)


@pytest.fixture
def tasks(tmp_store) -> Any:
    with Ledger(tmp_store) as ledger:
        yield Desk(ledger, ASYNCHRONOUS)


def tokens(desk: Desk) -> tuple[int, int]:
    balance = desk.rows()[-1].after[-1]
    return balance.spent.tokens, balance.reserved.tokens


class Gate:
    """Stops the writer with the nth transaction, before it commits, until it is let through."""

    def __init__(self, ledger: Ledger, number: int) -> None:
        self.arrived, self.open = threading.Event(), threading.Event()
        self._left, self._writing = number, ledger.store.writing
        ledger.store.writing = self._held  # type: ignore[method-assign]

    @contextmanager
    def _held(self) -> Iterator[Any]:
        with self._writing() as transaction:
            yield transaction
            self._left -= 1
            if self._left == 0:
                self.arrived.set()
                assert self.open.wait(PATIENCE_SECONDS)


async def cancelled_at(event: asyncio.Event, running: Any) -> None:
    """Cancel a run when it has come to its event."""
    task, reached = asyncio.ensure_future(running), asyncio.ensure_future(event.wait())
    await asyncio.wait({task, reached}, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    assert reached.cancel() is False
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancelled_while_writing(desk: Desk, number: int, *script: Any, cancels: int = 1, **options: Any) -> None:
    """Cancel a run while its nth transaction is held up, and assert that it ends only when that is written."""
    gate = Gate(desk.ledger, number)
    task = asyncio.ensure_future(desk.make(*script, **options).run("task"))
    assert await asyncio.to_thread(gate.arrived.wait, PATIENCE_SECONDS)
    for _ in range(cancels):
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("cancels", [1, 3])
def test_a_cancel_before_sending_waits_for_the_write_and_releases(tasks, cancels) -> None:
    asyncio.run(cancelled_while_writing(tasks, 2, make_reply("done"), cancels=cancels))
    assert tasks.calls == []
    assert tasks.kinds() == ["spec", "policy", "open", "reserve", "error"]
    assert tokens(tasks) == (0, 0)
    assert tasks.rows("error")[0].data["problem"] == "interrupted by CancelledError"


def test_a_cancel_while_a_reply_is_settled_leaves_it_settled(tasks) -> None:
    asyncio.run(cancelled_while_writing(tasks, 3, make_reply("done")))
    assert tasks.kinds() == ["spec", "policy", "open", "reserve", "llm", "close"]
    assert tokens(tasks) == (15, 0)


def test_a_cancel_while_the_next_turn_is_admitted_releases_that(tasks) -> None:
    asyncio.run(cancelled_while_writing(tasks, 3, make_reply("x", stop_reason="max_tokens")))
    assert tasks.kinds() == ["spec", "policy", "open", "reserve", "llm", "reserve", "error"]
    assert tokens(tasks) == (15, 0)


def test_a_cancel_while_the_session_opens_leaves_it_open(tasks) -> None:
    asyncio.run(cancelled_while_writing(tasks, 1, make_reply("done")))
    assert tasks.kinds() == ["spec", "policy", "open"]
    assert tasks.run(make_reply("done")).success


def test_a_cancel_passes_even_where_the_write_fails(tasks) -> None:
    async def main() -> None:
        gate = Gate(tasks.ledger, 2)
        task = asyncio.ensure_future(tasks.make(make_reply("done")).run("task"))
        await asyncio.to_thread(gate.arrived.wait, PATIENCE_SECONDS)
        task.cancel()
        await asyncio.sleep(0)
        gate.open.wait = lambda _seconds: False  # type: ignore[method-assign]  # the assertion in the gate fails
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert tasks.kinds()[:3] == ["spec", "policy", "open"]


def test_a_cancel_in_the_call_abandons_it(tasks) -> None:
    async def main() -> None:
        calling = asyncio.Event()

        async def hang() -> None:
            calling.set()
            await asyncio.Event().wait()

        await cancelled_at(calling, tasks.make(lambda _call: hang()).run("task"))

    asyncio.run(main())
    assert tasks.kinds() == ["spec", "policy", "open", "reserve", "abandoned"]
    assert tokens(tasks)[1] > 1024
    assert tasks.run(make_reply("done")).success


def test_a_cancel_while_it_waits_for_the_provider_leaves_nothing_reserved(tasks) -> None:
    async def main() -> None:
        waiting = asyncio.Event()

        async def forever(_seconds: float) -> None:
            waiting.set()
            await asyncio.Event().wait()

        await cancelled_at(waiting, tasks.make(ConnectionRefusedError(), sleep=forever).run("task"))

    asyncio.run(main())
    assert tasks.kinds() == ["spec", "policy", "open", "reserve", "error"]


def test_a_cancel_while_tools_run_leaves_them_named_and_without_a_result(tasks) -> None:
    async def main() -> None:
        acting = asyncio.Event()

        async def look() -> None:
            acting.set()
            await asyncio.Event().wait()

        await cancelled_at(acting, tasks.make(calls_of(("a", "look", {})), tools=[look]).run("task"))

    asyncio.run(main())
    assert tasks.kinds() == ["spec", "policy", "open", "reserve", "llm"]


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------


def test_ctrl_c_in_the_call_abandons_it(desk) -> None:
    with pytest.raises(KeyboardInterrupt):
        desk.run(KeyboardInterrupt())
    assert desk.kinds() == ["spec", "policy", "open", "reserve", "abandoned"]
    assert desk.rows("abandoned")[0].data["problem"] == "interrupted by KeyboardInterrupt"


def test_ctrl_c_in_a_tool_passes(desk) -> None:
    def look() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.run(calls_of(("a", "look", {})), tools=[look])
    assert desk.kinds() == ["spec", "policy", "open", "reserve", "llm"]
    assert tokens(desk) == (15, 0)


def interrupted_at(desk: Desk, wanted: Callable[[Step], bool], *script: Any, after: bool, **options: Any) -> None:
    """Run, and interrupt the driver as it takes up, or has just done, the first step that is wanted."""
    loop = desk.make(*script, **options)
    perform, left = loop._perform, [1]

    def interrupting(step: Step) -> Any:
        if not wanted(step) or not left:
            return perform(step)
        left.clear()
        if after:
            perform(step)
        raise KeyboardInterrupt

    loop._perform = interrupting
    with pytest.raises(KeyboardInterrupt):
        loop.run("task")


@pytest.fixture
def blocking(tmp_store) -> Any:
    with Ledger(tmp_store) as ledger:
        yield Desk(ledger, BLOCKING)


def test_ctrl_c_before_sending_releases(blocking) -> None:
    interrupted_at(blocking, lambda step: isinstance(step, Write), make_reply("done"), after=True)
    assert blocking.kinds() == ["spec", "policy", "open", "reserve", "error"]
    assert tokens(blocking) == (0, 0)


def test_ctrl_c_as_the_call_is_sent_abandons(blocking) -> None:
    interrupted_at(blocking, lambda step: isinstance(step, CallClient), make_reply("done"), after=False)
    assert blocking.kinds()[-1] == "abandoned"


def test_ctrl_c_between_a_commit_and_its_return_passes_and_doubts_nothing(blocking) -> None:
    """The reply is settled, but the loop was not told: nothing is written a second time."""
    store, writing = blocking.ledger.store, blocking.ledger.store.writing
    left = [3]

    @contextmanager
    def interrupted() -> Iterator[Any]:
        with writing() as transaction:
            yield transaction
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    store.writing = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        blocking.run(make_reply("x"))
    assert blocking.kinds() == ["spec", "policy", "open", "reserve", "llm", "close"]


def test_ctrl_c_in_a_transaction_writes_nothing_of_it(blocking) -> None:
    store, writing = blocking.ledger.store, blocking.ledger.store.writing
    left = [3]

    @contextmanager
    def interrupted() -> Iterator[Any]:
        with writing() as transaction:
            yield transaction
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

    store.writing = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        blocking.run(make_reply("x"))
    assert blocking.kinds() == ["spec", "policy", "open", "reserve", "abandoned"]
    assert tokens(blocking)[1] > 1024


def test_ctrl_c_in_a_tool_keeps_the_rows_of_those_that_had_ended(tmp_path) -> None:
    def first() -> str:
        """Answer."""
        return "ended"

    def second() -> str:
        """Be interrupted."""
        raise KeyboardInterrupt

    calls = [ToolCall("a", "first", {}), ToolCall("b", "second", {})]
    with Ledger(tmp_path / "ledger.db") as ledger:
        loop = AgentLoop(
            SPEC, CircuitBreaker(), ledger, ScriptedClient(make_reply("", tool_calls=calls)), tools=[first, second]
        )
        with pytest.raises(KeyboardInterrupt):
            loop.run("go")
        assert [row.data["call"] for row in ledger.rows(SPEC.session_id) if row.kind == "tool"] == ["a"]
