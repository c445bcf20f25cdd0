"""Sessions, loops and clients for tests: a spec, a ledger in a folder of its own, and both drivers behind one face."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from donewhen.agent_loop import AgentLoop, AsyncAgentLoop, LoopResult
from donewhen.bounds import Request
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import ToolCall
from donewhen.entry import LedgerRow
from donewhen.ledger import Ledger
from donewhen.opening import open_session
from donewhen.session import Session
from donewhen.spec_writer import SpecResult
from donewhen.testing import AsyncScriptedClient, ScriptedClient, make_reply

SPEC = SpecResult("audit one page", "change the page", "a report is printed", "session-1")
ROOMY = 1_000_000
BLOCKING, ASYNCHRONOUS = "blocking", "asynchronous"
DRIVERS = (BLOCKING, ASYNCHRONOUS)


class Desk:
    """A ledger, the notices that were printed, and a way to run either driver."""

    def __init__(self, ledger: Ledger, driver: str = BLOCKING) -> None:
        self.ledger = ledger
        self.driver = driver
        self.notices: list[str] = []
        self.slept: list[float] = []
        self.client: Any = None
        self.loop: Any = None

    # -- loops -----------------------------------------------------------------------------------------------------

    def make(self, *script: Any, turns: int = 9, tokens: int = ROOMY, limits: Any = None, **options: Any) -> Any:
        """Make a loop over a client with this script, or over `client`."""
        breaker = CircuitBreaker(turns, tokens, output_fn=self.notices.append, **(limits or {}))
        is_async = self.driver == ASYNCHRONOUS
        given = options.pop("client", None)
        self.client = given if given is not None else (AsyncScriptedClient if is_async else ScriptedClient)(*script)
        options.setdefault("sleep", self._asleep if is_async else self.slept.append)
        options.setdefault("find_price", lambda _model: None)
        options.setdefault("jitter", lambda: 1.0)
        spec = options.pop("spec", SPEC)
        self.loop = (AsyncAgentLoop if is_async else AgentLoop)(spec, breaker, self.ledger, self.client, **options)
        return self.loop

    def run(self, *script: Any, task: str = "task", **options: Any) -> LoopResult:
        """Make a loop and run it."""
        return self.waited(self.make(*script, **options).run(task))

    def resume(self, *script: Any, task: str | None = None, **options: Any) -> LoopResult:
        """Make a loop and go on with the session."""
        return self.waited(self.make(*script, **options).resume(task))

    def waited(self, result: Any) -> Any:
        return asyncio.run(result) if asyncio.iscoroutine(result) else result

    async def _asleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    # -- what was said and written ---------------------------------------------------------------------------------

    @property
    def calls(self) -> list[dict[str, Any]]:
        return self.client.calls

    def last_messages(self) -> list[dict[str, Any]]:
        return self.calls[-1]["messages"]

    def rows(self, *kinds: str, session_id: str = SPEC.session_id) -> list[LedgerRow]:
        return [row for row in self.ledger.rows(session_id) if not kinds or row.kind in kinds]

    def kinds(self) -> list[str]:
        return [row.kind for row in self.rows()]

    def results_told(self) -> list[dict[str, Any]]:
        """Return the tool results in the last message that was sent."""
        return [block for block in self.last_messages()[-1]["content"] if block["type"] == "tool_result"]


def a_session(
    ledger: Ledger, *, turns: int = 1_000, tokens: int = 10_000, limits: Any = None, say: Any = None, **options: Any
) -> Session:
    """Open the session under a breaker that prints nowhere."""
    breaker = CircuitBreaker(turns, tokens, output_fn=say or (lambda _notice: None), **(limits or {}))
    return open_session(options.pop("spec", SPEC), breaker, ledger, **options)


def ask(text: str = "hello", max_tokens: int | None = 100, model: str = "m", **others: Any) -> Request:
    """Return a request of one message."""
    return Request.of(model=model, messages=[{"role": "user", "content": text}], max_tokens=max_tokens, **others)


def calls_of(*calls: tuple[str, str, dict[str, Any]] | ToolCall, **options: Any) -> dict[str, Any]:
    """Return a reply that asks for tools: (id, name, arguments) each."""
    wanted = [call if isinstance(call, ToolCall) else ToolCall(*call) for call in calls]
    return make_reply(options.pop("text", ""), tool_calls=wanted, **options)


def seeing(seen: list[Any], answer: Any = "ok", *, name: str = "look") -> Any:
    """Return a tool that remembers what it was called with."""

    def handler(x: int = 0) -> Any:
        seen.append(x)
        return answer

    handler.__name__ = name
    return handler


def killed_rows(path: Path, session_id: str = SPEC.session_id) -> Sequence[LedgerRow]:
    with Ledger(path) as ledger:
        return ledger.rows(session_id)


Count = Callable[[str], int]
