"""Many processes and threads on one file, forks, and processes that are killed."""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from contextlib import closing

import pytest
from stores.kit import SIGNER, run, run_together, said, say, start

from donewhen.entry import GENESIS, decode, link
from donewhen.ledger import Ledger
from donewhen.merkle import leaf_hash, root_of
from donewhen.notes import Checkpoint, open_note
from donewhen.stores.sqlite_connections import connect, use_wal
from donewhen.stores.sqlite_schema import MIGRATIONS, check_format, migrate

MOST_ROWS_IN_BETWEEN = 600
"""How many rows of others may go in while one waits. Seven others may each go on for ten milliseconds, in which a RAM disk
takes some 50 rows and a disk some 10; left to SQLite it is a thousand and more."""

WRITER = """
import sys
from donewhen.ledger import Ledger
from stores.kit import SIGNER
print("ready", flush=True)
sys.stdin.readline()
with Ledger(sys.argv[1], signer=SIGNER) as ledger:
    ids = [ledger.write(sys.argv[3], number, "x", "x", 1, 1, True) for number in range(int(sys.argv[2]))]
    print(ledger.origin, max((after - before - 1 for before, after in zip(ids, ids[1:])), default=0))
"""


def assert_whole(path, sessions: dict[str, int]) -> None:
    """Assert that every session has its rows, in its chain, and that the newest checkpoint covers all of them."""
    with Ledger(path, read_only=True) as ledger:
        bodies = [body for _, body in ledger.store.iter_bodies()]
        rows = [decode(body, strict=True) for body in bodies]
        assert Counter(row.session_id for row in rows) == sessions
        assert [row.id for row in rows] == list(range(1, len(rows) + 1))
        heads: dict[str, tuple[int, str]] = {}
        for row, body in zip(rows, bodies, strict=True):
            assert (row.seq - 1, row.prev) == heads.get(row.session_id, (0, GENESIS))
            heads[row.session_id] = (row.seq, link(leaf_hash(body)))
        note = list(ledger.store.iter_sealed())[-1].note
        text = note if ledger.signed_by is None else open_note(note, SIGNER.verifier.named(ledger.origin))
        assert Checkpoint.parse(text) == Checkpoint(ledger.origin, len(rows), root_of(map(leaf_hash, bodies)))


# -- processes ---------------------------------------------------------------------------------------------------------


def test_eight_processes_open_a_new_file_at_once(tmp_store) -> None:
    said_by_each = [line.split() for line in run_together(8, WRITER, tmp_store, 1)]
    assert len({origin for origin, _ in said_by_each}) == 1
    assert_whole(tmp_store, {str(number): 1 for number in range(8)})


def test_what_is_looked_at_while_another_makes_it_is_one_state(tmp_store) -> None:
    """Tables without the mark that comes with them would be a database of something else."""
    path = str(tmp_store)
    with closing(connect(path, 30.0, make=True)) as looking, closing(connect(path, 30.0, make=True)) as making:
        use_wal(making, 30.0)
        moments: list[str] = []

        def make_in_between(sql: str) -> None:
            if "user_version" in sql and not moments:
                moments.append(sql)
                migrate(making, path, "origin", None, None)

        looking.set_trace_callback(make_in_between)
        assert (check_format(looking, path), len(moments)) == (0, 1)
        assert check_format(looking, path) == len(MIGRATIONS)


def test_eight_processes_write_five_hundred_rows_each_and_none_is_passed_over(tmp_store) -> None:
    in_between = [int(line.split()[1]) for line in run_together(8, WRITER, tmp_store, 500)]
    assert_whole(tmp_store, {str(number): 500 for number in range(8)})
    # Counted in rows, not in seconds: those a busy machine takes from everybody alike.
    assert max(in_between) < MOST_ROWS_IN_BETWEEN


# -- threads -----------------------------------------------------------------------------------------------------------


def together(count: int, work) -> None:
    faults: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_eight_threads_write_and_read_one_ledger(tmp_store) -> None:
    with Ledger(tmp_store, signer=SIGNER) as ledger:

        def work(number: int) -> None:
            for done in range(20):
                say(ledger, "x", str(number))
                assert len(ledger.get_session(str(number))) == done + 1
                assert len(ledger.get_all()) >= done + 1

        together(8, work)
    assert_whole(tmp_store, {str(number): 20 for number in range(8)})


