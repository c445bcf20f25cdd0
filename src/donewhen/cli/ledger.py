"""`adopt`: records that were begun elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from donewhen.cli.exits import CommandError
from donewhen.cli.output import counted_as, is_terminal, make_console, put, put_json, say
from donewhen.cli.store import command_line, open_to_write, store_option, store_path
from donewhen.render import visible


@contextmanager
def progress_bar(doing: str) -> Generator[Callable[[int, int], None] | None, None, None]:
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
    with open_to_write(store_path(), make=True) as ledger, progress_bar("adopting") as progress:
        report = take_over(Path(file), ledger, progress=progress)
    if as_json:
        put_json({**asdict(report), "added": report.added})
        return
    added = [(report.specs, "spec"), (report.rows, "row"), (report.attestations, "attestation")]
    parts = ", ".join(counted_as(count, noun) for count, noun in added)
    known = f"; adopted before: {report.already_there:,}" if report.already_there else ""
    put(f"{visible(file)}: adopted {parts}, of {counted_as(report.sessions, 'session')}{known}.")
    say(f"See them: {command_line('sessions')}")
