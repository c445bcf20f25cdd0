"""`watch`: a session as it runs, spend against each ceiling and rows as they come."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from donewhen.cli.output import is_terminal, make_console, put, put_json, say
from donewhen.cli.overview import Gauge, Overview, gauges, look_at
from donewhen.cli.rows import row_json, row_line
from donewhen.cli.store import find_session, open_to_read, store_option, store_path
from donewhen.entry import VISIBLE_KINDS, LedgerRow
from donewhen.render import visible

if TYPE_CHECKING:
    from donewhen.ledger import Ledger

PAUSE_SECONDS = 0.2
"""Between two looks at the ledger."""

NEARLY, CLOSE = 0.9, 0.7
"""The parts of a ceiling from which its bar is red, and yellow."""


@dataclass(frozen=True, slots=True)
class Look:
    """A session at one moment, and the rows that are new since the look before."""

    overview: Overview
    new: Sequence[LedgerRow]


@click.command()
@click.argument("session", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each row on stdout.")
@store_option
def watch(session: str | None, *, as_json: bool) -> None:
    """Watch a session until it ends: spend against each ceiling, and rows as they come.

    SESSION is its id or a beginning of it; left out, the session that wrote last. Ctrl-C leaves it running.
    """
    with open_to_read(store_path(session)) as ledger:
        session_id = find_session(ledger, session) if session is not None else _newest_session(ledger)
        if session_id is None:
            say("There is no session yet.")
            return
        looks = follow(ledger, session_id)
        try:
            if as_json:
                state = _print_json(looks)
            else:
                state = _show_live(looks) if is_terminal(sys.stdout) else _print_lines(looks)
        except KeyboardInterrupt:
            say("Left. The session is not touched by that.")
            return
    if not as_json:
        say(f"session {visible(session_id)}: {state}")


def follow(
    ledger: Ledger, session_id: str, pause: Callable[[float], object] = time.sleep
) -> Generator[Look, None, None]:
    """Yield a session's state whenever it has new rows, and once a pause, until it no longer runs.

    Args:
        ledger: where it is written.
        session_id: the session.
        pause: waits so many seconds; handed in by tests.
    """
    rows: list[LedgerRow] = []
    while True:
        newest = ledger.newest_row(session_id)
        known = len(rows)
        if newest is not None and newest.seq != known:
            rows = ledger.rows(session_id)
        overview = look_at(ledger, session_id, rows)
        yield Look(overview, rows[known:])
        # Nobody can say when a session that is written by hand, or not opened yet, ends.
        if overview.state != "running":
            return
        pause(PAUSE_SECONDS)


def _newest_session(ledger: Ledger) -> str | None:
    newest = max(ledger.sessions(), key=lambda found: found[2], default=None)
    return None if newest is None else newest[0]


def _print_json(looks: Generator[Look, None, None]) -> None:
    for look in looks:
        for row in look.new:
            put_json(row_json(row))


def _print_lines(looks: Generator[Look, None, None]) -> str:
    state = ""
    for look in looks:
        state = look.overview.state
        for row in look.new:
            if row.kind in VISIBLE_KINDS or row.kind == "close":
                put(row_line(row))
        sys.stdout.flush()
    return state


def _show_live(looks: Generator[Look, None, None]) -> str:
    from rich.live import Live

    state = ""
    console = make_console()
    with Live(console=console, refresh_per_second=8) as live:
        for look in looks:
            state = look.overview.state
            live.update(_picture(look.overview, console.height))
    return state


def _picture(overview: Overview, height: int) -> Any:
    from rich.console import Group
    from rich.text import Text

    rows = [row for row in overview.rows if row.kind in VISIBLE_KINDS]
    bars: list[Gauge] = [] if overview.balance is None else gauges(overview.balance, _elapsed_ms(overview))
    room = max(3, height - len(bars) - 5)
    head = Text.assemble(("session ", "dim"), visible(overview.session_id), "  ", (overview.state, "bold"))
    lines = [Text(row_line(row), no_wrap=True, overflow="ellipsis") for row in rows[-room:]]
    return Group(head, _bars(bars), *lines)


def _bars(found: Sequence[Gauge]) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for gauge in found:
        style = "red" if gauge.share >= NEARLY else "yellow" if gauge.share >= CLOSE else "green"
        bar = ProgressBar(1.0, gauge.share, 30, complete_style=style, finished_style=style)
        table.add_row(gauge.name, bar if gauge.ceiling is not None else "no ceiling", gauge.told)
    return table


def _elapsed_ms(overview: Overview) -> int | None:
    """Return the milliseconds since the session opened, up to now or to its newest row; None: it never was."""
    if overview.progress is None:
        return None
    newest = datetime.fromisoformat(overview.rows[-1].created_at)
    return overview.progress.elapsed_ms(datetime.now(timezone.utc) if overview.state == "running" else newest)
