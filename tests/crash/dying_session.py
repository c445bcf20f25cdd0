"""Run the session until its point: python dying_session.py FOLDER URL KEEP POINT."""

from __future__ import annotations

import sys
from pathlib import Path

from crash.kit import TASK, make_loop, open_ledger

folder, url, keep, point = Path(sys.argv[1]), *sys.argv[2:5]
ledger = open_ledger(folder, signed=keep == "conversation", point=point)
make_loop(folder, url, ledger, keep=keep, point=point).run(TASK)
ledger.close()
