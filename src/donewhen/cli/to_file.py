"""Where a command puts a file: on stdout, or whole under a name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from donewhen.cli.exits import FAILED, CommandError
from donewhen.cli.output import put_raw
from donewhen.render import visible

_Command = TypeVar("_Command", bound="Callable[..., Any]")

STDOUT = "-"


def to_option(command: _Command) -> _Command:
    """Give a command ``--to``."""
    told = "Put it into this file, whole or not at all. Left out, or -: stdout."
    return click.option("--to", metavar="FILE", default=STDOUT, help=told)(command)


def force_option(command: _Command) -> _Command:
    """Give a command ``--force``."""
    return click.option("--force", is_flag=True, help="Replace a file that is there already.")(command)


def put_bytes(data: bytes, to: str, *, force: bool) -> None:
    """Put a file on stdout or under a name.

    Args:
        data: all of it.
        to: the name; `STDOUT`: on stdout.
        force: replace a file that has the name.

    Raises:
        CommandError: the name is taken, or the file cannot be written; the name is as it was.
    """
    from donewhen.whole_file import write_whole

    if to == STDOUT:
        put_raw(data)
        return
    try:
        write_whole(Path(to), data, replace=force)
    except FileExistsError as error:
        raise CommandError(f"{visible(to)} is there already; --force replaces it") from error
    except OSError as error:
        raise CommandError(f"{visible(to)}: {error.strerror}; nothing was written", FAILED) from error


def goes_to_a_terminal(to: str) -> bool:
    """Tell whether a person would look at the bytes."""
    return to == STDOUT and sys.stdout is not None and sys.stdout.isatty()
