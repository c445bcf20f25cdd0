"""Who is asked: the client, its model, and what the model costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from donewhen.cli.exits import USAGE, CommandError
from donewhen.errors import CallError

if TYPE_CHECKING:
    from donewhen.spec import Spec
    from donewhen.usage import Price

CLIENTS = ("anthropic", "openai", "offline")


@dataclass(frozen=True, slots=True)
class Asked:
    """A client and the model that it is asked for."""

    client: Any
    model: str
    find_price: Callable[[str], Price | None]


def make_client(name: str, spec: Spec, model: str | None, base_url: str | None) -> Asked:
    """Make one of the clients.

    Args:
        name: one of `CLIENTS`.
        spec: its model is the one that is asked, where it names one.
        model: the model where the spec names none. None: the client's usual one.
        base_url: where the provider is. None: the provider's own.

    Raises:
        CommandError: two models are named, or none; or the client cannot be made.
        MissingExtraError: the provider's SDK is not installed.
    """
    if spec.model is not None and model not in (None, spec.model):
        raise CommandError(f"the spec names the model {spec.model!r}, so --model {model!r} cannot be asked instead")
    chosen = spec.model or model
    try:
        if name == "offline":
            return _offline(chosen, base_url)
        return _anthropic(chosen, base_url) if name == "anthropic" else _openai(chosen, base_url)
    except CallError as error:
        raise CommandError(str(error), USAGE) from error


def _offline(model: str | None, base_url: str | None) -> Asked:
    from donewhen.providers.offline import OFFLINE_MODEL, OfflineClient
    from donewhen.providers.offline_price import free_price

    if base_url is not None:
        raise CommandError("--base-url has no meaning for the offline client, which asks nobody")
    return Asked(OfflineClient(), model or OFFLINE_MODEL, free_price)


def _anthropic(model: str | None, base_url: str | None) -> Asked:
    from donewhen.agent_loop import DEFAULT_MODEL
    from donewhen.prices import find_price
    from donewhen.providers.anthropic import make_anthropic

    return Asked(make_anthropic(base_url=base_url), model or DEFAULT_MODEL, find_price)


def _openai(model: str | None, base_url: str | None) -> Asked:
    from donewhen.prices import find_price
    from donewhen.providers.openai import make_openai

    if model is None:
        raise CommandError("name a model: --model, or `model` in the spec; there is no usual one for the openai client")
    return Asked(make_openai(base_url=base_url), model, find_price)
