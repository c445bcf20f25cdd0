"""Reservations and settlements a second, of many processes on one hot budget, beside a bare conditional UPDATE.

    python benchmarks/stores.py [--postgres URL]

Every process has a session of its own under one budget, reserves and settles, signed and sealed. The yardstick does what
a counter needs and no more: it raises a number if it stays under a ceiling, and inserts a row of the same size, in one
transaction. Both wait for the disk, and both run in the same minute on the same server, round by round; a share is the
median of the rounds' shares. On SQLite whoever has written writes again before others, who wait for seconds; so a second
yardstick there does the same in the ledger's queue. Without --postgres only SQLite is measured. The database must have a
ledger's schema (`donewhen store init`), and the role may make a table.

The floor stands between the two: with the ledger's own statements it stores rows, balances and seals of their sizes, and
makes one signature for each commit, but it judges, hashes and works out nothing. No ledger that stores these rows, each
commit signed, can be quicker.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sqlite3
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count as count_from
from pathlib import Path
from typing import Any

from common import ROW, scratch, show

from donewhen.balance import Balance
from donewhen.entry import GENESIS, Entry
from donewhen.ledger import Draft, Ledger
from donewhen.notes import LocalSigner
from donewhen.stores.lock import Turnstile

PROCESSES = (1, 4, 16)
LOGS = 4
SEED = bytes(32)
BUDGET = "hot"
CEILINGS = [None, 10**12, None, None, None, None]
TOKENS = 100
RESERVE = {"reserve": [1, TOKENS, None, 0], "model": "m", "max_tokens": 10, "input_bound": 90, "attempt": 1}
USED = {"model": "m", "usage": {"input": 80, "output": 10, "cache_read": 0, "cache_write": 0}, "cost_microusd": None}

NOTE = "x" * 150
NEWEST = "SELECT coalesce(max(id), 0) FROM donewhen.entries WHERE log = %s"
LOCK = 1

Step = Callable[[], object]
Make = Callable[[int], Step]


def begin(place: str) -> Make:
    """Begin a ledger with its budget, and return what makes the step of each process."""
    with Ledger(place, signer=LocalSigner("bench", SEED)) as ledger:
        ledger.new_budget(BUDGET, tokens=10**12, who="bench")
    return partial(ledger_step, place)


def ledger_step(place: str, number: int) -> Step:
    """Return what reserves and, the next time, settles: each is one transaction."""
    ledger = Ledger(place, signer=LocalSigner("bench", SEED))
    session = f"session-{number}-{os.getpid()}"
    opening = {"spec_hash": "0" * 64, "ceilings": CEILINGS, "owner": "h:1:1", "resumes": False, "budget": BUDGET}
    ledger.note(Draft(Entry(kind="open", session_id=session, state_origin="open", data=opening)))
    held: list[int] = []

    def reserve(balances: Sequence[Balance]) -> Draft:
        assert all(one.used_tokens + TOKENS <= (one.ceilings.tokens or 0) for one in balances)
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


def bare_in_turn(path: str, number: int) -> Step:
    """Return the same, where each waits for its turn as the ledger's writers do, so that nobody waits for seconds."""
    bare, turnstile = bare_sqlite(path, number), Turnstile(f"{path}-turns", 60)

    def step() -> None:
        turnstile.enter()
        try:
            bare()
        finally:
            turnstile.leave()

    return step


def bare_postgres(url: str, table: int, _number: int) -> Step:
    import psycopg

    connection = psycopg.connect(url, autocommit=True)
    raise_it = f"UPDATE bare_counter_{table} SET used = used + 1 WHERE id = 1 AND used + 1 <= ceiling".encode()
    insert = f"INSERT INTO bare_{table} (body) VALUES (%s)".encode()

    def step() -> None:
        connection.execute("BEGIN")
        connection.execute(raise_it)
        connection.execute(insert, (ROW,))
        connection.execute("COMMIT")

    return step


