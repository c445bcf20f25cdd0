"""What a governed turn costs, beside a bare loop, one and two bare durable commits, and a connection for each call.

    python benchmarks/turns.py

A turn that goes on costs one durable commit: the reply is settled and the next turn admitted together. A turn with
tools costs two, since the reply must be on disk before a tool runs. Both are signed. The client answers at once.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common import (
    arguments,
    bare_commit,
    bare_database,
    connect_per_call,
    disks,
    interleaved,
    microseconds_each,
    scratch,
    show,
)

from donewhen import AgentLoop, CircuitBreaker, Ledger, SpecResult
from donewhen.notes import LocalSigner


class InstantClient:
    """Answer at once: stop early, or ask for a tool, until the last turn."""

    def __init__(self, turns: int, *, tools: bool) -> None:
        self.turns = turns
        self.tools = tools
        self.times: list[float] = []
        self.messages = self

    def create(self, **_: Any) -> Any:
        self.times.append(time.perf_counter())
        turn = len(self.times)
        content: list[dict[str, Any]] = [{"type": "text", "text": "Thinking about it."}]
        stop = "end_turn" if turn == self.turns else "max_tokens"
        if self.tools and turn < self.turns:
            stop = "tool_use"
            content.append({"type": "tool_use", "id": f"call-{turn}", "name": "look", "input": {"number": turn}})
        usage = SimpleNamespace(input_tokens=100, output_tokens=10)
        return SimpleNamespace(content=content, stop_reason=stop, usage=usage)


def look(number: int) -> str:
    """Look at something."""
    return str(number)


LOOK = {
    "name": "look",
    "description": "Look at something.",
    "input_schema": {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
    "handler": look,
}


def governed(folder: Path, turns: int, *, tools: bool) -> Callable[[], InstantClient]:
    signer = LocalSigner.generate("donewhen/log/bench")
    numbers = iter(range(1_000_000))

    def run() -> InstantClient:
        number = next(numbers)
        spec = SpecResult("count", "nothing else", "counted", f"session-{tools}-{number}")
        client = InstantClient(turns, tools=tools)
        breaker = CircuitBreaker(turn_limit=turns + 1, token_limit=10**12)
        with Ledger(folder / f"governed-{turns}-{tools}-{number}.db", signer=signer) as ledger:
            loop = AgentLoop(spec, breaker, ledger, client, tools=[LOOK] if tools else [], bound="strict")
            assert loop.run("count").turns == turns
        return client

    return run


def per_turn(run: Callable[[], InstantClient]) -> float:
    times = run().times
    return (times[-1] - times[0]) / (len(times) - 1) * 1e6


def bare_loop(turns: int) -> float:
    client = InstantClient(turns, tools=False)
    messages: list[dict[str, Any]] = [{"role": "user", "content": "count"}]
    while True:
        reply = client.create(messages=messages)
        if reply.stop_reason == "end_turn":
            break
        messages.append({"role": "assistant", "content": reply.content})
        messages.append({"role": "user", "content": "continue"})
    return (client.times[-1] - client.times[0]) / (turns - 1) * 1e6


def bare_round(folder: Path, turns: int, *, commits: int) -> float:
    """Commit as often as so many turns do, to a new file, as each round of turns has one.

    A write-ahead log that has been filled before is written over, which is less work for a disk than making it longer.
    """
    with scratch(folder) as place, closing(bare_database(place / "bare.db")) as bare:
        return microseconds_each(lambda _: [bare_commit(bare) for _ in range(commits)], turns)


def growth(run: Callable[[], InstantClient]) -> tuple[float, float]:
    """Return microseconds a turn around turn 10, and around turn 1,000, each at its quietest of three sessions."""
    early: list[float] = []
    late: list[float] = []
    for _ in range(3):
        gaps = [after - before for before, after in itertools.pairwise(run().times)]
        early.append(sorted(gaps[4:104])[20] * 1e6)
        late.append(sorted(gaps[-100:])[20] * 1e6)
    return min(early), min(late)


def main() -> None:
    options = arguments(__doc__ or "")
    for name, place in disks(options.folder).items():
        with scratch(place) as folder:
            measure(name, folder, options)


def measure(name: str, folder: Path, options: Any) -> None:
    bare_database(folder / "each.db").close()
    plain, tools = governed(folder, options.turns, tools=False), governed(folder, options.turns, tools=True)
    medians = interleaved(
        {
            "bare loop": lambda: bare_loop(options.turns),
            "one bare commit": lambda: bare_round(folder, options.turns, commits=1),
            "two bare commits": lambda: bare_round(folder, options.turns, commits=2),
            "a connection for each call": lambda: microseconds_each(
                lambda _: connect_per_call(folder / "each.db"), options.turns
            ),
            "a turn that goes on": lambda: per_turn(plain),
            "a turn with a tool": lambda: per_turn(tools),
        },
        options.rounds,
    )
    early, late = growth(governed(folder, 1005, tools=False))
    rows = [(what, f"{value:,.0f} µs") for what, value in medians.items()]
    rows.append(
        ("a turn that goes on / one bare commit", f"{medians['a turn that goes on'] / medians['one bare commit']:.2f}")
    )
    rows.append(
        ("a turn with a tool / two bare commits", f"{medians['a turn with a tool'] / medians['two bare commits']:.2f}")
    )
    rows.append(("turn 1,000 / turn 10", f"{late:,.0f} / {early:,.0f} µs = {late / early:.2f}"))
    rows.append(("WAL bytes of a turn that goes on", f"{wal_bytes(folder):,.0f}"))
    show(f"Turns on the {name}", rows, as_json=options.json)


def wal_bytes(folder: Path, turns: int = 101) -> float:
    """Return the bytes a turn adds to the write-ahead log."""
    sizes: list[int] = []
    path = folder / "wal.db"

    class Watching(InstantClient):
        def create(self, **kwargs: Any) -> Any:
            sizes.append(Path(f"{path}-wal").stat().st_size)
            return super().create(**kwargs)

    with Ledger(path, signer=LocalSigner.generate("donewhen/log/bench")) as ledger:
        breaker = CircuitBreaker(turn_limit=turns + 1, token_limit=10**12)
        spec = SpecResult("count", "nothing else", "counted", "session-wal")
        AgentLoop(spec, breaker, ledger, Watching(turns, tools=False), bound="strict").run("count")
    return (sizes[-1] - sizes[0]) / (len(sizes) - 1)


if __name__ == "__main__":
    main()
