from __future__ import annotations

import enum
import hashlib
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores.kit import SIGNER, key_of, open_sqlite

from donewhen.balance import Amounts, Ceilings
from donewhen.canonical import MAX_INT
from donewhen.entry import VISIBLE_KINDS, Entry, spec_hash
from donewhen.errors import (
    LedgerError,
    LedgerFormatError,
    LedgerUnavailableError,
    PermitClosedError,
    PriceUnknownError,
    SessionNotFoundError,
)
from donewhen.ledger import Draft, Ledger, utc_now
from donewhen.spec_writer import SpecResult
from donewhen.testing import FakeClock, FaultyStore
from donewhen.texts import hash_input

SECRET = "the quick brown fox 4711"
PROPER: dict[str, Any] = {
    "session_id": "s",
    "turn_count": 1,
    "state_origin": "planner",
    "input_str": SECRET,
    "token_delta": 120,
    "execution_time_ms": 350,
    "pass_fail": True,
    "breach_reason": None,
}
SPEC = SpecResult("audit one page", "change the page", "a report is printed", "s")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def ledger(tmp_store, clock):
    with Ledger(tmp_store, now=clock.now) as ledger:
        yield ledger


def an_entry(kind: str, session_id: str = "s", **fields: Any) -> Entry:
    return Entry(kind=kind, session_id=session_id, state_origin=kind, **fields)


def opened(ledger: Ledger, turns: int = 9, tokens: int = 999) -> Ledger:
    ledger.note(Draft(an_entry("open", data={"ceilings": [turns, tokens, None, None, None, None]})))
    return ledger


def reserve(ledger: Ledger, tokens: int = 100) -> int:
    return ledger.admit("s", lambda _: Draft(an_entry("reserve", data={"reserve": [1, tokens, 0, 0]}))).seq


def settling(seq: int, tokens: int) -> Any:
    reply = an_entry("llm", closes=seq, token_delta=tokens, data={"cost_microusd": 0})
    return lambda _balance, _held: (Draft(reply), [])


# -- the tutorial's three ----------------------------------------------------------------------------------------------


def test_write_returns_ids_one_two_three(ledger) -> None:
    assert [ledger.write(**PROPER), ledger.write(**{**PROPER, "session_id": "t"}), ledger.write(**PROPER)] == [1, 2, 3]


def test_a_row_comes_back_as_it_was_written(ledger) -> None:
    ledger.write("s", 2, "circuit_breaker", SECRET, 0, 12, False, "token_ceiling")
    (row,) = ledger.get_session("s")
    assert (row.id, row.session_id, row.turn_count, row.state_origin) == (1, "s", 2, "circuit_breaker")
    assert row.input_hash == hashlib.sha256(SECRET.encode()).hexdigest()
    assert (row.token_delta, row.execution_time_ms, row.pass_fail) == (0, 12, False)
    assert (row.breach_reason, row.created_at) == ("token_ceiling", "2026-01-01T00:00:00+00:00")
    assert ledger.get_all() == [row]
    assert ledger.get_session("other") == []


@pytest.mark.parametrize("origin", ["llm", "open", "budget", "attest", "spec", "close"])
def test_write_can_forge_no_other_kind_and_moves_no_balance(ledger, origin) -> None:
    opened(ledger)
    reserve(ledger)
    before = ledger.newest_row("s").after
    ledger.write(**{**PROPER, "state_origin": origin})
    newest = ledger.newest_row("s")
    assert (newest.kind, newest.state_origin, newest.after, newest.closes) == ("write", origin, before, None)
    with closing(sqlite3.connect(ledger.path)) as raw:
        assert raw.execute("SELECT count(*) FROM attestations").fetchone() == (0,)
        assert raw.execute("SELECT count(*) FROM spec").fetchone() == (0,)


def test_the_input_is_nowhere_in_the_files(ledger, tmp_path) -> None:
    ledger.write(**PROPER)
    found = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    ledger.close()
    found += Path(ledger.path).read_bytes()
    assert SECRET.encode() not in found
    assert hash_input(SECRET).encode() in found


