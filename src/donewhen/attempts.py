"""A turn may take several attempts: what a failed one leaves, and how long to wait for the next.

Each attempt is admitted by itself. The loop and the guard both come through here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from donewhen.client import Failure, classify
from donewhen.errors import LedgerUnavailableError, PermitClosedError
from donewhen.permit import Permit
from donewhen.session import Session

LONGEST_WAIT_SECONDS = 300.0
"""The longest wait for a provider where time has no ceiling."""

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0


def provider_failure(error: Exception) -> Failure:
    """Return what a provider's error means.

    Raises:
        Exception: the error itself, where no provider and no network says so: a bug must not look like bad weather.
    """
    failure = classify(error)
    if failure.status is None and not failure.rejected and not failure.retryable:
        raise error
    return failure


def close_attempt(session: Session, permit: Permit, failure: Failure, ms: int) -> None:
    """Release an attempt that did no work, or write that nobody knows what came of it."""
    close = session.release if failure.rejected else session.abandon
    close(permit, failure, execution_time_ms=ms)


def interrupted(session: Session, permit: Permit, error: BaseException, *, sent: bool) -> None:
    """Write what happened to the attempt under way, before an interruption passes.

    Args:
        sent: whether it has been handed to the client.
    """
    failure = Failure(rejected=not sent, problem=f"interrupted by {type(error).__name__}")
    # Where even that cannot be written, or was written a moment ago, the interruption still is what passes: the
    # reservation stands, so nothing is understated.
    with contextlib.suppress(LedgerUnavailableError, PermitClosedError):
        (session.abandon if sent else session.release)(permit, failure)


def pause_before(
    session: Session, attempt: int, failure: Failure, *, max_attempts: int, jitter: Callable[[], float]
) -> float | str:
    """Return the seconds to wait before another attempt, or the sentence that says why there is none.

    Args:
        attempt: its number, from 2.
        failure: what came of the one before.
        max_attempts: how often one turn may be tried.
        jitter: a number from 0 to 1.
    """
    if not failure.retryable:
        return f"{failure.problem}; another attempt would not help"
    if attempt > max_attempts:
        return f"{failure.problem}, {max_attempts} times"
    seconds = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (attempt - 2)) * (0.5 + jitter() / 2)
    if failure.retry_after_seconds is not None:
        seconds = max(seconds, failure.retry_after_seconds)
    allowed = session.milliseconds_left()
    left = LONGEST_WAIT_SECONDS if allowed is None else allowed / 1000
    if seconds > left:
        return f"{failure.problem} and asks to wait {seconds:.0f} s, longer than the {left:.0f} s that are allowed"
    return seconds
