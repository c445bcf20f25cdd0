"""The store that a command works on, and the key with which it writes."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from donewhen.cli.exits import CommandError
from donewhen.cli.output import is_terminal, say
from donewhen.errors import LedgerError, LedgerFormatError, SessionNotFoundError
from donewhen.render import visible
from donewhen.stores.opening import named, with_log_of
from donewhen.stores.postgres_url import is_url

if TYPE_CHECKING:
    from donewhen.elsewhere import Elsewhere
    from donewhen.entry import LedgerRow
    from donewhen.keys.files import Ask
    from donewhen.ledger import Ledger
    from donewhen.notes import Signer
    from donewhen.signers.socket import SocketSigner

DEFAULT_STORE = ".donewhen/ledger.db"
STORE_VARIABLE = "DONEWHEN_STORE"

_STORE = "donewhen.store"
_PASSPHRASES = "donewhen.passphrases"
StorePath = Path | str
"""A file, or the URL of a log on PostgreSQL as text: a path would take a slash away from it."""

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def _remember(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta[_STORE] = value


def store_option(command: _Command) -> _Command:
    """Give a command ``--store``. Said after the command it counts more than said before it."""
    option = click.option(
        "--store",
        metavar="PATH|URL",
        expose_value=False,
        callback=_remember,
        help=f"The ledger: a file, or postgresql://…#log. Else {STORE_VARIABLE}, else {DEFAULT_STORE}.",
    )
    return option(command)


def store_path(session: str | None = None) -> StorePath:
    """Return the store that the command was given: a path, or a URL as text.

    Args:
        session: the session that the command is about. Where a URL names no log, it is the log that has the session,
            for the rest of the command.
    """
    meta = click.get_current_context().meta
    chosen: str = meta.get(_STORE) or os.environ.get(STORE_VARIABLE) or DEFAULT_STORE
    if not is_url(chosen):
        return Path(chosen)
    if session is not None:
        chosen = meta[_STORE] = with_log_of(chosen, session)
    return chosen


def is_there(store: StorePath) -> bool:
    """Tell whether there is a file; whether there is a log on PostgreSQL only the server can say."""
    return isinstance(store, str) or store.exists()


def store_name(store: StorePath) -> str:
    """Return a store's name as it was given, without secrets."""
    return named(store) if isinstance(store, str) else str(store)


def whole_name(store: StorePath) -> str:
    """Return a store's whole name, without secrets."""
    return named(store) if isinstance(store, str) else str(store.absolute())


def beside(store: StorePath) -> Path:
    """Return a path in the folder where this machine keeps what stands beside a ledger."""
    from donewhen.keys import config_dir

    return config_dir(os.environ) / "ledger" if isinstance(store, str) else store


def open_to_read(path: StorePath) -> Ledger:
    """Open a ledger that is there, never writing to it and needing no key.

    Raises:
        LedgerError: there is none, or it cannot be read.
    """
    from donewhen.ledger import Ledger

    if not is_there(path):
        raise LedgerError(
            f"there is no ledger at {path}. 'donewhen run' makes one; --store or {STORE_VARIABLE} names another."
        )
    return Ledger(path, read_only=True)


def open_to_write(
    path: StorePath,
    *,
    make: bool = False,
    on_row: Callable[[LedgerRow], object] | None = None,
    elsewhere: Elsewhere | None = None,
) -> Ledger:
    """Open a ledger with the user's own keys. One that was begun without a key to sign stays without.

    Args:
        path: the ledger's file, or URL.
        make: make it, its folder, and on first use the key, where they are missing.
        on_row: is told of every row that this process writes, once it is stored.
        elsewhere: where its checkpoints are kept besides.

    Raises:
        LedgerError: there is none, it is signed by another key, or it cannot be opened.
    """
    from donewhen.cli.telling import TellingLedger
    from donewhen.keys import config_dir, load_input_key
    from donewhen.ledger import Ledger

    if not make and not (isinstance(path, Path) and path.exists()):
        open_to_read(path).close()  # says what is missing; to write would begin a log on PostgreSQL
    if isinstance(path, Path):
        _make_folder(path.parent)
    signer, input_key = signer_for(path), load_input_key(config_dir(os.environ), os.environ)
    if on_row is not None:
        return TellingLedger(path, signer, on_row, elsewhere, input_key=input_key)
    return Ledger(path, signer=signer, elsewhere=elsewhere, input_key=input_key)