BAD = [
    ("session_id", [None, 1, b"s", "a\0b", "\ud800", ["s"]]),
    ("turn_count", [None, "1", 1.0, True, -1, MAX_INT + 1, 10**400, float("nan"), 1j]),
    ("state_origin", [None, 1, b"x", "\0", "half \udfff"]),
    ("input_str", [None, 1, b"bytes", ["x"]]),
    ("token_delta", [None, "1", 1.5, False, -1, MAX_INT + 1, -(10**400), float("inf")]),
    ("execution_time_ms", [None, "1", True, -1, -0.1, float("nan"), float("inf"), -float("inf"), 1e300, 2**53]),
    ("pass_fail", [None, "no", "", 2, -1, 1.0, [True]]),
    ("breach_reason", [1, b"x", "\0", "\ud800", False]),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD for value in values], ids=repr)
def test_an_argument_that_cannot_be_is_named_and_nothing_is_written(ledger, name, value) -> None:
    with pytest.raises(ValueError, match=f"^{name} "):
        ledger.write(**{**PROPER, name: value})
    assert ledger.get_all() == []


class Origin(str, enum.Enum):
    PLANNER = "planner"


class Number(enum.IntEnum):
    TWO = 2


ODD = [
    ("session_id", "", ""),
    ("session_id", "ü'\n\U0001f600", "ü'\n\U0001f600"),
    ("state_origin", Origin.PLANNER, "planner"),
    ("turn_count", Number.TWO, 2),
    ("turn_count", 0, 0),
    ("token_delta", MAX_INT, MAX_INT),
    ("execution_time_ms", 3.9, 3),
    ("execution_time_ms", 0.0, 0),
    ("pass_fail", 1, True),
    ("pass_fail", 0, False),
    ("breach_reason", "", ""),
]


@pytest.mark.parametrize(("name", "value", "kept"), ODD)
def test_an_odd_argument_is_kept_as_what_it_is(ledger, name, value, kept) -> None:
    ledger.write(**{**PROPER, name: value})
    (row,) = ledger.get_all()
    assert getattr(row, name) == kept
    assert type(getattr(row, name)) is type(kept)
    with closing(sqlite3.connect(ledger.path)) as raw:
        assert raw.execute(f"SELECT {name} FROM ledger").fetchone() == (kept,)


@pytest.mark.parametrize("text", ["", "\0", "half \ud800", "\U0001f600", "x" * 1_000_000])
def test_any_text_can_be_an_input(ledger, text) -> None:
    ledger.write(**{**PROPER, "input_str": text})
    wanted = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    assert ledger.get_all()[0].input_hash == wanted


@pytest.mark.parametrize("odd", ["\ud800", "x\0y", 7, None])
def test_asking_for_a_session_that_cannot_be_finds_nothing(ledger, odd) -> None:
    ledger.write(**PROPER)
    assert ledger.get_session(odd) == []


def test_bookkeeping_is_not_shown(ledger) -> None:
    opened(ledger)
    reserve(ledger)
    ledger.write(**PROPER)
    ledger.write_spec(SPEC)
    assert [row.kind for row in ledger.get_session("s")] == [row.kind for row in ledger.get_all()] == ["write"]
    assert [row.kind for row in ledger.rows("s")] == ["open", "reserve", "write", "spec"]
    assert [row.kind for row in ledger.iter_rows()] == ["open", "reserve", "write", "spec"]
    assert [row.id for row in ledger.iter_rows(2)] == [3, 4]
    assert not {"open", "reserve", "spec"} & set(VISIBLE_KINDS)


# -- what it is --------------------------------------------------------------------------------------------------------


