"""`new`: write a spec file by answering questions."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import click

from donewhen.cli.exits import CommandError
from donewhen.cli.output import is_terminal, put, say

DEFAULT_SPEC = "spec.toml"


@click.command()
@click.argument("spec_file", metavar="[SPEC.toml]", default=DEFAULT_SPEC)
def new(spec_file: str) -> None:
    """Ask what is to be done, and write it down as a spec file.

    A person can read and edit it. A file that is there is never written over.
    """
    from donewhen.spec_file import ask_spec, dump_spec

    path = Path(spec_file)
    # Before anybody is asked, so that no answer is given in vain.
    if path.exists():
        raise CommandError(
            f"{spec_file} is there already, and is not written over. Name another file, or edit that one"
        )
    if not path.parent.is_dir():
        raise CommandError(f"{spec_file} cannot be written: there is no folder {path.parent}")
    # `input` writes its prompt to stdout, which must hold data alone unless it is a terminal.
    with nullcontext() if is_terminal(sys.stdout) else redirect_stdout(sys.stderr):
        text = dump_spec(ask_spec(input, say))
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        raise CommandError(f"{spec_file} cannot be written: {error.strerror}") from error
    put(spec_file)
    say(f"Read it, set its ceilings, then: donewhen run {spec_file}")
