"""What the demo's audit promises, as a spec file, and the check that holds it against the site's real faults."""

from __future__ import annotations

PLANTED_FAULTS = ("title-length", "description-missing", "image-alt", "heading-skipped", "link-broken")
"""The rules that the start page of the demo's site breaks, because it was built so."""

AUDIT_SPEC = """\
# The promise of the demo's audit.
what_it_does = "Audits the start page at URL for what keeps search engines from understanding it."
what_it_does_not = "It changes nothing on the site, and asks no other host."
done_looks_like = "A report that names every fault of the page, and says what to do about each."

max_tokens = 1500
bound = "strict"

[ceilings]
turns = 8
tokens = 60000
tool_calls = 6
minutes = 1

[[done_when]]
check = "regex"
name = "the report has its six headings"
pattern = '(?sm)^## Title$.*^## Description$.*^## Headings$.*^## Links$.*^## Status$.*^## Findings$'

[[done_when]]
check = "regex"
name = "it says what to do"
pattern = '(?m)^## Recommendations$'

[[done_when]]
check = "call"
name = "it names every fault that the page was built with"
function = "donewhen.demo.promise:names_the_planted_faults"

[[done_when]]
check = "human"
criterion = "The advice can be sent to the site's owner as it is."
"""


def names_the_planted_faults(output: str) -> bool | str:
    """Say which of the faults that the page was built with a report does not name; True where it names all."""
    missing = [rule for rule in PLANTED_FAULTS if f"`{rule}`" not in output]
    return f"the report does not name {', '.join(missing)}" if missing else True
