"""The command itself: what holds for all its commands, and how each of them ends.

No traceback ever reaches the command line: an error of ours is one sentence on stderr and its exit code. Whoever wants
the traceback sets DONEWHEN_TRACEBACK=1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from donewhen.cli import exits
from donewhen.cli.output import clean_lines, flush, say
from donewhen.errors import DonewhenError, MissingExtraError

TRACEBACK_VARIABLE = "DONEWHEN_TRACEBACK"


class DonewhenGroup(click.Group):
    """The commands, in the order in which a person needs them, ending with our exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which the commands were added."""
        del ctx
        return list(self.commands)

    def main(  # pyright: ignore[reportIncompatibleMethodOverride]  # it never returns, and takes the rest by name
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run a command, tell what went wrong in one sentence, and exit."""
        del prog_name  # the command has one name, however it was started
        extra["standalone_mode"] = False
        try:
            _keep_unspeakable_characters()
            code: Any = super().main(args, "donewhen", **extra)
            flush()
        except Exception as error:  # noqa: BLE001 - the last place where an error can become a sentence
            code = _tell(error)
        sys.exit(code if isinstance(code, int) else exits.DONE)


def _tell(error: Exception) -> int:
    """Say what went wrong, and return the exit code."""
    if isinstance(error, click.Abort):
        say("Stopped.")
        return exits.STOPPED
    if isinstance(error, click.ClickException):
        _say_sentence(error.format_message(), _help_for(error))
        return error.exit_code
    if os.environ.get(TRACEBACK_VARIABLE):
        _show_traceback(error)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in ("rich", "tomlkit"):
        error = MissingExtraError("cli", "the donewhen command")
    if isinstance(error, (DonewhenError, OSError)):
        _say_sentence(str(error))
        return exits.code_of(error)
    hint = f" This is a fault of donewhen or of code it was given; set {TRACEBACK_VARIABLE}=1 to see where."
    _say_sentence(f"{type(error).__name__}: {error}", hint)
    return exits.FAILED


def _say_sentence(sentence: str, then: str = "") -> None:
    stop = "" if sentence.endswith((".", "?", "!", "'")) else "."
    say(clean_lines(f"donewhen: {sentence}{stop}{then}"))


def _help_for(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return "" if context is None else f" Try '{context.command_path} --help'."


def _show_traceback(error: Exception) -> None:
    import traceback

    say("".join(traceback.format_exception(error)).rstrip())


def _keep_unspeakable_characters() -> None:
    """Let a stream that cannot spell a character show its number, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if callable(reconfigure):
            reconfigure(errors="backslashreplace")
