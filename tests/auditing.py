"""Ledgers for the auditor's tests: honest ones, and hands that change them as the owner of the file can."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from stores.kit import ORIGIN, begin

from donewhen import canonical
from donewhen.balance import Amounts, Balance
from donewhen.entry import GENESIS, Entry, link
from donewhen.errors import LedgerError
from donewhen.ledger import Draft, Ledger
from donewhen.merkle import Frontier, leaf_hash
from donewhen.notes import Checkpoint, LocalSigner, sign_note
from donewhen.stores.log import seal_nothing

SIGNER = LocalSigner(ORIGIN, b"\x01" * 32)
OTHER = LocalSigner(ORIGIN, b"\x02" * 32)
KEY = SIGNER.verifier
CEILINGS = [50, 1_000_000, None, None, None, None]


# -- honest use, at the level of the ledger ---------------------------------------------------------------------------


def made_entry(kind: str, session: str, **fields: Any) -> Entry:
    return Entry(kind=kind, session_id=session, state_origin=kind, **fields)


def start(ledger: Ledger, session: str) -> None:
    answers = SimpleNamespace(what_it_does="a", what_it_does_not="b", done_looks_like="c é 日", session_id=session)
    spec = ledger.write_spec(answers, terms={"n": 1})
    data = {"spec_hash": spec.data["spec_hash"], "ceilings": CEILINGS, "owner": "h:1:1", "resumes": False}
    ledger.note(Draft(made_entry("open", session, data={**data, "terms": {"n": 1}, "protected": {}})))


def reserve(session: str, tokens: int = 100) -> Callable[[Balance], Draft]:
    data = {"reserve": [1, tokens, None, 0], "model": "m", "max_tokens": 10, "input_bound": 90, "attempt": 1}
    return lambda _: Draft(made_entry("reserve", session, turn_count=1, data=data), {"request": "a question"})


def reply(session: str, seq: int, tokens: int, held: Amounts) -> Draft:
    usage = {"input": tokens - 1, "output": 1, "cache_read": 0, "cache_write": 0}
    tools = [{"id": "t1", "name": "fetch", "args_hash": "ab" * 32, "held": False, "run": True}]
    data: dict[str, Any] = {"model": "m", "usage": usage, "cost_microusd": None, "attempt": 1, "tools": tools}
    if tokens > held.tokens:
        data["over_reservation"] = tokens - held.tokens
    return Draft(made_entry("llm", session, turn_count=1, token_delta=tokens, closes=seq, data=data))


def settle(ledger: Ledger, session: str, seq: int, tokens: int, *, end: bool = False) -> None:
    def finish(_: Balance) -> Draft:
        return Draft(
            made_entry("close", session, data={"outcome": "done", "reason": "it is"}), {"output": "the report"}
        )

    ledger.close_reservation(session, seq, lambda _, held: (reply(session, seq, tokens, held), [finish] if end else []))


def abandon(ledger: Ledger, session: str, seq: int) -> None:
    draft = Draft(made_entry("abandoned", session, doubts=seq, data={"attempt": 1, "problem": "gone"}))
    ledger.doubt_reservation(session, seq, draft)


def fill(path: Path | str, signer: LocalSigner | None = SIGNER, *, is_ours: bool = True) -> None:
    """Write the ledger of 16 rows in 13 commits that the attacks are made on; `s` ends, `u` is left open.

    Its log is `ORIGIN`, or has a name of its own where it `is_ours` not.
    """
    if is_ours:
        begin(path, signer)
    with Ledger(path, signer=signer) as ledger:
        start(ledger, "s")  # rows 1, 2
        first = ledger.admit("s", reserve("s"))  # 3
        settle(ledger, "s", first.seq, 90)  # 4
        result = {"call": "t1", "name": "fetch", "args_hash": "ab" * 32, "result_hash": "cd" * 32, "is_error": False}
        second = ledger.admit("s", reserve("s"), [Draft(made_entry("tool", "s", data=result))])  # 5, 6 together
        ledger.write("w", 1, "step", "input", 5, 7, True)  # 7
        settle(ledger, "s", second.seq, 120, end=True)  # 8, 9 together: over its reservation, and the end
        ledger.attest("s", "Ada", "ef" * 32, "good")  # 10
        start(ledger, "u")  # 11, 12
        third = ledger.admit("u", reserve("u"))  # 13
        abandon(ledger, "u", third.seq)  # 14
        ledger.raise_ceilings("u", {"tokens": 2_000_000}, why="more", who="Ada")  # 15
        ledger.admit("u", reserve("u"))  # 16: open, and nobody closes it


ROWS = 16


# -- what the owner of the file can do ---------------------------------------------------------------------------------


def attack(path: Path, *statements: str | tuple[str, tuple[object, ...]]) -> None:
    """Change a ledger as the owner of its file can: triggers dropped, and put back as they were."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            sql, values = (statement, ()) if isinstance(statement, str) else statement
            connection.execute(sql, values)
        for _, sql in triggers:
            connection.execute(sql)


