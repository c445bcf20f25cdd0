"""What all examples share: the client, the store, and the look at the end."""

from __future__ import annotations

import argparse
import os
import uuid
from pathlib import Path
from typing import Any

from donewhen import Ledger, LoopResult, NotReleasedError, Outbox, Release, ReviewSurface, ToFile
from donewhen.providers.offline import OFFLINE_MODEL, OfflineClient

MODELS = {"anthropic": "claude-sonnet-4-6", "openai": "gpt-5-mini", "offline": OFFLINE_MODEL}
KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}


def arguments_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--client", choices=list(MODELS), help="default: by the key in the environment, else offline")
    parser.add_argument("--model", help="default: one that fits the client")
    parser.add_argument("--store", type=Path, default=Path(".donewhen/ledger.db"), help="default: %(default)s")
    return parser


def make_client(arguments: argparse.Namespace) -> tuple[Any, str]:
    """Return the client that was asked for, and its model."""
    with_key = [name for name, key in KEYS.items() if os.environ.get(key)]
    name = arguments.client or (with_key[0] if with_key else "offline")
    model = arguments.model or MODELS[name]
    print(f"client: {name}, model: {model}")
    if name == "anthropic":
        from donewhen.providers.anthropic import make_anthropic

        return make_anthropic(), model
    if name == "openai":
        from donewhen.providers.openai import make_openai

        return make_openai(), model
    return OfflineClient(), model


def open_store(arguments: argparse.Namespace) -> Path:
    """Return the ledger's path, its folder made."""
    arguments.store.parent.mkdir(parents=True, exist_ok=True)
    return arguments.store


def new_session_id() -> str:
    return str(uuid.uuid4())


def hand_on(store: Path, session_id: str, path: Path) -> Release:
    """Write the output to a file for whatever comes next, once those who must have attested exactly its bytes.

    Raises:
        NotReleasedError: they have not; says what is missing.
    """
    with Ledger(store) as ledger:
        return Outbox(ledger).release(session_id, ToFile(path))


def show_end(result: LoopResult, store: Path) -> int:
    """Show how it ended, the frame, and that the output is not handed on; return the exit status."""
    print(f"\n{result.outcome}: {result.reason} ({result.turns} turns, {result.total_tokens} tokens)\n")
    print(ReviewSurface(store, store).render(result.session_id))
    try:
        hand_on(store, result.session_id, store.with_name(f"{result.session_id}.txt"))
    except NotReleasedError as error:
        print(f"\n{error}")
    return 0 if result.success else 1
