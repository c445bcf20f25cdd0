"""`demo`: each promise being kept, with real operations, and no key and no network."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from donewhen.cli.exits import DONE, FAILED, CommandError
from donewhen.cli.output import clean_lines, is_terminal, put, put_rich, say
from donewhen.render import visible, wrap

if TYPE_CHECKING:
    from donewhen.demo.scenes import Play
    from donewhen.demo.stage import Exhibit, Fact, Scene, Stage

INDENT = 5
MOST_COLUMNS = 105


@click.command()
@click.option("--keep", metavar="DIR", help="Put everything into this folder, new or empty. Else a temporary one.")
def demo(*, keep: str | None) -> int:
    """See each promise being kept, in a few seconds, without a key and without the network.

    Exit code 0 only if every promise was seen to be kept.
    """
    from donewhen.demo.scenes import SCENES, open_stage

    folder = _make_folder(keep)
    put(f"Everything below is done for real, in {folder}")
    kept = True
    with open_stage(folder, width=_columns() - INDENT) as stage:
        for number, play in enumerate(SCENES, start=1):
            kept = _play(number, play, stage) and kept
        _put_next_commands(stage)
    if not kept:
        say("A promise was not seen to be kept. See above, where it says NOT SEEN.")
    return DONE if kept else FAILED


def _make_folder(keep: str | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="donewhen-demo-"))
    folder = Path(keep)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise CommandError(f"--keep {keep}: the folder is not empty")
    except OSError as error:
        raise CommandError(f"--keep {keep}: {error.strerror}") from error
    return folder


def _play(number: int, play: Play, stage: Stage) -> bool:
    """Play a scene, show what was seen, and return whether its promise was kept."""
    try:
        scene = play(stage)
    except Exception as error:  # noqa: BLE001 - whatever breaks a scene is a promise that was not seen to be kept
        put(f"\n{number}. {play.__doc__ or play.__name__}")
        put(clean_lines(f"   NOT SEEN: {type(error).__name__}: {error}"))
        return False
    _put_scene(number, scene, stage.width + INDENT)
    return scene.holds


def _put_scene(number: int, scene: Scene, width: int) -> None:
    _put_styled(f"\n{number}. {scene.promise}", "bold cyan")
    put(f"   {scene.title}")
    for fact in scene.facts:
        _put_fact(fact, width)
    for exhibit in scene.exhibits:
        _put_exhibit(exhibit)


def _put_fact(fact: Fact, width: int) -> None:
    style, word = ("green", "seen") if fact.holds else ("bold red", "NOT SEEN")
    start = f"   {word}  "
    first, *more = wrap(visible(f"{fact.claim}: {fact.seen}"), width - len(start))
    _put_styled(start, style, first)
    for line in more:
        put(" " * len(start) + line)


def _put_exhibit(exhibit: Exhibit) -> None:
    _put_styled(f"\n   {exhibit.title}", "bold")
    room = _columns() - INDENT if is_terminal(sys.stdout) else None
    for line in exhibit.text.splitlines():
        shown = line if room is None or len(line) <= room else f"{wrap(line, room - 1)[0]}…"
        _put_styled(f"{' ' * INDENT}{shown}".rstrip(), "dim")


def _put_styled(start: str, style: str, rest: str = "") -> None:
    if is_terminal(sys.stdout):
        from rich.text import Text

        put_rich(Text.assemble((start, style), rest, no_wrap=True))
    else:
        put(start + rest)


def _columns() -> int:
    """Return the columns to use: those of the terminal, but no line too long to read."""
    return min(MOST_COLUMNS, shutil.get_terminal_size((MOST_COLUMNS, 0)).columns)


def _put_next_commands(stage: Stage) -> None:
    store, session = ("--store", str(stage.store)), stage.audit_session[:8]
    put("\nTry next:")
    for words in (("show", session), ("review", session), ("verify", "--key", str(stage.vkey_file))):
        put(f"  {shlex.join(('donewhen', *words, *store))}")
