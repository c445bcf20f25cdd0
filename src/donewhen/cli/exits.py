"""The exit codes, and which error and which outcome lead to which."""

from __future__ import annotations

from collections.abc import Mapping

from donewhen import errors

DONE = 0
FAILED = 1
USAGE = 2
NOT_ATTESTED = 3
CEILING = 4
REJECTED = 5
UNMET = 6
LEDGER = 7
NOT_PROVABLE = 8
RUNNING = 75
STOPPED = 130

MEANINGS: Mapping[int, str] = {
    DONE: "done",
    FAILED: "anything else: the model or the provider failed, or a fault of donewhen",
    USAGE: "wrong usage, or a wrong spec",
    NOT_ATTESTED: "not attested: something waits for a person",
    CEILING: "stopped at a ceiling, or halted by a person",
    REJECTED: "rejected by a reviewer",
    UNMET: "stopped with checks unmet",
    LEDGER: "the ledger cannot be read or written, or is not what was signed or what the provider counted",
    NOT_PROVABLE: "not provable: no key was given, the ledger is unsigned, or a witness that was asked for is missing",
    RUNNING: "already running",
    STOPPED: "stopped with Ctrl-C; 143 with SIGTERM",
}
"""What each code means, for the help and the README."""

OUTCOMES: Mapping[str, int] = {
    "done": DONE,
    "held": NOT_ATTESTED,
    "breached": CEILING,
    "halted": CEILING,
    "unmet": UNMET,
}
"""The code of each outcome of a session; every other one is `FAILED`."""

_ERRORS: tuple[tuple[type[Exception], int], ...] = (
    (errors.SpecError, USAGE),
    (errors.MissingExtraError, USAGE),
    (errors.ToolError, USAGE),
    (errors.CheckError, USAGE),
    (errors.PriceUnknownError, USAGE),
    (errors.UnboundedRequestError, USAGE),
    (errors.HaltedError, CEILING),
    (errors.SessionBusyError, RUNNING),
    (errors.SessionNotFoundError, USAGE),
    (errors.BudgetNotFoundError, USAGE),
    (errors.FrameChangedError, NOT_ATTESTED),
    (errors.NotReleasedError, NOT_ATTESTED),
    (errors.AttestationError, NOT_ATTESTED),
    (errors.CircuitBreakerError, CEILING),
    (errors.NotProvableError, NOT_PROVABLE),
    (errors.StoreAddressError, USAGE),
    (errors.LedgerError, LEDGER),
)


class CommandError(errors.DonewhenError):
    """End a command with one sentence and an exit code."""

    def __init__(self, message: str, exit_code: int = USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def code_of(error: Exception) -> int:
    """Return the exit code for an error."""
    if isinstance(error, CommandError):
        return error.exit_code
    if isinstance(error, errors.NotReleasedError) and error.rejected:
        return REJECTED
    if isinstance(error, errors.SessionEndedError):
        # A session that stays stopped is told like one that was stopped just now.
        return OUTCOMES.get(error.outcome, USAGE) or USAGE
    return next((code for kind, code in _ERRORS if isinstance(error, kind)), FAILED)


def epilog() -> str:
    """Return the list of exit codes for the help."""
    lines = "\n".join(f"{code:>3}  {meaning}" for code, meaning in MEANINGS.items())
    return f"\b\nExit codes:\n{lines}"
