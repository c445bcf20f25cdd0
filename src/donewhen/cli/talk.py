"""What `run` tells on stderr while it works."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from donewhen.cli.output import clean_lines, is_terminal, make_console, say
from donewhen.cli.rows import row_line
from donewhen.cli.store import command_line
from donewhen.entry import VISIBLE_KINDS, LedgerRow
from donewhen.render import visible

if TYPE_CHECKING:
    from rich.status import Status


class Talk:
    """Tell of a session's rows as they come; on a terminal, with a line that says what is awaited.

    Args:
        session_id: the session.
        quiet: tell of nothing but a breach.
    """

    def __init__(self, session_id: str, *, quiet: bool) -> None:
        self._session_id = session_id
        self._quiet = quiet
        self._status: Status | None = None
        self._begun = False

    def __enter__(self) -> Talk:
        if not self._quiet and is_terminal(sys.stderr):
            self._status = make_console(stderr=True).status("beginning")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def tell_new_log(self, vkey: str) -> None:
        """Tell the public key of a log that has no row yet: whoever audits it needs it from a person."""
        if not self._quiet:
            self._say(f"A new ledger. Its public key, for whoever audits it: {vkey}")

    def tell_row(self, row: LedgerRow) -> None:
        """Tell of a row that was stored."""
        if self._quiet:
            return
        if not self._begun:
            self._begun = True
            self._say(f"session {visible(self._session_id)}")
        if row.kind in VISIBLE_KINDS and row.kind != "circuit_breaker":  # whose notice says it all
            self._say(row_line(row))
        if self._status is not None:
            self._status.update(_awaited(row))

    def tell_notice(self, notice: str) -> None:
        """Tell why the breaker tripped; also where everything else is quiet, since it is a problem."""
        self._say(clean_lines(notice))

    def tell_interruption(self, error: BaseException) -> None:
        """Tell how to go on after an interruption."""
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._say(f"Interrupted. Go on with: {command_line('resume', self._session_id)}")

    def _say(self, text: str) -> None:
        try:
            if self._status is None:
                say(text)
            else:
                self._status.console.print(text, no_wrap=True, overflow="ellipsis")
        except OSError:
            self._quiet = True  # the terminal is gone, and the session must not end for that


def _awaited(row: LedgerRow) -> str:
    balance = row.balance
    spent = "" if balance is None else f"  {balance.spent.tokens:,} of {balance.ceilings.tokens:,} tokens spent"
    if row.kind == "reserve":
        return f"turn {row.turn_count}: waiting for {visible(row.data['model'])}{spent}"
    return f"turn {row.turn_count}: at work{spent}"