def row_of(row_id: int, session: str, seq: int) -> str:
    """Return a row for the floor: of a ledger's size, with what a database works out its columns from."""
    closes = "" if seq % 2 else f',"closes":{seq - 1}'
    return (
        f'{{"after":["{"x" * 350}"],"at":"2026-01-01T00:00:00.000000+00:00"{closes},"data":{{}},"id":{row_id},"input_hash":"",'
        f'"kind":"llm","ms":0,"pass":1,"prev":"{GENESIS}","seq":{seq},"session":"{session}","state_origin":"llm","tokens":90,'
        '"turn":1,"v":1}'
    )


def floor_sqlite(path: str, number: int) -> Step:
    """Return what stores a row, its place under the budget and a signed seal, in the ledger's queue."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute("PRAGMA synchronous = FULL")
    turnstile, signer = Turnstile(f"{path}-lock", 60), LocalSigner("bench", SEED)
    session, seqs = f"session-{number}-{os.getpid()}", count_from(1)

    def step() -> None:
        turnstile.enter()
        try:
            connection.execute("BEGIN IMMEDIATE")
            row_id = connection.execute("SELECT max(id) FROM entries").fetchone()[0] + 1
            body = row_of(row_id, session, next(seqs))
            connection.execute("INSERT INTO entries (id, body) VALUES (?, ?)", (row_id, body))
            connection.execute("INSERT INTO balances (name, entry_id) VALUES (?, ?)", (BUDGET, row_id))
            seal = (row_id, row_id - 1, NOTE + signer.sign(NOTE.encode()).hex(), bytes(64))
            connection.execute("INSERT INTO sealed (size, start, note, nodes) VALUES (?, ?, ?, ?)", seal)
            connection.execute("COMMIT")
        finally:
            turnstile.leave()

    return step


def floor_postgres(url: str, log: str, number: int) -> Step:
    """Return the same in the ledger's two exchanges, the second of which has what the first found in it."""
    import psycopg

    from donewhen.stores import postgres_sql as sql
    from donewhen.stores.postgres_connections import send

    connection = psycopg.connect(url, autocommit=True)
    connection.execute(sql.PLAN_ONCE)
    connection.execute(sql.PREPARE)
    signer, session, seqs = LocalSigner("bench", SEED), f"session-{number}-{os.getpid()}", count_from(1)

    def step() -> None:
        found = send(connection, (sql.BEGIN, ()), (sql.LOCK, (LOCK,)), (NEWEST, (log,)))
        found.nextset()
        found.nextset()
        row_id = found.fetchall()[0][0] + 1
        send(
            connection,
            (sql.ADD_ROW, (log, row_id, row_of(row_id, session, next(seqs)))),
            (sql.LIST_BALANCE, (log, BUDGET, row_id)),
            (sql.SEAL, (log, row_id, row_id - 1, NOTE + signer.sign(NOTE.encode()).hex(), bytes(64))),
            (sql.COMMIT, ()),
        )

    return step


def work(make: Make, number: int, seconds: float, ready: Any, results: Any) -> None:
    step = make(number)
    step()
    step()
    ready.wait()
    waits: list[float] = []
    begun = time.perf_counter()
    while (at := time.perf_counter()) - begun < seconds:
        step()
        waits.append(time.perf_counter() - at)
    ready.wait()  # to take sixteen processes apart takes most of a second, in which the last steps would wait
    results.put(waits)


def measure(makes: Sequence[Make], seconds: float) -> tuple[float, list[float]]:
    """Run one process for each, all at once; return steps a second and how long each step took, in order of length."""
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
    waits = sorted(wait for one in found for wait in one)
    return len(waits) / seconds, waits


def prepare_sqlite(bare: str) -> None:
    connection = sqlite3.connect(bare)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE counter (id INTEGER PRIMARY KEY, used INTEGER, ceiling INTEGER)")
    connection.execute("INSERT INTO counter VALUES (1, 0, 1000000000)")
    connection.execute("CREATE TABLE bare (id INTEGER PRIMARY KEY, body TEXT)")
    connection.commit()
    connection.close()


