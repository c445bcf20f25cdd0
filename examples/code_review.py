"""Review a diff under a spec file: `python examples/code_review.py [DIFF]`, or `git diff | ... code_review.py -`."""

from __future__ import annotations

import sys
from pathlib import Path

from _shared import arguments_parser, make_client, new_session_id, open_store, show_end

from donewhen import AgentLoop, CircuitBreaker, Ledger, load_spec
from donewhen.checks import check_from

HERE = Path(__file__).parent
SAMPLE = """\
--- a/shop/orders.py
+++ b/shop/orders.py
@@ -1,4 +1,11 @@
 import json
+PAYMENT_TOKEN = "not-a-real-key"

 def total(order):
+    try:
+        discount = eval(order["discount"])
+    except:
+        print("no discount")
+        discount = 0
+    # TODO: tax
     return sum(line["price"] for line in order["lines"])
"""
TASK = """Review this diff. Write '## Findings' with one line for each finding, then '## Verdict' and one of
approve, comment, request changes.

"""


def main() -> int:
    parser = arguments_parser("Review a diff.")
    parser.add_argument("diff", nargs="?", help="a file, or - for standard input; default: a small sample")
    arguments = parser.parse_args()
    store = open_store(arguments)
    client, model = make_client(arguments)
    spec = load_spec(HERE / "code_review.toml")
    loop = AgentLoop(
        spec.result(new_session_id()),
        CircuitBreaker.from_ceilings(spec.ceilings),
        Ledger(store),
        client,
        model=model,
        max_tokens=spec.max_tokens or 1_024,
        checks=[check_from(check) for check in spec.done_when],
        bound=spec.bound,
        keep=spec.keep,
        terms=spec.terms(),
    )
    result = loop.run(TASK + read_diff(arguments.diff))
    print(f"\n{result.output or '(no review)'}")
    return show_end(result, store)


def read_diff(name: str | None) -> str:
    if name is None:
        return SAMPLE
    return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    sys.exit(main())
