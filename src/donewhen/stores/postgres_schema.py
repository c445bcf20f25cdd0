r"""The PostgreSQL schema: tables of rows, balances, sealed states, cosignatures and texts, and views with the tutorial's columns.

`body` is what is hashed. The columns beside it are worked out from it by the database. Triggers refuse UPDATE, DELETE
and TRUNCATE, whoever asks: they stop accidents. What shows the owner of the tables is the log.

A body is not read as JSON where it is indexed: PostgreSQL's JSON refuses a lone surrogate, and to look up five fields it
would read a row five times while every other writer waits. Canonical JSON has its keys in one order, and no text in it
holds a quote without a backslash before it. So what follows the last `","seq":` is the end of the row and nothing else.
`donewhen verify` holds every such column against what the row says.
"""

from __future__ import annotations

from donewhen.entry import VISIBLE_KINDS

SCHEMA = "donewhen"

LEAST_VERSION = 14_00_00
"""The oldest PostgreSQL that knows all that is used here, as it counts its versions itself."""

_TAIL = """split_part(body, '","seq":', -1)"""
_DOUBTS = """split_part(split_part(body, ',"doubts":', -1), ',"kind":"', 1)"""

_COLUMNS = f"""
  session text COLLATE "C" NOT NULL GENERATED ALWAYS AS
    (split_part(split_part({_TAIL}, ',"session":', 2), ',"state_origin":', 1)) STORED,
  seq bigint NOT NULL GENERATED ALWAYS AS (split_part({_TAIL}, ',', 1)::bigint) STORED,
  kind text COLLATE "C" NOT NULL GENERATED ALWAYS AS
    (split_part(split_part(body, ',"kind":"', -1), '"', 1)) STORED,
  closes bigint GENERATED ALWAYS AS
    (nullif(split_part(split_part(split_part(body, ',"data":', 1), ',"closes":', 2), ',', 1), '')::bigint) STORED,
  doubts bigint GENERATED ALWAYS AS
    (substring({_DOUBTS} from '^([0-9]+),"id":[0-9]+,"input_hash":"[0-9a-f]*"$')::bigint) STORED"""

# A lone surrogate, which PostgreSQL's JSON refuses, becomes \u0008 and its digits. No row spells U+0008 so. The two
# backslashes of an escaped one are set aside meanwhile, as a character that no row holds.
_READABLE = r"""
CREATE FUNCTION {schema}.readable(body text) RETURNS json LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN strpos(body, '\ud') = 0 THEN body::json
  ELSE replace(replace(replace(body, '\\', E'\x01'), '\ud', '\u0008ud'), E'\x01', '\\')::json END;
"""

_LOG = "coalesce(nullif(current_setting('donewhen.log', true), ''), 'local')"
"""The log that the views show: set ``donewhen.log`` for another than `local`."""

_SHOWN = {
    "session_id": "readable ->> 'session'",
    "turn_count": "(readable ->> 'turn')::bigint",
    "state_origin": "readable ->> 'state_origin'",
    "input_hash": "readable ->> 'input_hash'",
    "token_delta": "(readable ->> 'tokens')::bigint",
    "execution_time_ms": "(readable ->> 'ms')::bigint",
    "pass_fail": "(readable ->> 'pass')::bigint",
    "breach_reason": "readable ->> 'breach'",
    "created_at": "readable ->> 'at'",
    "attested_at": "readable ->> 'at'",
    **{
        name: f"readable -> 'data' ->> '{name}'"
        for name in ("what_it_does", "what_it_does_not", "done_looks_like", "reviewer", "notes", "frame_hash")
    },
}


def _view(name: str, columns: tuple[str, ...], kinds: tuple[str, ...]) -> str:
    shown = ", ".join(f"{_SHOWN[column]} AS {column}" for column in columns)
    return f"""
CREATE VIEW {{schema}}.{name} AS
  SELECT id, {shown}
  FROM {{schema}}.entries, LATERAL {{schema}}.readable(body) AS readable
  WHERE log = {_LOG} AND kind IN ({", ".join(f"'{kind}'" for kind in kinds)}) ORDER BY id;
"""


_VIEWS = "".join(
    (
        _view("ledger", ("session_id", *list(_SHOWN)[1:9]), VISIBLE_KINDS),
        _view("attestations", ("session_id", "reviewer", "attested_at", "notes", "frame_hash"), ("attest",)),
        _view("spec", ("session_id", "what_it_does", "what_it_does_not", "done_looks_like", "created_at"), ("spec",)),
    )
)

_APPEND_ONLY = "".join(
    f"""
CREATE TRIGGER {table}_append_only BEFORE {what} ON {{schema}}.{table}
FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.refuse();
"""
    for table, what in (
        ("entries", "UPDATE OR DELETE OR TRUNCATE"),
        ("balances", "UPDATE OR DELETE OR TRUNCATE"),
        ("sealed", "UPDATE OR DELETE OR TRUNCATE"),
        ("log", "UPDATE OR DELETE OR TRUNCATE"),
        ("cosigned", "UPDATE OR DELETE OR TRUNCATE"),
        ("migrations", "UPDATE OR DELETE OR TRUNCATE"),
        ("texts", "DELETE OR TRUNCATE"),
    )
)

