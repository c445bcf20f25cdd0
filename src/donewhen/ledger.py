"""The append-only record of every call.

`write`, `get_session` and `get_all` are the tutorial's and work alone. Below them are the few transactions that the
kernel is made of: open, admit, close a reservation, doubt it, note, end. Each is one durable transaction, and each
computes the balances it leaves with `fold`: the ledger is the budget, there is no counter beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from donewhen import arguments
from donewhen.arguments import Answers
from donewhen.balance import Amounts, Balance
from donewhen.entry import Entry, LedgerRow, spec_hash
from donewhen.errors import DonewhenError, LedgerError, PermitClosedError
from donewhen.fold import reserved_by
from donewhen.frozen import quick
from donewhen.ledger_balances import leaves, standing
from donewhen.ledger_budgets import BudgetLedger
from donewhen.ledger_erase import EraseLedger
from donewhen.ledger_keys import KeyLedger
from donewhen.ledger_reads import LedgerReads
from donewhen.stores.opening import open_store
from donewhen.texts import SALT_BYTES, Hasher, commit_to, encode_text

if TYPE_CHECKING:
    from donewhen.elsewhere import Elsewhere
    from donewhen.notes import Signer
    from donewhen.stores import Store, Transaction

__all__ = ["Draft", "Ledger", "LedgerRow"]


@quick
@dataclass(frozen=True, slots=True)
class Draft:
    """An entry to be written, and the texts to be kept beside it."""

    entry: Entry
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    """By label. They stay outside the log, which holds only a commitment to each, so that they can be erased."""


Balances = Sequence[Balance]
"""Those that a call is judged by, outermost first; the session's own is the last."""

Decide = Callable[[Balances, Amounts], "tuple[Draft, Sequence[Callable[[Balances], Draft]]]"]
"""Given the balances and what a reservation holds: what closes it, and what makes each row after that."""


def utc_now() -> datetime:
    """Return the time as aware UTC."""
    return datetime.now(timezone.utc)


def _look_at_nothing(_seq: int) -> None:
    """Nobody wants to know which row was the newest."""


