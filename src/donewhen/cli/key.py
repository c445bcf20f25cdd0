"""`key`: the keys of logs and reviewers, and what a ledger says of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from donewhen.cli.exits import USAGE, CommandError
from donewhen.cli.group import DonewhenGroup
from donewhen.cli.key_input import make_key_for_inputs
from donewhen.cli.key_serve import serve
from donewhen.cli.output import is_terminal, put, put_json, put_table, say
from donewhen.cli.rows import row_json
from donewhen.cli.store import (
    StorePath,
    command_line,
    is_there,
    open_to_read,
    open_to_write,
    passphrase_asker,
    signer_elsewhere,
    signer_for,
    store_name,
    store_option,
    store_path,
)
from donewhen.render import visible

if TYPE_CHECKING:
    from donewhen.keyring import Keyring
    from donewhen.keys.files import PublicKey
    from donewhen.ledger import Ledger
    from donewhen.notes import Signer

_json_option = click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
_who_option = click.option("--who", metavar="NAME", help="Who does it. Left out: the user and host of this system.")
_why_option = click.option("--why", metavar="TEXT", required=True, help="The reason; it is written into the ledger.")


@click.group(cls=DonewhenGroup, invoke_without_command=True)
@click.pass_context
def key(ctx: click.Context) -> int:
    """Make, show and rotate keys; enrol and revoke those of reviewers.

    The log's key signs what is recorded. A reviewer's key signs what a person attests. They are never the same.
    """
    if ctx.invoked_subcommand is None:
        say(ctx.get_help())
    return USAGE


@key.command()
@click.option("--reviewer", metavar="NAME", help="Make the key of this reviewer. Left out: the log's key.")
@click.option("--input", "is_for_input", is_flag=True, help="Make the key that inputs are hashed with, for privacy.")
@click.option("--passphrase", "is_locked", is_flag=True, help="Lock it with a passphrase, which is asked for.")
@_json_option
def new(*, reviewer: str | None, is_for_input: bool, is_locked: bool, as_json: bool) -> None:
    """Make a key, for its owner only, in the user's configuration folder. One that is there is kept as it is."""
    if is_for_input:
        if reviewer is not None or is_locked:
            raise CommandError("--input makes a key of its own, which has no reviewer and no passphrase")
        make_key_for_inputs(as_json=as_json)
        return
    from donewhen.keys import (
        KEY_FILE,
        KEY_VARIABLE,
        REVIEWER_KEY_FILE,
        config_dir,
        load_or_make_log_key,
        make_reviewer_key,
    )

    folder = config_dir(os.environ)
    path = folder / (KEY_FILE if reviewer is None else REVIEWER_KEY_FILE)
    was_there = path.exists()
    passphrase = _new_passphrase(is_asked=is_locked and not was_there)
    if reviewer is None:
        if KEY_VARIABLE in os.environ:
            raise CommandError(f"{KEY_VARIABLE} holds the log's key already. Unset it to make one in a file.")
        load_or_make_log_key(folder, passphrase=passphrase, ask=passphrase_asker(), environ=os.environ)
        told: dict[str, Any] = {"file": str(path), "was_there": was_there}
        next_step = "Each log that it signs has a public key of its own, which 'donewhen key show' prints."
    else:
        try:
            _, public = make_reviewer_key(folder, reviewer, passphrase=passphrase or _given_passphrase(path))
        except ValueError as error:
            raise CommandError(str(error)) from error
        told = {"file": str(path), "was_there": was_there, "vkey": public.vkey, "made_by": public.made_by or None}
        next_step = f"Whoever keeps the ledger enrols it: donewhen key enroll {visible(str(path.with_suffix('.vkey')))}"
    if as_json:
        put_json(told)
        return
    put(told.get("vkey") or visible(str(path)))
    say(f"{'It was there already' if was_there else 'Made'}: {visible(str(path))}")
    say(next_step)


