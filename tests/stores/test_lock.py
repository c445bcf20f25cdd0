"""The turnstile: processes go through one at a time, in turn."""

from __future__ import annotations

import os

import pytest
from stores.kit import an_entry, open_sqlite, run_together, say, start

from donewhen.errors import LedgerUnavailableError
from donewhen.ledger import Ledger
from donewhen.stores import lock
from donewhen.stores.lock import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Turnstile
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


def test_who_gave_up_does_not_stand_in_the_queue_any_more(turnstiles) -> None:
    turnstiles[0].enter()
    with pytest.raises(TimeoutError):
        turnstiles[1].enter()
    turnstiles[0].leave()
    turnstiles[2].enter()
    with pytest.raises(TimeoutError):
        turnstiles[0].enter()


def test_who_has_just_been_through_stands_behind_the_one_who_waits(tmp_path, clock) -> None:
    order: list[str] = []
    first, second, third = (Turnstile(str(tmp_path / "x"), 1.0, clock.monotonic, clock.sleep) for _ in range(3))
    first.enter()

    def while_second_waits(seconds: float) -> None:
        clock.sleep(seconds)
        if not order:
            order.append("second waits")
            with pytest.raises(TimeoutError):
                third.enter()  # the queue is taken
            first.leave()

    second._pause = while_second_waits
    second.wait_seconds = 10.0
    second.enter()
    order.append("second goes")
    assert order == ["second waits", "second goes"]
    for turnstile in (first, second, third):
        turnstile.close()


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