def test_a_ledger_says_what_and_where_it_is(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Ledger(signer=SIGNER, random=lambda count: b"\7" * count) as ledger:
        assert (ledger.db_path, ledger.path) == ("ledger.db", str(tmp_path / "ledger.db"))
        assert (ledger.origin, ledger.signed_by) == ("donewhen/a4dqobyha4dqo", key_of(ledger.path).vkey)
        assert ledger.store.path == ledger.path
    with Ledger(bytes(tmp_path / "plain.db")) as unsigned:
        assert (unsigned.signed_by, unsigned.path) == (None, str(tmp_path / "plain.db"))


def test_sessions_are_listed_oldest_first(ledger) -> None:
    for session in ("z", "a", "z"):
        ledger.write(**{**PROPER, "session_id": session})
    assert ledger.sessions() == [("z", 1, 3), ("a", 2, 2)]
    assert (ledger.newest_row("z").id, ledger.newest_row("none")) == (3, None)


def test_a_ledger_can_be_used_after_it_was_closed(ledger) -> None:
    ledger.write(**PROPER)
    ledger.close()
    assert ledger.write(**PROPER) == 2


def test_the_time_is_aware_utc() -> None:
    assert utc_now().tzinfo is timezone.utc
    assert abs((utc_now() - datetime.now(timezone.utc)).total_seconds()) < 5


# -- rows that people write --------------------------------------------------------------------------------------------


def test_a_spec_is_stored_once(ledger) -> None:
    assert ledger.find_spec("s") is None
    row = ledger.write_spec(SPEC, terms={"x": 1})
    assert ledger.find_spec("s") == row
    assert row.data["terms"] == {"x": 1}
    answers = (SPEC.what_it_does, SPEC.what_it_does_not, SPEC.done_looks_like)
    assert row.data["spec_hash"] == spec_hash(*answers, {"x": 1})
    with pytest.raises(LedgerError, match="has a spec already"):
        ledger.write_spec(SPEC)
    assert len(ledger.rows("s")) == 1
    assert "terms" not in ledger.write_spec(SpecResult("a", "b", "c", "t")).data


@pytest.mark.parametrize("answer", ["\0", "\ud800", None])
def test_an_answer_that_cannot_be_stored_is_named(ledger, answer) -> None:
    with pytest.raises(ValueError, match=r"^what_it_does_not "):
        ledger.write_spec(SpecResult("a", answer, "c", "s"))
    assert ledger.rows("s") == []


def test_an_attestation_says_who_and_what(ledger) -> None:
    row = ledger.attest("s", "ann", "f" * 64, "fine")
    assert (row.kind, dict(row.data)) == ("attest", {"reviewer": "ann", "frame_hash": "f" * 64, "notes": "fine"})
    assert ledger.attest("s", "bob", "f" * 64).data["notes"] == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [("reviewer", " "), ("reviewer", None), ("frame_hash", None), ("notes", 1), ("notes", "\0"), ("session_id", 5)],
)
def test_an_attestation_that_cannot_be_is_refused(ledger, name, value) -> None:
    proper = {"session_id": "s", "reviewer": "ann", "frame_hash": "f" * 64, "notes": ""}
    with pytest.raises(ValueError, match=f"^{name} "):
        ledger.attest(**{**proper, name: value})
    assert ledger.rows("s") == []


def test_a_raised_ceiling_is_a_row_that_says_who_and_why(ledger) -> None:
    opened(ledger)
    assert ledger.newest_row("s").balance.ceilings == Ceilings(9, 999)
    row = ledger.raise_ceilings("s", {"tokens": 2000, "cost_microusd": 5}, why="nearly there", who="ann")
    assert row.balance.ceilings == Ceilings(9, 2000, 5)
    assert (row.kind, row.data["why"], row.data["who"]) == ("budget", "nearly there", "ann")
    assert ledger.raise_ceilings("s", {"cost_microusd": None}, why="x", who="y").balance.ceilings == Ceilings(9, 2000)


def test_a_row_before_the_session_was_opened_has_no_balance(ledger) -> None:
    ledger.write(**PROPER)
    assert ledger.newest_row("s").balance is None


