"""What happens to open stores when the process forks.

SQLite's connections must not be carried over a fork: it keeps count of its file locks for the whole process, and a
child would inherit the count without the locks. The parent could then delete the write-ahead log that the child still
writes to, and rows that were acknowledged would be gone. So every store is paused before a fork, with no connection
and no lock file open, and opens them again when it is next used, in parent and child alike.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Forkable(Protocol):
    """What can be paused for a fork."""

    def pause_for_fork(self) -> bool:
        """Close what a child must not inherit and keep every other thread out; False if that cannot be done now."""
        ...

    def resume_after_fork(self) -> None:
        """Let other threads in again, in the parent and in the child."""
        ...

    def start_as_child(self) -> None:
        """Make what could not be paused usable in the child: the parent's other threads are not there."""
        ...


_open: weakref.WeakSet[Forkable] = weakref.WeakSet()
_lock = threading.Lock()
_paused: list[Forkable] = []
_running: list[Forkable] = []
_hooked = False


def watch(store: Forkable) -> None:
    """Pause a store before each fork, for as long as it lives."""
    global _hooked  # noqa: PLW0603 - the hook is one for the process, and nothing is hooked at import
    with _lock:
        _open.add(store)
        if not _hooked and hasattr(os, "register_at_fork"):
            os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
            _hooked = True


def _before() -> None:
    _lock.acquire()
    for store in list(_open):
        (_paused if store.pause_for_fork() else _running).append(store)


def _after() -> None:
    for store in _paused:
        store.resume_after_fork()
    _paused.clear()
    _running.clear()
    _lock.release()


def _after_in_child() -> None:
    for store in _running:
        store.start_as_child()
    _after()
