"""Exports of a ledger with a budget, a child, a halt and its lifting, and a call that was reconciled, on both stores."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from export.test_aat import problems
from receipts import both_say
from sessions import SPEC, a_session, ask
from stores.kit import SIGNER, STORES, postgres_url

from donewhen.client import Failure
from donewhen.entry import decode, spell
from donewhen.errors import CircuitBreakerError
from donewhen.export import FORMATS, export_session
from donewhen.ledger import Ledger
from donewhen.reconcile import Found, iter_in_doubt, reconcile
from donewhen.spec_writer import SpecResult
from donewhen.usage import Usage

CHILD = "child-1"
BUDGET = "donewhen:budget:acme"
EVERYTHING = "donewhen:all"
SESSIONS = (SPEC.session_id, CHILD, BUDGET, EVERYTHING)


@pytest.fixture(params=sorted(STORES))
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    place = tmp_path / "ledger.db"
    path = postgres_url(place) if request.param == "postgres" else str(place)
    with Ledger(path, signer=SIGNER) as ledger:
        live(ledger)
        yield ledger


def live(ledger: Ledger) -> None:
    """Leave a ledger in which everything that budgets bring has happened."""
    words = {"why": "a reason", "who": "ann"}
    ledger.new_budget("acme", tokens=500, per="day", who="ann")
    parent = a_session(ledger, budget="acme")
    child = parent.child(SpecResult("a", "b", "c", CHILD))
    child.abandon(child.admit(ask()), Failure(rejected=False, problem="the connection broke"))
    (call,) = iter_in_doubt(ledger, alive=lambda _owner: False)
    reconcile(ledger, call, Found(usage=Usage(40, 2)), **words)
    with pytest.raises(CircuitBreakerError, match="budget:acme:token_ceiling"):
        parent.admit(ask("x" * 600))
    for place in ({"session_id": CHILD}, {"budget": "acme"}, {"everything": True}):
        ledger.halt(**place, **words)
        ledger.lift_halt(**place, **words)
    ledger.change_budget("acme", {"tokens": 900}, **words)


def details(ledger: Ledger, session: str, kind: str) -> list[tuple[dict[str, Any], str]]:
    """Return what the records of the draft say of rows of a kind, and their outcomes."""
    records = [json.loads(line) for line in export_session(ledger, session, "aat").splitlines()]
    found = [(record["action_detail"], record["outcome"]) for record in records]
    return [(detail, outcome) for detail, outcome in found if detail.get("donewhen", {}).get("kind") == kind]


def test_every_session_goes_out_in_every_format(ledger: Ledger) -> None:
    for session in SESSIONS:
        assert all(export_session(ledger, session, form) for form in FORMATS)


@pytest.mark.parametrize("session", SESSIONS)
def test_lines_are_the_rows_as_they_are_stored(ledger: Ledger, session: str) -> None:
    lines = export_session(ledger, session, "jsonl").splitlines()
    assert lines == [spell(row) for row in ledger.rows(session)]
    assert [decode(line.decode()) for line in lines] == ledger.rows(session)


@pytest.mark.parametrize("session", SESSIONS)
def test_the_table_has_each_row_with_all_its_data(ledger: Ledger, session: str) -> None:
    text = export_session(ledger, session, "csv").decode("utf-8")
    table = list(csv.DictReader(io.StringIO(text, newline="")))
    told = [(int(line["id"]), line["kind"], json.loads(line["data"] or "{}")) for line in table]
    assert told == [(row.id, row.kind, json.loads(json.dumps(row.data))) for row in ledger.rows(session)]


@pytest.mark.parametrize("session", SESSIONS)
def test_a_bundle_proves_each_and_says_that_others_moved_what_they_share(ledger: Ledger, session: str) -> None:
    with zipfile.ZipFile(io.BytesIO(export_session(ledger, session, "bundle"))) as archive:
        proven = both_say(archive.read("receipts/session.receipt"), ledger.signed_by)
        readme = archive.read("README.txt").decode()
    assert len(proven["rows"]) == len(ledger.rows(session))
    assert ("donewhen:budget:NAME" in readme) == (session in (SPEC.session_id, CHILD))


@pytest.mark.parametrize("session", SESSIONS)
def test_records_keep_the_drafts_rules(ledger: Ledger, session: str) -> None:
    assert problems(export_session(ledger, session, "aat")) == []


def test_records_tell_a_halt_from_its_lifting(ledger: Ledger) -> None:
    for session in (CHILD, BUDGET, EVERYTHING):
        told = [
            (detail["halted"], detail["who"], detail["why"], outcome)
            for detail, outcome in details(ledger, session, "halt")
        ]
        assert told == [(True, "ann", "a reason", "denied"), (False, "ann", "a reason", "success")]


def test_records_tell_whose_ceiling_refused_and_where_a_session_stands(ledger: Ledger) -> None:
    ((breach, outcome),) = details(ledger, SPEC.session_id, "circuit_breaker")
    assert (breach["budget"], breach["dimension"], breach["ceiling"], outcome) == ("acme", "tokens", 500, "denied")
    assert (breach["spent"], breach["reserved"]) == (42, 0)
    assert details(ledger, SPEC.session_id, "open")[0][0]["budget"] == "acme"
    assert details(ledger, CHILD, "open")[0][0]["parent"] == SPEC.session_id


def test_records_tell_what_a_budget_allows_and_who_changed_it(ledger: Ledger) -> None:
    (began, _), (raised, _) = details(ledger, BUDGET, "budget")
    assert (began["who"], began["ceilings"]["tokens"], raised["ceilings"]["tokens"]) == ("ann", 500, 900)
    assert (raised["why"], raised["ceilings"]["turns"]) == ("a reason", None)
    assert began["period"]


def test_records_tell_what_a_call_in_doubt_was_found_to_have_used(ledger: Ledger) -> None:
    ((lost, outcome),) = details(ledger, CHILD, "abandoned")
    assert (lost["outcome_is_known"], outcome) == (False, "failure")
    ((found, _),) = details(ledger, CHILD, "reconcile")
    assert (found["who"], found["why"], found["donewhen"]["tokens"]) == ("ann", "a reason", 42)
    assert sum(found["usage"].values() if isinstance(found["usage"], dict) else found["usage"]) == 42
