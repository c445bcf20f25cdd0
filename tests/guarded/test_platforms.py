"""The SDKs' clients for Bedrock, Vertex and Azure are governed as their own are: to the token, by the provider's count."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from guarded.kit import Desk, a_desk
from guarded.platforms import PLATFORMS, make, way_of

from donewhen.errors import CircuitBreakerError, NotGovernedError
from donewhen.testing import Answer, Fault

NEEDS_BOTOCORE = pytest.mark.skipif(importlib.util.find_spec("botocore") is None, reason="Bedrock frames its streams")


@pytest.fixture(params=PLATFORMS)
def desk(request: pytest.FixtureRequest, tmp_store: Path) -> Iterator[Desk]:
    with a_desk(way_of(request.param), tmp_store, make=partial(make, request.param)) as opened:
        if opened.bare.with_options()._client is not opened.bare._client:
            pytest.skip("with_options of this release goes out by a connection of its own, past this test's")
        yield opened


def test_a_call_is_settled_to_the_token_and_its_attempts_are_ours(desk: Desk) -> None:
    desk.provider.script(
        Answer("one", tool_calls=[("look", {"x": 1})], cache_read_tokens=5, thinking="hm"), Fault(429), Answer("two")
    )
    assert desk.text_of(desk.ask(tools=desk.tools)) == "one"
    assert desk.text_of(desk.ask()) == "two"
    assert len(desk.provider.requests) == 3
    assert [request.max_tokens for request in desk.provider.requests] == [100] * 3
    desk.assert_books_agree()


def test_a_breach_is_raised_and_nothing_is_sent(desk: Desk) -> None:
    with pytest.raises(CircuitBreakerError, match="token_ceiling"):
        desk.ask("a" * 2_000_000)
    assert desk.provider.requests == []
    with pytest.raises(NotGovernedError):
        _ = desk.client.post


@pytest.mark.parametrize(
    "platform",
    [pytest.param(name, marks=[NEEDS_BOTOCORE] if name.endswith("bedrock") else []) for name in PLATFORMS],
)
def test_a_stream_is_settled_to_the_token(tmp_store: Path, platform: str) -> None:
    with a_desk(way_of(platform), tmp_store, make=partial(make, platform)) as desk:
        desk.provider.script(Answer("hello there", thinking="hm", tool_calls=[("look", {})]))
        assert desk.text_in(desk.stream(tools=desk.tools)) == "hello there"
        assert len(desk.rows("llm")) == 1
        desk.assert_books_agree()
