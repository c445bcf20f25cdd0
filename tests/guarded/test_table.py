"""Whatever happens to a call, and by whichever door it goes: the ledger has what the provider served, to the token.

Each way (SDK, endpoint, blocking or asynchronous) and each door has one session in which everything happens in turn. The
provider's own count of each request is the judge.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import anthropic
import httpx2
import openai
import pytest
from guarded.kit import DOORS, STREAMS, WAYS, Desk, a_desk

from donewhen.testing import Answer, Cut, Fault, Hang, ProviderRequest
from donewhen.testing.script import Step
from donewhen.usage import Usage
from donewhen.verify import verify_ledger

LONG = Answer("a long reply " * 20)
ENDS_BADLY = (anthropic.APIError, openai.APIError, httpx2.TransportError)


@dataclass(frozen=True)
class Case:
    """What the provider does with a request and those after it, and what comes of that."""

    name: str
    steps: tuple[Step, ...]
    says: str | None
    """What the caller reads; None: an error."""
    doubts: int = 0
    """How many attempts stay charged in full."""


CASES = (
    Case("plain", (Answer("hello there"),), "hello there"),
    Case("a tool call", (Answer("look", tool_calls=[("look", {"x": 1})]),), "look"),
    Case("several tool calls", (Answer("two", tool_calls=[("look", {"x": 1}), ("look", {"x": "ü"})]),), "two"),
    Case("thinking", (Answer("so", thinking="a long thought " * 5),), "so"),
    Case("thinking and a tool call", (Answer("so", thinking="hm", tool_calls=[("look", {})]),), "so"),
    Case("cached", (Answer("again", cache_read_tokens=9, cache_write_tokens=4, input_tokens=3),), "again"),
    Case("cut off by its limit", (Answer("x" * 4_000),), "x" * 400),
    Case("a storm of 429", (Fault(429, headers={"retry-after": "7"}), Fault(429), Answer("at last")), "at last"),
    Case("a storm of 529", (Fault(529), Fault(529), Answer("at last")), "at last"),
    Case("a storm of 429 without an end", (Fault(429),) * 3, None),
    Case("a storm of 529 without an end", (Fault(529),) * 3, None),
    Case("refused", (Fault(400),), None),
    Case("lost before its headers", (Cut(LONG, after_bytes=None), Answer("on")), "on", 1),
)
IN_ONE_PIECE = (
    Case("a failure that was billed", (Fault(500, after=LONG), Answer("on")), "on", 1),
    Case("lost after its headers", (Cut(LONG), Answer("on")), "on", 1),
    Case("lost in its middle", (Cut(LONG, after_bytes=90), Answer("on")), "on", 1),
    Case("lost each time", (Cut(LONG, after_bytes=90),) * 3, None, 3),
)
IN_A_STREAM = (
    Case("cut before its first event", (Cut(LONG),), None, 1),
    Case("cut in its middle", (Cut(LONG, after_bytes=300),), None, 1),
)


class Till:
    """A desk whose provider says what it billed for each request."""

    def __init__(self, way: str, door: str) -> None:
        self.way, self.door = way, door
        self.steps: deque[Step] = deque()
        self.served_before: list[Usage] = []
        self.desk: Desk

    def answer(self, _request: ProviderRequest) -> Step:
        self.served_before.append(self.desk.provider.served)
        return self.steps.popleft()

    def bills(self) -> list[int]:
        """Return the tokens billed for each request so far."""
        totals = [served.total for served in (*self.served_before, self.desk.provider.served)]
        return [later - earlier for earlier, later in pairwise(totals)]

    def call(self, case: Case) -> str | None:
        """Let it happen, and return what the caller reads."""
        self.steps.extend(case.steps)
        try:
            return self.desk.through(self.door)
        except openai.LengthFinishReasonError as error:  # the SDK's parse makes nothing of what was cut off
            return self.desk.text_of(error.completion)
        except ENDS_BADLY:
            return None

    def assert_agrees(self, name: str, begun: int, *, settled: bool, doubts: int) -> None:
        """Assert that of the requests since the first `begun`, the last is settled or not, and so many are in doubt."""
        assert not self.steps, name
        desk, bills = self.desk, self.bills()
        reserves = {row.seq: row for row in desk.rows("reserve")}
        attempts = list(reserves)
        assert len(attempts) == len(bills) == len(desk.provider.requests), name
        replies = {row.closes: row.data["usage"] for row in desk.rows("llm")}
        doubted = [row.doubts for row in desk.rows("abandoned")]
        assert [seq in replies for seq in attempts[begun:]] == [False] * (len(attempts) - begun - 1) + [settled], name
        assert len([seq for seq in doubted if seq in attempts[begun:]]) == doubts, name
        for seq, billed in zip(attempts, bills, strict=True):
            if seq in replies:
                assert sum(replies[seq].values()) == billed, name
            else:
                held = reserves[seq].data["reserve"][1] if seq in doubted else 0
                assert held >= billed, name
        spent, reserved = desk.balance.spent.tokens, desk.balance.reserved.tokens
        assert spent == sum(bill for seq, bill in zip(attempts, bills, strict=True) if seq in replies), name
        assert reserved == sum(reserves[seq].data["reserve"][1] for seq in doubted), name


@pytest.fixture
def till(request: pytest.FixtureRequest, tmp_store: Path) -> Iterator[Till]:
    found = Till(*request.param)
    with a_desk(found.way, tmp_store, found.answer) as found.desk:
        yield found
    assert verify_ledger(tmp_store, None).rows > 0


ALL = [(way, door) for way in WAYS for door in DOORS]
CANCELLED = [
    (each, events) for each in ALL for events in (0, 2) if "async" in each[0] and (not events or each[1] in STREAMS)
]
"""While nothing has come, or after so many events of a stream."""


@pytest.mark.parametrize("till", ALL, indirect=True)
def test_the_ledger_says_what_the_provider_served(till: Till) -> None:
    for case in (*CASES, *(IN_A_STREAM if till.door in STREAMS else IN_ONE_PIECE)):
        begun, doubted = len(till.desk.provider.requests), len(till.desk.rows("abandoned"))
        told = till.call(case)
        assert told == case.says, case.name
        till.assert_agrees(case.name, begun, settled=case.says is not None, doubts=case.doubts)
        if not doubted + case.doubts:
            till.desk.assert_books_agree()


@pytest.mark.parametrize(("till", "after_events"), CANCELLED, indirect=["till"])
def test_a_task_that_is_cancelled_stays_charged_and_the_next_call_is_settled(till: Till, after_events: int) -> None:
    till.steps.append(Hang(answer=LONG, after_events=after_events))
    desk = till.desk

    async def main() -> None:
        task = asyncio.create_task(desk.acalled(till.door))
        await asyncio.to_thread(desk.provider.wait_for_requests, 1, timeout_seconds=20)
        if after_events:
            await asyncio.wait_for(desk.is_heard.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    desk.run(main())
    desk.session.leave()
    till.assert_agrees("cancelled", 0, settled=False, doubts=1)
    assert till.call(CASES[0]) == "hello there"
    till.assert_agrees("after it", 1, settled=True, doubts=0)
