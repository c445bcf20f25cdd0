"""The tutorial's contract: whoever read it must feel at home. A test for each line of it."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import importlib
import pickle
import sqlite3
import uuid
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

import donewhen
from donewhen import (
    AgentLoop,
    AttestationResult,
    CircuitBreaker,
    CircuitBreakerError,
    DiffResult,
    Ledger,
    LedgerRow,
    LLMClient,
    LoopResult,
    MessagesEndpoint,
    ReviewFrame,
    ReviewSurface,
    SessionNotFoundError,
    SpecResult,
    SpecWriter,
)
from donewhen.errors import LedgerFormatError, SessionEndedError, SpecError

SPEC = SpecResult("audit one URL", "render JS", "report printed", "session-1")


def reply(text: str | None = "ok", stop_reason: str = "end_turn", input_tokens: Any = 10, output_tokens: Any = 20):
    """Return a reply as a provider's SDK would."""
    content = [] if text is None else [SimpleNamespace(type="text", text=text)]
    usage = SimpleNamespace(input_tokens=input_tokens, output_tokens=output_tokens)
    return SimpleNamespace(content=content, stop_reason=stop_reason, usage=usage)


class Client:
    """A client as a reader of the tutorial would write one."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.calls: list[dict[str, Any]] = []
        self.messages = self

    def create(self, **kwargs: Any) -> Any:
        self.calls.append(copy.deepcopy(kwargs))
        answer = self.replies.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def ledger(tmp_path):
    with Ledger(db_path=str(tmp_path / "ledger.db")) as opened:
        yield opened


def loop_of(ledger, client, turn_limit=5, token_limit=15000, **options):
    return AgentLoop(SPEC, CircuitBreaker(turn_limit=turn_limit, token_limit=token_limit), ledger, client, **options)


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("spec_writer", ["SpecWriter", "SpecResult"]),
        ("circuit_breaker", ["CircuitBreaker", "CircuitBreakerError"]),
        ("ledger", ["Ledger", "LedgerRow"]),
        ("agent_loop", ["AgentLoop", "LoopResult", "LLMClient", "MessagesEndpoint"]),
        ("review_surface", ["ReviewSurface", "ReviewFrame", "DiffResult", "AttestationResult", "SessionNotFoundError"]),
    ],
)
def test_names_import_from_the_package_and_from_the_tutorials_modules(module, names):
    for name in names:
        assert getattr(importlib.import_module(f"donewhen.{module}"), name) is getattr(donewhen, name)


# -- SpecWriter -----------------------------------------------------------------------------------------------------


def written(tmp_path, *answers: str):
    given, said = iter(answers), []
    writer = SpecWriter(db_path=str(tmp_path / "spec.db"), input_fn=lambda _: next(given), output_fn=said.append)
    return writer, said


def test_the_three_questions_are_asked_in_the_tutorials_words(tmp_path):
    writer, said = written(tmp_path, "a", "b", "c")
    writer.run()
    assert said == ["What does this do?", "What does this NOT do?", "What does done look like in one sentence?"]


def test_a_blank_answer_is_asked_again(tmp_path):
    writer, said = written(tmp_path, "", "   ", "a", "b", "c")
    assert writer.run().what_it_does == "a"
    assert sum("missing answer" in line for line in said) == 2


def test_run_returns_a_frozen_result_with_a_session_id(tmp_path):
    writer, _ = written(tmp_path, "a", "b", "c")
    result = writer.run()
    assert result == SpecResult("a", "b", "c", result.session_id)
    assert uuid.UUID(result.session_id).version == 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.what_it_does = "x"  # type: ignore[misc]


def test_the_answers_are_in_the_spec_table_and_load_returns_them_or_none(tmp_path):
    writer, _ = written(tmp_path, "a", "b", "c")
    result = writer.run()
    with sqlite3.connect(tmp_path / "spec.db") as connection:
        row = connection.execute(
            "SELECT session_id, what_it_does, what_it_does_not, done_looks_like FROM spec"
        ).fetchone()
    connection.close()
    assert row == (result.session_id, "a", "b", "c")
    assert writer.load(result.session_id) == result
    assert writer.load("nobody") is None


def test_the_end_of_piped_answers_is_one_clear_error(tmp_path):
    writer, _ = written(tmp_path, "a")
    with pytest.raises(SpecError, match="What does this NOT do"):
        writer.run()


# -- CircuitBreaker -------------------------------------------------------------------------------------------------


def test_the_breakers_defaults_are_five_turns_and_fifteen_thousand_tokens():
    breaker = CircuitBreaker()
    assert (breaker.turn_limit, breaker.token_limit) == (5, 15000)


def test_the_ceilings_themselves_are_allowed(capsys):
    CircuitBreaker().check(turn_count=5, accumulated_tokens=15000)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("turns", "tokens", "reason"), [(6, 0, "turn_ceiling"), (1, 15001, "token_ceiling"), (6, 15001, "turn_ceiling")]
)
def test_more_than_a_ceiling_trips_and_turns_come_before_tokens(turns, tokens, reason):
    with pytest.raises(CircuitBreakerError) as caught:
        CircuitBreaker().check(turns, tokens)
    error = caught.value
    assert (error.reason, error.turn_count, error.accumulated_tokens) == (reason, turns, tokens)


def test_the_notice_is_printed_before_the_error_is_raised(capsys):
    with pytest.raises(CircuitBreakerError):
        CircuitBreaker(turn_limit=3, token_limit=1000).check(4, 500)
    notice = capsys.readouterr().out
    for part in ("=== CIRCUIT BREAKER CHECKPOINT ===", "turn_ceiling", "4 / limit 3", "500 / limit 1000", "ction"):
        assert part in notice


def test_the_error_can_be_hashed_and_pickled():
    error = CircuitBreakerError("turn_ceiling", 6, 10)
    copied = pickle.loads(pickle.dumps(error))
    assert hash(error) is not None
    assert (copied.reason, copied.turn_count, copied.accumulated_tokens) == ("turn_ceiling", 6, 10)


# -- Ledger ---------------------------------------------------------------------------------------------------------


def test_write_returns_the_id_and_ids_count_from_one(ledger):
    assert [ledger.write("s", n, "planner", "text", 10, 5, True) for n in (1, 2, 3)] == [1, 2, 3]
    assert [row.id for row in ledger.get_all()] == [1, 2, 3]


def test_get_session_and_get_all_return_rows_in_order(ledger):
    for session, turn in (("a", 1), ("b", 1), ("a", 2)):
        ledger.write(session, turn, "llm", "text", 10, 5, True)
    assert [(row.session_id, row.turn_count) for row in ledger.get_all()] == [("a", 1), ("b", 1), ("a", 2)]
    assert [row.turn_count for row in ledger.get_session("a")] == [1, 2]
    assert ledger.get_session("nobody") == []


def test_a_row_has_the_tutorials_fields(ledger):
    ledger.write("s", 1, "llm", "text", 10, 5, False, "turn_ceiling")
    (row,) = ledger.get_all()
    assert isinstance(row, LedgerRow)
    expected = ("s", 1, "llm", 10, 5, False, "turn_ceiling")
    found = (row.session_id, row.turn_count, row.state_origin, row.token_delta, row.execution_time_ms, row.pass_fail)
    assert (*found, row.breach_reason) == expected
    assert datetime.fromisoformat(row.created_at).utcoffset() == timedelta(0)


def test_a_written_row_can_forge_no_other_kind_and_moves_no_balance(ledger):
    loop_of(ledger, Client(reply())).run("task")
    before = ledger.newest_row(SPEC.session_id).balance
    for origin in ("llm", "reserve", "circuit_breaker", "attest"):
        ledger.write(SPEC.session_id, 9, origin, "text", 10_000, 5, True)
    assert {row.kind for row in ledger.rows(SPEC.session_id)[-4:]} == {"write"}
    assert ledger.newest_row(SPEC.session_id).balance == before


def test_write_creates_no_other_row(ledger):
    ledger.write("s", 1, "llm", "text", 10, 5, True)
    assert [row.kind for row in ledger.iter_rows()] == ["write"]


def test_the_input_is_hashed_and_not_kept(ledger, tmp_path):
    ledger.write("s", 1, "llm", "a secret of the input", 10, 5, True)
    assert ledger.get_all()[0].input_hash == hashlib.sha256(b"a secret of the input").hexdigest()
    ledger.close()
    assert all(b"a secret of the input" not in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        (
            "ledger",
            (
                "id INTEGER, session_id TEXT, turn_count INTEGER, state_origin TEXT, input_hash TEXT, token_delta INTEGER, "
                "execution_time_ms INTEGER, pass_fail INTEGER, breach_reason TEXT, created_at TEXT"
            ),
        ),
        (
            "attestations",
            "id INTEGER, session_id TEXT, reviewer TEXT, attested_at TEXT, notes TEXT, frame_hash TEXT",
        ),
    ],
)
def test_select_star_shows_the_tutorials_columns_and_types(ledger, table, columns):
    connection = sqlite3.connect(ledger.path)
    found = [f"{row[1]} {row[2]}" for row in connection.execute(f"PRAGMA table_info({table})")]
    selected = [column[0] for column in connection.execute(f"SELECT * FROM {table}").description]
    connection.close()
    assert ", ".join(found) == columns
    assert selected == [column.split()[0] for column in columns.split(", ")]


def test_pass_fail_is_one_or_zero_in_sql_and_a_bool_in_python(ledger):
    ledger.write("s", 1, "llm", "text", 10, 5, True)
    ledger.write("s", 2, "llm", "text", 10, 5, False)
    connection = sqlite3.connect(ledger.path)
    assert connection.execute("SELECT pass_fail FROM ledger ORDER BY id").fetchall() == [(1,), (0,)]
    connection.close()
    assert [row.pass_fail for row in ledger.get_all()] == [True, False]


def test_bookkeeping_rows_are_not_shown(ledger):
    loop_of(ledger, Client(reply())).run("task")
    assert {row.kind for row in ledger.rows(SPEC.session_id)} == {"spec", "policy", "open", "reserve", "llm", "close"}
    assert [row.kind for row in ledger.get_session(SPEC.session_id)] == ["llm"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET body = replace(body, 'llm', 'lma')",
        "DELETE FROM entries",
        "INSERT OR REPLACE INTO entries (id, body) SELECT id, body FROM entries",
        "UPDATE ledger SET token_delta = 0",
        "DELETE FROM ledger",
    ],
)
def test_the_ledger_is_append_only(ledger, statement):
    ledger.write("s", 1, "llm", "text", 10, 5, True)
    connection = sqlite3.connect(ledger.path)
    with pytest.raises(sqlite3.DatabaseError):
        connection.execute(statement)
    connection.close()
    assert len(ledger.get_all()) == 1


def test_a_database_of_the_tutorials_own_code_is_recognised(tmp_path):
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE ledger (id INTEGER PRIMARY KEY, session_id TEXT)")
    connection.close()
    with pytest.raises(LedgerFormatError, match="donewhen adopt"):
        Ledger(path)


# -- AgentLoop ------------------------------------------------------------------------------------------------------


def test_a_finished_turn_is_a_success(ledger):
    client = Client(reply(input_tokens=60, output_tokens=40))
    result = loop_of(ledger, client).run("task")
    assert result == LoopResult(success=True, turns=1, total_tokens=100, session_id="session-1", breach_reason=None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.turns = 2  # type: ignore[misc]


def test_equality_of_results_compares_the_tutorials_five_fields_alone():
    result = LoopResult(True, 1, 2, "s")
    assert result == LoopResult(True, 1, 2, "s", None, outcome="done", reason="other", output="text")


def test_the_client_is_given_model_max_tokens_system_and_messages(ledger):
    client = Client(reply())
    loop_of(ledger, client).run("task")
    (call,) = client.calls
    assert set(call) == {"model", "max_tokens", "system", "messages"}
    assert (call["model"], call["max_tokens"]) == ("claude-sonnet-4-6", 1024)
    assert call["messages"] == [{"role": "user", "content": "task"}]


def test_model_and_max_tokens_can_be_given(ledger):
    client = Client(reply())
    loop_of(ledger, client, model="claude-opus-4-8", max_tokens=2048).run("task")
    assert (client.calls[0]["model"], client.calls[0]["max_tokens"]) == ("claude-opus-4-8", 2048)


def test_the_system_prompt_carries_all_three_answers(ledger):
    client = Client(reply())
    loop_of(ledger, client).run("task")
    for answer in (SPEC.what_it_does, SPEC.what_it_does_not, SPEC.done_looks_like):
        assert answer in client.calls[0]["system"]


def test_there_is_one_row_for_each_reply(ledger):
    client = Client(reply(stop_reason="tool_use"), reply(stop_reason="max_tokens"), reply())
    result = loop_of(ledger, client).run("task")
    rows = ledger.get_session("session-1")
    assert (result.success, result.turns, result.total_tokens) == (True, 3, 90)
    assert [(row.turn_count, row.state_origin, row.token_delta) for row in rows] == [
        (1, "llm", 30),
        (2, "llm", 30),
        (3, "llm", 30),
    ]


@pytest.mark.parametrize("stop_reason", ["tool_use", "max_tokens"])
def test_a_reply_that_stopped_early_is_echoed_as_text_and_answered_with_continue(ledger, stop_reason):
    client = Client(reply("first", stop_reason=stop_reason), reply("second"))
    loop_of(ledger, client).run("starter")
    assert client.calls[1]["messages"] == [
        {"role": "user", "content": "starter"},
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "continue"},
    ]


def test_a_breach_never_raises_and_counts_the_refused_turn(ledger, capsys):
    client = Client(*[reply(stop_reason="max_tokens")] * 9)
    result = loop_of(ledger, client, turn_limit=2).run("task")
    assert result == LoopResult(False, 3, 60, "session-1", "turn_ceiling")
    assert len(client.calls) == 2
    assert "=== CIRCUIT BREAKER CHECKPOINT ===" in capsys.readouterr().out


def test_a_breach_is_a_row_with_its_reason(ledger, capsys):
    loop_of(ledger, Client(reply(stop_reason="max_tokens")), turn_limit=1).run("task")
    row = ledger.get_session("session-1")[-1]
    assert (row.state_origin, row.pass_fail, row.breach_reason, row.turn_count) == (
        "circuit_breaker",
        False,
        "turn_ceiling",
        2,
    )
    assert "turn_ceiling" in capsys.readouterr().out


def test_a_call_of_110_tokens_under_a_ceiling_of_100_is_sent_once_and_trips_at_turn_two(ledger, capsys):
    client = Client(reply(stop_reason="tool_use", input_tokens=60, output_tokens=50), reply())
    result = loop_of(ledger, client, turn_limit=10, token_limit=100).run("task")
    assert result == LoopResult(False, 2, 110, "session-1", "token_ceiling")
    assert len(client.calls) == 1
    assert "110 / limit 100" in capsys.readouterr().out


def test_a_second_run_of_a_session_that_has_ended_is_an_error(ledger):
    loop_of(ledger, Client(reply())).run("task")
    with pytest.raises(SessionEndedError, match="done"):
        loop_of(ledger, Client(reply())).run("task")


def test_a_second_run_of_a_session_that_was_interrupted_resumes(ledger):
    with pytest.raises(KeyboardInterrupt):
        loop_of(ledger, Client(KeyboardInterrupt())).run("task")
    result = loop_of(ledger, Client(reply())).run("task")
    assert result.success
    # The interrupted call may have been billed: its reservation stands.
    assert result.total_tokens > 1024


# -- clients --------------------------------------------------------------------------------------------------------


def test_any_object_with_messages_create_is_a_client():
    assert isinstance(Client(), LLMClient)
    assert isinstance(Client().messages, MessagesEndpoint)
    assert not isinstance(object(), LLMClient)


def test_usage_counts_cache_tokens_too(ledger):
    answer = reply(input_tokens=5, output_tokens=7)
    answer.usage.cache_read_input_tokens, answer.usage.cache_creation_input_tokens = 11, 13
    assert loop_of(ledger, Client(answer)).run("task").total_tokens == 36


@pytest.mark.parametrize("tokens", [None, -1, 1.5, "7", True, 0])
def test_usage_that_cannot_be_believed_is_charged_the_whole_reservation(ledger, tokens):
    client = Client(reply(output_tokens=tokens))
    result = loop_of(ledger, client).run("task")
    (reserve,) = [row for row in ledger.rows("session-1") if row.kind == "reserve"]
    assert result.total_tokens == reserve.data["reserve"][1] > 1024
    assert ledger.get_session("session-1")[0].pass_fail is False


def test_a_reply_without_usage_is_charged_the_whole_reservation(ledger):
    answer = reply()
    del answer.usage
    assert loop_of(ledger, Client(answer)).run("task").total_tokens > 1024


def test_a_reply_without_a_stop_reason_ends_the_turn(ledger):
    answer = reply()
    del answer.stop_reason
    assert loop_of(ledger, Client(answer)).run("task").success


# -- ReviewSurface --------------------------------------------------------------------------------------------------


@pytest.fixture
def reviewed(tmp_path):
    """Return a surface over a session of three rows, its spec and its ledger."""
    writer, _ = written(tmp_path, "audit", "no JS", "report printed")
    spec = writer.run()
    with Ledger(tmp_path / "ledger.db") as ledger:
        for turn, tokens in ((1, 100), (2, 110), (3, 100)):
            ledger.write(spec.session_id, turn, "llm", f"input {turn}", tokens, 5, True)
        yield ReviewSurface(str(tmp_path / "spec.db"), str(tmp_path / "ledger.db")), spec, ledger


HEADINGS = (
    "REVIEW SURFACE",
    "[1] ORIGINAL PROMISE",
    "[2] ACCEPTANCE CRITERIA",
    "[3] DIFF",
    "[4] EVIDENCE",
    "[5] UNRESOLVED ASSUMPTIONS",
)


def test_a_frame_has_the_five_elements(reviewed):
    surface, spec, _ = reviewed
    frame = surface.load(spec.session_id)
    assert isinstance(frame, ReviewFrame)
    assert isinstance(frame.diff, DiffResult)
    assert (frame.original_promise, frame.acceptance_criteria) == (spec, "report printed")
    assert (frame.diff.turns_completed, frame.diff.total_tokens, frame.diff.breached) == (3, 310, False)
    assert (len(frame.evidence), frame.unresolved_assumptions) == (3, ())


def test_the_five_headings_come_in_the_same_order_every_time(reviewed):
    surface, spec, _ = reviewed
    text = surface.render(spec.session_id)
    places = [text.index(heading) for heading in HEADINGS]
    assert places == sorted(places)
    assert text == surface.render(spec.session_id)


def test_attest_returns_and_stores_the_attestation(reviewed):
    surface, spec, ledger = reviewed
    attestation = surface.attest(spec.session_id, reviewer="alice", notes="LGTM")
    assert isinstance(attestation, AttestationResult)
    assert surface.get_attestations(spec.session_id) == [attestation]
    connection = sqlite3.connect(ledger.path)
    row = connection.execute("SELECT session_id, reviewer, notes, frame_hash FROM attestations").fetchone()
    connection.close()
    assert row == (spec.session_id, "alice", "LGTM", attestation.frame_hash)


def test_the_frame_hash_is_the_same_whoever_attests(reviewed):
    surface, spec, _ = reviewed
    first, second = surface.attest(spec.session_id, "alice"), surface.attest(spec.session_id, "bob")
    assert first.frame_hash == second.frame_hash
    assert len(first.frame_hash) == 64


def test_two_different_promises_never_share_a_frame_hash(tmp_path):
    hashes = set()
    for number, answers in enumerate([("a\nb", "c", "d"), ("a", "b\nc", "d"), ("a", "b", "c\nd")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        ids = iter(["the same session"])
        given = iter(answers)
        SpecWriter(
            str(folder / "s.db"), lambda _, given=given: next(given), print, new_id=lambda ids=ids: next(ids)
        ).run()
        with Ledger(folder / "l.db", now=lambda: datetime.fromisoformat("2026-01-01T00:00:00+00:00")) as ledger:
            ledger.write("the same session", 1, "llm", "x", 1, 1, True)
        surface = ReviewSurface(str(folder / "s.db"), str(folder / "l.db"))
        hashes.add(surface.attest("the same session", "alice").frame_hash)
    assert len(hashes) == 3


def test_a_missing_session_is_an_error_that_is_also_a_key_error(reviewed):
    surface, _, _ = reviewed
    with pytest.raises(SessionNotFoundError) as caught:
        surface.load("nobody")
    assert isinstance(caught.value, KeyError)


def test_final_output_is_the_last_rows_origin_where_no_output_is_held(reviewed):
    surface, spec, _ = reviewed
    assert surface.load(spec.session_id).diff.final_output == "llm"


def test_the_frame_shows_the_output_that_waits(ledger, tmp_path):
    loop_of(ledger, Client(reply("the report"))).run("task")
    surface = ReviewSurface(str(tmp_path / "ledger.db"), str(tmp_path / "ledger.db"))
    assert surface.load("session-1").output == "the report"
    assert "the report" in surface.render("session-1")
