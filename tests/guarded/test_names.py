"""What is there on a guarded client: what is governed, and what cannot spend. Nothing else."""

from __future__ import annotations

from pathlib import Path

import anthropic
import openai
import pytest
from guarded.kit import Desk, a_desk
from sessions import a_session

from donewhen.errors import CallError, NotGovernedError
from donewhen.guarded import guard
from donewhen.guarded.facade import ANTHROPIC, OPENAI, Names
from donewhen.ledger import Ledger
from donewhen.testing import Answer

UNBOUNDED = {
    "messages": [
        "messages.batches",
        "beta.messages.batches",
        "beta.files",
        "beta.agents",
        "files",
        "post",
        "request",
        "with_raw_response",
    ],
    "chat": [
        "embeddings",
        "images",
        "audio",
        "batches",
        "files",
        "fine_tuning",
        "realtime",
        "beta.threads",
        "completions",
    ],
    "responses": ["responses.connect", "with_streaming_response", "vector_stores", "conversations", "videos"],
}


def at(client: object, path: str) -> object:
    for name in path.split("."):
        client = getattr(client, name)
    return client


def test_what_could_spend_otherwise_is_refused_with_the_reason(desk: Desk) -> None:
    for path in UNBOUNDED[desk.wire]:
        with pytest.raises(NotGovernedError, match="is not there on a guarded client: ") as told:
            at(desk.client, path)
        assert f"client.{path}" in str(told.value)
        assert not hasattr(
            at(desk.client, path.rpartition(".")[0]) if "." in path else desk.client, path.rpartition(".")[2]
        )
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = desk.client.nothing


@pytest.mark.parametrize(("make", "names"), [(anthropic.Anthropic, ANTHROPIC), (openai.OpenAI, OPENAI)])
def test_every_other_name_of_the_sdk_is_refused(tmp_store: Path, make: type, names: Names) -> None:
    with Ledger(tmp_store) as ledger, make(api_key="any") as bare:
        client = guard(bare, a_session(ledger))
        others = set(dir(type(bare))) - names.keys() - {"with_options", "copy"}
        public = [name for name in others if not name.startswith("_")]
        assert len(public) > 8
        for name in public:
            with pytest.raises(NotGovernedError):
                getattr(client, name)


def test_it_passes_for_what_it_stands_before(desk: Desk) -> None:
    assert isinstance(desk.client, type(desk.bare))
    assert isinstance(desk.endpoint(), type(desk.endpoint(desk.bare)))
    assert (desk.client.base_url, desk.client.api_key) == (desk.bare.base_url, "any")
    assert {"with_options", "copy"}.isdisjoint(dir(desk.endpoint()))
    assert "create" in dir(desk.endpoint())
    assert repr(desk.client) == f"<guarded {type(desk.bare).__name__} client>"
    with pytest.raises(AttributeError, match="with_options"):
        desk.client.api_key = "other"


def test_a_client_with_other_options_is_guarded_under_the_same_session(desk: Desk) -> None:
    desk.provider.script(Answer("one"), Answer("two"))
    for made in (desk.client.with_options(timeout=7.5), desk.client.copy(max_retries=0)):
        assert isinstance(made, type(desk.bare))
        desk.ask(client=made)
        with pytest.raises(NotGovernedError):
            _ = made.post
    assert desk.client.with_options(timeout=7.5).timeout == 7.5
    desk.assert_books_agree()


def test_its_own_retries_are_how_often_a_turn_is_tried(desk: Desk) -> None:
    from donewhen.testing import Fault

    desk.provider.script(*[Fault(429)] * 9)
    with pytest.raises((anthropic.APIStatusError, openai.APIStatusError)):
        desk.ask(client=desk.client.with_options(max_retries=5))
    assert len(desk.provider.requests) == 6


def test_the_client_that_was_handed_in_stays_as_it_was(desk: Desk) -> None:
    desk.provider.script(Answer("not governed"))
    desk.ask(client=desk.bare)
    assert desk.bare.max_retries == 2
    assert desk.rows("reserve") == []


def test_what_is_free_is_let_through_and_a_path_that_nobody_knows_is_not(tmp_store: Path) -> None:
    with a_desk("anthropic", tmp_store) as desk:
        counted = desk.client.messages.count_tokens(model="m", messages=[{"role": "user", "content": "hello"}])
        assert counted.input_tokens > 0
        assert desk.rows("reserve") == []
        with pytest.raises(NotGovernedError, match="POST /v1/elsewhere is not sent"):
            desk.client._part.post("/v1/elsewhere", cast_to=object, body={})


def test_the_beta_endpoints_are_governed(tmp_store: Path) -> None:
    with a_desk("anthropic", tmp_store, lambda _request: Answer("beta")) as desk:
        arguments = desk.arguments("hello", 50)
        desk.client.beta.messages.create(**arguments, betas=["x"])
        with desk.client.beta.messages.stream(**arguments) as stream:
            stream.until_done()
        desk.assert_books_agree()
        assert len(desk.rows("llm")) == 2


def test_what_is_no_client_of_these_sdks_is_refused(tmp_store: Path) -> None:
    with a_desk("openai", tmp_store) as desk:
        with pytest.raises(TypeError, match=r"session\.call"):
            guard(object(), desk.session)
        with pytest.raises(TypeError, match="not guarded yet"):
            guard(desk.client, desk.session)
        with pytest.raises(ValueError, match="max_attempts is 0"):
            guard(desk.bare, desk.session, max_attempts=0)


def test_a_client_with_middleware_is_refused(tmp_store: Path) -> None:
    def twice(request, call_next):
        return call_next(request)

    client = anthropic.Anthropic(api_key="any", middleware=[twice])
    with client, Ledger(tmp_store) as ledger, pytest.raises(CallError, match="middleware"):
        guard(client, a_session(ledger))


def test_what_cannot_be_bounded_reserves_the_whole_window_where_one_is_stated(desk: Desk) -> None:
    client = guard(desk.bare, desk.session, context_window_tokens=9_000)
    desk.provider.script(Answer("found"))
    tools = {"messages": {"type": "web_search_20250305", "name": "web_search"}, "responses": {"type": "web_search"}}
    desk.ask(client=client, **({"tools": [tools[desk.wire]]} if desk.wire in tools else {"extra_body": {"new": 1}}))
    assert desk.rows("reserve")[0].data["input_bound"] == 9_000
    desk.assert_books_agree()
