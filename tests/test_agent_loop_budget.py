"""A loop under a budget: which one it is, the arguments and the terms of its spec must agree on."""

from __future__ import annotations

from pathlib import Path

import pytest

from donewhen import AgentLoop, CircuitBreaker, Ledger, SpecError, SpecResult
from donewhen.testing import ScriptedClient, make_reply

SPEC = SpecResult("says hello", "do anything else", "a greeting", "session-1")


def test_another_budget_than_that_of_the_terms_is_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        client = ScriptedClient(make_reply("hello"))
        with pytest.raises(SpecError, match="the terms say 'acme/support'") as refused:
            AgentLoop(SPEC, CircuitBreaker(), ledger, client, budget="acme", terms={"budget": "acme/support"})
    assert (refused.value.field, refused.value.value) == ("budget", "acme")


def test_what_a_loop_spends_is_spent_of_its_budget(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.new_budget("acme", tokens=5000, who="ann")
        result = AgentLoop(SPEC, CircuitBreaker(), ledger, ScriptedClient(make_reply("hello")), budget="acme").run("hi")
        balance = ledger.find_budget("acme")
    assert result.success
    assert balance is not None
    assert balance.spent.tokens == result.total_tokens
