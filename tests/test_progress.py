from __future__ import annotations

from typing import Any

import pytest

from donewhen.attestation import call_hash
from donewhen.balance import Amounts
from donewhen.entry import Entry
from donewhen.ledger import Draft, Ledger
from donewhen.owner import this_process
from donewhen.progress import read_progress
from donewhen.testing import FakeClock

GONE = this_process().rsplit(":", 2)[0] + ":4194305:1"
CEILINGS = [9, 999, None, None, None, None]


class Story:
    """A session, row by row."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def note(self, kind: str, turn: int = 0, **data: Any) -> None:
        self.ledger.note(Draft(Entry(kind=kind, session_id="s", state_origin=kind, turn_count=turn, data=data)))

    def open(self, owner: str = GONE, **data: Any) -> None:
        self.note("open", ceilings=CEILINGS, owner=owner, **data)

    def go_on(self) -> None:
        """Open it again, as a process does that takes the attestations up."""
        self.open(runs=list(self.progress.runs_now))

    def say(self, kind: str, reviewer: str, *calls: str) -> None:
        words = {"attest": "notes", "reject": "reason"}[kind]
        self.note(kind, reviewer=reviewer, frame_hash="f" * 64, calls=list(calls), **{words: "so"})

    def reserve(self) -> int:
        entry = Entry(kind="reserve", session_id="s", state_origin="reserve", data={"reserve": [1, 9, 0, 0]})
        return self.ledger.admit("s", lambda _: Draft(entry)).seq

    def reply(self, seq: int, turn: int = 1, *tools: dict[str, Any]) -> None:
        data = {"cost_microusd": 0, "tools": list(tools)}
        entry = Entry(kind="llm", session_id="s", state_origin="llm", turn_count=turn, closes=seq, data=data)
        self.ledger.close_reservation("s", seq, lambda _balance, _held: (Draft(entry), []))

    def doubt(self, seq: int) -> None:
        entry = Entry(kind="abandoned", session_id="s", state_origin="abandoned", doubts=seq)
        self.ledger.doubt_reservation("s", seq, Draft(entry))

    @property
    def progress(self):
        return read_progress(self.ledger.rows("s"))


@pytest.fixture
def story(tmp_store):
    with Ledger(tmp_store) as ledger:
        yield Story(ledger)


def a_tool(call: str = "t1", *, held: bool = False, run: bool = True) -> dict[str, Any]:
    return {"id": call, "name": "look", "args_hash": "a" * 64, "held": held, "run": run}


def test_a_session_that_was_never_opened_stands_nowhere(story) -> None:
    assert story.progress is None
    story.note("write")
    assert story.progress is None


def test_an_open_session_runs_while_its_process_does(story) -> None:
    story.open(this_process())
    assert (story.progress.state, story.progress.outcome, story.progress.owner) == ("running", None, this_process())
    assert story.progress.balance.ceilings.turns == 9


def test_a_session_whose_process_is_gone_was_interrupted(story) -> None:
    story.open()
    assert story.progress.state == "interrupted"


def test_a_session_on_another_machine_is_said_to_run(story) -> None:
    story.open("elsewhere:1:1")
    assert story.progress.state == "running"


@pytest.mark.parametrize("outcome", ["done", "unmet", "breached", "failed", "halted"])
def test_a_session_that_was_closed_has_its_outcome(story, outcome) -> None:
    story.open()
    story.note("close", outcome=outcome, reason="r")
    assert (story.progress.state, story.progress.outcome) == (outcome, outcome)
    assert story.progress.close.kind == "close"


def test_a_session_that_was_opened_again_has_no_outcome_yet(story) -> None:
    story.open()
    story.note("close", outcome="breached", reason="r")
    story.open(this_process())
    progress = story.progress
    assert (progress.close, progress.state) == (None, "running")
    assert (progress.first_open.seq, progress.newest_open.seq, progress.newest.seq) == (1, 3, 3)
    story.note("close", outcome="done", reason="r")
    assert story.progress.outcome == "done"


def test_a_reservation_that_nothing_closes_is_in_doubt(story) -> None:
    story.open()
    first, second, third = story.reserve(), story.reserve(), story.reserve()
    story.doubt(second)
    story.reply(third)
    progress = story.progress
    assert [row.seq for row in progress.in_doubt] == [first, second]
    assert progress.doubted == {second}
    assert progress.balance.reserved == Amounts(2, 18, 0, 0)
    story.reply(second)
    assert [row.seq for row in story.progress.in_doubt] == [first]


def test_a_call_of_a_tool_waits_until_it_is_answered(story) -> None:
    story.open()
    story.reply(story.reserve(), 1, a_tool("t1"), a_tool("t2"), a_tool("t3", run=False))
    assert [call.call_id for call in story.progress.waiting] == ["t1", "t2"]
    story.note("tool", 1, call="t1")
    (call,) = story.progress.waiting
    assert (call.call_id, call.name, call.args_hash, call.held, call.attested) == ("t2", "look", "a" * 64, False, False)
    assert call.row.kind == "llm"
    story.note("tool", 2, call="t2")
    assert [call.call_id for call in story.progress.waiting] == ["t2"]
    story.note("tool", 1, call="t2")
    assert story.progress.waiting == ()


def test_a_held_call_waits_for_a_person(story) -> None:
    story.open()
    story.say("attest", "ann", call_hash("s", 1, "t1", "look", "a" * 64))
    story.reply(story.reserve(), 1, a_tool(held=True))
    (call,) = story.progress.waiting
    assert (story.progress.state, call.attested, call.is_decided) == ("held", False, False)
    assert call.call_hash == call_hash("s", 1, "t1", "look", "a" * 64)
    story.say("attest", "ann", call.call_hash)
    assert story.progress.waiting[0].attested is True
    assert story.progress.runs_now == (call.call_hash,)
    assert story.progress.state == "interrupted"


def test_an_attestation_that_names_no_call_lets_none_pass(story) -> None:
    story.open()
    story.reply(story.reserve(), 1, a_tool(held=True))
    story.ledger.attest("s", "ann", "f" * 64)
    story.say("attest", "ben", "b" * 64)
    (call,) = story.progress.waiting
    assert (call.attested, story.progress.state) == (False, "held")
    assert {one.why for one in call.judgement.not_counted} == {"it does not name this call"}


def test_a_call_that_somebody_refused_is_decided_and_not_run(story) -> None:
    story.open()
    story.reply(story.reserve(), 1, a_tool("t1", held=True), a_tool("t2", held=True))
    first, second = story.progress.waiting
    story.say("attest", "ann", first.call_hash, second.call_hash)
    story.say("reject", "ben", first.call_hash)
    first, second = story.progress.waiting
    assert (first.attested, first.refusal, first.is_decided) == (False, "ben: so", True)
    assert (second.attested, second.refusal, second.is_decided) == (True, None, True)
    assert story.progress.runs_now == (second.call_hash,)
    story.go_on()
    assert story.progress.waiting[0].refusal == "ben: so", "a refusal is not used up"


def test_nothing_runs_while_one_call_of_the_reply_is_undecided(story) -> None:
    story.open()
    story.reply(story.reserve(), 1, a_tool("t1", held=True), a_tool("t2", held=True))
    story.say("attest", "ann", story.progress.waiting[0].call_hash)
    assert (story.progress.runs_now, story.progress.state) == ((), "held")
    story.go_on()
    assert story.progress.waiting[0].attested is True, "nobody took it up, so it is not used up"


def test_a_reply_without_tools_leaves_nothing_waiting(story) -> None:
    story.open()
    story.reply(story.reserve())
    assert story.progress.waiting == ()


def test_a_person_attests_for_the_process_that_takes_it_up(story) -> None:
    story.open()
    story.reply(story.reserve(), 1, a_tool(held=True))
    digest = story.progress.waiting[0].call_hash
    story.say("attest", "ann", digest)
    story.go_on()
    assert story.progress.waiting[0].attested is False, "it was good for one run, and nobody knows whether that ended"
    story.say("attest", "ann", digest)
    assert story.progress.waiting[0].attested is True


def test_an_attestation_of_a_call_is_none_of_the_same_call_in_a_later_turn(story) -> None:
    story.open()
    story.reply(story.reserve(), 1, a_tool("t1", held=True))
    story.say("attest", "ann", story.progress.waiting[0].call_hash)
    story.note("tool", 1, call="t1")
    story.reply(story.reserve(), 2, a_tool("t1", held=True))
    story.say("attest", "ann", call_hash("s", 1, "t1", "look", "a" * 64))
    assert story.progress.waiting[0].attested is False


def test_of_the_calls_that_wait_those_of_the_newest_reply_are_meant(story) -> None:
    story.open()
    assert story.progress.waiting_now == {}
    story.reply(story.reserve(), 1, a_tool("t1"), a_tool("t2"))
    story.reply(story.reserve(), 2, a_tool("t1"))
    assert [(name, call.row.turn_count) for name, call in story.progress.waiting_now.items()] == [("t1", 2)]


def test_a_ceiling_that_was_raised_after_the_end_is_noticed(story) -> None:
    story.open()
    story.ledger.raise_ceilings("s", {"turns": 10}, why="more", who="ann")
    assert story.progress.raised_since is False
    story.note("close", outcome="breached", reason="r")
    assert story.progress.raised_since is False
    story.ledger.raise_ceilings("s", {"turns": 11}, why="more", who="ann")
    assert story.progress.raised_since is True


def test_a_clock_that_was_set_back_gives_no_time_back(tmp_store) -> None:
    clock = FakeClock()
    with Ledger(tmp_store, now=clock.now) as ledger:
        story = Story(ledger)
        story.note("write")
        clock.move(100)
        story.open()
        clock.move(2)
        story.note("tool", call="t1")
        clock.set_wall(-3600)
        story.note("tool", call="t2")
        clock.move(3)
        assert story.progress.elapsed_ms(clock.now()) == 5000
        clock.set_wall(-1)
        assert story.progress.elapsed_ms(clock.now()) == 4000
        clock.set_wall(-60)
        assert story.progress.elapsed_ms(clock.now()) == 2000
