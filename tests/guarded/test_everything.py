"""Every method of the official clients is called through a guarded one: what reaches the provider is a turn, or is free."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import anthropic
import openai
import pytest
from sessions import a_session

from donewhen.errors import NotGovernedError
from donewhen.guarded import guard
from donewhen.guarded.facade import ANTHROPIC, OPENAI, Names
from donewhen.ledger import Ledger

FREE = (("GET", "/v1/models"), ("POST", "/v1/messages/count_tokens"))
"""What costs nothing, by method and the beginning of the path."""


class Provider(ThreadingHTTPServer):
    """Answers everything with an empty object, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.heard: list[tuple[str, str]] = []


class _Answering(BaseHTTPRequestHandler):
    server: Provider

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.heard.append((self.command, self.path))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


for _verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
    setattr(_Answering, f"do_{_verb}", _Answering.answer)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def is_resource(value: object) -> bool:
    """Tell whether something is a part of a client, with methods of its own."""
    name = type(value).__name__
    return ".resources." in type(value).__module__ or "WithRawResponse" in name or "WithStreamingResponse" in name


def methods(bare: object, guarded: object, path: str) -> Iterator[tuple[str, Callable[..., Any], object, str]]:
    """Yield each method of a client and of its parts: its path, the SDK's own, the part behind the guard, its name."""
    for name in [
        name for name in dir(bare) if not name.startswith("_") and name not in ("close", "copy", "with_options")
    ]:
        own = getattr(bare, name)
        if is_resource(own):
            with suppress(NotGovernedError):
                yield from methods(own, getattr(guarded, name), f"{path}.{name}")
        elif callable(own) and not inspect.isclass(own):
            yield f"{path}.{name}", own, guarded, name


def arguments_of(method: Callable[..., Any]) -> dict[str, Any]:
    """Return something for each argument that a method must have."""
    needed = [one for one in inspect.signature(method).parameters.values() if one.default is one.empty]
    given: dict[str, Any] = {}
    for one in needed:
        said = str(one.annotation)
        if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL):
            many = any(word in said for word in ("Iterable", "Sequence", "List", "list"))
            given[one.name] = 16 if "int" in said and "str" not in said else [A_MESSAGE] if many else "x"
    return given


A_MESSAGE = {"role": "user", "content": "x"}


@pytest.mark.parametrize(("make", "base"), [(anthropic.Anthropic, ""), (openai.OpenAI, "/v1")])
def test_whatever_is_called_only_a_turn_or_what_is_free_reaches_the_provider(
    tmp_store: Path, provider: Provider, make: Any, base: str
) -> None:
    called, turns = 0, 0
    failed: dict[str, Exception] = {}
    with (
        Ledger(tmp_store) as ledger,
        make(base_url=f"http://127.0.0.1:{provider.server_port}{base}", api_key="x") as bare,
    ):
        session = a_session(ledger, turns=10**6, tokens=10**9)
        client = guard(bare, session, max_attempts=1)
        for path, own, part, name in methods(bare, client, make.__name__):
            before, heard = len(ledger.rows(session.session_id)), len(provider.heard)
            try:
                returned = getattr(part, name)(**arguments_of(own))
                if hasattr(returned, "__enter__"):
                    with returned:
                        pass
            except Exception as error:  # an empty answer, a wrong argument, a name that is not there
                failed[path] = error
            called += 1
            kinds = [row.kind for row in ledger.rows(session.session_id)[before:]]
            for sent in provider.heard[heard:]:
                is_free = any(sent[0] == verb and sent[1].startswith(where) for verb, where in FREE)
                assert is_free or "reserve" in kinds, f"{path} sent {sent}, and nothing was reserved"
                turns += not is_free
    assert called - len(failed) >= 15
    assert turns >= 7
    assert isinstance(failed[f"{make.__name__}.post"], NotGovernedError)


@pytest.mark.parametrize(("make", "names"), [(anthropic.Anthropic, ANTHROPIC), (openai.OpenAI, OPENAI)])
def test_what_is_handed_out_as_it_is_has_no_calls_of_its_own(make: Any, names: Names) -> None:
    with make(api_key="x") as bare:
        plain = [name for name, below in names.items() if below is None]
        assert [name for name in plain if is_resource(getattr(bare, name, None))] == []