def body_of(path: Path, row_id: int) -> dict[str, Any]:
    with closing(sqlite3.connect(path)) as connection:
        [body] = connection.execute("SELECT body FROM entries WHERE id = ?", (row_id,)).fetchone()
    return json.loads(body)


def rewrite(path: Path, row_id: int, **changes: Any) -> None:
    """Edit a row and keep it canonical; a change by the name of a field of its data goes there."""
    body = body_of(path, row_id)
    for name, value in changes.items():
        place = body if name in body or name in ("closes", "doubts") or "data" not in body else body["data"]
        place[name] = value
    attack(path, ("UPDATE entries SET body = ? WHERE id = ?", (canonical.dumps(body).decode(), row_id)))


def attack_data(path: Path, row_id: int, data: dict[str, Any]) -> None:
    body = {**body_of(path, row_id), "data": data}
    attack(path, ("UPDATE entries SET body = ? WHERE id = ?", (canonical.dumps(body).decode(), row_id)))


def empty_seal(path: Path, signer: LocalSigner | None) -> tuple[str, tuple[object, ...]]:
    """Return what stores the checkpoint of no rows."""
    with closing(sqlite3.connect(path)) as connection:
        [origin] = connection.execute("SELECT origin FROM log").fetchone()
    return "INSERT INTO sealed VALUES (?, ?, ?, ?)", (0, 0, seal_nothing(origin, signer).note, b"")


def reseal(path: Path, signer: LocalSigner | None, *, relink: bool = True) -> None:
    """Rewrite everything from the rows as they are: the chains, the tree and the checkpoints."""
    with closing(sqlite3.connect(path)) as connection:
        [origin] = connection.execute("SELECT origin FROM log").fetchone()
        bodies = [json.loads(body) for (body,) in connection.execute("SELECT body FROM entries ORDER BY id")]
    heads: dict[str, str] = {}
    frontier, rows, sealed = Frontier(), [], []
    for number, body in enumerate(bodies, 1):
        if relink:
            body.update(id=number, prev=heads.get(body["session"], GENESIS))
        spelled = canonical.dumps(body)
        heads[body["session"]] = link(leaf_hash(spelled))
        nodes = b"".join(frontier.append(leaf_hash(spelled)))
        text = Checkpoint(origin, number, frontier.root()).text()
        rows.append(("INSERT INTO entries (id, body) VALUES (?, ?)", (number, spelled.decode())))
        note = text if signer is None else sign_note(text, signer)
        sealed.append(("INSERT INTO sealed VALUES (?, ?, ?, ?)", (number, number - 1, note, nodes)))
    attack(path, "DELETE FROM sealed", "DELETE FROM entries", *rows, empty_seal(path, signer), *sealed)


