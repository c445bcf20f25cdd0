"""How many rows a second one core verifies, whole and with `fast`, beside what no auditor can do without.

    python benchmarks/verifying.py [--rows 50000] [--rounds 5]

Signed ledgers: plain rows, a thousand to a commit and one to a commit, and the turns of an agent. CPU time in this
process alone, the best of a few rounds, in which each contestant runs once.

The yardsticks judge nothing. `bare` reads every row and hashes it. `floor` does everything that is not Python: it also
reads the checkpoints and the index, hashes the tree and the root of every checkpoint, and reads each row's JSON and
spells it again.
"""

from __future__ import annotations

import argparse
import resource
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import orjson
from common import disks, scratch, show
from reading import entry
from turns import LOOK, InstantClient

from donewhen import AgentLoop, CircuitBreaker, Ledger, SpecResult
from donewhen.canonical import STRICT
from donewhen.ledger import Draft
from donewhen.notes import LocalSigner, Verifier
from donewhen.verify import named_keys, verify_ledger

SIGNER = LocalSigner("donewhen/log/bench", bytes(32))
TURNS = 50
"""Of a session. Every other session asks for a tool in each."""
ROWS_A_SESSION = 125
"""Of these, about."""
PAGE_ROWS = 64
NODE = bytes(65)
"""As long as what is hashed for a node of the tree."""


def fill(path: Path, rows: int, to_a_commit: int) -> None:
    with Ledger(path, signer=SIGNER) as ledger:
        for start in range(0, rows, to_a_commit):
            ledger.note(*[Draft(entry(number)) for number in range(start, min(start + to_a_commit, rows))])


def fill_with_turns(path: Path, rows: int) -> None:
    with Ledger(path, signer=SIGNER) as ledger:
        for number in range(rows // ROWS_A_SESSION):
            spec = SpecResult("count", "nothing else", "counted", f"session-{number}")
            client = InstantClient(TURNS, tools=number % 2 == 0)
            breaker = CircuitBreaker(turn_limit=TURNS + 1, token_limit=10**12)
            AgentLoop(spec, breaker, ledger, client, tools=[LOOK] if client.tools else [], bound="strict").run("count")


def bare(connection: sqlite3.Connection, *, parse: bool) -> int:
    """Read every row and hash it; return how many there are."""
    count, found = 0, connection.execute("SELECT id, body FROM entries NOT INDEXED ORDER BY id")
    while page := found.fetchmany(PAGE_ROWS):
        count += len(page)
        for _, body in page:
            sha256(b"\x00" + body).digest()
            if parse:
                orjson.dumps(orjson.loads(body), None, STRICT)
    return count


def floor(connection: sqlite3.Connection) -> int:
    """Do all that is done in C for each row and each checkpoint."""
    rows = bare(connection, parse=True)
    for _ in connection.execute("SELECT session_id, seq, id FROM entries INDEXED BY entries_by_session ORDER BY 1, 2"):
        pass
    for size, _, _, _ in connection.execute("SELECT size, start, note, nodes FROM sealed ORDER BY size"):
        for _ in range(size.bit_count() - 1):
            sha256(NODE).digest()
    for _ in range(rows - rows.bit_count()):
        sha256(NODE).digest()
    return rows


def contestants(path: Path) -> dict[str, Callable[[], int]]:
    def reading(do: Callable[[sqlite3.Connection], int]) -> Callable[[], int]:
        def run() -> int:
            with closing(sqlite3.connect(path)) as connection:
                connection.text_factory = bytes
                return do(connection)

        return run

    verifier = Verifier.parse(named_keys(path)[-1])
    return {
        "bare": reading(lambda connection: bare(connection, parse=False)),
        "floor": reading(floor),
        "whole": lambda: verify_ledger(path, verifier).rows,
        "fast": lambda: verify_ledger(path, verifier, fast=True).rows,
    }


def rows_a_second(path: Path, rounds: int) -> dict[str, float]:
    """Return the rows a second of CPU time of each contestant, in its best round."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, run in contestants(path).items():
            start = time.process_time()
            speed = run() / (time.process_time() - start)
            best[name] = max(speed, best.get(name, 0))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    told: list[tuple[str, str]] = []
    with scratch(next(iter(disks(None).values()))) as folder:
        paths = {
            name: folder / f"{place}.db" for place, name in enumerate(("1,000 to a commit", "1 to a commit", "turns"))
        }
        many, one, turns = paths.values()
        fill(many, options.rows, 1000)
        fill(one, options.rows, 1)
        fill_with_turns(turns, options.rows // 5)
        for name, path in paths.items():
            speeds = rows_a_second(path, options.rounds)
            for contestant, speed in speeds.items():
                ratio = f"{speed / speeds['bare']:.2f} of bare, {speed / speeds['floor']:.2f} of floor"
                told.append((f"{name}, {contestant}", f"{speed:10,.0f} rows/s, {ratio}"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "linux" else 1024 * 1024)
    told.append(("most memory, filling included", f"{most} MiB"))
    show(f"Verifying {options.rows:,} rows, and {options.rows // 5:,} of turns", told, as_json=options.json)


if __name__ == "__main__":
    main()
