"""Audit a page for search engines: `python examples/seo_audit.py [URL]`. Without a URL it serves a site with faults."""

from __future__ import annotations

import contextlib
import sys

from _shared import arguments_parser, make_client, new_session_id, open_store, show_end

from donewhen import AgentLoop, CircuitBreaker, Ledger, Regex, SpecResult
from donewhen.demo.site import DemoSite
from donewhen.seo import REPORT_HEADINGS, REPORT_PATTERN, audit_tools


def main() -> int:
    parser = arguments_parser("Audit a page for search engines.")
    parser.add_argument("url", nargs="?", help="default: a small site with faults, served on this machine")
    arguments = parser.parse_args()
    store = open_store(arguments)
    client, model = make_client(arguments)
    spec = SpecResult(
        what_it_does="Audits one web page for search engines with the tools it is given.",
        what_it_does_not="Change anything, leave the page's site, or report what no tool has shown.",
        done_looks_like="A Markdown report whose findings name their evidence, with recommendations at its end.",
        session_id=new_session_id(),
    )
    with contextlib.ExitStack() as stack:
        url = arguments.url or stack.enter_context(DemoSite()).url
        loop = AgentLoop(
            spec,
            CircuitBreaker(turn_limit=8, token_limit=60_000, tool_call_limit=6, seconds_limit=300, repeat_limit=3),
            Ledger(store),
            client,
            model=model,
            max_tokens=2_000,
            tools=audit_tools(only_site_of=url),
            checks=[
                Regex(REPORT_PATTERN, name="the report has its headings"),
                Regex("`not-audited`", name="the page could be audited", absent=True),
                Regex(r"(?m)^## Recommendations$", name="it recommends something"),
            ],
        )
        headings = ", ".join(f"## {heading}" for heading in REPORT_HEADINGS)
        result = loop.run(f"Audit {url} and write the report, with these headings in this order: {headings}.")
    print(f"\n{result.output or '(no report)'}")
    return show_end(result, store)


if __name__ == "__main__":
    sys.exit(main())
