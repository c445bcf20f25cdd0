"""The last thing before an output is used: a person compares it with the promise.

`load` gives the five elements as a value, `render` as text, `attest` and `reject` write what a person says of them, and
`judge` says whether that is enough. Reading needs no key and never writes, nor makes a file.

A word is signed with the reviewer's key, or it is a name that nobody has proven. A reviewer whose key is on another
machine makes a signed envelope there (`sign`), and whoever writes the ledger takes it (`take`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from donewhen.attestation import Statement
from donewhen.dsse import Envelope, loads_foreign
from donewhen.entry import LedgerRow
from donewhen.errors import AttestationError, FrameChangedError, SessionNotFoundError
from donewhen.frame import AttestationResult, DiffResult, RejectionResult, ReviewFrame
from donewhen.framing import Record, frame_of, is_empty, no_rows, open_record, what_changed
from donewhen.ledger import Ledger, utc_now
from donewhen.ledger_balances import leaves
from donewhen.render import render_frame
from donewhen.reviewing import (
    Standing,
    Word,
    attestation_of,
    is_of_now,
    refuse_uncounted,
    rejection_of,
    standing_of,
    statement_of,
)

if TYPE_CHECKING:
    from donewhen.notes import Signer

__all__ = [
    "AttestationResult",
    "DiffResult",
    "RejectionResult",
    "ReviewFrame",
    "ReviewSurface",
    "SessionNotFoundError",
    "Standing",
]


class ReviewSurface:
    """Show what a session promised and what came of it, and keep the word of those who looked.

    Args:
        spec_db_path: where `SpecWriter` stored the promise. It may be the ledger's file; a promise that the ledger
            itself holds is the one that counts.
        ledger_db_path: the ledger's file.
        signer: signs the ledger where it is a signed one, to attest. Reading needs none.
        now: aware UTC, handed in by tests.
    """

    def __init__(
        self,
        spec_db_path: str | os.PathLike[str] = "spec.db",
        ledger_db_path: str | os.PathLike[str] = "ledger.db",
        *,
        signer: Signer | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.spec_db_path = spec_db_path
        self.ledger_db_path = ledger_db_path
        self._signer = signer
        self._now = now

    # -- looking -------------------------------------------------------------------------------------------------

    def load(self, session_id: str) -> ReviewFrame:
        """Return the five elements as they are now.

        Raises:
            SessionNotFoundError: there is no promise of this session, or nothing to show of it.
            LedgerTamperedError: a kept text is not the one that was committed to.
            LedgerError: a file cannot be read, or is not a ledger.
        """
        with self._record(session_id) as record:
            return frame_of(record)

    def render(self, session_id: str, *, width: int = 100, max_lines: int | None = None) -> str:
        """Return the five elements as text, always in the same order.

        Args:
            width: columns of the terminal.
            max_lines: the most lines of each text of the session; None: all.

        Raises:
            The errors of `load`.
        """
        return render_frame(self.load(session_id), width=width, max_lines=max_lines)

    def judge(self, session_id: str) -> Standing:
        """Return where the review stands: whether what reviewers said is enough, and what is missing.

        Raises:
            MissingExtraError: something is signed, and the ``sign`` extra is not installed.
            The errors of `load`.
        """
        with self._record(session_id) as record:
            return standing_of(record)

    def get_attestations(self, session_id: str) -> list[AttestationResult]:
        """Return the attestations of a session, oldest first, whether they count or not; empty if there is none.

        Raises:
            LedgerError: the file cannot be read, or is not a ledger.
        """
        return [attestation_of(row) for row in self._rows_of_kind(session_id, "attest")]

    def get_rejections(self, session_id: str) -> list[RejectionResult]:
        """Return the rejections of a session, oldest first, whether they count or not; empty if there is none.

        Raises:
            LedgerError: the file cannot be read, or is not a ledger.
        """
        return [rejection_of(row) for row in self._rows_of_kind(session_id, "reject")]

    # -- saying --------------------------------------------------------------------------------------------------

    def attest(
        self,
        session_id: str,
        reviewer: str,
        notes: str = "",
        *,
        frame_hash: str | None = None,
        reviewer_key: Signer | None = None,
        verdicts: Mapping[str, str] | None = None,
        calls: Sequence[str] | None = None,
    ) -> AttestationResult:
        """Write that a person compared the frame with the promise, and lets it pass.

        Args:
            reviewer: who says so.
            notes: in the reviewer's words.
            frame_hash: of the frame that was shown, which is refused if it is no longer this one. None: whatever the
                frame is now.
            reviewer_key: signs it, with the key that is enrolled for the reviewer. None: it is a name, not proven,
                and `judge` says whether that is enough.
            verdicts: ``met``, ``not_met`` or ``not_judged`` by criterion, for those that the reviewer sees otherwise
                than the machine. What only a person can judge is met where nothing is said of it.
            calls: the ids of the held calls that it is about. None: all that the frame shows.

        Raises:
            ValueError: the reviewer is blank, a text cannot be stored, or a criterion or call is none of the frame's.
            FrameChangedError: the frame is not the one that was shown; says what is new. Nothing is written.
            AttestationError: it is signed, and cannot count: says why in one sentence. Nothing is written.
            LedgerUnavailableError: the store could not be written; says what is and is not stored.
            LedgerError: the ledger is signed, and its key was not handed in.
            The errors of `load`.
        """
        word = Word(
            decision="attest",
            reviewer=reviewer,
            words=notes,
            frame_hash=frame_hash,
            verdicts=verdicts,
            calls=calls,
        )
        return attestation_of(self._write(session_id, word, reviewer_key))

    def reject(
        self,
        session_id: str,
        reviewer: str,
        reason: str,
        *,
        frame_hash: str | None = None,
        reviewer_key: Signer | None = None,
        verdicts: Mapping[str, str] | None = None,
        calls: Sequence[str] | None = None,
    ) -> RejectionResult:
        """Write that a person compared the frame with the promise, and refuses it, for a reason.

        Nothing is released until the same reviewer attests it, or the frame is another. A held call that has not been
        run is not run: when the session goes on, the model is told the reason.

        Args:
            reviewer: who says so.
            reason: in the reviewer's words; not blank.
            frame_hash, reviewer_key, verdicts, calls: as for `attest`.

        Raises:
            The errors of `attest`; ValueError also for a blank reason.
        """
        word = Word(
            decision="reject",
            reviewer=reviewer,
            words=reason,
            frame_hash=frame_hash,
            verdicts=verdicts,
            calls=calls,
        )
        return rejection_of(self._write(session_id, word, reviewer_key))

    def sign(
        self,
        session_id: str,
        reviewer: str,
        reviewer_key: Signer,
        words: str = "",
        *,
        decision: str = "attest",
        frame_hash: str | None = None,
        verdicts: Mapping[str, str] | None = None,
        calls: Sequence[str] | None = None,
    ) -> str:
        """Return a signed attestation or rejection as the text of an envelope, and write nothing: see `take`.

        Args:
            words: the notes, or the reason.
            decision: ``attest`` or ``reject``.
            reviewer, reviewer_key, frame_hash, verdicts, calls: as for `attest`.

        Raises:
            ValueError, FrameChangedError: as for `attest`.
            The errors of `load`.
        """
        word = Word(
            decision=decision,
            reviewer=reviewer,
            words=words,
            frame_hash=frame_hash,
            verdicts=verdicts,
            calls=calls,
        )
        return self._sign(session_id, word, reviewer_key).dumps()

    def take(self, envelope_text: str, *, session_id: str | None = None) -> AttestationResult | RejectionResult:
        """Write an attestation or rejection that was signed elsewhere.

        Args:
            envelope_text: a DSSE envelope as `sign` makes it; its layout does not matter.
            session_id: the session that it must be about. None: whichever it says.

        Raises:
            EnvelopeError: it is no envelope, or holds no review.
            FrameChangedError: the frame is not the one that was signed; says what is new. Nothing is written.
            AttestationError: it cannot count: says why in one sentence. Nothing is written.
            The errors of `load`; of writing, as for `attest`.
        """
        row = self._take(loads_foreign(envelope_text), session_id)
        return attestation_of(row) if row.kind == "attest" else rejection_of(row)

    # -- writing -------------------------------------------------------------------------------------------------

    def _write(self, session_id: str, word: Word, key: Signer | None) -> LedgerRow:
        if key is not None:
            # Signed outside of the transaction: a signer may be slow, or ask somebody.
            return self._take(self._sign(session_id, word, key), session_id)
        make = partial(statement_of, word=word, now=self._now())
        return self._append(session_id, make, None, word.frame_hash)

    def _sign(self, session_id: str, word: Word, key: Signer) -> Envelope:
        with self._record(session_id) as record:
            statement = statement_of(record, word, self._now())
            if statement is None:
                raise FrameChangedError(what_changed(record, word.frame_hash))
        return statement.envelope().sign(key)

    def _take(self, envelope: Envelope, session_id: str | None) -> LedgerRow:
        statement = Statement.read(envelope)
        if session_id not in (None, statement.session_id):
            raise AttestationError(f"it was signed for another session, {statement.session_id}")

        def make(record: Record) -> Statement | None:
            return statement if is_of_now(record, statement) else None

        return self._append(statement.session_id, make, envelope, statement.frame_hash)

    def _append(
        self,
        session_id: str,
        make: Callable[[Record], Statement | None],
        envelope: Envelope | None,
        shown: str | None,
    ) -> LedgerRow:
        """Write what is made of the session as it is, unless it is about another frame, or is signed and cannot count."""
        if is_empty(self.ledger_db_path):
            raise SessionNotFoundError(session_id, no_rows(self.ledger_db_path))
        # Nobody else can write a row until this one is written, so it is the newest frame that is judged: a tool call
        # held meanwhile would otherwise count as seen. What can still slip in between: a text that is erased, which no
        # lock covers, and a promise stored only now in a spec file beside the ledger.
        with (
            Ledger(self.ledger_db_path, signer=self._signer) as ledger,
            ledger.store.writing() as transaction,
            self._record(session_id) as record,
        ):
            row, statement = None, make(record)
            if statement is not None:
                entry = statement.entry(envelope)
                row = transaction.append(entry, leaves(transaction, entry))
            if row is not None and envelope is not None:
                refuse_uncounted(record, row)
        # A crash before this line leaves either nothing or the whole word, which the next look shows.
        if row is not None:
            return row
        with self._record(session_id) as record:
            raise FrameChangedError(what_changed(record, shown))

    @contextmanager
    def _record(self, session_id: str) -> Generator[Record, None, None]:
        with open_record(self.spec_db_path, self.ledger_db_path, session_id, self._now()) as record:
            yield record

    def _rows_of_kind(self, session_id: str, kind: str) -> list[LedgerRow]:
        if is_empty(self.ledger_db_path):
            return []
        with Ledger(self.ledger_db_path, read_only=True) as ledger:
            return [row for row in ledger.rows(session_id) if row.kind == kind]