def command_line(*words: str) -> str:
    """Return a command to type next, on the same store."""
    chosen: str | None = click.get_current_context().meta.get(_STORE)
    store = () if chosen is None else ("--store", named(chosen))
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


def signer_for(path: StorePath) -> Signer | None:
    """Return what signs for the user, where a ledger is signed or new; None for one that was begun without a key.

    Raises:
        LedgerError: it is signed by another key, or the user's cannot be used.
    """
    from donewhen.keys import config_dir, load_or_make_log_key
    from donewhen.keys.rotation import own_log_verifier
    from donewhen.notes import Verifier

    folder = config_dir(os.environ)
    is_new, vkey = _key_of(path)
    if not is_new and vkey is None:
        return None
    if vkey is None:
        return signer_elsewhere() or load_or_make_log_key(folder, environ=os.environ, ask=passphrase_asker())
    far = signer_elsewhere()
    signer = far or _own_key(folder, vkey)
    known = Verifier.parse(vkey)
    if signer is None or Verifier.parse(signer.vkey).public_key != known.public_key:
        own = own_log_verifier(folder, os.environ) if far is None else Verifier.parse(far.vkey)
        told = (
            "there is none"
            if own is None
            else f"there is another, whose public key for it were {own.named(known.name).vkey}"
        )
        raise LedgerError(
            f"{store_name(path)} is signed by the key of {vkey}, and in {folder if far is None else far.path} {told}. "
            "Put that key there, or begin another ledger with --store."
        )
    return signer


def signer_elsewhere() -> SocketSigner | None:
    """Return the signer that DONEWHEN_SIGNER names; None where it is not set.

    Raises:
        LedgerError: it is set, and no signer answers there.
    """
    from donewhen.signers.socket import SIGNER_VARIABLE, SocketSigner

    socket = os.environ.get(SIGNER_VARIABLE)
    if socket is None:
        return None
    if not socket.strip():
        raise LedgerError(f"{SIGNER_VARIABLE} is set but blank. Name the signer's socket, or unset it.")
    return SocketSigner(socket)


def passphrase_asker() -> Ask | None:
    """Return what asks the person at the terminal for a passphrase, once for a key; None where there is no person."""
    if not is_terminal(sys.stdin):
        return None
    typed: dict[str, str] = click.get_current_context().meta.setdefault(_PASSPHRASES, {})

    def ask(where: str) -> str:
        if where not in typed:
            typed[where] = click.prompt(f"Passphrase of {visible(where)}", hide_input=True, err=True)
        return typed[where]

    return ask


def _key_of(path: StorePath) -> tuple[bool, str | None]:
    """Tell whether a ledger is new, and which key it has now."""
    from donewhen.keyring import Keyring
    from donewhen.ledger import Ledger

    if isinstance(path, Path) and (not path.exists() or path.stat().st_size == 0):
        return True, None
    try:
        with Ledger(path, read_only=True) as peeked:
            return False, Keyring.read(peeked).current_log_key(peeked.signed_by)
    except LedgerFormatError:
        return True, None  # another process is making it this moment; or it is not ours, which opening it will say


def _own_key(folder: Path, vkey: str) -> Signer | None:
    """Return the user's key for a log; where a rotation was interrupted once the log had it, end that."""
    from donewhen.keys import KEY_VARIABLE
    from donewhen.keys.rotation import find_log_key, install_log_key, is_unfinished

    signer = find_log_key(folder, vkey, os.environ, ask=passphrase_asker())
    if signer is not None and KEY_VARIABLE not in os.environ and is_unfinished(folder, vkey):
        install_log_key(folder, vkey)
        say(f"A rotation was interrupted. It is done now: the key of {vkey} is in its place.")
    return signer


def _make_folder(folder: Path) -> None:
    try:
        # For the owner only: a kept conversation is nobody else's business.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"the folder {folder} cannot be made: {error.strerror}") from error
