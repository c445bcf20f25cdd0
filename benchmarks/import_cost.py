"""What `import donewhen` costs over bare Python, and over the standard library's sqlite3 and json.

python benchmarks/import_cost.py
"""

from __future__ import annotations

import subprocess
import sys
import time

from common import arguments, interleaved, show


def run(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    options = arguments(__doc__ or "")
    medians = interleaved(
        {
            "bare python": lambda: run("pass"),
            "import json, sqlite3": lambda: run("import json, sqlite3"),
            "import donewhen": lambda: run("import donewhen"),
            "from donewhen import AgentLoop, Ledger": lambda: run("from donewhen import AgentLoop, Ledger"),
        },
        max(options.rounds, 15),
    )
    rows = [(name, f"{value:.1f} ms") for name, value in medians.items()]
    over = medians["import donewhen"] - medians["bare python"]
    rows.append(("import donewhen over bare python", f"{over:.1f} ms"))
    show("Import", rows, as_json=options.json)


if __name__ == "__main__":
    main()
