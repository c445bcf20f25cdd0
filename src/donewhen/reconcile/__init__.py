"""Calls in doubt, and how a person settles them.

A reservation that nothing closes is charged in full: its call was abandoned, or its process is gone. Only a person can
say what became of it, from the provider's word. `reconcile` writes that as a row which closes the reservation, once,
with who says so and why. Nothing is ever closed by itself: leases that expired were tried, and overspent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from donewhen import arguments
from donewhen.drafts import reconcile_entry
from donewhen.entry import LedgerRow
from donewhen.errors import LedgerError, SessionBusyError
from donewhen.fold import reserved_by
from donewhen.ledger import Draft
from donewhen.owner import is_alive
from donewhen.spec_prices import agreed_price

if TYPE_CHECKING:
    from donewhen.balance import Amounts
    from donewhen.ledger import Ledger
    from donewhen.usage import Price, Usage

Process = Literal["running", "gone", "unknown"]
"""What is known of the process that made a call; unknown is one on another host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallInDoubt:
    """A reservation that nothing closes."""

    row: LedgerRow
    """The row that made it."""
    problem: str | None
    """What is said of its outcome; None: no row says anything."""
    process: Process

    @property
    def session_id(self) -> str:
        """Return the session."""
        return self.row.session_id

    @property
    def turn(self) -> int:
        """Return the number of the turn."""
        return self.row.turn_count

    @property
    def attempt(self) -> int:
        """Return the number of the attempt at that turn."""
        return self.row.data["attempt"]

    @property
    def model(self) -> str:
        """Return the model that was asked."""
        return self.row.data["model"]

    @property
    def owner(self) -> str:
        """Return the process that made the call, ``host:pid:start``; empty where the row does not say."""
        return self.row.data.get("owner", "")

    @property
    def reserved(self) -> Amounts:
        """Return what it holds."""
        return reserved_by(self.row)

    @property
    def may_run(self) -> bool:
        """Return whether the call may still be under way: no row doubts it, and its process is not known to be gone."""
        return self.problem is None and self.process != "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a call really used, as its provider says."""

    usage: Usage | None = None
    """By kind."""
    tokens: int | None = None
    """Of all kinds together, where only that is known. Neither: the provider did no work."""

    def __post_init__(self) -> None:
        if self.usage is not None and self.tokens is not None:
            raise ValueError("what was used is known by kind or as one number, not both")
        counts = (self.tokens or 0,) if self.usage is None else self.usage.counts
        for count in counts:
            arguments.whole("tokens", count)


NO_WORK = Found()
"""The provider did no work."""


def iter_in_doubt(
    ledger: Ledger, session_id: str | None = None, *, alive: Callable[[str], bool | None] = is_alive
) -> Iterator[CallInDoubt]:
    """Yield the calls in doubt, oldest first.

    Args:
        ledger: where to look.
        session_id: of one session. None: of all.
        alive: tells whether a process still runs, None where that cannot be known.
    """
    rows = ledger.iter_rows() if session_id is None else iter(ledger.rows(session_id))
    found: dict[tuple[str, int], LedgerRow] = {}
    problems: dict[tuple[str, int], str] = {}
    for row in rows:
        if row.kind == "reserve":
            found[row.session_id, row.seq] = row
        elif row.closes is not None:
            found.pop((row.session_id, row.closes), None)
        elif row.doubts is not None:
            problems[row.session_id, row.doubts] = row.data["problem"]
    for place, row in found.items():
        is_running = alive(row.data.get("owner", ""))
        process: Process = "unknown" if is_running is None else "running" if is_running else "gone"
        yield CallInDoubt(row=row, problem=problems.get(place), process=process)


def reconcile(
    ledger: Ledger,
    call: CallInDoubt,
    found: Found,
    *,
    who: str,
    why: str,
    force: bool = False,
    find_price: Callable[[str], Price | None] | None = None,
) -> LedgerRow:
    """Replace a reservation in doubt by what its call really used, by a row that says who says so and why.

    The turn stays used, since another attempt may have been made at it. A reply that comes after all changes no balance.

    Args:
        ledger: where the call is.
        call: the call, from `iter_in_doubt`.
        found: what it used.
        who: who says so.
        why: how they know.
        force: also where the call may still be under way.
        find_price: returns the price of a model where the spec says none. Where no price is known the cost stays what
            was reserved.

    Raises:
        ValueError: nobody says who or why, or a number of tokens cannot be one.
        SessionBusyError: the call may still be under way, and it was not forced; nothing is written.
        PermitClosedError: it was closed meanwhile; nothing is written.
        LedgerUnavailableError: the store could not be written.
    """
    words = {"who": arguments.said("who", who), "why": arguments.said("why", why), "process": call.process}
    if call.may_run and not force:
        raise SessionBusyError(call.session_id, call.owner)
    finder = agreed_price(_terms_of(ledger, call.session_id), find_price)
    price = None if finder is None else finder(call.model)

    def decide(_balance: object, held: Amounts) -> tuple[Draft, list[Any]]:
        return Draft(reconcile_entry(call.row, held, found.usage, found.tokens, price, words)), []

    # A crash before this commit leaves the reservation in full, after it what the row says: there is nothing between.
    return ledger.close_reservation(call.session_id, call.row.seq, decide)[0]


def find_call(calls: list[CallInDoubt], turn: int, attempt: int | None) -> CallInDoubt:
    """Return the call that a person means.

    Raises:
        LedgerError: there is none, or several.
    """
    meant = [call for call in calls if call.turn == turn and attempt in (None, call.attempt)]
    if len(meant) == 1:
        return meant[0]
    which = f"turn {turn}" if attempt is None else f"attempt {attempt} of turn {turn}"
    if not meant:
        raise LedgerError(f"no call of {which} is in doubt")
    attempts = ", ".join(str(call.attempt) for call in meant)
    raise LedgerError(f"{len(meant)} calls of {which} are in doubt; say which attempt: {attempts}")


def _terms_of(ledger: Ledger, session_id: str) -> dict[str, Any]:
    """Return what was agreed beside the answers: with the spec, or where the answers were stored first, on opening."""
    for row in ledger.rows(session_id):
        if row.kind in ("spec", "open") and row.data.get("terms") is not None:
            return row.data["terms"]
    return {}