@pytest.mark.parametrize(
    ("changes", "why", "who", "says"),
    [
        ({}, "x", "ann", "no ceiling was named"),
        ({"token": 1}, "x", "ann", "token is not a ceiling; the ceilings are turns, tokens"),
        ({"turns": None}, "x", "ann", "turns always has a ceiling"),
        ({"tokens": None}, "x", "ann", "tokens always has a ceiling"),
        ({"tokens": -1}, "x", "ann", "^tokens is -1"),
        ({"tokens": True}, "x", "ann", "^tokens is True"),
        ({"tokens": 1.5}, "x", "ann", "^tokens is 1.5"),
        ({"tokens": 2**60}, "x", "ann", "^tokens is 1152921504606846976"),
        ({"tokens": 1}, " ", "ann", "^why is blank"),
        ({"tokens": 1}, None, "ann", "^why is None"),
        ({"tokens": 1}, "x", "", "^who is blank"),
        ({"tokens": 1}, "x", "\0", "^who contains NUL"),
    ],
)
def test_a_raise_that_cannot_be_is_refused(ledger, changes, why, who, says) -> None:
    opened(ledger)
    with pytest.raises(ValueError, match=says):
        ledger.raise_ceilings("s", changes, why=why, who=who)
    assert len(ledger.rows("s")) == 1


def test_only_an_open_session_has_ceilings_to_raise(ledger) -> None:
    ledger.write(**PROPER)
    for session in ("s", "none"):
        with pytest.raises(SessionNotFoundError, match="never opened"):
            ledger.raise_ceilings(session, {"turns": 1}, why="x", who="ann")


# -- texts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "é\0\n", "half \ud800", "x" * 100_000])
def test_a_text_is_kept_by_commitment(ledger, text) -> None:
    row = ledger.note(Draft(an_entry("close", data={"reason": "r"}), {"output": text, "other": "2"}))
    assert ledger.find_text(row, "output") == text
    assert row.data["reason"] == "r"
    assert set(row.data["texts"]) == {"output", "other"}
    assert ledger.find_text(row, "none") is None
    assert ledger.find_text(ledger.note(Draft(an_entry("close"))), "output") is None


def test_the_same_text_has_another_commitment_each_time(ledger) -> None:
    rows = [ledger.note(Draft(an_entry("close"), {"output": "yes"})) for _ in range(2)]
    assert rows[0].data["texts"] != rows[1].data["texts"]
    assert hash_input("yes") not in str(rows)


# -- reservations ------------------------------------------------------------------------------------------------------


def test_a_reservation_is_settled_once(ledger) -> None:
    seq = reserve(opened(ledger))
    assert ledger.newest_row("s").balance.used == Amounts(1, 100, 0, 0)
    (row,) = ledger.close_reservation("s", seq, settling(seq, 30))
    assert (row.balance.spent, row.balance.reserved) == (Amounts(1, 30, 0, 0), Amounts())
    with pytest.raises(PermitClosedError) as caught:
        ledger.close_reservation("s", seq, settling(seq, 30))
    assert (caught.value.session_id, caught.value.seq, caught.value.kind) == ("s", seq, "llm")
    assert ledger.newest_row("s") == row


def test_a_reservation_of_another_process_is_settled_from_the_record(ledger) -> None:
    seq = reserve(opened(ledger))
    with Ledger(ledger.path) as other:
        (row,) = other.close_reservation("s", seq, settling(seq, 130))
        assert (row.balance.spent.tokens, row.balance.reserved) == (130, Amounts())
    with pytest.raises(PermitClosedError):
        ledger.close_reservation("s", seq, settling(seq, 30))
    with pytest.raises(PermitClosedError):
        ledger.doubt_reservation("s", seq, Draft(an_entry("abandoned", doubts=seq)))


def test_a_doubted_reservation_stands_until_it_is_settled_once(ledger) -> None:
    seq = reserve(opened(ledger))
    row = ledger.doubt_reservation("s", seq, Draft(an_entry("abandoned", doubts=seq)))
    assert row.balance.reserved.tokens == 100
    with pytest.raises(PermitClosedError) as caught:
        ledger.doubt_reservation("s", seq, Draft(an_entry("abandoned", doubts=seq)))
    assert caught.value.kind == "abandoned"
    ledger.close_reservation("s", seq, settling(seq, 40))
    assert ledger.newest_row("s").balance.used.tokens == 40
    with pytest.raises(PermitClosedError):
        ledger.close_reservation("s", seq, settling(seq, 40))
    assert [row.kind for row in ledger.rows("s")] == ["open", "reserve", "abandoned", "llm"]


