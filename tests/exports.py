"""A session to export: one that an agent ran, with tools, texts that are kept, and a person's word."""

from __future__ import annotations

from sessions import SPEC, Desk, calls_of, seeing

from donewhen.ledger import Ledger
from donewhen.testing import make_reply

SESSION = SPEC.session_id
SECRETS = ("the secret task", "the secret answer", "the secret output")


def run_session(ledger: Ledger) -> str:
    """Run a session with one tool call, and return its id."""
    desk = Desk(ledger)
    script = (
        calls_of(("call-1", "look", {"x": 7}), model="model-1"),
        make_reply(SECRETS[2], model="model-1"),
    )
    result = desk.run(*script, task=SECRETS[0], tools=[seeing([], SECRETS[1])], model="model-1")
    assert result.success
    ledger.attest(SESSION, "ada", "0" * 64, "=HYPERLINK(notes)")
    return SESSION
