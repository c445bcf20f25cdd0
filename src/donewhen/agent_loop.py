"""The loop that respects its boundaries: two drivers, blocking and asynchronous, of one flow.

What happens in a turn, and in which order, is told in `flow.py`; this file only performs it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from donewhen.attempts import provider_failure
from donewhen.bounds import BoundKind, Transcript
from donewhen.checks import Check, CheckContext, CheckResult, protected_digests
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import Failure, LLMClient, MessagesEndpoint, Reply, ToolCall, read_reply
from donewhen.conversation import Conversation
from donewhen.driving import adrive, drive
from donewhen.errors import ReplyError, SpecError
from donewhen.flow import Run
from donewhen.halt_watch import EVERY_SECONDS, HaltWatch, Watched, watch_interval
from donewhen.ledger import Ledger
from donewhen.opening import open_session
from donewhen.prices import find_price as find_listed_price
from donewhen.providers.sdk import prepare
from donewhen.spec import Spec
from donewhen.spec_writer import SpecResult
from donewhen.steps import CallClient, LoopResult, RunChecks, RunTools, Settings, Step, Wait, Write
from donewhen.tools import ToolResult, refuse_unknown, toolbox
from donewhen.written import written

if TYPE_CHECKING:
    from donewhen.session import Session
    from donewhen.usage import Price

__all__ = ["AgentLoop", "AsyncAgentLoop", "LLMClient", "LoopResult", "MessagesEndpoint"]

_T = TypeVar("_T")

DEFAULT_MODEL = "claude-sonnet-4-6"

NOT_RUN = ToolResult(
    "The session was halted, so this call was not run. Ask for it again if it is still needed.",
    is_error=True,
    problem="not run, by a halt",
)


class _Loop:
    """What both drivers are made with.

    Args:
        spec: the promise; it is stored and frozen before the first call.
        circuit_breaker: the ceilings.
        ledger: where the record is kept.
        client: anything with ``.messages.create(...)``. Its own retries are switched off where it has a way to.
        model: the model to ask.
        max_tokens: the most output of one reply; clamped to what is left.
        tools: functions, or mappings with a schema and a handler, that the model may call.
        checks: what must be met, beside the model saying so, for the session to be done.
        bound: ``estimate``, or ``strict`` for a bound that cannot be too low; see `donewhen.bounds`.
        keep: ``conversation`` keeps the messages, so that a stopped session can go on in its middle.
        terms: everything that was agreed, where it comes from a spec file; else it is made of these arguments.
        budget: the budget that the session stands under; see `donewhen.opening.open_session`. None: that of `terms`.
        parent: the session that it is a child of; see `donewhen.session.Session.child`.
        max_attempts: how often one turn may be tried.
        wrap_up_notice: whether the model is told when its last allowed turn has come.
        extra: further arguments of every call, such as ``tool_choice`` or ``thinking``.
        context_window_tokens: reserved whole for a request that cannot be bounded.
        folder: where checks run.
        find_price: returns the price of a model, None where it is not known.
        started_by: who starts a new session, and so may not attest it; see `donewhen.opening.open_session`.
        monotonic, jitter: the clock that never goes back, and a number from 0 to 1; handed in by tests.
        watch_seconds: how often a halt is looked for while a tool, a check, a wait or an awaited call is under way.
        sleep: waits so many seconds; awaited by `AsyncAgentLoop`. None: ``time.sleep`` or ``asyncio.sleep``.

    Raises:
        SpecError: an answer is blank, or a check or term cannot be kept.
        ToolError: a tool cannot be described to a model.
        TypeError: the client has no ``messages.create``.
        CallError: the client has middleware, which could send a request twice.
    """

    def __init__(
        self,
        spec: SpecResult,
        circuit_breaker: CircuitBreaker,
        ledger: Ledger,
        client: Any,
        model: str = DEFAULT_MODEL,
        max_tokens: int = 1024,
        *,
        tools: Iterable[object] = (),
        checks: Sequence[Check] = (),
        bound: BoundKind = "estimate",
        keep: str = "nothing",
        terms: Mapping[str, Any] | None = None,
        budget: str | None = None,
        parent: Session | None = None,
        max_attempts: int = 4,
        wrap_up_notice: bool = True,
        extra: Mapping[str, Any] | None = None,
        context_window_tokens: int | None = None,
        folder: Path | str = ".",
        find_price: Callable[[str], Price | None] = find_listed_price,
        started_by: str | None = None,
        watch_seconds: float = EVERY_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        sleep: Callable[[float], Any] | None = None,
    ) -> None:
        _refuse_wrong(client, max_tokens=max_tokens, max_attempts=max_attempts)
        self.spec = spec
        self.circuit_breaker = circuit_breaker
        self.ledger = ledger
        self.client = prepare(client)
        self.model = model
        self.max_tokens = max_tokens
        self._tools = toolbox(tools)
        self._extra = extra
        self._window = context_window_tokens
        self._folder = Path(folder)
        self._find_price = find_price
        self._started_by = started_by
        self._watch_seconds = watch_interval(watch_seconds)
        self._monotonic = monotonic
        self._sleep = sleep
        held = {name for name, tool in self._tools.items() if tool.held}
        self._held = frozenset(held | set((terms or {}).get("held_tools", ())))
        self._budget = _budget_of(budget, terms)
        self._parent = parent
        self.session: Session | None = None
        self._halts: HaltWatch
        self._terms = dict(terms) if terms is not None else self._make_terms(checks, keep, bound)
        self._keeps = keep == "conversation"
        self._bound: BoundKind = bound
        self._settings = Settings(
            max_tokens=max_tokens,
            max_attempts=max_attempts,
            wrap_up_notice=wrap_up_notice,
            checks=tuple(checks),
            make_context=self._context,
            jitter=jitter,
        )

    def _make_terms(self, checks: Sequence[Check], keep: str, bound: BoundKind) -> dict[str, object]:
        """Return what is agreed beside the three answers, where it is said in Python and not in a spec file."""
        agreed = Spec(
            what_it_does=self.spec.what_it_does,
            what_it_does_not=self.spec.what_it_does_not,
            done_looks_like=self.spec.done_looks_like,
            ceilings=self.circuit_breaker.ceilings,
            done_when=tuple([check.describe() for check in checks]),
            keep=cast("Any", keep),
            bound=bound,
            held_tools=tuple(sorted(self._held)),
            budget=self._budget,
        )
        return agreed.terms()

    def _open(self, *, resume: bool) -> Run:
        checks = self._settings.checks
        session = open_session(
            self.spec,
            self.circuit_breaker,
            self.ledger,
            terms=self._terms,
            bound=self._bound,
            held_tools=self._held,
            protect=lambda: protected_digests(checks, self._folder),
            find_price=self._find_price,
            resume=resume,
            budget=self._budget,
            parent=self._parent,
            started_by=self._started_by,
            monotonic=self._monotonic,
        )
        self.session = session
        self._halts = HaltWatch(session, self._watch_seconds, self._monotonic)
        conversation = Conversation(self._transcript(), kept=self._keeps)
        if session.before is not None and self._keeps:
            rows = self.ledger.rows(self.spec.session_id)
            conversation.take_up(rows, self.ledger.find_text, session.remember)
        return Run(self._settings, session, conversation)

    def _transcript(self) -> Transcript:
        return Transcript(
            model=self.model,
            system=self._system_prompt(),
            tools=[tool.definition() for tool in self._tools.values()],
            extra=self._extra,
            context_window_tokens=self._window,
        )

    def _system_prompt(self) -> str:
        # Short: a session with a small ceiling pays for every word of it.
        spec = self.spec
        return f"Do: {spec.what_it_does}\nDo not: {spec.what_it_does_not}\nDone when: {spec.done_looks_like}"

    def _context(self, output: str, protected: Mapping[str, str]) -> CheckContext:
        return CheckContext(output, self.spec.session_id, self._folder, protected)

    def _read(self, response: object) -> Reply | Failure:
        try:
            return read_reply(response)
        except ReplyError as error:
            return Failure(rejected=False, problem=str(error))

    def _ms_since(self, start: float) -> int:
        return int((self._monotonic() - start) * 1000)


class AgentLoop(_Loop):
    """Run an agent under a spec, behind a breaker, into a ledger. See `_Loop` for the arguments."""

    client: LLMClient

    def run(self, task: str) -> LoopResult:
        """Work on a task until it is done, a ceiling stops it, or it waits for a person. Never raises on a breach.

        A session that was interrupted goes on; one that has ended is an error.

        Args:
            task: what the model is asked.

        Raises:
            SessionEndedError: the session is over, or was stopped and needs `resume`.
            SessionBusyError: another live process has it.
            SpecError: the spec is not the one that the session was opened with.
            PriceUnknownError, UnboundedRequestError: the call cannot be kept under its ceilings; nothing was sent.
            LedgerUnavailableError: the store could not be written.
        """
        return self._drive(task, resume=False)

    def resume(self, task: str | None = None) -> LoopResult:
        """Go on with a session that was interrupted, or stopped by a ceiling that has been raised since.

        Args:
            task: needed where the spec keeps no conversation.

        Raises:
            The errors of `run`.
        """
        return self._drive(task, resume=True)

    def _drive(self, task: str | None, *, resume: bool) -> LoopResult:
        flow = self._open(resume=resume).flow(task)
        return drive(flow, self._perform)

    def _perform(self, step: Step) -> Any:
        if isinstance(step, Write):
            return step.do()
        if isinstance(step, CallClient):
            return self._call(step)
        if isinstance(step, Wait):
            return self._halts.pause(self._sleep or time.sleep, step.seconds)
        with self._halts.watching() as block:
            return self._run_tools(step, block) if isinstance(step, RunTools) else self._judge(step, block)

    def _call(self, step: CallClient) -> tuple[Reply | Failure, int]:
        start = self._monotonic()
        try:
            answer = self._read(self.client.messages.create(**step.permit.request.as_kwargs()))
        except Exception as error:  # noqa: BLE001 - classified: what no provider says goes up as it is
            answer = provider_failure(error)
        return answer, self._ms_since(start)

    def _run_tools(self, step: RunTools, block: Watched) -> None:
        for place, call in enumerate(step.calls):
            step.finished[place] = (NOT_RUN, 0) if block.halted else self._timed(partial(self._run_tool, call))

    def _judge(self, step: RunChecks, block: Watched) -> list[tuple[Check, CheckResult, int]]:
        judged: list[tuple[Check, CheckResult, int]] = []
        for check in self._settings.checks:
            judged.append((check, *self._timed(partial(check.run, step.context))))
            if block.halted is not None:
                raise block.halted  # it was ended, so what it says is not what it would have said
        return judged

    def _run_tool(self, call: ToolCall) -> ToolResult:
        tool = self._tools.get(call.name)
        return refuse_unknown(call.name, self._tools) if tool is None else tool.call(call.arguments)

    def _timed(self, do: Callable[[], _T]) -> tuple[_T, int]:
        start = self._monotonic()
        return do(), self._ms_since(start)


class AsyncAgentLoop(_Loop):
    """The same as `AgentLoop`, for a client whose ``messages.create`` is awaited."""

    async def run(self, task: str) -> LoopResult:
        """Work on a task; see `AgentLoop.run`. Cancelling it writes what happened, then passes."""
        return await self._drive(task, resume=False)

    async def resume(self, task: str | None = None) -> LoopResult:
        """Go on with a session; see `AgentLoop.resume`."""
        return await self._drive(task, resume=True)

    async def _drive(self, task: str | None, *, resume: bool) -> LoopResult:
        self.session = None
        try:
            run = await written(lambda: self._open(resume=resume))
        except BaseException:
            if self.session is not None:
                self.session.leave()  # cancelled while it was opened: it is open all the same, and nobody has it
            raise
        return await adrive(run.flow(task), self._perform)

    async def _perform(self, step: Step) -> Any:
        import asyncio

        if isinstance(step, Write):
            return await written(step.do)
        if isinstance(step, RunTools):
            return await self._halts.during(lambda: self._run_tools(step), asks=True)
        if isinstance(step, CallClient):
            return await self._halts.during(lambda: self._call(step))
        if isinstance(step, RunChecks):
            return await self._halts.during(lambda: self._judge(step))
        return await self._halts.during(lambda: (self._sleep or asyncio.sleep)(step.seconds))

    async def _call(self, step: CallClient) -> tuple[Reply | Failure, int]:
        start = self._monotonic()
        try:
            answer = self._read(await self.client.messages.create(**step.permit.request.as_kwargs()))
        except Exception as error:  # noqa: BLE001 - classified: what no provider says goes up as it is
            answer = provider_failure(error)
        return answer, self._ms_since(start)

    async def _run_tools(self, step: RunTools) -> None:
        import asyncio

        await asyncio.gather(*[self._finish(step, place) for place in range(len(step.calls))])

    async def _judge(self, step: RunChecks) -> list[tuple[Check, CheckResult, int]]:
        return [(check, *await self._timed(check.arun(step.context))) for check in self._settings.checks]

    async def _finish(self, step: RunTools, place: int) -> None:
        step.finished[place] = await self._timed(self._run_tool(step.calls[place]))

    async def _run_tool(self, call: ToolCall) -> ToolResult:
        tool = self._tools.get(call.name)
        return refuse_unknown(call.name, self._tools) if tool is None else await tool.acall(call.arguments)

    async def _timed(self, doing: Awaitable[_T]) -> tuple[_T, int]:
        start = self._monotonic()
        return await doing, self._ms_since(start)


def _budget_of(budget: str | None, terms: Mapping[str, Any] | None) -> str | None:
    agreed: str | None = None if terms is None else terms.get("budget")
    if None not in (budget, agreed) and budget != agreed:
        raise SpecError(f"the terms say {agreed!r}", field="budget", value=budget)
    return budget if agreed is None else agreed


def _refuse_wrong(client: object, **counts: object) -> None:
    for name, count in counts.items():
        if type(count) is not int or count < 1:
            raise ValueError(f"{name} is {count!r}, not a whole number from 1 on")
    if not hasattr(client, "messages"):
        raise TypeError(
            f"a {type(client).__name__} has no messages.create; an OpenAI client goes into "
            "donewhen.providers.openai.OpenAIClient first"
        )
