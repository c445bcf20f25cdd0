"""Processes that call a provider through the official SDK until a budget refuses them, all forked from this one.

    python -c "from crowd_process import main; main()"    # and, on stdin, a line of JSON for each crowd

Each is a session of its own under one of the budgets, and its client is guarded. It prints one line when it is refused:
its budget and the reason. Where deaths are asked for, processes are killed while they admit, call and settle, until
there were so many; each is replaced, one that is refused too, after its budget was raised. A last line says that all have
ended, and how many died doing what.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import anthropic

from donewhen.circuit_breaker import CircuitBreaker
from donewhen.errors import CircuitBreakerError
from donewhen.guarded import guard
from donewhen.ledger import Ledger, utc_now
from donewhen.opening import open_session
from donewhen.session import Session
from donewhen.spec_writer import SpecResult
from donewhen.testing import Answer, FakeProvider
from donewhen.usage import Price, Rates

PHASES = ("open", "admit", "call", "settle")
RATES = Rates(input=1_000_000, output=1_000_000, cache_read=1_000_000, cache_write=1_000_000)


class Crowd:
    """What all processes know."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.client = anthropic.Anthropic(base_url=wanted["url"], api_key="any", max_retries=0, timeout=60.0)
        self.path: str = wanted["path"]
        self.name: str = wanted["name"]
        self.budgets: list[str] = wanted["budgets"]
        self.most_tokens: int = wanted["most_tokens"]
        self.deaths: int = wanted["deaths"]
        self.raised: str = wanted["raised"]
        self.step: int = wanted["step"]
        self.chance = random.Random(wanted["seed"])
        self.clock = Path(wanted["clock"])
        self.phases = mmap.mmap(-1, len(self.budgets))
        """Shared: what the process at each place is doing."""
        self.parent = os.getpid()
        self.begun = 0

    def now(self) -> datetime:
        """Return the time, which the test sets by a file."""
        return the_time(self.clock)

    # -- one process -----------------------------------------------------------------------------------------------

    def begin(self, place: int) -> int:
        """Fork a process for a place, and return its id."""
        self.begun += 1
        self.phases[place] = PHASES.index("open")
        child = os.fork()
        if child:
            return child
        try:
            self._work(place)
        except CircuitBreakerError as refused:
            os.write(1, f"{self.budgets[place]} {refused.reason}\n".encode())
            os._exit(0)
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        os._exit(1)

    def _work(self, place: int) -> None:
        budget, chance = self.budgets[place], random.Random(self.begun)
        self._mark_phases(place)
        with Ledger(self.path, now=self.now) as ledger:
            breaker = CircuitBreaker(10**6, 10**9, output_fn=lambda _notice: None)
            spec = SpecResult("a", "b", "c", f"{self.name}-{self.begun}")
            session = open_session(spec, breaker, ledger, budget=budget, find_price=price)
            client = guard(self.client, session)
            while os.getppid() == self.parent:  # nobody goes on alone where the others were ended
                try:
                    call(client, budget, "x" * chance.randint(1, 40), chance.randint(16, self.most_tokens))
                except CircuitBreakerError:
                    call(client, budget, "x", 16)  # there may be room for a smaller one; if not, it is refused

    def _mark_phases(self, place: int) -> None:
        def marking(phase: str, do: Callable[..., Any], then: str) -> Callable[..., Any]:
            def marked(*args: Any, **options: Any) -> Any:
                self.phases[place] = PHASES.index(phase)
                done = do(*args, **options)
                self.phases[place] = PHASES.index(then)
                return done

            return marked

        Session.admit = marking("admit", Session.admit, "call")
        Session.settle = marking("settle", Session.settle, "admit")

    # -- all of them -----------------------------------------------------------------------------------------------

    def run(self) -> Counter[str]:
        """Run all until each is refused; return in which phases processes were killed."""
        living = {place: self.begin(place) for place in range(len(self.budgets))}
        died = self._kill_some(living)
        codes = {os.waitpid(child, 0)[1] for child in living.values()}
        if codes != {0}:
            raise RuntimeError(f"processes ended with {codes}")
        return died

    def _kill_some(self, living: dict[int, int]) -> Counter[str]:
        died = Counter[str]()
        while died.total() < self.deaths:
            place = self._somebody_in(PHASES[1 + died.total() % 3])
            os.kill(living[place], signal.SIGKILL)
            code = os.waitpid(living[place], 0)[1]
            phase = PHASES[self.phases[place]]
            if code == 0:
                self._raise()
            elif code == signal.SIGKILL:
                died[phase] += 1
            else:
                raise RuntimeError(f"a process ended with {code}")
            living[place] = self.begin(place)
        return died

    def _somebody_in(self, phase: str) -> int:
        """Return the place of a process that does this now, or, where none will any more, of any."""
        places = list(range(len(self.budgets)))
        for _ in range(200):
            self.chance.shuffle(places)
            for place in places:
                if PHASES[self.phases[place]] == phase:
                    return place
            signal.sigtimedwait([], self.chance.uniform(0, 0.002))  # wherever they are by then
        return places[0]

    def _raise(self) -> None:
        with Ledger(self.path, now=self.now) as ledger:
            balance = ledger.find_budget(self.raised)
            assert balance is not None
            ledger.change_budget(self.raised, {"tokens": balance.used_tokens + self.step}, why="go on", who="ann")


def the_time(clock: Path) -> datetime:
    """Return what a file says that the time is, in UTC; where there is none, the real time."""
    try:
        return datetime.fromisoformat(clock.read_text()).astimezone(timezone.utc)
    except FileNotFoundError:
        return utc_now()


def price(model: str) -> Price:
    """Return what the provider of these tests costs: a millionth of a dollar for a token of any kind."""
    return Price(model=model, tiers=((0, RATES),), source="these tests", as_of="2026-01-01")


def call(client: anthropic.Anthropic, model: str, text: str, most_tokens: int) -> None:
    """Make one call; whether one whose connection was cut has been billed nobody here knows."""
    messages: list[Any] = [{"role": "user", "content": text}]
    with suppress(anthropic.APIConnectionError):
        client.messages.create(model=model, max_tokens=most_tokens, messages=messages)


def warm_up() -> None:
    """Load what is loaded and built with the first use, so that not each process does it again."""
    import psycopg

    assert psycopg.paramstyle
    with FakeProvider(lambda _request: Answer("warm")) as provider:
        call(anthropic.Anthropic(base_url=provider.url, api_key="any"), "m", "x", 16)


def main() -> None:
    """Run a crowd for each line."""
    warm_up()
    for line in sys.stdin:
        died = Crowd(json.loads(line)).run()
        os.write(1, f"died {json.dumps(died)}\n".encode())
