"""`erase`: the texts kept beside a session's rows go; the rows stay."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from donewhen.cli.exits import DONE, LEDGER, CommandError
from donewhen.cli.output import counted_as, is_terminal, put, put_json, say
from donewhen.cli.store import command_line, find_session, open_to_write, store_option, store_path
from donewhen.render import visible


@click.command()
@click.argument("session")
@click.option("--why", metavar="TEXT", required=True, help="The reason; it is written into the ledger, for good.")
@click.option("--who", metavar="NAME", help="Who erases. Left out: the user and host of this system.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
@store_option
def erase(session: str, *, why: str, who: str | None, yes: bool, as_json: bool) -> int:
    """Erase the texts kept of SESSION: its output, its conversation, what its checks said.

    They are gone from the ledger's files, and cannot be brought back. The rows stay: the chain verifies as before, and
    a new row says who erased and why. Copies and backups of the file are not reached.
    """
    from donewhen.keys import made_here

    if not why.strip():
        raise CommandError("--why is blank: texts are erased for a reason")
    with open_to_write(store_path(session)) as ledger:
        session_id = find_session(ledger, session)
        _ask(session_id, yes=yes)
        erased = ledger.erase(session_id, who=who or made_here(), why=why)
    if as_json:
        put_json({**asdict(erased), "row": None if erased.row is None else erased.row.id, "session_id": session_id})
    elif erased.row is None:
        put(f"nothing is kept of session {visible(session_id)}")
    else:
        put(f"row {erased.row.id}: {counted_as(erased.texts, 'text')} of session {visible(session_id)} erased")
    if erased.is_gone:
        return DONE
    if isinstance(store_path(), str):
        say(
            "Nobody can read them any more, but the server's files still hold them. The owner of the tables removes them "
            "with VACUUM (FULL) donewhen.texts; its write-ahead log and its backups are not reached by that."
        )
        return LEDGER
    again = command_line("erase", session_id, "--why", why, "--yes")
    say(
        "Somebody is reading an older state of the ledger, so what was erased is still in its write-ahead log. "
        f"When they have ended: {again}"
    )
    return LEDGER


def _ask(session_id: str, *, yes: bool) -> None:
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise CommandError("there is no terminal to ask on, and what is erased does not come back: say --yes")
    click.confirm(f"Erase all texts of session {visible(session_id)}, for good?", abort=True, err=True)
