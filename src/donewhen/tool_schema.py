"""What a model is told about a function: a JSON Schema from its type hints, descriptions from its docstring.

The same hints judge the arguments that the model sends. pydantic does both, and is imported on first use.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from donewhen.errors import MissingExtraError, ToolError

if TYPE_CHECKING:
    from pydantic import BaseModel

ReadArguments = Callable[[Mapping[str, object]], dict[str, object]]
"""Turns what a model sent into what a function is called with, or raises ArgumentsError."""

_SECTION = re.compile(r"(Args|Arguments|Parameters):\s*")
_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_VARIADIC = {
    inspect.Parameter.VAR_POSITIONAL: "takes any number of values (*{name})",
    inspect.Parameter.VAR_KEYWORD: "takes any keyword (**{name})",
    inspect.Parameter.POSITIONAL_ONLY: "is positional only",
}


class ArgumentsError(Exception):
    """Tell a model, in one sentence, which of its arguments do not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a function's signature and docstring say."""

    description: str
    """The docstring's first paragraph, on one line."""
    input_schema: dict[str, Any]
    read_arguments: ReadArguments


def read_signature(function: Callable[..., object], name: str) -> Signature:
    """Read what a model must know to call a function.

    Args:
        function: with a type hint on each of its parameters.
        name: how messages name it.

    Raises:
        ToolError: a parameter has no hint, has one that JSON cannot carry, or cannot be given by name.
        MissingExtraError: pydantic is not installed.
    """
    description, notes = read_docstring(inspect.getdoc(_innermost(function)) or "")
    parameters = _parameters(function, name)
    hints = _hints(function, name)
    for parameter in parameters:
        if parameter.name not in hints:
            raise ToolError(f"the tool {name!r} has no type hint for its parameter {parameter.name!r}")
    model = _make_model(name, parameters, hints, notes)
    return Signature(
        description=description,
        input_schema=_make_schema(model, name, parameters, hints),
        read_arguments=functools.partial(_read, model, [parameter.name for parameter in parameters]),
    )


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return a docstring's first paragraph, and what its Args section says of each parameter."""
    lines = text.splitlines()
    paragraph: list[str] = []
    for line in lines:
        if not line.strip() or _SECTION.fullmatch(line):
            break
        paragraph.append(line.strip())
    return " ".join(paragraph), _read_args_section(lines)


def _read_args_section(lines: list[str]) -> dict[str, str]:
    start = next((number for number, line in enumerate(lines) if _SECTION.fullmatch(line)), len(lines))
    notes: dict[str, str] = {}
    current, entry_indent = "", None
    for line in lines[start + 1 :]:
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent == 0:
            break  # the next section
        entry_indent = indent if entry_indent is None else entry_indent
        entry = _ENTRY.fullmatch(line.strip()) if indent <= entry_indent else None
        if entry is not None:
            current, first = entry.groups()
            notes[current] = first
        elif current and line.strip():
            notes[current] = f"{notes[current]} {line.strip()}".strip()
    return notes


def _parameters(function: Callable[..., object], name: str) -> list[inspect.Parameter]:
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise ToolError(f"the tool {name!r} has no signature that can be read; wrap it in a function") from error
    for parameter in found:
        problem = _VARIADIC.get(parameter.kind)
        if problem is not None:
            raise ToolError(
                f"the tool {name!r} cannot be described to a model: its parameter {parameter.name!r} "
                f"{problem.format(name=parameter.name)}"
            )
    return found


def _hints(function: Callable[..., object], name: str) -> dict[str, Any]:
    target = _innermost(function)
    if not inspect.isroutine(target):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception as error:  # a hint is evaluated: it may raise anything
        raise ToolError(f"the type hints of the tool {name!r} cannot be read: {error}") from error


def _innermost(function: Callable[..., object]) -> Callable[..., object]:
    while isinstance(function, functools.partial):
        function = cast("Callable[..., object]", function.func)
    return function


def _make_model(
    name: str, parameters: list[inspect.Parameter], hints: dict[str, Any], notes: dict[str, str]
) -> type[BaseModel]:
    pydantic = _pydantic()
    # Fields are numbered and carry the parameter's name as an alias: a parameter may be called `json`, `_x` or
    # `model_config`, which pydantic keeps for itself.
    fields: dict[str, Any] = {}
    for number, parameter in enumerate(parameters):
        told: dict[str, Any] = {"alias": parameter.name}
        if parameter.name in notes:
            told["description"] = notes[parameter.name]
        if parameter.default is not inspect.Parameter.empty:
            told["default"] = _check_default(name, parameter)
        fields[f"p{number}"] = (hints[parameter.name], pydantic.Field(**told))
    config = pydantic.ConfigDict(extra="forbid")
    try:
        return cast("type[BaseModel]", pydantic.create_model("Arguments", __config__=config, **fields))
    except Exception as error:  # a hint may be of a type of its own, with its own errors
        raise _name_culprit(name, parameters, hints, error) from error


def _check_default(name: str, parameter: inspect.Parameter) -> object:
    from pydantic.fields import FieldInfo

    default: object = parameter.default
    if isinstance(default, FieldInfo):
        raise ToolError(
            f"the parameter {parameter.name!r} of the tool {name!r} has Field(...) as its default: "
            "write Annotated[type, Field(...)] as its hint"
        )
    return default


def _make_schema(
    model: type[BaseModel], name: str, parameters: list[inspect.Parameter], hints: dict[str, Any]
) -> dict[str, Any]:
    from pydantic.json_schema import GenerateJsonSchema

    class Plain(GenerateJsonSchema):
        """Leaves out the titles, which repeat the names, and defaults that JSON cannot carry."""

        ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - pydantic's own form

        def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
            return False

    try:
        schema = model.model_json_schema(schema_generator=Plain)
    except Exception as error:  # as above
        raise _name_culprit(name, parameters, hints, error) from error
    schema.pop("title", None)
    schema.setdefault("properties", {})
    return schema


def _name_culprit(name: str, parameters: list[inspect.Parameter], hints: dict[str, Any], error: Exception) -> ToolError:
    for parameter in parameters:
        if not _has_json_schema(hints[parameter.name]):
            return ToolError(
                f"the type hint of the parameter {parameter.name!r} of the tool {name!r} "
                f"cannot be described to a model as JSON: {hints[parameter.name]!r}"
            )
    return ToolError(f"the tool {name!r} cannot be described to a model: {type(error).__name__}")


def _has_json_schema(hint: object) -> bool:
    try:
        _pydantic().TypeAdapter(hint).json_schema()
    except Exception:  # noqa: BLE001 - whatever is raised, the answer is no
        return False
    return True


def _read(model: type[BaseModel], names: list[str], arguments: Mapping[str, object]) -> dict[str, object]:
    from pydantic import ValidationError

    try:
        read = model.model_validate(dict(arguments))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise ArgumentsError("; ".join(f"{_spell(fault['loc'])}: {fault['msg']}" for fault in faults)) from error
    # Only what was sent: the function has its own defaults.
    sent = read.model_fields_set
    return {name: getattr(read, f"p{number}") for number, name in enumerate(names) if f"p{number}" in sent}


def _spell(place: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in place) or "arguments"


def _pydantic() -> Any:
    try:
        import pydantic
    except ImportError as error:
        raise MissingExtraError("tools", "a function as a tool") from error
    return pydantic
