"""From the three questions to the signature: `python examples/review_end_to_end.py [--reviewer NAME]`.

An agent works, a person looks and signs, and only then is the output handed on. Here the answers are given in advance;
leave `input_fn` out to be asked. And here one process holds everything: in earnest the reviewer's key is where the
agent cannot read it, and `ReviewSurface.sign` there makes what `ReviewSurface.take` writes here.
"""

from __future__ import annotations

import sys
from pathlib import Path

from _shared import arguments_parser, hand_on, make_client, open_store

from donewhen import AgentLoop, CircuitBreaker, Ledger, NotReleasedError, ReviewSurface, SpecWriter
from donewhen.demo.site import DemoSite
from donewhen.keyring import Keyring
from donewhen.keys import make_reviewer_key
from donewhen.notes import Signer
from donewhen.seo import audit_tools

NOT_ATTESTED = 3
"""The exit status of something that waits for a person, as the command line has it."""
ANSWERS = (
    "Audits one web page for search engines.",
    "Change anything.",
    "A report that names every fault with its evidence.",
)


def enrolled(store: Path, reviewer: str) -> Signer:
    """Return the reviewer's key, known to the ledger: from then on a name without a signature is not enough."""
    key, public = make_reviewer_key(store.parent / f"key-of-{reviewer}", reviewer)
    with Ledger(store) as ledger:
        if Keyring.read(ledger).name_of(public.vkey) is None:
            ledger.enroll_reviewer(reviewer, public.vkey, who="whoever keeps the ledger", made_by=public.made_by)
    return key


def main() -> int:
    parser = arguments_parser("From the three questions to the signature.")
    parser.add_argument("--reviewer", help="make a key for this name, and attest with it at the end")
    arguments = parser.parse_args()
    store = open_store(arguments)
    client, model = make_client(arguments)
    key = None if arguments.reviewer is None else enrolled(store, arguments.reviewer)

    answers = iter(ANSWERS)
    spec = SpecWriter(store, input_fn=lambda _: next(answers)).run()
    with DemoSite() as site, Ledger(store) as ledger:
        tools = audit_tools(only_site_of=site.url)
        loop = AgentLoop(
            spec, CircuitBreaker(turn_limit=8, token_limit=60_000), ledger, client, model, 2_000, tools=tools
        )
        result = loop.run(f"Audit {site.url} and report.")
    print(f"\n{result.outcome}: {result.reason}\n")
    if not result.success:
        return 1

    surface, report = ReviewSurface(store, store), store.with_name(f"{spec.session_id}.md")
    print(surface.render(spec.session_id))
    try:
        hand_on(store, spec.session_id, report)
    except NotReleasedError as error:
        print(f"\nbefore anybody looked: {error}")
    if key is None:
        print(f"once you have compared it: donewhen attest {spec.session_id} --reviewer NAME --store {store}")
        return NOT_ATTESTED
    attestation = surface.attest(
        spec.session_id,
        arguments.reviewer,
        notes="I compared the report with the promise.",
        frame_hash=surface.load(spec.session_id).frame_hash,
        reviewer_key=key,
    )
    print(f"\nattested by {attestation.reviewer}, frame {attestation.frame_hash[:16]}")
    print(f"which is enough: {surface.judge(spec.session_id).output.sentence}")
    release = hand_on(store, spec.session_id, report)
    print(f"handed on: {report}, SHA-256 {release.output_hash[:16]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