@key.command()
@_json_option
@store_option
def show(*, as_json: bool) -> None:
    """Show the keys that are here, and the ledger's public key, which is to be handed to whoever audits it.

    A log's public key is of that log alone, whatever else its private half signs. Private halves are never shown.
    """
    from donewhen.keyring import Keyring

    told: dict[str, Any] = {**_keys_here(), "ledger": None}
    path = store_path()
    if is_there(path):
        with open_to_read(path) as ledger:
            told["ledger"] = _keys_of(ledger, Keyring.read(ledger))
    if as_json:
        put_json(told)
        return
    _put_keys(told)


@key.command()
@_why_option
@_who_option
@click.option("--to-signer", metavar="SOCKET", help="Hand the log on to the key of the signer behind this socket.")
@_json_option
@store_option
def rotate(*, why: str, who: str | None, to_signer: str | None, as_json: bool) -> None:
    """Hand the ledger on to a new key, by a row that the old key signs.

    The old key is kept as log.key.old-…, since other ledgers may still be signed by it. Rotate those too, each with
    its own --store; then remove it.
    """
    from donewhen.keys import config_dir, made_here
    from donewhen.keys.rotation import install_log_key
    from donewhen.ledger import Ledger

    path, folder = store_path(), config_dir(os.environ)
    with open_to_read(path):
        old = signer_for(path)
    new_signer = _next_signer(path, folder, old, to_signer)
    with Ledger(path, signer=old) as ledger:
        row = ledger.rotate_key(
            new_signer, why=_said("--why", why), who=who or made_here(), made_by=_made_where(to_signer)
        )
    # A crash before this line leaves the new key beside the old one, where the next command finds it.
    kept = None if to_signer else install_log_key(folder, new_signer.vkey)
    if as_json:
        put_json({**row_json(row), "kept": None if kept is None else str(kept)})
        return
    put(f"row {row.id}: the log is handed on to {row.data['vkey']}")
    say("Give that public key to whoever audits, in place of the old one.")
    if kept is not None:
        say(f"The old key is kept as {visible(str(kept))}, for other ledgers. Remove it when none is signed by it.")
    if to_signer:
        say(f"From now on: export DONEWHEN_SIGNER={visible(to_signer)}")


@key.command()
@click.argument("vkey", metavar="[VKEY|FILE]", required=False)
@click.option("--name", metavar="NAME", help="The reviewer. Left out: as the file says.")
@_who_option
@_json_option
@store_option
def enroll(*, vkey: str | None, name: str | None, who: str | None, as_json: bool) -> None:
    """Write into the ledger that a public key is a reviewer's.

    It counts for what is written from then on. Left out, the key is your own reviewer.vkey.
    """
    from donewhen.keys import made_here

    public = _public_key(vkey)
    reviewer = name or public.name
    if not reviewer:
        raise CommandError("say whose key it is: --name NAME")
    with open_to_write(store_path(), make=True) as ledger:
        row = ledger.enroll_reviewer(reviewer, public.vkey, who=who or made_here(), made_by=public.made_by)
        is_ours = ledger.signed_by is not None and signer_elsewhere() is None
    if as_json:
        put_json(row_json(row))
        return
    put(f"row {row.id}: {visible(reviewer)} is a reviewer, with the key {public.vkey}")
    _warn_of_same_hands(public, has_log_key=is_ours)


@key.command()
@click.argument("reviewer", metavar="NAME|VKEY")
@_why_option
@_who_option
@_json_option
@store_option
def revoke(reviewer: str, *, why: str, who: str | None, as_json: bool) -> None:
    """Write into the ledger that a reviewer's key counts no more. What it signed before still counts."""
    from donewhen.keyring import Keyring
    from donewhen.keys import made_here

    with open_to_read(store_path()) as ledger:
        vkey = Keyring.read(ledger).key_of(reviewer) or reviewer
        if "+" not in vkey:
            raise CommandError(f"{visible(reviewer)} has no key here; 'donewhen key show' lists the reviewers")
    with open_to_write(store_path()) as ledger:
        row = ledger.revoke_reviewer(vkey, why=_said("--why", why), who=who or made_here())
    if as_json:
        put_json(row_json(row))
        return
    put(f"row {row.id}: {vkey} counts no more")


