"""How a ledger on PostgreSQL is named: ``postgresql://user@host/database#log``.

The fragment is the log's name; without one it is the log `local`. Everything before it is PostgreSQL's own. A name that
is shown to anybody has no password in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from donewhen.errors import StoreAddressError

SCHEMES = ("postgresql://", "postgres://")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOSTS = re.compile(r"(?:\[[0-9A-Fa-f:.%]*\]|[^\[\]:,]*)(?::\d*)?")

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
    """Tell whether a store is named by a PostgreSQL URL, and not by a path.

    Raises:
        StoreAddressError: it is named by a URL of another kind, which is no path either.
    """
    scheme = _SCHEME.match(path) if isinstance(path, str) else None
    if scheme is None:
        return False
    if not scheme.group().lower().startswith(SCHEMES):
        raise StoreAddressError(f"a ledger is a file or postgresql://USER@HOST/DATABASE#LOG, not {scheme.group()}…")
    return True


def parse_url(url: str) -> Address:
    """Read a URL.

    Raises:
        StoreAddressError: it is none that leaves no doubt where its password ends, or the log's name cannot be one.
    """
    scheme, _, rest = url.partition("://")
    conninfo, _, fragment = f"{scheme.lower()}://{rest}".partition("#")
    _refuse_unclear(conninfo, fragment)
    return Address(conninfo, _checked(unquote(fragment)) if fragment else LOCAL, bool(fragment))


def _refuse_unclear(conninfo: str, fragment: str) -> None:
    """Refuse a URL whose password might be taken for a part that is shown.

    Nothing of it is in the message: what is wrong with it may be the password.
    """
    netloc, slash, path = conninfo.partition("://")[2].partition("?")[0].partition("/")
    user, at, hosts = netloc.rpartition("@")
    # Without a path, what stands behind ? or # may be the rest of a password too.
    beyond = path if at or slash else fragment + conninfo.partition("?")[2]
    if "@" in user or "@" in beyond or not all(_HOSTS.fullmatch(host) for host in hosts.split(",")):
        raise StoreAddressError(
            "the URL of the store is not postgresql://USER:PASSWORD@HOST:PORT/DATABASE#LOG; in a password, / ? # @ and % "
            "are written %2F %3F %23 %40 and %25"
        )
    if _PERCENT.search(conninfo):
        raise StoreAddressError(
            "a % in the URL of the store is not followed by two hex digits; % itself is written %25"
        )


def _checked(log: str) -> str:
    if not log.strip() or "\0" in log or len(log.encode("utf-8", "replace")) > MOST_BYTES or not log.isprintable():
        raise StoreAddressError(
            f"{log!r} cannot name a log: it is a text of 1 to {MOST_BYTES} bytes that can be printed"
        )
    return log
