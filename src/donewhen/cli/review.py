"""`review`, `attest` and `reject`: a person compares what came out with what was promised, and says so."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from donewhen.cli.exits import DONE, NOT_ATTESTED, REJECTED, CommandError
from donewhen.cli.output import is_terminal, put, put_json, say
from donewhen.cli.store import (
    command_line,
    find_session,
    open_to_read,
    passphrase_asker,
    signer_for,
    store_option,
    store_path,
)
from donewhen.render import visible

if TYPE_CHECKING:
    from donewhen.frame import AttestationResult, RejectionResult, ReviewFrame
    from donewhen.notes import Signer
    from donewhen.review_surface import ReviewSurface
    from donewhen.reviewing import Standing

WIDTH = 100
"""Columns where nobody says how wide the terminal is."""

MOST_ENVELOPE_CHARACTERS = 4_000_000

_Command = TypeVar("_Command", bound="Callable[..., Any]")


@click.command()
@click.argument("session")
@click.option("--json", "as_json", is_flag=True, help="The frame as a JSON object on stdout.")
@store_option
def review(session: str, *, as_json: bool) -> None:
    """Show the review frame of a session: promise, criteria, diff, evidence, unresolved assumptions.

    Below it stands who may attest it, who has, and what is missing.
    """
    from donewhen.render import render_frame

    surface, session_id = _surface(session)
    standing = surface.judge(session_id)
    attestations, rejections = surface.get_attestations(session_id), surface.get_rejections(session_id)
    frame = standing.frame
    if as_json:
        words = {"attestations": [*map(asdict, attestations)], "rejections": [*map(asdict, rejections)]}
        put_json({**_frame_json(frame), **words, **_standing_json(standing)})
        return
    width = shutil.get_terminal_size((WIDTH, 0)).columns if is_terminal(sys.stdout) else WIDTH
    put(render_frame(frame, width=width).rstrip("\n"))
    put("\nREVIEW")
    put(f"Who may: {visible(_who_may(standing))}")
    for one in attestations:
        put(f"Attested by {_told(one, frame)} at {one.attested_at}." + _in_quotes(one.notes))
    for one in rejections:
        put(f"Rejected by {_told(one, frame)} at {one.rejected_at}." + _in_quotes(one.reason))
    for line in _judged(standing):
        put(line)
    words = ("attest", session_id, "--frame-hash", frame.frame_hash)
    say(f"\nIf it keeps the promise: {command_line(*words)} --reviewer NAME")
    words = ("reject", session_id, "--frame-hash", frame.frame_hash)
    say(f"If it does not: {command_line(*words)} --reviewer NAME --reason TEXT")


def _word_options(command: _Command) -> _Command:
    """Give a command what `attest` and `reject` have in common."""
    options = (
        click.option("--reviewer", metavar="NAME", help="Who compared the frame with the promise."),
        click.option("--frame-hash", metavar="H", help="The frame that you saw: refused if it is no longer this one."),
        click.option(
            "--verdict",
            "verdicts",
            metavar="CRITERION=V",
            multiple=True,
            help="What you say of one criterion: met, not_met or not_judged. May be given several times.",
        ),
        click.option(
            "--call", "calls", metavar="ID", multiple=True, help="Only this held call. May be given several times."
        ),
        click.option("--unsigned", is_flag=True, help="Do not sign, though your key is here: a name, not a proof."),
        click.option(
            "--sign-only", is_flag=True, help="Write nothing: put the signed envelope on stdout, for attest --envelope."
        ),
        click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout."),
        store_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("session", required=False)
@click.option("--notes", metavar="TEXT", default="", help="In your own words.")
@click.option(
    "--envelope",
    metavar="FILE",
    type=click.File(encoding="utf-8"),
    help="Take what was signed elsewhere, attested or rejected; - is stdin.",
)
@_word_options
def attest(session: str | None, *, notes: str, envelope: IO[str] | None, as_json: bool, **word: Any) -> int:
    """Write that you compared a session's frame with its promise, and let it pass.

    It is signed where your reviewer's key is here and enrolled ('donewhen key new --reviewer NAME'); else it is a name,
    not a proof. Ends with 3 where it does not count, and with 5 where somebody has rejected the session.
    """
    if envelope is not None:
        if notes or any(word.values()):
            raise CommandError("an --envelope says everything itself; give nothing else but the session and --json")
        return _take(session, envelope, as_json=as_json)
    if session is None:
        raise CommandError("say which session, or give an --envelope")
    return _say("attest", session, notes, as_json=as_json, **word)


@click.command()
@click.argument("session")
@click.option("--reason", metavar="TEXT", required=True, help="In your own words; the model is told it of a held call.")
@_word_options
def reject(session: str, *, reason: str, as_json: bool, **word: Any) -> int:
    """Write that a session's frame does not keep its promise, and why: nothing of it is released.

    A held tool call that has not been run is not run, and the session can go on. Ends with 3 where it does not count.
    """
    return _say("reject", session, reason, as_json=as_json, **word)


# -- saying ----------------------------------------------------------------------------------------------------------


def _say(
    decision: str,
    session: str,
    words: str,
    *,
    as_json: bool,
    reviewer: str | None,
    frame_hash: str | None,
    verdicts: Sequence[str],
    calls: Sequence[str],
    unsigned: bool,
    sign_only: bool,
) -> int:
    surface, session_id = _surface(session, to_write=not sign_only)
    key, known_as = (None, None) if unsigned else _own_key(sign_only=sign_only)
    named = reviewer or known_as
    if named is None:
        raise CommandError("say who you are with --reviewer")
    said: dict[str, Any] = {
        "frame_hash": frame_hash,
        "verdicts": dict(_verdict(one) for one in verdicts),
        "calls": calls or None,
        "reviewer_key": key,
    }
    try:
        if sign_only:
            if key is None:
                raise CommandError("there is no reviewer's key to sign with: donewhen key new --reviewer NAME")
            put(surface.sign(session_id, named, words=words, decision=decision, **said))
            return DONE
        written = getattr(surface, decision)(session_id, named, words, **said)
    except ValueError as error:
        raise CommandError(str(error)) from error
    if frame_hash is None:
        say("No --frame-hash was given, so this is about the frame as it is now, whatever you saw.")
    return _tell(surface, written, as_json=as_json)


def _take(session: str | None, envelope: IO[str], *, as_json: bool) -> int:
    text = envelope.read(MOST_ENVELOPE_CHARACTERS + 1)
    if session is not None:
        store_path(session)  # from here on it is the log that has the session
    surface = _surface_at(to_write=True)
    if session is not None:
        with open_to_read(store_path()) as ledger:
            session = find_session(ledger, session)
    written = surface.take(text, session_id=session)
    return _tell(surface, written, as_json=as_json)


def _tell(surface: ReviewSurface, written: AttestationResult | RejectionResult, *, as_json: bool) -> int:
    """Tell what was written and where the review stands now, and return the exit code."""
    from donewhen.frame import AttestationResult

    standing = surface.judge(written.session_id)
    why = next((one.why for one in standing.output.not_counted if one.row_id == written.id), None)
    attests = isinstance(written, AttestationResult)
    if as_json:
        put_json({**asdict(written), "counts": why is None, "why_not": why, **_standing_json(standing)})
    else:
        verb = "attests" if attests else "rejects"
        put(
            f"row {written.id}: {visible(written.reviewer)} {verb} frame {written.frame_hash} ({_proof(written.signed)})"
        )
    if why is not None:
        say(f"It does not count: {_ended(why)}")
    say(f"Now: {_ended(standing.output.sentence)}")
    if why is not None:
        return NOT_ATTESTED
    return REJECTED if attests and standing.output.rejected else DONE


def _own_key(*, sign_only: bool) -> tuple[Signer | None, str | None]:
    """Return the reviewer's key of this user and the name that it is known under; (None, None): nothing to sign with."""
    from donewhen.keyring import Keyring
    from donewhen.keys import config_dir, load_reviewer_key, read_reviewer_vkey

    folder = config_dir(os.environ)
    public = read_reviewer_vkey(folder)
    if public is None:
        return None, None
    with open_to_read(store_path()) as ledger:
        name = Keyring.read(ledger).name_of(public.vkey)
    if name is None and not sign_only:
        say("Your reviewer's key is not enrolled in this ledger, so this is a name, not a proof.")
        return None, None
    return load_reviewer_key(folder, os.environ, ask=passphrase_asker()), name or public.name


