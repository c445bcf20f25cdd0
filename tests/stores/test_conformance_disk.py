"""What every store must do on a disk that is full. No test here asks which store it has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sessions import SPEC, a_session, ask
from stores.kit import SIGNER
from stores.small_disk import SMALL_DISKS, SmallDisk

from donewhen.client import Reply
from donewhen.errors import LedgerUnavailableError
from donewhen.ledger import Ledger
from donewhen.notes import Verifier
from donewhen.permit import Permit
from donewhen.session import Session
from donewhen.usage import Usage
from donewhen.verify import verify_ledger


@pytest.fixture(params=sorted(SMALL_DISKS))
def small(request: pytest.FixtureRequest) -> Iterator[tuple[SmallDisk, str]]:
    """A disk, and where a ledger on it is."""
    with SMALL_DISKS[request.param]() as found:
        yield found


def admit_until_it_fails(session: Session) -> tuple[list[Permit], LedgerUnavailableError]:
    permits: list[Permit] = []
    while True:
        try:
            permits.append(session.admit(ask()))
        except LedgerUnavailableError as error:
            return permits, error


def test_a_full_disk_lets_no_call_go_and_loses_nothing_that_was_acknowledged(small: tuple[SmallDisk, str]) -> None:
    disk, place = small
    with Ledger(place, signer=SIGNER) as ledger:
        session = a_session(ledger, tokens=10**9, turns=10**9)
        first = session.admit(ask())
        disk.fill()
        permits, error = admit_until_it_fails(session)
        assert error.stored is False
        assert "full" in str(error) or "No space left on device" in str(error)
        # Reading goes on, and finds exactly what was acknowledged.
        reserved = [row.seq for row in ledger.rows(SPEC.session_id) if row.kind == "reserve"]
        assert reserved == [permit.seq for permit in (first, *permits)]
        disk.free()
        # What was under way is settled, and the session goes on, with what it has spent and reserved.
        reply = Reply(content=(), text="", tool_calls=(), stop_reason="end_turn", usage=Usage(1, 1))
        session.settle(first, reply)
        session.admit(ask())
        balance = session.newest_balance
        assert (balance.spent.tokens, balance.reserved.turns) == (2, len(permits) + 1)
        key = Verifier.parse(ledger.signed_by or "")
    verify_ledger(place, key)


def test_a_ledger_cannot_be_begun_on_a_full_disk_and_can_when_there_is_room(small: tuple[SmallDisk, str]) -> None:
    disk, place = small
    disk.fill()
    other = f"{place}-other"

    def begin_many() -> None:
        for number in range(10_000):  # a server may have room for some yet
            Ledger(f"{other}-{number}").close()

    with pytest.raises(LedgerUnavailableError) as caught:
        begin_many()
    assert caught.value.stored is False
    disk.free()
    with Ledger(f"{other}-10000") as ledger:
        assert ledger.write("s", 1, "here", "x", 1, 1, True) == 1
    verify_ledger(f"{other}-10000", None)
