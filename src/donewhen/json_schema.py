"""JSON Schema, by the jsonschema package: is this a schema, and does that value fit it?

References to other documents are never fetched. Formats are not judged, as the standard's default is.
Source: https://json-schema.org/draft/2020-12/json-schema-core (a schema's own ``$schema`` decides its dialect).
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Protocol, cast

from donewhen.errors import MissingExtraError
from donewhen.isolated import IsolatedError, call_isolated

MAX_MISMATCHES = 5
"""A handful is what a model can act on; a list of a million wrong items says no more."""

MAX_MESSAGE_CHARS = 300


class _SchemaFault(Protocol):
    json_path: str
    message: str


class _Validator(Protocol):
    def iter_errors(self, instance: object) -> Iterator[_SchemaFault]: ...


class _ValidatorType(Protocol):
    def check_schema(self, schema: object) -> None: ...

    def __call__(self, schema: object, *, registry: object) -> _Validator: ...


def find_schema_fault(schema: object) -> str | None:
    """Return why something is not a JSON Schema, or None if it is one.

    Raises:
        MissingExtraError: jsonschema is not installed.
    """
    if not isinstance(schema, (Mapping, bool)):
        return f"a schema is an object or a boolean, not {type(schema).__name__}"
    known = cast("object", schema)
    try:
        _validator_type(known).check_schema(known)
    except MissingExtraError:
        raise
    except Exception as error:  # noqa: BLE001 - jsonschema raises several kinds; each means "not a schema"
        return _shorten(str(getattr(error, "message", error)) or type(error).__name__)
    return None


def find_mismatches(schema: object, value: object, *, timeout_seconds: float) -> list[str]:
    """Return how a value fails a schema, in at most five sentences; an empty list if it fits.

    A schema with regular expressions is judged in a process of its own, with the time limit. One without is judged
    in the calling thread, which is yours to bound.

    Raises:
        MissingExtraError: jsonschema is not installed.
        TimeoutError: an expression took longer than that.
        IsolatedError: the schema cannot be applied, for example because of a reference that leads nowhere.
    """
    _load("jsonschema")
    if not _has_patterns(schema):
        try:
            return judge(schema, value)
        except Exception as error:
            raise IsolatedError(f"{type(error).__name__}: {_shorten(str(error))}") from error
    answer = call_isolated("donewhen.json_schema:judge", schema, value, timeout_seconds=timeout_seconds)
    return [str(sentence) for sentence in cast("list[object]", answer)]


def judge(schema: object, value: object) -> list[str]:
    """Return how a value fails a schema, in this thread and without a time limit."""
    registry = _load("jsonschema_specifications").REGISTRY
    faults = _validator_type(schema)(schema, registry=registry).iter_errors(value)
    return [f"{fault.json_path}: {_shorten(fault.message)}" for fault in itertools.islice(faults, MAX_MISMATCHES)]


def _validator_type(schema: object) -> _ValidatorType:
    jsonschema = _load("jsonschema")
    return cast("_ValidatorType", jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator))


def _load(name: str) -> _Module:
    try:
        return cast("_Module", cast("object", importlib.import_module(name)))
    except ImportError as error:
        raise MissingExtraError("tools", "judging JSON by a schema") from error


def _has_patterns(schema: object) -> bool:
    """Tell whether judging by a schema may run a regular expression: its own, or one of a schema it refers to."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            fields = cast("Mapping[str, object]", part)
            if {"pattern", "patternProperties"} & fields.keys() or _refers_outside(fields):
                return True
            waiting.extend(fields.values())
        elif isinstance(part, list):
            waiting.extend(cast("list[object]", part))
    return False


def _refers_outside(fields: Mapping[str, object]) -> bool:
    targets = (fields.get(key) for key in ("$ref", "$dynamicRef", "$recursiveRef"))
    return any(isinstance(target, str) and not target.startswith("#") for target in targets)


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_CHARS else f"{text[:MAX_MESSAGE_CHARS]}…"


class _Validators(Protocol):
    def validator_for(self, schema: object, default: object) -> object: ...


class _Module(Protocol):
    """What is used of the two packages, whose types are not published."""

    validators: _Validators
    Draft202012Validator: object
    REGISTRY: object
