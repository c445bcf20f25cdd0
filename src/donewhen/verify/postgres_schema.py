"""The PostgreSQL database around a ledger's rows: it must be ours to the letter.

PostgreSQL shows a definition in its own words, which are others in each version. So our schema is made once more, of
temporary tables in a transaction that is undone, and both are shown by the same server.
"""

from __future__ import annotations

import psycopg

from donewhen.errors import LedgerFormatError, LedgerUnavailableError
from donewhen.stores.postgres_connections import Link
from donewhen.stores.postgres_init import find_version
from donewhen.stores.postgres_schema import MIGRATIONS, SCHEMA, script
from donewhen.verify.schema import refuse_other

Definitions = dict[str, tuple[object, ...]]

_NAMESPACE = "SELECT %s::regnamespace::oid"
_TEMPORARY = "SELECT pg_my_temp_schema()"

# A schema's name is left out, wherever it stands.
_BARE = r"regexp_replace({}, '\m(donewhen|pg_temp(_[0-9]+)?)\.', '', 'g')"

_RELATIONS = """
SELECT CASE relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'i' THEN 'index' ELSE relkind::text END,
  relname::text, relrowsecurity, relforcerowsecurity, relispartition, reloptions::text, relpersistence = 'u',
  CASE relkind WHEN 'v' THEN {view} WHEN 'i' THEN {index} END,
  (SELECT indisvalid AND indisready AND indislive FROM pg_index WHERE indexrelid = c.oid),
  (SELECT array_agg(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = c.oid),
  (SELECT array_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attgenerated, attidentity,
      (SELECT collname FROM pg_collation AS l WHERE l.oid = attcollation),
      (SELECT {default} FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum)) ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
  (SELECT array_agg(concat_ws(' ', conname, convalidated, {constraint}) ORDER BY conname)
    FROM pg_constraint WHERE conrelid = c.oid),
  (SELECT array_agg(concat_ws(' ', tgtype, tgenabled, tgfoid::regproc) ORDER BY tgtype, tgfoid)
    FROM pg_trigger WHERE tgrelid = c.oid AND tgisinternal),
  (SELECT array_agg(concat_ws(' ', ev_enabled, {rule}) ORDER BY rulename) FROM pg_rewrite
    WHERE ev_class = c.oid AND rulename <> '_RETURN'),
  (SELECT array_agg(polname ORDER BY polname) FROM pg_policy WHERE polrelid = c.oid)
FROM pg_class AS c WHERE relnamespace = %(schema)s AND relkind <> 't'
""".format(
    view=_BARE.format("pg_get_viewdef(c.oid)"),
    index=_BARE.format("pg_get_indexdef(c.oid)"),
    default=_BARE.format("pg_get_expr(adbin, adrelid)"),
    constraint=_BARE.format("pg_get_constraintdef(oid)"),
    rule=_BARE.format("pg_get_ruledef(oid)"),
)
_TRIGGERS = f"""
SELECT 'trigger', tgname::text, tgenabled, {_BARE.format("pg_get_triggerdef(t.oid)")}
FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid WHERE relnamespace = %(schema)s AND NOT tgisinternal
"""
_FUNCTIONS = f"""
SELECT 'function', proname || '()', {_BARE.format("pg_get_functiondef(oid)")}
FROM pg_proc WHERE pronamespace = %(schema)s AND prokind = 'f'
UNION ALL SELECT 'function', proname || '()', prokind::text
FROM pg_proc WHERE pronamespace = %(schema)s AND prokind <> 'f'
"""


def verify_schema(connection: Link, path: str, wanted: Definitions) -> None:
    """Refuse a schema whose tables, columns, indexes, triggers, views and functions are not ours, to the letter.

    Args:
        connection: in the transaction in which everything is read.
        path: the store, for messages.
        wanted: what `our_schema` returned.

    Raises:
        LedgerFormatError: there is none.
        LedgerTamperedError: something is changed, missing or added; names it.
    """
    if find_version(connection) == 0:
        raise LedgerFormatError(f"{path} holds no ledger yet")
    refuse_other(_definitions(connection, _NAMESPACE, (SCHEMA,)), wanted)


def our_schema(connection: Link, path: str) -> Definitions:
    """Return what our schema looks like on this server.

    Args:
        connection: in no transaction. Nothing that is made here is left.
        path: the store, for messages.

    Raises:
        LedgerUnavailableError: the role may not make temporary tables, or this is a server that only reads.
    """
    version = find_version(connection)
    try:
        with connection.transaction(force_rollback=True):
            for migration in MIGRATIONS[:version]:
                connection.execute(script(migration, "pg_temp").encode())
            return _definitions(connection, _TEMPORARY, ())
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction) as error:
        problem = f"its schema cannot be held against ours here, which takes temporary tables ({error})".strip()
        raise LedgerUnavailableError(path, " ".join(problem.split())) from error


def _definitions(connection: Link, schema: str, parameters: tuple[str, ...]) -> Definitions:
    row = connection.execute(schema.encode(), parameters).fetchone()
    oid = None if row is None else row[0]
    found: Definitions = {}
    for query in (_RELATIONS, _TRIGGERS, _FUNCTIONS):
        for what, name, *rest in connection.execute(query.encode(), {"schema": oid}):
            found[name] = (what, *map(str, rest))
    return found
