"""`run` and `resume`: an agent at work under a spec."""

from __future__ import annotations

import signal
import sys
import threading
import uuid
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from donewhen.cli.client import CLIENTS, make_client
from donewhen.cli.exits import FAILED, OUTCOMES, CommandError
from donewhen.cli.lock import only_one
from donewhen.cli.output import counted_as, put, put_json, say
from donewhen.cli.store import (
    beside,
    command_line,
    find_session,
    open_to_read,
    open_to_write,
    store_option,
    store_path,
    whole_name,
)
from donewhen.cli.talk import Talk
from donewhen.cli.tool_refs import load_tools
from donewhen.render import usd, visible

if TYPE_CHECKING:
    from donewhen.agent_loop import AgentLoop, LoopResult
    from donewhen.ledger import Ledger
    from donewhen.spec import Spec
    from donewhen.spec_writer import SpecResult

DEFAULT_MAX_TOKENS = 1024
_TERMINATED = 143
"""What a shell reports for a process that SIGTERM ended."""

_Command = TypeVar("_Command", bound="Callable[..., Any]")

_OPTIONS = (
    click.option(
        "--task", "task_file", metavar="FILE|-", help="What to work on. Left out: what the spec says it does."
    ),
    click.option("--client", "client_name", type=click.Choice(CLIENTS), default=CLIENTS[0], show_default=True),
    click.option("--model", help="The model, where the spec names none."),
    click.option("--base-url", metavar="URL", help="Another server that speaks the client's wire."),
    click.option("--tools", "tool_names", metavar="MODULE:FUNCTION", multiple=True, help="A tool; may be repeated."),
    click.option("--quiet", is_flag=True, help="Say nothing when it is done; else the problem alone, on stderr."),
    click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout."),
)


