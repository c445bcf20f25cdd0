"""`donewhen budget`: begun, shown, raised and listed."""

from __future__ import annotations

import json

import pytest
from command import donewhen

from donewhen.ledger import Ledger


@pytest.fixture
def budget(tmp_store):
    return lambda *arguments: donewhen("budget", *arguments, "--store", str(tmp_store))


def test_a_tree_is_begun_and_listed(budget) -> None:
    assert "0 / 20,000" in budget("new", "acme", "--tokens", "20000").stdout
    told = budget("new", "acme/support", "--usd", "1.5", "--per", "day", "--zone", "Europe/Berlin", "--why", "w").stdout
    assert "0 USD / 1.5 USD" in told
    assert "Europe/Berlin" in told
    lines = budget("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["budget", "acme", "acme/support"]
    found = json.loads(budget("list", "--json").stdout)
    assert found[1]["ceilings"] == {"turns": None, "tokens": None, "cost_microusd": 1_500_000}


def test_raising_and_lowering_are_rows_with_who_and_why(budget, tmp_store) -> None:
    budget("new", "acme", "--tokens", "20", "--turns", "3")
    told = budget("raise", "acme", "--tokens", "5", "--turns", "none", "--why", "enough", "--who", "ann")
    assert told.stdout == "turns: 3 -> none\ntokens: 20 -> 5\n"
    with Ledger(tmp_store, read_only=True) as ledger:
        row = ledger.newest_row("donewhen:budget:acme")
    assert row.data == {"ceilings": [None, 5, None, None, None, None], "who": "ann", "why": "enough"}
    assert json.loads(budget("show", "acme", "--json").stdout)["ceilings"]["tokens"] == 5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("show", "nobody"), "no budget nobody"),
        (("new", "a/b"), "no budget a"),
        (("new", "a//b"), "no name of a budget"),
        (("new", "b", "--per", "week"), "day, month"),
        (("new", "b", "--per", "hours:1", "--zone", "Europe/Berlin"), "leave it out"),
        (("new", "b", "--zone", "Europe/Berlin"), "nothing that begins in it"),
        (("new", "b", "--per", "day", "--zone", "Mars/Olympus"), "'Mars/Olympus' is not known here"),
        (("new", "b", "--usd", "x"), "not a number"),
        (("raise", "acme", "--why", "w"), "which ceiling"),
        (("raise", "acme", "--tokens", "1.5", "--why", "w"), "whole number"),
        (("raise", "acme", "--tokens", "1", "--why", " "), "why is blank"),
        (("raise", "nobody", "--tokens", "1", "--why", "w"), "no budget nobody"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_code_2(budget, arguments, told) -> None:
    budget("new", "acme")
    result = budget(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1
