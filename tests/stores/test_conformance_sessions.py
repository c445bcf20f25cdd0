"""What every store must do for sessions when something is odd: two writers on one session, and a clock that is set back.

No test here asks which store it has.
"""

from __future__ import annotations

import os
import platform
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from processes import finish, let_go_together
from sessions import SPEC, a_session, ask
from stores.kit import SIGNER, start

from donewhen.balance import Amounts, Breach
from donewhen.client import Reply
from donewhen.errors import CircuitBreakerError, SessionBusyError
from donewhen.ledger import Ledger
from donewhen.notes import Verifier
from donewhen.owner import this_process
from donewhen.progress import read_progress
from donewhen.session import Session
from donewhen.testing import FakeClock
from donewhen.usage import Usage
from donewhen.verify import verify_ledger

HOUR_SECONDS = 3600


@pytest.fixture
def open_ledger(place: str) -> Iterator[Callable[..., Ledger]]:
    """Open the one ledger of a test, each time anew; in the end the auditor finds it whole."""
    opened: list[Ledger] = []

    def opening(**options: Any) -> Ledger:
        opened.append(Ledger(place, signer=SIGNER, **options))
        return opened[-1]

    yield opening
    key = Verifier.parse(opened[0].signed_by or "")
    for ledger in opened:
        ledger.close()
    verify_ledger(place, key)


# -- two writers on one session ----------------------------------------------------------------------------------------

RIVAL = """
import sys
from sessions import a_session, ask
from stores.kit import SIGNER
from donewhen.errors import SessionBusyError
from donewhen.ledger import Ledger
from donewhen.owner import this_process
with Ledger(sys.argv[1], signer=SIGNER) as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        session = a_session(ledger)
    except SessionBusyError as busy:
        print("refused", busy.owner, busy.owner in str(busy), flush=True)
    else:
        session.admit(ask())
        print("opened", this_process(), True, flush=True)
    sys.stdin.readline()  # until everybody has tried
"""


def test_of_four_processes_that_open_one_session_one_has_it_and_the_others_are_told_who(place, open_ledger) -> None:
    with open_ledger() as ledger:
        with ExitStack() as stack:
            rivals = [stack.enter_context(start(RIVAL, place)) for _ in range(4)]
            let_go_together(rivals)
            said = [rival.stdout.readline().split() for rival in rivals]
            opened_by = [rival.pid for rival, line in zip(rivals, said, strict=True) if line[:1] == ["opened"]]
            finish(*rivals)
        (pid,), (owner,) = opened_by, {line[1] for line in said}
        assert Counter((line[0], line[2]) for line in said) == {("opened", "True"): 1, ("refused", "True"): 3}
        host, number, _ = owner.split(":")
        assert (host, int(number)) == (platform.node().replace(":", "-"), pid)
        assert [row.kind for row in ledger.rows(SPEC.session_id)] == ["spec", "policy", "open", "reserve"]


def test_a_session_is_busy_until_the_process_that_has_it_is_killed(place, open_ledger) -> None:
    with open_ledger() as ledger, start(RIVAL, place) as holder:
        let_go_together([holder])
        assert holder.stdout.readline().startswith("opened ")
        before = len(ledger.rows(SPEC.session_id))
        with pytest.raises(SessionBusyError, match=f"session-1 is being run by .*:{holder.pid}:.* Wait for it"):
            a_session(ledger)
        assert len(ledger.rows(SPEC.session_id)) == before
        holder.kill()
        # Not waited for: a process that was killed and lies there as a zombie is gone.
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        session = a_session(ledger)
        assert session.newest_balance.reserved.tokens > 0  # what the dead one had under way may have been billed
        (doubt,) = [row for row in ledger.rows(SPEC.session_id) if row.kind == "abandoned"]
        assert doubt.data["problem"] == "its process is gone"
        assert holder.wait() == -signal.SIGKILL


def test_of_eight_threads_that_open_one_session_one_has_it(open_ledger) -> None:
    ledgers = [open_ledger() for _ in range(2)]
    a_session(ledgers[0]).leave()  # the second opening is the one that somebody else may have made
    barrier, sessions, faults = threading.Barrier(8), [], []

    def work(number: int) -> None:
        barrier.wait()
        try:
            sessions.append(a_session(ledgers[number % 2]))
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(type(fault), fault.owner) for fault in faults] == [(SessionBusyError, this_process())] * 7
    assert len(sessions) == 1


def test_a_session_is_taken_from_the_commit_that_opens_it_on(open_ledger, monkeypatch) -> None:
    ledger, other = open_ledger(), open_ledger()
    a_session(ledger).leave()
    noted, tried = Ledger.note_after, []

    def and_then_another_tries(self, session_id, decide):
        row = noted(self, session_id, decide)
        if self is ledger:
            with pytest.raises(SessionBusyError) as busy:
                a_session(other)
            tried.append(busy.value.owner)
        return row

    monkeypatch.setattr(Ledger, "note_after", and_then_another_tries)
    assert a_session(ledger).before is not None
    assert tried == [this_process()]


