"""Held calls when a session goes on: run once where they were let pass, told to the model where they were refused."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reviews import House, ask_to_pay

from donewhen.agent_loop import AgentLoop
from donewhen.bounds import Transcript
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import ToolCall
from donewhen.conversation import Conversation
from donewhen.driving import drive
from donewhen.entry import Entry, spell
from donewhen.errors import LedgerTamperedError
from donewhen.held_calls import find_refusals, refuse_changed
from donewhen.ledger import Draft
from donewhen.opening import open_session
from donewhen.progress import read_progress
from donewhen.spec_writer import SpecResult
from donewhen.steps import RunTools
from donewhen.testing import make_reply

BANK, SHOP = ToolCall("c1", "pay", {"to": "bank"}), ToolCall("c2", "pay", {"to": "shop"})
DONE = make_reply("# Report")


@pytest.fixture
def house(tmp_store: Path) -> Iterator[House]:
    made = House(tmp_store)
    made.enroll("ann", "ben")
    yield made
    made.close()


def attest(house: House, name: str = "ann", **options: Any) -> Any:
    house.clock.move(1)
    return house.surface.attest("s", name, reviewer_key=house.keys[name], **options)


def reject(house: House, name: str = "ann", reason: str = "Not this bank.", **options: Any) -> Any:
    house.clock.move(1)
    return house.surface.reject("s", name, reason, reviewer_key=house.keys[name], **options)


def go_on(house: House, *script: Any, **review: Any) -> Any:
    return house.run(*(script or (DONE,)), resume=True, **review)


def told(house: House) -> list[dict[str, Any]]:
    """What the model was told of its calls, as the session's kept conversation has it."""
    conversation = Conversation(Transcript(model="m"), kept=True)
    conversation.take_up(house.rows(), house.ledger.find_text, lambda _: None)
    blocks = [block for message in conversation.messages for block in message["content"] if isinstance(block, dict)]
    return [block for block in blocks if block.get("type") == "tool_result"]


def test_a_call_is_run_once_when_it_was_let_pass(house: House) -> None:
    assert house.hold().outcome == "held"
    assert (go_on(house).outcome, house.paid) == ("held", [])
    attest(house)
    assert (go_on(house).outcome, house.paid) == ("done", ["bank"])
    opened = house.rows("open")
    assert [len(row.data.get("runs", ())) for row in opened] == [0, 0, 1]
    [said] = house.rows("attest")
    assert opened[-1].data["runs"] == said.data["calls"]


def test_a_refused_call_is_told_to_the_model_with_the_reason_and_the_session_goes_on(house: House) -> None:
    house.hold()
    reject(house, reason="Not this bank.\nAsk first.")
    result = go_on(house)
    assert (result.outcome, house.paid) == ("done", [])
    [answer] = told(house)
    assert (answer["tool_use_id"], answer["is_error"]) == ("c1", True)
    assert "A person refused this call" in answer["content"]
    assert "ann: Not this bank.\nAsk first." in answer["content"]
    [row] = house.rows("tool")
    assert (row.pass_fail, row.data["problem"]) == (False, "a reviewer refused it, and it was not run")
    assert "runs" not in house.rows("open")[-1].data


def test_a_rejection_after_the_attestation_cancels_a_call_that_has_not_run(house: House) -> None:
    house.hold()
    attest(house)
    reject(house, "ben")
    assert (go_on(house).outcome, house.paid) == ("done", [])


def test_whoever_rejected_it_can_let_it_pass_after_all(house: House) -> None:
    house.hold()
    reject(house)
    attest(house)
    assert (go_on(house).outcome, house.paid) == ("done", ["bank"])


def test_of_two_calls_one_is_run_and_one_is_refused(house: House) -> None:
    house.hold("s", BANK, SHOP)
    attest(house, calls=["c1"])
    assert (go_on(house).outcome, house.paid) == ("held", [])
    reject(house, calls=["c2"], reason="Too dear.")
    assert go_on(house).outcome == "done"
    assert house.paid == ["bank"]
    assert [(block["tool_use_id"], block.get("is_error", False)) for block in told(house)] == [
        ("c1", False),
        ("c2", True),
    ]


def test_as_many_as_the_quorum_must_let_a_call_pass(house: House) -> None:
    house.hold(quorum=2)
    attest(house, "ann")
    assert (go_on(house, quorum=2).outcome, house.paid) == ("held", [])
    attest(house, "ben")
    assert (go_on(house, quorum=2).outcome, house.paid) == ("done", ["bank"]), "ann's was not used up"


def test_an_attestation_that_has_expired_runs_nothing(house: House) -> None:
    """The wall's time of the loop is the real one, which is long after the fake clock's."""
    house.hold(expiry_hours=1)
    attest(house)
    assert (go_on(house, expiry_hours=1).outcome, house.paid) == ("held", [])


