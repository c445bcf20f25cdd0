"""How a ledger on PostgreSQL is named: ``postgresql://user@host/database#log``.

The fragment is the log's name; without one it is the log `local`. Everything before it is PostgreSQL's own. A name that
is shown to anybody has no password in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from donewhen.errors import LedgerFormatError

SCHEMES = ("postgresql://", "postgres://")

LOCAL = "local"
"""The log of sessions that stand under no budget."""

MOST_BYTES = 200
"""The longest name of a log, in UTF-8."""

_SECRETS = ("password", "sslpassword")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a log is."""

    conninfo: str
    """What PostgreSQL's client is given; it may hold a password."""
    log: str
    named: bool
    """Whether the URL names the log; if not, it may be any of the database's that is wanted."""

    @property
    def shown(self) -> str:
        """Return the URL without its secrets, with the log."""
        return f"{self.database}#{quote(self.log)}"

    @property
    def database(self) -> str:
        """Return the URL of the database without its secrets."""
        parts = urlsplit(self.conninfo)
        user, at, host = parts.netloc.rpartition("@")
        query = urlencode([one for one in parse_qsl(parts.query) if one[0] not in _SECRETS], quote_via=quote)
        return urlunsplit((parts.scheme, f"{user.partition(':')[0]}{at}{host}", parts.path, query, ""))

    def of(self, log: str) -> Address:
        """Return the address of another log of the same database."""
        return Address(self.conninfo, _checked(log), True)

    @property
    def url(self) -> str:
        """Return the whole URL, secrets too."""
        return f"{self.conninfo}#{quote(self.log)}"


def is_url(path: object) -> bool:
    """Tell whether a store is named by a PostgreSQL URL, and not by a path."""
    return isinstance(path, str) and path.startswith(SCHEMES)


def parse_url(url: str) -> Address:
    """Read a URL.

    Raises:
        LedgerFormatError: the log's name cannot be one.
    """
    conninfo, _, fragment = url.partition("#")
    return Address(conninfo, _checked(unquote(fragment)) if fragment else LOCAL, bool(fragment))


def log_of(budget: str) -> str:
    """Return the log of a budget, and of every session under it: the name of the outermost budget above it."""
    return budget.partition("/")[0]


def _checked(log: str) -> str:
    if not log.strip() or "\0" in log or len(log.encode("utf-8", "replace")) > MOST_BYTES or not log.isprintable():
        raise LedgerFormatError(
            f"{log!r} cannot name a log: it is a text of 1 to {MOST_BYTES} bytes that can be printed"
        )
    return log
