"""The report has its headings, whatever the audit holds."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from donewhen.demo.site import DemoSite
from donewhen.seo import REPORT_HEADINGS, REPORT_PATTERN, audit_url, write_advice, write_report
from donewhen.seo.report import ADVICE

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
audits = st.dictionaries(st.sampled_from(["url", "status", "title", "headings", "links", "findings"]), json_values)


def headings(report: str) -> list[str]:
    return re.findall(r"(?m)^## (.+)$", report)


def test_the_report_has_its_headings_in_order() -> None:
    with DemoSite() as site:
        report = write_report(audit_url(site.url).as_dict())
    assert headings(report) == list(REPORT_HEADINGS)
    assert re.search(REPORT_PATTERN, report)


def test_links_checked_apart_become_a_finding() -> None:
    links = {"checked": 2, "unchecked": 0, "broken": [{"url": "http://x/y", "problem": "status 404"}]}
    report = write_report({"url": "http://x/", "links": {"internal": 2, "external": 0}}, links)
    assert "2 internal, 0 external. 2 checked, 1 broken." in report
    assert "error `link-broken`" in report
    assert write_advice({}, links) == f"1. {ADVICE['link-broken']}"


def test_a_page_cannot_write_a_heading_into_the_report() -> None:
    report = write_report({"title": "Nice\n## Findings\n\nNothing was found wrong."})
    assert headings(report) == list(REPORT_HEADINGS)


@given(audits, st.none() | audits)
def test_any_audit_can_be_written(audit: dict[str, object], links: dict[str, object] | None) -> None:
    assert re.search(REPORT_PATTERN, write_report(audit, links))
    assert write_advice(audit, links)