def test_rows_that_follow_a_settlement_see_the_balance_it_leaves(ledger) -> None:
    seq = reserve(opened(ledger))
    seen: list[int] = []

    def decide(balances, held):
        seen.extend([balances[-1].used.tokens, held.tokens])

        def following(balances):
            seen.append(balances[-1].used.tokens)
            return Draft(an_entry("reserve", data={"reserve": [1, 7, 0, 0]}))

        return settling(seq, 30)(balances, held)[0], [following, following]

    rows = ledger.close_reservation("s", seq, decide)
    assert seen == [100, 100, 30, 37]
    assert [(row.kind, row.seq) for row in rows] == [("llm", 3), ("reserve", 4), ("reserve", 5)]
    ledger.close_reservation("s", rows[-1].seq, settling(rows[-1].seq, 1))
    ledger.close_reservation("s", rows[1].seq, settling(rows[1].seq, 2))
    assert ledger.newest_row("s").balance.used == Amounts(3, 33, 0, 0)


def test_results_are_written_before_what_is_decided_in_one_transaction(ledger) -> None:
    opened(ledger)
    tool = Draft(an_entry("tool"))
    row = ledger.admit("s", lambda _: Draft(an_entry("reserve", data={"reserve": [1, 1, 0, 0]})), [tool, tool])
    assert [row.kind for row in ledger.rows("s")] == ["open", "tool", "tool", "reserve"]
    assert row.seq == 4
    assert [sealed.size for sealed in ledger.store.iter_sealed()] == [1, 4]


def test_what_is_no_reservation_cannot_be_closed(ledger) -> None:
    opened(ledger)
    for seq in (1, 99, 0):
        with pytest.raises(LedgerError, match=f"row {seq} of session s is not a reservation"):
            ledger.close_reservation("s", seq, settling(seq, 1))
        with pytest.raises(LedgerError, match="is not a reservation"):
            ledger.doubt_reservation("s", seq, Draft(an_entry("abandoned", doubts=seq)))


def test_a_row_cannot_give_back_a_reservation_that_it_does_not_close(ledger) -> None:
    opened(ledger)
    first, second = reserve(ledger), reserve(ledger)
    before = ledger.rows("s")
    for wrong in (settling(second, 1), lambda _balance, _held: (Draft(an_entry("error")), [])):
        with pytest.raises(LedgerError, match="says that it closes another"):
            ledger.close_reservation("s", first, wrong)
    with pytest.raises(LedgerError, match="says that it doubts another"):
        ledger.doubt_reservation("s", first, Draft(an_entry("abandoned", doubts=second)))
    with pytest.raises(LedgerError, match="only by close_reservation"):
        ledger.note(Draft(an_entry("error", closes=first)))
    assert ledger.rows("s") == before


def test_nothing_is_reserved_in_a_session_that_is_not_open(ledger) -> None:
    with pytest.raises(SessionNotFoundError):
        reserve(ledger)
    with pytest.raises(LedgerFormatError, match="never opened"):
        ledger.note(Draft(an_entry("reserve", data={"reserve": [1, 1, 0, 0]})))
    assert ledger.rows("s") == []


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_a_decision_that_fails_writes_nothing_not_even_the_results(ledger, fault) -> None:
    opened(ledger)

    def decide(_balance):
        raise fault

    with pytest.raises(fault):
        ledger.admit("s", decide, [Draft(an_entry("tool"))])
    assert len(ledger.rows("s")) == 1


def test_a_refusal_does_not_undo_the_results_that_came_before_it(ledger) -> None:
    opened(ledger)

    def refuse(_balance):
        raise PriceUnknownError("m")

    with pytest.raises(PriceUnknownError):
        ledger.admit("s", refuse, [Draft(an_entry("tool"))])
    assert [row.kind for row in ledger.rows("s")] == ["open", "tool"]


