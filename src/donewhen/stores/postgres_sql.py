"""What `PostgresStore` says to the database around a transaction."""

from __future__ import annotations

# Whatever the role's or the database's default is: each statement must see what was committed before it.
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
# Each of the few questions has an index that answers it. To plan one anew each time takes longer than to answer it, and
# is done with the log's lock held; a plan that was made while a table was small must not read all of it later.
PLAN_ONCE = (
    "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false),"
    " set_config('jit', 'off', false)"
)
LOCK = "SELECT pg_advisory_xact_lock(%s)"
STATE = (
    "SELECT (SELECT max(id) FROM donewhen.entries WHERE log = %(log)s),"
    " EXISTS (SELECT 1 FROM donewhen.entries WHERE log = %(log)s AND session = %(keys)s AND id > %(size)s),"
    " s.size, s.start, s.note, s.nodes FROM (SELECT 1) AS one LEFT JOIN LATERAL"
    " (SELECT size, start, note, nodes FROM donewhen.sealed WHERE log = %(log)s AND size >= %(size)s"
    "  ORDER BY size LIMIT %(limit)s) AS s ON true ORDER BY s.size"
)
NEWEST = "SELECT size, note FROM donewhen.sealed WHERE log = %s ORDER BY size DESC LIMIT 1"
KEY_ROWS = (
    "SELECT id, body FROM donewhen.entries WHERE log = %s AND session = %s AND id > %s AND kind = 'key' ORDER BY seq"
)
LOG = "SELECT origin, vkey FROM donewhen.log WHERE log = %s"
LOGS = "SELECT log FROM donewhen.log ORDER BY log LIMIT 9"
NEW_LOG = "INSERT INTO donewhen.log (log, origin, vkey) VALUES (%s, %s, %s)"
SEAL = "INSERT INTO donewhen.sealed (log, size, start, note, nodes) VALUES (%s, %s, %s, %s, %s)"
IS_OWNER = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'donewhen.texts'::regclass"
NOTE = "SELECT note FROM donewhen.sealed WHERE log = %s AND size = %s"
