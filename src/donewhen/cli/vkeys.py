"""Public keys on the command line: given as text, or as a file that holds one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from donewhen.cli.exits import CommandError
from donewhen.errors import CheckpointError

if TYPE_CHECKING:
    from donewhen.cosignatures import Cosigner
    from donewhen.notes import Verifier

_MOST_KEY_BYTES = 4096


def read_verifier(option: str, given: str) -> Verifier:
    """Return a log's public key.

    Args:
        option: what it was given with, for messages.
        given: the key, or a file that holds it.

    Raises:
        CommandError: it is not one.
    """
    from donewhen.notes import Verifier

    try:
        return Verifier.parse(_text_of(option, given))
    except CheckpointError as error:
        raise CommandError(f"{option}: {error}") from error


def read_cosigner(option: str, given: str) -> Cosigner:
    """Return a witness's public key.

    Args:
        option: what it was given with, for messages.
        given: the key, or a file that holds it.

    Raises:
        CommandError: it is not one.
    """
    from donewhen.cosignatures import Cosigner

    try:
        return Cosigner.parse(_text_of(option, given))
    except CheckpointError as error:
        raise CommandError(f"{option}: {error}") from error


def _text_of(option: str, given: str) -> str:
    as_file = Path(given)
    if "+" in given and not as_file.exists():
        return given.strip()
    try:
        with as_file.open("rb") as file:
            text = file.read(_MOST_KEY_BYTES).decode("utf-8", "replace")
    except OSError as error:
        problem = f"{error.strerror}; give a public key, or a file that holds one"
        raise CommandError(f"{option} {given}: {problem}") from error
    # A file of ours may say in a comment who made the key.
    return next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
