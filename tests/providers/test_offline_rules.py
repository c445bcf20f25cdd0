"""The rule sets, each on real text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.providers.offline_rules.code_review import added_lines, review_lines
from donewhen.providers.offline_rules.document_extraction import extract, read_amount, read_date
from donewhen.providers.offline_rules.seo_audit import find_url
from donewhen.providers.offline_rules.support_triage import triage

DIFF = """diff --git a/app.py b/app.py
--- a/app.py
+++ b/app.py
@@ -10,2 +10,7 @@ def run():
 before
+API_KEY = "sk-live-1234567890"
+try:
+    eval(text)
+except:
+    print(text)
 after
"""


def test_added_lines_carry_their_place_in_the_new_file() -> None:
    assert [(line.path, line.number) for line in added_lines(DIFF)] == [("app.py", number) for number in range(11, 16)]


def test_a_review_names_each_fault_with_its_line() -> None:
    found = {(remark.severity, remark.place) for remark in review_lines(list(added_lines(DIFF)))}
    assert found == {
        ("blocker", "app.py:11"),
        ("blocker", "app.py:13"),
        ("fault", "app.py:14"),
        ("remark", "app.py:15"),
        ("fault", "app.py"),
    }


def test_removed_lines_and_tests_are_not_held_against_anybody() -> None:
    diff = "+++ b/app.py\n@@ -1 +1 @@\n-eval(x)\n+x = model.eval()\n+++ b/tests/test_app.py\n@@ -0,0 +1 @@\n+assert x\n"
    assert list(review_lines(list(added_lines(diff)))) == []


@pytest.mark.parametrize(
    ("ticket", "expected"),
    [
        ("Our production site is down for everyone!", ("outage", "urgent", "operations")),
        ("I was charged twice, please send a refund.", ("billing", "normal", "finance")),
        ("Somebody hacked my account", ("security", "high", "security")),
        ("How do I export? No hurry.", ("how_to", "low", "support")),
        ("Good morning", ("other", "normal", "support")),
    ],
)
def test_a_ticket_is_sorted_by_its_words(ticket: str, expected: tuple[str, str, str]) -> None:
    found = triage(ticket)
    assert (found["category"], found["priority"], found["queue"]) == expected


def test_an_invoice_is_read() -> None:
    text = (
        "Vendor: Spoke and Chain\nInvoice No. SC-2041\nDate: 4 March 2026\nSubtotal 1,000.00\nTotal due: EUR 1,190.00\n"
    )
    assert {key: value for key, value in extract(text).items() if key != "written_by"} == {
        "invoice_number": "SC-2041",
        "date": "2026-03-04",
        "total": "1190.00",
        "currency": "EUR",
        "vendor": "Spoke and Chain",
    }


def test_what_is_not_in_a_document_is_null() -> None:
    found = extract("This invoice says nothing.")
    assert {key for key, value in found.items() if value is not None} == {"written_by"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-04", "2026-03-04"),
        ("04.03.2026", "2026-03-04"),
        ("March 4th, 2026", "2026-03-04"),
        ("03/04/2026", None),
        ("2026-13-40", None),
    ],
)
def test_dates_are_read_where_they_mean_one_day(text: str, expected: str | None) -> None:
    assert read_date(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,234.50", "1234.50"),
        ("1.234,50", "1234.50"),
        ("1'234", "1234.00"),
        ("60", "60.00"),
        ("1,234,567", "1234567.00"),
    ],
)
def test_amounts_are_read_in_both_spellings(text: str, expected: str) -> None:
    assert read_amount(text) == expected


def test_a_url_is_found_without_the_sentence_around_it() -> None:
    assert find_url("See (https://example.org/a?b=1).") == "https://example.org/a?b=1"
    assert find_url("nothing here") is None


@given(st.text(max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    assert set(extract(f"invoice\ntotal: {text}\ndate: {text}")) >= {"total", "date"}
    assert triage(text)["queue"]
    assert isinstance(list(review_lines(list(added_lines(f"+++ b/x\n@@ -1 +1 @@\n+{text}")))), list)