key.add_command(serve)


# -- which keys --------------------------------------------------------------------------------------------------------


def _next_signer(path: StorePath, folder: Path, old: Signer | None, to_signer: str | None) -> Signer:
    """Return the key that a ledger is handed on to: durably stored, before any row says so."""
    from donewhen.keys import KEY_FILE, KEY_VARIABLE
    from donewhen.keys.rotation import stage_log_key
    from donewhen.signers.socket import SocketSigner

    if old is None:
        raise CommandError(
            f"{store_name(path)} was begun without a key, so there is none to rotate. Begin a new, signed ledger."
        )
    if to_signer is not None:
        return SocketSigner(to_signer)
    if signer_elsewhere() is not None:
        raise CommandError(
            "the key is held by a signer (DONEWHEN_SIGNER). Start one with a new key: --to-signer SOCKET"
        )
    if KEY_VARIABLE in os.environ:
        raise CommandError(
            f"the key is in {KEY_VARIABLE}, which a command cannot change. Put it into {folder / KEY_FILE}, mode 0600, "
            f"unset the variable, rotate, and set it to the new file's text."
        )
    newest = _newer_key(path, folder, old)
    return newest or stage_log_key(folder, passphrase=_given_passphrase(folder / KEY_FILE))


def _newer_key(path: StorePath, folder: Path, old: Signer) -> Signer | None:
    """Return the user's key, where another ledger was handed on to it and this one was not yet."""
    from donewhen.keyring import Keyring
    from donewhen.keys import load_log_key
    from donewhen.keys.rotation import own_log_verifier
    from donewhen.notes import Verifier

    own = own_log_verifier(folder, os.environ)
    with open_to_read(path) as ledger:
        known = [vkey for _, vkey in Keyring.read(ledger).log_keys(ledger.signed_by)]
    if own is None or own.public_key in [Verifier.parse(vkey).public_key for vkey in (old.vkey, *known)]:
        return None
    return load_log_key(folder, os.environ, ask=passphrase_asker())


def _public_key(given: str | None) -> PublicKey:
    from donewhen.keys import REVIEWER_VKEY_FILE, config_dir
    from donewhen.keys.files import read_public, read_public_file

    if given is not None and "+" in given and not Path(given).exists():
        return read_public(given, "the key that was given")
    path = Path(given) if given is not None else config_dir(os.environ) / REVIEWER_VKEY_FILE
    public = read_public_file(path)
    if public is None:
        raise CommandError(f"there is no file {path}. Give a reviewer's public key, or a file that holds one.")
    return public


def _warn_of_same_hands(public: PublicKey, *, has_log_key: bool) -> None:
    """Say loudly where whoever records could also attest."""
    from donewhen.keys import made_here

    if not public.made_by:
        say("Note: nothing says where this key was made. Make sure that no agent can read it.")
    elif public.made_by == made_here() and has_log_key:
        say(
            f"Warning: this key was made by {visible(public.made_by)}, who also has the log's key: an agent that runs as "
            "this user can read both and attest its own work. Make reviewers' keys elsewhere. 'donewhen verify' says so too."
        )


def _made_where(to_signer: str | None) -> str:
    from donewhen.keys import made_here

    return "" if to_signer else made_here()


def _said(option: str, text: str) -> str:
    if not text.strip():
        raise CommandError(f"{option} is blank: this is done for a reason")
    return text


# -- passphrases -------------------------------------------------------------------------------------------------------


def _new_passphrase(*, is_asked: bool) -> str | None:
    """Return the passphrase for a new key, where one is wanted: from the environment, else asked for twice."""
    from donewhen.keys import PASSPHRASE_VARIABLE

    if not is_asked:
        return None
    if PASSPHRASE_VARIABLE in os.environ:
        return os.environ[PASSPHRASE_VARIABLE]
    if not is_terminal(sys.stdin):
        raise CommandError(f"there is no terminal to ask for a passphrase. Give it in {PASSPHRASE_VARIABLE}.")
    typed: str = click.prompt("A passphrase, several words", hide_input=True, confirmation_prompt=True, err=True)
    return typed