def _verdict(typed: str) -> tuple[str, str]:
    criterion, equals, verdict = typed.rpartition("=")
    if not equals:
        raise CommandError(f"--verdict {typed!r} is not CRITERION=met, =not_met or =not_judged")
    return criterion, verdict


def _surface(session: str, *, to_write: bool = False) -> tuple[ReviewSurface, str]:
    with open_to_read(store_path(session)) as ledger:
        session_id = find_session(ledger, session)
    return _surface_at(to_write=to_write), session_id


def _surface_at(*, to_write: bool) -> ReviewSurface:
    from donewhen.review_surface import ReviewSurface

    path = store_path()
    return ReviewSurface(path, path, signer=signer_for(path) if to_write else None)


# -- telling ---------------------------------------------------------------------------------------------------------


def _who_may(standing: Standing) -> str:
    """Return one sentence on whose word counts in this session."""
    policy = standing.policy
    names = [f"{name} ({'with the enrolled key' if vkey else 'by name'})" for name, vkey in policy.reviewers]
    who = ", ".join(names) or ("anybody, by name or signed" if policy.named else "any reviewer whose key is enrolled")
    if policy.named is None and not names:
        who = "anybody by name, until a reviewer's key is enrolled"
    parts = [f"{policy.quorum} of {who}"]
    if policy.started_by and not policy.own_work:
        parts.append(f"not {policy.started_by}, who started it")
    if policy.expiry_hours is not None:
        parts.append(f"for {policy.expiry_hours} hours")
    return "; ".join(parts)


