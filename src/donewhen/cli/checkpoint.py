"""`checkpoint`: keep the log's newest checkpoint elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from donewhen.cli.exits import DONE, LEDGER, CommandError
from donewhen.cli.output import counted_as, is_terminal, make_console, put, put_json, say
from donewhen.cli.store import open_to_read, open_to_write, store_option, store_path
from donewhen.errors import CheckpointError
from donewhen.keyring import Keyring
from donewhen.render import visible

if TYPE_CHECKING:
    from donewhen.elsewhere import Elsewhere, Kept
    from donewhen.ledger import Ledger


@click.command()
@click.option(
    "--to", "files", metavar="FILE", multiple=True, help="Add it to a file, best on another disk. Repeatable."
)
@click.option("--witness", "urls", metavar="URL", multiple=True, help="Have a witness cosign it. Repeatable.")
@click.option(
    "--witness-key", "vkeys", metavar="VKEY", multiple=True, help="That witness's public key, in the same order."
)
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
@store_option
def checkpoint(*, files: Sequence[str], urls: Sequence[str], vkeys: Sequence[str], as_json: bool) -> int:
    """Print the newest checkpoint, or keep it elsewhere.

    A checkpoint is a signed statement of how many rows there are, and of all that is in them. Only against one that is
    kept where nobody at this machine can change it, does a ledger show that it was cut back or written anew. Exit code 7
    where one of the places fails, or knows another log.
    """
    elsewhere = _elsewhere(files, urls, vkeys)
    # A witness's line is stored beside the checkpoint; for everything else the ledger is only read.
    with open_to_write(store_path()) if urls else open_to_read(store_path()) as ledger:
        newest = ledger.store.newest_sealed()
        with _progress() as progress:
            kept = elsewhere.attempt(ledger.store, progress=progress)
        if as_json:
            # What a witness's operator must be told: the key that signs now, which need not be the first.
            signed_by = Keyring.read(ledger).current_log_key(ledger.signed_by)
            put_json({**asdict(kept), "note": newest.note, "signed_by": signed_by})
        elif not elsewhere:
            put(newest.note.rstrip("\n"))
        else:
            _tell(kept)
        _tell_if_unsigned(ledger)
    return LEDGER if kept.problems else DONE


def _elsewhere(files: Sequence[str], urls: Sequence[str], vkeys: Sequence[str]) -> Elsewhere:
    from donewhen.elsewhere import Elsewhere

    if len(urls) != len(vkeys):
        raise CommandError("each --witness needs its --witness-key, which its operator publishes beside its URL")
    try:
        return Elsewhere(files=files, witnesses=list(zip(urls, vkeys, strict=True)))
    except CheckpointError as error:
        raise CommandError(f"--witness-key: {error}") from error
    except ValueError as error:
        raise CommandError(f"--witness: {error}") from error


def _tell(kept: Kept) -> None:
    rows = counted_as(kept.size, "row")
    for at in kept.places:
        place = visible(at.place)
        if at.problem is not None:
            say(f"Not kept: {visible(at.problem)}")
        elif at.kind == "witness":
            put(f"{place}: cosigned the checkpoint of {counted_as(at.size, 'row')}.")
        else:
            put(f"{place}: {'holds' if at.is_new else 'already held'} the checkpoint of {rows}.")


def _tell_if_unsigned(ledger: Ledger) -> None:
    if ledger.signed_by is None:
        say("Note: the ledger is unsigned, so its checkpoint says nothing about who wrote it.")


@contextmanager
def _progress() -> Generator[Callable[[str], None] | None, None, None]:
    """Show on the terminal of stderr who is being asked, and nothing where nobody looks."""
    if not is_terminal(sys.stderr):
        yield None
        return
    with make_console(stderr=True).status("") as status:
        yield lambda place: status.update(f"asking {visible(place)} …")
