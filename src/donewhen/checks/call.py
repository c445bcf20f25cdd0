"""A check that calls a function."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from donewhen.checks import base
from donewhen.checks.base import CheckContext, CheckResult, failed, met, not_met
from donewhen.errors import CheckError
from donewhen.timeouts import Ran, arun_within, await_within, is_async, run_within

_KIND = "call"
_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

_import_lock = threading.Lock()
"""Guards sys.path while a check's module is imported."""

CheckFunction = Callable[..., object]


@dataclass(frozen=True, slots=True, init=False)
class Call:
    """Call a function with the output, and read its answer.

    True is met; False is not met; text is not met, with that text as the reason; a `CheckResult` is taken as it is,
    under this check's name. Anything else, None above all, is an error, and so is an exception. The function may be
    asynchronous. It is given the `CheckContext` if its parameter is named ``context`` or hinted so, else the output.

    A reference is imported when the check first runs, the session's folder last on the path: keep the module where
    the agent cannot write. A blocking function that hangs keeps its thread after its time is up. A spec freezes which
    function is called, not what is in it.

    Args:
        function: a function, or a reference to one: ``module:function``.
        name: how rows and messages call it. None: the reference.
        timeout_seconds: from 0.001 to 86,400.

    Raises:
        CheckError: an argument is not as described here.
    """

    function: CheckFunction | str
    name: str
    timeout_seconds: float

    def __init__(self, function: CheckFunction | str, *, name: str | None = None, timeout_seconds: float = 60) -> None:
        base.fix(
            self,
            function=_read_function(function),
            name=base.read_name(_KIND, name, _reference(function)),
            timeout_seconds=base.read_timeout(_KIND, timeout_seconds),
        )

    def describe(self) -> dict[str, Any]:
        """Return the check as plain data. A function without a place in a module is named, but cannot be made again."""
        told: dict[str, Any] = {"check": _KIND, "name": self.name, "function": _reference(self.function)}
        return told | base.describe_timeout(self.timeout_seconds)

    def run(self, context: CheckContext) -> CheckResult:
        """Call the function and wait; an asynchronous one gets a private event loop."""
        return self._read(run_within(lambda: _call(self.function, context), self.timeout_seconds))

    async def arun(self, context: CheckContext) -> CheckResult:
        """Call the function without blocking the event loop; a blocking one gets a thread."""
        found = await arun_within(lambda: _find(self.function, context.folder), self.timeout_seconds)
        if found.timed_out or found.error is not None:
            return self._read(found)
        function = cast("CheckFunction", found.value)
        if is_async(function):
            return self._read(await await_within(_await(function, context), self.timeout_seconds))
        return self._read(await arun_within(lambda: _call(function, context), self.timeout_seconds))

    def _read(self, ran: Ran) -> CheckResult:
        if ran.timed_out:
            return failed(self.name, f"the function took longer than {self.timeout_seconds:g} seconds")
        if ran.error is not None:
            return failed(self.name, base.fault_of(ran.error))
        return self._judge(ran.value)

    def _judge(self, value: object) -> CheckResult:
        if isinstance(value, CheckResult):
            return CheckResult(self.name, value.outcome, value.detail)
        if isinstance(value, bool):
            return met(self.name) if value else not_met(self.name, "the function answered False")
        if isinstance(value, str):
            return not_met(self.name, value if value.strip() else "the function gave a blank reason")
        if value is None:
            return failed(self.name, "the function returned nothing; return True, False or a reason")
        return failed(self.name, f"the function returned a {type(value).__name__}; return True, False or a reason")


def _read_function(function: object) -> CheckFunction | str:
    if isinstance(function, str):
        if _REFERENCE.fullmatch(function) is None:
            raise base.wrong(_KIND, "function", function, "must be a reference like module:function")
        return function
    if not callable(function) or isinstance(function, type):
        raise base.wrong(_KIND, "function", function, "must be a function, or a reference like module:function")
    _takes_context(function)
    return function


def _reference(function: CheckFunction | str) -> str:
    if isinstance(function, str):
        return function
    kind = type(function)
    module: object = getattr(function, "__module__", None) or kind.__module__
    name: object = getattr(function, "__qualname__", None) or f"<{kind.__qualname__}>"
    return f"{module}:{name}"


def _call(function: CheckFunction | str, context: CheckContext) -> object:
    found = _find(function, context.folder)
    return found(context) if _takes_context(found) else found(context.output)


async def _await(function: CheckFunction, context: CheckContext) -> object:
    answer = _call(function, context)
    return await answer if inspect.isawaitable(answer) else answer


def _takes_context(function: CheckFunction) -> bool:
    """Tell whether to give the context rather than the output.

    Raises:
        CheckError: the function cannot be called with one value.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:
        return False  # some built-in functions have no signature to read
    try:
        signature.bind(None)
    except TypeError as error:
        raise base.wrong(_KIND, "function", function, "must take one value: the output, or the context") from error
    first = next(iter(signature.parameters.values()))
    hint: object = first.annotation
    hinted = hint is CheckContext or (isinstance(hint, str) and hint.strip("'\"").rsplit(".")[-1] == "CheckContext")
    return hinted or first.name == "context"


def _find(function: CheckFunction | str, folder: Path) -> CheckFunction:
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    found: object = _import(module, folder)
    for part in name.split("."):
        if not hasattr(found, part):
            raise CheckError(f"there is no function {function!r}")
        found = cast("object", getattr(found, part))
    if not callable(found):
        raise CheckError(f"{function!r} is not a function")
    return found


def _import(module: str, folder: Path) -> object:
    with _import_lock:
        place = str(folder.resolve())
        is_new = place not in sys.path
        if is_new:
            # Last: a file of the session must not take the place of an installed module.
            sys.path.append(place)
        try:
            importlib.invalidate_caches()
            return importlib.import_module(module)
        except ImportError as error:
            raise CheckError(f"the module {module!r} cannot be imported: {error}") from error
        finally:
            if is_new:
                sys.path.remove(place)
