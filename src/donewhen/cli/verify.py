"""`verify`: whether a record is what was signed, and what vouches for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from donewhen.cli.exits import DONE, NOT_PROVABLE, CommandError
from donewhen.cli.ledger import progress_bar
from donewhen.cli.output import counted_as, put, put_json, say
from donewhen.cli.store import STORE_VARIABLE, StorePath, is_there, store_name, store_option, store_path, whole_name
from donewhen.cli.vkeys import read_cosigner, read_verifier
from donewhen.errors import CheckpointError, KeyFileError, LedgerError, LedgerTamperedError
from donewhen.render import visible
from donewhen.stores.opening import named
from donewhen.stores.postgres_url import is_url

if TYPE_CHECKING:
    from donewhen.notes import Verifier
    from donewhen.verify import Seen, VerifyReport
    from donewhen.verify.seen import SeenLogs


@click.command()
@click.argument("path", required=False)
@click.option("--key", metavar="VKEY|FILE", help="The public key to hold it against: the log's first, or a later one.")
@click.option("--seen", "files", metavar="FILE", multiple=True, help="Checkpoints that you kept elsewhere. Repeatable.")
@click.option("--witness", metavar="VKEY|FILE", help="Ask for a cosignature of this witness.")
@click.option("--fast", is_flag=True, help="The tree and the newest checkpoint only, and nothing of what rows say.")
@click.option("--every-signature", is_flag=True, help="Also the signature under each older checkpoint: slow.")
@click.option("--no-remember", is_flag=True, help="Neither recall what you saw of this log, nor keep what you see now.")
@click.option("--forget", is_flag=True, help="Forget what you saw here: you began the ledger anew.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
@store_option
def verify(
    *,
    path: str | None,
    key: str | None,
    files: Sequence[str],
    witness: str | None,
    fast: bool,
    every_signature: bool,
    no_remember: bool,
    forget: bool,
    as_json: bool,
) -> int:
    """Work out everything the ledger says again, and hold it against a public key.

    PATH is the ledger's file, or URL; left out, the store. The key is never taken from the file. Without --key your own log.key
    counts, if the log is signed by it.

    Exit code 7 if anything is not what was signed: the first row at fault is named. Exit code 8 if nothing is wrong, and
    nothing is proven either: no key, an unsigned ledger, no checkpoint of this log where one was asked for.
    """
    from donewhen.verify import verify_ledger

    ledger = store_path() if path is None else path if is_url(path) else Path(path)
    if not is_there(ledger):
        raise LedgerError(f"there is no ledger at {store_name(ledger)}. Name another, or set {STORE_VARIABLE}.")
    if fast and every_signature:
        raise CommandError("--fast looks at the newest signature only, and --every-signature at all")
    remembered = None if no_remember else _remembered(ledger, forget=forget)
    asked_for = None if witness is None else read_cosigner("--witness", witness)
    seen = _read_seen(files)
    verifier, whose, made_by = _find_verifier(key, ledger)
    with nullcontext() if as_json else progress_bar("verifying") as progress:
        report = verify_ledger(
            ledger,
            verifier,
            seen=seen,
            recall=None if remembered is None else remembered.recall,
            witness=asked_for,
            key_made_by=made_by,
            fast=fast,
            every_signature=every_signature,
            progress=progress,
        )
    kept = None if remembered is None else _remember(remembered, report, ledger)
    if as_json:
        told = {
            "key_from": whose,
            "remembered_in": None if kept is None else str(kept),
            "store": whole_name(ledger),
        }
        put_json({**asdict(report), "vouched_to": report.vouched_to, **told})
    else:
        _tell(report, whose)
    return DONE if report.not_proven is None else NOT_PROVABLE


# -- what is told ------------------------------------------------------------------------------------------------------


def _tell(report: VerifyReport, whose: str) -> None:
    rows, checkpoints = counted_as(report.rows, "row"), counted_as(report.checkpoints, "checkpoint")
    if report.fast:
        put(f"Verified: the tree over {rows}, and the newest of {checkpoints}. What rows say was not looked at.")
    else:
        counted = f"{rows} of {counted_as(report.sessions, 'session')}"
        put(f"Verified: {counted}, every digest, chain, balance and kept text of them, and {checkpoints}.")
    put(f"log {visible(report.origin)}, root {report.root}")
    _tell_of_people(report)
    _tell_of_keys(report, whose)
    for one in report.outside:
        when = "" if one.at is None else f", at {one.at}"
        put(f"Kept elsewhere: {visible(one.where)} vouches for rows 1 to {one.size:,}{when}.")
    _tell_what_is_newer(report)
    if report.not_proven is not None:
        put(f"Not proven: {visible(report.not_proven)}.")
    for warning in report.warnings:
        say(f"Note: {visible(warning)}.")


def _tell_of_people(report: VerifyReport) -> None:
    counts = [
        (report.signed_words, "signed word"),
        (report.named_words, "word without a signature"),
        (report.releases, "release"),
        (report.erased, "erased text"),
    ]
    told = [f"{count:,} {noun if count == 1 else _plural(noun)}" for count, noun in counts if count]
    if told:
        put(f"Of people: {', '.join(told)}.")


def _plural(noun: str) -> str:
    return noun.replace("word", "words", 1) if noun.startswith(("word", "signed word")) else f"{noun}s"


def _tell_of_keys(report: VerifyReport, whose: str) -> None:
    if report.signed_by is None:
        return
    put(f"Signed: rows 1 to {report.rows:,} stand on the key {_short(report.signed_by)}, {visible(whose)}.")
    if len(report.keys) == 1:
        return
    ends = [first - 1 for first, _ in report.keys[1:]] + [report.rows]
    for (first, vkey), end in zip(report.keys, ends, strict=True):
        if first <= end:
            put(f"  the checkpoints of {first:,} to {end:,} rows are by {_short(vkey)}")
    if report.signed_by != report.keys[0][1]:
        put("  those before your key took over are told by the log itself; your key vouches that they stood so by then")


def _short(vkey: str) -> str:
    """Return what tells a log's keys apart: they all have its name."""
    return vkey.split("+", 2)[1]


