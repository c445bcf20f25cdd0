"""The attestations and rejections of a session, heard in their order: which count, and why the others do not.

`donewhen.policy` makes a judgement of what stands in the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn

from donewhen.attestation import Statement, expiry, is_time, signer_of
from donewhen.dsse import Envelope, loads
from donewhen.entry import LedgerRow
from donewhen.errors import AttestationError
from donewhen.keyring import Keyring, same_name
from donewhen.notes import Verifier
from donewhen.policy.row import Policy


@dataclass(frozen=True, slots=True)
class Output:
    """What is to be released."""

    frame_hash: str
    """Of the frame as it is now."""
    output_hash: str | None
    """Plain SHA-256 of the output's UTF-8, lower-case hex; None where there is no output."""


@dataclass(frozen=True, slots=True)
class Call:
    """A held tool call that is to be run."""

    call_hash: str
    """As `donewhen.attestation.call_hash` makes it."""
    asked_seq: int = 0
    """The row of the reply that asked for it: what was said before it is about another call."""
    taken_up_seq: int = 0
    """The newest row that says that the call is run now, 0: none. Attestations up to it are used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One reviewer's word that counts."""

    row_id: int
    reviewer: str
    signed: bool
    """False: named, not proven."""
    at: str
    """ISO 8601, UTC: as signed, or when the row was written."""
    expires_at: str | None
    words: str
    """The notes of an attestation, the reason of a rejection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCounted:
    """A row that does not count, and why."""

    row_id: int
    reviewer: str
    """As the row says; nobody has proven it."""
    why: str
    """One sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A row that a permitted reviewer is behind."""

    row: LedgerRow
    reviewer: str
    public_key: bytes | None
    """The key that signed it; None: named, not proven."""
    at: str
    expires_at: str | None
    words: str

    @property
    def counted(self) -> Counted:
        """Return what is told of it."""
        signed = self.public_key is not None
        return Counted(
            row_id=self.row.id,
            reviewer=self.reviewer,
            signed=signed,
            at=self.at,
            expires_at=self.expires_at,
            words=self.words,
        )

    def is_of(self, other: Word) -> bool:
        """Tell whether one person is behind both: one name, or one key."""
        return same_name(self.reviewer) == same_name(other.reviewer) or (
            self.public_key is not None and self.public_key == other.public_key
        )

    def lifts(self, rejection: Word) -> bool:
        """Tell whether it takes back an earlier row's rejection: what is signed, by what was signed after it."""
        if rejection.public_key is None:
            return True
        return self.public_key is not None and _time(self.at) > _time(rejection.at)


