"""What `done_when` says: tests of the promise that a machine runs, and those that only a person can judge.

    checks = [Shell(["pytest", "-q"], protects=["tests"]), Regex(r"(?m)^## Summary$"), Human("The tone is friendly.")]

A check answers met, not_met, error or pending. What is not met goes back to the model with its detail; an error means
that nothing is known, stops the session, and is never the model's problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from donewhen.checks import base
from donewhen.checks.base import OUTCOMES, Check, CheckContext, CheckResult, Outcome
from donewhen.checks.call import Call
from donewhen.checks.protected import take_digests
from donewhen.checks.shell import Shell
from donewhen.checks.text import Human, JsonSchema, Regex
from donewhen.errors import CheckError

__all__ = [
    "OUTCOMES",
    "Call",
    "Check",
    "CheckContext",
    "CheckResult",
    "Human",
    "JsonSchema",
    "Outcome",
    "Regex",
    "Shell",
    "check_from",
    "protected_digests",
]

_MAX_TIMEOUT_MS = 86_400_000
_COMMON = ("name", "timeout_seconds", "timeout_ms")
_KINDS: dict[str, tuple[Callable[..., Check], str, tuple[str, ...]]] = {
    "shell": (Shell, "command", (*_COMMON, "protects", "folder")),
    "regex": (Regex, "pattern", (*_COMMON, "absent")),
    "json_schema": (JsonSchema, "schema", _COMMON),
    "call": (Call, "function", _COMMON),
    "human": (Human, "criterion", ()),
}
"""By kind: what makes it, the key it must have, the keys it may have."""


def check_from(described: Mapping[str, Any]) -> Check:
    """Make a check of plain data, as `describe` gives it or a person writes it.

    Args:
        described: ``check`` is one of shell, regex, json_schema, call and human; the rest are that check's arguments.
            The time limit is ``timeout_seconds``, or ``timeout_ms``, a whole number.

    Raises:
        CheckError: a key is unknown, missing, or has a wrong value; names the key and the value.
        MissingExtraError: jsonschema is not installed, and the check needs it.
    """
    if not isinstance(cast("object", described), Mapping):
        raise CheckError(f"a check must be a table of keys (found {base.shown(described)})")
    fields = dict(described)
    kind: object = fields.pop("check", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise CheckError(f"check must be one of {', '.join(_KINDS)} (found {base.shown(kind)})")
    make, needed, allowed = _KINDS[kind]
    for key, value in fields.items():
        if key != needed and key not in allowed:
            raise base.wrong(kind, key, value, "is no key of it")
    if needed not in fields:
        raise CheckError(f"the check {kind!r}: {needed} is missing")
    return make(fields.pop(needed), **_with_seconds(kind, fields))


def protected_digests(checks: Iterable[Check], folder: Path) -> dict[str, str]:
    """Return the hash of every file that the checks protect, by its path from the folder.

    Taken when a session opens, and given to each check in its context.

    Raises:
        CheckError: a protected path holds no file, or cannot be read.
    """
    return take_digests((path for check in checks for path in getattr(check, "protects", ())), folder)


def _with_seconds(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    for key in ("name", "timeout_seconds", "folder"):
        if key in fields and fields[key] is None:
            raise base.wrong(kind, key, None, "must have a value, or be left out")
    if "timeout_ms" not in fields:
        return fields
    milliseconds: object = fields.pop("timeout_ms")
    if "timeout_seconds" in fields:
        raise base.wrong(kind, "timeout_ms", milliseconds, "stands beside timeout_seconds")
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int) or not 0 < milliseconds <= _MAX_TIMEOUT_MS:
        raise base.wrong(kind, "timeout_ms", milliseconds, f"must be a whole number from 1 to {_MAX_TIMEOUT_MS:,}")
    return {**fields, "timeout_seconds": milliseconds / 1000}
