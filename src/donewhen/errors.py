"""Every error that donewhen raises on purpose.

DonewhenError
  SpecError               an answer is missing or wrong, or the spec is not the one that was stored
  CircuitBreakerError     a ceiling would be crossed; carries reason, turn_count, accumulated_tokens
  CallError
    OutcomeUnknownError   a call was sent and nobody knows whether it was billed
    PriceUnknownError     a cost ceiling is set and the model's price is not known
    UnboundedRequestError nobody can say how much the request can at most use
    ReplyError            the client returned something that is not a reply
    NotGovernedError      a part of a guarded client could spend without a reservation (also an AttributeError)
  ToolError               a tool cannot be described to a model, or was called wrongly
  CheckError              a check itself is broken (which is not "not met")
  LedgerError
    LedgerUnavailableError  the store could not be read or written; says what is and is not stored
    LedgerTamperedError     the record is not what was signed; carries the row
    LedgerFormatError       the file is a database, but not one of ours
      StoreAddressError     what should name a store is a malformed URL (also a ValueError)
    CheckpointError         a signed note is malformed, or its signature is not good
    WitnessError            a witness could not be asked, or its answer is no cosignature
      WitnessRefusedError   a witness will not cosign; carries the status, and the size that it knows
    NotKeptError            the newest checkpoint is not everywhere where it was to be kept
    KeyFileError            a key file is missing, too widely readable, or not a key
    BudgetNotFoundError     no such budget (also a KeyError)
    NotProvableError        nothing is wrong, but what was asked cannot be proven: no key, unsigned, no witness
  SessionError
    SessionEndedError     the session is over
    SessionBusyError      another live process has the session
      ReleaseBusyError    another live process is handing its output on
    HaltedError           a person has ordered that no call is made
    PermitClosedError     the permit was settled, released or abandoned already
  ReviewError
    SessionNotFoundError  no such session (also a KeyError)
    FrameChangedError     what the reviewer saw is not what is there now
    AttestationError      a person's word cannot count: wrong key, not a reviewer, of another session, ...
      EnvelopeError       a signed envelope is malformed, or says something that is no review
    NotReleasedError      the output still waits for a person; says what is missing, or who rejected it
    DeliveryError         the output could not be handed on; says whether it may have been all the same
  MissingExtraError       an optional package is not installed; says which extra brings it

All are ordinary exceptions: hashable, picklable, and their message is made from their facts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from donewhen.balance import Breach


class DonewhenError(Exception):
    """The root of all errors raised on purpose."""


class SpecError(DonewhenError, ValueError):
    """Tell what is wrong with a spec.

    Args:
        problem: one sentence.
        field: the answer or key at fault, where there is one.
        value: what was found there.
        path: the spec file, where there is one.
    """

    def __init__(
        self, problem: str, *, field: str | None = None, value: object = None, path: str | None = None
    ) -> None:
        super().__init__(problem)
        self.problem, self.field, self.value, self.path = problem, field, value, path

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.path, self.field) if part)
        text = f"{where}: {self.problem}" if where else self.problem
        return text if self.value is None else f"{text} (found {self.value!r})"


class CircuitBreakerError(DonewhenError):
    """Tell that a ceiling would be crossed.

    Args:
        reason: what `Breach.reason` says.
        turn_count: the number of the turn that was refused.
        accumulated_tokens: tokens spent and still reserved before it.
        breach: the arithmetic behind the reason, where it is known.
    """

    def __init__(self, reason: str, turn_count: int, accumulated_tokens: int, *, breach: Breach | None = None) -> None:
        super().__init__(reason, turn_count, accumulated_tokens)
        self.reason, self.turn_count = reason, turn_count
        self.accumulated_tokens, self.breach = accumulated_tokens, breach

    def __str__(self) -> str:
        text = f"{self.reason} (turn={self.turn_count}, tokens={self.accumulated_tokens})"
        return text if self.breach is None else f"{text}: {self.breach}"


class CallError(DonewhenError):
    """The root of what can go wrong with a call to a provider."""


class OutcomeUnknownError(CallError):
    """Tell that a call was sent and nobody knows whether it was billed; its reservation stands."""


class PriceUnknownError(CallError):
    """Tell that a cost ceiling is set for a model whose price is not known."""

    def __init__(self, model: str, problem: str = "no price is known") -> None:
        super().__init__(model, problem)
        self.model, self.problem = model, problem

    def __str__(self) -> str:
        return (
            f"{self.problem} for the model {self.model!r}, so a cost ceiling cannot be kept. "
            "Give one in the spec (`prices`), or take the cost ceiling away."
        )


class UnboundedRequestError(CallError):
    """Tell that nobody can say how much a request can at most use."""

    def __init__(self, part: str) -> None:
        super().__init__(part)
        self.part = part

    def __str__(self) -> str:
        return f"the request cannot be bounded because of {self.part}. Leave it out, send it inline, or state context_window_tokens."


class ReplyError(CallError):
    """Tell that a client returned something that is not a reply."""


class NotGovernedError(CallError, AttributeError):
    """Tell that a part of a guarded client could spend without a reservation, so that it is not there."""


class ToolError(DonewhenError):
    """Tell that a tool cannot be described to a model, or was called wrongly."""


class CheckError(DonewhenError):
    """Tell that a check itself is broken, which is not the same as "not met"."""


class LedgerError(DonewhenError):
    """The root of what can go wrong with the record."""


class LedgerUnavailableError(LedgerError):
    """Tell that the store could not be read or written.

    Args:
        path: the store.
        problem: one sentence.
        stored: True if what was being written is stored, False if it is not, None if nobody knows.
    """

    def __init__(self, path: str, problem: str, *, stored: bool | None = False) -> None:
        super().__init__(path, problem)
        self.path, self.problem, self.stored = path, problem, stored

    def __str__(self) -> str:
        known = {
            True: "What was being written is stored.",
            False: "Nothing was written.",
            None: "What was being written may or may not be stored: read the session before writing it again.",
        }
        return f"{self.path}: {self.problem}. {known[self.stored]}"


class LedgerTamperedError(LedgerError):
    """Tell that the record is not what was signed.

    Args:
        problem: one sentence.
        row_id: the first row at fault, where one can be named.
        size: how many rows the checkpoint at fault covers, where it is one.
    """

    def __init__(self, problem: str, *, row_id: int | None = None, size: int | None = None) -> None:
        super().__init__(problem)
        self.problem, self.row_id, self.size = problem, row_id, size

    def __str__(self) -> str:
        return self.problem if self.row_id is None else f"row {self.row_id}: {self.problem}"


class LedgerFormatError(LedgerError):
    """Tell that a file is not a ledger of ours, or of a version this one cannot read."""


class StoreAddressError(LedgerFormatError, ValueError):
    """Tell that what should name a store is a malformed URL. The URL is not in it: it may hold a password."""


class CheckpointError(LedgerError, ValueError):
    """Tell that a signed note is malformed, or that its signature is not good."""


class WitnessError(LedgerError):
    """Tell why there is no cosignature of a witness.

    Args:
        name: the witness.
        problem: one sentence.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name, self.problem = name, problem

    def __str__(self) -> str:
        return f"the witness {self.name}: {self.problem}"