class Ledger(LedgerReads, KeyLedger, BudgetLedger, EraseLedger):
    """Keep the record of every call, append-only, in one SQLite file or one log on PostgreSQL.

    Args:
        db_path: the file, made on first use; or ``postgresql://host/database#log``.
        signer: signs the log's checkpoints. None: the ledger is unsigned, and whatever reads it says so.
        now: aware UTC, handed in by tests.
        random: so many random bytes, handed in by tests.
        read_only: never write, nor make the file.
        elsewhere: where its checkpoints are kept besides, by themselves; None: nowhere else.
        store: another store to keep the record in, instead of `db_path`.
        input_key: 16 secret bytes or more. Hashes of inputs, arguments, results and what checks looked at are then
            HMACs: equal ones still show, and nobody without the key can try a guess. Every writer hands in the same.
            None: plain SHA-256.

    Raises:
        ValueError: the input key is not bytes, or too short.
        LedgerUnavailableError: the file cannot be opened.
        LedgerFormatError: it is something else's database, or was made by the tutorial's own code.
        LedgerError: the log has a key and `signer` is not its newest, or has none and a signer was given.
        MissingExtraError: it is on PostgreSQL, and the ``postgres`` extra is not installed.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] = "ledger.db",
        *,
        signer: Signer | None = None,
        now: Callable[[], datetime] = utc_now,
        random: Callable[[int], bytes] = os.urandom,
        read_only: bool = False,
        elsewhere: Elsewhere | None = None,
        store: Store | None = None,
        input_key: bytes | None = None,
    ) -> None:
        self.db_path = os.fsdecode(db_path)
        self.hasher = Hasher(input_key)
        self._now = now
        self._random = random
        self._reserved: dict[tuple[str, int], Amounts] = {}  # of the reservations that this process made
        self._store: Store = store or open_store(
            self.db_path, signer=signer, now=now, random=random, read_only=read_only
        )
        if elsewhere is not None and not read_only:
            from donewhen.elsewhere.kept_store import KeptStore

            self._store = KeptStore(self._store, elsewhere)

    # -- the tutorial's three ------------------------------------------------------------------------------------

    def write(
        self,
        session_id: str,
        turn_count: int,
        state_origin: str,
        input_str: str,
        token_delta: int,
        execution_time_ms: float,
        pass_fail: bool,
        breach_reason: str | None = None,
    ) -> int:
        """Write one row of kind ``write`` and return its id. It moves no balance, whatever its `state_origin`.

        Args:
            session_id: any text without NUL that does not begin with ``donewhen:``.
            turn_count: the number of the turn, from 0 on.
            state_origin: who says so, in the caller's words.
            input_str: its hash is kept, the text is not.
            token_delta: the tokens of this turn, from 0 on.
            execution_time_ms: milliseconds; a fraction is dropped.
            pass_fail: whether it went well.
            breach_reason: the reason if it did not.

        Raises:
            ValueError: an argument is of the wrong type or out of range; names it and its value.
            LedgerUnavailableError: the store could not be written; says what is and is not stored.
        """
        entry = Entry(
            kind="write",
            session_id=arguments.session(session_id),
            turn_count=arguments.whole("turn_count", turn_count),
            state_origin=arguments.text("state_origin", state_origin),
            input_hash=self.hasher.text(input_str),
            token_delta=arguments.whole("token_delta", token_delta),
            execution_time_ms=arguments.milliseconds("execution_time_ms", execution_time_ms),
            pass_fail=arguments.flag("pass_fail", pass_fail),
            breach_reason=None if breach_reason is None else arguments.text("breach_reason", breach_reason),
        )
        return self.note(Draft(entry)).id

    def close(self) -> None:
        """Close the store; the file is whole afterwards."""
        self._store.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- rows that people write ----------------------------------------------------------------------------------

    def write_spec(self, spec: Answers, *, terms: Any = None) -> LedgerRow:
        """Store a spec as a row.

        Args:
            spec: the three answers and the session they are for.
            terms: ceilings, checks and the rest as plain data; None where there are only the three answers.

        Raises:
            LedgerError: the session has a spec already.
        """
        entry = spec_entry(spec, terms)
        with self._store.writing() as tx:
            # Nobody else writes while this transaction is open, so what is read here is still so when it ends.
            if self.find_spec(entry.session_id) is not None:
                raise LedgerError(f"session {entry.session_id} has a spec already, and a spec is frozen once stored")
            return self._append(tx, Draft(entry), None)

    def attest(self, session_id: str, reviewer: str, frame_hash: str, notes: str = "") -> LedgerRow:
        """Write a person's word that they compared a frame with the promise.

        Raises:
            ValueError: the reviewer is blank, or an argument is not text.
        """
        data = {
            "reviewer": arguments.said("reviewer", reviewer),
            "frame_hash": arguments.text("frame_hash", frame_hash),
            "notes": arguments.text("notes", notes),
        }
        session_id = arguments.session(session_id)
        return self.note(Draft(Entry(kind="attest", session_id=session_id, state_origin="attest", data=data)))

    def raise_ceilings(self, session_id: str, changes: Mapping[str, int | None], *, why: str, who: str) -> LedgerRow:
        """Change a session's ceilings, by a row that says who and why.

        Args:
            changes: by name, one of `CEILING_NAMES`; None takes a ceiling away, but not that of turns or tokens.

        Raises:
            ValueError: a name is not a ceiling, a value is negative, or nobody says who or why.
            SessionNotFoundError: the session was never opened.
        """
        checked = arguments.ceiling_changes(changes)
        words = {"why": arguments.said("why", why), "who": arguments.said("who", who)}

        def decide(balances: Balances) -> Draft:
            data = {"ceilings": replace(balances[-1].ceilings, **checked).as_list(), **words}
            return Draft(Entry(kind="budget", session_id=session_id, state_origin="budget", data=data))

        return self.admit(session_id, decide)

    # -- the kernel's transactions -------------------------------------------------------------------------------

    def note(self, *drafts: Draft) -> LedgerRow:
        """Write entries that close no reservation, in one transaction; return the last row."""
        with self._store.writing() as tx:
            rows = [self._append(tx, draft, None) for draft in drafts]
        return rows[-1]

    def note_after(self, session_id: str, decide: Callable[[list[LedgerRow]], Sequence[Draft]]) -> LedgerRow:
        """Read a session's rows and write what `decide` makes of them, in one transaction; return the last row.

        Nobody else writes in between, so of two who would open a session, the second sees that the first has.
        """
        with self._store.writing() as tx:
            rows = [self._append(tx, draft, None) for draft in decide(self.rows(session_id))]
        return rows[-1]

    def admit(
        self,
        session_id: str,
        decide: Callable[[Balances], Draft],
        results: Sequence[Draft] = (),
        look: Callable[[int], None] = _look_at_nothing,
    ) -> LedgerRow:
        """Ask in one durable transaction: write what came before, then what `decide` makes of the balances.

        Args:
            decide: is given the balances that the session stands under and its own, and returns the reservation or the
                breach; it may read the ledger, and does nothing else.
            results: what is to be written first: the results of tools.
            look: is told the seq of the session's newest row, before anything is written.

        Raises:
            SessionNotFoundError: the session was never opened.
        """
        with self._store.writing() as tx:
            look(_newest_seq(tx, session_id))
            for draft in results:
                self._append(tx, draft, None)
            made = _made(decide, standing(tx, session_id))
            rows = [] if isinstance(made, DonewhenError) else [self._append(tx, made, None)]
        if isinstance(made, DonewhenError):
            raise made  # what had happened before is on disk all the same
        self._remember(rows[0])
        return rows[0]

    def close_reservation(
        self, session_id: str, seq: int, decide: Decide, look: Callable[[int], None] = _look_at_nothing
    ) -> list[LedgerRow]:
        """End a reservation, once, in one durable transaction.

        Args:
            seq: the row that made the reservation.
            decide: pure; is given the balances and what is held, and returns the draft that closes the reservation and,
                for each row that follows it in the same transaction, what makes its draft of the balances by then.
            look: as for `admit`.

        Raises:
            PermitClosedError: it was closed already; nothing is written.
        """
        with self._store.writing() as tx:
            look(_newest_seq(tx, session_id))
            held = self._held(tx, session_id, seq)
            first, follow = decide(standing(tx, session_id), held)
            if (first.entry.session_id, first.entry.closes) != (session_id, seq):
                raise LedgerError(f"what is to close row {seq} of session {session_id} says that it closes another")
            if first.entry.kind == "error" and tx.find_closing(session_id, seq, doubts=True) is not None:
                raise PermitClosedError(session_id, seq, "abandoned")  # its turn may be another attempt's by now
            rows = [self._append(tx, first, held)]
            refused: DonewhenError | None = None
            for make in follow:
                # Each is made of the balances that the row before it leaves.
                made = _made(make, standing(tx, session_id))
                if isinstance(made, DonewhenError):
                    refused = made
                    break
                rows.append(self._append(tx, made, None))
        self._reserved.pop((session_id, seq), None)
        if refused is not None:
            raise refused  # the reservation is closed all the same: what was used is known
        self._remember(rows[-1])
        return rows

    def _remember(self, row: LedgerRow) -> None:
        # Only what is on disk: a reservation of a transaction that was rolled back never was.
        if row.kind == "reserve":
            self._reserved[row.session_id, row.seq] = reserved_by(row)

    def doubt_reservation(self, session_id: str, seq: int, draft: Draft) -> LedgerRow:
        """Write that nobody knows what came of a call. Its reservation stands.

        Raises:
            PermitClosedError: it was closed or doubted already; nothing is written.
        """
        with self._store.writing() as tx:
            self._held(tx, session_id, seq)
            doubted = tx.find_closing(session_id, seq, doubts=True)
            if doubted is not None:
                raise PermitClosedError(session_id, seq, doubted.kind)
            if (draft.entry.session_id, draft.entry.doubts) != (session_id, seq):
                raise LedgerError(f"what is to doubt row {seq} of session {session_id} says that it doubts another")
            return self._append(tx, draft, None)

    def _append(self, tx: Transaction, draft: Draft, held: Amounts | None) -> LedgerRow:
        entry = draft.entry
        if held is None and entry.closes is not None:
            raise LedgerError(f"a {entry.kind} row can close a reservation only by close_reservation")
        if not draft.texts:
            return tx.append(entry, leaves(tx, entry, held))
        salted = {label: (self._random(SALT_BYTES), encode_text(text)) for label, text in draft.texts.items()}
        commitments = {label: commit_to(salt, text) for label, (salt, text) in salted.items()}
        entry = replace(entry, data={**entry.data, "texts": commitments})
        row = tx.append(entry, leaves(tx, entry, held))
        for label, (salt, text) in salted.items():
            tx.put_text(row, label, salt, text)
        return row

    def _held(self, tx: Transaction, session_id: str, seq: int) -> Amounts:
        closed = tx.find_closing(session_id, seq)
        if closed is not None:
            raise PermitClosedError(session_id, seq, closed.kind)
        if (session_id, seq) in self._reserved:
            return self._reserved[session_id, seq]
        row = tx.find_row(session_id, seq)
        if row is None or row.kind != "reserve":
            raise LedgerError(f"row {seq} of session {session_id} is not a reservation")
        return reserved_by(row)


def spec_entry(spec: Answers, terms: Any) -> Entry:
    """Return the entry that stores a spec."""
    data: dict[str, Any] = {
        "what_it_does": arguments.text("what_it_does", spec.what_it_does),
        "what_it_does_not": arguments.text("what_it_does_not", spec.what_it_does_not),
        "done_looks_like": arguments.text("done_looks_like", spec.done_looks_like),
        "spec_hash": spec_hash(spec.what_it_does, spec.what_it_does_not, spec.done_looks_like, terms),
    }
    if terms is not None:
        data["terms"] = terms
    return Entry(kind="spec", session_id=arguments.session(spec.session_id), state_origin="spec", data=data)


def _newest_seq(tx: Transaction, session_id: str) -> int:
    head = tx.head(session_id)
    return 0 if head is None else head.seq


def _made(make: Callable[[Balances], Draft], balances: Balances) -> Draft | DonewhenError:
    """Return what is made of balances, or the refusal: it must not undo what stands before it."""
    try:
        return make(balances)
    except DonewhenError as refusal:
        return refusal
