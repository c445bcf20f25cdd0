"""What the official SDKs have in common: one attempt for each call, so that each attempt can be reserved."""

from __future__ import annotations

from typing import TypeVar

from donewhen.errors import CallError

ClientT = TypeVar("ClientT")


def prepare(client: ClientT, *, timeout_seconds: float | None = None) -> ClientT:
    """Return the client with its own retries off, so that no attempt goes out without a reservation.

    The copy shares the original's connections: close the original. A client without ``with_options``, such as a
    scripted one, is returned as it is.

    Args:
        client: an ``anthropic`` or ``openai`` client, blocking or asynchronous, or anything else with ``with_options``.
        timeout_seconds: how long one attempt may be silent. None: as the client has it.

    Raises:
        CallError: the client has middleware, which may send a request more often than it was asked to.
    """
    with_options = getattr(client, "with_options", None)
    if not callable(with_options):
        return client
    if getattr(client, "middleware", None):
        raise CallError(
            "the client has middleware, which may send a request more than once under one reservation. "
            "Give a client without it."
        )
    options: dict[str, object] = {"max_retries": 0}
    if timeout_seconds is not None:
        options["timeout"] = timeout_seconds
    prepared: ClientT = with_options(**options)  # pyright: ignore[reportAssignmentType]  # by both SDKs' contract
    return prepared
