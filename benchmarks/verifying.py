"""How many rows a second one core verifies, whole and with `fast`, and what memory that takes.

    python benchmarks/verifying.py [--rows 100000]

Signed ledgers of plain rows, a thousand to a commit and one to a commit. CPU time, in this process alone.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

from common import disks, scratch, show
from reading import entry

from donewhen import Ledger
from donewhen.ledger import Draft
from donewhen.notes import LocalSigner, Verifier
from donewhen.verify import verify_ledger

SIGNER = LocalSigner("donewhen/log/bench", bytes(32))
TO_A_COMMIT = (1000, 1)


def fill(path: Path, rows: int, to_a_commit: int) -> None:
    with Ledger(path, signer=SIGNER) as ledger:
        for start in range(0, rows, to_a_commit):
            ledger.note(*[Draft(entry(number)) for number in range(start, min(start + to_a_commit, rows))])


def rows_a_second(path: Path, *, fast: bool) -> tuple[int, int]:
    """Return the rows a second of CPU time, and the most memory of this process so far, in MiB."""
    start = time.process_time()
    rows = verify_ledger(path, Verifier.parse(SIGNER.vkey), fast=fast).rows
    spent = time.process_time() - start
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(rows / spent), most // (1024 if sys.platform == "linux" else 1024 * 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    told: list[tuple[str, str]] = []
    with scratch(next(iter(disks(None).values()))) as folder:
        for to_a_commit in TO_A_COMMIT:
            path = folder / f"{to_a_commit}.db"
            fill(path, options.rows, to_a_commit)
            for fast in (False, True):
                speed, memory = rows_a_second(path, fast=fast)
                name = f"{to_a_commit:,} to a commit, {'fast' if fast else 'whole'}"
                told.append((name, f"{speed:,} rows/s, {memory} MiB"))
    show(f"Verifying {options.rows:,} rows", told, as_json=options.json)


if __name__ == "__main__":
    main()