def _agent_options(command: _Command) -> _Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The options that `run` and `resume` share."""

    task_file: str | None
    client_name: str
    model: str | None
    base_url: str | None
    tool_names: tuple[str, ...]
    quiet: bool
    as_json: bool

    def task(self) -> str | None:
        """Return what to work on; None where nothing was given.

        Raises:
            CommandError: it cannot be read, or says nothing.
        """
        if self.task_file is None:
            return None
        try:
            data = sys.stdin.buffer.read() if self.task_file == "-" else Path(self.task_file).read_bytes()
            text = data.decode("utf-8-sig")
        except OSError as error:
            raise CommandError(f"--task {self.task_file}: {error.strerror}") from error
        except (UnicodeDecodeError, AttributeError) as error:
            raise CommandError(f"--task {self.task_file}: this is not text in UTF-8") from error
        if not text.strip():
            raise CommandError(f"--task {self.task_file}: the task is blank")
        return text


@click.command()
@click.argument("spec_file", metavar="SPEC")
@_agent_options
@store_option
def run(spec_file: str, **options: Any) -> int:
    """Run an agent under a spec file, until it is done or a ceiling stops it.

    Its output waits in the ledger until a person has compared it with the promise ('donewhen review'). One run of a
    spec file at a time: a second one ends at once with exit code 75.
    """
    from donewhen.spec_file import load_spec

    wishes = Wishes(**options)
    spec = load_spec(spec_file)
    task = wishes.task() or spec.what_it_does
    promise = spec.result(str(uuid.uuid4()))
    with only_one(beside(store_path()), str(Path(spec_file).resolve()), visible(spec_file)):
        return _work(wishes, spec, promise, lambda loop: loop.run(task))


@click.command()
@click.argument("session")
@click.argument("spec_file", metavar="[SPEC]", required=False)
@_agent_options
@click.option("--why", metavar="TEXT", default="resumed by hand", help="Why a halt of the session is lifted.")
@store_option
def resume(session: str, spec_file: str | None, *, why: str, **options: Any) -> int:
    """Go on with a session that was interrupted, paused, halted, or stopped by a ceiling that was raised since.

    A halt of the session itself is lifted by this, with a row that says who and why.

    Everything that was agreed is in the ledger; SPEC, where it is given, must still say the same. Client and tools are
    given again. The task is needed again unless the spec keeps the conversation.
    """
    wishes = Wishes(**options)
    task = wishes.task()
    with open_to_read(store_path(session)) as ledger:
        promise, spec = _stored_spec(ledger, find_session(ledger, session))
    if spec.keep != "conversation" and task is None:
        raise CommandError("nothing was kept of the conversation, so resuming needs the task again: --task FILE")
    with ExitStack() as locks:
        if spec_file is not None:
            _refuse_other_spec(spec_file, spec, promise)
            locks.enter_context(only_one(beside(store_path()), str(Path(spec_file).resolve()), visible(spec_file)))
        told_as = f"session {visible(promise.session_id)}"
        locks.enter_context(only_one(beside(store_path()), f"session {promise.session_id}", told_as))
        _lift_halt(promise.session_id, why)
        return _work(wishes, spec, promise, lambda loop: loop.resume(task))


def _lift_halt(session_id: str, why: str) -> None:
    from donewhen.cli.amounts import user

    with open_to_read(store_path()) as ledger:
        if ledger.find_halt(session_id) is None:
            return
    with open_to_write(store_path()) as ledger:
        ledger.lift_halt(session_id, why=why, who=user())
    say("Its halt is lifted.")


def _stored_spec(ledger: Ledger, session_id: str) -> tuple[SpecResult, Spec]:
    from donewhen.spec import Spec
    from donewhen.spec_writer import QUESTIONS, SpecResult

    row = ledger.find_spec(session_id)
    if row is None:
        raise CommandError(f"session {session_id} has no stored spec, so there is nothing to go on with")
    promise = SpecResult(**{name: row.data[name] for name in QUESTIONS}, session_id=session_id)
    opened = next((row for row in ledger.rows(session_id) if row.kind == "open"), None)
    terms = row.data.get("terms") or (opened.data.get("terms") if opened is not None else None)
    if terms is None:
        raise CommandError(
            f"session {session_id} was stored without terms, so it can be resumed only by the program it is of"
        )
    return promise, Spec.from_terms(promise, terms)


def _refuse_other_spec(spec_file: str, stored: Spec, promise: SpecResult) -> None:
    from donewhen.spec_file import load_spec

    given = load_spec(spec_file)
    if given != stored:
        raise CommandError(
            f"{spec_file} is not the spec that session {promise.session_id} was opened with, and a spec is frozen: "
            "leave the file out to go on as agreed, raise a ceiling with 'donewhen raise', or begin a new session"
        )


def _work(wishes: Wishes, spec: Spec, promise: SpecResult, go: Callable[[AgentLoop], LoopResult]) -> int:
    """Run or resume a session, tell how it ended, and return the exit code."""
    from donewhen.checks import check_from
    from donewhen.elsewhere import Elsewhere

    checks = [check_from(described) for described in spec.done_when]
    tools = load_tools(wishes.tool_names)
    elsewhere = Elsewhere.from_terms(spec.terms(), warn=lambda sentence: say(f"donewhen: {visible(sentence)}"))
    asked = make_client(wishes.client_name, spec, wishes.model, wishes.base_url)
    with (
        Talk(promise.session_id, quiet=wishes.quiet) as talk,
        _terminated_like_interrupted(),
        open_to_write(store_path(), make=True, on_row=talk.tell_row, elsewhere=elsewhere) as ledger,
    ):
        if ledger.signed_by is not None and not ledger.store.newest_sealed().size:
            talk.tell_new_log(ledger.signed_by)
        loop = _make_loop(spec, promise, ledger, talk, asked=asked, tools=tools, checks=checks)
        try:
            result = go(loop)
        except BaseException as error:
            if ledger.rows(promise.session_id):
                talk.tell_interruption(error)
            raise
        newest = ledger.newest_row(promise.session_id)
    cost = None if newest is None or newest.balance is None else newest.balance.used.cost_microusd
    return _tell_result(wishes, result, cost)


def _make_loop(spec: Spec, promise: SpecResult, ledger: Ledger, talk: Talk, **parts: Any) -> AgentLoop:
    from donewhen.agent_loop import AgentLoop
    from donewhen.circuit_breaker import CircuitBreaker

    asked = parts["asked"]
    return AgentLoop(
        promise,
        CircuitBreaker.from_ceilings(spec.ceilings, talk.tell_notice),
        ledger,
        asked.client,
        asked.model,
        spec.max_tokens or DEFAULT_MAX_TOKENS,
        tools=parts["tools"],
        checks=parts["checks"],
        bound=spec.bound,
        keep=spec.keep,
        terms=spec.terms(),
        find_price=asked.find_price,
    )


def _tell_result(wishes: Wishes, result: LoopResult, cost_microusd: int | None) -> int:
    code = OUTCOMES.get(result.outcome, FAILED)
    if wishes.as_json:
        put_json(_result_json(result, cost_microusd, code))
    summary = f"{result.outcome}: {visible(result.reason)}"
    spent = f"{counted_as(result.turns, 'turn')}, {counted_as(result.total_tokens, 'token')}"
    if cost_microusd:
        spent += f", {usd(cost_microusd)}"
    if wishes.quiet or wishes.as_json:
        if code and wishes.quiet:
            say(f"donewhen: session {result.session_id}: {summary} ({spent})")
        return code
    put(f"{summary}\nsession {result.session_id}: {spent}")
    for line in _next_steps(result):
        say(line)
    return code


def _result_json(result: LoopResult, cost_microusd: int | None, code: int) -> dict[str, object]:
    return {
        "session_id": result.session_id,
        "outcome": result.outcome,
        "reason": result.reason,
        "success": result.success,
        "turns": result.turns,
        "total_tokens": result.total_tokens,
        "cost_microusd": cost_microusd,
        "breach_reason": result.breach_reason,
        "waits_for": [call.name for call in result.waits_for],
        "exit_code": code,
        "store": whole_name(store_path()),
    }


def _next_steps(result: LoopResult) -> list[str]:
    session_id = result.session_id
    show = f"See what happened:  {command_line('show', session_id)}"
    go_on = f"Then go on:         {command_line('resume', session_id)}"
    review = f"See what waits:     {command_line('review', session_id)}"
    if result.outcome == "done":
        return ["Its output waits until a person has compared it with the promise.", review]
    if result.outcome == "held":
        return [review, f"Agree to it:        {command_line('attest', session_id)} --reviewer NAME", go_on]
    if result.outcome == "halted":
        # `resume` lifts the halt of its own session, and no other.
        return [show, *_lifting(result.reason, session_id), go_on]
    if result.outcome in ("breached", "unmet"):
        whose, _, kind = (result.breach_reason or "").rpartition(":")
        option = _RAISES.get(kind)
        if whose.startswith("budget:"):
            named = command_line("budget", "raise", whose.partition(":")[2])
            raised = f"Raise the budget:   {named} {option} --why TEXT"
            return [show, raised, go_on]
        if whose:
            return [show, go_on]
        raised = f"Raise the ceiling:  {command_line('raise', session_id)} {option} --why TEXT"
        return [show, raised, go_on] if option else [show]
    if result.outcome == "interrupted":
        return [f"Go on with it:      {command_line('resume', session_id)}"]
    return [show]


def _lifting(reason: str, session_id: str) -> list[str]:
    """Return the command that lifts what halted a session from above it."""
    whose = reason.partition(" was halted by ")[0]
    kind, _, name = whose.rpartition(" ")
    if whose == "everything":
        return [f"Lift the halt:      {command_line('halt', '--all', '--lift')}"]
    if kind == "the budget":
        return [f"Lift the halt:      {command_line('halt', '--budget', name, '--lift')}"]
    return [] if name == session_id else [f"Lift the halt:      {command_line('halt', name, '--lift')}"]


_RAISES = {
    "turn_ceiling": "--turns N",
    "token_ceiling": "--tokens N",
    "cost_ceiling": "--usd X",
    "time_ceiling": "--minutes N",
    "tool_call_ceiling": "--tool-calls N",
}


@contextmanager
def _terminated_like_interrupted() -> Generator[None, None, None]:
    """Let SIGTERM end the session as Ctrl-C does: what happened is written first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise SystemExit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
