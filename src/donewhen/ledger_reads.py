"""What is read from a ledger: its rows, its sessions, its kept texts. Nothing here writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from donewhen.entry import RESERVED_PREFIX, VISIBLE_KINDS, LedgerRow, decode
from donewhen.errors import LedgerTamperedError
from donewhen.texts import commit_to

if TYPE_CHECKING:
    from donewhen.stores import Store


class LedgerReads:
    """The reading part of `donewhen.ledger.Ledger`."""

    _store: Store

    def get_session(self, session_id: str) -> list[LedgerRow]:
        """Return a session's rows in order, without the bookkeeping kinds; empty if there is none."""
        return self._store.read_session(session_id, VISIBLE_KINDS)

    def get_all(self) -> list[LedgerRow]:
        """Return every row in order, without the bookkeeping kinds."""
        return [row for row in self.iter_rows() if row.kind in VISIBLE_KINDS]

    @property
    def store(self) -> Store:
        """Return the store, for the auditor and for exports."""
        return self._store

    @property
    def path(self) -> str:
        """Return where the record is."""
        return self._store.path

    @property
    def address(self) -> str:
        """Return what opens it again: a path, or a URL that may hold a password."""
        return self._store.address

    @property
    def origin(self) -> str:
        """Return the log's name."""
        return self._store.origin

    @property
    def signed_by(self) -> str | None:
        """Return the public key that the log was begun with; None: unsigned."""
        return self._store.vkey

    def rows(self, session_id: str) -> list[LedgerRow]:
        """Return every row of a session in order, bookkeeping too."""
        return self._store.read_session(session_id)

    def newest_row(self, session_id: str) -> LedgerRow | None:
        """Return the newest row of a session, bookkeeping too; None if it has none."""
        return self._store.find_newest(session_id)

    def iter_rows(self, after_id: int = 0) -> Iterator[LedgerRow]:
        """Yield every row of the log after an id, in order, bookkeeping too."""
        for _, body in self._store.iter_bodies(after_id):
            yield decode(body)

    def sessions(self) -> list[tuple[str, int, int]]:
        """Return (session id, id of its first row, id of its newest row), oldest first; not the log's own session."""
        return [found for found in self._store.read_sessions() if not found[0].startswith(RESERVED_PREFIX)]

    def find_spec(self, session_id: str) -> LedgerRow | None:
        """Return the row that holds a session's spec, None if there is none."""
        found = self._store.read_session(session_id, ("spec",))
        return found[0] if found else None

    def find_text(self, row: LedgerRow, label: str) -> str | None:
        """Return a text kept beside a row; None if it was never kept or has been erased.

        Raises:
            LedgerTamperedError: it is not the text that the row commits to.
        """
        commitment = row.data.get("texts", {}).get(label)
        kept = self._store.find_text(row.id, label)
        if commitment is None or kept is None:
            return None
        if commit_to(*kept) != commitment:
            raise LedgerTamperedError(f"the kept text {label!r} is not the one that was committed to", row_id=row.id)
        return kept[1].decode("utf-8", "surrogatepass")
