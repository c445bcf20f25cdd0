"""Attest with a reviewer's key: python dying_reviewer.py FOLDER NAME SEED POINT.

Points: ``appended`` when the row has its place, ``uncommitted`` when it has been judged, ``committed`` when it is on
disk; ``none`` waits for a line on stdin first, so that several can be let go at the same moment.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from crash.kit import SIGNER, Death

from donewhen.notes import LocalSigner
from donewhen.review_surface import ReviewSurface
from donewhen.stores.sqlite import SQLiteStore
from donewhen.stores.sqlite_transaction import SQLiteTransaction

folder, name, seed, point = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
death = Death(f"{point}:1")
append, commit = SQLiteTransaction.append, SQLiteStore._commit


def dying_append(self: Any, *args: Any) -> Any:
    row = append(self, *args)
    death("appended")
    return row


def dying_commit(self: Any, *args: Any) -> None:
    death("uncommitted")
    commit(self, *args)
    death("committed")


SQLiteTransaction.append = dying_append
SQLiteStore._commit = dying_commit
path = folder / "ledger.db"
surface = ReviewSurface(path, path, signer=SIGNER)
key = LocalSigner(f"reviewer/{name}", bytes([seed]) * 32)
if point == "none":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
surface.attest("s", name, reviewer_key=key)
