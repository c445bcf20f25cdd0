"""The way out: an output leaves when its reviewers have attested exactly its bytes, and once for each target.

A release is two rows. ``begun`` is written in the transaction that judges: the frame is made anew and the attestations
are counted while nobody else can write, so nothing can come between the judgement and the row. Then the checkpoint is
kept elsewhere, where that is agreed, and the bytes are handed on. ``done`` or ``failed`` says what came of it.

A process that dies in between leaves ``begun`` without an end: nobody knows whether the output arrived. A file or a
webhook is then tried again with the same key, after a new judgement; a command only where a person says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from donewhen import canonical
from donewhen.entry import LOG_SESSION, Entry, LedgerRow
from donewhen.errors import DeliveryError, LedgerError, NotReleasedError, ReleaseBusyError, SessionNotFoundError
from donewhen.framing import Record, frame_of, read_record
from donewhen.ledger import Draft, Ledger, utc_now
from donewhen.ledger_balances import leaves
from donewhen.outbox.delivery import Parcel, Target, ToCommand, ToFile, ToWebhook
from donewhen.outbox.readiness import (
    BEGUN,
    DONE,
    FAILED,
    PastRelease,
    Readiness,
    end_of,
    find_done,
    readiness_of,
    refuse_unsealed,
    tries,
)
from donewhen.owner import is_alive, this_process
from donewhen.policy import Output
from donewhen.texts import encode_text

if TYPE_CHECKING:
    from donewhen.elsewhere import Elsewhere
    from donewhen.stores import Transaction

__all__ = ["Outbox", "PastRelease", "Readiness", "Release", "Target", "ToCommand", "ToFile", "ToWebhook"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """An output that was handed on."""

    session_id: str
    target: str
    key: str
    """What the receiver was told, so that it can tell a second try from a second order; lower-case hex."""
    output_hash: str
    """Plain SHA-256 of the bytes, lower-case hex."""
    row_id: int
    """Of the row that says that it is done."""
    at: str
    """When; ISO 8601, UTC."""
    is_new: bool
    """False: it was handed on before, and nothing was done now."""
    said: str = ""
    """What the receiver said. It is not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """A release that is under way."""

    row: LedgerRow
    parcel: Parcel
    elsewhere: tuple[Elsewhere, ...]


