"""Which process runs a session, as which user, and whether it still does.

A process is named by host, process id and the moment it started, since ids are used again.
"""

from __future__ import annotations

import os
import platform
from typing import Protocol
from weakref import WeakValueDictionary


class Leavable(Protocol):
    """What somebody may have let go of."""

    left: bool


LIVE: WeakValueDictionary[tuple[str, str], Leavable] = WeakValueDictionary()
"""The sessions that this process has open, by log and id: one ledger may be named in several ways."""

ENDED = "ended"
"""In place of a process's start: it was killed, and only its parent has not noticed yet."""


def this_process() -> str:
    """Return the name of this process, ``host:pid:start``."""
    return f"{_host()}:{os.getpid()}:{_started(os.getpid()) or '0'}"


def runs_here(origin: str, session_id: str) -> bool:
    """Tell whether somebody in this process has a session of a log open and has not let go of it."""
    live = LIVE.get((origin, session_id))
    return live is not None and not live.left


def this_user() -> str:
    """Return the name of the user that this process runs as, ``uid 1000`` where it has none.

    Where the system can say, the environment is not asked: whoever starts a session could set it.
    """
    try:
        import pwd
    except ImportError:  # Windows
        import getpass

        return getpass.getuser()
    user_id = os.getuid()
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:  # a container's user may have no name
        return f"uid {user_id}"


def is_alive(owner: str) -> bool | None:
    """Tell whether a named process still runs; None where that cannot be known, since it is on another host."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    started = owner.rpartition(":")[2]
    if host != _host() or not (rest.isascii() and rest.isdigit()) or int(rest) == 0:
        return None
    pid = int(rest)
    if os.name == "nt":
        return None  # there is no harmless signal to try
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return _is_the_same(pid, started)  # it runs, as somebody else
    return _is_the_same(pid, started)


def _host() -> str:
    return platform.node().replace(":", "-") or "localhost"


def _is_the_same(pid: int, started: str) -> bool:
    now = _started(pid)
    return now is None or (now != ENDED and started in ("0", now))


def _started(pid: int) -> str | None:
    """Return the kernel's word for when a process started; None where there is no /proc."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name of the process is in parentheses and may itself contain some; the start is field 22.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return ENDED if fields[0] in ("Z", "X") else fields[19]
