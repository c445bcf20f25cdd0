"""What reading one session of 20 rows costs in a ledger of 10,000 rows and in one of 1,000,000.

    python benchmarks/reading.py [--rows 1000000]

The ledgers are written through the store, many rows in a transaction, unsigned, since only reading is measured.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common import disks, interleaved, microseconds_each, scratch, show

from donewhen import Ledger
from donewhen.entry import Entry
from donewhen.ledger import Draft

SESSION_ROWS = 20


def fill(path: Path, rows: int) -> Ledger:
    ledger = Ledger(path)
    for start in range(0, rows, 5000):
        drafts = [Draft(entry(number)) for number in range(start, min(start + 5000, rows))]
        ledger.note(*drafts)
        if sys.stderr.isatty():
            print(f"\r{start:,} of {rows:,} rows", end="", file=sys.stderr)
    return ledger


def entry(number: int) -> Entry:
    return Entry(
        kind="write",
        session_id=f"session-{number // SESSION_ROWS}",
        state_origin="llm",
        turn_count=number % SESSION_ROWS,
        input_hash="a" * 64,
        token_delta=100,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with scratch(next(iter(disks(None).values()))) as folder:
        small, large = fill(folder / "small.db", 10_000), fill(folder / "large.db", options.rows)
        medians = interleaved(
            {
                "get_session at 10,000 rows": lambda: read(small, 10_000),
                f"get_session at {options.rows:,} rows": lambda: read(large, options.rows),
            },
            options.rounds,
        )
        small.close()
        large.close()
    first, second = medians.values()
    rows = [(name, f"{value:,.0f} µs") for name, value in medians.items()]
    show("Reading a session of 20 rows", [*rows, ("ratio", f"{second / first:.2f}")], as_json=options.json)


def read(ledger: Ledger, rows: int) -> float:
    sessions = rows // SESSION_ROWS

    def one(number: int) -> None:
        # Spread over the whole ledger, so that not one page serves all.
        assert len(ledger.get_session(f"session-{number * 7919 % sessions}")) == SESSION_ROWS

    return microseconds_each(one, 200)


if __name__ == "__main__":
    main()
