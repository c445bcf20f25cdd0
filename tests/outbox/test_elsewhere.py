"""Before anything is handed on, the checkpoint that covers it is kept elsewhere; a witness that refuses stops it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reviews import House

from donewhen.agent_loop import AgentLoop
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.elsewhere import Elsewhere
from donewhen.errors import NotKeptError, NotReleasedError
from donewhen.notes import LocalSigner
from donewhen.outbox import Outbox, ToFile
from donewhen.outbox.delivery import Parcel
from donewhen.spec import Spec
from donewhen.spec_record import Record
from donewhen.spec_writer import SpecResult
from donewhen.testing import ScriptedClient, Witness, make_reply


@pytest.fixture
def house(tmp_store: Path) -> Iterator[House]:
    house = House(tmp_store)
    yield house
    house.close()


@pytest.fixture
def witness() -> Iterator[Witness]:
    with Witness() as opened:
        yield opened


def ready(house: House) -> House:
    house.finish()
    house.surface.attest("s", "ann")
    return house


def asking(*witnesses: Witness, files: tuple[str, ...] = ()) -> Elsewhere:
    return Elsewhere(files=files, witnesses=[(one.url, one.vkey) for one in witnesses], timeout_seconds=30)


def run_with_record(house: House, **record: Any) -> None:
    spec = Spec(what_it_does="a", what_it_does_not="b", done_looks_like="c", record=Record(**record))
    breaker = CircuitBreaker(9, 1_000_000, output_fn=lambda _: None)
    client = ScriptedClient(make_reply("# Report"))
    loop = AgentLoop(
        SpecResult("a", "b", "c", "s"), breaker, house.ledger, client, terms=spec.terms(), find_price=lambda _: None
    )
    loop.run("Report it")
    house.surface.attest("s", "ann")


class Looking:
    """A target that notes what a witness had cosigned, and which row was the newest, when it was handed something."""

    name, repeats = "test:looking", True

    def __init__(self, house: House, witness: Witness) -> None:
        self.seen: list[tuple[int, int, str]] = []
        self._house = house
        self._witness = witness

    def deliver(self, parcel: Parcel) -> str:
        del parcel
        newest = self._house.rows()[-1]
        size = self._witness.size_of(self._house.ledger.origin)
        self.seen.append((size, newest.id, newest.data["state"]))
        return ""


def test_the_witness_has_cosigned_the_row_that_began_it_before_anything_leaves(house: House, witness: Witness) -> None:
    witness.trust(house.ledger.origin, house.log_key.vkey)
    target = Looking(ready(house), witness)
    Outbox(house.ledger, elsewhere=asking(witness)).release("s", target)
    ((size, newest, state),) = target.seen
    assert (size, state) == (newest, "begun")


def test_a_witness_that_refuses_stops_it_and_the_ledger_says_so(house: House, witness: Witness, tmp_path: Path) -> None:
    witness.trust(house.ledger.origin, LocalSigner("other", bytes(32)).vkey)
    box = Outbox(ready(house).ledger, elsewhere=asking(witness))
    with pytest.raises(NotKeptError):
        box.release("s", ToFile(tmp_path / "out"))
    begun, failed = house.rows("release")
    assert (begun.data["state"], failed.data["state"], failed.data["begun"]) == ("begun", "failed", begun.seq)
    assert "kept elsewhere" in failed.data["problem"]
    assert not (tmp_path / "out").exists()
    witness.trust(house.ledger.origin, house.log_key.vkey)
    assert box.release("s", ToFile(tmp_path / "out")).is_new


def test_a_witness_that_is_gone_stops_it(house: House, tmp_path: Path) -> None:
    with Witness() as gone:
        elsewhere = asking(gone)
    with pytest.raises(NotKeptError):
        Outbox(ready(house).ledger, elsewhere=elsewhere).release("s", ToFile(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_ledger_that_was_rolled_back_releases_nothing(house: House, witness: Witness, tmp_path: Path) -> None:
    """The witness has seen a later state of this log than the one that would be released from."""
    witness.trust(house.ledger.origin, house.log_key.vkey)
    ready(house).ledger.close()
    old = house.path.read_bytes()
    later = House(house.path)
    later.ledger.write("other", 1, "llm", "x", 1, 1, True)
    later.ledger.write("other", 2, "llm", "x", 1, 1, True)
    later.ledger.write("other", 3, "llm", "x", 1, 1, True)
    asking(witness).keep(later.ledger)
    later.close()
    house.path.write_bytes(old)
    back = House(house.path)
    with pytest.raises(NotKeptError):
        Outbox(back.ledger, elsewhere=asking(witness)).release("s", ToFile(tmp_path / "out"))
    back.close()
    assert not (tmp_path / "out").exists()


def test_where_the_spec_says_so_it_is_kept_unasked(house: House, witness: Witness, tmp_path: Path) -> None:
    witness.trust(house.ledger.origin, house.log_key.vkey)
    kept = tmp_path / "checkpoints.txt"
    run_with_record(house, checkpoint_to=(str(kept),), witnesses=((witness.url, witness.vkey),))
    target = Looking(house, witness)
    Outbox(house.ledger).release("s", target)
    assert target.seen[0][0] == target.seen[0][1]
    assert f"\n{target.seen[0][1]}\n" in kept.read_text(encoding="utf-8")


def test_a_witness_of_the_spec_cannot_be_left_out_by_naming_another_place(house: House, tmp_path: Path) -> None:
    with Witness() as gone:
        run_with_record(house, witnesses=((gone.url, gone.vkey),))
    mine = asking(files=(str(tmp_path / "mine.txt"),))
    with pytest.raises(NotKeptError):
        Outbox(house.ledger, elsewhere=mine).release("s", ToFile(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_terms_that_cannot_be_used_release_nothing(house: House, tmp_path: Path) -> None:
    terms = {"record": {"witnesses": [{"url": "ftp://x", "vkey": "none"}]}}
    breaker = CircuitBreaker(9, 1_000_000, output_fn=lambda _: None)
    spec = SpecResult("a", "b", "c", "s")
    client = ScriptedClient(make_reply("# Report"))
    AgentLoop(spec, breaker, house.ledger, client, terms=terms, find_price=lambda _: None).run("Report it")
    house.surface.attest("s", "ann")
    with pytest.raises(NotReleasedError, match="cannot be used"):
        Outbox(house.ledger).release("s", ToFile(tmp_path / "out"))
    assert house.rows("release") == []
