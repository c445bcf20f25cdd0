"""What all examples share: the client, the store, and the look at the end."""

from __future__ import annotations

import argparse
import os
import uuid
from pathlib import Path
from typing import Any

from donewhen import LoopResult, NotReleasedError, ReviewSurface
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


def hand_on(surface: ReviewSurface, session_id: str) -> str:
    """Return the output for whatever comes next, once a person has attested exactly the frame that it is in.

    Raises:
        NotReleasedError: nobody has.
    """
    frame = surface.load(session_id)
    if not any(word.frame_hash == frame.frame_hash for word in surface.get_attestations(session_id)):
        raise NotReleasedError(f"the output of session {session_id} waits until a person has attested its frame")
    return frame.output or ""


def show_end(result: LoopResult, store: Path) -> int:
    """Show how it ended, the frame, and that the output is not handed on; return the exit status."""
    print(f"\n{result.outcome}: {result.reason} ({result.turns} turns, {result.total_tokens} tokens)\n")
    surface = ReviewSurface(store, store)
    print(surface.render(result.session_id))
    try:
        hand_on(surface, result.session_id)
    except NotReleasedError as error:
        print(f"\nnot released: {error}")
    return 0 if result.success else 1