def test_closing_in_one_thread_while_others_write_and_read(tmp_store) -> None:
    with Ledger(tmp_store) as ledger:

        def work(number: int) -> None:
            for _ in range(20):
                if number == 0:
                    ledger.close()
                else:
                    say(ledger, "x", str(number))
                    assert ledger.get_session(str(number))

        together(4, work)
    assert_whole(tmp_store, {str(number): 20 for number in range(1, 4)})


def test_eight_ledgers_of_one_process_on_one_file(tmp_store) -> None:
    def work(number: int) -> None:
        with Ledger(tmp_store) as ledger:
            for _ in range(10):
                say(ledger, "x", str(number))

    together(8, work)
    assert_whole(tmp_store, {str(number): 10 for number in range(8)})


def test_a_reader_does_not_wait_for_a_writer(tmp_store) -> None:
    with Ledger(tmp_store) as ledger:
        say(ledger)
        assert len(ledger.get_all()) == 1
        seen: list[int] = []
        with ledger.store.writing():
            thread = threading.Thread(target=lambda: seen.append(len(ledger.get_all())))
            thread.start()
            thread.join(20)
            assert seen == [1]


# -- forks -------------------------------------------------------------------------------------------------------------

FORKS = """
import os, sys, threading, warnings
from donewhen.ledger import Ledger
warnings.simplefilter("ignore", DeprecationWarning)
ledger = Ledger(sys.argv[1])
write = lambda what: ledger.write(what, 1, "x", "x", 1, 1, True)
stop = threading.Event()
counts = [0, 0]
def work(number):
    while not stop.is_set():
        write(f"thread {number}")
        ledger.get_session("thread 0")
        counts[number] += 1
threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
for thread in threads:
    thread.start()
children = []
for number in range(6):
    child = os.fork()
    if child == 0:
        for _ in range(5):
            write(f"child {number}")
        assert len(ledger.get_session(f"child {number}")) == 5
        ledger.close()
        os._exit(0)
    children.append(child)
    write("parent")
codes = [os.waitpid(child, 0)[1] for child in children]
stop.set()
for thread in threads:
    thread.join()
ledger.close()
print(codes, *counts)
"""


def test_a_process_with_writing_threads_forks_again_and_again(tmp_store) -> None:
    codes, counts = run(FORKS, tmp_store).rsplit("] ", 1)
    first, second = map(int, counts.split())
    assert codes == "[0, 0, 0, 0, 0, 0"
    children = {f"child {number}": 5 for number in range(6)}
    wanted = {"thread 0": first, "thread 1": second, "parent": 6, **children}
    assert_whole(tmp_store, {session: count for session, count in wanted.items() if count})


# -- killed ------------------------------------------------------------------------------------------------------------

SPEAKER = """
import os, signal, sys
from donewhen.ledger import Ledger
from stores.kit import SIGNER
ledger = Ledger(sys.argv[1], signer=SIGNER)
at, number = sys.argv[2], int(sys.argv[3])
def trace(sql):
    if sql.startswith(at):
        os.kill(os.getpid(), signal.SIGKILL)
for count in range(number, number + 1000):
    if at and count == number + 3:
        ledger.store._connections.writer.set_trace_callback(trace)
    print(ledger.write("s", count, str(count), "x", 1, 1, True), flush=True)
    if at == "after" and count == number + 3:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("at", ["BEGIN", "INSERT INTO entries", "INSERT INTO sealed", "COMMIT", "after"])
def test_a_writer_killed_at_a_chosen_point_leaves_all_or_nothing(tmp_store, at) -> None:
    with start(SPEAKER, tmp_store, at, 0) as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (-signal.SIGKILL, "")
    acknowledged = out.split()
    assert acknowledged == ["1", "2", "3", "4"][: 4 if at == "after" else 3]
    assert said(tmp_store) == [str(number) for number in range(len(acknowledged))]
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        assert say(ledger) == len(acknowledged) + 1
    assert_whole(tmp_store, {"s": len(acknowledged) + 1})


def test_a_writer_killed_at_any_moment_loses_no_row_that_was_acknowledged(tmp_store) -> None:
    moments, total = random.Random(7), 0
    for _ in range(6):
        with start(SPEAKER, tmp_store, "", total) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(moments.randint(1, 40))]
            process.kill()
            acknowledged = [int(line) for line in [*lines, *process.stdout]]
        assert acknowledged == list(range(total + 1, total + 1 + len(acknowledged)))
        stored = said(tmp_store)
        # The row that was being written when it died may be there, but nothing beyond it.
        assert len(stored) - total - len(acknowledged) in (0, 1)
        assert stored == [str(number) for number in range(len(stored))]
        total = len(stored)
    assert_whole(tmp_store, {"s": total})
