"""Anthropic's usage report: the API's buckets, and the rows of the console's CSV file.

The API's answer has `uncached_input_tokens`, `cache_read_input_tokens`, `cache_creation` with one number for each
lifetime, `output_tokens`, and `api_key_id` and `model` where it was asked to group by them. The CSV file has a day, or a
time, in `usage_date_utc`, and names of keys instead of ids.

Source: https://platform.claude.com/docs/en/api/admin/usage_report/retrieve_messages; console CSV export, 2026.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, cast

from donewhen.usage import Usage
from donewhen.usage_report.row import Place, UsageRow, check_span, count, results, text, time

_WRITES = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
_NEEDED = ("model_version", "usage_input_tokens_no_cache", "usage_output_tokens")
_DAY = timedelta(days=1)


def read_bucket(bucket: Mapping[str, Any], place: Place) -> Iterator[UsageRow]:
    """Yield the rows of one bucket of the API's answer; one of nothing where it has no results.

    Raises:
        UsageReportError: it says what cannot be.
    """
    starts_at, ends_at = time(bucket, "starting_at", place), time(bucket, "ending_at", place)
    check_span(starts_at, ends_at, place, "ending_at")
    for result in results(bucket, place) or [{}]:
        written: Any = result.get("cache_creation") or {}
        if not isinstance(written, dict):
            raise place.fault("must be an object", "cache_creation", written)
        writes = cast("Mapping[str, Any]", written)
        usage = Usage(
            count(result, "uncached_input_tokens", place),
            count(result, "output_tokens", place),
            count(result, "cache_read_input_tokens", place),
            sum(count(writes, name, place, within="cache_creation.") for name in _WRITES),
        )
        yield UsageRow(
            provider="anthropic",
            starts_at=starts_at,
            ends_at=ends_at,
            model=text(result, "model", place),
            key=text(result, "api_key_id", place),
            usage=usage,
            requests=None,
        )


def read_record(record: Mapping[str, str], place: Place) -> UsageRow:
    """Return one row of the CSV file.

    Raises:
        UsageReportError: it says what cannot be, or lacks a column.
    """
    for name in _NEEDED:
        if name not in record:
            raise place.fault("this column is missing", name)
    starts_at = time(record, "usage_date_utc", place)
    has_time = ":" in record["usage_date_utc"]
    usage = Usage(
        count(record, "usage_input_tokens_no_cache", place),
        count(record, "usage_output_tokens", place),
        count(record, "usage_input_tokens_cache_read", place),
        count(record, "usage_input_tokens_cache_write_5m", place)
        + count(record, "usage_input_tokens_cache_write_1h", place),
    )
    return UsageRow(
        provider="anthropic",
        starts_at=starts_at,
        ends_at=starts_at + (timedelta(hours=1) if has_time else _DAY),
        model=text(record, "model_version", place),
        key=text(record, "api_key", place),
        usage=usage,
        requests=None,
    )
