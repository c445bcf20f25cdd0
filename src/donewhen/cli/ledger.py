"""`verify` and `adopt`: whether a record is what was signed, and records that were begun elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from donewhen.cli.exits import CommandError
from donewhen.cli.output import counted_as, is_terminal, make_console, put, put_json, say
from donewhen.cli.store import command_line, open_to_read, open_to_write, store_option, store_path
from donewhen.errors import CheckpointError
from donewhen.render import visible

if TYPE_CHECKING:
    from donewhen.notes import Verifier
    from donewhen.verify import VerifyReport

_MOST_KEY_BYTES = 4096


@click.command()
@click.option("--key", metavar="VKEY|FILE", help="The public key to hold it against. Left out: your own log.vkey.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
@store_option
def verify(*, key: str | None, as_json: bool) -> None:
    """Work out everything the ledger says again, and hold it against a public key.

    Exit code 7 if anything is not what was signed; the first row at fault is named.
    """
    from donewhen.verify import verify_ledger

    path = store_path()
    with open_to_read(path) as ledger:
        vkey = ledger.signed_by
    verifier, whose = _find_verifier(key, vkey)
    with _progress("verifying") as progress:
        report = verify_ledger(path, verifier, progress=progress)
    if as_json:
        put_json({**asdict(report), "key_from": whose, "store": str(path.absolute())})
        return
    counted = f"{counted_as(report.rows, 'row')} of {counted_as(report.sessions, 'session')}"
    put(f"Verified: {counted}, every digest, chain, balance and kept text of them.")
    put(f"log {visible(report.origin)}, root {report.root}")
    put(_told_of_key(report, whose))
    for warning in report.warnings:
        say(f"Note: {visible(warning)}.")


def _told_of_key(report: VerifyReport, whose: str | None) -> str:
    if report.signed_by is not None:
        name = visible(report.signed_by.partition("+")[0])
        return f"Signed: {counted_as(report.checkpoints, 'checkpoint')}, by the key {name!r}, {whose}."
    if report.key_in_file is None:
        return "Not proven: who wrote it. The ledger is unsigned."
    return "Not proven: who wrote it. No signature was checked, since there is no key to hold it against: --key VKEY."


def _find_verifier(key: str | None, in_file: str | None) -> tuple[Verifier | None, str | None]:
    """Return the public key to verify against, and in words where it is from.

    Without `--key` it is the user's own. A ledger that was begun without a key has none to be held against.
    """
    from donewhen.keys import VKEY_FILE, config_dir
    from donewhen.notes import Verifier

    if key is not None:
        as_file = Path(key)
        is_file = "+" not in key or as_file.exists()
        text = _read_key(as_file) if is_file else key
        where = "given with --key"
    elif in_file is not None and (as_file := config_dir(os.environ) / VKEY_FILE).is_file():
        text, where = _read_key(as_file), f"your own, from {as_file}"
    else:
        return None, None
    try:
        return Verifier.parse(text.strip()), where
    except CheckpointError as error:
        raise CommandError(f"--key: {error}" if key is not None else f"{as_file}: {error}") from error


def _read_key(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_KEY_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}; give a public key, or a file that holds one") from error


@contextmanager
def _progress(doing: str) -> Generator[Callable[[int, int], None] | None, None, None]:
    """Show a bar on the terminal of stderr, and nothing where nobody looks."""
    if not is_terminal(sys.stderr):
        yield None
        return
    from rich.progress import Progress

    with Progress(console=make_console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@click.command()
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
@store_option
def adopt(file: str, *, as_json: bool) -> None:
    """Import a database that the tutorial's own code made.

    FILE is only read. Adopting it again adds what is new in it, and nothing twice.
    """
    from donewhen.adopt import adopt as take_over

    if not Path(file).is_file():
        raise CommandError(f"{file}: there is no such file")
    with open_to_write(store_path(), make=True) as ledger, _progress("adopting") as progress:
        report = take_over(Path(file), ledger, progress=progress)
    if as_json:
        put_json({**asdict(report), "added": report.added})
        return
    added = [(report.specs, "spec"), (report.rows, "row"), (report.attestations, "attestation")]
    parts = ", ".join(counted_as(count, noun) for count, noun in added)
    known = f"; adopted before: {report.already_there:,}" if report.already_there else ""
    put(f"{visible(file)}: adopted {parts}, of {counted_as(report.sessions, 'session')}{known}.")
    say(f"See them: {command_line('sessions')}")
