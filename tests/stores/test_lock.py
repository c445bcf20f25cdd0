"""The turnstile: processes go through one at a time, in turn."""

from __future__ import annotations

import os
import threading

import pytest
from stores.kit import an_entry, open_sqlite, run_together, say, start

from donewhen.errors import LedgerUnavailableError
from donewhen.ledger import Ledger
from donewhen.stores import lock
from donewhen.stores.lock import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    SPELL_SECONDS,
    STALLED_SECONDS,
    Turnstile,
)
from donewhen.testing import FakeClock

pytestmark = pytest.mark.skipif(lock.fcntl is None, reason="there is no flock here")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def turnstiles(tmp_path, clock):
    """Three, as three processes would have them: a flock belongs to the file as it was opened."""
    made = [Turnstile(str(tmp_path / "x"), 5.0, clock.monotonic, clock.sleep) for _ in range(3)]
    yield made
    for turnstile in made:
        turnstile.close()


def test_whoever_comes_first_does_not_wait(turnstiles, clock) -> None:
    turnstiles[0].enter()
    turnstiles[0].leave()
    turnstiles[1].enter()
    assert clock.slept == ()


def test_who_waits_gives_up_after_the_longest_wait(turnstiles, clock) -> None:
    turnstiles[0].enter()
    with pytest.raises(TimeoutError, match=r"another process has held .* for 5\.0 s"):
        turnstiles[1].enter()
    assert 5.0 <= sum(clock.slept) <= 5.0 + LONGEST_PAUSE_SECONDS
    assert (clock.slept[0], max(clock.slept)) == (FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)


def test_who_gave_up_does_not_stand_in_the_queue_any_more(turnstiles, clock) -> None:
    turnstiles[0].enter()
    with pytest.raises(TimeoutError):
        turnstiles[1].enter()
    turnstiles[0].leave()
    before = clock.slept
    turnstiles[2].enter()
    with pytest.raises(TimeoutError):
        turnstiles[0].enter()
    turnstiles[2].leave()
    turnstiles[1].enter()
    assert sum(clock.slept[len(before) :]) < 5.1  # those of the one that gave up


def test_who_gives_up_while_another_stands_behind_calls_that_one(turnstiles, clock) -> None:
    first, second, third = turnstiles
    first.enter()

    def interrupted(seconds: float) -> None:
        with pytest.raises(TimeoutError):
            third.enter()
        third._draw(third._files[0], 9.0)
        raise KeyboardInterrupt

    second._pause, third.wait_seconds = interrupted, 0.0
    with pytest.raises(KeyboardInterrupt):
        second.enter()
    following, called = lock._read(third._files[0])
    assert (following, called) == (2, 1)  # the ticket of the third
    assert clock.slept == ()


def test_the_ticket_of_one_that_died_costs_those_behind_it_one_wait(turnstiles, clock) -> None:
    first, second, third = turnstiles
    first.enter()
    first._draw(first._files[0], 9.0)  # whoever drew this one never comes
    first._spell_ends = 0.0
    first.leave()
    second.enter()
    assert STALLED_SECONDS <= sum(clock.slept) < 2 * STALLED_SECONDS
    second.leave()
    before = clock.slept
    third.enter()
    assert clock.slept == before


def test_who_has_just_been_through_comes_again_at_once_until_its_spell_is_over(turnstiles, clock) -> None:
    first, second, _ = turnstiles
    first.enter()
    first.leave()
    second._files = second._open()
    lock._write(second._files[0], lock._NEXT, 1)  # as if another one had drawn a ticket, and were not called
    clock.move(SPELL_SECONDS / 2)
    first.enter()
    first.leave()
    assert clock.slept == ()
    clock.move(SPELL_SECONDS / 2)
    first.enter()
    assert sum(clock.slept) >= STALLED_SECONDS


