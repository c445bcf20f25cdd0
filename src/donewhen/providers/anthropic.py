"""Anthropic's SDK as a client: it has the shape already, and only its own retries must go.

Source: anthropic SDK 2.12, ``Anthropic.with_options`` and the order in which it looks for credentials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from donewhen.errors import CallError, MissingExtraError
from donewhen.providers.sdk import prepare

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic

__all__ = ["make_anthropic", "prepare"]

DEFAULT_TIMEOUT_SECONDS = 600.0
"""As the SDK has it. Said outright, it also keeps the SDK from refusing a large `max_tokens` on its own account."""


@overload
def make_anthropic(
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    asynchronous: Literal[False] = False,
) -> Anthropic: ...


@overload
def make_anthropic(
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    asynchronous: Literal[True],
) -> AsyncAnthropic: ...


def make_anthropic(
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    asynchronous: bool = False,
) -> Anthropic | AsyncAnthropic:
    """Make Anthropic's client, its own retries off.

    Args:
        api_key: None: what the SDK finds in the environment (ANTHROPIC_API_KEY) or in its own profile.
        base_url: None: Anthropic's, or ANTHROPIC_BASE_URL.
        timeout_seconds: how long one attempt may be silent.
        asynchronous: make the client for ``await``.

    Raises:
        MissingExtraError: the package anthropic is not installed.
        CallError: there is no API key.
    """
    try:
        import anthropic
    except ImportError as error:
        raise MissingExtraError("anthropic", "Anthropic's client") from error
    make = anthropic.AsyncAnthropic if asynchronous else anthropic.Anthropic
    try:
        client = make(api_key=api_key, base_url=base_url, timeout=timeout_seconds, max_retries=0)
    except anthropic.AnthropicError as error:
        raise CallError(f"there is no API key for Anthropic: {error} Or set ANTHROPIC_API_KEY.") from error
    if not (client.api_key or client.auth_token or client.credentials):
        raise CallError("there is no API key for Anthropic. Set ANTHROPIC_API_KEY, or give one.")
    return client
