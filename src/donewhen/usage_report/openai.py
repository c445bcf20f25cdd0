"""OpenAI's usage report: the API's buckets, and the rows of the console's CSV file, which has the same columns.

`input_tokens` has the cached and the written ones in it, so they are taken out; the kinds of ours do not overlap.

Source: https://platform.openai.com/docs/api-reference/usage/completions; console CSV export, 2026.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from donewhen.usage import Usage
from donewhen.usage_report.row import Place, UsageRow, check_span, count, results, seconds, text

_NEEDED = ("end_time", "model", "input_tokens", "output_tokens")


def read_bucket(bucket: Mapping[str, Any], place: Place) -> Iterator[UsageRow]:
    """Yield the rows of one bucket of the API's answer; one of nothing where it has no results.

    Raises:
        UsageReportError: it says what cannot be.
    """
    for name in ("start_time", "end_time"):
        if name not in bucket:
            raise place.fault("is missing: this is no usage report of Anthropic's or OpenAI's", name)
    for result in results(bucket, place) or [{}]:
        yield _row(bucket, result, place)


def read_record(record: Mapping[str, str], place: Place) -> UsageRow:
    """Return one row of the CSV file; a stretch of time may have nothing but its times.

    Raises:
        UsageReportError: it says what cannot be, or lacks a column.
    """
    for name in _NEEDED:
        if name not in record:
            raise place.fault("this column is missing", name)
    return _row(record, record, place)


def _row(times: Mapping[str, Any], result: Mapping[str, Any], place: Place) -> UsageRow:
    starts_at, ends_at = seconds(times, "start_time", place), seconds(times, "end_time", place)
    check_span(starts_at, ends_at, place, "end_time")
    whole = count(result, "input_tokens", place)
    read, written = count(result, "input_cached_tokens", place), count(result, "input_cache_write_tokens", place)
    if read + written > whole:
        raise place.fault("must have its cached tokens in it", "input_tokens", whole)
    requests = result.get("num_model_requests")
    return UsageRow(
        provider="openai",
        starts_at=starts_at,
        ends_at=ends_at,
        model=text(result, "model", place),
        key=text(result, "api_key_id", place),
        usage=Usage(whole - read - written, count(result, "output_tokens", place), read, written),
        requests=None if requests in (None, "") else count(result, "num_model_requests", place),
    )