_VERSION_1 = f"""
CREATE TABLE {{schema}}.migrations (
  number integer PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE {{schema}}.log (
  log text COLLATE "C" PRIMARY KEY,
  origin text COLLATE "C" NOT NULL UNIQUE,
  vkey text COLLATE "C"
);
CREATE TABLE {{schema}}.entries (
  log text COLLATE "C" NOT NULL,
  id bigint NOT NULL,
  body text COLLATE "C" NOT NULL,{_COLUMNS},
  PRIMARY KEY (log, id)
);
CREATE UNIQUE INDEX entries_by_session ON {{schema}}.entries (log, session, seq);
CREATE UNIQUE INDEX entries_close_once ON {{schema}}.entries (log, session, closes) WHERE closes IS NOT NULL;
CREATE UNIQUE INDEX entries_doubt_once ON {{schema}}.entries (log, session, doubts) WHERE doubts IS NOT NULL;
CREATE TABLE {{schema}}.balances (
  log text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  entry_id bigint NOT NULL,
  PRIMARY KEY (log, name, entry_id)
);
CREATE TABLE {{schema}}.sealed (
  log text COLLATE "C" NOT NULL,
  size bigint NOT NULL,
  start bigint NOT NULL,
  note text COLLATE "C" NOT NULL,
  nodes bytea NOT NULL,
  PRIMARY KEY (log, size)
);
CREATE TABLE {{schema}}.cosigned (
  log text COLLATE "C" NOT NULL,
  id bigint NOT NULL,
  size bigint NOT NULL,
  vkey text COLLATE "C" NOT NULL,
  line text COLLATE "C" NOT NULL,
  at text COLLATE "C" NOT NULL,
  PRIMARY KEY (log, id),
  UNIQUE (log, size, vkey, line),
  CONSTRAINT "a cosignature is kept of a checkpoint that is stored" FOREIGN KEY (log, size) REFERENCES {{schema}}.sealed
);
CREATE TABLE {{schema}}.texts (
  log text COLLATE "C" NOT NULL,
  id bigint NOT NULL,
  entry_id bigint NOT NULL,
  label text COLLATE "C" NOT NULL,
  salt bytea NOT NULL,
  body bytea NOT NULL,
  PRIMARY KEY (log, id),
  UNIQUE (log, entry_id, label),
  CONSTRAINT "a text is kept beside a row that is stored" FOREIGN KEY (log, entry_id) REFERENCES {{schema}}.entries
);
CREATE FUNCTION {{schema}}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the ledger is append-only: % is refused on %', TG_OP, TG_TABLE_NAME;
END
$$;
CREATE FUNCTION {{schema}}.erase_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.log <> OLD.log OR NEW.id <> OLD.id OR NEW.entry_id <> OLD.entry_id OR NEW.label <> OLD.label
    OR NEW.salt <> decode(repeat('00', 32), 'hex') OR NEW.body <> decode(repeat('00', length(OLD.body)), 'hex') THEN
    RAISE EXCEPTION 'a kept text cannot be changed, only erased';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER texts_erase_only BEFORE UPDATE ON {{schema}}.texts
FOR EACH ROW EXECUTE FUNCTION {{schema}}.erase_only();
CREATE FUNCTION {{schema}}.erase_texts(of_log text, of_session text) RETURNS bigint LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH erased AS (
    UPDATE {{schema}}.texts SET salt = decode(repeat('00', 32), 'hex'), body = decode(repeat('00', length(body)), 'hex')
    WHERE log = of_log AND salt <> decode(repeat('00', 32), 'hex') AND entry_id IN
      (SELECT id FROM {{schema}}.entries WHERE session = of_session AND log = of_log)
    RETURNING 1
  ) SELECT count(*) FROM erased;
END;
REVOKE ALL ON FUNCTION {{schema}}.erase_texts(text, text) FROM PUBLIC;
{_READABLE}
{_APPEND_ONLY}
{_VIEWS}"""

MIGRATIONS: tuple[str, ...] = (_VERSION_1,)
"""Migration n brings a schema from version n to n + 1. They are never edited, only added to."""

GRANTS = """
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, INSERT ON {schema}.entries, {schema}.balances, {schema}.sealed, {schema}.cosigned, {schema}.texts, {schema}.log TO {role};
GRANT SELECT ON {schema}.migrations, {schema}.ledger, {schema}.attestations, {schema}.spec TO {role};
GRANT EXECUTE ON FUNCTION {schema}.erase_texts(text, text) TO {role};
"""
"""What the application role may do: read, and add. Erasing is a function of the owner's, which can do nothing else."""


def script(migration: str, schema: str = SCHEMA) -> str:
    """Return a migration's statements, for the schema in which they are to make their tables.

    Args:
        migration: one of `MIGRATIONS`.
        schema: its name, ``pg_temp`` for a copy that the auditor compares with.
    """
    return migration.replace("{schema}", schema)