def test_an_attestation_is_not_good_for_the_same_call_of_a_later_turn(house: House) -> None:
    house.hold()
    attest(house)
    assert go_on(house, ask_to_pay()).outcome == "held"
    assert (go_on(house).outcome, house.paid) == ("held", ["bank"])
    house.copy(house.rows("attest")[0])
    assert (go_on(house).outcome, house.paid) == ("held", ["bank"]), "the same envelope again is nothing new"
    attest(house)
    assert (go_on(house).outcome, house.paid) == ("done", ["bank", "bank"])


def test_a_process_that_dies_between_the_approval_and_the_run_leaves_it_used_up(house: House) -> None:
    house.hold()
    attest(house)
    loop = a_loop(house)
    run = loop._open(resume=True)
    run.session.leave()  # as a crash leaves it: opened, and nothing run
    assert len(house.rows("open")[-1].data["runs"]) == 1
    assert (go_on(house).outcome, house.paid) == ("held", [])
    attest(house)
    assert (go_on(house).outcome, house.paid) == ("done", ["bank"])


def test_a_rejection_in_the_last_moment_still_cancels_the_call(house: House) -> None:
    """It comes after the row that takes the attestation up, and before the call is run."""
    house.hold()
    attest(house)
    loop = a_loop(house, DONE)
    flow = loop._open(resume=True).flow(None)
    reject(house, "ben")

    def perform(step: Any) -> Any:
        assert not isinstance(step, RunTools)
        return loop._perform(step)

    assert (drive(flow, perform).outcome, house.paid) == ("done", [])
    assert "ben: Not this bank." in told(house)[0]["content"]


def test_a_rejection_whose_telling_was_interrupted_is_told_the_next_time(house: House) -> None:
    house.hold()
    reject(house)
    a_loop(house)._open(resume=True).session.leave()
    assert (go_on(house).outcome, house.paid) == ("done", [])
    assert len(house.rows("tool")) == 1


def test_a_call_that_is_not_the_one_that_was_looked_at_is_not_run(house: House) -> None:
    house.hold()
    attest(house)
    before = read_progress(house.rows())
    assert before is not None
    waiting = before.waiting_now
    spec = SpecResult("a", "b", "c", "other")
    session = open_session(spec, CircuitBreaker(), house.ledger)
    refuse_changed(session, [BANK], waiting)
    for changed in (replace(BANK, arguments={"to": "mal"}), replace(BANK, name="send")):
        with pytest.raises(LedgerTamperedError, match="asks for another call") as caught:
            refuse_changed(session, [changed], waiting)
        assert caught.value.row_id == waiting["c1"].row.id


def test_an_attestation_that_was_slipped_in_runs_nothing(tmp_path: Path) -> None:
    """A row in the middle of the session becomes an attestation, by an edit of the database."""
    house = House(tmp_path / "edited.db")
    house.hold()
    digest = house.surface.load("s").held_calls[0].call_hash
    house.ledger.write("s", 1, "a", "b", 0, 0, True)
    house.ledger.write("s", 1, "a", "b", 0, 0, True)
    victim = house.rows("write")[0]
    data = {"reviewer": "ann", "frame_hash": "0" * 64, "notes": "", "calls": [digest]}
    forged = replace(victim, kind="attest", state_origin="attest", input_hash="", data=data)
    with sqlite3.connect(house.path) as connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute("UPDATE entries SET body = ? WHERE id = ?", (spell(forged).decode(), victim.id))
    connection.close()
    with pytest.raises(LedgerTamperedError, match="does not follow the row before it"):
        go_on(house)
    assert house.paid == []
    house.close()


def test_an_opening_that_takes_up_what_nobody_let_pass_runs_nothing(house: House) -> None:
    """Whoever has the log's key writes that a call may be run."""
    house.hold()
    opened = house.rows("open")[0].data
    digest = house.surface.load("s").held_calls[0].call_hash
    data = {**opened, "runs": [digest], "resumes": True}
    house.ledger.note(Draft(Entry(kind="open", session_id="s", state_origin="open", data=data)))
    with pytest.raises(LedgerTamperedError, match="takes up calls that nobody let pass"):
        find_refusals(house.ledger, "s")


def test_a_reviewer_needs_no_input_key_and_sees_the_exact_arguments(tmp_path: Path) -> None:
    house = House(tmp_path / "keyed.db", input_key=b"k" * 32)
    house.enroll("ann")
    house.hold()
    [call] = house.surface.load("s").held_calls
    assert json.loads(call.arguments or "") == {"to": "bank"}
    attest(house)
    assert (go_on(house).outcome, house.paid) == ("done", ["bank"])
    house.close()


def a_loop(house: House, *script: Any) -> AgentLoop:
    """Return the loop that `House.run` makes, not run yet."""
    made: list[AgentLoop] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AgentLoop, "resume", lambda self: made.append(self))
        house.run(*script, resume=True)
    return made[0]
