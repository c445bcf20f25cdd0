"""A session's policy: what its spec says about the review, fixed in a row when the session first opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from donewhen.entry import LedgerRow
from donewhen.errors import LedgerFormatError, SpecError
from donewhen.keyring import Keyring
from donewhen.spec import Review


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Who may review a session and how many must. Fixed when the session opens."""

    quorum: int = 1
    """How many different reviewers must attest."""
    reviewers: tuple[tuple[str, str | None], ...] = ()
    """(name, the verifier key enrolled under it when the session opened; None: it had none). Empty: anybody enrolled,
    or, where a name is enough, anybody."""
    expiry_hours: int | None = None
    """Hours after which an attestation no longer counts. None: it never expires."""
    own_work: bool = False
    """Whether the one who started the session may review it."""
    named: bool | None = None
    """Whether a name without a signature is enough. None, for sessions without a policy row: only where no reviewer
    had been enrolled in the log when it was written."""
    started_by: str = ""
    """The user who started the session; empty: not known."""

    def data(self) -> dict[str, Any]:
        """Return it as the data of its row."""
        return {
            "quorum": self.quorum,
            "reviewers": [{"name": name, "vkey": vkey} for name, vkey in self.reviewers],
            "expiry_hours": self.expiry_hours,
            "own_work": self.own_work,
            "named": self.named,
            "started_by": self.started_by,
        }


def policy_of(rows: Sequence[LedgerRow]) -> Policy:
    """Return the policy of a session: its row's, else what its spec agreed, else the default.

    Args:
        rows: every row of the session, in order, bookkeeping too.

    Raises:
        LedgerFormatError: the policy row cannot be read.
    """
    # The first: it is written in the commit that opens the session, and a later one softens nothing.
    row = next((row for row in rows if row.kind == "policy"), None)
    if row is not None:
        return _read_policy(row)
    for kind in ("open", "spec"):
        found = next((row for row in rows if row.kind == kind and "terms" in row.data), None)
        if found is not None:
            review = _review_of(found.data["terms"])
            named = None if review.signed is None else not review.signed
            return _policy(review, [(name, None) for name in review.reviewers], named=named, started_by="")
    return Policy()


def policy_data(terms: Mapping[str, Any] | None, keyring: Keyring, started_by: str) -> dict[str, Any]:
    """Return the data of the row that fixes a session's policy when it first opens.

    Each reviewer is fixed with the key that is enrolled under the name by then, so nobody can enrol another later.

    Args:
        terms: everything that was agreed beside the three answers, as plain data; its ``review`` says who may review.
        keyring: the keys of the log.
        started_by: the user who opens it.

    Raises:
        SpecError: signatures are asked for, and too few of the named reviewers have a key: it could never be released.
    """
    review = _review_of(terms)
    named = not keyring.ever_enrolled() if review.signed is None else not review.signed
    enrolled = {name: vkey for vkey, name in keyring.reviewers_at().items()}
    reviewers = [(name, enrolled.get(name)) for name in review.reviewers]
    keyless = [name for name, vkey in reviewers if vkey is None]
    if not named and reviewers and len(reviewers) - len(keyless) < review.quorum:
        problem = (
            f"no key is enrolled for {', '.join(keyless)}, and attestations must be signed, so nobody could ever "
            "release this. Enrol a key with 'donewhen key enroll', or say signed = false"
        )
        raise SpecError(problem, field="review.reviewers")
    return _policy(review, reviewers, named=named, started_by=started_by).data()


def _policy(
    review: Review, reviewers: Sequence[tuple[str, str | None]], *, named: bool | None, started_by: str
) -> Policy:
    return Policy(
        quorum=review.quorum,
        reviewers=tuple(reviewers),
        expiry_hours=review.expiry_hours,
        own_work=review.own_work,
        named=named,
        started_by=started_by,
    )


def _review_of(terms: object) -> Review:
    """Return what terms say about the review; what a door was given may be anything."""
    found = cast("Mapping[str, Any]", terms).get("review") if isinstance(terms, Mapping) else None
    if found is None:
        return Review()
    try:
        return Review(**found)
    except TypeError as error:
        raise SpecError(f"these are not the terms of a review ({error})", field="review") from error


def _read_policy(row: LedgerRow) -> Policy:
    data: dict[str, Any] = dict(row.data)
    try:
        reviewers = [(one["name"], one["vkey"]) for one in data["reviewers"]]
        review = Review(
            quorum=data["quorum"],
            reviewers=tuple([name for name, _ in reviewers]),
            expiry_hours=data["expiry_hours"],
            own_work=data["own_work"],
            signed=not data["named"],
        )
        policy = _policy(review, reviewers, named=data["named"], started_by=data["started_by"])
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerFormatError(f"the policy in row {row.id} cannot be read: {error}") from error
    keys = [vkey for _, vkey in reviewers if vkey is not None]
    texts = [policy.started_by, *keys]
    if policy.data() != data or type(policy.named) is not bool or not all(type(one) is str for one in texts):
        raise LedgerFormatError(f"the policy in row {row.id} cannot be read")
    return policy
