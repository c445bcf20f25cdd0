"""A provider on loopback that speaks the real wires, so that tests drive the official SDKs end to end.

    with FakeProvider() as provider:
        provider.script(Answer("hello"), Fault(429, headers={"retry-after": "1"}), Cut(after_bytes=40))
        client = anthropic.Anthropic(base_url=provider.url, api_key="any")
        openai_client = openai.OpenAI(base_url=provider.url + "/v1", api_key="any")

It knows ``POST /v1/messages``, ``/v1/messages/count_tokens``, ``/v1/chat/completions`` and ``/v1/responses``, each
plain and streamed. It refuses what the providers refuse (no ``max_tokens``, a tool call without its result), counts
tokens truthfully (`donewhen.testing.tokens`), and keeps what it received and what it billed, replies that never
arrived included.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from donewhen.testing.http_server import Connection, LoopbackServer
from donewhen.testing.reckon import Spoken, speak
from donewhen.testing.script import Answer, Cut, Fault, Handler, Hang, ProviderRequest, Step
from donewhen.testing.tokens import Count, count_prompt, four_bytes_per_token
from donewhen.testing.wire import WireForm
from donewhen.testing.wire_chat import ChatWire
from donewhen.testing.wire_messages import MessagesWire
from donewhen.testing.wire_responses import ResponsesWire
from donewhen.usage import Usage

MESSAGES_PATH = "/v1/messages"
COUNT_PATH = "/v1/messages/count_tokens"
WIRES: dict[str, WireForm] = {
    MESSAGES_PATH: MessagesWire(),
    COUNT_PATH: MessagesWire(),
    "/v1/chat/completions": ChatWire(),
    "/v1/responses": ResponsesWire(),
}

NO_USAGE = Usage(0, 0)


class FakeProvider:
    """Serve scripted replies on 127.0.0.1. Safe to call from many threads at once; a context manager.

    Args:
        handler: answers the requests for which the script has nothing left. What it raises is raised again on leaving.
        honours_max_tokens: False: replies are as long as the script says, as some servers have it.
        count: tokens in one text.
    """

    def __init__(
        self,
        handler: Handler | None = None,
        *,
        honours_max_tokens: bool = True,
        count: Count = four_bytes_per_token,
    ) -> None:
        self._handler = handler
        self._honours_max_tokens = honours_max_tokens
        self._count = count
        self._lock = threading.Lock()
        self._steps: deque[Step] = deque()
        self._requests: list[ProviderRequest] = []
        self._counted: list[dict[str, Any]] = []
        self._served = NO_USAGE
        self._billed: dict[int, Usage] = {}
        self._failures: list[BaseException] = []
        self._arrivals = threading.Condition(self._lock)
        self._closing = threading.Event()
        self._server = LoopbackServer(self._answer)

    def script(self, *steps: Step) -> FakeProvider:
        """Add to what the next requests get, in the order in which they arrive."""
        with self._lock:
            self._steps.extend(steps)
        return self

    @property
    def url(self) -> str:
        """Return the address for Anthropic's SDK; OpenAI's wants `/v1` behind it."""
        return self._server.url

    @property
    def requests(self) -> list[ProviderRequest]:
        """Return the requests for a reply so far, refused ones included."""
        with self._lock:
            return list(self._requests)

    @property
    def counted(self) -> list[dict[str, Any]]:
        """Return the bodies of the requests that only asked for a count."""
        with self._lock:
            return list(self._counted)

    @property
    def served(self) -> Usage:
        """Return what was billed, by kind, replies that never arrived included."""
        with self._lock:
            return self._served

    @property
    def billed(self) -> dict[int, Usage]:
        """Return what was billed for each request that was answered, by its number; `served` is the sum."""
        with self._lock:
            return dict(self._billed)

    def wait_for_requests(self, number: int, *, timeout_seconds: float = 5.0) -> None:
        """Wait until so many requests have arrived.

        Raises:
            TimeoutError: they did not.
        """
        with self._arrivals:
            if not self._arrivals.wait_for(lambda: len(self._requests) >= number, timeout_seconds):
                raise TimeoutError(f"{len(self._requests)} of {number} requests came in {timeout_seconds} seconds")

    def close(self) -> None:
        """Stop serving, end every connection, and wait for the threads. Hanging replies are never sent."""
        self._closing.set()
        self._server.close()

    def __enter__(self) -> FakeProvider:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and self._failures:
            raise self._failures[0]

    def _answer(self, connection: Connection) -> None:
        wire = WIRES.get(connection.path)
        if wire is None or connection.body is None:
            fault = Fault(404, message=f"no such endpoint: POST {connection.path}")
            return _send_fault(connection, wire or MessagesWire(), fault, "req_none")
        input_tokens = self._count_prompt(wire, connection.body)
        if connection.path == COUNT_PATH:
            with self._lock:
                self._counted.append(connection.body)
            return connection.send_json(200, wire.headers("req_count"), {"input_tokens": input_tokens})
        request = self._receive(wire, connection, connection.body, input_tokens)
        refusal = wire.fault_in(request.body)
        step = Fault(400, message=refusal) if refusal else self._next_step(request)
        return self._perform(step, request, wire, connection)

    def _count_prompt(self, wire: WireForm, body: dict[str, Any]) -> int:
        messages, others = wire.prompt(body)
        return count_prompt(self._count, messages, *others)

    def _receive(
        self, wire: WireForm, connection: Connection, body: dict[str, Any], input_tokens: int
    ) -> ProviderRequest:
        with self._arrivals:
            request = ProviderRequest(
                number=len(self._requests) + 1,
                wire=wire.name,
                path=connection.path,
                headers=connection.request_headers,
                body=body,
                input_tokens=input_tokens,
            )
            self._requests.append(request)
            self._arrivals.notify_all()
        return request

    def _next_step(self, request: ProviderRequest) -> Step:
        with self._lock:
            if self._steps:
                return self._steps.popleft()
        if self._handler is None:
            # 400, since a client tries anything above it again.
            return Fault(400, message=f"request {request.number} came, but the script has nothing left")
        try:
            return self._handler(request)
        except BaseException as error:  # noqa: BLE001  # raised again where the test sees it
            with self._lock:
                self._failures.append(error)
            return Fault(400, message=f"the handler failed: {error!r}")

    def _perform(self, step: Step, request: ProviderRequest, wire: WireForm, connection: Connection) -> None:
        request_id = f"req_{request.number:04}"
        if isinstance(step, Fault):
            return self._perform_fault(step, request, wire, connection)
        answer = step if isinstance(step, Answer) else step.answer
        spoken = self._speak(answer, request)
        if isinstance(step, Cut):
            connection.cut_after(step.after_bytes)
        if request.streams:
            events = wire.events(spoken, request.body)
            stalling = self._stall(events, step, connection) if isinstance(step, Hang) else events
            return connection.send_events(wire.headers(request_id), stalling)
        if isinstance(step, Hang):
            self._wait(step, connection)
        return connection.send_json(200, wire.headers(request_id), wire.reply(spoken, request.body))

    def _stall(self, events: Sequence[bytes], hang: Hang, connection: Connection) -> Iterator[bytes]:
        yield from events[: hang.after_events]
        self._wait(hang, connection)
        yield from events[hang.after_events :]

    def _perform_fault(self, fault: Fault, request: ProviderRequest, wire: WireForm, connection: Connection) -> None:
        request_id = f"req_{request.number:04}"
        spoken = self._speak(fault.after, request) if fault.after is not None else None
        if spoken is None or not request.streams:
            return _send_fault(connection, wire, fault, request_id)
        events = wire.events(spoken, request.body)
        begun = events[: max(1, len(events) // 2)]
        headers = {**wire.headers(request_id), **fault.headers}
        return connection.send_events(headers, [*begun, wire.error_event(fault, request_id)])

    def _speak(self, answer: Answer, request: ProviderRequest) -> Spoken:
        """Return the reply, billed: whether it arrives is no concern of the bill's."""
        spoken = speak(answer, request, self._count, honours_max_tokens=self._honours_max_tokens)
        with self._lock:
            self._served = _add(self._served, spoken.used)
            self._billed[request.number] = spoken.used
        return spoken

    def _wait(self, hang: Hang, connection: Connection) -> None:
        while not hang.event.wait(0.01):
            if self._closing.is_set():
                connection.cut()


def _send_fault(connection: Connection, wire: WireForm, fault: Fault, request_id: str) -> None:
    error = wire.error(fault, request_id)
    connection.send_json(fault.status, {**error.headers, **fault.headers}, error.body)


def _add(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.cache_read_tokens + other.cache_read_tokens,
        one.cache_write_tokens + other.cache_write_tokens,
    )
