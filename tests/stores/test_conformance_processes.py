"""What every store must do for processes and threads that share it, and for processes that fork.

No test here asks which store it has.
"""

from __future__ import annotations

import random
import threading

from stores.kit import SIGNER, SPEAKER, WRITER, assert_whole, run, run_together, said, say, start

from donewhen.ledger import Ledger

# -- processes ---------------------------------------------------------------------------------------------------------


def test_eight_processes_open_a_new_ledger_at_once(place) -> None:
    said_by_each = [line.split() for line in run_together(8, WRITER, place, 1)]
    assert len({origin for origin, _ in said_by_each}) == 1
    assert_whole(place, {str(number): 1 for number in range(8)})


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


def test_eight_threads_write_and_read_one_ledger(place) -> None:
    with Ledger(place, signer=SIGNER) as ledger:

        def work(number: int) -> None:
            for done in range(20):
                say(ledger, "x", str(number))
                assert len(ledger.get_session(str(number))) == done + 1
                assert len(ledger.get_all()) >= done + 1

        together(8, work)
    assert_whole(place, {str(number): 20 for number in range(8)})


def test_closing_in_one_thread_while_others_write_and_read(place) -> None:
    with Ledger(place) as ledger:

        def work(number: int) -> None:
            for _ in range(20):
                if number == 0:
                    ledger.close()
                else:
                    say(ledger, "x", str(number))
                    assert ledger.get_session(str(number))

        together(4, work)
    assert_whole(place, {str(number): 20 for number in range(1, 4)})


def test_eight_ledgers_of_one_process_on_one_file(place) -> None:
    def work(number: int) -> None:
        with Ledger(place) as ledger:
            for _ in range(10):
                say(ledger, "x", str(number))

    together(8, work)
    assert_whole(place, {str(number): 10 for number in range(8)})


def test_a_reader_does_not_wait_for_a_writer(place) -> None:
    with Ledger(place) as ledger:
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


def test_a_process_with_writing_threads_forks_again_and_again(place) -> None:
    codes, counts = run(FORKS, place).rsplit("] ", 1)
    first, second = map(int, counts.split())
    assert codes == "[0, 0, 0, 0, 0, 0"
    children = {f"child {number}": 5 for number in range(6)}
    wanted = {"thread 0": first, "thread 1": second, "parent": 6, **children}
    assert_whole(place, {session: count for session, count in wanted.items() if count})


FORK = """
import os, sys, threading
from donewhen.ledger import Ledger
ledger = Ledger(sys.argv[1])
write = lambda what: ledger.write("s", 1, what, "x", 1, 1, True)
write("parent")
reading = ledger.iter_rows()
next(reading)
(child_wrote, tell_parent), (parent_closed, tell_child) = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    write("child")
    os.write(tell_parent, b"x")
    os.read(parent_closed, 1)
    write("child")
    ledger.close()
    os._exit(0)
os.read(child_wrote, 1)
write("parent")
ledger.close()
os.write(tell_child, b"x")
assert os.waitpid(child, 0)[1] == 0
print(*[row.state_origin for row in ledger.get_all()], len(list(reading)))
"""


def test_a_row_of_a_child_outlives_the_closing_of_its_parents_connection(place) -> None:
    assert run(FORK, place) == "parent child parent child 0\n"


UNTOLD = """
import os, sys
from donewhen.errors import LedgerError
from donewhen.ledger import Ledger
from donewhen.stores import forks
from stores.kit import an_entry
ledger = Ledger(sys.argv[1])
write = lambda what: ledger.write("s", 1, what, "x", 1, 1, True)
ended = lambda child: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
write("parent")
# A fork in a transaction: parent and child both come to its end, and only the parent may end it.
try:
    with ledger.store.writing() as tx:
        child = os.fork()
        tx.append(an_entry("s", state_origin="in a transaction"), ())
except LedgerError as error:
    assert child == 0 and "forked" in str(error), (child, error)
    try:
        ledger.get_all()
    except LedgerError as error:
        os._exit(5 if "Fork it outside" in str(error) and not error.stored else 4)
    os._exit(5)  # a store that connects anew can be read there
codes = [ended(child)]
# A fork that nobody tells us of.
forks._open.clear()
child = os.fork()
if child == 0:
    write("untold child")
    os._exit(6)
codes.append(ended(child))
write("parent")
print(codes, [row.state_origin for row in ledger.get_all()])
ledger.close()
"""


def test_a_fork_in_a_transaction_and_one_that_nobody_tells_of(place) -> None:
    assert run(UNTOLD, place) == "[5, 6] ['parent', 'in a transaction', 'untold child', 'parent']\n"


# -- killed -------------------------------------------------------------------------------------------------------------


def test_a_writer_killed_at_any_moment_loses_no_row_that_was_acknowledged(place) -> None:
    moments, total = random.Random(7), 0
    for _ in range(6):
        with start(SPEAKER, place, "", total) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(moments.randint(1, 40))]
            process.kill()
            acknowledged = [int(line) for line in [*lines, *process.stdout]]
        assert acknowledged == list(range(total + 1, total + 1 + len(acknowledged)))
        with Ledger(place, signer=SIGNER) as ledger, ledger.store.writing():
            pass  # what it had under way has come to its end, wherever that is
        stored = said(place)
        # The row that was being written when it died may be there, but nothing beyond it.
        assert len(stored) - total - len(acknowledged) in (0, 1)
        assert stored == [str(number) for number in range(len(stored))]
        total = len(stored)
    assert_whole(place, {"s": total})
