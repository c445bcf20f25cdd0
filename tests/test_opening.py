"""Opening a session by itself: what is written first, and what a session that is opened again starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sessions import SPEC, a_session, ask

from donewhen import owner
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import read_reply
from donewhen.drafts import end_draft
from donewhen.entry import LedgerRow, spec_hash
from donewhen.errors import CheckError, LedgerError, SessionBusyError, SessionEndedError, SpecError
from donewhen.ledger import Ledger
from donewhen.opening import open_session
from donewhen.progress import read_progress
from donewhen.testing import make_reply


@pytest.fixture
def ledger(tmp_store) -> Any:
    with Ledger(tmp_store) as opened:
        yield opened


def opens(ledger: Ledger) -> list[LedgerRow]:
    return [row for row in ledger.rows(SPEC.session_id) if row.kind == "open"]


def test_the_spec_and_its_ceilings_are_on_disk_before_anything_can_be_spent(ledger) -> None:
    session = a_session(ledger, turns=3, tokens=500, terms={"keep": "nothing"})
    spec, policy, opened = ledger.rows(SPEC.session_id)
    answers = (SPEC.what_it_does, SPEC.what_it_does_not, SPEC.done_looks_like)
    assert spec.data["spec_hash"] == opened.data["spec_hash"] == spec_hash(*answers, {"keep": "nothing"})
    assert opened.data["ceilings"] == [3, 500, None, None, None, None]
    assert opened.data["owner"] == owner.this_process()
    assert (policy.kind, policy.data["started_by"]) == ("policy", owner.this_user())
    assert (session.before, session.newest_balance) == (None, opened.after[-1])


def test_a_session_that_cannot_be_protected_is_not_opened(ledger) -> None:
    def missing() -> dict[str, str]:
        raise CheckError("tests holds no file")

    with pytest.raises(CheckError):
        a_session(ledger, protect=missing)
    assert ledger.rows(SPEC.session_id) == []


def test_digests_are_those_of_the_first_opening(ledger) -> None:
    a_session(ledger, protect=lambda: {"tests/a.py": "0" * 64})
    again = a_session(ledger, protect=lambda: pytest.fail("not taken again"))
    assert again.protected == {"tests/a.py": "0" * 64}


def test_a_session_that_is_opened_again_has_its_spend_and_the_ledgers_ceilings(ledger) -> None:
    session = a_session(ledger, turns=3)
    session.settle(session.admit(ask()), read_reply(make_reply("ok")))
    ledger.raise_ceilings(SPEC.session_id, {"turns": 9}, why="more", who="alice")
    session.leave()
    again = a_session(ledger, turns=3)
    assert (again.newest_balance.used.tokens, again.newest_balance.ceilings.turns) == (15, 9)
    assert again.before is not None
    assert again.before.newest.kind == "budget"


def test_a_call_in_doubt_is_told_once_however_often_the_session_is_opened(ledger) -> None:
    a_session(ledger).admit(ask())
    for _ in range(3):
        a_session(ledger)
    abandoned = [row for row in ledger.rows(SPEC.session_id) if row.kind == "abandoned"]
    assert (len(abandoned), len(opens(ledger))) == (1, 4)
    assert a_session(ledger).newest_balance.reserved.turns == 1


OWNERS: dict[str, tuple[Callable[[str], str], str]] = {
    "a process that is gone": (lambda _name: "host:4194305:1", "interrupted"),
    "another start of the same id": (lambda name: name.rpartition(":")[0] + ":1", "interrupted"),
    "another host": (lambda name: f"elsewhere-{name}", "running"),
    "something else": (lambda _name: "nonsense", "running"),
}


@pytest.mark.parametrize("name", OWNERS)
def test_only_a_process_that_is_known_to_live_makes_a_session_busy(ledger, monkeypatch, name) -> None:
    rename, state = OWNERS[name]
    mine = owner.this_process()
    other = rename(mine).replace("host:4194305", f"{mine.rpartition(':')[0].rpartition(':')[0]}:4194305")
    monkeypatch.setattr("donewhen.opening.this_process", lambda: other)
    a_session(ledger)
    monkeypatch.undo()
    progress = read_progress(ledger.rows(SPEC.session_id))
    assert progress is not None
    assert progress.state == state
    assert a_session(ledger).before is not None


def test_a_session_of_a_process_that_lives_is_busy(ledger, monkeypatch) -> None:
    a_session(ledger)
    monkeypatch.setattr("donewhen.opening.this_process", lambda: "host:1:1")
    with pytest.raises(SessionBusyError, match="Wait for it, or stop it first"):
        a_session(ledger)
    assert len(opens(ledger)) == 1


def test_a_session_that_was_never_opened_has_no_progress(ledger) -> None:
    ledger.write_spec(SPEC)
    assert read_progress(ledger.rows(SPEC.session_id)) is None
    assert read_progress([]) is None


def test_a_close_before_the_newest_opening_ends_nothing(ledger) -> None:
    a_session(ledger)
    rows = ledger.rows(SPEC.session_id)
    closed = replace(rows[-1], kind="close", seq=3, data={"outcome": "breached"})
    opened = replace(rows[-1], seq=4)
    progress = read_progress([*rows, closed, opened])
    assert progress is not None
    assert (progress.outcome, progress.raised_since) == (None, False)


def test_a_session_that_this_process_has_open_is_not_opened_twice(ledger) -> None:
    with a_session(ledger), pytest.raises(SessionBusyError, match=SPEC.session_id):
        a_session(ledger)
    assert a_session(ledger).before is not None


def test_two_who_open_a_new_session_at_once_do_not_both_make_it(ledger, monkeypatch) -> None:
    other = Ledger(ledger.path)
    raced = Ledger.note_after

    def lose(self, session_id, decide):
        if self is ledger and not opens(other):
            open_session(SPEC, CircuitBreaker(turn_limit=1), other).leave()
        return raced(self, session_id, decide)

    monkeypatch.setattr(Ledger, "note_after", lose)
    session = a_session(ledger, turns=9)
    other.close()
    assert [row.kind for row in ledger.rows(SPEC.session_id)] == ["spec", "policy", "open", "open"]
    assert session.newest_balance.ceilings.turns == 1


def test_a_session_that_has_ended_admits_nothing(ledger) -> None:
    session = a_session(ledger)
    session.note(end_draft(SPEC.session_id, "done", "finished", None))
    with pytest.raises(SessionEndedError, match="done"):
        session.admit(ask())


def test_nothing_is_opened_under_a_blank_answer(ledger) -> None:
    blank = replace(SPEC, done_looks_like=" \n")
    with pytest.raises(SpecError) as caught:
        open_session(blank, CircuitBreaker(output_fn=lambda _: None), ledger)
    assert (caught.value.field, ledger.rows(SPEC.session_id)) == ("done_looks_like", [])


def test_a_stored_spec_without_terms_is_opened_as_it_is(ledger) -> None:
    ledger.write_spec(SPEC)
    a_session(ledger)
    assert [row.kind for row in ledger.rows(SPEC.session_id)] == ["spec", "policy", "open"]
    assert "terms" not in opens(ledger)[0].data


def test_a_session_is_only_gone_on_with_under_its_own_input_key(tmp_store) -> None:
    with Ledger(tmp_store, input_key=b"k" * 32) as keyed:
        a_session(keyed).leave()
        assert opens(keyed)[0].data["input_key"] == keyed.hasher.key_id
    for key in (None, b"l" * 32):
        with (
            Ledger(tmp_store, input_key=key) as other,
            pytest.raises(LedgerError, match="opened with another input key"),
        ):
            a_session(other)
    with Ledger(tmp_store, input_key=b"k" * 32) as again:
        assert a_session(again).before is not None
