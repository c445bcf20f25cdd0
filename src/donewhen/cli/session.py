"""`sessions`, `show` and `raise`: what was run, and how much more it may use."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from donewhen.cli import rows as row_text
from donewhen.cli.amounts import scaled, user
from donewhen.cli.exits import CommandError
from donewhen.cli.output import clean_lines, put, put_json, put_table, say
from donewhen.cli.overview import Overview, gauges, look_at
from donewhen.cli.store import (
    command_line,
    find_session,
    open_to_read,
    open_to_write,
    short_id,
    store_option,
    store_path,
)
from donewhen.entry import VISIBLE_KINDS
from donewhen.render import usd, visible

if TYPE_CHECKING:
    from donewhen.balance import Ceilings
    from donewhen.ledger import Ledger

_MILLION = 10**6
_MS_PER_MINUTE = 60_000


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON list on stdout.")
@store_option
def sessions(*, as_json: bool) -> None:
    """List the sessions, oldest first, and where each stands.

    What a session used includes what its children have used.
    """
    with open_to_read(store_path()) as ledger:
        found = [look_at(ledger, session_id, ledger.rows(session_id)) for session_id, _, _ in ledger.sessions()]
    if as_json:
        put_json([overview.as_json() for overview in found])
        return
    if not found:
        say("There is no session yet.")
        return
    known = [overview.session_id for overview in found]
    headers = ("session", "state", "began", "turns", "tokens", "what it does")
    put_table(headers, [_session_cells(overview, known) for overview in found], right=(3, 4))


def _session_cells(overview: Overview, known: list[str]) -> tuple[str, ...]:
    balance = overview.balance
    return (
        short_id(overview.session_id, known),
        overview.state,
        row_text.local(overview.rows[0].created_at).strftime("%Y-%m-%d %H:%M"),
        "" if balance is None else f"{balance.used.turns:,}",
        "" if balance is None else f"{balance.used.tokens:,}",
        overview.promise.get("what_it_does", ""),
    )


@click.command()
@click.argument("session")
@click.option("--all", "everything", is_flag=True, help="The bookkeeping rows too.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout, with every row.")
@store_option
def show(session: str, *, everything: bool, as_json: bool) -> None:
    """Show a session: its promise, its spend against its ceilings, and its rows.

    SESSION is its id, or a beginning of it that no other session has. What it used includes what its children have used until
    now. Reservations, openings, and calls that a person settled (reconcile) are among the rows with --all.
    """
    with open_to_read(store_path(session)) as ledger:
        session_id = find_session(ledger, session)
        overview = look_at(ledger, session_id, ledger.rows(session_id))
        reviewed = _review_of(ledger, overview)
        signed_by = ledger.signed_by
    if as_json:
        told = {**overview.as_json(), "signed_by": signed_by, "review": reviewed}
        put_json({**told, "rows": [*map(row_text.row_json, overview.rows)]})
        return
    _put_head(overview, signed_by, reviewed)
    shown = [row for row in overview.rows if everything or row.kind in VISIBLE_KINDS]
    if shown:
        put("")
        put_table(row_text.HEADERS, [row_text.row_cells(row) for row in shown], right=row_text.RIGHT)


def _put_head(overview: Overview, signed_by: str | None, reviewed: str | None) -> None:
    lines = [("session", overview.session_id), ("state", _state_and_reason(overview))]
    names = {"what_it_does": "does", "what_it_does_not": "does not", "done_looks_like": "done when"}
    lines += [(names[name], answer) for name, answer in overview.promise.items()]
    if overview.balance is not None:
        lines += [(gauge.name, gauge.told) for gauge in gauges(overview.balance, None)]
    if overview.progress is not None and overview.progress.in_doubt:
        count = len(overview.progress.in_doubt)
        lines.append(("in doubt", f"{count} call{'s' if count > 1 else ''} whose outcome is not known, charged whole"))
    if reviewed is not None:
        lines.append(("review", reviewed))
    lines.append(("signed by", signed_by or "nobody: the ledger is unsigned"))
    for name, told in lines:
        first, *others = clean_lines(told).splitlines() or [""]
        put(f"{name:<11}{first}")
        for other in others:
            put(f"{'':<11}{other}")


def _review_of(ledger: Ledger, overview: Overview) -> str | None:
    """Return what reviewers have said of a session that has ended, or that a person has said something of."""
    from donewhen.errors import LedgerTamperedError, SessionNotFoundError
    from donewhen.framing import read_record
    from donewhen.reviewing import standing_of

    ended = overview.progress is not None and overview.progress.close is not None
    if not ended and not any(row.kind in ("attest", "reject") for row in overview.rows):
        return None
    try:
        record = read_record(ledger, overview.session_id, now=datetime.now(timezone.utc))
        return standing_of(record).output.sentence
    except SessionNotFoundError:
        return None  # no promise is stored, or nothing to compare with it
    except LedgerTamperedError as error:
        return str(error)  # the rows can be looked at all the same


def _state_and_reason(overview: Overview) -> str:
    close = None if overview.progress is None else overview.progress.close
    return overview.state if close is None else f"{overview.state}: {close.data['reason']}"


@click.command("raise")
@click.argument("session")
@click.option("--turns", metavar="N", type=click.IntRange(min=0))
@click.option("--tokens", metavar="N", type=click.IntRange(min=0))
@click.option("--usd", "dollars", metavar="X", help="US dollars.")
@click.option("--minutes", metavar="N")
@click.option("--tool-calls", metavar="N", type=click.IntRange(min=0))
@click.option("--why", metavar="TEXT", required=True, help="The reason; it is written into the ledger.")
@click.option("--who", metavar="NAME", help="Who raises it. Left out: the user of this system.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
@store_option
def raise_(session: str, *, why: str, who: str | None, as_json: bool, **wanted: int | str | None) -> None:
    """Raise the ceilings of a session, by a row that says who did it and why.

    Each number is the new ceiling, not what is added to it.
    """
    from donewhen.progress import read_progress

    if not why.strip():
        raise CommandError("--why is blank: a ceiling is raised for a reason")
    changes = _changes(wanted)
    with open_to_write(store_path(session)) as ledger:
        session_id = find_session(ledger, session)
        progress = read_progress(ledger.rows(session_id))
        if progress is None:
            raise CommandError(f"session {visible(session_id)} was never opened, so it has no ceilings to raise")
        before = progress.balance.ceilings
        _refuse_unless_higher(changes, before)
        row = ledger.raise_ceilings(session_id, changes, why=why, who=who or user())
    if as_json:
        put_json(row_text.row_json(row))
        return
    for name, ceiling in changes.items():
        put(f"{_NAMES[name]}: {_told(name, getattr(before, name))} -> {_told(name, ceiling)}")
    if progress.outcome is not None:
        say(f"Go on with: {command_line('resume', session_id)}")


_NAMES = {
    "turns": "turns",
    "tokens": "tokens",
    "cost_microusd": "usd",
    "milliseconds": "minutes",
    "tool_calls": "tool calls",
}


def _changes(wanted: dict[str, int | str | None]) -> dict[str, int]:
    changes: dict[str, int] = {}
    for name in ("turns", "tokens", "tool_calls"):
        value = wanted[name]
        if isinstance(value, int):
            changes[name] = value
    if wanted["dollars"] is not None:
        changes["cost_microusd"] = scaled("--usd", str(wanted["dollars"]), _MILLION)
    if wanted["minutes"] is not None:
        changes["milliseconds"] = scaled("--minutes", str(wanted["minutes"]), _MS_PER_MINUTE)
    if not changes:
        raise CommandError("say which ceiling to raise: --turns, --tokens, --usd, --minutes or --tool-calls")
    return changes


def _refuse_unless_higher(changes: dict[str, int], before: Ceilings) -> None:
    for name, ceiling in changes.items():
        now: int | None = getattr(before, name)
        if now is None:
            raise CommandError(f"there is no ceiling on {_NAMES[name]}, so it cannot be raised")
        if ceiling <= now:
            told = (
                f"the ceiling on {_NAMES[name]} is {_told(name, now)} already; give the new ceiling, which must be more"
            )
            raise CommandError(told)


def _told(name: str, ceiling: int | None) -> str:
    if ceiling is None:
        return "none"
    if name == "cost_microusd":
        return usd(ceiling)
    return f"{ceiling / _MS_PER_MINUTE:,.6g}" if name == "milliseconds" else f"{ceiling:,}"
