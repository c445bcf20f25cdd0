"""Read an invoice's number, date, total and vendor from its text, as JSON; what is not there is null."""

from __future__ import annotations

import json
import re
from datetime import date
from decimal import Decimal, InvalidOperation

from donewhen.providers.offline_rules.conversation import INTRODUCTION, Answer, Conversation, Rules

NUMBER = re.compile(r"(?i)\binvoice\s*(?:no\.?|number|nr\.?|#)\s*[:#]?\s*([A-Z0-9][A-Z0-9/_-]{0,30})")
DATED = re.compile(r"(?im)^\W*(?:invoice )?(?:date|dated|issued)\b[^\S\n]*:?[^\S\n]*(.{1,40}?)[^\S\n]*$")
TOTAL = re.compile(r"(?im)^\W*(?:grand total|total due|amount due|total)\b[^\d\n]{0,30}(\d[\d.,' ]{0,20})")
CURRENCY = re.compile(r"\b(EUR|USD|GBP|CHF)\b|([€$£])")
VENDOR = re.compile(r"(?im)^\W*(?:vendor|supplier|seller|from)[^\S\n]*:[^\S\n]*(.{1,100}?)[^\S\n]*$")
SIGNS = {"€": "EUR", "$": "USD", "£": "GBP"}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
KIND_OF_TASK = re.compile(r"\binvoice\b", re.IGNORECASE)


def applies(conversation: Conversation) -> bool:
    """Tell whether the task is about an invoice."""
    return KIND_OF_TASK.search(conversation.task) is not None


def answer(conversation: Conversation) -> Answer:
    """Return what stands in the task's text."""
    return Answer(json.dumps(extract(conversation.task), ensure_ascii=False))


def extract(text: str) -> dict[str, object]:
    """Return invoice_number, date (ISO 8601), total (decimal text), currency and vendor; None for what is not there.

    Args:
        text: the document.
    """
    total = TOTAL.search(text)
    line = text[total.start() : text.find("\n", total.end()) % (len(text) + 1)] if total else ""
    currency = CURRENCY.search(line) or CURRENCY.search(text)
    dated = DATED.search(text)
    return {
        "invoice_number": _first(NUMBER, text),
        "date": read_date(dated.group(1)) if dated else None,
        "total": read_amount(total.group(1)) if total else None,
        "currency": (currency.group(1) or SIGNS[currency.group(2)]) if currency else None,
        "vendor": _first(VENDOR, text),
        "written_by": INTRODUCTION,
    }


def read_date(text: str) -> str | None:
    """Return a date as ISO 8601, or None; 03/04/2026 may be March or April, so it is None.

    Args:
        text: such as 2026-03-04, 4 March 2026, March 4, 2026 or 04.03.2026 (day first, as dots have it).
    """
    iso = re.search(r"\b(\d{4})-(\d{2})-(\d{2})\b", text)
    dotted = re.search(r"\b(\d{1,2})\.(\d{1,2})\.(\d{4})\b", text)
    named = re.search(r"\b(\d{1,2})(?:st|nd|rd|th)? ([A-Za-z]{3})[a-z]*\.? (\d{4})\b", text)
    named_first = re.search(r"\b([A-Za-z]{3})[a-z]*\.? (\d{1,2})(?:st|nd|rd|th)?, (\d{4})\b", text)
    if iso:
        return _date(iso.group(1), iso.group(2), iso.group(3))
    if dotted:
        return _date(dotted.group(3), dotted.group(2), dotted.group(1))
    if named:
        return _date(named.group(3), _month(named.group(2)), named.group(1))
    if named_first:
        return _date(named_first.group(3), _month(named_first.group(1)), named_first.group(2))
    return None


def read_amount(text: str) -> str | None:
    """Return an amount as plain decimal text, or None; the last comma or dot before two digits is the decimal one.

    Args:
        text: such as 1,234.50, 1.234,50 or 1234.
    """
    plain = text.replace(" ", "").replace("'", "").rstrip(".,")
    cents = re.fullmatch(r"([\d.,]*\d)[.,](\d{2})", plain)
    whole, part = (cents.group(1), cents.group(2)) if cents else (plain, "00")
    try:
        return f"{Decimal(re.sub('[.,]', '', whole))}.{part}"
    except InvalidOperation:
        return None


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    return found.group(1) if found else None


def _month(name: str) -> str:
    low = name.lower()
    return str(MONTHS.index(low) + 1) if low in MONTHS else "0"


def _date(year: str, month: str, day: str) -> str | None:
    try:
        return date(int(year), int(month), int(day)).isoformat()
    except ValueError:
        return None


DOCUMENT_EXTRACTION = Rules(applies, answer)
