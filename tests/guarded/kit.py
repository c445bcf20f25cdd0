"""A guarded client of each official SDK, blocking and asynchronous, on each endpoint, behind one face."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
from sessions import SPEC, a_session

from donewhen.entry import LedgerRow
from donewhen.guarded import guard
from donewhen.ledger import Ledger
from donewhen.session import Session
from donewhen.testing import FakeProvider

SDKS = {"anthropic": "messages", "openai": "chat", "openai responses": "responses"}
WAYS = (*SDKS, *[f"async {name}" for name in SDKS])
DOORS = ("created", "streamed", "helper", "parsed", "raw", "raw body")
"""The ways into each endpoint: create, with stream=True, stream(), parse, with_raw_response, with_streaming_response."""

STREAMS = ("streamed", "helper")
TOOL = {"name": "look", "description": "looks", "input_schema": {"type": "object", "properties": {}}}


class Desk:
    """A session, a provider that counts, and a guarded client that talks to it."""

    def __init__(self, way: str, provider: FakeProvider, ledger: Ledger, session: Session, **options: Any) -> None:
        self.provider, self.ledger, self.session = provider, ledger, session
        self.is_async = way.startswith("async ")
        self.wire = SDKS[way.removeprefix("async ")]
        self.slept: list[float] = []
        self.heard: list[Any] = []
        self.is_heard = asyncio.Event()
        self._loop = asyncio.new_event_loop() if self.is_async else None
        make = options.pop("make", None)
        self.bare = self._make_bare() if make is None else make(provider.url)
        self.client = self.guarded(**options)

    def guarded(self, **options: Any) -> Any:
        """Return the bare client under the session."""
        defaults: dict[str, Any] = {"jitter": lambda: 1.0, "sleep": self._asleep(), "max_attempts": 3}
        return guard(self.bare, self.session, **{**defaults, **options})

    def _make_bare(self) -> Any:
        if self.wire == "messages":
            make = anthropic.AsyncAnthropic if self.is_async else anthropic.Anthropic
            return make(base_url=self.provider.url, api_key="any")
        make = openai.AsyncOpenAI if self.is_async else openai.OpenAI
        return make(base_url=f"{self.provider.url}/v1", api_key="any")

    def _asleep(self) -> Callable[[float], Any]:
        async def asleep(seconds: float) -> None:
            self.slept.append(seconds)

        return asleep if self.is_async else self.slept.append

    # -- calls -----------------------------------------------------------------------------------------------------

    def run(self, result: Any) -> Any:
        """Return what a call returned, awaited where it must be."""
        if not inspect.isawaitable(result):
            return result
        assert self._loop is not None

        async def wait() -> Any:
            return await result

        return self._loop.run_until_complete(wait())

    def arguments(self, text: str, most: int | None, **more: Any) -> dict[str, Any]:
        """Return the arguments of a call, as its endpoint has them."""
        messages = [{"role": "user", "content": text}]
        if self.wire == "responses":
            return {"model": "m", "input": text, **({"max_output_tokens": most} if most else {}), **more}
        name = "max_tokens" if self.wire == "messages" else "max_completion_tokens"
        return {"model": "m", "messages": messages, **({name: most} if most else {}), **more}

    def endpoint(self, client: Any = None) -> Any:
        client = client or self.client
        return {
            "messages": lambda: client.messages,
            "chat": lambda: client.chat.completions,
            "responses": lambda: client.responses,
        }[self.wire]()

    def ask(self, text: str = "hello", most: int | None = 100, *, client: Any = None, **more: Any) -> Any:
        """Make a call and return what the SDK returns."""
        return self.run(self.endpoint(client).create(**self.arguments(text, most, **more)))

    def stream(self, text: str = "hello", most: int | None = 100, **more: Any) -> list[Any]:
        """Make a streaming call, and read it to its end."""
        return self.read(self.ask(text, most, stream=True, **more))

    def read(self, stream: Any, number: int | None = None) -> list[Any]:
        """Read so many events of a stream, or all."""
        events: list[Any] = []
        while number is None or len(events) < number:
            event = self.next(stream)
            if event is None:
                return events
            events.append(event)
        return events

    def next(self, stream: Any) -> Any:
        """Return a stream's next event, None at its end."""
        if not self.is_async:
            return next(iter(stream), None)

        async def one() -> Any:
            async for event in stream:
                return event
            return None

        return self.run(one())

    def close(self, stream: Any) -> None:
        self.run(stream.close())

    @property
    def _final(self) -> str:
        return {
            "messages": "get_final_message",
            "chat": "get_final_completion",
            "responses": "get_final_response",
        }[self.wire]

    def helper(self, text: str = "hello", most: int = 100, *, leave_early: bool = False, **more: Any) -> Any:
        """Read a reply by the SDK's helper `stream(...)`, and return what it makes of it."""
        final = self._final
        made = self.endpoint().stream(**self.arguments(text, most, **more))
        if not self.is_async:
            with made as stream:
                return next(iter(stream)) if leave_early else getattr(stream, final)()

        async def main() -> Any:
            async with made as stream:
                if leave_early:
                    return await anext(aiter(stream))
                return await getattr(stream, final)()

        return self.run(main())

    def through(self, door: str) -> str:
        """Make a call by one of `DOORS`, and return the text that comes out of it."""
        return self.run(self.acalled(door) if self.is_async else self._called(door))

    def _called(self, door: str) -> str:
        arguments, at = self.arguments("hello", 100), self.endpoint()
        if door == "created":
            return self.text_of(at.create(**arguments))
        if door == "parsed":
            return self.text_of(at.parse(**arguments))
        if door == "raw":
            return self.text_of(at.with_raw_response.create(**arguments).parse())
        if door == "raw body":
            with at.with_streaming_response.create(**arguments) as response:
                return self._agreeing(b"".join(response.iter_bytes()), response.parse())
        if door == "streamed":
            with at.create(**arguments, stream=True) as stream:
                return self.text_in(list(stream))
        with at.stream(**arguments) as helper:
            return self._text_of_incomplete(list(helper)) or self.text_of(getattr(helper, self._final)())

    async def acalled(self, door: str) -> str:
        """Make a call by one of `DOORS` with an asynchronous client; the events of a stream are `heard`."""
        arguments, at = self.arguments("hello", 100), self.endpoint()
        self.heard.clear()
        if door == "created":
            return self.text_of(await at.create(**arguments))
        if door == "parsed":
            return self.text_of(await at.parse(**arguments))
        if door == "raw":
            parsed = (await at.with_raw_response.create(**arguments)).parse()
            return self.text_of(await parsed if inspect.isawaitable(parsed) else parsed)
        if door == "raw body":
            async with at.with_streaming_response.create(**arguments) as response:
                body = b"".join([part async for part in response.iter_bytes()])
                return self._agreeing(body, await response.parse())
        made = await at.create(**arguments, stream=True) if door == "streamed" else at.stream(**arguments)
        async with made as stream:
            async for event in stream:
                self.heard.append(event)
                self.is_heard.set()
            if door == "streamed":
                return self.text_in(self.heard)
            return self._text_of_incomplete(self.heard) or self.text_of(await getattr(stream, self._final)())

    def _text_of_incomplete(self, events: list[Any]) -> str | None:
        """Return the text of a response that was cut off, of which the SDK's helper makes nothing."""
        last = events[-1]
        return last.response.output_text if getattr(last, "type", "") == "response.incomplete" else None

    def _agreeing(self, body: bytes, response: Any) -> str:
        assert json.loads(body)["id"] == response.id
        return self.text_of(response)

    def text_of(self, response: Any) -> str:
        if self.wire == "messages":
            return "".join(block.text for block in response.content if block.type == "text")
        return response.output_text if self.wire == "responses" else response.choices[0].message.content

    def text_in(self, events: list[Any]) -> str:
        """Return the text that a stream's events carried."""
        if self.wire == "messages":
            deltas = [event.delta for event in events if event.type == "content_block_delta"]
            return "".join(delta.text for delta in deltas if delta.type == "text_delta")
        if self.wire == "responses":
            return "".join(event.delta for event in events if event.type == "response.output_text.delta")
        return "".join(chunk.choices[0].delta.content or "" for chunk in events if chunk.choices)

    @property
    def tools(self) -> list[Any]:
        """Return one tool, as the endpoint has it."""
        # Strict, since some releases' helper takes no other.
        function = {"name": TOOL["name"], "parameters": TOOL["input_schema"], "strict": True}
        if self.wire == "messages":
            return [TOOL]
        return [
            {"type": "function", **function} if self.wire == "responses" else {"type": "function", "function": function}
        ]

    # -- what was written ------------------------------------------------------------------------------------------

    def rows(self, *kinds: str) -> list[LedgerRow]:
        return [row for row in self.ledger.rows(SPEC.session_id) if not kinds or row.kind in kinds]

    @property
    def balance(self) -> Any:
        return self.rows()[-1].after[-1]

    def assert_books_agree(self) -> None:
        """Assert that the ledger has what the provider served, to the token and by kind, and nothing in doubt."""
        assert self.balance.reserved.tokens == 0
        assert self.balance.spent.tokens == self.provider.served.total
        served = self.provider.served
        kinds = ("input", "output", "cache_read", "cache_write")
        totals = [sum(row.data["usage"][kind] for row in self.rows("llm")) for kind in kinds]
        assert totals == [
            served.input_tokens,
            served.output_tokens,
            served.cache_read_tokens,
            served.cache_write_tokens,
        ]

    def done(self) -> None:
        """Close the client, and the loop it lives in."""
        self.run(self.client.close())
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()


@contextmanager
def a_desk(way: str, path: Path, handler: Any = None, *, provided: Any = None, **options: Any) -> Iterator[Desk]:
    """Open a desk; its books are read after it is closed as well."""
    given = {name: options.pop(name) for name in ("turns", "tokens", "limits", "held_tools") if name in options}
    with FakeProvider(handler, **(provided or {})) as provider, Ledger(path) as ledger:
        session = a_session(ledger, **{"tokens": 1_000_000, **given})
        desk = Desk(way, provider, ledger, session, **options)
        try:
            yield desk
        finally:
            desk.done()