def _tell_what_is_newer(report: VerifyReport) -> None:
    first, last = report.vouched_to + 1, report.rows
    if first > last:
        return
    rows = f"row {last:,} is" if first == last else f"rows {first:,} to {last:,} are"
    by = "nothing vouches" if report.signed_by is None else "only the log's key vouches"
    if report.outside:
        say(f"{rows.capitalize()} newer than any checkpoint kept elsewhere: {by} for that.")
    else:
        say(f"No checkpoint kept elsewhere was given or remembered: {by} for {rows.rpartition(' ')[0]}.")


# -- what it is held against -------------------------------------------------------------------------------------------


def _find_verifier(key: str | None, ledger: StorePath) -> tuple[Verifier | None, str, str]:
    """Return the public key to verify against, in words where it is from, and who made it as far as its file says."""
    from donewhen.keys import config_dir
    from donewhen.keys.rotation import own_log_verifier
    from donewhen.notes import Verifier
    from donewhen.verify import named_keys

    if key is not None:
        return read_verifier("--key", key), "given with --key", _made_by(Path(key))
    named = [Verifier.parse(vkey) for vkey in named_keys(ledger)]
    folder = config_dir(os.environ)
    try:
        own = own_log_verifier(folder, os.environ) if named else None
    except KeyFileError as error:
        raise CommandError(str(error)) from error
    # Which key is the user's own does not depend on the file; whether it is asked about this log, does. Which log should
    # be here is what was seen at this path before.
    for verifier in named:
        if own is not None and verifier.public_key == own.public_key:
            return verifier, f"your own, from {folder}", ""
    return None, "", ""


def _made_by(path: Path) -> str:
    """Return who made a key, as far as its file says; a key that was given as text has no file."""
    from donewhen.keys.files import read_public_file

    try:
        public = read_public_file(path) if path.is_file() else None
    except KeyFileError:
        return ""
    return "" if public is None else public.made_by


def _read_seen(files: Sequence[str]) -> list[Seen]:
    from donewhen.verify.seen import read_seen

    try:
        return [one for file in files for one in read_seen(Path(file))]
    except CheckpointError as error:
        raise CommandError(f"--seen: {error}") from error


def _place(ledger: StorePath) -> StorePath:
    return named(ledger) if isinstance(ledger, str) else ledger


def _remembered(ledger: StorePath, *, forget: bool) -> SeenLogs:
    from donewhen.keys import config_dir
    from donewhen.verify.seen import SeenLogs

    remembered = SeenLogs(config_dir(os.environ))
    if forget:
        remembered.forget(_place(ledger))
    return remembered


def _remember(remembered: SeenLogs, report: VerifyReport, ledger: StorePath) -> Path | None:
    """Refuse another log than the one that was here, and remember what was seen of this one."""
    before = remembered.log_at(_place(ledger))
    if before not in (None, report.origin):
        raise LedgerTamperedError(
            f"{store_name(ledger)} held the log {before} when you last verified it, and holds the log {report.origin} now. If you "
            "began it anew, say so: donewhen verify --forget"
        )
    # What no key was held against could be anybody's. Of an unsigned log there is nothing better to keep.
    if not report.checkpoint or (report.signed_by is None and report.key_in_file is not None):
        return None
    try:
        return remembered.remember(report.checkpoint, _place(ledger))
    except LedgerError as error:
        say(f"Note: {visible(str(error))}.")
        return None
