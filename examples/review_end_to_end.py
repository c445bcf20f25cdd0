"""From the three questions to the signature: `python examples/review_end_to_end.py [--reviewer NAME]`.

An agent works, a person looks, and only then is the output handed on. Here the answers are given in advance; leave
`input_fn` out to be asked.
"""

from __future__ import annotations

import sys

from _shared import arguments_parser, hand_on, make_client, open_store

from donewhen import AgentLoop, CircuitBreaker, Ledger, NotReleasedError, ReviewSurface, SpecWriter
from donewhen.demo.site import DemoSite
from donewhen.seo import audit_tools

NOT_ATTESTED = 3
"""The exit status of something that waits for a person, as the command line has it."""
ANSWERS = (
    "Audits one web page for search engines.",
    "Change anything.",
    "A report that names every fault with its evidence.",
)


def main() -> int:
    parser = arguments_parser("From the three questions to the signature.")
    parser.add_argument("--reviewer", help="attest under this name at the end, to see what follows")
    arguments = parser.parse_args()
    store = open_store(arguments)
    client, model = make_client(arguments)

    answers = iter(ANSWERS)
    spec = SpecWriter(store, input_fn=lambda _: next(answers)).run()
    with DemoSite() as site:
        tools = audit_tools(only_site_of=site.url)
        loop = AgentLoop(
            spec, CircuitBreaker(turn_limit=8, token_limit=60_000), Ledger(store), client, model, 2_000, tools=tools
        )
        result = loop.run(f"Audit {site.url} and report.")
    print(f"\n{result.outcome}: {result.reason}\n")
    if not result.success:
        return 1

    surface = ReviewSurface(store, store)
    print(surface.render(spec.session_id))
    try:
        hand_on(surface, spec.session_id)
    except NotReleasedError as error:
        print(f"\nbefore anybody looked: {error}")
    if arguments.reviewer is None:
        print(f"once you have compared it: donewhen attest {spec.session_id} --reviewer NAME --store {store}")
        return NOT_ATTESTED
    attestation = surface.attest(
        spec.session_id,
        arguments.reviewer,
        notes="I compared the report with the promise.",
        frame_hash=surface.load(spec.session_id).frame_hash,
    )
    print(f"\nattested by {attestation.reviewer}, frame {attestation.frame_hash[:16]}")
    released = hand_on(surface, spec.session_id)
    print(f"released: {len(released)} characters, beginning with {released.splitlines()[0]!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
