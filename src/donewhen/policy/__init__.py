"""Who may review a session, how many must, and whether what they said is enough.

A session's policy is a row, written when the session first opens, so nobody can soften it afterwards. `judge` is the
one place that says whether an output may be released or a held call may be run. It is a pure function of the session's
rows and of the log's keys, and it fails closed: what it cannot read, prove or place does not count, and it says why in
one sentence.

A reviewer has one standing word about a subject: the newest that counts. A rejection stands until the same reviewer
attests again, or, for an output, until the frame changes; nobody else can lift it. Whoever started the session may
reject it, and take that back; only others can let it pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from donewhen.entry import LedgerRow
from donewhen.keyring import Keyring, same_name
from donewhen.notes import Verifier
from donewhen.policy.hearing import Bench, Call, Counted, NotCounted, Output, Word
from donewhen.policy.row import Policy, policy_data, policy_of

if TYPE_CHECKING:
    from donewhen.ledger import Ledger

__all__ = [
    "Call",
    "Counted",
    "Grounds",
    "Judgement",
    "NotCounted",
    "Output",
    "Policy",
    "judge",
    "policy_data",
    "policy_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Whether what reviewers said is enough."""

    counted: tuple[Counted, ...]
    """One attestation for each reviewer, oldest first."""
    not_counted: tuple[NotCounted, ...]
    missing: int
    """How many more reviewers must attest."""
    rejected: tuple[Counted, ...]
    """The rejections that stand, oldest first."""
    released_ok: bool
    """Whether it may be released, or run."""
    sentence: str
    """What is so, for a person: who agreed, what is missing, or who refused and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What a judgement stands on beside a session's rows."""

    keyring: Keyring
    origin: str
    """The log's name."""
    now: datetime
    """Aware UTC."""
    log_vkey: str | None = None
    """The key that the log was begun with; None: unsigned."""

    @classmethod
    def of(cls, ledger: Ledger, now: datetime) -> Grounds:
        """Return the grounds in a ledger as it is now.

        Raises:
            LedgerTamperedError: a ``key`` row says nothing that one can say.
            LedgerUnavailableError: the store cannot be read.
        """
        return cls(keyring=Keyring.read(ledger), origin=ledger.origin, now=now, log_vkey=ledger.signed_by)

    def judge(self, rows: Sequence[LedgerRow], subject: Output | Call) -> Judgement:
        """Judge by the session's own policy; see `donewhen.policy.judge`.

        Raises:
            LedgerFormatError: the policy row cannot be read.
            The errors of `donewhen.policy.judge`.
        """
        policy = policy_of(rows)
        return judge(rows, subject, self.keyring, policy, self.now, self.origin, log_vkey=self.log_vkey)


def judge(
    rows: Sequence[LedgerRow],
    subject: Output | Call,
    keyring: Keyring,
    policy: Policy,
    now: datetime,
    origin: str,
    *,
    log_vkey: str | None = None,
) -> Judgement:
    """Judge whether the reviewers that a session's policy asks for have agreed.

    Args:
        rows: every row of the session, in order, bookkeeping too.
        subject: the output or the held call that it is about.
        keyring: the keys of the log.
        policy: of the session, as `policy_of` reads it.
        now: aware UTC; what has expired by then does not count.
        origin: the log's name: what was signed for another log does not count.
        log_vkey: the key that the log was begun with; none of the log's keys is a reviewer's. None: unsigned.

    Raises:
        MissingExtraError: something is signed, and the ``sign`` extra is not installed.
        LedgerTamperedError: the log's keys do not follow from one another.
    """
    bench = Bench(subject, keyring, policy, now, origin, _public_keys(keyring, log_vkey))
    for row in rows:
        if row.kind in ("attest", "reject"):
            bench.hear(row)
    standing = [word for word in bench.standing if word.row.kind == "attest"]
    against = [word for word in bench.standing if word.row.kind == "reject"]
    missing = max(0, policy.quorum - len(standing))
    return Judgement(
        counted=tuple([word.counted for word in standing]),
        not_counted=tuple(sorted(bench.not_counted, key=lambda one: one.row_id)),
        missing=missing,
        rejected=tuple([word.counted for word in against]),
        released_ok=not against and not missing,
        sentence=_sentence(standing, against, missing, policy),
    )


def _public_keys(keyring: Keyring, log_vkey: str | None) -> frozenset[bytes]:
    if log_vkey is None:
        return frozenset()
    return frozenset(Verifier.parse(vkey).public_key for _, vkey in keyring.log_keys(log_vkey))


def _sentence(standing: Sequence[Word], against: Sequence[Word], missing: int, policy: Policy) -> str:
    if against:
        return "; ".join(f"{word.reviewer} rejected it: {word.words}" for word in against)
    agreed = ", ".join(
        f"{word.reviewer} ({'signed' if word.public_key is not None else 'named, not proven'})" for word in standing
    )
    if not missing:
        return f"attested by {agreed}"
    left = [
        name
        for name, _ in policy.reviewers
        if not any(same_name(word.reviewer) == same_name(name) for word in standing)
    ]
    by = f" of {', '.join(left)}" if left else ""
    so_far = f"; so far attested by {agreed}" if agreed else ""
    return f"{missing} more {'reviewer' if missing == 1 else 'reviewers'}{by} must attest{so_far}"
