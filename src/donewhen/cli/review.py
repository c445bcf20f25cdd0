"""`review` and `attest`: a person compares what came out with what was promised."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from donewhen.cli.exits import CommandError
from donewhen.cli.output import is_terminal, put, put_json, say
from donewhen.cli.store import command_line, find_session, open_to_read, signer_for, store_option, store_path
from donewhen.render import visible

if TYPE_CHECKING:
    from donewhen.frame import ReviewFrame

WIDTH = 100
"""Columns where nobody says how wide the terminal is."""


@click.command()
@click.argument("session")
@click.option("--json", "as_json", is_flag=True, help="The frame as a JSON object on stdout.")
@store_option
def review(session: str, *, as_json: bool) -> None:
    """Show the review frame of a session: promise, criteria, diff, evidence, unresolved assumptions."""
    from donewhen.render import render_frame
    from donewhen.review_surface import ReviewSurface

    with open_to_read(store_path()) as ledger:
        session_id = find_session(ledger, session)
    surface = ReviewSurface(store_path(), store_path())
    frame, attestations = surface.load(session_id), surface.get_attestations(session_id)
    if as_json:
        told = {**_frame_json(frame), "attestations": [asdict(one) for one in attestations]}
        put_json(told)
        return
    width = shutil.get_terminal_size((WIDTH, 0)).columns if is_terminal(sys.stdout) else WIDTH
    put(render_frame(frame, width=width).rstrip("\n"))
    for one in attestations:
        same = "this frame" if one.frame_hash == frame.frame_hash else "an earlier frame"
        put(f"\nAttested by {visible(one.reviewer)} at {one.attested_at}, {same}." + _in_quotes(one.notes))
    words = ("attest", session_id, "--frame-hash", frame.frame_hash)
    say(f"\nIf it keeps the promise: {command_line(*words)} --reviewer NAME")


@click.command()
@click.argument("session")
@click.option("--reviewer", metavar="NAME", required=True, help="Who compared the frame with the promise.")
@click.option("--notes", metavar="TEXT", default="", help="In your own words.")
@click.option("--frame-hash", metavar="H", help="The frame that you saw: refused if it is no longer this one.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
@store_option
def attest(session: str, *, reviewer: str, notes: str, frame_hash: str | None, as_json: bool) -> None:
    """Write that you compared a session's frame with its promise. Unsigned: it is a name, not yet a proof."""
    from donewhen.review_surface import ReviewSurface

    path = store_path()
    with open_to_read(path) as ledger:
        session_id = find_session(ledger, session)
    surface = ReviewSurface(path, path, signer=signer_for(path))
    try:
        written = surface.attest(session_id, reviewer, notes, frame_hash=frame_hash)
    except ValueError as error:
        raise CommandError(str(error)) from error
    if as_json:
        put_json(asdict(written))
        return
    put(f"row {written.id}: {visible(written.reviewer)} attests frame {written.frame_hash}")
    if frame_hash is None:
        say("No --frame-hash was given, so this is about the frame as it is now, whatever you saw.")


def _frame_json(frame: ReviewFrame) -> dict[str, Any]:
    return {**asdict(frame), "frame_hash": frame.frame_hash}


def _in_quotes(notes: str) -> str:
    return f" {visible(notes)!r}" if notes else ""
