"""The store that a command works on, and the key with which it writes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from donewhen.cli.exits import CommandError
from donewhen.errors import LedgerError, LedgerFormatError, SessionNotFoundError
from donewhen.render import visible

if TYPE_CHECKING:
    from donewhen.entry import LedgerRow
    from donewhen.ledger import Ledger
    from donewhen.notes import Signer

DEFAULT_STORE = ".donewhen/ledger.db"
STORE_VARIABLE = "DONEWHEN_STORE"

_STORE = "donewhen.store"
_Command = TypeVar("_Command", bound="Callable[..., Any]")


def _remember(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta[_STORE] = value


def store_option(command: _Command) -> _Command:
    """Give a command ``--store``. Said after the command it counts more than said before it."""
    option = click.option(
        "--store",
        metavar="PATH",
        expose_value=False,
        callback=_remember,
        help=f"The ledger's file. Else {STORE_VARIABLE}, else {DEFAULT_STORE}.",
    )
    return option(command)


def store_path() -> Path:
    """Return the path of the store that the command was given."""
    chosen: str | None = click.get_current_context().meta.get(_STORE)
    return Path(chosen or os.environ.get(STORE_VARIABLE) or DEFAULT_STORE)


def open_to_read(path: Path) -> Ledger:
    """Open a ledger that is there, never writing to it and needing no key.

    Raises:
        LedgerError: there is none, or it cannot be read.
    """
    from donewhen.ledger import Ledger

    if not path.exists():
        raise LedgerError(
            f"there is no ledger at {path}. 'donewhen run' makes one; --store or {STORE_VARIABLE} names another."
        )
    return Ledger(path, read_only=True)


def open_to_write(path: Path, *, make: bool = False, on_row: Callable[[LedgerRow], object] | None = None) -> Ledger:
    """Open a ledger with the user's own key. One that was begun without a key stays without.

    Args:
        path: the ledger's file.
        make: make it, its folder, and on first use the key, where they are missing.
        on_row: is told of every row that this process writes, once it is stored.

    Raises:
        LedgerError: there is none, it is signed by another key, or it cannot be opened.
    """
    from donewhen.cli.telling import TellingLedger
    from donewhen.ledger import Ledger

    if not make and not path.exists():
        open_to_read(path)  # says what is missing
    _make_folder(path.parent)
    signer = signer_for(path)
    return Ledger(path, signer=signer) if on_row is None else TellingLedger(path, signer, on_row)


def command_line(*words: str) -> str:
    """Return a command to type next, on the same store."""
    chosen: str | None = click.get_current_context().meta.get(_STORE)
    store = () if chosen is None else ("--store", chosen)
    return visible(shlex.join(("donewhen", *words, *store)))


def find_session(ledger: Ledger, wanted: str) -> str:
    """Return the id of the session that a person means: all of it, or a beginning that only one session has.

    Raises:
        SessionNotFoundError: no session begins so.
        CommandError: several do.
    """
    known = [session_id for session_id, _, _ in ledger.sessions()]
    if wanted in known:
        return wanted
    found = [session_id for session_id in known if wanted and session_id.startswith(wanted)]
    if not found:
        raise SessionNotFoundError(wanted, f"no such session in {ledger.path}; 'donewhen sessions' lists them")
    if len(found) > 1:
        raise CommandError(f"{len(found)} sessions begin with {wanted!r}; give more of the id")
    return found[0]


def short_id(session_id: str, known: list[str]) -> str:
    """Return the shortest beginning of an id, of eight characters or more, that no other session has."""
    for length in range(8, len(session_id)):
        if sum(other.startswith(session_id[:length]) for other in known) <= 1:
            return session_id[:length]
    return session_id


def signer_for(path: Path) -> Signer | None:
    """Return the user's key, where a ledger is signed or new; None for one that was begun without a key.

    Raises:
        LedgerError: it is signed by another key, or the user's cannot be used.
    """
    from donewhen.keys import config_dir, load_log_key, load_or_make_log_key
    from donewhen.ledger import Ledger

    folder = config_dir(os.environ)
    begun_with: str | None = None
    is_new = not path.exists() or path.stat().st_size == 0
    if not is_new:
        try:
            with Ledger(path, read_only=True) as peeked:
                begun_with = peeked.signed_by
        except LedgerFormatError:
            is_new = True  # another process is making it this moment; or it is not ours, which opening it will say
    if is_new:
        return load_or_make_log_key(folder, environ=os.environ)
    if begun_with is None:
        return None
    signer = load_log_key(folder, os.environ)
    if signer is None or signer.vkey != begun_with:
        name = begun_with.partition("+")[0]
        own = "there is none" if signer is None else f"the key there is {signer.name!r}"
        raise LedgerError(
            f"{path} is signed by the key {name!r}, and in {folder} {own}. "
            "Put that key there, or begin another ledger with --store."
        )
    return signer


def _make_folder(folder: Path) -> None:
    try:
        # For the owner only: a kept conversation is nobody else's business.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"the folder {folder} cannot be made: {error.strerror}") from error
