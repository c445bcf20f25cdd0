"""A client without a network: it returns what a script says, in order."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from donewhen.client import ToolCall

Scripted = object | BaseException | Callable[[Mapping[str, Any]], object]
"""A reply; an exception, which is raised; or a function of the call that returns or raises either."""


class ScriptEndedError(AssertionError):
    """Tell that a scripted client was called more often than its script has replies."""


class ScriptedMessages:
    """The ``.messages`` of a `ScriptedClient`."""

    def __init__(self, script: Sequence[Scripted], *, repeat_last: bool) -> None:
        self._lock = threading.Lock()
        self._script = list(script)
        self._repeat_last = repeat_last
        self._calls: list[dict[str, Any]] = []

    def create(self, **call: Any) -> object:
        """Return the next reply, or raise the next exception.

        Raises:
            ScriptEndedError: the script has no more replies.
        """
        with self._lock:
            self._calls.append(copy.deepcopy(call))
            step = self._next_step(len(self._calls))
        if callable(step) and not isinstance(step, type):
            step = cast("Callable[[Mapping[str, Any]], object]", step)(call)
        if isinstance(step, BaseException):
            raise step
        return step

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Return copies of the calls, as they were when they were made."""
        with self._lock:
            return copy.deepcopy(self._calls)

    def extend(self, *script: Scripted) -> None:
        """Add to the end of the script."""
        with self._lock:
            self._script.extend(script)

    def _next_step(self, number: int) -> Scripted:
        if number <= len(self._script):
            return self._script[number - 1]
        if self._repeat_last and self._script:
            return self._script[-1]
        raise ScriptEndedError(f"call {number} was made, but the script has {len(self._script)} replies")


class AsyncScriptedMessages(ScriptedMessages):
    """The ``.messages`` of an `AsyncScriptedClient`."""

    async def create(self, **call: Any) -> object:
        """Return the next reply, or raise the next exception, after letting other tasks run."""
        import asyncio

        await asyncio.sleep(0)
        result = super().create(**call)
        return await result if asyncio.iscoroutine(result) else result


class ScriptedClient:
    """Answer ``.messages.create(...)`` with a script.

    Args:
        script: replies (mappings, or any object with a reply's attributes), exceptions, or functions of the call.
        repeat_last: go on with the last one for ever, where otherwise running out is an error.
    """

    def __init__(self, *script: Scripted, repeat_last: bool = False) -> None:
        self.messages: ScriptedMessages = ScriptedMessages(script, repeat_last=repeat_last)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Return copies of the calls, as they were when they were made."""
        return self.messages.calls


class AsyncScriptedClient:
    """Answer ``await .messages.create(...)`` with a script, as `ScriptedClient` does."""

    def __init__(self, *script: Scripted, repeat_last: bool = False) -> None:
        self.messages: AsyncScriptedMessages = AsyncScriptedMessages(script, repeat_last=repeat_last)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Return copies of the calls, as they were when they were made."""
        return self.messages.calls


def make_reply(
    text: str = "",
    *,
    tool_calls: Sequence[ToolCall] = (),
    stop_reason: str | None = None,
    input_tokens: int = 10,
    output_tokens: int = 5,
    **usage: int,
) -> dict[str, Any]:
    """Return a reply in the Anthropic form, for a script.

    Args:
        text: what the model says; a blank one makes no block.
        tool_calls: what it asks for.
        stop_reason: None: `tool_use` beside tool calls, else `end_turn`.
        input_tokens: tokens that were neither read from nor written to a cache.
        output_tokens: tokens of the reply.
        usage: other counts, such as cache_read_input_tokens.
    """
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.arguments)} for call in tool_calls
    ]
    return {
        "content": blocks,
        "stop_reason": stop_reason or ("tool_use" if tool_calls else "end_turn"),
        "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens, **usage},
    }
