"""Do what the crashes are in the middle of, and be killed there: python dying_keeper.py PATH..., one for each of them.

Each is a process of its own, made by a fork before anything is open; how it ended is printed.
"""

from __future__ import annotations

import os
import sys

from attacks.crashes import CRASHES, Crash, mortal
from attacks.ledger_200 import SIGNER
from donewhen.ledger import Ledger


def die(crash: Crash, path: str) -> None:
    death = mortal(crash.point)
    ledger = Ledger(path, signer=SIGNER)
    doing = crash.work(ledger)
    death("end")
    raise AssertionError(f"{doing} was done, and {ledger.path} is open, but nobody died")


for crash, path in zip(CRASHES.values(), sys.argv[1:], strict=True):
    child = os.fork()
    if not child:
        try:
            die(crash, path)
        finally:
            os._exit(1)
    sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
    sys.stdout.flush()  # before the next fork, which would say it again
