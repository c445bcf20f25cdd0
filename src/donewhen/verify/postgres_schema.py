"""The PostgreSQL database around a ledger's rows: it must be ours to the letter.

PostgreSQL shows a definition in its own words, which are others in each version. So our schema is made once more, of
temporary tables in a transaction that is undone, and both are shown by the same server, every name with its schema. In
ours the temporary schema's name is then replaced. What was found is left as it is: a name in it could stand in a text.
"""

from __future__ import annotations

import re

import psycopg

from donewhen.errors import LedgerFormatError, LedgerUnavailableError
from donewhen.stores.postgres_connections import Link
from donewhen.stores.postgres_init import find_version
from donewhen.stores.postgres_schema import MIGRATIONS, SCHEMA, script
from donewhen.verify.schema import Definitions, refuse_other

_NAMESPACE = "SELECT %s::regnamespace::oid"
_TEMPORARY = "SELECT pg_my_temp_schema()"

# A temporary table is shown without its schema, unless another of its name is found before it.
_TOLD_APART = f"SET LOCAL search_path = pg_catalog, {SCHEMA}, pg_temp"
_TEMPORARY_NAME = re.compile(r"\bpg_temp(_[0-9]+)?\.")

_RELATIONS = """
SELECT relname::text,
  CASE relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'i' THEN 'index' ELSE relkind::text END,
  '', relrowsecurity, relforcerowsecurity, relispartition, reloptions::text, relpersistence = 'u',
  CASE relkind WHEN 'v' THEN pg_get_viewdef(c.oid) WHEN 'i' THEN pg_get_indexdef(c.oid) END,
  (SELECT indisvalid AND indisready AND indislive FROM pg_index WHERE indexrelid = c.oid),
  (SELECT array_agg(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = c.oid),
  (SELECT array_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attgenerated, attidentity,
      nullif(attcollation, 0)::regcollation,
      (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum)) ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
  (SELECT array_agg(concat_ws(' ', conname, convalidated, pg_get_constraintdef(oid)) ORDER BY conname)
    FROM pg_constraint WHERE conrelid = c.oid),
  (SELECT array_agg(concat_ws(' ', tgtype, tgenabled, tgfoid::regproc) ORDER BY tgtype, tgfoid)
    FROM pg_trigger WHERE tgrelid = c.oid AND tgisinternal),
  (SELECT array_agg(concat_ws(' ', ev_enabled, pg_get_ruledef(oid)) ORDER BY rulename) FROM pg_rewrite
    WHERE ev_class = c.oid AND rulename <> '_RETURN'),
  (SELECT array_agg(polname ORDER BY polname) FROM pg_policy WHERE polrelid = c.oid)
FROM pg_class AS c WHERE relnamespace = %(schema)s AND relkind <> 't'
"""
_TRIGGERS = """
SELECT tgname::text, 'trigger', relname::text, tgenabled, pg_get_triggerdef(t.oid)
FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid WHERE relnamespace = %(schema)s AND NOT tgisinternal
"""
_FUNCTIONS = """
SELECT proname || '()', 'function', pg_get_function_identity_arguments(oid), prokind,
  CASE prokind WHEN 'f' THEN pg_get_functiondef(oid) END
FROM pg_proc WHERE pronamespace = %(schema)s
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
            connection.execute(_TOLD_APART.encode())
            ours = _definitions(connection, _TEMPORARY, ())
            return {
                thing: tuple([_TEMPORARY_NAME.sub(f"{SCHEMA}.", one) for one in how]) for thing, how in ours.items()
            }
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction) as error:
        problem = f"its schema cannot be held against ours here, which takes temporary tables ({error})".strip()
        raise LedgerUnavailableError(path, " ".join(problem.split())) from error


def _definitions(connection: Link, schema: str, parameters: tuple[str, ...]) -> dict[tuple[str, ...], tuple[str, ...]]:
    row = connection.execute(schema.encode(), parameters).fetchone()
    oid = None if row is None else row[0]
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for query in (_RELATIONS, _TRIGGERS, _FUNCTIONS):
        for name, what, where, *how in connection.execute(query.encode(), {"schema": oid}):
            found[name, what, where] = tuple(map(str, how))
    return found
