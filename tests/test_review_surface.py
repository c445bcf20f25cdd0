"""The review surface over real sessions: loaded, rendered, attested."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from donewhen import framing
from donewhen.agent_loop import AgentLoop, LoopResult
from donewhen.bounds import Transcript
from donewhen.checks import Call, Human, Regex
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import Failure, ToolCall, read_reply
from donewhen.entry import Entry
from donewhen.errors import (
    FrameChangedError,
    LedgerError,
    LedgerFormatError,
    LedgerTamperedError,
    SessionNotFoundError,
)
from donewhen.frame import Criterion, HeldCall
from donewhen.ledger import Draft, Ledger
from donewhen.notes import LocalSigner
from donewhen.opening import open_session
from donewhen.review_surface import ReviewSurface
from donewhen.session import Session
from donewhen.spec_writer import SpecResult, SpecWriter
from donewhen.testing import ScriptedClient, make_reply
from donewhen.texts import hash_input
from donewhen.tools import tool

SPEC = SpecResult("Audits a page.", "Changes it.", "A report.", "s")
UNSIGNED = "The ledger is unsigned: nothing proves that its rows are the ones that were written."


class Desk:
    """A ledger that sessions write to, and the surface over it."""

    def __init__(self, path: Path, signer: LocalSigner | None = None) -> None:
        self.path = path
        self.ledger = Ledger(path, signer=signer)
        self.surface = ReviewSurface(path, path, signer=signer)

    def run(self, *script: Any, resume: bool = False, limits: tuple[int, int] = (5, 15000), **terms: Any) -> LoopResult:
        breaker = CircuitBreaker(*limits, output_fn=lambda _: None)
        options: dict[str, Any] = {"find_price": lambda _: None, "jitter": lambda: 0.0, **terms}
        loop = AgentLoop(SPEC, breaker, self.ledger, ScriptedClient(*script), **options)
        return loop.resume("go on") if resume else loop.run("Audit it")

    def open(self) -> Session:
        return open_session(SPEC, CircuitBreaker(output_fn=lambda _: None), self.ledger)

    def write(self, **fields: Any) -> int:
        row = {"turn_count": 1, "state_origin": "llm", "input_str": "task", "token_delta": 10, "execution_time_ms": 5}
        return self.ledger.write(**{"session_id": "s", "pass_fail": True, **row, **fields})

    @property
    def unresolved(self) -> tuple[str, ...]:
        return self.surface.load("s").unresolved_assumptions


@pytest.fixture
def desk(tmp_store: Path) -> Any:
    made = Desk(tmp_store)
    yield made
    made.ledger.close()


def request(text: str = "hello") -> Any:
    transcript = Transcript(model="m-1")
    transcript.append({"role": "user", "content": text})
    return transcript.request(100)


@tool(held=True)
def pay(usd: float, to: str) -> str:
    """Pay somebody."""
    return "paid"


@tool
def look(page: str) -> str:
    """Look at a page."""
    raise RuntimeError("secret")


PAY = make_reply("Paying.", tool_calls=[ToolCall("c1", "pay", {"usd": 2.5, "to": "ann"})])


# -- a session that was run ------------------------------------------------------------------------------------------


def test_a_done_session_shows_its_output_its_spend_and_no_bookkeeping(desk: Desk) -> None:
    desk.run(make_reply("# Report"))
    frame = desk.surface.load("s")
    assert frame.original_promise == SPEC
    assert (frame.output, frame.diff.final_output) == ("# Report", "# Report")
    assert (frame.outcome, frame.state, frame.reason) == ("done", "done", "the model finished its turn")
    assert (frame.diff.turns_completed, frame.diff.total_tokens, frame.diff.breached) == (1, 15, False)
    assert frame.diff.first_input == hash_input("Audit it")
    assert frame.spend is not None
    assert frame.spend.spent.as_list() == [1, 15, None, 0]
    assert [row.kind for row in frame.evidence] == ["llm"]
    assert frame.created_at == frame.evidence[-1].created_at
    assert frame.unsigned
    assert frame.unresolved_assumptions == (UNSIGNED,)


def test_a_signed_ledger_is_read_without_a_key_and_says_nothing_of_it(tmp_store: Path) -> None:
    desk = Desk(tmp_store, LocalSigner.generate("log"))
    desk.run(make_reply("# Report"))
    frame = ReviewSurface(tmp_store, tmp_store).load("s")
    assert not frame.unsigned
    assert frame.unresolved_assumptions == ()
    assert "No unresolved assumptions detected." in ReviewSurface(tmp_store, tmp_store).render("s")


def test_the_spec_hash_is_that_of_the_promise_with_its_terms(desk: Desk) -> None:
    desk.run(make_reply("# Report"))
    [opened] = [row for row in desk.ledger.rows("s") if row.kind == "open"]
    assert desk.surface.load("s").spec_hash == opened.data["spec_hash"]


def test_each_criterion_stands_with_what_the_machine_says(desk: Desk) -> None:
    desk.run(make_reply("# Report"), checks=[Call(lambda _: True, name="is fine"), Human("The tone is friendly.")])
    frame = desk.surface.load("s")
    assert frame.criteria == (
        Criterion(name="is fine", kind="call", outcome="met"),
        Criterion(name="The tone is friendly.", kind="human", outcome="pending"),
    )
    assert frame.unresolved_assumptions == ("A person has to judge: The tone is friendly.", UNSIGNED)


def test_terms_that_stand_beside_the_ceilings_are_found(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    answers = iter(["Audits a page.", "Changes it.", "A report."])
    spec = SpecWriter(path, lambda _: next(answers), lambda _: None).run()
    with Ledger(path) as ledger:
        client = ScriptedClient(make_reply("# Report"))
        AgentLoop(spec, CircuitBreaker(), ledger, client, checks=[Human("It is true.")]).run("go")
    assert [one.name for one in ReviewSurface(path, path).load(spec.session_id).criteria] == ["It is true."]


def test_an_unmet_check_says_why_and_a_broken_one_too(desk: Desk) -> None:
    def broken(_: object) -> bool:
        raise RuntimeError("no disk")

    checks = [Call(lambda _: False, name="is fine"), Call(broken, name="can be judged")]
    desk.run(make_reply("# Report"), checks=checks)
    first, second, third, fourth = desk.unresolved
    assert first.startswith("The check 'is fine' is not met")
    assert second.startswith("The check 'can be judged' could not be judged: ")
    assert "no disk" in second
    assert third.startswith("The session ended failed: the check 'can be judged' could not be judged")
    assert not third.endswith("..")
    assert fourth == UNSIGNED


def test_a_check_of_an_older_output_is_not_taken_for_one_of_the_output_that_waits(desk: Desk) -> None:
    met = Call(lambda _: True, name="is fine")
    unmet = Call(lambda _: False, name="is right")
    more = make_reply("I will look again.", stop_reason="max_tokens")
    desk.run(make_reply("# Report"), more, checks=[met, unmet], limits=(2, 15000))
    frame = desk.surface.load("s")
    assert frame.output == "I will look again."
    assert [one.outcome for one in frame.criteria] == ["not_run", "not_run"]
    told = "The check 'is fine' was not run on the output that waits: met by the output of turn 1, which is not the one"
    assert frame.unresolved_assumptions[1].startswith(told)


def test_a_session_that_a_ceiling_stopped_says_which_and_keeps_saying_so(desk: Desk) -> None:
    desk.run(make_reply("Half", stop_reason="max_tokens"), limits=(1, 15000))
    frame = desk.surface.load("s")
    assert (frame.outcome, frame.diff.breached, frame.output) == ("breached", True, "Half")
    line = "Turn 2: turn_ceiling: 1 spent, 1 asked for, ceiling 1 turns. What was asked for was not sent or run."
    assert frame.unresolved_assumptions == (line, UNSIGNED)
    desk.ledger.raise_ceilings("s", {"turns": 3}, why="nearly there", who="ann")
    desk.run(make_reply("Whole"), resume=True, limits=(1, 15000))
    again = desk.surface.load("s")
    assert (again.outcome, again.output, again.diff.breached) == ("done", "Whole", True)
    assert line in again.unresolved_assumptions


def test_a_session_that_goes_on_has_no_output_until_it_ends(desk: Desk) -> None:
    desk.run(make_reply("Half", stop_reason="max_tokens"), limits=(1, 15000))
    desk.ledger.raise_ceilings("s", {"turns": 3}, why="nearly there", who="ann")
    open_session(SPEC, CircuitBreaker(), desk.ledger, terms=desk.ledger.rows("s")[0].data["terms"], resume=True)
    frame = desk.surface.load("s")
    assert (frame.output, frame.outcome, frame.diff.final_output) == (None, None, "circuit_breaker")
    assert "The session has not ended." in frame.unresolved_assumptions


def test_usage_that_cannot_be_believed_is_an_assumption(desk: Desk) -> None:
    desk.run({**make_reply("# Report"), "usage": None})
    charged = desk.surface.load("s").evidence[0].token_delta
    [line, _] = desk.unresolved
    assert line.startswith("Turn 1: the reply's usage cannot be believed (")
    assert line.endswith(f"so its whole reservation of {charged} tokens was charged.")


def test_a_reply_above_its_reservation_is_an_assumption(desk: Desk) -> None:
    desk.run(make_reply("# Report", output_tokens=14_000))
    over = desk.surface.load("s").evidence[0].data["over_reservation"]
    assert f"Turn 1: the reply used {over} tokens more than were reserved for it." in desk.unresolved


def test_a_tool_that_failed_is_an_assumption_without_its_text(desk: Desk) -> None:
    asked = make_reply("", tool_calls=[ToolCall("c1", "look", {"page": "p"})])
    desk.run(asked, make_reply("# Report"), tools=[look])
    assert desk.unresolved[0].startswith("Turn 1: the tool look failed (")
    assert "secret" not in "".join(desk.unresolved)


def test_an_attempt_that_was_refused_and_made_again_is_no_assumption(desk: Desk) -> None:
    class BusyError(Exception):
        status_code = 529

    waits: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", waits.append)
        desk.run(BusyError(), make_reply("# Report"))
    frame = desk.surface.load("s")
    assert [row.kind for row in frame.evidence] == ["error", "llm"]
    assert (frame.diff.breached, frame.unresolved_assumptions, len(waits)) == (False, (UNSIGNED,), 1)


def test_a_call_of_which_nobody_knows_the_outcome_is_an_assumption_until_it_is_settled(desk: Desk) -> None:
    session = desk.open()
    permit = session.admit(request())
    session.abandon(permit, Failure(rejected=False, problem="timed out"))
    held = permit.reserved.tokens
    doubt = (
        f"Turn 1, attempt 1: nobody knows what came of the call (timed out); its reservation of {held} tokens stands."
    )
    assert desk.unresolved == (doubt, "The session has not ended.", UNSIGNED)
    session.settle(permit, read_reply(make_reply("late")))
    assert doubt not in desk.unresolved


def test_a_call_that_nothing_is_written_of_is_an_assumption(desk: Desk) -> None:
    session = desk.open()
    desk.write()
    permit = session.admit(request())
    held = permit.reserved.tokens
    silent = (
        f"Turn 1, attempt 1: the ledger does not say what came of the call; its reservation of {held} tokens stands."
    )
    assert desk.unresolved == (silent, "The session has not ended.", UNSIGNED)


def test_a_tool_of_which_nobody_knows_whether_it_ran_is_an_assumption(desk: Desk) -> None:
    session = desk.open()
    asked = read_reply(make_reply("", tool_calls=[ToolCall("c1", "look", {"page": "p"})]))
    session.settle(session.admit(request()), asked)
    assert desk.unresolved[0] == "Turn 1: the tool look was to be run; whether it ran is not known."


def test_a_tool_row_without_a_reason_says_so(desk: Desk) -> None:
    desk.open()
    data = {"call": "c1", "name": "look", "is_error": True}
    desk.ledger.note(Draft(Entry(kind="tool", session_id="s", state_origin="tool", pass_fail=False, data=data)))
    assert desk.unresolved[0] == "Turn 0: the tool look failed (no reason is recorded)."


def test_a_halted_session_says_why(desk: Desk) -> None:
    desk.open()
    desk.write()
    data = {"outcome": "halted", "reason": "ann said so."}
    desk.ledger.note(Draft(Entry(kind="close", session_id="s", state_origin="close", data=data)))
    frame = desk.surface.load("s")
    assert (frame.output, frame.outcome) == (None, "halted")
    assert frame.unresolved_assumptions == ("The session ended halted: ann said so.", UNSIGNED)


def test_an_output_that_was_erased_is_an_assumption(desk: Desk) -> None:
    desk.run(make_reply("# Report"))
    before = desk.surface.load("s").frame_hash
    desk.ledger.erase("s", who="ann", why="asked for")
    frame = desk.surface.load("s")
    assert (frame.output, frame.diff.final_output) == (None, "llm")
    assert frame.unresolved_assumptions[0].startswith("The output that the session ended with has been erased")
    assert frame.frame_hash != before
    with pytest.raises(FrameChangedError, match="a text of it has been erased"):
        desk.surface.attest("s", "ann", frame_hash=before)


def test_an_output_that_was_exchanged_is_refused(desk: Desk) -> None:
    desk.run(make_reply("# Report"))
    with sqlite3.connect(desk.path) as connection:
        connection.execute("DROP TRIGGER texts_no_update")
        connection.execute("UPDATE texts SET body = CAST('# Other' AS BLOB) WHERE label = 'output'")
    connection.close()
    with pytest.raises(LedgerTamperedError):
        desk.surface.load("s")


# -- held calls ------------------------------------------------------------------------------------------------------


def test_a_held_call_waits_with_its_exact_arguments(desk: Desk) -> None:
    result = desk.run(PAY, tools=[pay], keep="conversation")
    frame = desk.surface.load("s")
    assert result.outcome == frame.state == "held"
    [call] = frame.held_calls
    assert (call.turn, call.call_id, call.name) == (1, "c1", "pay")
    assert json.loads(call.arguments or "") == {"usd": 2.5, "to": "ann"}
    assert "Turn 1: the call of the tool pay waits for a person; it was not run." in frame.unresolved_assumptions
    assert '"usd": 2.5' in desk.surface.render("s")


def test_attesting_a_held_call_leaves_the_frame_as_it_was_seen(desk: Desk) -> None:
    desk.run(PAY, tools=[pay], keep="conversation")
    before = desk.surface.load("s")
    attested = desk.surface.attest("s", "ann", frame_hash=before.frame_hash)
    after = desk.surface.load("s")
    assert attested.frame_hash == after.frame_hash == before.frame_hash
    assert after == before
    assert (before.state, after.state) == ("held", "running")
    desk.run(make_reply("Paid."), resume=True, tools=[pay], keep="conversation")
    done = desk.surface.load("s")
    assert (done.held_calls, done.outcome) == ((), "done")


@pytest.mark.parametrize(
    "kept",
    [
        None,
        [],
        [{"id": "c2", "tool": "pay", "arguments": {"usd": 1}}],
        [{"id": "c1", "tool": "pay", "arguments": {"usd": 2}}],
    ],
)
def test_arguments_that_are_not_those_of_the_row_are_not_shown(desk: Desk, kept: list[Any] | None) -> None:
    opened = open_session(SPEC, CircuitBreaker(), desk.ledger, held_tools=["pay"])
    asked = read_reply(make_reply("", tool_calls=[ToolCall("c1", "pay", {"usd": 1})]))
    texts = {} if kept is None else {"held": json.dumps(kept)}
    opened.settle(opened.admit(request()), asked, texts=texts)
    [call] = desk.surface.load("s").held_calls
    assert call == HeldCall(turn=1, call_id="c1", name="pay", args_hash=call.args_hash, arguments=None)
    assert "its arguments are not kept" in desk.surface.render("s")


def test_two_held_calls_of_one_reply_keep_their_own_arguments(desk: Desk) -> None:
    calls = [ToolCall("c1", "pay", {"usd": 1, "to": "a"}), ToolCall("c2", "pay", {"usd": 2, "to": "b"})]
    desk.run(make_reply("", tool_calls=calls), tools=[pay], keep="conversation")
    shown = [json.loads(call.arguments or "")["usd"] for call in desk.surface.load("s").held_calls]
    assert shown == [1, 2]


# -- rows written by hand --------------------------------------------------------------------------------------------


def store_promise(path: Path, session: str = "s", does: str = "Audits a page.") -> None:
    with Ledger(path) as ledger:
        ledger.write_spec(dataclasses.replace(SPEC, session_id=session, what_it_does=does))


def test_rows_written_by_hand_say_the_tutorials_lines_and_no_other(desk: Desk) -> None:
    store_promise(desk.path)
    desk.write()
    frame = desk.surface.load("s")
    assert (frame.unresolved_assumptions, frame.spend, frame.state, frame.outcome) == ((), None, "", None)
    assert "No unresolved assumptions detected." in desk.surface.render("s")
    desk.write(turn_count=2, pass_fail=False)
    desk.write(turn_count=3, state_origin="circuit_breaker", pass_fail=False, breach_reason="turn_ceiling")
    assert desk.unresolved == (
        "Turn 2 (llm): pass_fail=False, and no reason is recorded.",
        "Turn 3 (circuit_breaker): breach: turn_ceiling.",
    )


def test_the_promise_may_be_in_a_file_of_its_own(tmp_path: Path) -> None:
    store_promise(tmp_path / "spec.db")
    desk = Desk(tmp_path / "ledger.db")
    desk.write()
    assert ReviewSurface(tmp_path / "spec.db", desk.path).load("s").original_promise == SPEC


def test_the_ledgers_promise_counts_and_another_beside_it_is_named(tmp_path: Path) -> None:
    store_promise(tmp_path / "spec.db", does="Something else.")
    desk = Desk(tmp_path / "ledger.db")
    desk.run(make_reply("# Report"))
    frame = ReviewSurface(tmp_path / "spec.db", desk.path).load("s")
    assert frame.original_promise == SPEC
    assert frame.unresolved_assumptions[0].startswith("The spec file beside the ledger holds another promise")


def test_the_same_promise_in_both_files_is_no_assumption(tmp_path: Path) -> None:
    store_promise(tmp_path / "spec.db")
    desk = Desk(tmp_path / "ledger.db")
    desk.run(make_reply("# Report"))
    assert ReviewSurface(tmp_path / "spec.db", desk.path).load("s").unresolved_assumptions == (UNSIGNED,)


# -- what is not there -----------------------------------------------------------------------------------------------


def test_a_session_that_is_nowhere_is_not_found_and_no_file_is_made(tmp_path: Path) -> None:
    surface = ReviewSurface(tmp_path / "spec.db", tmp_path / "ledger.db")
    looks: list[Callable[[], object]] = [lambda: surface.load("s"), lambda: surface.render("s")]
    for look_for in [*looks, lambda: surface.attest("s", "ann")]:
        with pytest.raises(SessionNotFoundError, match=r"^s: .*ledger\.db has no rows of it to show"):
            look_for()
    assert surface.get_attestations("s") == []
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    with pytest.raises(SessionNotFoundError):
        ReviewSurface(empty, empty).load("s")
    assert empty.stat().st_size == 0


def test_a_promise_alone_is_not_found(tmp_store: Path) -> None:
    store_promise(tmp_store)
    for look_for in (ReviewSurface(tmp_store, tmp_store).load, lambda id_: Desk(tmp_store).surface.attest(id_, "ann")):
        with pytest.raises(SessionNotFoundError, match="no rows of it to show"):
            look_for("s")


def test_rows_alone_are_not_found(desk: Desk) -> None:
    desk.write()
    with pytest.raises(SessionNotFoundError, match="no promise is stored for it"):
        desk.surface.load("s")
    with pytest.raises(SessionNotFoundError):
        desk.surface.attest("s", "ann")
    assert len(desk.ledger.rows("s")) == 1


def test_something_elses_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("not a database, but long enough to look like one" * 20)
    with pytest.raises(LedgerFormatError, match=r"ledger\.db"):
        ReviewSurface(tmp_path / "spec.db", tmp_path / "ledger.db").load("s")


# -- attesting -------------------------------------------------------------------------------------------------------


def test_an_attestation_is_written_and_can_be_read(desk: Desk) -> None:
    desk.run(make_reply("# Report"))
    frame = desk.surface.load("s")
    first = desk.surface.attest("s", "ann", "Looks right.")
    second = desk.surface.attest("s", "ben", frame_hash=frame.frame_hash)
    assert desk.surface.get_attestations("s") == [first, second]
    assert (first.reviewer, first.notes, second.notes) == ("ann", "Looks right.", "")
    assert first.frame_hash == second.frame_hash == frame.frame_hash == desk.surface.load("s").frame_hash
    row = desk.ledger.rows("s")[-2]
    assert (row.id, row.kind, row.created_at) == (first.id, "attest", first.attested_at)
    assert row.after == desk.ledger.rows("s")[-3].after


@pytest.mark.parametrize(
    ("reviewer", "notes", "told"),
    [
        (" \u200b", "", "reviewer is blank"),
        ("", "", "reviewer is blank"),
        ("a\0", "", "reviewer cannot be stored: the text has a NUL"),
        ("ann", "\udc80", "notes cannot be stored: the text has bytes"),
    ],
)
def test_an_attestation_without_a_proper_name_is_refused(desk: Desk, reviewer: str, notes: str, told: str) -> None:
    desk.run(make_reply("# Report"))
    with pytest.raises(ValueError, match=told):
        desk.surface.attest("s", reviewer, notes)
    assert desk.surface.get_attestations("s") == []


def test_a_frame_that_has_changed_is_refused_with_what_is_new(desk: Desk) -> None:
    store_promise(desk.path)
    desk.write()
    shown = desk.surface.load("s").frame_hash
    desk.surface.attest("s", "ben")
    row = desk.write(turn_count=2)
    with pytest.raises(FrameChangedError, match=rf"since this frame was shown: write \(row {row}\)\. Look"):
        desk.surface.attest("s", "ann", frame_hash=shown)
    assert [one.reviewer for one in desk.surface.get_attestations("s")] == ["ben"]


def test_a_frame_that_the_session_never_had_is_refused(desk: Desk) -> None:
    desk.run(make_reply("# Report"))
    with pytest.raises(FrameChangedError, match=f"the frame {'0' * 64} is none that this session has had"):
        desk.surface.attest("s", "ann", frame_hash="0" * 64)


def test_a_frame_is_looked_for_a_bounded_number_of_rows_back(desk: Desk) -> None:
    store_promise(desk.path)
    desk.write()
    shown = desk.surface.load("s").frame_hash
    line = Entry(kind="write", session_id="s", state_origin="llm", turn_count=2)
    desk.ledger.note(*[Draft(line)] * 60)
    with pytest.raises(FrameChangedError, match="newest 50 rows"):
        desk.surface.attest("s", "ann", frame_hash=shown)


def test_a_signed_ledger_wants_its_key_to_attest(tmp_store: Path) -> None:
    signer = LocalSigner.generate("log")
    desk = Desk(tmp_store, signer)
    desk.run(make_reply("# Report"))
    with pytest.raises(LedgerError, match="is signed by the key of"):
        ReviewSurface(tmp_store, tmp_store).attest("s", "ann")
    assert desk.surface.attest("s", "ann").reviewer == "ann"


def test_an_open_ledger_beside_it_goes_on_after_an_attestation(desk: Desk) -> None:
    store_promise(desk.path)
    desk.write()
    attested = desk.surface.attest("s", "ann")
    assert desk.write(turn_count=2) == attested.id + 1


def test_no_other_row_slips_between_the_frame_and_its_attestation(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a frame is read to be attested, a writer waits; so a call held meanwhile cannot count as seen."""
    store_promise(desk.path)
    desk.write()
    writers: list[threading.Thread] = []
    read = framing.read_progress

    def read_while_another_writes(*arguments: Any) -> Any:
        if not writers:
            writers.append(threading.Thread(target=desk.write, kwargs={"turn_count": 2}))
            writers[-1].start()
        return read(*arguments)

    monkeypatch.setattr(framing, "read_progress", read_while_another_writes)
    attested = desk.surface.attest("s", "ann")
    writers[0].join(30)
    assert [row.kind for row in desk.ledger.rows("s")] == ["spec", "write", "attest", "write"]
    monkeypatch.undo()
    assert desk.surface.load("s").frame_hash != attested.frame_hash


def test_a_check_by_pattern_stands_in_the_frame(desk: Desk) -> None:
    desk.run(make_reply("# Report"), checks=[Regex("^# ", name="has a title")])
    assert "met (regex):" in desk.surface.render("s")
