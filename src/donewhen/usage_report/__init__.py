"""What a provider says it was used for: its usage report, read row by row, so that a file of any size can be.

Read are the answers of Anthropic's and OpenAI's usage APIs, as JSON (one page, several one after the other, or a list of
them), and the CSV files that their consoles export. A file is what somebody else wrote: whatever does not fit is one
error that names the line, the field and the value, and nothing is guessed.

Source: https://platform.claude.com/docs/en/api/admin/usage_report/retrieve_messages,
https://platform.openai.com/docs/api-reference/usage/completions; the columns of the CSV files as exported in 2026.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from donewhen.usage_report import anthropic, openai
from donewhen.usage_report.json_pages import iter_buckets
from donewhen.usage_report.row import Place, UsageReportError, UsageRow
from donewhen.usage_report.table import iter_records

__all__ = ["UsageReportError", "UsageRow", "read_usage_report"]


def read_usage_report(path: str | os.PathLike[str]) -> Iterator[UsageRow]:
    """Yield what a file says, row by row.

    Raises:
        UsageReportError: it cannot be read, is no usage report, or says what cannot be; names the line, the field and
            the value.
    """
    name = os.fspath(path)
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            yield from _rows(file, name)
    except (OSError, ValueError) as error:
        if isinstance(error, UsageReportError):
            raise
        if isinstance(error, UnicodeDecodeError):
            raise UsageReportError("this is not UTF-8", path=name) from error
        raise UsageReportError(
            f"the file cannot be read: {getattr(error, 'strerror', None) or error}", path=name
        ) from error


def _rows(file: IO[str], name: str) -> Iterator[UsageRow]:
    first = file.read(1)
    while first.isspace():
        first = file.read(1)
    file.seek(0)
    place = Place(name)
    if not first:
        raise UsageReportError("the file is empty", path=name)
    if first in "{[":
        for bucket in iter_buckets(file, place):
            read = anthropic.read_bucket if "starting_at" in bucket else openai.read_bucket
            yield from read(bucket, place)
        return
    for record in iter_records(file, place):
        read_record = anthropic.read_record if "usage_date_utc" in record else openai.read_record
        yield read_record(record, place)
