"""The rules, on the demo's real faults and on whatever a page may hold."""

from __future__ import annotations

import json
import time

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.demo.site import DemoSite
from donewhen.seo import AUDIT_SCHEMA, Audit, FetchError, Page, audit_tools, audit_url, judge_page
from donewhen.seo.page_facts import read_facts

URL = "http://example.org/page"


def judged(text: str, **fields: object) -> Audit:
    settings = {"url": URL, "final_url": URL, "status": 200, "content_type": "text/html", "text": text, **fields}
    return judge_page(Page(**settings))


def rules(audit: Audit) -> set[str]:
    return {finding.rule for finding in audit.findings}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "/",
            {"title-length", "description-missing", "heading-skipped", "image-alt", "link-broken", "links-unchecked"},
        ),
        ("/services", {"h1-many", "link-empty"}),
        ("/prices", {"title-missing", "noindex", "lang-missing"}),
        ("/team", {"charset", "viewport-missing", "json-ld", "description-missing"}),
        ("/brochure.pdf", {"not-html"}),
        ("/nowhere", {"status"}),
    ],
)
def test_the_faults_of_the_demo_are_found(path: str, expected: set[str]) -> None:
    with DemoSite() as site:
        assert expected <= rules(audit_url(site.url_of(path)))


def test_a_page_without_faults_has_no_findings() -> None:
    with DemoSite() as site:
        assert audit_url(site.url_of("/about")).findings == ()


def test_a_broken_link_is_named_with_its_status() -> None:
    with DemoSite() as site:
        found = audit_url(site.url)
        assert found.links is not None
        assert [(link.url, link.problem) for link in found.links.broken] == [
            (site.url_of("/spring-offer"), "status 404")
        ]


def test_no_more_links_are_asked_for_than_allowed() -> None:
    with DemoSite() as site:
        found = audit_url(site.url, max_links=2)
        assert found.links is not None
        assert (found.links.checked, found.links.unchecked) == (2, 5)


def test_errors_come_before_warnings_and_notes() -> None:
    severities = [finding.severity for finding in judged("<h2>x</h2>").findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)


def test_the_json_form_fits_its_schema() -> None:
    with DemoSite() as site:
        for path in ("/", "/team", "/brochure.pdf"):
            jsonschema.validate(json.loads(json.dumps(audit_url(site.url_of(path)).as_dict())), AUDIT_SCHEMA)


@pytest.mark.parametrize(
    ("html", "rule"),
    [
        ('<link rel=canonical href="/a"><link rel=canonical href="/b">', "canonical-many"),
        ('<link rel=canonical href="javascript:0">', "canonical-wrong"),
        ('<link rel=canonical href="/elsewhere">', "canonical-elsewhere"),
        ("<title>One good title</title><title>Another</title>", "title-many"),
        ("<meta name=description content=a><meta name=description content=b>", "description-many"),
        ("<meta name=googlebot content='NONE'>", "noindex"),
        ("<h1> </h1>", "heading-empty"),
        ('<script type="application/ld+json">[1]</script>', "json-ld"),
        ('<script type="application/ld+json">{"@type": "x"}</script>', "json-ld"),
        ('<script type="application/ld+json">' + "[" * 100_000 + "</script>", "json-ld"),
    ],
)
def test_each_rule_finds_its_fault(html: str, rule: str) -> None:
    assert rule in rules(judged(html))


def test_a_header_can_forbid_indexing() -> None:
    assert "noindex" in rules(judged("", headers={"x-robots-tag": "NoIndex"}))


def test_the_title_of_a_drawing_is_not_the_page_s() -> None:
    assert judged("<svg><title>Arrow</title></svg><title>The page itself</title>").title == "The page itself"


def test_text_in_links_and_headings_is_what_a_reader_hears() -> None:
    found = judged(
        '<h1>A <b>bold</b><img alt="map"></h1><a href="/x"><img alt="Home"></a><a href="/y" aria-label="Up"></a>'
    )
    assert found.headings[0].text == "A bold map"
    assert (found.internal_links, found.empty_links) == (2, 0)


def test_anchors_that_lead_to_no_page_are_not_counted() -> None:
    found = judged('<a href="#top">x</a><a href="mailto:a@b">x</a><a name="x">y</a><a href="https://other.test/">z</a>')
    assert (found.internal_links, found.external_links) == (0, 1)


@given(st.text(max_size=400))
def test_any_text_can_be_judged(text: str) -> None:
    assert json.dumps(judged(text).as_dict())


PIECES = ["<", ">", "</", "<!", "<![", "<!--", "-->", "<?", "&#x", "&", "<h1", "<a href=", "'", '"', "=", "<title>", "<svg>",
          "<script type=application/ld+json>", "</script", "<![CDATA[", "<![if", "]>", "<base href=http://[", " ", "\0", "x"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_any_broken_html_can_be_judged(text: str) -> None:
    assert judged(text).status == 200


@pytest.mark.parametrize(
    "piece", ["<", "<a ", "<!--", "<a b=", "&", "</a ", "<![CDATA[", "<h1>", "<a href=/x>", "<svg>"]
)
def test_a_megabyte_of_nonsense_is_judged_in_time(piece: str) -> None:
    started = time.monotonic()
    read_facts(piece * (1_000_000 // len(piece)), URL, parse_seconds=0.2)
    assert time.monotonic() - started < 60


def test_the_tools_keep_to_the_site_that_the_task_names() -> None:
    with DemoSite() as site:
        fetch, audit, links = audit_tools(only_site_of=site.url)
        assert audit(site.url)["status"] == 200
        assert links(site.url)["checked"] == 6
        with pytest.raises(FetchError, match="only pages of the site"):
            fetch("http://127.0.0.1:1/")


def test_a_tool_s_result_is_small() -> None:
    with DemoSite() as site:
        assert all(len(json.dumps(tool(site.url))) < 4_000 for tool in audit_tools())
