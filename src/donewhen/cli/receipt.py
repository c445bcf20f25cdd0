"""`receipt` and `verify-receipt`: one small file that proves rows, and what it proves to whoever holds a key."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from donewhen.cli import rows as row_text
from donewhen.cli.exits import CommandError
from donewhen.cli.output import counted_as, put, put_json, put_table, say
from donewhen.cli.store import find_session, open_to_read, store_option, store_path
from donewhen.cli.to_file import force_option, put_bytes, to_option
from donewhen.cli.vkeys import read_cosigner, read_verifier
from donewhen.entry import LOG_SESSION
from donewhen.errors import NotProvableError
from donewhen.render import visible

if TYPE_CHECKING:
    from donewhen.ledger import Ledger
    from donewhen.receipt import Proven

_LAST_SECOND = 253_402_300_799
"""The last second of the year 9999, where calendars end."""


@click.command()
@click.argument("session")
@click.option("--turn", metavar="N", type=click.IntRange(min=0), help="Only the rows of this turn.")
@click.option("--row", "row_id", metavar="ID", type=click.IntRange(min=1), help="Only this row.")
@to_option
@force_option
@store_option
def receipt(session: str, *, turn: int | None, row_id: int | None, to: str, force: bool) -> None:
    """Prove a session, one of its turns or one of its rows, in one small file.

    SESSION is its id, or a beginning of it that no other session has. The file is checked offline, with the log's
    public key: by 'donewhen verify-receipt', or by docs/verify_receipt.py alone.
    """
    from donewhen.receipt import make_receipt

    if turn is not None and row_id is not None:
        raise CommandError("--turn and --row cannot both be given")
    with open_to_read(store_path(session)) as ledger:
        made = make_receipt(ledger, session_named(ledger, session), turn=turn, row_id=row_id)
    put_bytes(made.dumps(), to, force=force)
    size = int(made.note.split("\n", 2)[1])
    say(f"Receipt for {counted_as(len(made.bodies), 'row')}, under the checkpoint of {counted_as(size, 'row')}.")


def session_named(ledger: Ledger, wanted: str) -> str:
    """Return the id of the session that a person means; the log's own by its whole name only.

    Raises:
        SessionNotFoundError: no session begins so.
        CommandError: several do.
    """
    return wanted if wanted == LOG_SESSION else find_session(ledger, wanted)


@click.command("verify-receipt")
@click.argument("file")
@click.option("--key", metavar="VKEY|FILE", help="The log's public key, from whoever vouches for it.")
@click.option(
    "--witness", "witnesses", metavar="VKEY|FILE", multiple=True, help="A witness that must have seen it; repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
def verify_receipt(file: str, *, key: str | None, witnesses: tuple[str, ...], as_json: bool) -> None:
    """Hold a receipt against a public key, offline, and show what it proves.

    FILE may be - for standard input. Exit code 7 if it does not prove its rows, 8 if no key is given or a witness that
    was asked for has not cosigned it. No key in a receipt or a ledger is believed.
    """
    from donewhen.receipt import verify_receipt as verify

    if key is None:
        raise NotProvableError("a receipt proves something only to whoever holds the log's public key: give it, --key")
    verifier = read_verifier("--key", key)
    proven = verify(_read(file), verifier, witnesses=[read_cosigner("--witness", one) for one in witnesses])
    if as_json:
        put_json(_as_json(proven))
        return
    _show(proven)


def _read(file: str) -> bytes:
    from donewhen.receipt import MOST_BYTES

    try:
        if file == "-":
            return sys.stdin.buffer.read(MOST_BYTES + 1)
        with Path(file).open("rb") as opened:
            return opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error


def _show(proven: Proven) -> None:
    put(f"Proven: {counted_as(len(proven.rows), 'row')} of session {visible(proven.session_id)}.")
    put_table(row_text.HEADERS, [row_text.row_cells(row) for row in proven.rows], right=row_text.RIGHT)
    put(f"Log {visible(proven.origin)}, {counted_as(proven.size, 'row')}, root {proven.root}")
    put(f"Signed by {visible(_name(proven.signed_by))!r}, with the key that was given.")
    for vkey, seconds in proven.cosigned:
        put(f"Cosigned by {visible(_name(vkey))!r} at {_time(seconds)}.")
    put("Not said here:")
    for one in proven.not_said:
        put(f"- {one}")


def _as_json(proven: Proven) -> dict[str, Any]:
    cosigned = [{"vkey": vkey, "at": _time(seconds)} for vkey, seconds in proven.cosigned]
    told = {**asdict(proven), "session_id": proven.session_id, "not_said": proven.not_said, "cosigned": cosigned}
    return {**told, "rows": [row_text.row_json(row) for row in proven.rows]}


def _name(vkey: str) -> str:
    return vkey.partition("+")[0]


def _time(seconds: int) -> str:
    """Return when a witness says it cosigned; it may say a time that no calendar has."""
    if seconds > _LAST_SECOND:
        return f"second {seconds} since 1970"
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)).isoformat()
