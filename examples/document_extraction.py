"""Read an invoice into JSON: `python examples/document_extraction.py [FILE]`."""

from __future__ import annotations

import json
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path

from _shared import arguments_parser, make_client, new_session_id, open_store, show_end

from donewhen import AgentLoop, Call, CircuitBreaker, JsonSchema, Ledger, SpecResult

SAMPLE = """\
Vendor: Spoke and Chain
Invoice No. SC-2041
Date: 4 March 2026

Service            60.00
New chain          35.00
Total due: EUR 95.00
"""
TEXT = {"type": ["string", "null"]}
SCHEMA = {
    "type": "object",
    "required": ["invoice_number", "date", "total", "currency", "vendor"],
    "properties": {
        "invoice_number": TEXT,
        "date": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}]},
        "total": TEXT,
        "currency": {"type": ["string", "null"], "maxLength": 3},
        "vendor": TEXT,
    },
}


def total_is_an_amount(output: str) -> bool | str:
    """Tell whether the total can be booked; what is wrong with it goes back to the model."""
    total = json.loads(output).get("total")
    try:
        return total is None or Decimal(total) >= 0 or "the total is below zero"
    except InvalidOperation:
        return f"the total {total!r} is not a plain decimal number such as 1190.00"


def main() -> int:
    parser = arguments_parser("Read an invoice into JSON.")
    parser.add_argument("file", nargs="?", type=Path, help="a text file; default: a small sample")
    arguments = parser.parse_args()
    document = SAMPLE if arguments.file is None else arguments.file.read_text(encoding="utf-8", errors="replace")
    store = open_store(arguments)
    client, model = make_client(arguments)
    spec = SpecResult(
        what_it_does="Reads number, date, total, currency and vendor from the text of one invoice.",
        what_it_does_not="Guess: what does not stand in the text is null. Pay or book anything.",
        done_looks_like="One JSON object with the five values, the date as ISO 8601, the total as decimal text.",
        session_id=new_session_id(),
    )
    loop = AgentLoop(
        spec,
        CircuitBreaker(turn_limit=3, token_limit=12_000),
        Ledger(store),
        client,
        model=model,
        checks=[JsonSchema(SCHEMA, name="the extract has its form"), Call(total_is_an_amount)],
    )
    task = f"Extract the values of this invoice. Answer with JSON alone, in the form of this schema: {SCHEMA}\n\n"
    result = loop.run(task + document)
    print(f"\n{result.output or '(nothing)'}")
    return show_end(result, store)


if __name__ == "__main__":
    sys.exit(main())
