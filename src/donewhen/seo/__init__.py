"""An SEO audit of one page: the main job of the demo and the examples, and three tools for a loop."""

from __future__ import annotations

from donewhen.seo.audit import AUDIT_SCHEMA, Audit, Finding, audit_url, judge_page
from donewhen.seo.fetch import Fetcher, Page, fetch_page
from donewhen.seo.report import REPORT_HEADINGS, REPORT_PATTERN, write_advice, write_report
from donewhen.seo.tools import audit_tools
from donewhen.seo.transfer import FetchError

__all__ = [
    "AUDIT_SCHEMA",
    "REPORT_HEADINGS",
    "REPORT_PATTERN",
    "Audit",
    "FetchError",
    "Fetcher",
    "Finding",
    "Page",
    "audit_tools",
    "audit_url",
    "fetch_page",
    "judge_page",
    "write_advice",
    "write_report",
]
