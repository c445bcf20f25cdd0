"""A provider that holds the ledger against what it has served, before it serves more; and crowds that call it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any

from crowd_process import the_time
from processes import finish
from stores.kit import start

from donewhen.balance import Balance
from donewhen.ledger import Ledger
from donewhen.testing import Answer, Cut, FakeProvider, ProviderRequest, one_token_per_byte
from donewhen.testing.script import Step
from donewhen.verify import verify_ledger

LEAST_CALL = len("x") + 32 + 16
"""What a call of a crowd needs at least: its text, its overhead, and the least useful answer."""

CROWD = "from crowd_process import main; main()"


class Crowds:
    """The process that forks all others; it has loaded the SDK once."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Crowds:
        self._process = self._stack.enter_context(start(CROWD))
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stack:
            if kind is None:
                finish(self._process)

    def run(self, **wanted: Any) -> tuple[list[tuple[str, str]], dict[str, int]]:
        """Run a crowd until all are refused; return budgets and reasons, and how many died doing what."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        refusals: list[tuple[str, str]] = []
        for line in self._process.stdout or ():
            word, rest = line.rstrip().split(" ", 1)
            if word == "died":
                return refusals, json.loads(rest)
            refusals.append((word, rest))
        finish(self._process)  # it has died, and says why
        raise AssertionError("the process of the crowds went away")


class Town:
    """A ledger, and a provider beside it whose models are named as the budgets are that call them.

    Args:
        path: where the ledger is.
        clock: a file for the time, while there is one; else it is the real time.
    """

    def __init__(self, path: str, clock: Path, crowds: Crowds) -> None:
        self.path, self.clock, self.crowds = path, clock, crowds
        self.ledger = Ledger(path, now=self.now)
        self.provider = FakeProvider(self._answer, count=one_token_per_byte)
        self.before_each: Callable[[ProviderRequest], None] = lambda _request: None
        """What happens when a request has come, before it is answered."""
        self.cuts_every = 0
        self.is_held = True
        """Whether no ceiling may ever be passed; False where one is lowered below what is spent."""
        self.since = 0
        """The last request of the period before."""
        self.one_by_one = threading.Lock()
        """Who begins a period has it: else what was served in the one before would be held against the balance of this."""
        self._crowds = 0

    def __enter__(self) -> Town:
        self.provider.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.provider.__exit__(kind, error, trace)
        finally:
            self.ledger.close()
        if error is None:
            verify_ledger(self.path, None)

    def now(self) -> datetime:
        return the_time(self.clock)

    def set_clock(self, now: datetime) -> None:
        written = self.clock.with_suffix(".new")
        written.write_text(now.isoformat())
        os.replace(written, self.clock)  # nobody reads half a time

    # -- what the provider does ----------------------------------------------------------------------------------------

    def _answer(self, request: ProviderRequest) -> Step:
        self.before_each(request)
        for level in levels(request.body["model"]):
            with self.one_by_one:
                served = self.served(level)
                balance = self.balance(level)
            # What it could use by now is on disk, on every level: had it not been, it would not have come.
            assert served + request.input_tokens + (request.max_tokens or 0) <= balance.used_tokens
            assert self.is_held is False or is_within(balance)
        answer = Answer("b" * (97 * request.number % 800 + 1))
        if self.cuts_every and request.number % self.cuts_every == 0:
            return Cut(answer)
        return answer

    # -- what was counted ----------------------------------------------------------------------------------------------

    def served_in_all(self) -> int:
        """Return the tokens that the provider itself has billed, ever."""
        return self.provider.served.total

    def served(self, budget: str = "") -> int:
        """Return the tokens that the provider itself has billed in this period, of a budget and of all below it."""
        billed = self.provider.billed
        return sum(
            billed[request.number].total
            for request in self.provider.requests[self.since :]
            if request.number in billed and f"{request.body['model']}/".startswith(f"{budget}/" if budget else "")
        )

    def balance(self, budget: str) -> Balance:
        balance = self.ledger.find_budget(budget)
        assert balance is not None
        return balance

    def assert_held(self, budget: str) -> None:
        """Assert that no more was served than is charged, nor charged than is allowed."""
        balance = self.balance(budget)
        assert self.served(budget) <= balance.used_tokens
        assert is_within(balance)

    def assert_used_up(self, budget: str) -> None:
        """Assert that what was not served is less than one call and what is in doubt: nobody was refused in vain."""
        self.assert_held(budget)
        balance = self.balance(budget)
        ceiling = balance.ceilings.tokens or 0
        assert balance.spent.tokens <= self.served(budget)
        assert ceiling - balance.used_tokens < LEAST_CALL
        assert ceiling - self.served(budget) < LEAST_CALL + balance.reserved.tokens

    # -- crowds --------------------------------------------------------------------------------------------------------

    def crowd(
        self, *budgets: str, most_tokens: int = 120, deaths: int = 0, raised: str = "", step: int = 0
    ) -> tuple[list[tuple[str, str]], dict[str, int]]:
        """Run a process under each budget until it is refused; return the refusals, and how many died doing what.

        Args:
            most_tokens: the longest answer that they ask for.
            deaths: how many of them are killed, and replaced.
            raised: the budget that is raised when it is used up before all these deaths were died, by `step` tokens.
        """
        self._crowds += 1
        return self.crowds.run(
            path=self.path,
            url=self.provider.url,
            clock=str(self.clock),
            name=f"crowd-{self._crowds}",
            budgets=budgets,
            most_tokens=most_tokens,
            deaths=deaths,
            raised=raised,
            step=step,
            seed=7,
        )


def levels(budget: str) -> list[str]:
    """Return a budget and those above it, outermost first."""
    return list(accumulate(budget.split("/"), "{}/{}".format))


def is_within(balance: Balance) -> bool:
    """Tell whether what is spent and reserved is within each ceiling."""
    ceilings, cost = balance.ceilings, (balance.spent + balance.reserved).cost_microusd
    pairs = [
        (balance.used_turns, ceilings.turns),
        (balance.used_tokens, ceilings.tokens),
        (cost or 0, ceilings.cost_microusd),
    ]
    return all(most is None or used <= most for used, most in pairs)
