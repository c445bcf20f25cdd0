"""Making the schema of a ledger on PostgreSQL, and bringing it to the newest version, by whoever may."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import errors, sql

from donewhen.errors import LedgerError, LedgerFormatError
from donewhen.stores.postgres_connections import Link, connect, translate
from donewhen.stores.postgres_schema import GRANTS, LEAST_VERSION, MIGRATIONS, SCHEMA, script
from donewhen.stores.postgres_url import parse_url

INIT_LOCK = 0x444F4E45
"""The advisory lock of whoever changes the schema: "DONE"."""

_MIGRATED = "INSERT INTO donewhen.migrations (number) VALUES (%s)"
_VERSION = "SELECT coalesce(max(number), 0) FROM donewhen.migrations"
_EXISTS = "SELECT to_regclass(%s) IS NOT NULL, to_regnamespace(%s) IS NOT NULL"
_CARELESS = "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialised:
    """What `init` found and did."""

    was: int
    """The version that there was; 0: none."""
    version: int
    database: str
    """The URL without its secrets."""
    warnings: tuple[str, ...]
    """What would break the ledger's promises, and is not the ledger's to change."""


def init(url: str, *, owner_role: str | None = None, app_role: str | None = None) -> Initialised:
    """Make the schema, or bring it to the newest version, in one transaction. Running it again changes nothing.

    Args:
        url: the database, as a role that may make a schema in it, and roles where they are missing.
        owner_role: owns the schema; made where it is missing, without login. None: the role that connects.
        app_role: may read and add, nothing else; made likewise. None: nobody is granted anything.

    Raises:
        LedgerError: the database refuses it, or one role is to be both.
        LedgerFormatError: it is too old, not in UTF-8, or has a schema of that name which is not ours.
        LedgerUnavailableError: it cannot be reached.
    """
    address = parse_url(url)
    if app_role is not None and app_role == owner_role:
        raise LedgerError("the owner and the application must be two roles: an owner may change what it owns")
    try:
        connection, _ = connect(address)
        with connection, connection.transaction():
            _refuse_unfit(connection, address.database)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (INIT_LOCK,))
            was = find_version(connection)
            for role in (owner_role, app_role):
                _make_role(connection, role)
            _migrate(connection, was, owner_role)
            _grant(connection, app_role)
            careless = [name for (name,) in connection.execute(_CARELESS)]
    except psycopg.Error as error:
        raise translate(address.database, error) from error
    warnings = tuple([f"{name} is off: rows that were acknowledged can be lost with the power" for name in careless])
    return Initialised(was=was, version=len(MIGRATIONS), database=address.database, warnings=warnings)


def find_version(connection: Link) -> int:
    """Return the version of the schema, 0 where there is none.

    Raises:
        LedgerFormatError: there is a schema of that name that is not ours, or of a newer donewhen.
    """
    found = connection.execute(_EXISTS, (f"{SCHEMA}.migrations", SCHEMA)).fetchone()
    is_ours, is_there = found or (False, False)
    if not is_ours:
        if (
            is_there
            and connection.execute(
                "SELECT 1 FROM pg_class WHERE relnamespace = to_regnamespace(%s) LIMIT 1", (SCHEMA,)
            ).fetchone()
        ):
            raise LedgerFormatError(f"the schema {SCHEMA!r} of the database is something else's")
        return 0
    row = connection.execute(_VERSION).fetchone()
    version: int = row[0] if row is not None else 0
    if version > len(MIGRATIONS):
        raise LedgerFormatError(
            f"the ledger's schema has version {version}; this donewhen knows {len(MIGRATIONS)}. Upgrade."
        )
    return version


def _refuse_unfit(connection: Link, database: str) -> None:
    if connection.info.server_version < LEAST_VERSION:
        raise LedgerFormatError(f"{database} is PostgreSQL {connection.info.server_version // 10000}; 14 is the oldest")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise LedgerFormatError(f"{database} is in the encoding {encoding}. A ledger needs a database in UTF8.")


def _make_role(connection: Link, role: str | None) -> None:
    if role is None or connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
        return
    try:
        with connection.transaction():
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
    except (errors.DuplicateObject, errors.UniqueViolation):
        return  # roles are the whole server's: whoever prepares another database of it was faster


def _migrate(connection: Link, was: int, owner_role: str | None) -> None:
    owner = sql.Identifier(owner_role) if owner_role is not None else sql.SQL("CURRENT_USER")
    if was == 0:
        connection.execute(
            sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(sql.Identifier(SCHEMA), owner)
        )
    if owner_role is not None:
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(owner))
    for number, migration in enumerate(MIGRATIONS[was:], was + 1):
        connection.execute(script(migration).encode())
        connection.execute(_MIGRATED, (number,))


def _grant(connection: Link, app_role: str | None) -> None:
    if app_role is not None:
        role = sql.Identifier(app_role).as_string(connection)
        connection.execute(GRANTS.replace("{schema}", SCHEMA).replace("{role}", role).encode())
    connection.execute("RESET ROLE")
