"""Which log of a database has a session, for whoever names a session and no log."""

from __future__ import annotations

from contextlib import closing

import psycopg

from donewhen.errors import LedgerError
from donewhen.stores.postgres_connections import connect, translate
from donewhen.stores.postgres_reads import key_of
from donewhen.stores.postgres_url import Address

# From log to log, since there are few of them and many rows in each.
_LOGS = (
    "SELECT l.log, EXISTS (SELECT 1 FROM donewhen.entries AS e WHERE e.log = l.log AND e.session = %(key)s)"
    " FROM donewhen.log AS l WHERE EXISTS (SELECT 1 FROM donewhen.entries AS e"
    "  WHERE e.log = l.log AND e.session >= %(least)s AND e.session < %(most)s) ORDER BY l.log"
)
_LAST = "\U0010ffff"


def find_log(address: Address, session: str) -> str | None:
    """Return the log that has a session; None if none has.

    Args:
        address: the database; the log that it names does not count.
        session: the session's id, or a beginning of it that no session of another log has.

    Raises:
        LedgerError: sessions of several logs begin so.
        LedgerUnavailableError: the database cannot be reached.
    """
    key = key_of(session)
    least = key.removesuffix('"')
    try:
        connection, _ = connect(address)
        with closing(connection):
            asked = {"key": key, "least": least, "most": least + _LAST}
            found = connection.execute(_LOGS, asked).fetchall()
    except psycopg.Error as error:
        raise translate(address.database, error) from error
    logs = [log for log, is_whole in found if is_whole] or [log for log, _ in found]
    if len(logs) > 1:
        raise LedgerError(
            f"sessions of {len(logs)} logs begin with {session!r}: {', '.join(logs)}. Name the log: "
            f"{address.of(logs[0]).shown}"
        )
    return logs[0] if logs else None
