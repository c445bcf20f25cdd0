"""The loop, as a generator that does no I/O.

It decides; a driver performs. It yields what must be done next (`Write`, `CallClient`, `RunTools`, `RunChecks`,
`Wait`) and is sent what came of it, so the blocking and the asynchronous driver share every decision. A driver that
is interrupted throws into it, and it writes what happened before it lets the interruption pass.

One turn, in order: bound and admit, call, settle, tools or checks. The order of the writes is `session.py`'s.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from donewhen.attempts import close_attempt, interrupted, pause_before
from donewhen.checks import Check, CheckResult
from donewhen.client import Failure, Reply, ToolCall
from donewhen.conversation import Conversation
from donewhen.drafts import check_draft, end_draft, tool_draft
from donewhen.errors import CircuitBreakerError, HaltedError, LedgerUnavailableError, SpecError
from donewhen.held_calls import turn_down
from donewhen.ledger import Draft
from donewhen.permit import Permit, Settlement
from donewhen.session import Session
from donewhen.steps import CallClient, LoopResult, RunChecks, RunTools, Settings, Step, Wait, Write
from donewhen.tools import ToolResult

FINISHED = frozenset({"end_turn", "stop_sequence"})
"""Stop reasons with which a model says that it has finished."""

STOPPED_EARLY = frozenset({"max_tokens", "pause_turn", "tool_use"})
"""Stop reasons after which the model goes on; ``tool_use`` only where it names no tool."""

WENT_WRONG: Mapping[str, str] = {
    "refusal": "the model refused",
    "model_context_window_exceeded": "the conversation no longer fits the model's context window",
}
"""Stop reasons that end the session as failed."""

CUT_OFF = "The reply was cut off at its token limit, so this call was not run. Ask for it again, in a shorter reply."
REFUSED = "A ceiling or a halt stopped the session, so this call was not run. Ask for it again if it is still needed."
INTERRUPTED = "The session was interrupted: whether this call ran is not known, and it was not run again."

Flow = Generator[Step, Any, LoopResult]
Part = Generator[Step, Any, "LoopResult | None"]


@dataclass(slots=True)
class Run:
    """One run of a session: the flow and what it remembers between steps."""

    settings: Settings
    session: Session
    conversation: Conversation
    permit: Permit | None = None
    """The attempt under way; None between attempts."""
    sent: bool = False
    """Whether the attempt under way has been handed to the client."""
    unmet: bool = False
    """Whether the newest thing that happened is that checks were not met."""

    def flow(self, task: str | None) -> Flow:
        """Run turns until the session ends, waits for a person, or cannot go on."""
        try:
            try:
                return (yield from self._turns(task))
            except HaltedError as halt:
                return (yield from self._halted(halt))
        except BaseException as error:
            self._interrupted(error)
            raise
        finally:
            self.session.leave()

    def _turns(self, task: str | None) -> Flow:
        waits = yield from self._begin(task)
        if waits is not None:
            return waits
        refused = yield from self._admit()
        while refused is None:
            refused = yield from self._turn()
        return refused

    def _halted(self, halt: HaltedError) -> Flow:
        """End a session that was halted while something was under way: nobody knows what came of a call."""
        yield Write(lambda: self._interrupted(halt))
        # A crash here leaves the session interrupted, and halted: its next call is refused.
        return (yield from self._end("halted", str(halt)))

    # -- a turn --------------------------------------------------------------------------------------------------

    def _turn(self) -> Part:
        assert self.permit is not None
        answer = yield from self._attempts()
        if isinstance(answer, LoopResult):
            return answer
        reply, ms = answer
        output = self.conversation.listen(reply)
        self.unmet = False
        if reply.tool_calls and (reply.stop_reason == "tool_use" or reply.stop_reason in FINISHED):
            return (yield from self._tools(reply, ms))
        if reply.stop_reason in FINISHED:
            return (yield from self._finished(reply, ms, output))
        if reply.stop_reason in WENT_WRONG:
            return (yield from self._fail(reply, ms, WENT_WRONG[reply.stop_reason]))
        if reply.stop_reason not in STOPPED_EARLY:
            return (yield from self._fail(reply, ms, f"the stop reason {reply.stop_reason!r} is not known"))
        if reply.usage is None:
            return (yield from self._fail(reply, ms, _unmetered(reply)))
        return (yield from self._go_on(reply, ms))

    def _go_on(self, reply: Reply, ms: int) -> Part:
        """Answer a reply that stopped early, and ask for the next turn in the same transaction."""
        said = self.conversation.hear(reply)
        if reply.tool_calls:
            self.conversation.answer([(call, ToolResult(CUT_OFF, True)) for call in reply.tool_calls])
        elif reply.stop_reason != "pause_turn":  # which is sent again as it is
            self.conversation.say("continue", self._notice_after(reply))
        return (yield from self._settle_and_admit(reply, ms, said, runs_tools=False))

    def _tools(self, reply: Reply, ms: int) -> Part:
        said = self.conversation.hear(reply)
        if any(call.name in self.session.held_tools for call in reply.tool_calls):
            said = {**said, "held": self.conversation.spell_calls(reply.tool_calls, self.session.held_tools)}
        settled = yield from self._settle(reply, ms, said, runs_tools=reply.usage is not None)
        if settled.breach is not None:
            return (yield from self._breached(settled.breach))
        if reply.usage is None:
            return (yield from self._end("failed", _unmetered(reply)))
        if settled.halted is not None:
            return (yield from self._end("halted", str(settled.halted)))
        keep = bool(settled.held) and self.conversation.kept
        ran, drafts = yield from self._run_tools(settled.tools, lambda _call: settled.row.turn_count, keep=keep)
        if settled.held:
            if drafts:
                yield Write(lambda: self.session.note(*drafts))
            return self._waiting(settled.held)
        self.conversation.answer([(call, result) for call, result, _ in ran], self._notice_after(reply))
        return (yield from self._admit(drafts))

    def _run_tools(
        self, calls: Sequence[ToolCall], turn_of: Callable[[ToolCall], int], *, keep: bool
    ) -> Generator[Step, Any, tuple[list[tuple[ToolCall, ToolResult, int]], list[Draft]]]:
        """Run tool calls, and return what came of them and its rows; of an interruption, write those that had ended."""
        step = RunTools(calls)

        def drafts(*, keep: bool) -> list[Draft]:
            session_id, hasher = self.session.session_id, self.session.ledger.hasher
            return [
                tool_draft(session_id, turn_of(call), call, result.content, result.problem, ms, hasher, keep=keep)
                for call, result, ms in step.results
            ]

        if not calls:
            return [], []
        try:
            yield step
        except BaseException:
            ended = drafts(keep=self.conversation.kept)
            if ended:
                with contextlib.suppress(LedgerUnavailableError):  # then nothing says that they ran: they are in doubt
                    self.session.note(*ended)
            raise
        return step.results, drafts(keep=keep)

    def _finished(self, reply: Reply, ms: int, output: str) -> Part:
        said = self.conversation.hear(reply)
        if not self.settings.checks:
            end = self._end_draft("done", "the model finished its turn", output)
            yield from self._settle(reply, ms, said, end=end)
            return self._result("done", "the model finished its turn", output)
        settled = yield from self._settle(reply, ms, said)
        # A crash here leaves the reply charged and its checks not run: the session is interrupted, not done.
        context = self.settings.make_context(output, self.session.protected)
        judged: list[tuple[Check, CheckResult, int]] = yield RunChecks(context)
        drafts = [self._judged(settled.row.turn_count, output, *one) for one in judged]
        broken = [result for _, result, _ in judged if result.outcome == "error"]
        if broken:
            # What a check says may quote the output: it is kept beside its row, not in the log.
            reason, detail = f"the check {broken[0].name!r} could not be judged", broken[0].detail
            return (yield from self._end("failed", reason, output, drafts, detail=detail))
        unmet = [result for _, result, _ in judged if result.outcome == "not_met"]
        self.session.repeats.saw_unmet([result.name for result in unmet])
        if not unmet:
            return (yield from self._end("done", "the model finished and every check is met", output, drafts))
        if reply.usage is None:
            return (yield from self._end("failed", _unmetered(reply), output, drafts))
        self.unmet = True
        told = "\n".join(f"- {result.name}: {result.detail or 'not met'}" for result in unmet)
        self.conversation.say(f"Not done yet. These checks are not met:\n{told}", self._notice_after(reply))
        return (yield from self._admit(drafts))

    def _judged(self, turn: int, output: str, check: Check, result: CheckResult, ms: int) -> Draft:
        kind = str(check.describe().get("check", "call"))
        session_id, hasher = self.session.session_id, self.session.ledger.hasher
        return check_draft(session_id, turn, result.name, kind, result.outcome, result.detail, output, ms, hasher)

    # -- attempts ------------------------------------------------------------------------------------------------

    def _attempts(self) -> Generator[Step, Any, LoopResult | tuple[Reply, int]]:
        """Call, and call again while that may help. Each attempt has a reservation of its own."""
        while True:
            assert self.permit is not None
            self.sent = True
            answer, ms = yield CallClient(self.permit)
            if isinstance(answer, Reply):
                return answer, ms
            failed, self.sent = self.permit, False
            yield Write(lambda failure=answer, ms=ms: self._close_attempt(failure, ms))
            # A crash here leaves the attempt released, or charged in full: the next one has its own reservation.
            seconds = self._pause_before(failed.attempt + 1, answer)
            if isinstance(seconds, str):
                return self._result("interrupted", seconds, self.conversation.text, turn=failed.turn)
            yield Wait(seconds)
            refused = yield from self._admit(retry_of=failed)
            if refused is not None:
                return refused

    def _close_attempt(self, failure: Failure, ms: int) -> None:
        permit, self.permit = self.permit, None
        assert permit is not None
        close_attempt(self.session, permit, failure, ms)

    def _pause_before(self, attempt: int, failure: Failure) -> float | str:
        settings = self.settings
        return pause_before(self.session, attempt, failure, max_attempts=settings.max_attempts, jitter=settings.jitter)

    # -- writes --------------------------------------------------------------------------------------------------

    def _admit(self, results: Sequence[Draft] = (), retry_of: Permit | None = None) -> Part:
        request = self.conversation.request(self.settings.max_tokens)
        texts = self.conversation.unkept()

        def admit() -> None:
            self.permit = self.session.admit(request, results=results, retry_of=retry_of, texts=texts)

        self.sent = False
        try:
            yield Write(admit)
        except CircuitBreakerError as breach:
            return (yield from self._breached(breach))
        except HaltedError as halt:
            return (yield from self._end("halted", str(halt), texts=texts))
        return None

    def _settle(
        self, reply: Reply, ms: int, said: Mapping[str, str], end: Draft | None = None, *, runs_tools: bool = True
    ) -> Generator[Step, Any, Settlement]:
        permit = self.permit
        assert permit is not None

        def settle() -> Settlement:
            settled = self.session.settle(
                permit, reply, execution_time_ms=ms, end=end, texts=said, runs_tools=runs_tools
            )
            self.permit = None
            return settled

        return (yield Write(settle))

    def _settle_and_admit(self, reply: Reply, ms: int, said: Mapping[str, str], *, runs_tools: bool) -> Part:
        permit = self.permit
        assert permit is not None
        then, asked = self.conversation.request(self.settings.max_tokens), self.conversation.unkept()

        def settle() -> Settlement:
            settled = self.session.settle(
                permit, reply, execution_time_ms=ms, texts=said, then=then, then_texts=asked, runs_tools=runs_tools
            )
            self.permit, self.sent = settled.permit, False
            return settled

        try:
            settled: Settlement = yield Write(settle)
        except HaltedError as halt:
            self.permit = None  # the reply is settled all the same
            return (yield from self._end("halted", str(halt), texts=asked))
        return None if settled.breach is None else (yield from self._breached(settled.breach))

    def _breached(self, breach: CircuitBreakerError) -> Flow:
        outcome = "unmet" if self.unmet else "breached"
        reason = str(breach)
        draft = self._end_draft(outcome, reason, self.conversation.text)
        yield Write(lambda: self.session.note(draft))
        return self._result(
            outcome, reason, self.conversation.text, turn=breach.turn_count, breach_reason=breach.reason
        )

    def _fail(self, reply: Reply, ms: int, reason: str) -> Flow:
        said = self.conversation.hear(reply)
        end = self._end_draft("failed", reason, self.conversation.text)
        yield from self._settle(reply, ms, said, end=end, runs_tools=False)
        return self._result("failed", reason, self.conversation.text)

    def _end(
        self,
        outcome: str,
        reason: str,
        output: str | None = None,
        before: Sequence[Draft] = (),
        *,
        detail: str = "",
        texts: Mapping[str, str] | None = None,
    ) -> Flow:
        """End the session; of messages that no row keeps yet, `texts` keeps them beside its last."""
        text = self.conversation.text if output is None else output
        draft = self._end_draft(outcome, reason, text)
        draft = replace(draft, texts={**draft.texts, **(texts or {})})
        yield Write(lambda: self.session.note(*before, draft))
        return self._result(outcome, f"{reason}: {detail}" if detail else reason, text)

    def _end_draft(self, outcome: str, reason: str, output: str | None) -> Draft:
        return end_draft(self.session.session_id, outcome, reason, output, self.session.ledger.hasher)

    def _interrupted(self, error: BaseException) -> None:
        permit, self.permit = self.permit, None
        if permit is not None:
            interrupted(self.session, permit, error, sent=self.sent)

    # -- resuming ------------------------------------------------------------------------------------------------

    def _begin(self, task: str | None) -> Part:
        """Say the task, or take up the conversation where it was left."""
        if not self.conversation.messages:
            if task is None:
                raise SpecError("nothing was kept of the conversation, so resuming needs the task again", field="task")
            self.conversation.say(task)
            return None
        open_calls = self.conversation.open_calls()
        if open_calls:
            return (yield from self._answer_open_calls(open_calls))
        self.conversation.take_turn()
        return None

    def _answer_open_calls(self, calls: Sequence[ToolCall]) -> Part:
        """Answer the tool calls that the last process left: those that were attested are run now, once."""
        waiting = {} if self.session.before is None else self.session.before.waiting_now
        held = [call for call in calls if call.id in waiting and waiting[call.id].held]
        undecided = tuple(call for call in held if not waiting[call.id].is_decided)
        if undecided:
            return self._waiting(undecided)
        refused = yield from turn_down(self.session, held, waiting)
        # A crash from here on leaves calls that may have run: the row that opened the session used up their approval.
        runs = [call for call in held if call.id not in refused]
        ran, drafts = yield from self._run_tools(runs, lambda call: waiting[call.id].row.turn_count, keep=True)
        now = refused | {call.id: result for call, result, _ in ran}
        if drafts:
            yield Write(lambda: self.session.note(*drafts))
        known = {**self.conversation.kept_results, **now}
        lost = {call.id: ToolResult(INTERRUPTED if call.id in waiting else REFUSED, True) for call in calls}
        self.conversation.answer([(call, known.get(call.id) or lost[call.id]) for call in calls])
        return None

    # -- what comes of it ----------------------------------------------------------------------------------------

    def _waiting(self, held: Sequence[ToolCall]) -> LoopResult:
        names = ", ".join(call.name for call in held)
        return self._result("held", f"{names} waits for a person", self.conversation.text, waits_for=tuple(held))

    def _notice_after(self, reply: Reply) -> str | None:
        """Return what the model is told before its last allowed turn, None before any other."""
        permit, balance = self.permit, self.session.newest_balance
        ceilings, tokens = balance.ceilings, balance.used_tokens
        turn = (balance.used_turns if permit is None else permit.turn) + 1
        if not self.settings.wrap_up_notice or ceilings.turns is None or turn != ceilings.turns:
            return None
        if permit is not None:  # else it is settled already, and the newest balance has it
            tokens += (permit.reserved.tokens if reply.usage is None else reply.usage.total) - permit.reserved.tokens
        left = "" if ceilings.tokens is None else f" and about {max(0, ceilings.tokens - tokens):,} tokens are left"
        return f"[This is the last turn that is allowed{left}. Finish now with what you have.]"

    def _result(
        self,
        outcome: str,
        reason: str,
        output: str | None,
        *,
        turn: int | None = None,
        breach_reason: str | None = None,
        waits_for: tuple[ToolCall, ...] = (),
    ) -> LoopResult:
        balance = self.session.newest_balance
        return LoopResult(
            outcome == "done",
            balance.used_turns if turn is None else turn,
            balance.used_tokens,
            self.session.session_id,
            breach_reason,
            outcome=outcome,
            reason=reason,
            output=output,
            waits_for=waits_for,
        )


def _unmetered(reply: Reply) -> str:
    return f"{reply.usage_fault}, so its whole reservation was charged"
