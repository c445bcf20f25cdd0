"""What a reviewer signs: an in-toto Statement that names what they looked at, in a signed envelope.

The subjects are digests: of the output that waits, of each held tool call, and of the frame. The predicate says what was
decided, by whom, about which session of which log, so that no statement can be moved to another one. The payload is
canonical JSON, texts only, and is read strictly: what was read is written again and must come out the same.

Source: in-toto Attestation Framework, Statement v1; DSSE v1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from donewhen import canonical
from donewhen.dsse import Envelope
from donewhen.entry import Entry
from donewhen.errors import CheckpointError, EnvelopeError
from donewhen.notes import Verifier

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:donewhen:review:v1"

DECISIONS = ("attest", "reject")
VERDICTS = ("met", "not_met", "not_judged")
"""What a reviewer can say of one criterion."""

_WORDS = {"attest": "notes", "reject": "reason"}
_PREDICATE = {"decision", "reviewer", "session", "origin", "frameHash", "verdicts", "expiresAt", "at"}
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One reviewer's word about a session, as it is signed.

    Raises:
        EnvelopeError: a field says something that no review can say; names it.
    """

    decision: str
    """``attest`` or ``reject``."""
    reviewer: str
    session_id: str
    origin: str
    """The log's name."""
    frame_hash: str
    """Lower-case hex, of the frame that was shown."""
    output_hash: str | None
    """Plain SHA-256 of the output's UTF-8, lower-case hex; None where no output waits."""
    calls: tuple[tuple[str, str], ...] = ()
    """(call id, `call_hash`) of each held tool call that it covers."""
    verdicts: tuple[tuple[str, str], ...] = ()
    """(criterion, one of `VERDICTS`), in the order of the frame."""
    words: str = ""
    """The notes of an attestation, the reason of a rejection, in the reviewer's words."""
    expires_at: str | None = None
    """ISO 8601, UTC: from then on it no longer counts. None: never."""
    at: str
    """ISO 8601, UTC: when it was made, by the reviewer's clock."""

    def __post_init__(self) -> None:
        if self.decision not in DECISIONS:
            raise EnvelopeError(f"the decision is {self.decision!r}, not attest or reject")
        for name in ("reviewer", "session_id", "origin", "words"):
            if not _is_text(getattr(self, name)):
                raise EnvelopeError(f"the statement's {name} is not text that can be stored")
        if not self.reviewer.strip() or (self.decision == "reject" and not self.words.strip()):
            raise EnvelopeError("a statement needs the reviewer's name, and a rejection its reason")
        digests = [self.frame_hash, *(digest for _, digest in self.calls)]
        if not all(is_digest(digest) for digest in digests) or not (
            self.output_hash is None or is_digest(self.output_hash)
        ):
            raise EnvelopeError("a digest in the statement is not 64 lower-case hex digits")
        if not all(_is_text(name) for name, _ in self.calls):
            raise EnvelopeError("a call in the statement has no id")
        if not all(_is_text(criterion) and verdict in VERDICTS for criterion, verdict in self.verdicts):
            raise EnvelopeError(f"a verdict in the statement is none of {', '.join(VERDICTS)}")
        if not is_time(self.at) or not (self.expires_at is None or is_time(self.expires_at)):
            raise EnvelopeError("a time in the statement is not ISO 8601 in UTC")

    @property
    def call_hashes(self) -> tuple[str, ...]:
        """Return the digests of the held calls that it covers."""
        return tuple([digest for _, digest in self.calls])

    def payload(self) -> bytes:
        """Return the statement as it is signed.

        Source: in-toto Statement v1.
        """
        digests = [("frame", self.frame_hash), *((f"call:{call}", digest) for call, digest in self.calls)]
        if self.output_hash is not None:
            digests.insert(0, ("output", self.output_hash))
        statement = {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in digests],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "decision": self.decision,
                "reviewer": self.reviewer,
                "session": self.session_id,
                "origin": self.origin,
                "frameHash": self.frame_hash,
                "verdicts": [{"criterion": criterion, "verdict": verdict} for criterion, verdict in self.verdicts],
                _WORDS[self.decision]: self.words,
                "expiresAt": self.expires_at,
                "at": self.at,
            },
        }
        return canonical.dumps(statement)

    def envelope(self) -> Envelope:
        """Return it in an envelope that nobody has signed yet."""
        return Envelope(self.payload(), PAYLOAD_TYPE)

    def entry(self, envelope: Envelope | None = None) -> Entry:
        """Return the row that keeps it.

        Args:
            envelope: the signed one. None: it is named, not proven.
        """
        data: dict[str, Any] = {
            "reviewer": self.reviewer,
            "frame_hash": self.frame_hash,
            _WORDS[self.decision]: self.words,
        }
        if self.output_hash is not None:
            data["output_hash"] = self.output_hash
        if self.calls:
            data["calls"] = list(self.call_hashes)
        if self.verdicts and self.decision == "attest":
            data["verdicts"] = [{"criterion": criterion, "verdict": verdict} for criterion, verdict in self.verdicts]
        if self.expires_at is not None and self.decision == "attest":
            data["expires_at"] = self.expires_at
        if envelope is not None:
            data["envelope"] = envelope.dumps()
        return Entry(kind=self.decision, session_id=self.session_id, state_origin=self.decision, data=data)

    @classmethod
    def read(cls, envelope: Envelope) -> Statement:
        """Return what an envelope says. Whether anybody signed it is another question: see `signer_of`.

        Raises:
            EnvelopeError: it is no review, or is spelled another way than `payload` spells it.
        """
        if envelope.payload_type != PAYLOAD_TYPE:
            raise EnvelopeError(f"the envelope holds {envelope.payload_type!r}, not an in-toto statement")
        try:
            statement = _read(canonical.loads(envelope.payload))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise error if isinstance(error, EnvelopeError) else EnvelopeError(f"not a review: {error!r}") from error
        if statement.payload() != envelope.payload:
            raise EnvelopeError("the statement is not what a review says, or is spelled another way")
        return statement