@dataclass(slots=True)
class Bench:
    """Hears the rows of a session in order, and keeps what stands."""

    subject: Output | Call
    keyring: Keyring
    policy: Policy
    now: datetime
    origin: str
    log_keys: frozenset[bytes]
    standing: list[Word] = field(default_factory=list["Word"])
    not_counted: list[NotCounted] = field(default_factory=list[NotCounted])
    payloads: dict[bytes, int] = field(default_factory=dict[bytes, int])
    """What was signed, and the row that first held it: nothing counts twice."""

    def hear(self, row: LedgerRow) -> None:
        """Let a row count, or note why it does not."""
        try:
            if not is_time(row.created_at):
                raise AttestationError("the row does not say when it was written")
            word = self._word_of(row)
            if row.kind == "attest":
                self._attested(word)
            else:
                self._replace(word, "the same reviewer rejected it in row {}")
        except AttestationError as why:
            named = row.data.get("reviewer")
            self._refuse(row, named if isinstance(named, str) else "", str(why))

    def _attested(self, word: Word) -> None:
        if word.expires_at is not None and _time(word.expires_at) <= self.now:
            raise AttestationError(f"it expired at {word.expires_at}")
        for other in self.standing:
            if other.is_of(word) and other.row.kind == "reject" and not word.lifts(other):
                raise AttestationError(
                    f"the rejection in row {other.row.id} is signed, and this was not signed after it"
                )
        self._replace(word, "the same reviewer attested again in row {}")
        why = self._why_it_only_lifts(word)
        if why is not None:
            self.standing.remove(word)
            raise AttestationError(why)

    def _why_it_only_lifts(self, word: Word) -> str | None:
        """Return why an attestation takes back its maker's rejection and lets nothing pass; None: it lets it pass."""
        if isinstance(self.subject, Call) and word.row.seq <= self.subject.taken_up_seq:
            return "it was good for one run, which has begun since"
        own = bool(self.policy.started_by) and same_name(word.reviewer) == same_name(self.policy.started_by)
        if own and not self.policy.own_work:
            return f"{word.reviewer} started this session, so somebody else must attest it"
        return None

    def _replace(self, word: Word, why: str) -> None:
        for other in [other for other in self.standing if other.is_of(word)]:
            self.standing.remove(other)
            self._refuse(other.row, other.reviewer, why.format(word.row.id))
        self.standing.append(word)

    def _refuse(self, row: LedgerRow, reviewer: str, why: str) -> None:
        self.not_counted.append(NotCounted(row_id=row.id, reviewer=reviewer, why=why))

    # -- one row --------------------------------------------------------------------------------------------------

    def _word_of(self, row: LedgerRow) -> Word:
        word = self._named(row) if "envelope" not in row.data else self._signed(row)
        self._refuse_other_subject(row)
        return word

    def _named(self, row: LedgerRow) -> Word:
        data = row.data
        reviewer, words = data.get("reviewer"), data.get("reason" if row.kind == "reject" else "notes", "")
        if not isinstance(reviewer, str) or not reviewer.strip() or not isinstance(words, str):
            raise AttestationError("the row does not say who is behind it")
        enough = not self.keyring.ever_enrolled(row.id) if self.policy.named is None else self.policy.named
        if not enough:
            raise AttestationError(f"{reviewer} is a name without a signature, and this session asks for signed ones")
        if self.policy.reviewers and reviewer not in dict(self.policy.reviewers):
            raise AttestationError(f"{reviewer} is not one of the reviewers: {self._who_may()}")
        expires = self._expires(row, data.get("expires_at"), row.created_at)
        return Word(row=row, reviewer=reviewer, public_key=None, at=row.created_at, expires_at=expires, words=words)

    def _signed(self, row: LedgerRow) -> Word:
        text = row.data["envelope"]
        if not isinstance(text, str):
            raise AttestationError("the row's envelope is not text")
        envelope = loads(text)
        statement = Statement.read(envelope)
        first = self.payloads.setdefault(envelope.payload, row.id)
        if first != row.id:
            raise AttestationError(f"it is the same that row {first} holds, and counts once")
        if statement.entry(envelope).data != row.data or statement.decision != row.kind:
            raise AttestationError("the row says something else than what was signed")
        if statement.session_id != row.session_id:
            raise AttestationError(f"it was signed for another session, {statement.session_id}")
        if statement.origin != self.origin:
            raise AttestationError(f"it was signed for another log, {statement.origin}")
        vkey = self._permitted_key(row, statement.reviewer, envelope)
        return Word(
            row=row,
            reviewer=statement.reviewer,
            public_key=Verifier.parse(vkey).public_key,
            at=statement.at,
            expires_at=self._expires(row, statement.expires_at, statement.at),
            words=statement.words,
        )

    def _permitted_key(self, row: LedgerRow, reviewer: str, envelope: Envelope) -> str:
        enrolled = self.keyring.reviewers_at(row.id)
        vkey = signer_of(envelope, [vkey for vkey, name in enrolled.items() if name == reviewer])
        if vkey is None:
            self._refuse_signature(row, reviewer, envelope)
        if Verifier.parse(vkey).public_key in self.log_keys:
            raise AttestationError("it is signed with the log's own key, which is no person's")
        if not self.policy.reviewers:
            return vkey
        pinned = dict(self.policy.reviewers)
        if reviewer not in pinned:
            raise AttestationError(f"{reviewer} is not one of the reviewers: {self._who_may()}")
        if pinned[reviewer] is None and self.policy.named is False:
            raise AttestationError(f"no key of {reviewer} was enrolled when the session opened")
        if pinned[reviewer] not in (None, vkey):
            raise AttestationError(f"it is signed with another key than {reviewer} had when the session opened")
        return vkey

    def _refuse_signature(self, row: LedgerRow, reviewer: str, envelope: Envelope) -> NoReturn:
        """Say whose signature it is, where no key that the reviewer has at the row's place made it."""
        known = [change.vkey for change in self.keyring.changes if change.action == "enroll"]
        vkey = signer_of(envelope, known)
        if vkey is None:
            message = envelope.pae()
            if any(
                Verifier("log", key).verify(message, one.sig) for key in self.log_keys for one in envelope.signatures
            ):
                raise AttestationError("it is signed with the log's own key, which is no person's")
            raise AttestationError("it is signed with no key that was ever enrolled in this log")
        revoked, name = self.keyring.revocation_of(vkey), self.keyring.name_of(vkey)
        if revoked is not None and revoked.row_id < row.id:
            raise AttestationError(f"the key of {name} was revoked in row {revoked.row_id}")
        if vkey not in self.keyring.reviewers_at(row.id):
            raise AttestationError(f"the key of {name} was not enrolled yet")
        raise AttestationError(f"it is signed with the key of {name}, and names {reviewer}")

    def _refuse_other_subject(self, row: LedgerRow) -> None:
        data, subject = row.data, self.subject
        if isinstance(subject, Call):
            calls = data.get("calls")
            if not isinstance(calls, list) or subject.call_hash not in calls:
                raise AttestationError("it does not name this call")
            if row.seq <= subject.asked_seq:
                raise AttestationError("it is older than this call")
            return
        if data.get("frame_hash") != subject.frame_hash:
            raise AttestationError("it is about another frame than the one that is shown now")
        if data.get("output_hash", subject.output_hash) != subject.output_hash:
            raise AttestationError("it is about another output")

    def _expires(self, row: LedgerRow, stated: object, at: str) -> str | None:
        """Return the first of the moments at which a row ceases to count."""
        if stated is not None and not is_time(stated):
            raise AttestationError("the row does not say when it expires")
        hours = self.policy.expiry_hours
        moments = [stated, expiry(_time(at), hours), expiry(_time(row.created_at), hours)]
        return min((moment for moment in moments if isinstance(moment, str)), key=_time, default=None)

    def _who_may(self) -> str:
        return ", ".join(name for name, _ in self.policy.reviewers)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