def test_a_refusal_of_the_next_request_does_not_undo_the_settlement(ledger) -> None:
    seq = reserve(opened(ledger))

    def refuse(_balance):
        raise PriceUnknownError("m")

    def decide(balance, held):
        return settling(seq, 30)(balance, held)[0], [refuse, lambda _: pytest.fail("asked after a refusal")]

    with pytest.raises(PriceUnknownError):
        ledger.close_reservation("s", seq, decide)
    assert ledger.newest_row("s").balance.used.tokens == 30
    with pytest.raises(PermitClosedError):
        ledger.close_reservation("s", seq, settling(seq, 30))


def test_a_reservation_in_doubt_is_not_given_back(ledger) -> None:
    seq = reserve(opened(ledger))
    ledger.doubt_reservation("s", seq, Draft(an_entry("abandoned", doubts=seq)))
    given_back = Draft(an_entry("error", closes=seq))
    with pytest.raises(PermitClosedError) as caught:
        ledger.close_reservation("s", seq, lambda _balance, _held: (given_back, []))
    assert caught.value.kind == "abandoned"
    assert ledger.newest_row("s").balance.reserved.tokens == 100


def test_what_is_written_after_reading_sees_all_that_others_wrote(ledger) -> None:
    seen: list[int] = []

    def decide(rows):
        seen.append(len(rows))
        return [Draft(an_entry("check")), Draft(an_entry("close"))]

    with Ledger(ledger.path) as other:
        assert [ledger.note_after("s", decide).seq, other.note_after("s", decide).seq] == [2, 4]
        assert ledger.note_after("s", decide).seq == 6
    assert seen == [0, 2, 4]


def test_of_eight_threads_that_store_a_spec_one_does(ledger) -> None:
    refused: list[str] = []

    def store() -> None:
        try:
            ledger.write_spec(SPEC)
        except LedgerError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=store) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(refused), [row.kind for row in ledger.rows("s")]) == (7, ["spec"])


# -- a store that fails ------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.sampled_from(["reserve", "settle", "doubt", "note"]), st.sampled_from([None, False, True])),
    max_size=25,
)


class Writer:
    """Whoever writes to a store that may fail, and what should be in the record by now."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = opened(ledger)
        self.count, self.spent = 1, 0
        self.held: list[int] = []
        self.doubted: set[int] = set()

    def act(self, step: str) -> Callable[[], object]:
        """Return what the step writes; a step that has nothing to work on writes a note."""
        seq = self.held[0] if self.held else None
        if step == "reserve":
            return lambda: reserve(self.ledger, 10)
        if step == "settle" and seq is not None:
            return lambda: self.ledger.close_reservation("s", seq, settling(seq, 4))
        if step == "doubt" and seq is not None and seq not in self.doubted:
            return lambda: self.ledger.doubt_reservation("s", seq, Draft(an_entry("abandoned", doubts=seq)))
        return lambda: self.ledger.note(Draft(an_entry("check")))

    def was_stored(self, step: str) -> None:
        self.count += 1
        if step == "reserve":
            self.held.append(self.count)
        elif step == "settle" and self.held:
            self.held.pop(0)
            self.spent += 4
        elif step == "doubt" and self.held:
            self.doubted.add(self.held[0])


@given(steps=STEPS, honest=st.booleans())
def test_spend_is_right_whichever_writes_fail_and_whether_or_not_they_are_stored(
    tmp_path_factory, steps, honest
) -> None:
    """Whoever writes is told of a failure, reads the record, and goes on from there."""
    path = tmp_path_factory.mktemp("faulty") / "ledger.db"
    store = FaultyStore(open_sqlite(path))
    with Ledger(path, store=store) as ledger:
        writer = Writer(ledger)
        for step, stored in steps:
            act = writer.act(step)
            if stored is None:
                act()
            else:
                store.fail(stored=stored, honest=honest)
                with pytest.raises(LedgerUnavailableError) as caught:
                    act()
                assert caught.value.stored is (stored if honest else None)
            if stored is not False:
                writer.was_stored(step)
            balance = ledger.newest_row("s").balance
            assert (balance.spent.tokens, balance.reserved.tokens) == (writer.spent, 10 * len(writer.held))
        assert len(ledger.rows("s")) == writer.count
