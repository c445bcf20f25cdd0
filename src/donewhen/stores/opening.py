"""How a store is opened: a path is a SQLite file, a URL that begins with ``postgresql://`` a log on PostgreSQL."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from donewhen.errors import MissingExtraError
from donewhen.stores.postgres_url import is_url, parse_url

if TYPE_CHECKING:
    from donewhen.notes import Signer
    from donewhen.stores import Store


def open_store(
    path_or_url: str | os.PathLike[str],
    *,
    signer: Signer | None,
    now: Callable[[], datetime],
    random: Callable[[int], bytes] = os.urandom,
    read_only: bool = False,
) -> Store:
    """Open the store that a path or a URL names.

    Args:
        path_or_url: a SQLite file, or a PostgreSQL database with the log's name as its fragment.
        signer: signs the log's checkpoints; None: an unsigned log.
        now: aware UTC, for the rows' ``at``.
        random: so many random bytes, for the name of a new log.
        read_only: never write, nor make anything.

    Raises:
        LedgerUnavailableError: it cannot be opened.
        LedgerFormatError: it is no ledger of ours.
        LedgerError: the log has a key and `signer` is not the one it has now, or it has none and a signer was given.
        MissingExtraError: it is on PostgreSQL, and the ``postgres`` extra is not installed.
    """
    if isinstance(path_or_url, str) and is_url(path_or_url):
        require_postgres()
        from donewhen.stores.postgres import PostgresStore

        return PostgresStore(path_or_url, signer=signer, now=now, random=random, read_only=read_only)
    from donewhen.stores.sqlite import SQLiteStore

    path = os.fsdecode(path_or_url)
    return SQLiteStore(path, signer=signer, now=now, random=random, read_only=read_only)


def named(path_or_url: str) -> str:
    """Return how a store is shown to a person: a URL without its password, a path as it is."""
    return parse_url(path_or_url).shown if is_url(path_or_url) else path_or_url


def with_log_of(url: str, session: str) -> str:
    """Return a URL with the log that has a session, where the URL names none; the URL itself where none has it.

    Args:
        url: of a database, perhaps with a log.
        session: the session's id, or a beginning of it.

    Raises:
        LedgerError: sessions of several logs begin so.
        LedgerUnavailableError: the database cannot be reached.
        MissingExtraError: the ``postgres`` extra is not installed.
    """
    address = parse_url(url)
    if address.named:
        return url
    require_postgres()
    from donewhen.stores.postgres_find import find_log

    log = find_log(address, session)
    return url if log is None else address.of(log).url


def require_postgres() -> None:
    """Refuse to go on without PostgreSQL's client.

    Raises:
        MissingExtraError: the ``postgres`` extra is not installed.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise MissingExtraError("postgres", "a ledger on PostgreSQL")
