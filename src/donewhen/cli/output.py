"""What the command line shows: data on stdout, talk on stderr, colour on a terminal alone.

A reader that has gone away (``| head``) is no fault: the rest goes nowhere, and the command ends as it would have.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from donewhen.render import visible

if TYPE_CHECKING:
    from rich.console import Console


def put(text: str) -> None:
    """Write a line of data to stdout."""
    if sys.stdout is None:  # closed before we began
        return
    with _silenced_if_lost():
        click.echo(text)


def put_raw(data: bytes) -> None:
    """Write bytes of data to stdout, as they are."""
    if sys.stdout is None:
        return
    with _silenced_if_lost():
        click.echo(data, nl=False)


def put_json(value: object) -> None:
    """Write a value to stdout as JSON on one line, in ASCII, which every locale can carry."""
    put(json.dumps(value))


def say(text: str) -> None:
    """Tell a person something, on stderr."""
    if sys.stderr is None:
        return
    try:
        click.echo(text, err=True)
    except OSError:
        _silence(sys.stderr)


def is_terminal(stream: IO[str] | None) -> bool:
    """Tell whether a person looks at a stream."""
    return stream is not None and not stream.closed and stream.isatty()


def make_console(*, stderr: bool = False) -> Console:
    """Return rich's console, to which every text is plain text, never markup."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def put_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> None:
    """Write a table: fitted to a terminal, else in plain columns that are never cut.

    Args:
        headers: one for each column.
        rows: the cells, as text; whatever a terminal would obey is taken out.
        right: the columns to align on the right, from 0.
    """
    cells = [[visible(cell) for cell in row] for row in rows]
    if is_terminal(sys.stdout):
        _put_rich_table(headers, cells, right)
        return
    widths = [max(len(row[column]) for row in [headers, *cells]) for column in range(len(headers))]
    for row in [headers, *cells]:
        aligned = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        put("  ".join(aligned).rstrip())


def put_rich(*renderables: Any) -> None:
    """Write what rich can render to stdout."""
    console = make_console()
    with console.capture() as captured:
        console.print(*renderables)
    put(captured.get().rstrip("\n"))


def counted_as(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 row``, ``2,000 rows``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def clean_lines(text: str) -> str:
    """Return a text of several lines without anything that a terminal would obey: much of it is untrusted."""
    return "\n".join(visible(line.expandtabs(4)) for line in text.split("\n"))


def flush() -> None:
    """Hand everything written so far to the system, while there is somebody to tell that it failed.

    Raises:
        OSError: stdout cannot be written.
    """
    with _silenced_if_lost():
        if sys.stdout is not None:
            sys.stdout.flush()


def _put_rich_table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    last = len(headers) - 1
    for column, header in enumerate(headers):
        table.add_column(
            header,
            justify="right" if column in right else "left",
            no_wrap=column != last,
            overflow="fold" if column == last else "ellipsis",
        )
    for row in rows:
        table.add_row(*[Text(cell, style=_STYLES.get(cell, "")) for cell in row])
    put_rich(table)


_STYLES = {
    "done": "green",
    "met": "green",
    "breached": "red",
    "failed": "red",
    "unmet": "yellow",
    "held": "yellow",
    "interrupted": "yellow",
    "running": "cyan",
    "circuit_breaker": "red",
    "error": "red",
    "abandoned": "yellow",
}


@contextmanager
def _silenced_if_lost() -> Generator[None, None, None]:
    """Go on without stdout where its reader has gone; where it fails otherwise, let that be told once."""
    try:
        yield
    except OSError as error:
        _silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise


def _silence(stream: IO[str] | None) -> None:
    """Let a stream lead nowhere from now on, so that nothing fails on it again, not even at exit."""
    try:
        descriptor = stream.fileno() if stream is not None else None
    except (OSError, ValueError):
        descriptor = None
    if descriptor is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
