"""What tests of an agent need: a provider on loopback, a client with a script, a store that fails, and a clock that is moved.

`FakeProvider` speaks the wires of Anthropic Messages, OpenAI Chat Completions and OpenAI Responses, so that the
official SDKs can be driven end to end. `ScriptedClient` needs no network at all. `FaultyStore` fails on order. `Witness`
cosigns checkpoints.
"""

from __future__ import annotations

from donewhen.testing.clock import FakeClock
from donewhen.testing.fake_provider import FakeProvider
from donewhen.testing.faulty import FaultyStore
from donewhen.testing.script import Answer, Cut, Fault, Hang, ProviderRequest
from donewhen.testing.scripted import AsyncScriptedClient, ScriptedClient, ScriptEndedError, make_reply
from donewhen.testing.tokens import four_bytes_per_token, one_token_per_byte
from donewhen.testing.witness import Witness

__all__ = [
    "Answer",
    "AsyncScriptedClient",
    "Cut",
    "FakeClock",
    "FakeProvider",
    "Fault",
    "FaultyStore",
    "Hang",
    "ProviderRequest",
    "ScriptEndedError",
    "ScriptedClient",
    "Witness",
    "four_bytes_per_token",
    "make_reply",
    "one_token_per_byte",
]
