"""The scenes of `donewhen demo`: real operations, each of which shows that a promise is kept, or that it is not."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from donewhen.agent_loop import AgentLoop, LoopResult
from donewhen.checks import check_from
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.demo.crowd import crowd_on_one_ceiling
from donewhen.demo.forger import an_edited_row
from donewhen.demo.promise import AUDIT_SPEC
from donewhen.demo.site import DemoSite
from donewhen.demo.stage import KEY_FOLDER, CountingClient, Exhibit, Fact, Scene, Stage
from donewhen.entry import VISIBLE_KINDS, LedgerRow
from donewhen.errors import SessionEndedError, SpecError
from donewhen.keys import load_or_make_log_key
from donewhen.providers.offline import OFFLINE_MODEL, OfflineClient
from donewhen.providers.offline_price import free_price
from donewhen.render import render_frame, row_says, visible, wrap
from donewhen.review_surface import ReviewSurface
from donewhen.seo import audit_tools
from donewhen.spec_file import load_spec
from donewhen.spec_writer import SpecResult

RUNAWAY_TURNS, RUNAWAY_TOKENS = 50, 8_000
MORE_TRIES = 3
SHOWN_LINES = 5
"""Of each text in a frame."""

Play = Callable[[Stage], Scene]


@contextmanager
def open_stage(folder: Path, *, width: int = 100) -> Generator[Stage, None, None]:
    """Make the demo's key and its ledger, and serve its site, until the block ends.

    Args:
        folder: where everything is put; it must be there.
        width: columns of what is shown.
    """
    signer = load_or_make_log_key(folder / KEY_FOLDER)
    with DemoSite() as site:
        stage = Stage(folder=folder, signer=signer, site=site, width=width)
        with stage.open_ledger() as ledger:
            stage.vkey_file.write_text(f"{ledger.signed_by}\n", encoding="utf-8")
        yield stage


def no_spec_no_call(stage: Stage) -> Scene:
    """Start a loop whose promise lacks an answer."""
    client = CountingClient(OfflineClient())
    promise = SpecResult("Audits a page.", "It changes nothing.", "   ", _new_session(stage))
    with stage.open_ledger() as ledger:
        try:
            AgentLoop(promise, CircuitBreaker(), ledger, client).run("Audit the page.")
        except SpecError as error:
            refusal: SpecError | None = error
        else:
            refusal = None
        rows = len(ledger.rows(promise.session_id))
    facts = (
        Fact(
            "a promise with a blank answer is refused",
            "not refused" if refusal is None else str(refusal),
            refusal is not None and refusal.field == "done_looks_like",
        ),
        Fact("the client was not called", f"{client.calls} calls reached it", client.calls == 0),
        Fact("nothing was written", f"{rows} rows in the ledger", rows == 0),
    )
    return Scene(title="No spec, no call", promise="Spec before spend", facts=facts)


def an_audit(stage: Stage) -> Scene:
    """Audit a real page of the demo's site under a spec file."""
    path = stage.folder / "audit.toml"
    path.write_text(AUDIT_SPEC.replace("URL", stage.site.url), encoding="utf-8")
    spec = load_spec(path)
    session_id = stage.audit_session = _new_session(stage)
    client = CountingClient(OfflineClient())
    with stage.open_ledger() as ledger:
        loop = AgentLoop(
            spec.result(session_id),
            CircuitBreaker.from_ceilings(spec.ceilings),
            ledger,
            client,
            OFFLINE_MODEL,
            spec.max_tokens or 1024,
            tools=audit_tools(only_site_of=stage.site.url),
            checks=[check_from(described) for described in spec.done_when],
            bound=spec.bound,
            terms=spec.terms(),
            find_price=free_price,
        )
        result = loop.run(spec.what_it_does)
        rows = ledger.rows(session_id)
    shown = [row for row in rows if row.kind in VISIBLE_KINDS]
    frame = ReviewSurface(stage.store, stage.store).load(session_id)
    exhibits = (
        Exhibit("The ledger", _table(shown, stage.width)),
        Exhibit(
            "What a reviewer sees, each text cut short",
            render_frame(frame, width=stage.width, max_lines=SHOWN_LINES).rstrip(),
        ),
    )
    return Scene(
        title="An SEO audit of a real page, by a client that is rule-based, not a language model",
        promise="Done is what the spec says, not what the model says",
        facts=_facts_of_audit(result, rows, client),
        exhibits=exhibits,
    )


