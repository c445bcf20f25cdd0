"""OpenAI's SDK, and every server that speaks its wire, behind ``.messages.create(...)``.

    client = OpenAIClient(openai.OpenAI())                                     # Chat Completions
    client = OpenAIClient(openai.OpenAI(), api="responses")                    # Responses, without state on the server
    client = OpenAIClient(openai.OpenAI(base_url="http://localhost:11434/v1", api_key="none"))   # Ollama, vLLM

A request and a reply have Anthropic's form on our side; `openai_chat` and `openai_responses` translate both ways.
What a wire cannot carry is an error before anything is sent. The reply is plain data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from donewhen.errors import CallError, MissingExtraError
from donewhen.providers import openai_chat, openai_responses
from donewhen.providers.sdk import prepare

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

__all__ = ["AsyncOpenAIClient", "OpenAIClient", "make_openai"]

Api = Literal["chat", "responses"]
MaxTokensKey = Literal["max_completion_tokens", "max_tokens"]

DEFAULT_TIMEOUT_SECONDS = 600.0
_OPENAI_HOSTS = ("api.openai.com", ".openai.com", ".openai.azure.com", ".services.ai.azure.com")


class OpenAIClient:
    """Give an ``openai.OpenAI`` client the shape of an `LLMClient`, its own retries off.

    Args:
        client: the SDK's client; the caller closes it.
        api: the wire: Chat Completions, which many servers speak, or Responses.
        max_tokens_key: what Chat Completions calls the limit on output. None: `max_completion_tokens` for OpenAI's and
            Azure's own hosts, which refuse the old name for reasoning models; `max_tokens` for all others, of which
            some ignore the new name and would write without a limit.
        timeout_seconds: how long one attempt may be silent. None: as the client has it.
        options: what every request carries besides, such as ``{"reasoning_effort": "low"}``, in the SDK's words.

    Raises:
        CallError: `options` has a key that the adapter sets itself, or several choices are asked for.
    """

    def __init__(
        self,
        client: OpenAI,
        *,
        api: Api = "chat",
        max_tokens_key: MaxTokensKey | None = None,
        timeout_seconds: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        spelling = _Spelling(client, api, max_tokens_key, options)
        self._client = client
        self.messages: OpenAIMessages = OpenAIMessages(prepare(client, timeout_seconds=timeout_seconds), spelling)

    def close(self) -> None:
        """Close the SDK's client."""
        self._client.close()


class AsyncOpenAIClient:
    """Give an ``openai.AsyncOpenAI`` client the shape of an `LLMClient`, as `OpenAIClient` does."""

    def __init__(
        self,
        client: AsyncOpenAI,
        *,
        api: Api = "chat",
        max_tokens_key: MaxTokensKey | None = None,
        timeout_seconds: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        spelling = _Spelling(client, api, max_tokens_key, options)
        prepared = prepare(client, timeout_seconds=timeout_seconds)
        self._client = client
        self.messages: AsyncOpenAIMessages = AsyncOpenAIMessages(prepared, spelling)

    async def close(self) -> None:
        """Close the SDK's client."""
        await self._client.close()


class OpenAIMessages:
    """The ``.messages`` of an `OpenAIClient`."""

    def __init__(self, client: OpenAI, spelling: _Spelling) -> None:
        self._client = client
        self._spelling = spelling

    def create(
        self, *, model: str, max_tokens: int, messages: list[Any], system: Any = "", **more: Any
    ) -> dict[str, Any]:
        """Send one request and return the reply in Anthropic's form.

        Args:
            model: the model's name.
            max_tokens: the most output tokens, reasoning included.
            messages: the conversation, in Anthropic's form.
            system: the system prompt.
            more: `tools`, `tool_choice`, `temperature`, `top_p`, `stop_sequences` (Chat Completions only).

        Raises:
            CallError: something in the request has no place on this wire.
            ReplyError: the server's answer is not a reply.
        """
        request = self._spelling.request(model, max_tokens, messages, system, more)
        resource: Any = self._client.responses if self._spelling.api == "responses" else self._client.chat.completions
        return self._spelling.reply(resource.create(**request))


class AsyncOpenAIMessages:
    """The ``.messages`` of an `AsyncOpenAIClient`."""

    def __init__(self, client: AsyncOpenAI, spelling: _Spelling) -> None:
        self._client = client
        self._spelling = spelling

    async def create(
        self, *, model: str, max_tokens: int, messages: list[Any], system: Any = "", **more: Any
    ) -> dict[str, Any]:
        """Send one request and return the reply, as `OpenAIMessages.create` does.

        Raises:
            CallError: something in the request has no place on this wire.
            ReplyError: the server's answer is not a reply.
        """
        request = self._spelling.request(model, max_tokens, messages, system, more)
        resource: Any = self._client.responses if self._spelling.api == "responses" else self._client.chat.completions
        return self._spelling.reply(await resource.create(**request))


def make_openai(
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    api: Api = "chat",
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    max_tokens_key: MaxTokensKey | None = None,
) -> OpenAIClient:
    """Make a client for OpenAI, or for a server that speaks its wire.

    Args:
        api_key: None: OPENAI_API_KEY. A server on another `base_url` may need none.
        base_url: None: OpenAI's, or OPENAI_BASE_URL.
        api: the wire.
        timeout_seconds: how long one attempt may be silent.
        max_tokens_key: as in `OpenAIClient`.

    Raises:
        MissingExtraError: the package openai is not installed.
        CallError: there is no API key.
    """
    try:
        import openai
    except ImportError as error:
        raise MissingExtraError("openai", "OpenAI's client") from error
    try:
        client = openai.OpenAI(
            api_key=api_key or ("none" if base_url else None), base_url=base_url, timeout=timeout_seconds, max_retries=0
        )
    except openai.OpenAIError as error:
        raise CallError("there is no API key for OpenAI. Set OPENAI_API_KEY, or give one.") from error
    return OpenAIClient(client, api=api, max_tokens_key=max_tokens_key)


class _Spelling:
    """How requests and replies are spelt on one wire."""

    def __init__(
        self, client: object, api: Api, max_tokens_key: MaxTokensKey | None, options: Mapping[str, Any] | None
    ) -> None:
        self.api: Api = api
        self._max_tokens_key: str = max_tokens_key or max_tokens_key_of(client)
        self._options = dict(options or {})
        clash = sorted(self._options.keys() & (openai_chat.OWN_KEYS | openai_responses.OWN_KEYS))
        if clash:
            raise CallError(f"the adapter sets {', '.join(clash)} itself. Take it out of the options.")

    def request(
        self, model: str, max_tokens: int, messages: list[Any], system: object, more: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the SDK's arguments."""
        if self.api == "responses":
            request = openai_responses.spell_request(messages, system, more)
            request["max_output_tokens"] = max_tokens
        else:
            request = openai_chat.spell_request(messages, system, more)
            request[self._max_tokens_key] = max_tokens
        return {**self._options, **request, "model": model}

    def reply(self, response: object) -> dict[str, Any]:
        """Return the reply in Anthropic's form."""
        read = openai_responses.read_response if self.api == "responses" else openai_chat.read_completion
        return read(response)


def max_tokens_key_of(client: object) -> MaxTokensKey:
    """Return what Chat Completions calls the limit on output on the server that a client talks to."""
    host = urlsplit(str(getattr(client, "base_url", ""))).hostname or ""
    return "max_completion_tokens" if host.endswith(_OPENAI_HOSTS) else "max_tokens"
