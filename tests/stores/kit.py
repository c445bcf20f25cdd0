"""Stores for tests: how each is opened, what is written to them, and processes that write beside this one."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from postgres_server import APP, url_of, worker_database
from processes import ending, finish, let_go_together

from donewhen.balance import Amounts, Balance, Ceilings
from donewhen.entry import GENESIS, Entry, LedgerRow, decode, link
from donewhen.ledger import Ledger, utc_now
from donewhen.merkle import leaf_hash, root_of
from donewhen.notes import Checkpoint, LocalSigner, Verifier, open_note
from donewhen.stores import Store
from donewhen.stores.sqlite import SQLiteStore

ORIGIN = f"donewhen/{'a' * 13}"
"""The name of a log that `begin` begins."""

SIGNER = LocalSigner(ORIGIN, bytes(32))
STRANGER = LocalSigner(ORIGIN, bytes(31) + b"\1")

TRIGGERS = "SELECT name FROM sqlite_master WHERE type = 'trigger'"


def open_sqlite(path: Path, **options: Any) -> SQLiteStore:
    defaults: dict[str, Any] = {"signer": None, "now": utc_now, "random": os.urandom}
    return SQLiteStore(str(path), **{**defaults, **options})


def open_postgres(path: Path, **options: Any) -> Store:
    """Open the log of a folder in the worker's database, as the application, which may only read and add."""
    from donewhen.stores.postgres import PostgresStore

    defaults: dict[str, Any] = {"signer": None, "now": utc_now, "random": os.urandom}
    return PostgresStore(postgres_url(path), **{**defaults, **options})


def postgres_url(path: Path, **options: str) -> str:
    """Return the URL of the log of a folder, as the application."""
    return url_of(worker_database(), role=APP, log=path.parent.name, **options)


STORES: dict[str, Callable[..., Store]] = {"sqlite": open_sqlite, "postgres": open_postgres}
"""By name: opens the store of a test, in its folder. The same folder is the same store, opened again."""


def begin(path: Path | str, signer: LocalSigner | None = SIGNER) -> None:
    """Make an empty ledger whose log is `ORIGIN`: of a signer of that name, the log's public key is its own."""
    Ledger(path, signer=signer, random=bytes).close()


def key_of(path: Path | str, signer: LocalSigner = SIGNER) -> Verifier:
    """Return the public key of a log that a signer signs: its key, under the log's name."""
    with Ledger(path, read_only=True) as ledger:
        return Verifier.parse(signer.vkey).named(ledger.origin)


def an_entry(session_id: str = "s", kind: str = "write", **fields: Any) -> Entry:
    return Entry(kind=kind, session_id=session_id, state_origin=fields.pop("state_origin", kind), **fields)


def a_balance(name: str = "s", tokens: int = 0) -> Balance:
    return Balance(name, Amounts(1, tokens, 0, 0), Amounts(), Ceilings(5, 100))


def add(store: Store, *entries: Entry) -> list[LedgerRow]:
    """Append entries in one transaction."""
    with store.writing() as tx:
        return [tx.append(entry, ()) for entry in entries]


def say(ledger: Ledger, what: str = "note", session_id: str = "s") -> int:
    """Write one of the tutorial's rows."""
    return ledger.write(session_id, 1, what, "input", 1, 1, True)


def said(path: Path | str) -> list[str]:
    """Return what was said, in order, as somebody sees it who opens the file anew."""
    with Ledger(path, read_only=True) as ledger:
        return [row.state_origin for row in ledger.get_all()]


def tamper(path: Path, *statements: str) -> None:
    """Change the file as its owner can: without the triggers."""
    with closing(sqlite3.connect(path)) as raw, raw:
        for (name,) in raw.execute(TRIGGERS).fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            raw.execute(statement)


@contextmanager
def start(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start a Python process in which every warning is an error; it does not outlive the block."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with ending(process):
        yield process


def run(script: str, *arguments: object) -> str:
    """Run a process that must end well, and return what it printed."""
    with start(script, *arguments) as process:
        return finish(process)[0]


def run_together(count: int, script: str, *arguments: object) -> list[str]:
    """Run processes that are all let go at the same moment, and return what each printed.

    Each is given its number as the last argument; it prints one line when it is ready, and waits for one.
    """
    with ExitStack() as stack:
        processes = [stack.enter_context(start(script, *arguments, number)) for number in range(count)]
        let_go_together(processes)
        return finish(*processes)


WRITER = """
import sys
from donewhen.ledger import Ledger
from stores.kit import SIGNER
print("ready", flush=True)
sys.stdin.readline()
with Ledger(sys.argv[1], signer=SIGNER) as ledger:
    ids = [ledger.write(sys.argv[3], number, "x", "x", 1, 1, True) for number in range(int(sys.argv[2]))]
    print(ledger.origin, max((after - before - 1 for before, after in zip(ids, ids[1:])), default=0))
"""
"""Writes so many rows in a session of its number; says the log, and how many rows of others came between two of them at most."""

SPEAKER = """
import os, signal, sys
from donewhen.ledger import Ledger
from stores.kit import SIGNER
ledger = Ledger(sys.argv[1], signer=SIGNER)
at, number = sys.argv[2], int(sys.argv[3])
def trace(sql):
    if sql.startswith(at):
        os.kill(os.getpid(), signal.SIGKILL)
for count in range(number, number + 1000):
    if at and count == number + 3:
        ledger.store._connections.writer.set_trace_callback(trace)
    print(ledger.write("s", count, str(count), "x", 1, 1, True), flush=True)
    if at == "after" and count == number + 3:
        os.kill(os.getpid(), signal.SIGKILL)
"""
"""Writes rows from a number on and says each once it is written; on SQLite, kills itself at a chosen statement."""


def assert_whole(path: Path | str, sessions: dict[str, int]) -> None:
    """Assert that every session has its rows, in its chain, and that the newest checkpoint covers all of them."""
    with Ledger(path, read_only=True) as ledger:
        bodies = [body for _, body in ledger.store.iter_bodies()]
        rows = [decode(body, strict=True) for body in bodies]
        assert Counter(row.session_id for row in rows) == sessions
        assert [row.id for row in rows] == list(range(1, len(rows) + 1))
        heads: dict[str, tuple[int, str]] = {}
        for row, body in zip(rows, bodies, strict=True):
            assert (row.seq - 1, row.prev) == heads.get(row.session_id, (0, GENESIS))
            heads[row.session_id] = (row.seq, link(leaf_hash(body)))
        note = list(ledger.store.iter_sealed())[-1].note
        text = note if ledger.signed_by is None else open_note(note, SIGNER.verifier.named(ledger.origin))
        assert Checkpoint.parse(text) == Checkpoint(ledger.origin, len(rows), root_of(map(leaf_hash, bodies)))
