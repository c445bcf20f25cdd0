"""Checks that read the output: Regex, JsonSchema; and Human, for what only a person can judge."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from donewhen.checks import base
from donewhen.checks.base import CheckContext, CheckResult, failed, guarded, met, not_met
from donewhen.errors import CheckError
from donewhen.isolated import IsolatedError, call_isolated
from donewhen.timeouts import Ran, arun_within, run_within

_MAX_CANONICAL_INT = 2**53 - 1
"""The greatest whole number that every JSON reader keeps. Source: RFC 8785 section 3.2.2.3, RFC 7493 section 2.2."""


Schema = Mapping[str, Any] | bool


@dataclass(frozen=True, slots=True, init=False)
class Regex:
    """Search the output for a pattern of Python's `re`.

    It is searched in a process of its own, some 50 ms, since a pattern that backtracks for ever cannot be stopped
    otherwise: it is an error when its time is up.

    Args:
        pattern: flags are written into it: ``(?im)``.
        name: how rows and messages call it. None: the pattern.
        absent: True: met if the pattern matches nowhere.
        timeout_seconds: from 0.001 to 86,400.

    Raises:
        CheckError: an argument is not as described here, or the pattern is not one.
    """

    pattern: str
    name: str
    absent: bool
    timeout_seconds: float

    def __init__(
        self, pattern: str, *, name: str | None = None, absent: bool = False, timeout_seconds: float = 10
    ) -> None:
        if not isinstance(cast("object", absent), bool):
            raise base.wrong("regex", "absent", absent, "must be true or false")
        base.fix(
            self,
            pattern=_read_pattern(pattern),
            name=base.read_name("regex", name, f"{'does not match' if absent else 'matches'} {pattern}"),
            absent=absent,
            timeout_seconds=base.read_timeout("regex", timeout_seconds),
        )

    def describe(self) -> dict[str, Any]:
        """Return the check as plain data; `check_from` is the inverse."""
        told = {"check": "regex", "name": self.name, "pattern": self.pattern, "absent": self.absent}
        return told | base.describe_timeout(self.timeout_seconds)

    def run(self, context: CheckContext) -> CheckResult:
        """Search the output."""
        return guarded(self.name, lambda: self._judge(context.output))

    async def arun(self, context: CheckContext) -> CheckResult:
        """Search the output without blocking the event loop."""
        return base.judged(self.name, await arun_within(lambda: self.run(context), None))

    def _judge(self, output: str) -> CheckResult:
        target = "donewhen.isolated:find_span"
        try:
            span = call_isolated(target, self.pattern, output, timeout_seconds=self.timeout_seconds)
        except TimeoutError as error:
            raise CheckError(f"the search for the pattern {error}") from error
        except IsolatedError as error:
            raise CheckError(f"the pattern cannot be searched for: {error}") from error
        if (span is None) is self.absent:
            return met(self.name)
        if span is None:
            return not_met(self.name, f"the output does not match the pattern {self.pattern!r}")
        start, end = cast("list[int]", span)
        return not_met(
            self.name,
            f"the output matches the pattern {self.pattern!r}, which it must not, "
            f"at character {start + 1}: {output[start : min(end, start + 100)]!r}",
        )


@dataclass(frozen=True, slots=True, init=False)
class JsonSchema:
    """Judge the output, as JSON, by a JSON Schema.

    The output is JSON as a whole, or holds one fenced block marked ``json``. Keys that stand twice, NaN and Infinity
    are not JSON. References to other documents are not fetched.

    Args:
        schema: an object or a boolean, or either as JSON text.
        name: how rows and messages call it. None: the schema's title, or "matches the JSON schema".
        timeout_seconds: from 0.001 to 86,400.

    Raises:
        CheckError: an argument is not as described here, or the schema is none.
        MissingExtraError: jsonschema is not installed.
    """

    schema_text: str
    """The schema as JSON, keys sorted, so that two checks of one schema are equal."""
    name: str
    timeout_seconds: float

    def __init__(self, schema: Schema | str, *, name: str | None = None, timeout_seconds: float = 10) -> None:
        text = _read_schema(schema)
        title: object = cast("object", json.loads(text).get("title")) if text.startswith("{") else None
        usual = title if isinstance(title, str) and title.strip() else "matches the JSON schema"
        base.fix(
            self,
            schema_text=text,
            name=base.read_name("json_schema", name, base.bounded(usual)),
            timeout_seconds=base.read_timeout("json_schema", timeout_seconds),
        )

    @property
    def schema(self) -> dict[str, Any] | bool:
        """Return the schema, a copy."""
        return cast("dict[str, Any] | bool", json.loads(self.schema_text))

    def describe(self) -> dict[str, Any]:
        """Return the check as plain data; a schema that rows cannot hold (fractions, NUL) is given as text."""
        schema = self.schema if _is_canonical(self.schema) else self.schema_text
        told: dict[str, Any] = {"check": "json_schema", "name": self.name, "schema": schema}
        return told | base.describe_timeout(self.timeout_seconds)

    def run(self, context: CheckContext) -> CheckResult:
        """Judge the output, within the time limit."""
        ran = run_within(lambda: guarded(self.name, lambda: self._judge(context.output)), self.timeout_seconds)
        return self._read(ran)

    async def arun(self, context: CheckContext) -> CheckResult:
        """Judge the output without blocking the event loop."""
        judge = lambda: guarded(self.name, lambda: self._judge(context.output))  # noqa: E731 - as in run
        ran = await arun_within(judge, self.timeout_seconds)
        return self._read(ran)

    def _read(self, ran: Ran) -> CheckResult:
        return self._late() if ran.timed_out else base.judged(self.name, ran)

    def _judge(self, output: str) -> CheckResult:
        from donewhen.json_schema import find_mismatches

        try:
            value = read_json(output)
        except NotJSONError as error:
            return not_met(self.name, f"the output is not JSON: {error}")
        try:
            faults = find_mismatches(self.schema, value, timeout_seconds=self.timeout_seconds)
        except TimeoutError:
            return self._late()
        except IsolatedError as error:
            raise CheckError(f"the schema cannot be applied: {error}") from error
        return not_met(self.name, "; ".join(faults)) if faults else met(self.name)

    def _late(self) -> CheckResult:
        return failed(self.name, f"judging by the schema took longer than {self.timeout_seconds:g} seconds")


@dataclass(frozen=True, slots=True, init=False)
class Human:
    """Leave a criterion to a person: pending, until the reviewer has judged.

    Args:
        criterion: what the person is to judge, in one sentence.

    Raises:
        CheckError: the criterion is blank or not text.
    """

    criterion: str

    def __init__(self, criterion: str) -> None:
        base.fix(self, criterion=base.read_text("human", "criterion", criterion))

    @property
    def name(self) -> str:
        """Return the criterion, on one line and cut to 200 characters."""
        return base.read_name("human", None, self.criterion)

    def describe(self) -> dict[str, Any]:
        """Return the check as plain data; `check_from` is the inverse."""
        return {"check": "human", "criterion": self.criterion}

    def run(self, context: CheckContext) -> CheckResult:  # noqa: ARG002 - the interface of a check
        """Return that a person has to judge."""
        return CheckResult(self.name, "pending", self.criterion)

    async def arun(self, context: CheckContext) -> CheckResult:
        """Return that a person has to judge."""
        return self.run(context)


class NotJSONError(ValueError):
    """Tell, in one sentence, why text is not JSON."""


def read_json(text: str) -> object:
    """Read text that is JSON as a whole, or holds exactly one fenced block marked ``json``.

    Raises:
        NotJSONError: it is neither.
    """
    blocks = _fenced_blocks(text)
    if len(blocks) > 1:
        raise NotJSONError(f"it has {len(blocks)} blocks marked json; give one")
    if not blocks:
        return _load(text)
    try:
        return _load(text)
    except NotJSONError:
        return _load(blocks[0])


def _fenced_blocks(text: str) -> list[str]:
    blocks: list[str] = []
    block: list[str] | None = None
    for line in text.splitlines():
        mark = line.strip()
        if block is None and mark.lower() == "```json":
            block = []
        elif block is not None and mark == "```":
            blocks.append("\n".join(block))
            block = None
        elif block is not None:
            block.append(line)
    return blocks


def _load(text: str) -> object:
    try:
        return cast("object", json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant))
    except NotJSONError:
        raise
    except RecursionError as error:
        raise NotJSONError("it is nested too deep") from error
    except ValueError as error:
        raise NotJSONError(str(error)) from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise NotJSONError(f"the key {twice!r:.100} stands twice in one object")
    return found


def _refuse_constant(spelled: str) -> object:
    raise NotJSONError(f"{spelled} is no number in JSON")


def _read_pattern(pattern: object) -> str:
    if not isinstance(pattern, str) or not pattern or "\0" in pattern or base.without_surrogates(pattern) != pattern:
        raise base.wrong("regex", "pattern", pattern, "must be text that is not empty")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError, Warning) as error:
        raise base.wrong("regex", "pattern", pattern, f"is not a regular expression: {error}") from error
    return pattern


def _read_schema(schema: object) -> str:
    from donewhen.json_schema import find_schema_fault

    known = schema
    try:
        known = cast("object", json.loads(schema)) if isinstance(schema, str) else schema
        text = json.dumps(known, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise base.wrong("json_schema", "schema", schema, f"is not JSON: {error}") from error
    fault = find_schema_fault(known)
    if fault is not None:
        raise base.wrong("json_schema", "schema", schema, f"is not a JSON Schema: {fault}")
    return text


def _is_canonical(value: object) -> bool:
    if isinstance(value, float):
        return False
    if isinstance(value, int):
        return abs(value) <= _MAX_CANONICAL_INT
    if isinstance(value, str):
        return "\0" not in value and base.without_surrogates(value) == value
    if isinstance(value, dict):
        return all(_is_canonical(part) for pair in cast("dict[str, object]", value).items() for part in pair)
    return all(_is_canonical(part) for part in cast("list[object]", value)) if isinstance(value, list) else True