def seal_as_it_is(path: Path, signer: LocalSigner | None = None, *, rows: int = 1) -> None:
    """Work out the tree and the checkpoints anew over the bodies as they are stored, so many rows in a commit."""
    with closing(sqlite3.connect(path)) as connection:
        [origin] = connection.execute("SELECT origin FROM log").fetchone()
        found = connection.execute("SELECT CAST(body AS BLOB) FROM entries ORDER BY id").fetchall()
    frontier, sealed, nodes, start = Frontier(), [], b"", 0
    for size, (body,) in enumerate(found, 1):
        nodes += b"".join(frontier.append(leaf_hash(body)))
        if size % rows and size != len(found):
            continue
        text = Checkpoint(origin, size, frontier.root()).text()
        note = text if signer is None else sign_note(text, signer)
        sealed.append(("INSERT INTO sealed VALUES (?, ?, ?, ?)", (size, start, note, nodes)))
        nodes, start = b"", size
    attack(path, "DELETE FROM sealed", empty_seal(path, signer), *sealed)


def append_honestly(path: Path, signer: LocalSigner | None = SIGNER) -> None:
    """Go on as if nothing had happened; the writer may refuse, but must not launder."""
    try:
        with Ledger(path, signer=signer) as ledger:
            for session in ("new", "w", "s", "u"):
                ledger.write(session, 1, "step", "after the attack", 1, 1, True)
            settle(ledger, "u", 6, 50)
    except LedgerError:
        return


def insert(row_id: int, **fields: Any) -> tuple[str, tuple[object, ...]]:
    body = {"at": "2026-01-01T00:00:00+00:00", "id": row_id, "input_hash": "", "kind": "write", "ms": 0}
    body |= {"pass": 1, "prev": GENESIS, "seq": 1, "session": "x", "state_origin": "x", "tokens": 0, "turn": 0, "v": 1}
    return "INSERT INTO entries (id, body) VALUES (?, ?)", (row_id, canonical.dumps(body | fields).decode())


def swap(path: Path) -> None:
    one, two = body_of(path, 7), body_of(path, 10)
    changes = [(canonical.dumps(body).decode(), at) for body, at in ((one, 10), (two, 7))]
    attack(
        path,
        "DELETE FROM entries WHERE id IN (7, 10)",
        *[("INSERT INTO entries (body, id) VALUES (?, ?)", c) for c in changes],
    )


def renumber(path: Path) -> None:
    bodies = [body_of(path, row_id) for row_id in range(8, ROWS + 1)]
    moved = [insert(body["id"] - 1, **{**body, "id": body["id"] - 1}) for body in bodies]
    texts = "UPDATE texts SET entry_id = entry_id - 1 WHERE entry_id >= 8"
    attack(path, "PRAGMA foreign_keys = OFF", texts, "DELETE FROM entries WHERE id >= 7", *moved)


def forge_last(path: Path, signer: LocalSigner | None) -> None:
    """Slip in a row and a checkpoint that fits it, signed by somebody else or by nobody."""
    with closing(sqlite3.connect(path)) as connection:
        [origin] = connection.execute("SELECT origin FROM log").fetchone()
        leaves = [leaf_hash(body.encode()) for (body,) in connection.execute("SELECT body FROM entries ORDER BY id")]
    row = insert(ROWS + 1)
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    nodes = b"".join(frontier.append(leaf_hash(str(row[1][1]).encode())))
    text = Checkpoint(origin, ROWS + 1, frontier.root()).text()
    note = text if signer is None else sign_note(text, signer)
    attack(path, row, ("INSERT INTO sealed VALUES (?, ?, ?, ?)", (ROWS + 1, ROWS, note, nodes)))


def flip(column: str, size: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            [value] = connection.execute(f"SELECT {column} FROM sealed WHERE size = ?", (size,)).fetchone()
        spelled = value if isinstance(value, bytes) else value[:-40] + value[-40:-30].swapcase() + value[-30:]
        changed = bytes([value[0] ^ 1]) + value[1:] if isinstance(value, bytes) else spelled
        attack(path, (f"UPDATE sealed SET {column} = ? WHERE size = ?", (changed, size)))

    return change


def spend_less(path: Path) -> None:
    after = body_of(path, 16)["after"]
    after[0]["reserved"][1] -= 50
    rewrite(path, 16, after=after)


def bodies(path: Path) -> Iterator[bytes]:
    with Ledger(path, read_only=True) as ledger:
        yield from (body for _, body in ledger.store.iter_bodies())
