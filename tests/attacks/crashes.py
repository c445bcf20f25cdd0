"""Where a process can be when it is killed by signal 9, and what it then leaves of the ledger of 200 rows.

`dying_keeper.py` is each of these processes. What is committed when one dies is in the write-ahead log beside the file.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from crash.kit import Death, run_dying

from attacks.forger import copy
from attacks.ledger_200 import ADA, SIGNER, THIRD, open_late
from donewhen.bounds import Request
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner
from donewhen.outbox import Outbox, ToFile
from donewhen.review_surface import ReviewSurface
from donewhen.stores import sqlite
from donewhen.stores.sqlite_transaction import SQLiteTransaction

SCRIPT = Path(__file__).with_name("dying_keeper.py")


def _call(ledger: Ledger) -> object:
    return open_late(ledger).admit(Request.of(model="m", messages=[{"role": "user", "content": "x"}], max_tokens=9))


def _close(ledger: Ledger) -> None:
    open_late(ledger)
    ledger.close()


def _attest(ledger: Ledger) -> object:
    return ReviewSurface(ledger.path, ledger.path, signer=SIGNER).attest("audit", "Ada", "again", reviewer_key=ADA)


def _release(ledger: Ledger) -> object:
    return Outbox(ledger).release("audit", ToFile(Path(ledger.path).with_name("once more.txt")))


def _rotate(ledger: Ledger) -> object:
    return ledger.rotate_key(THIRD, why="it may be known", who="Eve")


class Crash(NamedTuple):
    """A process that is killed."""

    work: Callable[[Ledger], object]
    """What it is at."""
    point: str
    """Where it dies; see `mortal`."""
    left: tuple[str, ...] = ()
    """The kinds of the rows that are on disk then, and were not before."""

    @property
    def signer(self) -> LocalSigner:
        """Return the key that the log has then."""
        return THIRD if "key" in self.left else SIGNER


OPENED = ("spec", "policy", "open")

CRASHES = {
    "in a call": Crash(_call, "end:1", (*OPENED, "reserve")),
    "appending, after the first of three rows": Crash(open_late, "appended:1"),
    "appending, after the last": Crash(open_late, "appended:3"),
    "sealing, before it is signed": Crash(open_late, "sign:1"),
    "sealing, when it is signed": Crash(open_late, "signed:1"),
    "sealing, when the signature is written": Crash(open_late, "sealed:1"),
    "sealing, in the middle of the commit": Crash(open_late, "half:1"),
    "sealing, when it is on disk": Crash(open_late, "committed:1", OPENED),
    "closing, while the file takes in its log": Crash(_close, "closing:1", OPENED),
    "attesting, before the reviewer signs": Crash(_attest, "sign:1"),
    "attesting, when the word has its place": Crash(_attest, "appended:1"),
    "attesting, when the signature is written": Crash(_attest, "sealed:1"),
    "attesting, when it is on disk": Crash(_attest, "committed:1", ("attest",)),
    "releasing, before it is begun": Crash(_release, "sealed:1"),
    "releasing, when it is begun": Crash(_release, "committed:1", ("release",)),
    "releasing, when it is handed on": Crash(_release, "delivered:1", ("release",)),
    "releasing, before it is done": Crash(_release, "sealed:2", ("release",)),
    "releasing, when it is done": Crash(_release, "committed:2", ("release", "release")),
    "rotating, before the old key signs": Crash(_rotate, "sign:1"),
    "rotating, before the new key signs": Crash(_rotate, "sign:2"),
    "rotating, when both have signed": Crash(_rotate, "signed:2"),
    "rotating, when the signatures are written": Crash(_rotate, "sealed:1"),
    "rotating, when it is on disk": Crash(_rotate, "committed:1", ("key",)),
}


def build(honest: Path, folder: Path) -> dict[str, Path]:
    """Leave the ledger behind in every way, each in a folder of its own, and return where."""
    paths = {name: folder / str(number) / "ledger.db" for number, name in enumerate(CRASHES)}
    for path in paths.values():
        path.parent.mkdir()
        copy(honest, path)
    assert run_dying(SCRIPT, *paths.values()) == [-signal.SIGKILL] * len(CRASHES)
    return paths


# -- in the process that dies ----------------------------------------------------------------------------------------


def mortal(point: str) -> Death:
    """Let this process die at a point: the Nth time that it comes there, as in ``sign:2``.

    ``appended`` a row has its place, ``sign`` and ``signed`` a private key is used, ``sealed`` the signed checkpoint is
    written, and the commit is next; ``half`` a part of that commit is on disk; ``committed`` it all is, and nobody was
    told; ``delivered`` an output was handed on; ``closing`` the write-ahead log is taken into the file; ``end``.
    """
    death = Death(point)
    kind, _, number = point.partition(":")
    _dies_after(death, "appended", SQLiteTransaction, "append")
    _dies_after(death, "committed", sqlite.SQLiteStore, "_commit")
    _dies_after(death, "delivered", ToFile, "deliver")
    _dies_after(death, "signed", LocalSigner, "sign", before="sign")
    connect = sqlite.connect

    def watched(path: str, *args: Any, **options: Any) -> sqlite3.Connection:
        connection, commits = connect(path, *args, **options), [0]

        def tell(statement: str) -> None:
            if statement == "COMMIT":
                death("sealed")
                commits[0] += 1
                if kind == "half" and commits[0] == int(number):
                    _die_of_writing_past(os.stat(f"{path}-wal").st_size + 6_000)  # a page and a half

        connection.set_trace_callback(tell)
        return connection

    sqlite.connect = watched
    if kind == "closing":
        close = sqlite.SQLiteStore.close

        def dying_close(self: sqlite.SQLiteStore) -> None:
            _die_of_writing_past(os.stat(self.path).st_size - 6_000)
            close(self)

        sqlite.SQLiteStore.close = dying_close
    return death


def _dies_after(death: Death, point: str, owner: type, name: str, *, before: str = "nothing") -> None:
    method = getattr(owner, name)

    def dying(*args: Any, **options: Any) -> Any:
        death(before)
        done = method(*args, **options)
        death(point)
        return done

    setattr(owner, name, dying)


_DIE = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _signal: os.kill(os.getpid(), signal.SIGKILL))


def _die_of_writing_past(place: int) -> None:
    """Let this process be killed as soon as it writes beyond so many bytes of any file, in the middle of SQLite's work."""
    import resource

    ctypes.CDLL(None).signal(signal.SIGXFSZ, _DIE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (place, resource.RLIM_INFINITY))
