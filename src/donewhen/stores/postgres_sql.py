"""What `PostgresStore` says to the database around a transaction."""

from __future__ import annotations

from collections.abc import Iterable

# Whatever the role's or the database's default is: each statement must see what was committed before it.
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
COMMIT = "COMMIT"
# Each of the few questions has an index that answers it. To plan one anew each time takes longer than to answer it, and
# is done with the log's lock held; a plan that was made while a table was small must not read all of it later.
PLAN_ONCE = (
    "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false),"
    " set_config('jit', 'off', false)"
)
LOCK = "SELECT pg_advisory_xact_lock(%s::bigint)"

# Each row comes with the sealed state that covers it, against which it is held.
_SEALED_OVER = (
    " LEFT JOIN LATERAL (SELECT size, start, note, nodes FROM donewhen.sealed WHERE log = $1 AND size >= {row}.id"
    " ORDER BY size LIMIT 1) AS {name} ON true"
)
_ONE = (
    "SELECT e.id, e.body, s.size, s.start, s.note, s.nodes FROM"
    " (SELECT id, body FROM donewhen.entries WHERE log = $1 AND session = $2 AND {number} = $3) AS e"
    + _SEALED_OVER.format(row="e", name="s")
)

# What a transaction says is sent in two strings of several statements, each with its values in it: so it is two
# exchanges, and the process wakes up twice. Statements that were prepared cost little to name.
_PREPARED = {
    "state (text, text, bigint, bigint)": "SELECT (SELECT max(id) FROM donewhen.entries WHERE log = $1),"
    " EXISTS (SELECT 1 FROM donewhen.entries WHERE log = $1 AND session = $2 AND id > $3),"
    " s.size, s.start, s.note, s.nodes FROM (SELECT 1) AS one LEFT JOIN LATERAL"
    " (SELECT size, start, note, nodes FROM donewhen.sealed WHERE log = $1 AND size >= $3"
    "  ORDER BY size LIMIT $4) AS s ON true ORDER BY s.size",
    "newest (text, text[], bigint[], bigint[])": "SELECT w.name, own.id, own.body, b.entry_id, other.body"
    " FROM unnest($2, $3, $4) AS w (name, own_id, other_id)"
    " LEFT JOIN LATERAL (SELECT id, body FROM donewhen.entries WHERE log = $1 AND session = w.name"
    "  ORDER BY seq DESC LIMIT 1) AS own ON own.id <> w.own_id"
    " LEFT JOIN LATERAL (SELECT entry_id FROM donewhen.balances WHERE log = $1 AND name = w.name"
    "  ORDER BY entry_id DESC LIMIT 1) AS b ON b.entry_id <> w.other_id"
    " LEFT JOIN donewhen.entries AS other ON other.log = $1 AND other.id = b.entry_id"
    " WHERE own.id IS NOT NULL OR b.entry_id IS NOT NULL",
    "touched (text, text, bigint)": "SELECT own.id, own.body, s.size, s.start, s.note, s.nodes,"
    " other.id, other.body, t.size, t.start, t.note, t.nodes FROM (SELECT 1) AS one"
    " LEFT JOIN LATERAL (SELECT id, body FROM donewhen.entries WHERE log = $1 AND session = $2"
    "  AND id <= $3 ORDER BY seq DESC LIMIT 1) AS own ON true"
    " LEFT JOIN LATERAL (SELECT entry_id AS id, body FROM donewhen.balances AS b"
    "  LEFT JOIN donewhen.entries AS e ON e.log = $1 AND e.id = b.entry_id"
    "  WHERE b.log = $1 AND name = $2 AND entry_id <= $3 ORDER BY entry_id DESC LIMIT 1) AS other ON true"
    + _SEALED_OVER.format(row="own", name="s")
    + _SEALED_OVER.format(row="other", name="t"),
    **{f"by_{number} (text, text, bigint)": _ONE.replace("{number}", number) for number in ("seq", "closes", "doubts")},
    "sealed_at (text, bigint)": "SELECT size, start, note, nodes FROM donewhen.sealed WHERE log = $1 AND size > $2"
    " ORDER BY size LIMIT 1",
    "add_row (text, bigint, text)": "INSERT INTO donewhen.entries (log, id, body) VALUES ($1, $2, $3)",
    "list_balance (text, text, bigint)": "INSERT INTO donewhen.balances (log, name, entry_id) VALUES ($1, $2, $3)",
    "seal (text, bigint, bigint, text, bytea)": "INSERT INTO donewhen.sealed (log, size, start, note, nodes)"
    " VALUES ($1, $2, $3, $4, $5)",
}
PREPARE = ";".join(f"PREPARE {name} AS {statement}" for name, statement in _PREPARED.items()).encode()
"""What a connection is told before it writes."""

STATE = "EXECUTE state (%s, %s, %s, %s)"
"""How many rows there are, whether one about keys is new, and the sealed states from a size on."""
NEWEST = "EXECUTE newest (%s, %s, %s, %s)"
"""Of some sessions and budgets the newest rows that touched them, where they are others than those that are known."""
TOUCHED = "EXECUTE touched (%s, %s, %s)"
BY_SEQ, CLOSING, DOUBTING = (f"EXECUTE by_{number} (%s, %s, %s)" for number in ("seq", "closes", "doubts"))
SEALED_AT = "EXECUTE sealed_at (%s, %s)"
ADD_ROW = "EXECUTE add_row (%s, %s, %s)"
LIST_BALANCE = "EXECUTE list_balance (%s, %s, %s)"
SEAL = "EXECUTE seal (%s, %s, %s, %s, %s)"
NEWEST_SEALED = "SELECT size, note FROM donewhen.sealed WHERE log = %s ORDER BY size DESC LIMIT 1"
KEY_ROWS = (
    "SELECT id, body FROM donewhen.entries WHERE log = %s AND session = %s AND id > %s AND kind = 'key' ORDER BY seq"
)
LOG = "SELECT origin, vkey FROM donewhen.log WHERE log = %s"
LOGS = "SELECT log FROM donewhen.log ORDER BY log LIMIT 9"
NEW_LOG = "INSERT INTO donewhen.log (log, origin, vkey) VALUES (%s, %s, %s)"
IS_OWNER = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'donewhen.texts'::regclass"
NOTE = "SELECT note FROM donewhen.sealed WHERE log = %s AND size = %s"


def array_of(values: Iterable[object]) -> str:
    """Return an array as PostgreSQL spells it."""
    return "{" + ",".join(['"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values]) + "}"