def _given_passphrase(path: Path) -> str | None:
    """Return the passphrase that locks the key in a file; None where it is not locked, or not there."""
    from donewhen.keys import unlocking
    from donewhen.keys.files import is_locked, read_private

    text = read_private(path)
    ask = unlocking(os.environ, passphrase_asker())
    return ask(str(path)) if text is not None and is_locked(text) and ask is not None else None


# -- showing -----------------------------------------------------------------------------------------------------------


def _keys_here() -> dict[str, Any]:
    from donewhen.keys import KEY_FILE, KEY_VARIABLE, REVIEWER_KEY_FILE, config_dir, read_reviewer_vkey
    from donewhen.keys.files import is_locked, read_private

    folder = config_dir(os.environ)
    text = read_private(folder / KEY_FILE)
    far, is_given = signer_elsewhere(), KEY_VARIABLE in os.environ
    where = far.path if far else KEY_VARIABLE if is_given else str(folder / KEY_FILE)
    log = {"where": where, "locked": bool(is_locked((os.environ[KEY_VARIABLE] if is_given else text) or ""))}
    has_log_key = far is not None or is_given or text is not None
    public, path = read_reviewer_vkey(folder), folder / REVIEWER_KEY_FILE
    text = read_private(path)
    reviewer = public and {
        "vkey": public.vkey,
        "name": public.name,
        "made_by": public.made_by,
        "where": str(path) if text is not None else None,
        "locked": bool(is_locked(text or "")),
    }
    return {"folder": str(folder), "log": log if has_log_key else None, "reviewer": reviewer}


def _keys_of(ledger: Ledger, keyring: Keyring) -> dict[str, Any]:
    from donewhen.keyring import ENROLL

    reviewers: list[dict[str, Any]] = []
    for change in keyring.changes:
        if change.action == ENROLL:
            end = keyring.revocation_of(change.vkey)
            reviewers.append(
                {
                    "name": change.name,
                    "vkey": change.vkey,
                    "enrolled": {"row": change.row_id, "at": change.at, "who": change.who},
                    "made_by": change.made_by or None,
                    "revoked": end and {"row": end.row_id, "at": end.at, "who": end.who, "why": end.why},
                }
            )
    log_keys = [{"vkey": vkey, "from_size": size} for size, vkey in keyring.log_keys(ledger.signed_by)]
    return {"store": ledger.path, "origin": ledger.origin, "log_keys": log_keys, "reviewers": reviewers}


def _put_keys(told: dict[str, Any]) -> None:
    log, reviewer, ledger = told["log"], told["reviewer"], told["ledger"]
    put(f"log key       {_where_kept(log) or 'none yet'}")
    put(f"reviewer key  {'none' if reviewer is None else reviewer['vkey']}")
    if _where_kept(reviewer):
        say(f"              {_where_kept(reviewer)}")
    if ledger is None:
        return
    put(f"\nledger        {visible(ledger['store'])}, log {visible(ledger['origin'])}")
    for known in ledger["log_keys"]:
        since = f", since the checkpoint of {known['from_size']:,} rows" if known["from_size"] else ""
        put(f"public key    {visible(known['vkey'])}{since}")
    if not ledger["log_keys"]:
        put("public key    none: the ledger is unsigned")
    rows = [
        (
            one["name"],
            one["vkey"],
            f"row {one['enrolled']['row']}",
            f"row {one['revoked']['row']}" if one["revoked"] else "",
        )
        for one in ledger["reviewers"]
    ]
    if rows:
        put("")
        put_table(("reviewer", "key", "enrolled", "revoked"), rows)
    if ledger["log_keys"]:
        say("Hand the newest public key to whoever audits, by another way than the ledger.")
    say(f"To enrol a reviewer: {command_line('key', 'enroll')} FILE")


def _where_kept(kept: dict[str, Any] | None) -> str:
    if kept is None or kept["where"] is None:
        return ""
    return f"{visible(kept['where'])}{', locked with a passphrase' if kept['locked'] else ''}"
