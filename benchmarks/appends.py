"""What a durable signed append costs, beside a bare durable commit in the same run.

    python benchmarks/appends.py

An append is one row in a commit of its own, as `Ledger.write` makes it: placed, chained, hashed into the tree, sealed
by a signed checkpoint. A bare commit is one insert of a text of the same size. "Without sync" is what is left when the
disk is not waited for: the ledger itself has no such setting.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from common import arguments, bare_commit, bare_database, disks, interleaved, microseconds_each, scratch, show

from donewhen import Ledger
from donewhen.entry import Entry
from donewhen.ledger import Draft
from donewhen.notes import LocalSigner
from donewhen.texts import hash_input


def appends(folder: Path, name: str, *, signed: bool, sync: bool) -> Callable[[int], object]:
    signer = LocalSigner.generate("donewhen/log/bench") if signed else None
    ledger = Ledger(folder / f"{name}.db", signer=signer)
    set_sync(ledger.store._connections.writer, sync)
    return lambda number: ledger.write("session", number, "llm", "what was said", 110, 12, pass_fail=True)


def ten_to_a_commit(folder: Path, *, sync: bool) -> Callable[[int], object]:
    """Return what writes ten rows under one seal every tenth time, and nothing in between."""
    ledger = Ledger(folder / f"ten-{sync}.db", signer=LocalSigner.generate("donewhen/log/bench"))
    set_sync(ledger.store._connections.writer, sync)
    entry = Entry(
        kind="write",
        session_id="session",
        state_origin="llm",
        input_hash=hash_input("what was said"),
        token_delta=110,
        execution_time_ms=12,
    )
    return lambda number: ledger.note(*[Draft(entry)] * 10) if number % 10 == 9 else None


def bare(folder: Path, name: str, *, sync: bool) -> Callable[[int], object]:
    connection = bare_database(folder / f"{name}.db")
    set_sync(connection, sync)
    return lambda _: bare_commit(connection)


def set_sync(connection: sqlite3.Connection, sync: bool) -> None:
    connection.execute(f"PRAGMA synchronous = {'FULL' if sync else 'OFF'}")


def measure(name: str, folder: Path, options: Any) -> None:
    contestants: dict[str, Callable[[int], object]] = {
        "bare commit": bare(folder, "bare", sync=True),
        "signed append": appends(folder, "signed", signed=True, sync=True),
        "signed append, ten to a commit": ten_to_a_commit(folder, sync=True),
        "unsigned append": appends(folder, "unsigned", signed=False, sync=True),
        "bare commit, without sync": bare(folder, "bare-careless", sync=False),
        "signed append, without sync": appends(folder, "signed-careless", signed=True, sync=False),
        "signed append, ten to a commit, without sync": ten_to_a_commit(folder, sync=False),
        "unsigned append, without sync": appends(folder, "unsigned-careless", signed=False, sync=False),
    }
    timed = {what: partial(microseconds_each, do, options.turns) for what, do in contestants.items()}
    medians = interleaved(timed, options.rounds)
    rows = [(what, f"{each:,.0f} µs, {1e6 / each:,.0f} a second") for what, each in medians.items()]
    for suffix in ("", ", without sync"):
        share = medians[f"bare commit{suffix}"] / medians[f"signed append{suffix}"]
        rows.append((f"signed appends for each bare commit{suffix}", f"{share:.0%}"))
    show(f"Appends on the {name}", rows, as_json=options.json)


def main() -> None:
    options = arguments(__doc__ or "")
    for name, place in disks(options.folder).items():
        with scratch(place) as folder:
            measure(name, folder, options)


if __name__ == "__main__":
    main()
