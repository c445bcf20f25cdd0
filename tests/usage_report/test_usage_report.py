"""Usage reports of Anthropic and OpenAI, and files that are none."""

from __future__ import annotations

import contextlib
import json
import pickle
import tracemalloc
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.usage import Usage
from donewhen.usage_report import UsageReportError, UsageRow, read_usage_report

UTC = timezone.utc
ANTHROPIC = {
    "starting_at": "2026-11-27T08:04:00Z",
    "ending_at": "2026-11-27T08:05:00Z",
    "results": [
        {
            "uncached_input_tokens": 1500,
            "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
            "cache_read_input_tokens": 200,
            "output_tokens": 500,
            "server_tool_use": {"web_search_requests": 10},
            "api_key_id": "apikey_01",
            "workspace_id": None,
            "model": "claude-sonnet-4-6",
            "service_tier": "standard",
            "context_window": "0-200k",
        }
    ],
}
OPENAI = {
    "object": "bucket",
    "start_time": 1_795_766_640,
    "end_time": 1_795_766_700,
    "results": [
        {
            "object": "organization.usage.completions.result",
            "input_tokens": 1000,
            "output_tokens": 500,
            "input_cached_tokens": 800,
            "input_cache_write_tokens": 50,
            "num_model_requests": 5,
            "project_id": None,
            "user_id": None,
            "api_key_id": "key_1",
            "model": "gpt-4o-2024-08-06",
            "batch": None,
        }
    ],
}
ANTHROPIC_CSV = (
    "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
    "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
    "usage_output_tokens,web_search_count,inference_geo,speed\n"
    "2026-11-27,claude-sonnet-4-6,my key,Default,standard,≤ 200k,1500,500,1000,200,500,10,not_available,\n"
)
OPENAI_CSV = (
    "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,model,batch,"
    "service_tier,input_tokens,output_tokens,input_cached_tokens,input_uncached_tokens\n"
    "1795766580,1795766640,2026-11-27T08:03:00+00:00,2026-11-27T08:04:00+00:00,,,,,,,,,,,\n"
    "1795766640,1795766700,2026-11-27T08:04:00+00:00,2026-11-27T08:05:00+00:00,p,5,,key_1,gpt-4o-2024-08-06,,,1000,500,800,200\n"
)


def page(*buckets: dict[str, Any], has_more: bool = False) -> str:
    return json.dumps({"object": "page", "data": list(buckets), "has_more": has_more, "next_page": None})


