"""Perform what a generator yields, blocking or awaited, so that both share every decision."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

from donewhen.steps import Step

_T = TypeVar("_T")


def drive(flow: Generator[Step, Any, _T], perform: Callable[[Step], Any]) -> _T:
    """Perform what the flow yields, and send it what came of it."""
    try:
        step = next(flow)
        while True:
            try:
                came = perform(step)
            except BaseException as error:  # noqa: BLE001 - the flow writes what happened, then lets it pass
                step = flow.throw(error)
            else:
                step = flow.send(came)
    except StopIteration as end:
        return end.value


async def adrive(flow: Generator[Step, Any, _T], perform: Callable[[Step], Awaitable[Any]]) -> _T:
    """Perform what the flow yields, and send it what came of it."""
    try:
        step = next(flow)
        while True:
            try:
                came = await perform(step)
            except BaseException as error:  # noqa: BLE001 - the flow writes what happened, then lets it pass
                step = flow.throw(error)
            else:
                step = flow.send(came)
    except StopIteration as end:
        return end.value
