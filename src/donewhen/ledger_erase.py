"""What a ledger erases: the texts kept beside a session's rows. Its rows stay, and so does their chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from donewhen import arguments
from donewhen.entry import Entry, LedgerRow
from donewhen.errors import SessionBusyError, SessionNotFoundError
from donewhen.ledger_balances import leaves
from donewhen.owner import is_alive, runs_here, this_process

if TYPE_CHECKING:
    from donewhen.stores import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What came of erasing."""

    row: LedgerRow | None
    """The row that says who and why. None: nothing was kept any more, so nothing was written."""
    texts: int
    """How many texts were erased now."""
    is_gone: bool
    """Whether the ledger's files hold no trace of them. False: somebody is reading an older state, which must end
    first; erasing again then does the rest."""


class EraseLedger:
    """The part of `donewhen.ledger.Ledger` that erases."""

    _store: Store

    def erase(self, session_id: str, *, who: str, why: str) -> Erasure:
        """Erase every text kept beside a session's rows: its output, its conversation, what its checks said.

        The texts and their salts are overwritten in the database file, and the write-ahead log is emptied. Without the
        salt not even a guess of a text can be checked. The rows stay, and the log verifies as before. Copies of the
        file are not reached, nor what a file system keeps of old blocks.

        Args:
            session_id: the session. It must not be running.
            who: who erases; written into the log, for good.
            why: the reason; likewise.

        Raises:
            ValueError: nobody says who or why.
            SessionNotFoundError: there is no such session.
            SessionBusyError: a live process runs it.
            LedgerUnavailableError: the store could not be written; says what is and is not stored.
        """
        data = {"who": arguments.said("who", who), "why": arguments.said("why", why)}
        row = None
        with self._store.writing() as tx:
            # Nobody else writes while this transaction is open, so no text can be kept that is not seen here.
            rows = self._store.read_session(session_id)
            if tx.head(session_id) is None:
                raise SessionNotFoundError(session_id)
            self._refuse_running(session_id, rows)
            texts = tx.erase_texts(session_id)
            if texts:
                entry = Entry(kind="erase", session_id=session_id, state_origin="erase", data={**data, "erased": texts})
                row = tx.append(entry, leaves(tx, entry))
        # A crash here leaves the texts erased and what was there before them in the write-ahead log, until the last
        # process that has the ledger open closes it, or somebody erases again.
        return Erasure(row=row, texts=texts, is_gone=self._store.scrub())

    def _refuse_running(self, session_id: str, rows: Sequence[LedgerRow]) -> None:
        """Refuse a session that may keep another text in a moment."""
        opened = next((row for row in reversed(rows) if row.kind == "open"), None)
        if opened is None or any(row.kind == "close" and row.seq > opened.seq for row in rows):
            return
        owner: str = opened.data["owner"]
        if owner == this_process():
            is_busy = runs_here(self._store.origin, session_id)
        else:
            # One that waits for a person has been let go of, even where its process goes on with something else.
            is_busy = is_alive(owner) is True and not _waits(rows, opened)
        if is_busy:
            raise SessionBusyError(session_id, owner)


def _waits(rows: Sequence[LedgerRow], opened: LedgerRow) -> bool:
    """Tell whether the newest thing that was asked for since a session was opened is a held tool call."""
    newest = next((row for row in reversed(rows) if row.kind in ("llm", "reserve")), None)
    if newest is None or newest.kind != "llm" or newest.seq < opened.seq:
        return False
    return any(tool["held"] and tool["run"] for tool in newest.data.get("tools", ()))
