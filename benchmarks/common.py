"""What the benchmarks share: interleaved rounds, medians, ratios, and a table.

These numbers are ratios within one run: the yardstick runs beside us, round by round, on the same disk, so that a
noisy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

RAM_DISK = Path("/dev/shm")
ROW = "x" * 600
"""About the size of a row of the ledger."""


def arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every contestant, interleaved")
    parser.add_argument("--turns", type=int, default=300, help="turns or rows in a round")
    parser.add_argument("--folder", type=Path, default=None, help="a folder on the disk to measure")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def interleaved(contestants: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Run each contestant once a round and return the median of what each returned."""
    seen: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            seen[name].append(contestant())
    return {name: statistics.median(values) for name, values in seen.items()}


def microseconds_each(do: Callable[[int], object], times: int) -> float:
    start = time.perf_counter()
    for number in range(times):
        do(number)
    return (time.perf_counter() - start) / times * 1e6


@contextmanager
def scratch(parent: Path | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="donewhen-bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def bare_database(path: Path) -> sqlite3.Connection:
    """Open a database with the ledger's durability and nothing else."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS bare (id INTEGER PRIMARY KEY, body TEXT)")
    return connection


def bare_commit(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO bare (body) VALUES (?)", (ROW,))
    connection.execute("COMMIT")


def connect_per_call(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO bare (body) VALUES (?)", (ROW,))
    connection.commit()
    connection.close()


def show(title: str, rows: list[tuple[str, str]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"benchmark": title, **dict(rows)}))
        return
    print(title)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")


def disks(folder: Path | None) -> dict[str, Path | None]:
    """Return where to measure: a RAM disk where there is one, and a real one."""
    found: dict[str, Path | None] = {}
    if RAM_DISK.is_dir() and os.access(RAM_DISK, os.W_OK):
        found["RAM disk"] = RAM_DISK
    found["disk"] = folder or Path.cwd()
    return found
