"""Tools named on the command line as ``module:function``."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import cast

from donewhen.cli.exits import CommandError

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_MAKES_TOOLS = re.compile(r"\b(Callable|Tool)\b")


def load_tools(references: Iterable[str]) -> list[object]:
    """Return the tools that references name.

    A reference names a function, which is a tool; a `Tool`; a list of these; or a function that says in its return
    hint that it returns a list of functions or tools, and is called for them.

    Raises:
        CommandError: there is no such thing, or importing or calling it failed.
    """
    tools: list[object] = []
    for reference in references:
        found = _find(reference)
        if callable(found) and _is_maker(found):
            try:
                found = found()
            except Exception as error:  # the user's own code may raise anything
                raise CommandError(
                    f"--tools {reference}: making the tools failed: {type(error).__name__}: {error}"
                ) from error
        tools.extend(cast("Sequence[object]", found) if isinstance(found, (list, tuple)) else [found])
    return tools


def _find(reference: str) -> object:
    if _REFERENCE.fullmatch(reference) is None:
        raise CommandError(f"--tools {reference}: this is not a reference like module:function")
    module, _, name = reference.partition(":")
    if os.getcwd() not in sys.path:
        # Last, so that no file here takes the place of an installed module; for good, since tools import late.
        sys.path.append(os.getcwd())
    try:
        found: object = importlib.import_module(module)
    except Exception as error:  # the user's own code may raise anything
        raise CommandError(
            f"--tools {reference}: {module} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise CommandError(f"--tools {reference}: {module} has no {name}")
        found = getattr(found, part)
    return found


def _is_maker(found: object) -> bool:
    """Tell whether a function makes tools, rather than being one."""
    if not inspect.isfunction(found):
        return False
    signature = inspect.signature(found)
    needs = any(
        parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        for parameter in signature.parameters.values()
    )
    hint: object = signature.return_annotation
    return not needs and _MAKES_TOOLS.search(hint if isinstance(hint, str) else repr(hint)) is not None
