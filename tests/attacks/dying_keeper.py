"""Do what the crashes are in the middle of, and be killed there: python dying_keeper.py PATH..., one for each of them."""

from __future__ import annotations

import sys
from functools import partial

from crash.kit import die_each

from attacks.crashes import CRASHES, Crash, mortal
from attacks.ledger_200 import SIGNER
from donewhen.ledger import Ledger


def die(crash: Crash, path: str) -> None:
    death = mortal(crash.point)
    ledger = Ledger(path, signer=SIGNER)
    doing = crash.work(ledger)
    death("end")
    raise AssertionError(f"{doing} was done, and {ledger.path} is open, but nobody died")


die_each(partial(die, crash, path) for crash, path in zip(CRASHES.values(), sys.argv[1:], strict=True))
