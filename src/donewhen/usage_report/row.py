"""One row of a usage report, and what is said of a file that is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal, cast

from donewhen.canonical import MAX_INT
from donewhen.errors import DonewhenError
from donewhen.usage import Usage

Provider = Literal["anthropic", "openai"]

MOST_SHOWN = 80
"""Characters of a wrong value that an error shows."""


class UsageReportError(DonewhenError, ValueError):
    """Tell what is wrong with a usage report.

    Args:
        problem: one sentence.
        path: the file.
        line: where in it, from 1, where that is known.
        field: the field at fault, where there is one.
        value: what was found there.
    """

    def __init__(
        self, problem: str, *, path: str, line: int | None = None, field: str | None = None, value: object = None
    ) -> None:
        super().__init__(problem, path, line, field, value)
        self.problem = problem
        self.path = path
        self.line = line
        self.field = field
        self.value = value

    def __str__(self) -> str:
        where = self.path if self.line is None else f"{self.path}, line {self.line}"
        parts = [where, *([] if self.field is None else [self.field]), self.problem]
        found = "" if self.value is None else f" (found {_shown(self.value)})"
        return ": ".join(parts) + found

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.problem, self.path, self.line, self.field, self.value)


def _again(problem: str, path: str, line: int | None, field: str | None, value: object) -> UsageReportError:
    return UsageReportError(problem, path=path, line=line, field=field, value=value)


def _shown(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 10**MOST_SHOWN:
        return f"a number of more than {MOST_SHOWN} digits"
    said = repr(value)
    return said if len(said) <= MOST_SHOWN else f"{said[:MOST_SHOWN]}…"


@dataclass(slots=True)
class Place:
    """Where in which file one is."""

    path: str
    line: int = 1

    def fault(self, problem: str, field: str | None = None, value: object = None) -> UsageReportError:
        """Return the error that names this place."""
        return UsageReportError(problem, path=self.path, line=self.line, field=field, value=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """What one model was used for in one stretch of time, by one key where the report says so."""

    provider: Provider
    starts_at: datetime
    ends_at: datetime
    """The first moment after it."""
    model: str | None
    """None: the report was not asked to tell models apart, or nothing was used."""
    key: str | None
    """The API key's id or name. None: it does not say."""
    usage: Usage
    requests: int | None
    """How many calls. None: it does not say."""


def count(fields: Mapping[str, Any], name: str, place: Place, *, within: str = "") -> int:
    """Return a number of tokens or calls; 0 where it is absent, null or blank.

    Raises:
        UsageReportError: it is no whole number from 0 on.
    """
    value = fields.get(name)
    if value is None or value == "":
        return 0
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) < MOST_SHOWN):
            raise place.fault("must be a whole number from 0 on", within + name, value)
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_INT:
        raise place.fault("must be a whole number from 0 on", within + name, value)
    return value


def text(fields: Mapping[str, Any], name: str, place: Place) -> str | None:
    """Return a text; None where it is absent, null or blank.

    Raises:
        UsageReportError: it is something else.
    """
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise place.fault("must be text", name, value)
    return value


def time(fields: Mapping[str, Any], name: str, place: Place) -> datetime:
    """Return a moment given in ISO 8601, UTC where it says no zone.

    Raises:
        UsageReportError: it is none.
    """
    value = fields.get(name)
    try:
        # Before 3.11 Python did not read the Z.
        found = datetime.fromisoformat(cast("str", value).strip().replace("Z", "+00:00"))
        return found.replace(tzinfo=found.tzinfo or timezone.utc).astimezone(timezone.utc)
    except (AttributeError, ValueError, OverflowError) as error:
        raise place.fault("must be a time in ISO 8601", name, value) from error


def seconds(fields: Mapping[str, Any], name: str, place: Place) -> datetime:
    """Return a moment given in seconds since 1970.

    Raises:
        UsageReportError: it is none.
    """
    value = count(fields, name, place)
    try:
        return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=value)
    except OverflowError as error:
        raise place.fault("must be a time in seconds since 1970", name, value) from error


def check_span(starts_at: datetime, ends_at: datetime, place: Place, field: str) -> None:
    """Refuse a stretch of time that ends before it begins.

    Raises:
        UsageReportError: it does.
    """
    if ends_at <= starts_at:
        raise place.fault("must be later than the start", field, ends_at.isoformat())


def results(bucket: Mapping[str, Any], place: Place) -> list[Mapping[str, Any]]:
    """Return the results of a bucket.

    Raises:
        UsageReportError: they are no list of objects.
    """
    found: Any = bucket.get("results")
    if not isinstance(found, list):
        raise place.fault("must be a list", "results", found)
    for result in cast("list[object]", found):
        if not isinstance(result, dict):
            raise place.fault("must be a list of objects", "results", result)
    return cast("list[Mapping[str, Any]]", found)
