from __future__ import annotations

import pytest
from stores.kit import SIGNER, a_balance, an_entry, key_of, open_sqlite

from donewhen.errors import LedgerUnavailableError
from donewhen.stores import Store
from donewhen.testing import FaultyStore


@pytest.fixture
def faulty(tmp_store):
    faulty = FaultyStore(open_sqlite(tmp_store, signer=SIGNER))
    yield faulty
    faulty.close()


def write(store: Store) -> int:
    with store.writing() as tx:
        return tx.append(an_entry(), (a_balance(),)).id


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("stored", [True, False])
def test_a_write_fails_by_order_and_is_stored_or_not(faulty, stored, honest) -> None:
    faulty.fail(stored=stored, honest=honest)
    with pytest.raises(LedgerUnavailableError, match="by order") as caught:
        write(faulty)
    assert caught.value.stored is (stored if honest else None)
    assert len(faulty.read_session("s")) == stored
    assert write(faulty) == 1 + stored


def test_only_the_chosen_writes_fail(faulty) -> None:
    write(faulty)
    faulty.fail(stored=False, after=1, times=2)
    outcomes = []
    for _ in range(5):
        try:
            outcomes.append(write(faulty))
        except LedgerUnavailableError:
            outcomes.append(None)
    assert outcomes == [2, None, None, 3, 4]
    assert faulty.begun == 6


def test_an_error_of_the_block_comes_before_the_fault(faulty) -> None:
    faulty.fail(stored=True)
    with pytest.raises(ZeroDivisionError), faulty.writing():
        raise ZeroDivisionError
    assert faulty.read_sessions() == []


def test_everything_else_is_the_real_stores(faulty, tmp_store) -> None:
    with faulty.writing() as tx:
        tx.put_text(tx.append(an_entry(), ()), "label", b"salt", b"text")
    real = open_sqlite(tmp_store, read_only=True)
    assert (faulty.path, faulty.origin, faulty.vkey) == (real.path, real.origin, key_of(tmp_store).vkey)
    assert faulty.read_session("s", ("write",)) == real.read_session("s") == [faulty.find_newest("s")]
    assert list(faulty.iter_bodies()) == list(real.iter_bodies())
    assert list(faulty.iter_sealed()) == list(real.iter_sealed())
    assert faulty.read_sessions() == [("s", 1, 1)]
    assert faulty.find_text(1, "label") == (b"salt", b"text")
    real.close()
