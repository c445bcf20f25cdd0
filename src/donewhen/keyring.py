"""Which keys sign a log, and whose keys its reviewers have: read from the log's own rows.

Rows of kind ``key`` stand in the session `LOG_SESSION`. ``rotate`` hands the log on to another key, ``enroll`` says
that a public key is a reviewer's, ``revoke`` takes that back. A row counts for what comes after it and for nothing
before: an attestation is judged by the reviewers of its place in the log, and stays good when its key is revoked later.

A rotation is the last row of its commit, which the old key signs. Every later commit is signed by the new key.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, cast

from donewhen.entry import LOG_SESSION, LedgerRow
from donewhen.errors import CheckpointError, LedgerTamperedError
from donewhen.notes import Verifier

KIND = "key"
ROTATE, ENROLL, REVOKE = "rotate", "enroll", "revoke"

_NEEDED = {ROTATE: ("vkey", "old", "who", "why"), ENROLL: ("vkey", "name", "who"), REVOKE: ("vkey", "who", "why")}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """One row of kind ``key``."""

    row_id: int
    at: str
    """ISO 8601, UTC."""
    action: str
    """``rotate``, ``enroll`` or ``revoke``."""
    vkey: str
    """The log's new key, or the reviewer's."""
    who: str
    why: str = ""
    name: str = ""
    """The reviewer, where one is enrolled."""
    old: str = ""
    """The log's key before, where it is rotated."""
    made_by: str = ""
    """``user@host`` where the key was made, as its file said; empty where nobody said."""

    @property
    def public_key(self) -> bytes:
        """Return the key itself, 32 bytes: the same whatever it is called."""
        return Verifier.parse(self.vkey).public_key


class RowReader(Protocol):
    """Reads a session's rows, as a store does."""

    def read_session(self, session_id: str, kinds: Sequence[str] | None = None) -> list[LedgerRow]:
        """Return the rows of a session in order, of these kinds or of all."""
        ...


class HasStore(Protocol):
    """Has a store, as a ledger does."""

    @property
    def store(self) -> RowReader:
        """Return the store."""
        ...


Record: TypeAlias = "RowReader | HasStore"


