"""Sort a support ticket, and let a person see it before a queue does: `python examples/support_triage.py [TICKET]`."""

from __future__ import annotations

import sys

from _shared import arguments_parser, make_client, new_session_id, open_store, show_end

from donewhen import AgentLoop, CircuitBreaker, JsonSchema, Ledger, SpecResult

SAMPLE = "Since this morning our shop is unreachable for everyone. Please help immediately, we lose orders."
QUEUES = ["security", "finance", "identity", "operations", "engineering", "support"]
SCHEMA = {
    "type": "object",
    "required": ["category", "priority", "queue"],
    "properties": {
        "category": {"enum": ["security", "billing", "access", "outage", "bug", "how_to", "other"]},
        "priority": {"enum": ["urgent", "high", "normal", "low"]},
        "queue": {"enum": QUEUES},
    },
}


def main() -> int:
    parser = arguments_parser("Sort a support ticket.")
    parser.add_argument("ticket", nargs="?", default=SAMPLE, help="what the customer wrote")
    arguments = parser.parse_args()
    store = open_store(arguments)
    client, model = make_client(arguments)
    spec = SpecResult(
        what_it_does="Sorts one support ticket into a category, a priority and a queue.",
        what_it_does_not="Answer the customer, promise anything, or close the ticket.",
        done_looks_like="One JSON object with category, priority and queue.",
        session_id=new_session_id(),
    )
    loop = AgentLoop(
        spec,
        CircuitBreaker(turn_limit=3, token_limit=10_000),
        Ledger(store),
        client,
        model=model,
        checks=[JsonSchema(SCHEMA, name="the triage has its form")],
    )
    task = f"Triage this ticket. Answer with JSON alone, in the form of this schema: {SCHEMA}\n\nTicket:\n"
    result = loop.run(task + arguments.ticket)
    print(f"\n{result.output or '(no triage)'}")
    return show_end(result, store)


if __name__ == "__main__":
    sys.exit(main())