def _judged(standing: Standing) -> list[str]:
    """Return what stands, what does not count and why, and each held call."""
    lines = [f"Row {one.row_id} does not count: {_ended(one.why)}" for one in standing.output.not_counted]
    lines += [
        f"Held call {visible(call.call_id)} ({visible(call.name)}): {_ended(judgement.sentence)}"
        for call, judgement in standing.calls
    ]
    return [*lines, f"So: {_ended(standing.output.sentence)}"]


def _standing_json(standing: Standing) -> dict[str, Any]:
    return {
        "policy": standing.policy.data(),
        "judgement": asdict(standing.output),
        "held_calls_judged": [
            {"call_id": call.call_id, "call_hash": call.call_hash, **asdict(judgement)}
            for call, judgement in standing.calls
        ],
    }


def _told(one: AttestationResult | RejectionResult, frame: ReviewFrame) -> str:
    same = "this frame" if one.frame_hash == frame.frame_hash else "an earlier frame"
    return f"{visible(one.reviewer)} ({_proof(one.signed)}), {same},"


def _proof(signed: bool) -> str:
    return "signed" if signed else "named, not proven"


def _ended(sentence: str) -> str:
    """Return a sentence, which a person may have ended, safe to show and ended once."""
    return visible(sentence.rstrip(".")) + "."


def _frame_json(frame: ReviewFrame) -> dict[str, Any]:
    return {**asdict(frame), "frame_hash": frame.frame_hash}


def _in_quotes(notes: str) -> str:
    return f" {visible(notes)!r}" if notes else ""