def prepare_postgres(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        for table in range(LOGS):
            for statement in (
                f"DROP TABLE IF EXISTS bare_{table}, bare_counter_{table}",
                f"CREATE TABLE bare_counter_{table} (id int PRIMARY KEY, used bigint, ceiling bigint)",
                f"INSERT INTO bare_counter_{table} VALUES (1, 0, 1000000000)",
                f"CREATE TABLE bare_{table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)",
            ):
                connection.execute(statement.encode())


def compare(title: str, ours: Make, yardsticks: Mapping[str, Make], options: Any) -> None:
    contestants = {"ledger": ours, **yardsticks}
    rows: list[tuple[str, str]] = []
    for count in PROCESSES:
        processes = "1 process" if count == 1 else f"{count} processes"
        rates: dict[str, list[float]] = {name: [] for name in contestants}
        waits: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(options.rounds):
            for name, make in contestants.items():
                rate, waited = measure([make] * count, options.seconds)
                rates[name].append(rate)
                waits[name].extend(waited)
        for name, each in rates.items():
            slow, worst = sorted(waits[name])[-len(waits[name]) // 100], max(waits[name])
            said = (
                f"{statistics.median(each):,.0f} a second; one wait in a hundred over {slow:.3f} s, worst {worst:.3f} s"
            )
            rows.append((f"{processes}, {name}", said))
        for name in yardsticks:
            shares = [one / other for one, other in zip(rates["ledger"], rates[name], strict=True)]
            said = f"{statistics.median(shares):.0%} ({min(shares):.0%} to {max(shares):.0%})"
            rows.append((f"{processes}, ledger for each {name}", said))
    show(title, rows, as_json=options.json)


def compare_logs(url: str, options: Any) -> None:
    """Four budgets in logs of their own with four writers each, beside one with four; and the same of bare tables."""
    ours = [begin(f"{url}#four-{os.getpid()}-{log}") for log in range(LOGS)]
    bare = [partial(bare_postgres, url, table) for table in range(LOGS)]
    rows: list[tuple[str, str]] = []
    rates: dict[str, list[tuple[float, float]]] = {"ledger": [], "bare": []}
    for _ in range(options.rounds):
        for name, makes in (("ledger", ours), ("bare", bare)):
            alone, together = (measure(some * 4, options.seconds)[0] for some in (makes[:1], makes))
            rates[name].append((alone, together))
    for name, found in rates.items():
        alone, together = (statistics.median(column) for column in zip(*found, strict=True))
        times = [more / one for one, more in found]
        rows.append((f"{name}: one with four writers", f"{alone:,.0f} a second"))
        rows.append((f"{name}: four with four writers each", f"{together:,.0f} a second"))
        said = f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        rows.append((f"{name}: times as many", said))
    show("Budgets beside each other on PostgreSQL", rows, as_json=options.json)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of both, interleaved")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of a round")
    parser.add_argument("--folder", type=Path, default=None, help="a folder on the disk to measure")
    parser.add_argument("--postgres", metavar="URL", help="a PostgreSQL database with a ledger's schema")
    parser.add_argument("--skip-sqlite", action="store_true", help="measure PostgreSQL alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object a table")
    options = parser.parse_args()
    if not options.skip_sqlite:
        with scratch(options.folder or Path.cwd()) as folder:
            bare = str(folder / "bare.db")
            prepare_sqlite(bare)
            ours = begin(str(folder / "ledger.db"))
            begin(str(folder / "floor.db"))
            yardsticks = {
                "bare": partial(bare_sqlite, bare),
                "bare, in turn": partial(bare_in_turn, bare),
                "floor": partial(floor_sqlite, str(folder / "floor.db")),
            }
            compare("One hot budget on SQLite", ours, yardsticks, options)
    if options.postgres:
        url = options.postgres.partition("#")[0]
        prepare_postgres(url)
        ours = begin(f"{url}#hot-{os.getpid()}")
        floor = f"floor-{os.getpid()}"
        yardsticks = {"bare": partial(bare_postgres, url, 0), "floor": partial(floor_postgres, url, floor)}
        compare("One hot budget on PostgreSQL", ours, yardsticks, options)
        compare_logs(url, options)


if __name__ == "__main__":
    main()
