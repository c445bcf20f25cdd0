"""`store init` and `store copy`: the schema on PostgreSQL, and a ledger moved from one store into another."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from urllib.parse import urlsplit, urlunsplit

import click

from donewhen.cli.exits import CommandError
from donewhen.cli.ledger import progress_bar
from donewhen.cli.output import counted_as, put, put_json, say
from donewhen.render import visible
from donewhen.stores.opening import require_postgres
from donewhen.stores.postgres_url import is_url, parse_url

_json_option = click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")


@click.group()
def store() -> None:
    """Prepare a PostgreSQL database for ledgers, and copy a ledger from one store into another."""


@store.command()
@click.argument("url")
@click.option("--owner-role", metavar="ROLE", help="Owns the tables; made where it is missing. Left out: who connects.")
@click.option("--app-role", metavar="ROLE", help="May read and add, nothing else; made where it is missing.")
@_json_option
def init(url: str, *, owner_role: str | None, app_role: str | None, as_json: bool) -> None:
    """Make the schema in a PostgreSQL database, or update it.

    URL is postgresql://USER@HOST/DATABASE, as a role that may make schemas, and roles where they are missing. Running it
    again changes nothing. Processes that write ledgers connect as the application role, which cannot change or remove
    a row.
    """
    if not is_url(url):
        raise CommandError("give the database as postgresql://USER@HOST/DATABASE; a SQLite file needs no preparing")
    require_postgres()
    from donewhen.stores.postgres_init import init as initialise

    made = initialise(url, owner_role=owner_role, app_role=app_role)
    if as_json:
        put_json(asdict(made))
    elif made.was == made.version:
        put(f"{visible(made.database)} has version {made.version} of the schema already.")
    else:
        put(f"{visible(made.database)} has version {made.version} of the schema now.")
    for warning in made.warnings:
        say(f"Warning: {warning}.")
    if as_json:
        return
    if app_role is None:
        say("No role was granted anything by this: name the one that applications have with --app-role.")
    else:
        role, place = visible(app_role), visible(shlex.quote(_for_anybody(url)))
        say(
            f"{role} may read and add. GRANT {role} TO the roles that applications connect as, unless it is one itself."
        )
        say(f"A log begins with what is first written to it: donewhen run SPEC.toml --store {place}")


def _for_anybody(url: str) -> str:
    """Return the URL of a log in this database, with the places to be filled in."""
    shown = urlsplit(parse_url(url).database)
    return urlunsplit((shown.scheme, f"ROLE@{shown.netloc.rpartition('@')[2]}", shown.path, shown.query, "LOG"))


@store.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@_json_option
def copy(source: str, target: str, *, as_json: bool) -> None:
    """Copy a ledger into another store, and verify both.

    From SQLite to PostgreSQL or back, or into another of its kind, byte for byte. FROM and TO are each a file or postgresql://USER@HOST/DATABASE#LOG. TO must not be there yet. Stop what writes to FROM
    first, and go on writing to TO alone: two ledgers of one name that differ are one too many.
    """
    from donewhen.store_copy import copy_store

    with progress_bar("copying and verifying") as bar:
        copied = copy_store(source, target, progress=bar)
    report = copied.report
    if as_json:
        put_json(asdict(copied))
        return
    signed = "unsigned" if report.signed_by is None else f"signed by {report.signed_by.partition('+')[0]}"
    put(
        f"{visible(copied.target)}: {counted_as(report.rows, 'row')} and {counted_as(report.checkpoints, 'checkpoint')} "
        f"of the log {visible(report.origin)}, {signed}, copied from {visible(copied.source)}. Both verify."
    )
    line = visible(shlex.join(("donewhen", "verify", copied.target, "--key")))
    say(f"Both were held against the key that the source names. Verify against yours: {line} VKEY")
