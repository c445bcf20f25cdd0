"""`donewhen watch`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import donewhen, run_for_json, run_offline, write_spec

from donewhen.circuit_breaker import CircuitBreaker
from donewhen.cli.watch import Look, _picture, follow
from donewhen.drafts import end_draft
from donewhen.ledger import Ledger
from donewhen.opening import open_session
from donewhen.spec_writer import SpecResult


def test_on_no_terminal_rows_are_lines(spec_file: Path) -> None:
    run_offline(spec_file)
    result = donewhen("watch")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split()[1:4] == ["turn", "1", "llm"]
    assert result.stderr.endswith(": done\n")


def test_left_out_it_is_the_session_that_wrote_last(tmp_path: Path) -> None:
    first = run_for_json(write_spec(tmp_path / "s.toml"))["session_id"]
    second = run_for_json(write_spec(tmp_path / "s.toml"))["session_id"]
    assert second in donewhen("watch").stderr
    assert first in donewhen("watch", first).stderr


def test_json_is_a_line_for_each_row(spec_file: Path) -> None:
    run_offline(spec_file)
    kinds = [json.loads(line)["kind"] for line in donewhen("watch", "--json").stdout.splitlines()]
    assert kinds == ["spec", "policy", "open", "reserve", "llm", "close"]


def test_an_empty_ledger_has_nothing_to_watch() -> None:
    Ledger("empty.db").close()
    assert donewhen("watch", "--store", "empty.db").exit_code == 0


def test_a_session_that_runs_is_followed_until_it_ends(tmp_store: Path) -> None:
    looks: list[Look] = []
    with Ledger(tmp_store) as ledger:
        session = open_session(SpecResult("a", "b", "c", "s"), CircuitBreaker(), ledger)

        def end_it(_seconds: float) -> None:
            session.note(end_draft("s", "done", "enough", "text"))

        looks.extend(follow(ledger, "s", end_it))
    assert [(look.overview.state, [row.kind for row in look.new]) for look in looks] == [
        ("running", ["spec", "policy", "open"]),
        ("done", ["close"]),
    ]


@pytest.mark.parametrize("share", [0, 1, 4, 5])
def test_the_picture_shows_a_bar_for_each_ceiling_and_the_rows(tmp_store: Path, share: int) -> None:
    from rich.console import Console

    with Ledger(tmp_store) as ledger:
        breaker = CircuitBreaker(
            5, cost_limit_microusd=10, seconds_limit=60, tool_call_limit=3, output_fn=lambda _: None
        )
        open_session(SpecResult("a", "b", "c", "s"), breaker, ledger)
        for turn in range(share):
            ledger.write("s", turn + 1, "llm", "x", 7, 1, True)
        [look] = [next(iter(follow(ledger, "s")))]
    console = Console(width=100, height=24)
    with console.capture() as captured:
        console.print(_picture(look.overview, 24))
    told = captured.get()
    assert all(name in told for name in ("turns", "tokens", "cost", "tool calls", "time"))
    assert told.count("write: llm") == share
