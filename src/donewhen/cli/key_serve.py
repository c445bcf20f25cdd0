"""`key serve`: a process that holds a key and signs for others."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from donewhen.cli.exits import DONE, CommandError
from donewhen.cli.output import clean_lines, is_terminal, say
from donewhen.cli.store import passphrase_asker
from donewhen.errors import KeyFileError

if TYPE_CHECKING:
    from donewhen.notes import LocalSigner
    from donewhen.signers.server import SignerServer

STATE_FILE = "signer.json"


@click.command()
@click.option("--socket", "socket_path", metavar="PATH", required=True, help="Where to listen; made for you only.")
@click.option("--state", metavar="FILE", help=f"What was signed of each log. Left out: {STATE_FILE} beside the key.")
@click.option("--group", metavar="NAME", help="A group whose members may ask too.")
@click.option("--reviewer", is_flag=True, help="Serve the reviewer's key, and ask you before each signature.")
def serve(*, socket_path: str, state: str | None, group: str | None, reviewer: bool) -> int:
    """Hold a key and sign for other processes, until Ctrl-C or SIGTERM.

    Those processes set DONEWHEN_SIGNER to the socket. A log is signed only where it extends what was signed before,
    which is remembered in the state file: keep that file as you keep the key.
    """
    from donewhen.keys import config_dir

    folder = config_dir(os.environ)
    if reviewer:
        if not is_terminal(sys.stdin):
            raise CommandError("a reviewer's signer asks before it signs, and there is no terminal to ask at")
        return _serve_reviewer(folder, Path(socket_path), _group_id(group))
    return _serve_log(folder, Path(socket_path), Path(state) if state else folder / STATE_FILE, _group_id(group))


def _serve_log(folder: Path, path: Path, state: Path, group: int | None) -> int:
    from donewhen.keys import load_log_key
    from donewhen.ledger import utc_now
    from donewhen.signers.memory import SignerMemory
    from donewhen.signers.server import LogDesk, SignerServer

    signer = _found(load_log_key(folder, os.environ, ask=passphrase_asker()), "donewhen key new", folder)
    memory = SignerMemory(state, now=utc_now)
    try:
        if memory.is_new:
            say(f"Signer: {state} is new, so nothing that was signed before is remembered")
        desk = LogDesk(signer, memory, lambda odd: say(clean_lines(f"Signer: {odd}")))
        with SignerServer(path, signer.vkey, desk, group=group) as server:
            return _run(server, signer.vkey)
    finally:
        memory.close()


def _serve_reviewer(folder: Path, path: Path, group: int | None) -> int:
    from donewhen.keys import load_reviewer_key
    from donewhen.signers.server import ReviewerDesk, SignerServer

    signer = _found(
        load_reviewer_key(folder, os.environ, ask=passphrase_asker()), "donewhen key new --reviewer NAME", folder
    )
    with SignerServer(path, signer.vkey, ReviewerDesk(signer, _confirm), group=group) as server:
        return _run(server, signer.vkey)


def _run(server: SignerServer, vkey: str) -> int:
    with _stopped_by_signals(server):
        say(f"Signing as {vkey} at {server.path}")
        server.serve()
    say("Stopped.")
    return DONE


def _confirm(message: bytes) -> bool:
    say(clean_lines(f"\nTo be signed:\n{message.decode('utf-8', 'replace')}"))
    return click.confirm("Sign it?", default=False, err=True)


def _found(signer: LocalSigner | None, makes_one: str, folder: Path) -> LocalSigner:
    if signer is None:
        raise KeyFileError(str(folder), f"there is no key. Make one: {makes_one}")
    return signer


def _group_id(name: str | None) -> int | None:
    if name is None:
        return None
    try:
        import grp

        return grp.getgrnam(name).gr_gid
    except (ImportError, KeyError) as error:
        raise CommandError(f"--group {name!r}: there is no such group") from error


@contextmanager
def _stopped_by_signals(server: SignerServer) -> Generator[None, None, None]:
    """Let SIGTERM and Ctrl-C end the serving, so that the socket is removed."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, _do_nothing) for number in numbers]
    # A handler runs in the main thread, and only once that has something to do: where the system gives the signal to a
    # thread that answers somebody, the main one goes on waiting. The byte wakes it, whoever was given the signal.
    fd_before = signal.set_wakeup_fd(server.wake_fd, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(fd_before)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Leave all to the byte that is written when the signal comes."""
