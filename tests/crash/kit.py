"""A session of three turns, and a process that kills itself at a named point of it.

The model asks for two tools, then says a draft that the check refuses, then the final text. Points:
``commit:N`` after the Nth durable step, ``uncommitted:N`` in its transaction, ``call:N`` when the Nth reply has come
and nobody has seen it, ``send:N`` before the Nth request is sent, ``tool:N`` after the Nth tool has acted,
``check:N`` inside the Nth judgement.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from processes import PATIENCE_SECONDS

import donewhen
from donewhen.agent_loop import AgentLoop
from donewhen.checks import Call
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.ledger import Ledger, utc_now
from donewhen.notes import LocalSigner
from donewhen.spec_writer import SpecResult
from donewhen.stores.sqlite import SQLiteStore
from donewhen.testing import Answer, ProviderRequest

SPEC = SpecResult("audit one page", "change the page", "the report says DONE", "session-1")
TASK = "audit it"
SIGNER = LocalSigner("test", bytes(32))


def answer(request: ProviderRequest) -> Answer:
    """Answer by what the conversation says, so that it does not matter how often it was begun."""
    said = json.dumps(request.body["messages"])
    if "tool_result" not in said:
        return Answer(tool_calls=[("look", {"x": 1}), ("find", {"x": 2})])
    return Answer("the report: DONE" if "Not done yet" in said else "a draft")


class Death:
    """Kills this process when a named point comes."""

    def __init__(self, point: str | None) -> None:
        self._point = point
        self._seen: Counter[str] = Counter()

    def __call__(self, kind: str) -> None:
        self._seen[kind] += 1
        if self._point == f"{kind}:{self._seen[kind]}":
            os.kill(os.getpid(), signal.SIGKILL)


def run_dying(script: Path, *words: object) -> list[int]:
    """Run a script that lets processes die, one after the other, and return how each ended."""
    source = Path(donewhen.__file__).parent.parent
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(Path(__file__).parent.parent)])}
    command = [sys.executable, str(script), *map(str, words)]
    ended = subprocess.run(command, env=environ, check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert not ended.stderr, ended.stderr
    return [int(one) for one in ended.stdout.split()]


def die_each(works: Iterable[Callable[[], object]]) -> None:
    """Do each in a process of its own, made by a fork before anything is open, and tell how it ended."""
    for work in works:
        child = os.fork()
        if not child:
            try:
                work()
            finally:
                os._exit(1)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()  # before the next fork, which would say it again


class MortalStore(SQLiteStore):
    """A store whose process may die with a commit; what was acknowledged is written down before it does."""

    death: Death
    acknowledged: Path

    @contextmanager
    def writing(self) -> Iterator[Any]:
        with super().writing() as transaction:
            append, rows = transaction.append, []

            def remembering(*args: Any) -> Any:
                rows.append(append(*args))
                return rows[-1]

            transaction.append = remembering
            yield transaction
            self.death("uncommitted")
        with self.acknowledged.open("a") as file:
            file.writelines(f"{row.id} {row.kind} {row.prev}\n" for row in rows)
        self.death("commit")


class PlainClient:
    """The Messages wire, without an SDK, so that a process starts quickly."""

    def __init__(self, url: str, death: Death) -> None:
        self.messages = self
        self._address = urlsplit(url)
        self._death = death

    def create(self, **call: Any) -> Any:
        self._death("send")
        with closing(HTTPConnection(self._address.hostname or "", self._address.port, timeout=60)) as connection:
            connection.request("POST", "/v1/messages", json.dumps(call), {"content-type": "application/json"})
            reply = json.loads(connection.getresponse().read())
        self._death("call")
        return reply


def is_done(death: Death) -> Callable[[str], bool]:
    def says_done(output: str) -> bool:
        death("check")
        return "DONE" in output

    # The spec freezes which function a check calls: the same name in each process.
    says_done.__module__, says_done.__qualname__ = "crash.kit", "says_done"
    return says_done


def tools(effects: Path, death: Death) -> list[Any]:
    def act(name: str) -> Callable[[int], str]:
        def handler(x: int) -> str:
            with effects.open("a") as file:
                file.write(f"{name} {x}\n")
            death("tool")
            return "seen"

        handler.__name__ = name
        handler.__annotations__ = {"x": int, "return": str}
        return handler

    return [act("look"), act("find")]


def open_ledger(folder: Path, *, signed: bool, point: str | None = None) -> Ledger:
    MortalStore.death, MortalStore.acknowledged = Death(point), folder / "acknowledged"
    path = str(folder / "ledger.db")
    store = MortalStore(path, signer=SIGNER if signed else None, now=utc_now, random=os.urandom)
    return Ledger(path, store=store)


def make_loop(folder: Path, url: str, ledger: Ledger, *, keep: str, point: str | None = None) -> AgentLoop:
    death = Death(point)
    return AgentLoop(
        SPEC,
        CircuitBreaker(20, 100_000, output_fn=lambda _notice: None),
        ledger,
        PlainClient(url, death),
        tools=tools(folder / "effects", death),
        checks=[Call(is_done(death), name="done")],
        bound="strict",
        keep=keep,
        find_price=lambda _model: None,
    )