@dataclass(frozen=True, slots=True)
class Keyring:
    """Answers who could sign what, at each place of a log.

    Args:
        rows: the log's rows in order, or some of them. All but those of kind ``key`` of the log's own session are
            passed over.

    Raises:
        LedgerTamperedError: a ``key`` row says nothing that one can say; names it.
    """

    rows: Iterable[LedgerRow]
    changes: tuple[KeyChange, ...] = field(init=False)
    """What the ``key`` rows say, in order."""

    def __post_init__(self) -> None:
        rows = tuple(row for row in self.rows if row.kind == KIND and row.session_id == LOG_SESSION)
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "changes", tuple(_read(row) for row in rows))

    @classmethod
    def read(cls, record: Record) -> Keyring:
        """Read the keyring of a ledger or a store.

        Raises:
            LedgerTamperedError: a ``key`` row says nothing that one can say; names it.
            LedgerUnavailableError: the store cannot be read.
        """
        store = cast("RowReader", getattr(record, "store", record))
        return cls(store.read_session(LOG_SESSION, (KIND,)))

    # -- reviewers -----------------------------------------------------------------------------------------------

    def reviewers_at(self, row_id: int | None = None) -> dict[str, str]:
        """Return the reviewers' names by public key (vkey): who was enrolled and not revoked by the rows before.

        Args:
            row_id: the place in the log; None: after its newest row.
        """
        names: dict[str, str] = {}
        for change in self._before(row_id):
            if change.action == ENROLL:
                names[change.vkey] = change.name
            elif change.action == REVOKE:
                names.pop(change.vkey, None)
        return names

    def name_of(self, vkey: str) -> str | None:
        """Return the name a key was ever enrolled under, revoked since or not; None if it never was."""
        return next((change.name for change in self.changes if (change.action, change.vkey) == (ENROLL, vkey)), None)

    def key_of(self, name: str, row_id: int | None = None) -> str | None:
        """Return the key of the reviewer of this name, however it is capitalised, at a place in the log."""
        wanted = same_name(name)
        return next((vkey for vkey, known in self.reviewers_at(row_id).items() if same_name(known) == wanted), None)

    def enrolment_of(self, vkey: str) -> KeyChange | None:
        """Return the row that enrolled a key; None if it never was."""
        return self._find(ENROLL, vkey)

    def revocation_of(self, vkey: str) -> KeyChange | None:
        """Return the row that revoked a key; None if it never was."""
        return self._find(REVOKE, vkey)

    def ever_enrolled(self, before_row_id: int | None = None) -> bool:
        """Tell whether any reviewer's key was enrolled by the rows before a place; None: by any row."""
        return any(change.action == ENROLL for change in self._before(before_row_id))

    # -- the log's own keys --------------------------------------------------------------------------------------

    def log_keys(self, first_vkey: str | None) -> list[tuple[int, str]]:
        """Return the log's keys in order, each with the first size that it signs.

        The checkpoint of ``size`` rows is signed by the last key here whose first size is not larger.

        Args:
            first_vkey: the key that the log was begun with, from whoever vouches for it; None: it has none.

        Returns:
            ``[(0, first_vkey), (id of the first rotation + 1, its vkey), …]``; empty for a log without a key.

        Raises:
            LedgerTamperedError: a rotation does not start from the key before it, or the log has no key.
        """
        keys = [] if first_vkey is None else [(0, first_vkey)]
        for change in self.changes:
            if change.action != ROTATE:
                continue
            if not keys or change.old != keys[-1][1]:
                now = keys[-1][1] if keys else "none"
                problem = f"a rotation starts from the key {change.old}, and the log's was {now}"
                raise LedgerTamperedError(problem, row_id=change.row_id)
            keys.append((change.row_id + 1, change.vkey))
        return keys

    def current_log_key(self, first_vkey: str | None) -> str | None:
        """Return the key that signs the log's next commit; None for a log without a key.

        Raises:
            LedgerTamperedError: as in `log_keys`.
        """
        keys = self.log_keys(first_vkey)
        return keys[-1][1] if keys else None

    def log_key_at(self, size: int, first_vkey: str | None) -> str | None:
        """Return the key that signs the checkpoint of this size; None for a log without a key.

        Raises:
            LedgerTamperedError: as in `log_keys`.
        """
        return next((vkey for first, vkey in reversed(self.log_keys(first_vkey)) if first <= size), None)

    def _before(self, row_id: int | None) -> Sequence[KeyChange]:
        return self.changes if row_id is None else [change for change in self.changes if change.row_id < row_id]

    def _find(self, action: str, vkey: str) -> KeyChange | None:
        return next((change for change in self.changes if (change.action, change.vkey) == (action, vkey)), None)


def same_name(name: str) -> str:
    """Return what is compared where two reviewers' names are: capitals, width and outer space do not tell them apart."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def _read(row: LedgerRow) -> KeyChange:
    data = row.data
    action = data.get("action")
    needed = _NEEDED.get(action) if isinstance(action, str) else None
    if needed is None or not all(isinstance(value, str) for value in data.values()):
        raise LedgerTamperedError(f"a key row does what no key row can: {action!r}", row_id=row.id)
    if missing := [name for name in needed if not data.get(name)]:
        raise LedgerTamperedError(f"a key row that is to {action} lacks {missing[0]}", row_id=row.id)
    change = KeyChange(row_id=row.id, at=row.created_at, **data)
    try:
        for vkey in (change.vkey, change.old or change.vkey):
            Verifier.parse(vkey)
    except CheckpointError as error:
        raise LedgerTamperedError(f"a key row holds no key: {error}", row_id=row.id) from error
    return change
