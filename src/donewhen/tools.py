"""Functions as tools: a description for the model out, a call in.

    @tool(held=True)
    def send_mail(to: str, body: str) -> str:
        "Send one mail."

A tool is a plain function whose type hints are its schema, or a mapping with a schema and a handler. Whatever a tool
does wrong goes back to the model as a `ToolResult` with ``is_error``; only Ctrl-C and cancellation pass through.

A time limit ends the waiting, not always the work: an asynchronous handler is cancelled, but a blocking one that hangs
keeps its thread until it returns, since Python cannot kill a thread. Give it time limits of its own, or let it ask
`donewhen.stopping` whether it is to stop. A halt of the session ends the waiting in the same way.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar, cast, overload

from donewhen.client import UNPARSED_ARGUMENTS
from donewhen.errors import ToolError
from donewhen.stops import StopAskedError
from donewhen.timeouts import Ran, arun_within, await_within, find_timeout_fault, is_async, run_within
from donewhen.tool_schema import ArgumentsError, ReadArguments, read_signature

DEFAULT_TIMEOUT_SECONDS = 60.0
DEFAULT_MAX_RESULT_BYTES = 100_000
"""Some 25,000 tokens of English: more than that is seldom meant, and each later turn pays for it again."""

MAX_MESSAGE_CHARS = 2_000
"""How much of an exception's message a model is told."""

NAME_PATTERN = r"[a-zA-Z0-9_-]{1,64}"
"""Source: https://docs.anthropic.com/en/docs/agents-and-tools/tool-use; OpenAI allows the same."""

_KEYS = frozenset({"name", "description", "input_schema", "handler", "held", "timeout_seconds", "max_result_bytes"})
_MARK = "__donewhen_tool__"

_Function = TypeVar("_Function", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What goes back to the model."""

    content: str
    is_error: bool = False
    problem: str | None = None
    """What went wrong, without text of the tool or the model: this enters the ledger."""


STOPPED = ToolResult("The session was halted, so the tool was stopped before it ended.", True, "stopped by a halt")


@dataclass(frozen=True, slots=True, eq=False)
class Tool:
    """Something that a model may call.

    Args:
        name: 1 to 64 of ``a-z A-Z 0-9 _ -``.
        description: what the model is told. Blank: the name in words.
        input_schema: a JSON Schema of type ``object``.
        handler: called with the arguments by name; may be asynchronous.

    Raises:
        ToolError: a field is not as described here, or the schema is none.
        MissingExtraError: jsonschema is not installed, and nothing else reads the arguments.
    """

    name: str
    description: str
    input_schema: Mapping[str, Any]
    handler: Callable[..., object]
    held: bool = field(default=False, kw_only=True)
    """True: not run until a person has attested the exact call."""
    timeout_seconds: float = field(default=DEFAULT_TIMEOUT_SECONDS, kw_only=True)
    """From 0.001 to 86,400. The reading of the arguments and the spelling of the result count."""
    max_result_bytes: int = field(default=DEFAULT_MAX_RESULT_BYTES, kw_only=True)
    """The most that a result may have in UTF-8. 0 allows the empty string alone."""
    read_arguments: ReadArguments | None = field(default=None, kw_only=True, repr=False)
    """Judges the arguments. None: `input_schema` does."""

    def __post_init__(self) -> None:
        _check_fields(self)
        if self.read_arguments is None:
            _check_schema(self)
        object.__setattr__(self, "input_schema", copy.deepcopy(dict(self.input_schema)))
        object.__setattr__(self, "description", self.description.strip() or _words(self.name))

    def definition(self) -> dict[str, Any]:
        """Return what the model is told, in the form of Anthropic's Messages API."""
        schema = copy.deepcopy(dict(self.input_schema))
        return {"name": self.name, "description": self.description, "input_schema": schema}

    def call(self, arguments: object) -> ToolResult:
        """Call the tool and wait; an asynchronous handler gets a private event loop.

        Args:
            arguments: what the model sent. It is copied: the handler may change its own.

        Raises:
            KeyboardInterrupt: the caller, or the handler, was interrupted.
        """
        if is_async(self.handler):
            return self._result(run_within(lambda: self._aperform(arguments), self.timeout_seconds))
        return self._result(run_within(lambda: self._perform(arguments), self.timeout_seconds))

    async def acall(self, arguments: object) -> ToolResult:
        """Call the tool without blocking the event loop; a blocking handler gets a thread.

        Args:
            arguments: as for `call`.

        Raises:
            asyncio.CancelledError: the caller was cancelled.
            KeyboardInterrupt: the handler was interrupted.
        """
        if is_async(self.handler):
            return self._result(await await_within(self._aperform(arguments), self.timeout_seconds))
        return self._result(await arun_within(lambda: self._perform(arguments), self.timeout_seconds))

    def _perform(self, arguments: object) -> object:
        value = self.handler(**self._read(arguments))
        if inspect.isawaitable(value):
            return self._finish(value)
        return self._spell(value)

    async def _aperform(self, arguments: object) -> ToolResult:
        # In a thread: judging by a schema with regular expressions starts a process and waits for it.
        read = await arun_within(lambda: self._read(arguments), None)
        if read.error is not None:
            raise read.error
        value = self.handler(**cast("dict[str, object]", read.value))
        return await self._finish(value) if inspect.isawaitable(value) else self._spell(value)

    async def _finish(self, value: Awaitable[object]) -> ToolResult:
        return self._spell(await value)

    def _read(self, arguments: object) -> dict[str, object]:
        if not isinstance(arguments, Mapping):
            raise ArgumentsError(f"they must be an object, not {type(arguments).__name__}")
        if UNPARSED_ARGUMENTS in arguments:
            raise ArgumentsError("they are not a JSON object; send one")
        # The caller echoes the model's blocks in the next request: what a handler changes must not change those.
        given = copy.deepcopy(dict(cast("Mapping[str, object]", arguments)))
        if self.read_arguments is not None:
            return self.read_arguments(given)
        return _read_by_schema(self.input_schema, given, self.timeout_seconds)

    def _spell(self, value: object) -> ToolResult:
        result = value if isinstance(value, ToolResult) else ToolResult(_content(value))
        content = _without_surrogates(result.content)
        size = len(content.encode())
        if size > self.max_result_bytes:
            told = f"the result has {size:,} bytes, more than the {self.max_result_bytes:,} allowed; ask for less"
            return ToolResult(told, is_error=True, problem="result too large")
        return dataclasses.replace(result, content=content)

    def _result(self, ran: Ran) -> ToolResult:
        if ran.timed_out:
            problem = f"timed out after {self.timeout_seconds:g} seconds"
            return ToolResult(f"the tool {problem}", is_error=True, problem=problem)
        if ran.error is None:
            return cast("ToolResult", ran.value)
        if isinstance(ran.error, StopAskedError):
            return STOPPED
        if isinstance(ran.error, ArgumentsError):
            told = _bounded(f"the arguments do not fit: {ran.error}")
            return ToolResult(told, is_error=True, problem="arguments do not fit")
        if isinstance(ran.error, _NotJSONError):
            return ToolResult(_bounded(f"{ran.error}"), is_error=True, problem="result is not JSON")
        return _failed(ran.error)


@overload
def tool(function: _Function, /) -> _Function: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    held: bool = False,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    max_result_bytes: int = DEFAULT_MAX_RESULT_BYTES,
) -> Callable[[_Function], _Function]: ...


