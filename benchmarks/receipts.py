"""How large a receipt is in a ledger of 1,000,000 rows, and how long it takes to make and to check one.

    python benchmarks/receipts.py [--rows 1000000]

The ledger is signed and written through the store, many rows in a transaction; a session that an agent ran stands in
its middle. Half of the plain rows have a session id as the spec writer makes them (a UUID), half a short one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import uuid
from pathlib import Path

from common import disks, microseconds_each, scratch, show

from donewhen import AgentLoop, CircuitBreaker, Ledger, SpecResult, tool
from donewhen.client import ToolCall
from donewhen.entry import Entry
from donewhen.ledger import Draft
from donewhen.notes import LocalSigner, Verifier
from donewhen.receipt import make_receipt, verify_receipt
from donewhen.testing import ScriptedClient, make_reply

SESSION_ROWS = 20
COMMIT_ROWS = 5000
SAMPLES = 200
GOAL_BYTES = 1500


def session_of(number: int) -> str:
    session = number // SESSION_ROWS
    return f"session-{session}" if session % 2 else str(uuid.UUID(int=session, version=4))


def entry(number: int) -> Entry:
    return Entry(
        kind="write",
        session_id=session_of(number),
        state_origin="llm",
        turn_count=number % SESSION_ROWS + 1,
        input_hash="a" * 64,
        token_delta=1234,
        execution_time_ms=1234,
    )


def fill(ledger: Ledger, begin: int, end: int) -> None:
    for start in range(begin, end, COMMIT_ROWS):
        ledger.note(*[Draft(entry(number)) for number in range(start, min(start + COMMIT_ROWS, end))])
        if sys.stderr.isatty():
            print(f"\r{start:,} of {end:,} rows", end="", file=sys.stderr)


@tool
def look(x: int = 0) -> str:
    """Look."""
    return str(x)


def run_agent(ledger: Ledger) -> str:
    """Run a session of four turns, two of them with a tool, and return its id."""
    replies = [make_reply("", tool_calls=[ToolCall(f"call_{turn}", "look", {"x": turn})]) for turn in range(2)]
    client = ScriptedClient(*replies, make_reply("more", stop_reason="max_tokens"), make_reply("done"))
    spec = SpecResult("Audits a page.", "Changes it.", "A report.", str(uuid.uuid4()))
    AgentLoop(spec, CircuitBreaker(9, 100_000), ledger, client, tools=[look]).run("Audit the page.")
    return spec.session_id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signer = LocalSigner.generate("donewhen/log")
    with (
        scratch(next(iter(disks(None).values()))) as folder,
        Ledger(Path(folder, "large.db"), signer=signer) as ledger,
    ):
        fill(ledger, 0, options.rows // 2)
        session = run_agent(ledger)
        fill(ledger, options.rows // 2, options.rows)
        rows = measure(ledger, signer.verifier.named(ledger.origin), session, options.rows)
    show(f"Receipts in a ledger of {options.rows:,} rows", rows, as_json=options.json)


def measure(ledger: Ledger, key: Verifier, session: str, rows: int) -> list[tuple[str, str]]:
    # Spread over the whole ledger: how long a proof is depends on the place.
    picked = [number * 7919 * 131 % rows for number in range(SAMPLES)]
    by_length: dict[str, list[int]] = {"short": [], "uuid": []}
    for number in picked:
        name = session_of(number)
        receipt = make_receipt(ledger, name, turn=number % SESSION_ROWS + 1).dumps()
        assert len(verify_receipt(receipt, key).rows) == 1
        by_length["short" if name.startswith("session-") else "uuid"].append(len(receipt))
    replies = [row for row in ledger.rows(session) if row.kind == "llm"]
    plain = make_receipt(ledger, session_of(picked[0]), turn=picked[0] % SESSION_ROWS + 1).dumps()
    making = microseconds_each(lambda n: make_receipt(ledger, session_of(picked[n]), turn=1), SAMPLES)
    checking = microseconds_each(lambda _: verify_receipt(plain, key), SAMPLES)
    return [
        (f"a plain row, session id of about {len(session_of(SESSION_ROWS))} characters", told(by_length["short"])),
        ("a plain row, session id a UUID", told(by_length["uuid"])),
        ("a reply (llm) without tools", told([receipt_bytes(ledger, session, replies[-1].id)])),
        ("a reply (llm) that calls a tool", told([receipt_bytes(ledger, session, replies[0].id)])),
        (f"a session of {SESSION_ROWS} plain rows", told([len(make_receipt(ledger, session_of(picked[0])).dumps())])),
        (
            f"an agent's session of {len(ledger.rows(session))} rows",
            told([len(make_receipt(ledger, session).dumps())]),
        ),
        ("to make one of a row", f"{making:,.0f} µs"),
        ("to check one of a row", f"{checking:,.0f} µs"),
    ]


def receipt_bytes(ledger: Ledger, session: str, row_id: int) -> int:
    return len(make_receipt(ledger, session, row_id=row_id).dumps())


def told(sizes: list[int]) -> str:
    most = max(sizes)
    if len(sizes) == 1:
        return f"{most:,} bytes"
    beyond = most - GOAL_BYTES
    goal = f"{beyond:,} over" if beyond >= 0 else f"{-beyond:,} under"
    return f"{statistics.median(sizes):,.0f} bytes (most {most:,}: {goal} the goal)"


if __name__ == "__main__":
    main()
