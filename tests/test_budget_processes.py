"""One budget, many processes, some of them killed: what the provider served never passes it, and nothing is refused in vain."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from processes import ending
from stores.kit import STORES, postgres_url, run_together, start

from donewhen.ledger import Ledger
from donewhen.verify import verify_ledger

BUDGET = 20_000
LEAST_CALL = len("x") + 32 + 16
"""What a call of these tests needs at least: its text, its overhead, and the least useful answer."""

WORKER = """
import os, signal, sys
from types import SimpleNamespace
from donewhen.bounds import Request
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import read_reply
from donewhen.errors import CircuitBreakerError
from donewhen.ledger import Ledger
from donewhen.opening import open_session
from donewhen.spec_writer import SpecResult

path, served, deadly, number = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
book = os.open(served, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
steps = 0

def maybe_die():
    global steps
    steps += 1
    if steps == deadly:
        os.kill(os.getpid(), signal.SIGKILL)

print("ready", flush=True)
sys.stdin.readline()
ledger = Ledger(path)
breaker = CircuitBreaker(10**6, 10**9, output_fn=lambda _: None)
session = open_session(SpecResult("a", "b", "c", f"s{number}-{os.getpid()}"), breaker, ledger, budget="acme/support")
request = Request.of(model="m", messages=[{"role": "user", "content": "x"}], max_tokens=200)
try:
    while True:
        permit = session.admit(request)
        maybe_die()
        used = permit.reserved.tokens  # a provider that uses all that it may
        os.write(book, f"{used}\\n".encode())
        maybe_die()
        usage = SimpleNamespace(input_tokens=1, output_tokens=used - 1)
        session.settle(permit, read_reply(SimpleNamespace(content=[], stop_reason="end_turn", usage=usage)))
        maybe_die()
except CircuitBreakerError as refused:
    print(refused.reason)
"""


@pytest.fixture(params=sorted(STORES))
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a ledger is that has a budget and one below it, which sets no ceiling of its own."""
    place = tmp_path / "ledger.db"
    path = postgres_url(place) if request.param == "postgres" else str(place)
    with Ledger(path) as ledger:
        ledger.new_budget("acme", tokens=BUDGET, who="ann")
        ledger.new_budget("acme/support", who="ann")
    return path


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """Where the provider writes what it served."""
    return tmp_path / "served"


def served_in_all(served: Path) -> int:
    return sum(map(int, served.read_text().split()))


def test_sixteen_processes_use_a_budget_up_and_never_pass_it(path: str, served: Path) -> None:
    said = run_together(16, WORKER, path, served, 0)
    assert [out.split() for out in said] == [["budget:acme:token_ceiling"]] * 16
    with Ledger(path) as ledger:
        balance = ledger.find_budget("acme")
        assert (balance.spent.tokens, balance.reserved.tokens) == (served_in_all(served), 0)
    assert BUDGET - LEAST_CALL < served_in_all(served) <= BUDGET
    assert verify_ledger(path, None).warnings == ()


def test_processes_that_are_killed_leave_no_spend_uncounted(path: str, served: Path) -> None:
    deaths = 0
    for step in range(1, 10):  # after admit, after the call, after settle; and again, later
        with start(WORKER, path, served, step, step) as process, ending(process):
            process.communicate("go\n")
        deaths += process.returncode == -9
    assert deaths == 9
    assert run_together(2, WORKER, path, served, 0) == ["budget:acme:token_ceiling\n"] * 2
    with Ledger(path) as ledger:
        balance = ledger.find_budget("acme")
    doubtful = balance.reserved.tokens
    assert balance.spent.tokens <= served_in_all(served) <= balance.used_tokens <= BUDGET
    assert doubtful > 0
    assert BUDGET - balance.used_tokens < LEAST_CALL
    verify_ledger(path, None)


DEATHS = 150
ENOUGH = 100_000
"""Tokens: more than so many processes use before they are killed."""

MASSACRE = """
import os, random, signal, sys, time
from types import SimpleNamespace
from donewhen.bounds import Request
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import read_reply
from donewhen.errors import CircuitBreakerError
from donewhen.ledger import Ledger
from donewhen.opening import open_session
from donewhen.spec_writer import SpecResult

path, served, wanted, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
book = os.open(served, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
chance = random.Random(seed)

def work():
    ledger = Ledger(path)
    session = open_session(
        SpecResult("a", "b", "c", f"s-{os.getpid()}"),
        CircuitBreaker(10**6, 10**9, output_fn=lambda _: None),
        ledger,
        budget="acme/support",
    )
    request = Request.of(model="m", messages=[{"role": "user", "content": "x"}], max_tokens=16)
    while True:
        permit = session.admit(request)
        os.write(book, f"{permit.reserved.tokens}\\n".encode())
        usage = SimpleNamespace(input_tokens=1, output_tokens=permit.reserved.tokens - 1)
        session.settle(permit, read_reply(SimpleNamespace(content=[], stop_reason="end_turn", usage=usage)))

def begin():
    child = os.fork()
    if child:
        return child
    try:
        work()
    except CircuitBreakerError:
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
    os._exit(1)

living, deaths = {begin() for _ in range(8)}, 0
while deaths < wanted:
    signal.sigtimedwait([], chance.uniform(0, 0.03))  # wherever they are by then
    child = chance.choice(sorted(living))
    os.kill(child, signal.SIGKILL)
    living.remove(child)
    deaths += os.waitpid(child, 0)[1] == signal.SIGKILL
    living.add(begin())
print(deaths, {os.waitpid(child, 0)[1] for child in living})
"""


@pytest.mark.skipif(not hasattr(signal, "sigtimedwait"), reason="no fork, or no such wait, there")
def test_a_hundred_and_fifty_processes_that_are_killed_anywhere_pass_no_budget(path: str, served: Path) -> None:
    with Ledger(path) as ledger:
        ledger.change_budget("acme", {"tokens": ENOUGH}, why="more to do", who="ann")
    with start(MASSACRE, path, served, DEATHS, 7) as process:
        said, fault = process.communicate()
    assert (said, fault) == (f"{DEATHS} {{0}}\n", "")
    with Ledger(path) as ledger:
        balance = ledger.find_budget("acme")
    assert balance.spent.tokens <= served_in_all(served) <= balance.used_tokens <= ENOUGH
    assert ENOUGH - balance.used_tokens < LEAST_CALL
    verify_ledger(path, None)