def tool(function: _Function | None = None, /, **options: Any) -> _Function | Callable[[_Function], _Function]:
    """Mark a function with how it is to be offered as a tool; it stays a plain function.

    Args:
        function: the function, where the decorator is used without brackets.
        **options: name, description, held, timeout_seconds, max_result_bytes, as `Tool` has them.

    Raises:
        ToolError: an option that is none, or something that cannot be marked.
    """
    for key, value in options.items():
        if key not in _KEYS - {"handler", "input_schema"}:
            raise ToolError(f"tool() has no option {key!r} (found {value!r})")

    def mark(marked: _Function) -> _Function:
        try:
            setattr(marked, _MARK, dict(options))
        except (AttributeError, TypeError) as error:
            raise ToolError(f"a {type(marked).__name__} cannot be marked as a tool; wrap it in a function") from error
        return marked

    return mark if function is None else mark(function)


def as_tool(source: object) -> Tool:
    """Make a tool of a function, of a mapping with a handler, or return a tool as it is.

    Args:
        source: a `Tool`; a function, sync or async, with a type hint on each parameter; or a mapping with name,
            input_schema, handler and, optionally, description, held, timeout_seconds and max_result_bytes.

    Raises:
        ToolError: it cannot be described to a model, and why.
        MissingExtraError: pydantic, or jsonschema for a mapping, is not installed.
    """
    if isinstance(source, Tool):
        return source
    if isinstance(source, Mapping):
        return _from_mapping(cast("Mapping[str, Any]", source))
    if isinstance(source, type) or not callable(source):
        found = source.__name__ if isinstance(source, type) else type(source).__name__
        raise ToolError(f"{found} is not a tool: give a function, a mapping with a handler, or a Tool")
    return _from_function(source)


def toolbox(sources: Iterable[object]) -> dict[str, Tool]:
    """Make tools of several things, by name, in their order.

    Raises:
        ToolError: as for `as_tool`, or two tools have one name.
        MissingExtraError: as for `as_tool`.
    """
    tools: dict[str, Tool] = {}
    for source in sources:
        made = as_tool(source)
        if made.name in tools:
            raise ToolError(f"two tools are named {made.name!r}")
        tools[made.name] = made
    return tools


