"""`release`: an attested output is handed on."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from donewhen.cli.exits import DONE, NOT_ATTESTED, REJECTED, CommandError
from donewhen.cli.output import clean_lines, counted_as, put, put_json, say
from donewhen.cli.store import command_line, find_session, open_to_read, open_to_write, store_option, store_path
from donewhen.render import visible

if TYPE_CHECKING:
    from donewhen.outbox import Readiness, Release
    from donewhen.outbox.delivery import Target

MOST_SAID = 2000
"""Characters of what a receiver said that are shown, from its end."""


@click.command()
@click.argument("session")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--to", metavar="FILE", help="Write it into this file, whole or not at all.")
@click.option("--force", is_flag=True, help="With --to: take the place of a file with other content.")
@click.option("--webhook", metavar="URL", help="Post it there. The ledger names the host and a digest of the URL.")
@click.option("--timeout", type=float, metavar="SECONDS", help="For the webhook (30) or the command (600).")
@click.option("--again", is_flag=True, help="Try again where nobody knows what came of the last try.")
@click.option("--check", "is_check", is_flag=True, help="Only say whether it could be released, and what is missing.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
@store_option
def release(
    session: str,
    *,
    command: tuple[str, ...],
    to: str | None,
    force: bool,
    webhook: str | None,
    timeout: float | None,
    again: bool,
    is_check: bool,
    as_json: bool,
) -> int:
    """Hand on the output of SESSION: exactly the bytes that its reviewers attested, once for each target.

    The target is a file (--to), a webhook (--webhook), or a command that gets it on standard input (after --). A second
    release to the same target does nothing. Exit code 3 if something is missing, 5 if a reviewer rejected it.
    """
    from donewhen.outbox import Outbox

    if is_check:
        return _check(session, as_json=as_json)
    target = _target(to, webhook, command, force=force, timeout=timeout)
    with open_to_write(store_path(session)) as ledger:
        released = _release(Outbox(ledger), find_session(ledger, session), target, again=again)
    if as_json:
        put_json(asdict(released))
        return DONE
    if not released.is_new:
        put(f"row {released.row_id}: it was handed on to {visible(released.target)} at {released.at}; nothing was done")
        return DONE
    put(f"row {released.row_id}: handed on to {visible(released.target)}")
    say(f"SHA-256 of the bytes: {released.output_hash}")
    _tell_said(released.said)
    return DONE


def _release(outbox: Any, session_id: str, target: Target, *, again: bool) -> Release:
    from donewhen.errors import DeliveryError

    try:
        done: Release = outbox.release(session_id, target, again=again)
    except DeliveryError as error:
        _tell_said(error.said)
        raise
    return done


def _check(session: str, *, as_json: bool) -> int:
    from donewhen.outbox import Outbox

    with open_to_read(store_path(session)) as ledger:
        session_id = find_session(ledger, session)
        ready = Outbox(ledger).check(session_id)
    if as_json:
        put_json({**asdict(ready), "is_ready": ready.is_ready})
    else:
        _put_readiness(ready)
    return REJECTED if ready.judgement.rejected else DONE if ready.is_ready else NOT_ATTESTED


def _put_readiness(ready: Readiness) -> None:
    if ready.is_ready:
        waits = f"{counted_as(ready.size or 0, 'byte')}, SHA-256 {ready.output_hash}"
        put(f"It could be released: {visible(ready.judgement.sentence)}.")
        put(f"session {visible(ready.session_id)} ended {ready.outcome}; {waits}")
    else:
        put(f"It is not released: {visible(ready.problem or '')}.")
        say(f"Look at it: {command_line('review', ready.session_id)}")
    for past in ready.releases:
        why = f" ({visible(past.problem)})" if past.problem else ""
        put(f"row {past.row_id}: {past.state} {visible(past.target)}, {past.at}{why}")


def _target(
    to: str | None, webhook: str | None, command: tuple[str, ...], *, force: bool, timeout: float | None
) -> Target:
    from donewhen.outbox.delivery import COMMAND_SECONDS, WEBHOOK_SECONDS, ToCommand, ToFile, ToWebhook

    if [to is not None, webhook is not None, bool(command)].count(True) != 1:
        raise CommandError("say where it goes, once: --to FILE, --webhook URL, or -- COMMAND")
    if force and to is None:
        raise CommandError("--force takes the place of a file: it goes with --to FILE")
    if timeout is not None and to is not None:
        raise CommandError("--timeout goes with --webhook or a command")
    try:
        if to is not None:
            return ToFile(to, force=force)
        if webhook is not None:
            return ToWebhook(webhook, timeout_seconds=WEBHOOK_SECONDS if timeout is None else timeout)
        return ToCommand(command, timeout_seconds=COMMAND_SECONDS if timeout is None else timeout)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _tell_said(said: str) -> None:
    """Show the end of what a receiver said: none of it is to be trusted."""
    if said.strip():
        say(clean_lines(said[-MOST_SAID:].rstrip()))