class Outbox:
    """Hand outputs on, once for each target, when their reviewers have attested them.

    Args:
        ledger: open for writing.
        elsewhere: where the log's checkpoint must be kept before anything is handed on, beside where the session's own
            spec says so.
        now: aware UTC; attestations that have expired by then do not count.
    """

    def __init__(
        self, ledger: Ledger, *, elsewhere: Elsewhere | None = None, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._ledger = ledger
        self._elsewhere = elsewhere
        self._now = now

    def check(self, session_id: str) -> Readiness:
        """Return whether a session's output could be released now, and what is missing. Nothing is written.

        Raises:
            SessionNotFoundError: there is no promise of this session, or nothing to show of it.
            LedgerTamperedError: its rows or its output are not what was sealed.
            LedgerError: the ledger cannot be read.
        """
        record = self._read(session_id)
        return readiness_of(record, frame_of(record))

    def release(self, session_id: str, target: Target, *, again: bool = False) -> Release:
        """Hand a session's output on to a target: exactly the bytes that were attested, once.

        Args:
            session_id: the session.
            target: `ToFile`, `ToWebhook` or `ToCommand`. What was handed to it already is not handed to it again.
            again: try again where a try was begun and nobody knows what came of it, and the target, or where its
                process runs, does not allow to do so unasked.

        Raises:
            NotReleasedError: something is missing, or a reviewer rejected it; says what. Nothing was handed on.
            ReleaseBusyError: another live process is handing it to this target.
            DeliveryError: it could not be handed on; says whether it may have been all the same.
            NotKeptError: the checkpoint could not be kept where it must be. Nothing was handed on.
            SessionNotFoundError: there is no such session.
            LedgerTamperedError: its rows or its output are not what was sealed.
            LedgerUnavailableError: the store could not be written; says what is and is not stored.
        """
        begun = self._begin(session_id, target, again=again)
        if isinstance(begun, Release):
            return begun
        try:
            # A crash here leaves the release begun and nothing handed on.
            self._keep_elsewhere(begun)
            said = self._deliver(begun, target)
            # A crash here leaves it handed on and begun: the next try has the same key.
            end = self._end(begun, DONE)
        finally:
            _UNDER_WAY.leave(self._ledger.path, begun.parcel.key)
        return _released(end, is_new=True, said=said)

    # -- beginning -------------------------------------------------------------------------------------------------

    def _begin(self, session_id: str, target: Target, *, again: bool) -> _Begun | Release:
        """Judge and write that it is begun, in one transaction; or return what was done before, or refuse."""
        begun = None
        try:
            with self._ledger.store.writing() as tx:
                # Nobody else can write until this ends: what is judged here is what the row stands on.
                begun = self._judge(tx, session_id, target, again=again)
        except BaseException:
            if isinstance(begun, _Begun):
                _UNDER_WAY.leave(self._ledger.path, begun.parcel.key)
            raise
        return begun

    def _judge(self, tx: Transaction, session_id: str, target: Target, *, again: bool) -> _Begun | Release:
        record = self._read(session_id)
        frame = frame_of(record)
        done = find_done(record, frame, target.name)
        if done is not None:
            return _released(done, is_new=False)
        ready = readiness_of(record, frame)
        if ready.problem is not None or frame.output is None or ready.output_hash is None:
            raise _refusal(ready)
        elsewhere = self._places(record)
        key = release_key(session_id, ready.output_hash, target.name)
        self._refuse_unended(record, key, target, again=again)
        data = {
            "target": target.name,
            "key": key,
            "output_hash": ready.output_hash,
            "frame_hash": ready.frame_hash,
            "bytes": ready.size,
            "state": BEGUN,
            "attests": [word.row_id for word in ready.judgement.counted],
            "owner": this_process(),
        }
        entry = _entry(session_id, data)
        row = tx.append(entry, leaves(tx, entry))
        _refuse_other_time(record, ready, row)
        # Before the commit: the next thread to judge must find it here.
        _UNDER_WAY.enter(self._ledger.path, key)
        parcel = Parcel(session_id=session_id, key=key, output=encode_text(frame.output))
        return _Begun(row=row, parcel=parcel, elsewhere=elsewhere)

    def _read(self, session_id: str) -> Record:
        if not self._ledger.rows(session_id):
            raise SessionNotFoundError(session_id, f"no such session in {self._ledger.path}")
        record = read_record(self._ledger, session_id, now=self._now())
        refuse_unsealed(self._ledger, record.rows)
        refuse_unsealed(self._ledger, self._ledger.rows(LOG_SESSION))
        return record

    def _refuse_unended(self, record: Record, key: str, target: Target, *, again: bool) -> None:
        """Refuse where a try of the same is under way, or may not be repeated unasked."""
        begun = next((one for one in reversed(tries(record.rows)) if one.data["key"] == key), None)
        if begun is None or end_of(record.rows, begun) is not None:
            return
        owner: str = begun.data["owner"]
        is_ours = owner == this_process()
        alive = _UNDER_WAY.has(self._ledger.path, key) if is_ours else is_alive(owner)
        if alive:
            raise ReleaseBusyError(record.session_id, owner)
        if again:
            return
        if alive is None:
            problem = f"row {begun.id} began to hand it on in {owner}, and whether that still runs cannot be known here"
            raise NotReleasedError(record.session_id, f"{problem}. Once it has certainly ended, say again")
        if not target.repeats:
            problem = f"row {begun.id} began to hand it to this command, and nobody knows whether it ran"
            raise NotReleasedError(record.session_id, f"{problem}. Find out, or say again to run it again")

    def _places(self, record: Record) -> tuple[Elsewhere, ...]:
        """Return where the checkpoint must be kept: as the caller says, and as the session's spec does."""
        from donewhen.elsewhere import Elsewhere

        terms = record.spec.data.get("terms")
        if terms is None:
            terms = next((row.data["terms"] for row in record.rows if row.kind == "open" and "terms" in row.data), None)
        try:
            agreed = Elsewhere.from_terms(terms)
        except (ValueError, LedgerError) as error:
            problem = f"its spec says where checkpoints are kept, and that cannot be used ({error})"
            raise NotReleasedError(record.session_id, problem) from error
        return tuple([place for place in (self._elsewhere, agreed) if place])

    # -- handing on ------------------------------------------------------------------------------------------------

    def _keep_elsewhere(self, begun: _Begun) -> None:
        """Keep the checkpoint that covers the row which began it, so that the release cannot be rolled back unseen."""
        try:
            for elsewhere in begun.elsewhere:
                elsewhere.keep(self._ledger)
        except LedgerError:
            self._end(begun, FAILED, "the checkpoint could not be kept elsewhere, so nothing was handed on")
            raise

    def _deliver(self, begun: _Begun, target: Target) -> str:
        try:
            return target.deliver(begun.parcel)
        except DeliveryError as error:
            # What may have arrived has not failed: without an end it is tried again, with the same key.
            if error.known:
                self._end(begun, FAILED, error.problem)
            raise

    def _end(self, begun: _Begun, state: str, problem: str | None = None) -> LedgerRow:
        kept = {name: begun.row.data[name] for name in ("target", "key", "output_hash")}
        data = {**kept, "state": state, "begun": begun.row.seq}
        if problem is not None:
            data["problem"] = problem
        return self._ledger.note(Draft(_entry(begun.row.session_id, data, passes=state == DONE)))


def release_key(session_id: str, output_hash: str, target: str) -> str:
    """Return the key of handing an output to a target, lower-case hex: the same for every try.

    Args:
        session_id: the session.
        output_hash: plain SHA-256 of the output's bytes, lower-case hex.
        target: as the ledger names it.
    """
    named = {"session": session_id, "output_hash": output_hash, "target": target}
    return canonical.hash_hex("release", canonical.dumps(named))


class _UnderWay:
    """The releases that threads of this process are at: a dead thread's row must not look like a live one's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the set
        self._keys: set[tuple[str, str]] = set()

    def enter(self, path: str, key: str) -> None:
        with self._lock:
            self._keys.add((path, key))

    def leave(self, path: str, key: str) -> None:
        with self._lock:
            self._keys.discard((path, key))

    def has(self, path: str, key: str) -> bool:
        with self._lock:
            return (path, key) in self._keys


_UNDER_WAY = _UnderWay()


def _refusal(ready: Readiness) -> NotReleasedError:
    judgement = ready.judgement
    problem = ready.problem or "no output waits"
    return NotReleasedError(ready.session_id, problem, bool(judgement.rejected), judgement.missing)


def _refuse_other_time(record: Record, ready: Readiness, row: LedgerRow) -> None:
    """Refuse where other attestations count by the time in the row than by now: an auditor has only the row's."""
    grounds = replace(record.grounds, now=datetime.fromisoformat(row.created_at))
    by_row = grounds.judge(record.rows, Output(ready.frame_hash, ready.output_hash))
    if by_row.counted != ready.judgement.counted or by_row.rejected:
        problem = f"an attestation expires at this moment ({by_row.sentence}). Try again, and attest again if it has"
        raise NotReleasedError(record.session_id, problem, missing=by_row.missing)


# -- rows --------------------------------------------------------------------------------------------------------------


def _entry(session_id: str, data: Mapping[str, object], *, passes: bool = True) -> Entry:
    return Entry(kind="release", session_id=session_id, state_origin="release", pass_fail=passes, data=data)


def _released(row: LedgerRow, *, is_new: bool, said: str = "") -> Release:
    data = row.data
    return Release(
        session_id=row.session_id,
        target=data["target"],
        key=data["key"],
        output_hash=data["output_hash"],
        row_id=row.id,
        at=row.created_at,
        is_new=is_new,
        said=said,
    )
