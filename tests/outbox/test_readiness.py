"""Whether an output could be released: asking writes nothing, and says what is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from reviews import House
from stores.kit import tamper

from donewhen.errors import DeliveryError, LedgerTamperedError, NotReleasedError
from donewhen.ledger import Ledger
from donewhen.outbox import Outbox, ToCommand, ToFile
from donewhen.outbox.readiness import MOST_WHYS, Readiness


@pytest.fixture
def house(tmp_store: Path) -> Iterator[House]:
    house = House(tmp_store)
    yield house
    house.close()


def check(house: House) -> Readiness:
    with Ledger(house.path, read_only=True) as ledger:
        return Outbox(ledger, now=house.clock.now).check("s")


def test_asking_needs_no_key_and_writes_nothing(house: House) -> None:
    house.finish()
    before = house.path.read_bytes()
    assert not check(house).is_ready
    assert house.path.read_bytes() == before


def test_it_says_what_waits_and_who_agreed(house: House) -> None:
    house.finish(text="# é")
    house.surface.attest("s", "ann")
    ready = check(house)
    assert (ready.is_ready, ready.problem, ready.outcome, ready.size) == (True, None, "done", 4)
    assert ready.output_hash == hashlib.sha256("# é".encode()).hexdigest()
    assert [one.reviewer for one in ready.judgement.counted] == ["ann"]


def test_what_it_says_is_what_a_release_says(house: House, tmp_path: Path) -> None:
    house.enroll("ann")
    house.finish()
    house.surface.attest("s", "bob")
    problem = check(house).problem
    with pytest.raises(NotReleasedError) as caught:
        Outbox(house.ledger, now=house.clock.now).release("s", ToFile(tmp_path / "out"))
    assert caught.value.problem == problem
    assert "bob is a name without a signature" in (problem or "")


def test_of_many_words_that_do_not_count_the_first_are_told(house: House) -> None:
    house.enroll("ann")
    house.finish()
    for number in range(MOST_WHYS + 3):
        house.surface.attest("s", f"somebody {number}")
    problem = check(house).problem or ""
    assert problem.count("does not count") == MOST_WHYS
    assert problem.endswith("and 3 more do not")


def test_it_lists_what_was_tried(house: House, tmp_path: Path) -> None:
    house.finish()
    house.surface.attest("s", "ann")
    box = Outbox(house.ledger, now=house.clock.now)
    box.release("s", ToFile(tmp_path / "out"))
    with pytest.raises(DeliveryError):
        box.release("s", ToCommand(["false"]))
    with pytest.raises(DeliveryError):
        box.release("s", ToCommand(["sh", "-c", "kill -9 $$"]))
    assert [(past.state, past.problem) for past in check(house).releases] == [
        ("done", None),
        ("failed", "it ended with exit status 1"),
        ("begun", None),
    ]


def test_a_record_that_was_changed_is_not_called_ready(tmp_store: Path) -> None:
    house = House(tmp_store)
    house.finish()
    house.surface.attest("s", "ann")
    house.close()
    tamper(tmp_store, "UPDATE entries SET body = replace(body, 'ann', 'bob') WHERE kind = 'attest'")
    with pytest.raises(LedgerTamperedError, match="not the row that was sealed"):
        check(house)
