"""A write to the ledger that a cancelled task does not leave half done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


async def written(do: Callable[[], _T]) -> _T:
    """Do something with the ledger in a thread; a cancel in its middle waits until it is written.

    Raises:
        asyncio.CancelledError: the caller was cancelled; what was under way is written all the same.
    """
    import asyncio

    task = asyncio.ensure_future(asyncio.to_thread(do))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            # Cancelled again while it waits: what is half written is not left alone for that either.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        task.exception()  # the cancel is what passes; that the write failed as well is known to whoever resumes
        raise
