"""Eight threads on the ceiling of one session, against a provider that keeps its own count."""

from __future__ import annotations

import http.client
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from donewhen.bounds import Request, Transcript
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.client import read_reply
from donewhen.demo.stage import Fact, Scene, Stage
from donewhen.drafts import end_draft
from donewhen.errors import CircuitBreakerError
from donewhen.opening import open_session
from donewhen.session import Session
from donewhen.spec_writer import SpecResult
from donewhen.testing import Answer, FakeProvider

THREADS = 8
TURNS, TOKENS = 1_000, 10_000
REPLY_TOKENS = 180
MOST_REPLY_TOKENS = 256
PROMPT_WORDS = 12
"""The prompt of the first thread; each other one has so many more than the one before."""
MORE_TRIES = 20


def crowd_on_one_ceiling(stage: Stage) -> Scene:
    """Let eight threads spend on one ceiling at once, until each has been refused."""
    promise = SpecResult(
        "Asks in eight threads.", "It has no budget for each.", "The ceiling stops all.", str(uuid.uuid4())
    )
    stage.sessions.append(promise.session_id)
    breaker = CircuitBreaker(TURNS, TOKENS, output_fn=_tell_nobody)
    with stage.open_ledger() as ledger, FakeProvider(_answer) as provider:
        session = open_session(promise, breaker, ledger, bound="strict")
        all_reserved = threading.Barrier(THREADS)
        with ThreadPoolExecutor(THREADS) as threads:
            calls = list(threads.map(partial(_spend, session, provider.url, all_reserved), range(THREADS)))
        # A thread is also refused for what the others hold reserved: what they gave back is spent by one alone.
        _spend(session, provider.url, None, 0)
        arrived = len(provider.requests)
        refused = sum(_is_refused(session) for _ in range(MORE_TRIES))
        session.note(end_draft(promise.session_id, "breached", "every thread was refused", None))
        served, late = provider.served.total, len(provider.requests) - arrived
        spent = session.newest_balance.used.tokens
    facts = (
        Fact("all of them spent, at once", f"calls of each thread: {', '.join(map(str, calls))}", min(calls) > 0),
        Fact("the ceiling held", f"the provider served {served:,} of {TOKENS:,} tokens", 0 < served <= TOKENS),
        Fact("ledger and provider agree", f"ledger {spent:,}, provider {served:,}", spent == served),
        Fact(
            f"{MORE_TRIES} more tries sent nothing",
            f"{refused} refused, {late} requests arrived",
            refused == MORE_TRIES and late == 0,
        ),
    )
    return Scene(title="Eight threads on one ceiling", promise="Ceilings hold, strictly", facts=facts)


def _spend(session: Session, url: str, all_reserved: threading.Barrier | None, number: int) -> int:
    """Call until refused, and return how many calls were allowed."""
    calls = 0
    while True:
        try:
            permit = session.admit(_request(number))
        except CircuitBreakerError:
            return calls
        if all_reserved is not None and calls == 0:
            all_reserved.wait(timeout=10)  # nobody spends before everybody holds a reservation
        session.settle(permit, read_reply(_post(url, permit.request.as_kwargs())))
        calls += 1


def _is_refused(session: Session) -> bool:
    try:
        session.admit(_request(0))
    except CircuitBreakerError:
        return True
    return False


def _request(number: int) -> Request:
    transcript = Transcript(model="fake-model", system="Answer.")
    transcript.append({"role": "user", "content": "and then? " * PROMPT_WORDS * (number + 1)})
    return transcript.request(MOST_REPLY_TOKENS)


def _answer(_request: object) -> Answer:
    return Answer("An answer.", output_tokens=REPLY_TOKENS)


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """Send a request over the wire, without the provider's SDK, which takes two seconds to import."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        headers = {"content-type": "application/json", "x-api-key": "none", "anthropic-version": "2023-06-01"}
        connection.request("POST", "/v1/messages", json.dumps(body), headers)
        reply: dict[str, Any] = json.loads(connection.getresponse().read())
        return reply
    finally:
        connection.close()


def _tell_nobody(_notice: str) -> None:
    """Keep eight notices of one breach from the screen; each is in the ledger."""