def signer_of(envelope: Envelope, vkeys: Iterable[str]) -> str | None:
    """Return the first of these keys that signed an envelope; None: none of them did.

    Raises:
        MissingExtraError: the ``sign`` extra is not installed.
    """
    hints = {one.keyid for one in envelope.signatures}
    ordered = sorted(vkeys, key=lambda vkey: vkey not in hints)
    return next((vkey for vkey in ordered if envelope.verify(_verifier(vkey))), None)


def call_hash(session_id: str, turn: int, call_id: str, tool: str, args_hash: str) -> str:
    """Return the digest that names one held tool call, as lower-case hex.

    The turn is part of it: some servers use the same call ids in each reply, and an approval is good for one run.

    Args:
        session_id: the session.
        turn: the number of the turn that asked for it.
        call_id: the call's id, as the row of the reply says it.
        tool: the tool's name, as the row of the reply says it.
        args_hash: the digest of its arguments, as the row of the reply says it.
    """
    named = {"session": session_id, "turn": turn, "call": call_id, "tool": tool, "args_hash": args_hash}
    return canonical.hash_hex("call", canonical.dumps(named))


def expiry(at: datetime, hours: int | None) -> str | None:
    """Return when an attestation that is made now expires; None: never, or not while there are calendars."""
    try:
        return None if hours is None else (at.astimezone(timezone.utc) + timedelta(hours=hours)).isoformat()
    except OverflowError:
        return None


def is_digest(value: object) -> bool:
    """Tell whether a value is 64 lower-case hex digits."""
    return isinstance(value, str) and len(value) == 64 and _HEX.issuperset(value)


def is_time(value: object) -> bool:
    """Tell whether a value is a time in UTC as `datetime.isoformat` spells it."""
    if not isinstance(value, str):
        return False
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return False
    return time.utcoffset() == timedelta(0) and time.isoformat() == value


def _is_text(value: object) -> bool:
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _read(raw: Any) -> Statement:
    predicate = cast("Mapping[str, Any]", raw["predicate"])
    words = _WORDS[predicate["decision"]]
    if set(predicate) != _PREDICATE | {words}:
        raise EnvelopeError("the statement's predicate has other fields than a review has")
    subjects = cast("Sequence[Mapping[str, Any]]", raw["subject"])
    digests = [(one["name"], one["digest"]["sha256"]) for one in subjects]
    return Statement(
        decision=predicate["decision"],
        reviewer=predicate["reviewer"],
        session_id=predicate["session"],
        origin=predicate["origin"],
        frame_hash=predicate["frameHash"],
        output_hash=next((digest for name, digest in digests if name == "output"), None),
        calls=tuple([(name.removeprefix("call:"), digest) for name, digest in digests if name.startswith("call:")]),
        verdicts=tuple([(one["criterion"], one["verdict"]) for one in predicate["verdicts"]]),
        words=predicate[words],
        expires_at=predicate["expiresAt"],
        at=predicate["at"],
    )


def _verifier(vkey: str) -> Verifier:
    try:
        return Verifier.parse(vkey)
    except CheckpointError as error:
        raise EnvelopeError(f"not a reviewer's key: {error}") from error