def test_an_opening_that_fails_keeps_nobody_out(open_ledger, monkeypatch) -> None:
    ledger = open_ledger()
    a_session(ledger).leave()
    with monkeypatch.context() as patch:
        patch.setattr("donewhen.opening._Opening._reopening_rows", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            a_session(ledger)
    assert a_session(ledger).before is not None


def test_who_had_a_session_is_told_who_took_it_on_another_host(open_ledger, monkeypatch) -> None:
    session = a_session(open_ledger())
    under_way = session.admit(ask())
    with monkeypatch.context() as patch:
        patch.setattr("donewhen.owner._host", lambda: "elsewhere")
        other = a_session(open_ledger())  # from there nobody can see whether this process still lives
        owner = this_process()
    (doubt,) = [row for row in other.ledger.rows(SPEC.session_id) if row.kind == "abandoned"]
    assert doubt.data["problem"] == "whether its process still runs is not known here"
    before = len(other.ledger.rows(SPEC.session_id))
    for _ in range(2):
        with pytest.raises(SessionBusyError, match=r"session-1 is being run by elsewhere:") as busy:
            session.admit(ask())
        assert busy.value.owner == owner
    assert len(other.ledger.rows(SPEC.session_id)) == before
    with pytest.raises(SessionBusyError):
        # What was under way is settled all the same; what should have followed it is refused.
        session.settle(under_way, reply_of(50), then=ask())
    other.admit(ask())
    assert [row.kind for row in other.ledger.rows(SPEC.session_id)][before:] == ["llm", "reserve"]


def test_what_others_write_to_a_session_takes_it_from_nobody(open_ledger) -> None:
    session, other = a_session(open_ledger()), open_ledger()
    for number in range(3):
        other.write(SPEC.session_id, number, "step", "x", 1, 1, True)
        spend(session, 50)
    other.raise_ceilings(SPEC.session_id, {"tokens": 20_000}, why="more to do", who="ann")
    spend(session, 50)
    assert session.newest_balance.spent.tokens == 200


# -- a clock that jumps back an hour -----------------------------------------------------------------------------------

NOON = datetime(2026, 3, 28, 12, tzinfo=timezone.utc)


def reply_of(tokens: int) -> Reply:
    """Return a reply that used so many tokens."""
    return Reply(content=(), text="", tool_calls=(), stop_reason="end_turn", usage=Usage(1, tokens - 1))


def spend(session: Session, tokens: int) -> None:
    """Make one call that uses so many tokens."""
    session.settle(session.admit(ask("x", 100)), reply_of(tokens))


def spend_until_refused(session: Session, tokens: int) -> Breach:
    while True:
        try:
            spend(session, tokens)
        except CircuitBreakerError as refused:
            return refused.breach


def test_rows_are_written_and_sealed_in_their_order_whatever_the_clock_says(place, open_ledger) -> None:
    clock = FakeClock(NOON)
    ledger = open_ledger(now=clock.now)
    for number in range(3):
        ledger.write("s", number, str(number), "x", 1, 1, True)
        clock.set_wall(-HOUR_SECONDS)
    rows = ledger.rows("s")
    assert [(row.id, row.seq, row.state_origin) for row in rows] == [(1, 1, "0"), (2, 2, "1"), (3, 3, "2")]
    assert [row.created_at[11:16] for row in rows] == ["12:00", "11:00", "10:00"]
    report = verify_ledger(place, Verifier.parse(ledger.signed_by or ""))
    assert (report.rows, len(report.warnings)) == (3, 1)
    assert "a clock was set back" in report.warnings[0]


@pytest.mark.parametrize(("per", "steps"), [(None, 0), ("day", 13), ("month", 24 * 4), ("hours:2", 3)])
def test_a_clock_that_jumps_back_takes_no_spend_away_and_refuses_nothing_in_vain(open_ledger, per, steps) -> None:
    clock = FakeClock(NOON)
    ledger = open_ledger(now=clock.now)
    ledger.new_budget("acme", tokens=400, per=per, who="ann")
    session = a_session(ledger, budget="acme")
    spend(session, 100)
    held = session.admit(ask("x", 100))
    clock.move(steps * HOUR_SECONDS)
    spend(session, 50)
    clock.set_wall(-HOUR_SECONDS)
    spend(session, 20)
    balance = ledger.find_budget("acme")
    assert balance is not None
    # A period that is over stays over; what is spent in this one stays spent, and what is under way stays reserved.
    assert balance.spent.tokens == 70 + (100 if per is None else 0)
    assert balance.reserved == Amounts(1, held.reserved.tokens, held.reserved.cost_microusd, 0)
    breach = spend_until_refused(session, 49)
    assert breach.reason == "budget:acme:token_ceiling"
    assert 0 <= 400 - breach.spent - held.reserved.tokens < 49


def test_a_session_that_goes_on_after_a_jump_back_has_no_time_given_back(open_ledger) -> None:
    clock = FakeClock(NOON)
    options = {"now": clock.now, "monotonic": clock.monotonic, "limits": {"seconds_limit": 3 * HOUR_SECONDS}}
    ledger = open_ledger(now=clock.now)
    with a_session(ledger, **options) as session:
        clock.move(2 * HOUR_SECONDS)
        spend(session, 50)
        clock.set_wall(-HOUR_SECONDS)
        assert session.elapsed_ms == 2 * HOUR_SECONDS * 1000
        spend(session, 50)
    with a_session(ledger, **options) as session:
        assert session.elapsed_ms == 2 * HOUR_SECONDS * 1000
        clock.move(2 * HOUR_SECONDS)
        with pytest.raises(CircuitBreakerError, match="time_ceiling"):
            spend(session, 50)
    progress = read_progress(ledger.rows(SPEC.session_id))
    assert progress is not None
    assert progress.elapsed_ms(clock.now() - timedelta(hours=9)) == 4 * HOUR_SECONDS * 1000
