"""A ledger that tells of each row once it is stored, so that a person can follow a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from donewhen.elsewhere import Elsewhere
from donewhen.entry import LedgerRow
from donewhen.errors import LedgerError
from donewhen.ledger import Balances, Decide, Draft, Ledger
from donewhen.notes import Signer


class TellingLedger(Ledger):
    """Keep the record, and tell of it.

    Args:
        path: the ledger's file, or URL.
        signer: as for `Ledger`.
        on_row: is told of every row of every session that this object writes; must not raise.
        elsewhere: as for `Ledger`.
        input_key: as for `Ledger`.
    """

    def __init__(
        self,
        path: Path | str,
        signer: Signer | None,
        on_row: Callable[[LedgerRow], object],
        elsewhere: Elsewhere | None = None,
        *,
        input_key: bytes | None = None,
    ) -> None:
        super().__init__(path, signer=signer, elsewhere=elsewhere, input_key=input_key)
        self._on_row = on_row
        self._told: dict[str, int] = {}

    def note(self, *drafts: Draft) -> LedgerRow:
        """Write entries; see `Ledger.note`."""
        row = super().note(*drafts)
        self._tell(row)
        return row

    def note_after(self, session_id: str, decide: Callable[[list[LedgerRow]], Sequence[Draft]]) -> LedgerRow:
        """Write what is made of a session's rows, and tell of what was written."""
        row = super().note_after(session_id, decide)
        self._tell(row)
        return row

    def admit(self, session_id: str, decide: Callable[[Balances], Draft], *more: Any, **options: Any) -> LedgerRow:
        """Ask in one transaction; see `Ledger.admit`."""
        row = super().admit(session_id, decide, *more, **options)
        self._tell(row)
        return row

    def close_reservation(
        self, session_id: str, seq: int, decide: Decide, *more: Any, **options: Any
    ) -> list[LedgerRow]:
        """End a reservation; see `Ledger.close_reservation`."""
        rows = super().close_reservation(session_id, seq, decide, *more, **options)
        self._tell(rows[-1])
        return rows

    def doubt_reservation(self, session_id: str, seq: int, draft: Draft) -> LedgerRow:
        """Write that nobody knows what came of a call; see `Ledger.doubt_reservation`."""
        row = super().doubt_reservation(session_id, seq, draft)
        self._tell(row)
        return row

    def _tell(self, newest: LedgerRow) -> None:
        """Tell of the rows up to the newest; several may have been written in one transaction."""
        told = self._told.get(newest.session_id)
        self._told[newest.session_id] = newest.id
        if told is None or newest.id == told + 1:
            self._on_row(newest)
            return
        try:
            rows = [row for row in self.iter_rows(told) if row.session_id == newest.session_id]
        except LedgerError:
            rows = [newest]  # what was written is written: that it cannot be read now is for the next write to say
        for row in rows:
            self._on_row(row)
