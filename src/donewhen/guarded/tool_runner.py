"""The anthropic SDK's loop that runs tools: each of its calls is a turn, and it runs no tool before that is in the ledger.

Source: anthropic SDK 2.14, `BetaMessages.tool_runner`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from donewhen.errors import NotGovernedError
from donewhen.session import Session


def governed_runner(tool_runner: Callable[..., Any], session: Session) -> Callable[..., Any]:
    """Return the SDK's ``tool_runner`` for a session: without tools that are held, and without threads on the server.

    Raises, where it is called, `NotGovernedError`: it would run a tool that waits for a person, or one whose reply is not
    written yet.
    """
    knows_threads = "thread" in inspect.signature(tool_runner).parameters

    @functools.wraps(tool_runner)
    def begin(*, tools: Iterable[object], **arguments: Any) -> Any:
        given = list(tools)
        held = sorted(session.held_tools.intersection(map(_name_of, given)))
        if held:
            raise NotGovernedError(
                f"tool_runner would run {held[0]!r}, which is held, before anybody let it: call create, and run yourself "
                "what may run"
            )
        if arguments.get("run_tools_eagerly"):
            raise NotGovernedError(
                "run_tools_eagerly runs a tool before the reply that asks for it is in the ledger: leave it out"
            )
        if knows_threads:
            arguments.setdefault("thread", False)  # what a thread holds on the server nobody can count here
        return tool_runner(tools=given, **arguments)

    return begin


def _name_of(tool: object) -> str:
    named = cast("Mapping[str, object]", tool).get("name") if isinstance(tool, Mapping) else getattr(tool, "name", None)
    return str(named)