class WitnessRefusedError(WitnessError):
    """Tell that a witness will not cosign.

    Args:
        name: the witness.
        status: the HTTP status of its answer.
        said: what it said.
        size: how many rows of the log it says it has seen, where it said so.
    """

    def __init__(self, name: str, status: int, said: str, *, size: int | None = None) -> None:
        super().__init__(name, f"it does not cosign ({status}): {said}")
        self.args = (name, status, said)
        self.status, self.said, self.size = status, said, size


class NotKeptError(LedgerError):
    """Tell where the newest checkpoint could not be kept. No row is lost by it.

    Args:
        size: the rows under the checkpoint.
        problems: one sentence for each place.
    """

    def __init__(self, size: int, problems: tuple[str, ...]) -> None:
        super().__init__(size, problems)
        self.size, self.problems = size, problems

    def __str__(self) -> str:
        rows = "1 row" if self.size == 1 else f"{self.size} rows"
        return f"the checkpoint of {rows} is not kept everywhere: {'; '.join(self.problems)}"


class KeyFileError(LedgerError):
    """Tell that a key file is missing, too widely readable, or not a key."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class BudgetNotFoundError(LedgerError, KeyError):
    """Tell that there is no such budget."""

    def __str__(self) -> str:
        return f"there is no budget {self.args[0]}. Begin it with 'donewhen budget new {self.args[0]}'"


class NotProvableError(LedgerError):
    """Tell that nothing was found wrong, and that what was asked still cannot be proven with what was given."""


class SessionError(DonewhenError):
    """The root of what can go wrong with a session."""


class SessionEndedError(SessionError):
    """Tell that a session is over."""

    def __init__(self, session_id: str, outcome: str, advice: str) -> None:
        super().__init__(session_id, outcome, advice)
        self.session_id, self.outcome, self.advice = session_id, outcome, advice

    def __str__(self) -> str:
        return f"session {self.session_id} has ended ({self.outcome}). {self.advice}"


class SessionBusyError(SessionError):
    """Tell that another live process has the session."""

    def __init__(self, session_id: str, owner: str) -> None:
        super().__init__(session_id, owner)
        self.session_id, self.owner = session_id, owner

    def __str__(self) -> str:
        return f"session {self.session_id} is being run by {self.owner}. Wait for it, or stop it first."


class ReleaseBusyError(SessionBusyError):
    """Tell that another live process is handing a session's output on."""

    def __str__(self) -> str:
        return f"the output of session {self.session_id} is being handed on there by {self.owner}. Wait for it."


