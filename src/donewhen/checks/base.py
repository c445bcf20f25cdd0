"""What every check has in common: what it is given, what it answers, and how its fields are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args, runtime_checkable

from donewhen.errors import CheckError
from donewhen.timeouts import Ran, find_timeout_fault

Outcome = Literal["met", "not_met", "error", "pending"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)

MAX_DETAIL_CHARS = 2_000
"""The most that a detail has: it goes back to the model, who pays for it in each later turn."""

MAX_NAME_CHARS = 200


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What a check may look at."""

    output: str
    """The text that the model says is finished."""
    session_id: str
    folder: Path
    """Where the session works. Relative paths are meant from here."""
    protected: Mapping[str, str] = field(default_factory=dict[str, str])
    """What `protected_digests` found when the session opened."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came of a check.

    Raises:
        CheckError: the outcome is none of the four, or the detail is not text.
    """

    name: str
    outcome: Outcome
    """error: the check could not be judged, which is never the model's problem. pending: a person has to judge."""
    detail: str = ""
    """Why. At most 2,000 characters, without NUL and lone surrogates; longer text is cut."""

    def __post_init__(self) -> None:
        outcome, detail = cast("object", self.outcome), cast("object", self.detail)
        if outcome not in OUTCOMES or not isinstance(detail, str):
            raise CheckError(f"a result has an outcome of {OUTCOMES} and a text (found {outcome!r}, {detail!r:.100})")
        object.__setattr__(self, "detail", bounded(detail))


@runtime_checkable
class Check(Protocol):
    """One machine-run test of the promise. Its fields never change once it is made."""

    @property
    def name(self) -> str:
        """How rows and messages call it."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the check as plain data that canonical JSON can spell, for `check_from`."""
        ...

    def run(self, context: CheckContext) -> CheckResult:
        """Judge the output. A fault of the check itself is the outcome "error", never raised."""
        ...

    async def arun(self, context: CheckContext) -> CheckResult:
        """Judge the output without blocking the event loop; cancellation passes through."""
        ...


def met(name: str) -> CheckResult:
    """Return that a check is met."""
    return CheckResult(name, "met")


def not_met(name: str, detail: str) -> CheckResult:
    """Return that a check is not met, and what the model should know."""
    return CheckResult(name, "not_met", detail)


def failed(name: str, detail: str) -> CheckResult:
    """Return that a check could not be judged."""
    return CheckResult(name, "error", detail)


def guarded(name: str, judge: Callable[[], CheckResult]) -> CheckResult:
    """Judge, and turn whatever goes wrong in doing so into the outcome "error"."""
    try:
        return judge()
    except Exception as error:  # noqa: BLE001 - a bug in a check must end as its outcome, not as the session's crash
        return failed(name, fault_of(error))


def judged(name: str, ran: Ran) -> CheckResult:
    """Return what came of judging in a thread that did end; an error where it was to stop."""
    return cast("CheckResult", ran.value) if ran.error is None else failed(name, fault_of(ran.error))


def fault_of(error: BaseException) -> str:
    """Return one sentence about an error in a check."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - an error whose text cannot be made still has a kind
        message = ""
    if isinstance(error, CheckError):
        return message
    kind = type(error).__name__
    return f"the check itself failed: {kind}: {message}" if message else f"the check itself failed: {kind}"


def bounded(text: str) -> str:
    """Return text that can be stored and sent: cut to 2,000 characters, NUL and lone surrogates replaced by U+FFFD."""
    cut = text if len(text) <= MAX_DETAIL_CHARS else f"{text[: MAX_DETAIL_CHARS - 1]}…"
    return without_surrogates(cut).replace("\0", "\ufffd")


def without_surrogates(text: str) -> str:
    """Join surrogate pairs and replace lone surrogates by U+FFFD, so that UTF-8 can spell the text."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def fix(check: object, **fields: object) -> None:
    """Set the fields of a frozen check while it is being made."""
    for key, value in fields.items():
        object.__setattr__(check, key, value)


def read_text(kind: str, key: str, value: object) -> str:
    """Return a field that must be text, not blank, without NUL and lone surrogates.

    Raises:
        CheckError: it is not; names the key and the value.
    """
    if not isinstance(value, str) or not value.strip() or "\0" in value or without_surrogates(value) != value:
        raise wrong(kind, key, value, "must be text that is not blank")
    return value


def read_name(kind: str, name: object, default: str) -> str:
    """Return a check's name: the one given, or the default on one line and cut to 200 characters.

    Raises:
        CheckError: a name was given that is blank, not text, or too long.
    """
    if name is None:
        line = " ".join(default.split())
        return line if len(line) <= MAX_NAME_CHARS else f"{line[: MAX_NAME_CHARS - 1]}…"
    given = read_text(kind, "name", name)
    if len(given) > MAX_NAME_CHARS:
        raise wrong(kind, "name", name, f"must have at most {MAX_NAME_CHARS} characters")
    return given


def read_timeout(kind: str, seconds: object) -> float:
    """Return a time limit in seconds, to the millisecond.

    Raises:
        CheckError: it is none.
    """
    fault = find_timeout_fault(seconds)
    if fault is not None:
        raise wrong(kind, "timeout_seconds", seconds, fault)
    return round(cast("float", seconds) * 1000) / 1000


def describe_timeout(seconds: float) -> dict[str, int]:
    """Return a time limit as a field: canonical JSON has no fractions, so they are spelled in milliseconds."""
    milliseconds = round(seconds * 1000)
    return {"timeout_ms": milliseconds} if milliseconds % 1000 else {"timeout_seconds": milliseconds // 1000}


def wrong(kind: str, key: str, value: object, problem: str) -> CheckError:
    """Return the error about one field of a check."""
    return CheckError(f"the check {kind!r}: {key} {problem} (found {shown(value)})")


def shown(value: object) -> str:
    """Return how a message shows a value: as Python spells it, at most 200 characters."""
    try:
        return f"{value!r:.200}"
    except Exception:  # noqa: BLE001 - a whole number of 5,000 digits has no spelling, for one
        return f"a {type(value).__name__} that cannot be shown"