def test_who_waits_is_let_through_in_turn_and_who_was_through_stands_behind(tmp_path) -> None:
    """Four that wait for a fifth, whichever of them the system lets run."""
    order: list[str] = []
    path = str(tmp_path / "x")
    holder = Turnstile(path, 60.0)
    holder.enter()
    threads = []
    for number in range(4):

        def go(name: str = f"{number}") -> None:
            turnstile = Turnstile(path, 60.0)
            for again in ("", " again"):
                turnstile.enter()
                order.append(name + again)
                turnstile._spell_ends = 0.0  # it is over
                turnstile.leave()
            turnstile.close()

        threads.append(threading.Thread(target=go))
        threads[-1].start()
        while lock._read(holder._files[0])[0] != number + 1:  # until it has drawn its ticket
            continue
    holder.leave()
    for thread in threads:
        thread.join()
    holder.close()
    firsts = [name for name in order if "again" not in name]
    assert firsts == ["0", "1", "2", "3"]
    assert order.index("3") < order.index("1 again")


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 16, b"\xff" * 8, b"\0" * 8 + b"\xff" * 8, b"\1" * 40])
def test_numbers_that_make_no_sense_cost_one_pause_and_are_mended(turnstiles, clock, content: bytes) -> None:
    with open(turnstiles[0].path + "-queue", "wb") as queue:
        queue.write(content)
    turnstiles[0].enter()
    turnstiles[0].leave()
    assert sum(clock.slept) < 2 * STALLED_SECONDS
    before = clock.slept
    turnstiles[1].enter()
    assert clock.slept == before
    with pytest.raises(TimeoutError):
        turnstiles[2].enter()


def test_an_interrupted_wait_leaves_the_queue_free(turnstiles) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    turnstiles[0].enter()
    turnstiles[1]._pause = interrupted
    with pytest.raises(KeyboardInterrupt):
        turnstiles[1].enter()
    turnstiles[0].leave()
    turnstiles[2].enter()
    turnstiles[2].leave()
    assert turnstiles[0].enter() is None


def test_leaving_and_closing_without_a_turn_is_harmless(turnstiles) -> None:
    turnstiles[0].leave()
    turnstiles[0].close()
    turnstiles[0].enter()
    turnstiles[0].close()
    assert turnstiles[1].enter() is None


def test_without_flock_everybody_goes_through(turnstiles, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    for turnstile in turnstiles:
        turnstile.enter()
    for turnstile in turnstiles:
        turnstile.leave()
    assert not list(tmp_path.iterdir())


def test_a_lock_file_that_cannot_be_opened_leaves_nothing_open(tmp_path) -> None:
    (tmp_path / "x-turn").mkdir()
    turnstile = Turnstile(str(tmp_path / "x"), 1.0)
    before = os.dup(0)
    os.close(before)
    with pytest.raises(IsADirectoryError):
        turnstile.enter()
    after = os.dup(0)
    os.close(after)
    assert after == before


# -- in front of a store -----------------------------------------------------------------------------------------------


def test_a_turn_that_does_not_come_is_a_ledger_that_is_not_available(tmp_store) -> None:
    store = open_sqlite(tmp_store, wait_seconds=0.02)
    other = Turnstile(store.path, 1.0)
    other.enter()
    with pytest.raises(LedgerUnavailableError, match="another process") as caught, store.writing() as tx:
        tx.append(an_entry(), ())
    assert caught.value.stored is False
    other.leave()
    other.close()
    with store.writing() as tx:
        assert tx.append(an_entry(), ()).id == 1
    store.close()


HOLDER = """
import os, signal, sys
from donewhen.stores.lock import Turnstile
turnstile = Turnstile(sys.argv[1], 9.0)
turnstile.enter()
print("held", flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_in_its_turn_lets_the_next_one_through(tmp_store) -> None:
    ledger = Ledger(tmp_store)
    with start(HOLDER, tmp_store) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.stdin.write("die\n")
        holder.stdin.flush()
        assert holder.wait() == -9
        assert say(ledger) == 1
        ledger.close()


NO_FLOCK = """
import sys
from donewhen.stores import lock
lock.fcntl = None
from donewhen.ledger import Ledger
print("ready", flush=True)
sys.stdin.readline()
with Ledger(sys.argv[1]) as ledger:
    for number in range(10):
        ledger.write(sys.argv[2], number, "x", "x", 1, 1, True)
    print(ledger.origin)
"""


def test_where_there_is_no_flock_processes_wait_for_one_another_all_the_same(tmp_store) -> None:
    origins = run_together(4, NO_FLOCK, tmp_store)
    assert len(set(origins)) == 1
    with Ledger(tmp_store) as ledger:
        assert [(len(ledger.get_session(str(n))), ledger.get_session(str(n))[-1].seq) for n in range(4)] == [
            (10, 10)
        ] * 4
    assert not tmp_store.with_name("ledger.db-wal").exists()