class HaltedError(SessionError):
    """Tell that a person has ordered that no call is made.

    Args:
        whose: what was halted, for people: ``session ID``, ``the budget NAME`` or ``everything``.
    """

    def __init__(self, session_id: str, whose: str, who: str, why: str) -> None:
        super().__init__(session_id, whose, who, why)
        self.session_id, self.whose, self.who, self.why = session_id, whose, who, why

    def __str__(self) -> str:
        return f"{self.whose} was halted by {self.who}: {self.why}"


class PermitClosedError(SessionError):
    """Tell that a permit was settled, released or abandoned already."""

    def __init__(self, session_id: str, seq: int, kind: str) -> None:
        super().__init__(session_id, seq, kind)
        self.session_id, self.seq, self.kind = session_id, seq, kind

    def __str__(self) -> str:
        return f"the reservation in row {self.seq} of session {self.session_id} was closed already (by {self.kind!r})"


class ReviewError(DonewhenError):
    """The root of what can go wrong with a review."""


class SessionNotFoundError(ReviewError, KeyError):
    """Tell that there is no such session to look at."""

    def __init__(self, session_id: str, problem: str = "no such session") -> None:
        super().__init__(session_id, problem)
        self.session_id, self.problem = session_id, problem

    def __str__(self) -> str:
        return f"{self.session_id}: {self.problem}"


class FrameChangedError(ReviewError):
    """Tell that what the reviewer saw is not what is there now."""


class AttestationError(ReviewError):
    """Tell why an attestation or a rejection cannot count, in one sentence."""


class EnvelopeError(AttestationError, ValueError):
    """Tell that a signed envelope is malformed, or that what it holds is no review."""


class NotReleasedError(ReviewError):
    """Tell why an output is not handed on: whether a rejection stands, and how many reviewers are missing."""

    def __init__(self, session_id: str, problem: str, rejected: bool = False, missing: int = 0) -> None:
        super().__init__(session_id, problem, rejected, missing)
        self.session_id, self.problem = session_id, problem
        self.rejected, self.missing = rejected, missing

    def __str__(self) -> str:
        return f"the output of session {self.session_id} is not released: {self.problem.rstrip('.')}."


class DeliveryError(ReviewError):
    """Tell that an output that may be released could not be handed on.

    Args:
        target: where it was to go, as the ledger names it.
        problem: one sentence.
        known: True if it is certain that it was not taken. False: it may have been; the release stays begun.
        said: what the receiver said, for a person. It is not recorded: it may quote anything.
    """

    def __init__(self, target: str, problem: str, known: bool = True, said: str = "") -> None:
        super().__init__(target, problem, known, said)
        self.target, self.problem = target, problem
        self.known, self.said = known, said

    def __str__(self) -> str:
        then = "It was not taken." if self.known else "Whether it was taken is not known, so the release stays begun."
        return f"{self.target}: {self.problem.rstrip('.')}. {then}"


class MissingExtraError(DonewhenError, ImportError):
    """Tell which extra brings a package that is not installed."""

    def __init__(self, extra: str, needed_for: str) -> None:
        super().__init__(extra, needed_for)
        self.extra, self.needed_for = extra, needed_for

    def __str__(self) -> str:
        return f"{self.needed_for} needs a package that is not installed: pip install 'donewhen[{self.extra}]'"
