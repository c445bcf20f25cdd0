"""Reservations and settlements a second, of many processes on one hot log, beside a bare conditional UPDATE.

    python benchmarks/stores.py [--postgres URL]

Every process has a session of its own in one log, reserves and settles, signed and sealed. The yardstick does what a
counter needs and no more: it raises a number if it stays under a ceiling, and inserts a row of the same size, in one
transaction. Both wait for the disk, and both run in the same minute on the same server. Without --postgres only SQLite
is measured. The database must have a ledger's schema (`donewhen store init`), and the role may make a table.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sqlite3
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from common import ROW, scratch, show

from donewhen.balance import Balance
from donewhen.entry import Entry
from donewhen.ledger import Draft, Ledger
from donewhen.notes import LocalSigner

PROCESSES = (1, 4, 16)
SEED = bytes(32)
CEILINGS = [None, 10**12, None, None, None, None]
RESERVE = {"reserve": [1, 100, None, 0], "model": "m", "max_tokens": 10, "input_bound": 90, "attempt": 1}
USED = {"model": "m", "usage": {"input": 80, "output": 10, "cache_read": 0, "cache_write": 0}, "cost_microusd": None}

Step = Callable[[], object]


def ledger_step(place: str, number: int) -> Step:
    """Return what reserves and, the next time, settles: each is one transaction."""
    ledger = Ledger(place, signer=LocalSigner("bench", SEED))
    session = f"session-{number}-{os.getpid()}"
    opening = {"spec_hash": "0" * 64, "ceilings": CEILINGS, "owner": "h:1:1", "resumes": False}
    ledger.note(Draft(Entry(kind="open", session_id=session, state_origin="open", data=opening)))
    held: list[int] = []

    def reserve(_: Balance) -> Draft:
        return Draft(Entry(kind="reserve", session_id=session, state_origin="reserve", turn_count=1, data=RESERVE))

    def settle(seq: int) -> Any:
        llm = Entry(
            kind="llm", session_id=session, state_origin="llm", turn_count=1, token_delta=90, closes=seq,
            data={**USED, "stop_reason": "end_turn", "attempt": 1},
        )  # fmt: skip
        return lambda _balance, _held: (Draft(llm), [])

    def step() -> None:
        if held:
            seq = held.pop()
            ledger.close_reservation(session, seq, settle(seq))
        else:
            held.append(ledger.admit(session, reserve).seq)

    return step


def bare_sqlite(path: str, _number: int) -> Step:
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute("PRAGMA synchronous = FULL")

    def step() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE counter SET used = used + 1 WHERE id = 1 AND used + 1 <= ceiling")
        connection.execute("INSERT INTO bare (body) VALUES (?)", (ROW,))
        connection.execute("COMMIT")

    return step


def bare_postgres(url: str, _number: int) -> Step:
    import psycopg

    connection = psycopg.connect(url.partition("#")[0], autocommit=True)

    def step() -> None:
        connection.execute("BEGIN")
        connection.execute("UPDATE bare_counter SET used = used + 1 WHERE id = 1 AND used + 1 <= ceiling")
        connection.execute("INSERT INTO bare (body) VALUES (%s)", (ROW,))
        connection.execute("COMMIT")

    return step


def work(make: Callable[[int], Step], number: int, seconds: float, ready: Any, results: Any) -> None:
    step = make(number)
    step()
    step()
    ready.wait()
    done, worst, begun = 0, 0.0, time.perf_counter()
    while (at := time.perf_counter()) - begun < seconds:
        step()
        done += 1
        worst = max(worst, time.perf_counter() - at)
    results.put((done, worst))


def measure(makes: list[Callable[[int], Step]], seconds: float) -> tuple[float, float]:
    """Run one process for each, all at once; return steps a second and the longest step."""
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(len(makes)), context.Queue()
    processes = [
        context.Process(target=work, args=(make, number, seconds, ready, results)) for number, make in enumerate(makes)
    ]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(done for done, _ in found) / seconds, max(worst for _, worst in found)


def prepare_sqlite(folder: Path) -> tuple[str, str]:
    bare = str(folder / "bare.db")
    connection = sqlite3.connect(bare)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE counter (id INTEGER PRIMARY KEY, used INTEGER, ceiling INTEGER)")
    connection.execute("INSERT INTO counter VALUES (1, 0, 1000000000)")
    connection.execute("CREATE TABLE bare (id INTEGER PRIMARY KEY, body TEXT)")
    connection.commit()
    connection.close()
    return str(folder / "ledger.db"), bare


def prepare_postgres(url: str) -> None:
    import psycopg

    with psycopg.connect(url.partition("#")[0], autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS bare, bare_counter")
        connection.execute("CREATE TABLE bare_counter (id int PRIMARY KEY, used bigint, ceiling bigint)")
        connection.execute("INSERT INTO bare_counter VALUES (1, 0, 1000000000)")
        connection.execute("CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)")


def compare(title: str, ours: Callable[[int], Step], bare: Callable[[int], Step], options: Any) -> None:
    rows: list[tuple[str, str]] = []
    for count in PROCESSES:
        seen: dict[str, list[tuple[float, float]]] = {"ledger": [], "bare": []}
        for _ in range(options.rounds):
            for name, make in (("ledger", ours), ("bare", bare)):
                seen[name].append(measure([make] * count, options.seconds))
        each = {name: statistics.median(rate for rate, _ in found) for name, found in seen.items()}
        worst = {name: max(wait for _, wait in found) for name, found in seen.items()}
        processes = "1 process" if count == 1 else f"{count} processes"
        rows.append((f"{processes}, ledger", f"{each['ledger']:,.0f} a second, worst wait {worst['ledger']:.3f} s"))
        rows.append((f"{processes}, bare", f"{each['bare']:,.0f} a second, worst wait {worst['bare']:.3f} s"))
        rows.append((f"{processes}, ledger for each bare", f"{each['ledger'] / each['bare']:.0%}"))
    show(title, rows, as_json=options.json)


def compare_logs(url: str, options: Any) -> None:
    """Four logs with four writers each, beside one log with four."""
    run = os.getpid()
    one = [partial(ledger_step, f"{url}#one-{run}")] * 4
    four = [partial(ledger_step, f"{url}#four-{run}-{number // 4}") for number in range(16)]
    rates = [(measure(one, options.seconds)[0], measure(four, options.seconds)[0]) for _ in range(options.rounds)]
    alone, together = (statistics.median(column) for column in zip(*rates, strict=True))
    rows = [
        ("one log, four writers", f"{alone:,.0f} a second"),
        ("four logs, four writers each", f"{together:,.0f} a second"),
        ("times as many", f"{together / alone:.2f}"),
    ]
    show("Logs beside each other on PostgreSQL", rows, as_json=options.json)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of both, interleaved")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of a round")
    parser.add_argument("--folder", type=Path, default=None, help="a folder on the disk to measure")
    parser.add_argument("--postgres", metavar="URL", help="a PostgreSQL database with a ledger's schema")
    parser.add_argument("--json", action="store_true", help="print one JSON object a table")
    options = parser.parse_args()
    with scratch(options.folder or Path.cwd()) as folder:
        ledger, bare = prepare_sqlite(folder)
        compare("One hot log on SQLite", partial(ledger_step, ledger), partial(bare_sqlite, bare), options)
    if options.postgres:
        url = options.postgres.partition("#")[0]
        prepare_postgres(url)
        ours = partial(ledger_step, f"{url}#hot-{os.getpid()}")
        compare("One hot log on PostgreSQL", ours, partial(bare_postgres, url), options)
        compare_logs(url, options)


if __name__ == "__main__":
    main()
