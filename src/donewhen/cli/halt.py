"""`halt`: no further call, from another terminal."""

from __future__ import annotations

import click

from donewhen.cli import rows as row_text
from donewhen.cli.amounts import user
from donewhen.cli.exits import CommandError
from donewhen.cli.output import put, put_json, say
from donewhen.cli.store import command_line, find_session, open_to_write, store_option, store_path
from donewhen.render import visible


@click.command()
@click.argument("session", required=False)
@click.option("--budget", metavar="NAME", help="A budget, with all that stand under it.")
@click.option("--all", "everything", is_flag=True, help="Every session of the ledger.")
@click.option("--lift", is_flag=True, help="Lift the halt. Of a session, 'donewhen resume' does that too.")
@click.option("--why", metavar="TEXT", help="The reason; it is written into the ledger.")
@click.option("--who", metavar="NAME", help="Who orders it. Left out: the user of this system.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
@store_option
def halt(
    session: str | None,
    *,
    budget: str | None,
    everything: bool,
    lift: bool,
    why: str | None,
    who: str | None,
    as_json: bool,
) -> None:
    """Order that no further call is made: from this commit on none is admitted, in any process, on any machine.

    Name a SESSION, a budget, or everything. Tools, checks and streams that are under way are asked to stop, within a
    second or two; a blocking call ends by itself. Its session is then halted, and can be resumed.
    """
    if [session is not None, budget is not None, everything].count(True) != 1:
        raise CommandError("name one: a SESSION, --budget NAME, or --all")
    reason = why or ("lifted by hand" if lift else "halted by hand")
    with open_to_write(store_path()) as ledger:
        session_id = None if session is None else find_session(ledger, session)
        order = ledger.lift_halt if lift else ledger.halt
        try:
            row = order(session_id, budget=budget, everything=everything, why=reason, who=who or user())
        except ValueError as error:
            raise CommandError(str(error)) from error
    if as_json:
        put_json(row_text.row_json(row))
        return
    told = f"session {visible(session_id)}" if session_id else f"the budget {budget}" if budget else "everything"
    put(f"{told}: {'no longer halted' if lift else 'halted'}")
    if lift and session_id:
        say(f"Go on with it: {command_line('resume', session_id)}")