def read(path: Path, content: str | bytes) -> list[UsageRow]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_usage_report(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage"


def test_anthropics_answer_is_read_by_kind(path) -> None:
    (row,) = read(path, page(ANTHROPIC))
    assert row.usage == Usage(1500, 500, 200, 1500)
    assert (row.provider, row.model, row.key, row.requests) == ("anthropic", "claude-sonnet-4-6", "apikey_01", None)
    assert (row.starts_at, row.ends_at) == (
        datetime(2026, 11, 27, 8, 4, tzinfo=UTC),
        datetime(2026, 11, 27, 8, 5, tzinfo=UTC),
    )


def test_openais_answer_has_cached_tokens_within_its_input(path) -> None:
    (row,) = read(path, page(OPENAI))
    assert row.usage == Usage(150, 500, 800, 50)
    assert (row.provider, row.model, row.key, row.requests) == ("openai", "gpt-4o-2024-08-06", "key_1", 5)
    assert row.starts_at == datetime.fromtimestamp(1_795_766_640, UTC)


def test_anthropics_table_is_by_the_day_or_the_hour(path) -> None:
    (row,) = read(path, "\ufeff" + ANTHROPIC_CSV.replace("\n", "\r\n"))
    assert (row.usage, row.model, row.key) == (Usage(1500, 500, 200, 1500), "claude-sonnet-4-6", "my key")
    assert (row.ends_at - row.starts_at).total_seconds() == 86_400
    (row,) = read(path, ANTHROPIC_CSV.replace("2026-11-27,", "2026-11-27 08:00,"))
    assert (row.starts_at.hour, (row.ends_at - row.starts_at).total_seconds()) == (8, 3_600)


def test_openais_table_has_minutes_of_nothing(path) -> None:
    nothing, row = read(path, OPENAI_CSV)
    assert (nothing.usage, nothing.model, nothing.requests) == (Usage(0, 0), None, None)
    assert (row.usage, row.key, row.requests) == (Usage(200, 500, 800), "key_1", 5)


def test_a_bucket_of_nothing_still_says_which_time_is_covered(path) -> None:
    (row,) = read(path, page({**ANTHROPIC, "results": []}))
    assert (row.usage.total, row.model) == (0, None)


@pytest.mark.parametrize("between", ["", "\n", " \n\n"])
def test_pages_may_follow_one_another_or_stand_in_a_list(path, between) -> None:
    pages = page(ANTHROPIC, has_more=True), page(ANTHROPIC, ANTHROPIC)
    assert len(read(path, between.join(pages))) == 3
    assert len(read(path, f"[{pages[0]},{between}{pages[1]}]")) == 3


@given(st.integers(0, 40), st.integers(0, 200_000), st.sampled_from([None, 2, 7]))
def test_a_file_of_any_size_and_spelling_is_read(tmp_path_factory, count, padding, indent) -> None:
    path = tmp_path_factory.mktemp("usage") / "usage"
    report = {"next_page": "x" * padding, "data": [ANTHROPIC] * count, "has_more": False}
    assert len(read(path, json.dumps(report, indent=indent))) == count


def test_a_large_file_is_read_in_little_memory(path) -> None:
    buckets = ",".join([json.dumps(ANTHROPIC)] * 40_000)
    path.write_text(f'{{"data": [{buckets}], "has_more": false}}')
    assert path.stat().st_size > 15_000_000
    tracemalloc.start()
    total = sum(row.usage.total for row in read_usage_report(path))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 40_000 * 3_700
    assert most < 3_000_000


def broken(field: str, value: object, bucket: dict[str, Any] = ANTHROPIC) -> str:
    if field in bucket:
        return page({**bucket, field: value})
    return page({**bucket, "results": [{**bucket["results"][0], field: value}]})


HOSTILE: list[tuple[str | bytes, str]] = [
    ("", "the file is empty"),
    (" \n ", "the file is empty"),
    (b"\xff\xfe\x00", "this is not UTF-8"),
    ("hello", "the header: has neither usage_date_utc nor start_time"),
    ("start_time,a,a\n1,2,3\n", "line 1: a: this column is there twice"),
    ("{}", "data: is missing"),
    ("[", "']' is expected here"),
    ("[5]", "'{' is expected here"),
    ('{"data": 5}', "'[' is expected here"),
    ('{"data": [5]}', "data: must be a list of objects (found 5)"),
    ('{"data": [{}]}', "start_time: is missing"),
    ('{"data": [', "this is not JSON: Expecting value"),
    ('{"data": [{"results": []}', "is missing: this is no usage report"),
    ('{"data": [{"a": ', "this is not JSON"),
    ('{"data": [NaN]}', "NaN is not a number of JSON"),
    ('{"data": [' + "[" * 100_000, "this cannot be read"),
    ('{"data": [' + "1" * 5_000 + "]}", "this cannot be read"),
    (page(ANTHROPIC) + "x", "'{' is expected here"),
    (page(ANTHROPIC, has_more=True), "has_more: the last page says that there are more"),
    (broken("starting_at", "yesterday"), "starting_at: must be a time in ISO 8601 (found 'yesterday')"),
    (broken("starting_at", None), "starting_at: must be a time in ISO 8601"),
    (broken("ending_at", "2020-01-01T00:00:00Z"), "ending_at: must be later than the start"),
    (broken("results", {}), "results: must be a list (found {})"),
    (broken("results", [5]), "results: must be a list of objects (found 5)"),
    (broken("output_tokens", -1), "output_tokens: must be a whole number from 0 on (found -1)"),
    (broken("output_tokens", 1.5), "output_tokens: must be a whole number from 0 on (found 1.5)"),
    (broken("output_tokens", True), "output_tokens: must be a whole number from 0 on (found True)"),
    (broken("output_tokens", "x" * 500), "output_tokens: must be a whole number from 0 on (found 'xxx"),
    (broken("output_tokens", 10**400), "found a number of more than 80 digits"),
    (broken("cache_creation", 5), "cache_creation: must be an object (found 5)"),
    (broken("cache_creation", {"ephemeral_1h_input_tokens": []}), "cache_creation.ephemeral_1h_input_tokens: must be"),
    (broken("model", 5), "model: must be text (found 5)"),
    (broken("start_time", 10**15, OPENAI), "start_time: must be a time in seconds since 1970"),
    (broken("end_time", 5, OPENAI), "end_time: must be later than the start"),
    (broken("input_cached_tokens", 5_000, OPENAI), "input_tokens: must have its cached tokens in it (found 1000)"),
    (ANTHROPIC_CSV.replace("2026-11-27", "27/11/2026"), "line 2: usage_date_utc: must be a time"),
    (ANTHROPIC_CSV.replace(",1500,", ",1.5e3,"), "line 2: usage_input_tokens_no_cache: must be a whole number"),
    (ANTHROPIC_CSV.replace("model_version", "modell"), "line 2: model_version: this column is missing"),
    (ANTHROPIC_CSV + "2026-11-27,claude\n", "line 3: has 2 cells under 14 names"),
    (ANTHROPIC_CSV + '2026-11-27,"claude\n', "this is not CSV"),
    (ANTHROPIC_CSV + "x" * 200_000, "line 3: this line has more than 131072 characters"),
    (OPENAI_CSV.replace("end_time,start", "ende,start"), "end_time: this column is missing"),
]


@pytest.mark.parametrize(("content", "said"), HOSTILE)
def test_what_is_no_report_is_one_error_that_names_field_and_value(path, content, said) -> None:
    with pytest.raises(UsageReportError) as caught:
        read(path, content)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < len(str(path)) + 300
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_the_line_of_a_fault_is_that_of_its_bucket(path) -> None:
    text = json.dumps({"data": [ANTHROPIC, {**ANTHROPIC, "results": 5}]}, indent=1)
    line = text[: text.rindex("{")].count("\n") + 1
    with pytest.raises(UsageReportError, match=f"line {line}: results"):
        read(path, text)


def test_a_file_that_is_not_there_is_told(path) -> None:
    with pytest.raises(UsageReportError, match="the file cannot be read: No such file"):
        list(read_usage_report(path))
    with pytest.raises(UsageReportError, match="cannot be read"):
        list(read_usage_report("a\0b"))


@given(st.binary(max_size=60) | st.text(st.sampled_from('{}[]",:0123456789datresul\n x'), max_size=80).map(str.encode))
def test_rubbish_is_one_error(tmp_path_factory, content) -> None:
    path = tmp_path_factory.mktemp("usage") / "usage"
    with contextlib.suppress(UsageReportError):
        assert isinstance(read(path, content), list)
