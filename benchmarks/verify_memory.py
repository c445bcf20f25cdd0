"""How much memory verifying takes, from a small ledger to one of 1,000,000 rows.

    python benchmarks/verify_memory.py [--sizes 10000 100000 1000000] [--to-a-commit 1000]

One signed ledger that grows: sessions of 20 plain rows. At each size a process of its own verifies it, whole and with
`fast`, and says how much memory it had at most, and what of that it had before it began.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from common import disks, scratch, show
from receipts import entry

from donewhen import Ledger
from donewhen.ledger import Draft
from donewhen.notes import LocalSigner

VERIFIER = """
import json, resource, sys, time
from pathlib import Path
from donewhen.notes import Verifier
from donewhen.verify import named_keys, verify_ledger

def most():
    if sys.platform == "linux":  # ru_maxrss would count what the process had before it was this program
        [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * 1024)

verifier = Verifier.parse(named_keys(sys.argv[1])[-1])
before, start = most(), time.process_time()
rows = verify_ledger(sys.argv[1], verifier, fast=sys.argv[2] == "fast").rows
print(json.dumps({"before": before, "most": most(), "rows": rows, "speed": rows / (time.process_time() - start)}))
"""


def fill(ledger: Ledger, begin: int, end: int, to_a_commit: int) -> None:
    for start in range(begin, end, to_a_commit):
        ledger.note(*[Draft(entry(number)) for number in range(start, min(start + to_a_commit, end))])


def told(path: Path, how: str, rows: int) -> str:
    done = subprocess.run([sys.executable, "-c", VERIFIER, path, how], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["rows"] == rows
    return f"{found['most']:5.1f} MiB, {found['before']:.1f} before it began; {found['speed']:,.0f} rows/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--to-a-commit", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[tuple[str, str]] = []
    with scratch(next(iter(disks(None).values()))) as folder:
        path, begin = folder / "growing.db", 0
        for size in sorted(options.sizes):
            with Ledger(path, signer=LocalSigner("donewhen/log/bench", bytes(32))) as ledger:
                fill(ledger, begin, size, options.to_a_commit)
            begin = size
            rows += [(f"{size:,} rows, {how}", told(path, how, size)) for how in ("whole", "fast")]
    show(f"The memory of verifying, {options.to_a_commit:,} rows to a commit", rows, as_json=options.json)


if __name__ == "__main__":
    main()
