"""What the scenes of the demo share: a folder, a key and a site of their own, and how they tell what was seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from donewhen.demo.site import DemoSite
from donewhen.ledger import Ledger
from donewhen.notes import Signer

KEY_FOLDER = "keys"
STORE = "ledger.db"
VKEY_FILE = "ledger.vkey"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that must be so for a promise to be kept."""

    claim: str
    seen: str
    """The evidence, in numbers and words of the run itself."""
    holds: bool


@dataclass(frozen=True, slots=True)
class Exhibit:
    """Something to look at."""

    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A promise, and what was seen of it."""

    title: str
    promise: str
    facts: tuple[Fact, ...]
    exhibits: tuple[Exhibit, ...] = ()

    @property
    def holds(self) -> bool:
        """Tell whether everything that must be so was seen to be so."""
        return all(fact.holds for fact in self.facts)


@dataclass(slots=True, kw_only=True)
class Stage:
    """Where the scenes are played, in order."""

    folder: Path
    signer: Signer
    """A key of the demo's own, so that it leaves the user's alone."""
    site: DemoSite
    width: int
    """Columns of every exhibit."""
    audit_session: str = ""
    """The session of the audit, once it has been played."""
    sessions: list[str] = field(default_factory=list[str])
    """Every session that was opened, in order."""

    @property
    def store(self) -> Path:
        """Return the ledger's file."""
        return self.folder / STORE

    @property
    def vkey_file(self) -> Path:
        """Return the file with the ledger's public key."""
        return self.folder / VKEY_FILE

    def open_ledger(self) -> Ledger:
        """Open the ledger to write to it."""
        return Ledger(self.store, signer=self.signer)


class CountingClient:
    """Pass calls on to a client, and keep the books on the provider's side of the wire.

    Args:
        client: who answers.
    """

    def __init__(self, client: Any) -> None:
        self.messages = _CountingMessages(client.messages.create)

    @property
    def calls(self) -> int:
        """Return how many calls came in."""
        return self.messages.calls

    @property
    def tokens(self) -> int:
        """Return the tokens of all replies, input and output."""
        return self.messages.tokens


class _CountingMessages:
    def __init__(self, create: Callable[..., Any]) -> None:
        self._create = create
        self.calls = 0
        self.tokens = 0

    def create(self, **request: Any) -> Any:
        """Answer, and count."""
        self.calls += 1
        reply = self._create(**request)
        self.tokens += reply.usage.input_tokens + reply.usage.output_tokens
        return reply
