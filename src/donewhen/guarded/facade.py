"""What is left of a client: the names by which a call is a turn, or by which nothing is spent. No other is there.

Names are forwarded one by one. A name that nobody has thought of is refused, so that what an SDK learns tomorrow cannot
spend unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from donewhen.errors import NotGovernedError
from donewhen.guarded.tool_runner import governed_runner
from donewhen.session import Session

Names = Mapping[str, "Names | Callable[[Any, Session], Any] | None"]
"""The names that are there, and for each what is there below it, or what makes of it what is handed out.

None: it is handed out as it is.
"""

_RAW: Names = {"create": None, "parse": None, "count_tokens": None}
_REPLIES: Names = {
    "create": None,
    "stream": None,
    "parse": None,
    "with_raw_response": _RAW,
    "with_streaming_response": _RAW,
}
_MESSAGES: Names = {**_REPLIES, "count_tokens": None}
_CHAT: Names = {"completions": _REPLIES}
_MODELS: Names = {"list": None, "retrieve": None}
_FACTS: Names = dict.fromkeys(
    [
        *("api_key", "auth_token", "base_url", "timeout", "max_retries", "auth_headers"),
        *("default_headers", "default_query", "user_agent", "qs", "platform_headers", "is_closed", "close"),
    ]
)

ANTHROPIC: Names = {
    **_FACTS,
    "messages": _MESSAGES,
    "beta": {"messages": {**_MESSAGES, "tool_runner": governed_runner}},
    "models": _MODELS,
}
OPENAI: Names = {
    **_FACTS,
    **dict.fromkeys(["organization", "project"]),
    "chat": _CHAT,
    "responses": _REPLIES,
    "beta": {"chat": _CHAT},
    "models": _MODELS,
}

_ON_THE_SERVER = "what lies on the server counts when it is used, and nobody can say here how much"
_NOT_TOKENS = "it is billed by something else than the tokens of a reply"
_LATER = "it works and is billed later, when nothing is reserved for it any more"
_OF_ALL = (
    "it would be there for every part; take it from the one that is governed, as client.messages.with_raw_response"
)

REASONS: Mapping[str, str] = {
    **dict.fromkeys(["batches", "fine_tuning", "evals", "videos", "threads", "assistants", "agents"], _LATER),
    **dict.fromkeys(["files", "uploads", "vector_stores", "conversations", "containers", "skills"], _ON_THE_SERVER),
    "thread": _ON_THE_SERVER,
    **dict.fromkeys(["embeddings", "images", "audio", "moderations"], _NOT_TOKENS),
    **dict.fromkeys(["realtime", "live", "connect"], "it goes past HTTP, where nothing is reserved for it"),
    **dict.fromkeys(["with_raw_response", "with_streaming_response"], _OF_ALL),
    "with_middleware": "it could send a request more than once under one reservation",
    **dict.fromkeys(["post", "put", "patch", "delete", "get", "request", "get_api_list"], "it can send anything"),
}


class Facade:
    """Stand before a part of an SDK's client, and hand on the names that are known.

    Args:
        part: the SDK's own object; `isinstance` says that this is one.
        names: what is there.
        path: how a caller got here.
        session: whose turns its calls are.
    """

    def __init__(self, part: object, names: Names, path: str, session: Session) -> None:
        set_here = object.__setattr__
        set_here(self, "_part", part)
        set_here(self, "_names", names)
        set_here(self, "_path", path)
        set_here(self, "_session", session)

    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # so that isinstance holds
        """Return the class of the SDK's own object."""
        kind: type = type(self._part)
        return kind

    _part: object
    _names: Names
    _path: str
    _session: Session

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self._part).__name__!r} object has no attribute {name!r}")
        if name in self._names:
            value, below = getattr(self._part, name), self._names[name]
            if below is None:
                return value
            if callable(below):
                return below(value, self._session)
            return Facade(value, below, f"{self._path}.{name}", self._session)
        if not hasattr(type(self._part), name):
            raise AttributeError(f"{type(self._part).__name__!r} object has no attribute {name!r}")
        reason = REASONS.get(name, "the guard knows no bound for what it could spend")
        raise NotGovernedError(f"{self._path}.{name} is not there on a guarded client: {reason}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self._path}.{name} cannot be set on a guarded client; use with_options, or guard anew")

    def __dir__(self) -> list[str]:
        return sorted(name for name in self._names if hasattr(type(self._part), name) or hasattr(self._part, name))

    def __repr__(self) -> str:
        return f"<guarded {type(self._part).__name__} {self._path}>"


class GuardedClient(Facade):
    """Stand before a whole client.

    Args:
        again: guards a client that was made of this one, given the options it was made with.
    """

    def __init__(
        self, client: object, names: Names, session: Session, again: Callable[[Any, Mapping[str, Any]], Any]
    ) -> None:
        super().__init__(client, names, "client", session)
        object.__setattr__(self, "_again", again)

    _part: Any
    _again: Callable[[Any, Mapping[str, Any]], Any]

    def with_options(self, **options: Any) -> Any:
        """Return a client with other options, as the SDK does; it is guarded under the same session."""
        return self._again(self._part.with_options(**options), options)

    def copy(self, **options: Any) -> Any:
        """Return a client with other options, as `with_options` does."""
        return self._again(self._part.copy(**options), options)

    def __enter__(self) -> Any:
        self._part.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._part.__exit__(kind, error, at)

    async def __aenter__(self) -> Any:
        await self._part.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._part.__aexit__(kind, error, at)


_KNOWN = {
    # The platforms' clients turn what they are asked to send into their platform's form below `request`.
    "anthropic": ("Anthropic", "AnthropicBedrock", "AnthropicBedrockMantle", "AnthropicVertex"),
    "openai": ("OpenAI",),
}
"""The classes that are known, asynchronous ones and subclasses too."""


def is_guarded(client: object) -> bool:
    """Tell whether a client has been guarded already."""
    return issubclass(type(client), GuardedClient)


def names_of(client: object) -> Names | None:
    """Return the names that are there on a guarded client of this class, None where the guard does not know it."""
    for kind in type(client).__mro__:
        package = kind.__module__.partition(".")[0]
        if kind.__name__.removeprefix("Async") in _KNOWN.get(package, ()):
            return ANTHROPIC if package == "anthropic" else OPENAI
    return None