def _facts_of_audit(result: LoopResult, rows: Sequence[LedgerRow], client: CountingClient) -> tuple[Fact, ...]:
    checks = [row for row in rows if row.kind == "check"]
    last = [row for row in checks if row.turn_count == checks[-1].turn_count]
    met = [row.data["outcome"] for row in last]
    sent_back = [row.data["name"] for row in checks if row.data["outcome"] == "not_met"]
    kinds = [row.kind for row in rows]
    return (
        Fact("it ended done", result.reason, result.success),
        Fact(
            "what was not met went back to the model",
            f"first try: not met: {', '.join(sent_back)}",
            bool(sent_back),
        ),
        Fact(
            "then every check was met, and a person's is left",
            f"{met.count('met')} met, {met.count('pending')} pending",
            sorted(met) == ["met", "met", "met", "pending"],
        ),
        Fact(
            "the promise was stored first",
            f"the rows begin {', '.join(kinds[:4])}",
            kinds[:3] == ["spec", "policy", "open"],
        ),
        Fact(
            "every call is in the ledger, before and after",
            f"{client.calls} calls, {kinds.count('reserve')} reservations, {kinds.count('llm')} replies",
            client.calls == kinds.count("reserve") == kinds.count("llm") > 0,
        ),
        Fact(
            "ledger and client count the same tokens",
            f"{result.total_tokens:,} and {client.tokens:,}",
            result.total_tokens == client.tokens,
        ),
    )


def _table(rows: Sequence[LedgerRow], width: int) -> str:
    """Return rows as a table for a narrow terminal; `donewhen show` has all columns."""
    lines = ["row  turn  kind    tokens  says"]
    for row in rows:
        start = f"{row.id:>3}  {row.turn_count:>4}  {row.kind:<6}  {row.token_delta or '':>6}  "
        first, *more = wrap(row_says(row), max(width - len(start), 20))
        lines += [start + first, *(" " * len(start) + part for part in more)]
    return "\n".join(lines)


def a_runaway(stage: Stage) -> Scene:
    """Let an agent run that is never done."""
    client = CountingClient(OfflineClient(runaway=True))
    notices: list[str] = []
    promise = SpecResult(
        "Looks at things.", "It never stops by itself.", "Nobody thought of that.", _new_session(stage)
    )
    with stage.open_ledger() as ledger:
        breaker = CircuitBreaker(RUNAWAY_TURNS, RUNAWAY_TOKENS, output_fn=notices.append)
        loop = AgentLoop(promise, breaker, ledger, client, OFFLINE_MODEL, bound="strict", find_price=free_price)
        result = loop.run("Look at everything.")
        calls = client.calls
        reasons = [_try_again(loop) for _ in range(MORE_TRIES)]
        newest = ledger.newest_row(promise.session_id)
    spent = -1 if newest is None or newest.balance is None else newest.balance.used.tokens
    facts = (
        Fact("it was stopped at its ceiling", result.reason, result.breach_reason == "token_ceiling"),
        Fact("the ledger's spend is exact", f"ledger {spent:,}, client {client.tokens:,}", spent == client.tokens),
        Fact(
            "the ceiling held",
            f"{spent:,} of {RUNAWAY_TOKENS:,} tokens, in {calls} calls",
            0 < client.tokens <= RUNAWAY_TOKENS,
        ),
        Fact(
            f"{MORE_TRIES} more tries sent nothing",
            f"{client.calls - calls} calls; the session stays stopped: {reasons[0]}",
            client.calls == calls and set(reasons) == {"breached"},
        ),
    )
    return Scene(
        title="A runaway agent",
        promise="Ceilings hold",
        facts=facts,
        exhibits=(Exhibit("What a person was told", notices[0] if notices else "nothing"),),
    )


def _try_again(loop: AgentLoop) -> str:
    try:
        return loop.resume("Go on.").outcome
    except SessionEndedError as ended:
        return ended.outcome


def what_waits(stage: Stage) -> Scene:
    """Look at what was released: nothing."""
    with stage.open_ledger() as ledger:
        rows = list(ledger.iter_rows())
        close = next(row for row in rows if row.kind == "close" and row.session_id == stage.audit_session)
        output = ledger.find_text(close, "output") or ""
    kinds = [row.kind for row in rows]
    passed = kinds.count("release") + kinds.count("attest")
    first = next((visible(line) for line in output.splitlines() if line.strip()), "nothing")
    facts = (
        Fact(
            "the audit's report waits in the outbox", f"{len(output):,} characters, beginning {first!r}", bool(output)
        ),
        Fact("nothing was released, since nobody has attested", f"{passed} attestations and releases", passed == 0),
    )
    return Scene(title="What waits", promise="Nothing ships unsigned", facts=facts)


SCENES: tuple[Play, ...] = (
    no_spec_no_call,
    an_audit,
    a_runaway,
    crowd_on_one_ceiling,
    an_edited_row,
    what_waits,
)


def _new_session(stage: Stage) -> str:
    session_id = str(uuid.uuid4())
    stage.sessions.append(session_id)
    return session_id