def refuse_unknown(name: str, tools: Iterable[str]) -> ToolResult:
    """Return what a model is told that called a tool which does not exist.

    Args:
        name: what the model asked for.
        tools: the names that there are.
    """
    names = ", ".join(tools) or "none"
    return ToolResult(_bounded(f"there is no tool {name!r}; there are: {names}"), is_error=True, problem="unknown tool")


def _from_function(function: Callable[..., object]) -> Tool:
    marks: object = getattr(function, _MARK, None)
    options = dict(cast("Mapping[str, Any]", marks)) if isinstance(marks, Mapping) else {}
    named: object = options.pop("name", None) or getattr(function, "__name__", None)
    if not isinstance(named, str):
        raise ToolError(f"a {type(function).__name__} has no name to be called by: mark it with tool(name=...)")
    _check_name(named)
    signature = read_signature(function, named)
    told = options.pop("description", None)
    return Tool(
        named,
        signature.description if told is None else told,
        signature.input_schema,
        function,
        read_arguments=signature.read_arguments,
        **options,
    )


def _from_mapping(source: Mapping[str, Any]) -> Tool:
    named = source.get("name")
    for key, value in source.items():
        if key not in _KEYS:
            raise ToolError(f"the tool {named!r} has a key that is none: {key!r} (found {value!r})")
    for key in ("name", "input_schema", "handler"):
        if key not in source:
            raise ToolError(f"the tool {named!r} lacks {key!r}")
    fields: dict[str, Any] = {"description": "", **source}
    return Tool(**fields)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or re.fullmatch(NAME_PATTERN, name) is None:
        raise ToolError(f"the name {name!r} is none for a tool: use 1 to 64 letters, digits, '_' and '-'")


def _check_fields(made: Tool) -> None:
    """Check at run time what the types promise: half of all tools come from files and mappings."""
    _check_name(made.name)
    found: dict[str, object] = {entry.name: getattr(made, entry.name) for entry in dataclasses.fields(made)}
    if not isinstance(found["description"], str):
        _refuse(made, "description", "must be text")
    schema = found["input_schema"]
    if not isinstance(schema, Mapping) or cast("Mapping[object, object]", schema).get("type") != "object":
        _refuse(made, "input_schema", 'must be a JSON Schema with "type": "object"')
    if not callable(found["handler"]):
        _refuse(made, "handler", "must be a function")
    if not isinstance(found["held"], bool):
        _refuse(made, "held", "must be true or false")
    fault = find_timeout_fault(found["timeout_seconds"])
    if fault is not None:
        _refuse(made, "timeout_seconds", fault)
    size = found["max_result_bytes"]
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        _refuse(made, "max_result_bytes", "must be a whole number, not below 0")


def _refuse(made: Tool, key: str, problem: str) -> NoReturn:
    raise ToolError(f"the tool {made.name!r}: {key} {problem} (found {getattr(made, key)!r})")


def _check_schema(made: Tool) -> None:
    from donewhen.json_schema import find_schema_fault

    fault = find_schema_fault(made.input_schema)
    if fault is not None:
        raise ToolError(f"the tool {made.name!r}: input_schema is not a JSON Schema: {fault}")


def _read_by_schema(schema: Mapping[str, Any], given: dict[str, object], seconds: float) -> dict[str, object]:
    from donewhen.json_schema import find_mismatches

    faults = find_mismatches(schema, given, timeout_seconds=seconds)
    if faults:
        raise ArgumentsError("; ".join(faults))
    return given


class _NotJSONError(Exception):
    """Tell that a result has no spelling in JSON."""


def _content(value: object) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except _NotJSONError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise _NotJSONError(f"the tool's result is not JSON: {_message(error)}") from error


def _plain(value: object) -> object:
    """Turn a dataclass or a pydantic model into what JSON has."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json")
    raise _NotJSONError(f"the tool's result is not JSON: it holds a value of type {type(value).__name__}")


def _failed(error: BaseException) -> ToolResult:
    # The message may hold private text. The model is told it, the ledger only the kind of error.
    kind = type(error).__name__
    message = _message(error)
    return ToolResult(_bounded(f"{kind}: {message}" if message else kind), is_error=True, problem=kind)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an error whose text cannot be made is still an error of the tool
        return ""


def _bounded(text: str) -> str:
    cut = text if len(text) <= MAX_MESSAGE_CHARS else f"{text[:MAX_MESSAGE_CHARS]}…"
    return _without_surrogates(cut)


def _without_surrogates(text: str) -> str:
    """Join surrogate pairs and replace lone surrogates by U+FFFD: no provider can be sent them."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _words(name: str) -> str:
    return name.replace("_", " ").replace("-", " ").strip() or name
