"""Exports: the rows for other programs, and nothing that is private."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from exports import SECRETS, SESSION, run_session
from hypothesis import given
from hypothesis import strategies as st
from stores.kit import SIGNER, say, tamper

from donewhen.entry import decode, spell
from donewhen.errors import LedgerTamperedError, SessionNotFoundError
from donewhen.export import CSV_COLUMNS, FORMATS, export_session, plain_cell
from donewhen.export.aat import agent_of
from donewhen.ledger import Ledger

FORMULAS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "  =1",
    "\n=1",
    "\r=1",
    "\uff1d1",
    "'=1",
    "'",
    "a=1",
    "",
    "日本",
    '"=1"',
]


@pytest.fixture(params=[None, SIGNER], ids=["unsigned", "signed"])
def ledger(request: pytest.FixtureRequest, tmp_store: Path) -> Iterator[Ledger]:
    with Ledger(tmp_store, signer=request.param) as ledger:
        run_session(ledger)
        yield ledger


def table(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")))


@pytest.mark.parametrize("form", FORMATS)
def test_no_private_text_is_in_an_export(ledger: Ledger, form: str) -> None:
    data = export_session(ledger, SESSION, form)
    assert data
    assert not any(secret.encode() in data for secret in SECRETS)


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_of_nothing_is_an_error(ledger: Ledger, form: str) -> None:
    with pytest.raises(SessionNotFoundError):
        export_session(ledger, "nobody", form)


@pytest.mark.parametrize("form", FORMATS)
def test_what_was_exported_is_the_same_the_next_time(ledger: Ledger, form: str) -> None:
    first = export_session(ledger, SESSION, form)
    say(ledger, "another session goes on", "other")
    same = export_session(ledger, SESSION, form)
    # The newest checkpoint is in a bundle, and that has moved.
    assert form == "bundle" or same == first
    assert export_session(ledger, SESSION, form) == same


@pytest.mark.parametrize("form", FORMATS)
def test_rows_that_are_not_what_was_signed_are_not_passed_on(tmp_store: Path, form: str) -> None:
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        run_session(ledger)
    tamper(tmp_store, """UPDATE entries SET body = replace(body, '"reviewer":"ada"', '"reviewer":"eve"')""")
    with Ledger(tmp_store, read_only=True) as ledger, pytest.raises(LedgerTamperedError):
        export_session(ledger, SESSION, form)


def test_json_lines_are_the_stored_rows(ledger: Ledger) -> None:
    lines = export_session(ledger, SESSION, "jsonl").split(b"\n")
    assert lines.pop() == b""
    assert lines == [spell(row) for row in ledger.rows(SESSION)]
    assert [decode(line, strict=True) for line in lines] == ledger.rows(SESSION)


def test_a_table_has_every_row_and_the_tutorials_columns(ledger: Ledger) -> None:
    data = export_session(ledger, SESSION, "csv")
    found, rows = table(data), ledger.rows(SESSION)
    assert tuple(found[0]) == CSV_COLUMNS
    assert [line["id"] for line in found] == [str(row.id) for row in rows]
    for line, row in zip(found, rows, strict=True):
        assert (line["session_id"], line["kind"], line["created_at"]) == (row.session_id, row.kind, row.created_at)
        assert (json.loads(line["data"]) if line["data"] else {}) == row.data
        assert line["pass_fail"] == str(int(row.pass_fail))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_begins_a_formula(tmp_store: Path, text: str) -> None:
    with Ledger(tmp_store) as ledger:
        ledger.write("s", 1, text, "x", 1, 1, False, text)
        [line] = table(export_session(ledger, "s", "csv"))
    assert line["state_origin"] == line["breach_reason"] == plain_cell(text)
    assert line["state_origin"].lstrip()[:1] not in FORMULAS


@given(st.text() | st.sampled_from(HOSTILE) | st.tuples(st.sampled_from(HOSTILE), st.text()).map("".join))
def test_a_cell_is_safe_and_gives_its_text_back(text: str) -> None:
    cell = plain_cell(text)
    assert cell.lstrip()[:1] not in FORMULAS
    assert cell[:1] not in ("\t", "\r", "\n")
    assert cell.removeprefix("'") == text


def test_numbers_and_what_is_absent_stay_plain() -> None:
    assert [plain_cell(value) for value in (0, 12, None)] == ["0", "12", ""]


def test_there_are_no_other_formats_and_no_texts_in_them(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="not a format"):
        export_session(ledger, SESSION, "xml")
    for form in ("jsonl", "csv", "aat"):
        with pytest.raises(ValueError, match="bundle only"):
            export_session(ledger, SESSION, form, with_texts=True)
    with pytest.raises(ValueError, match="csv cannot"):
        export_session(ledger, SESSION, "csv", agent=agent_of("log"))
