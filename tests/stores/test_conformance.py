"""What every store must do. No test here asks which store it has."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from stores.kit import SIGNER, STORES, a_balance, add, an_entry

from donewhen.entry import GENESIS, decode, link
from donewhen.errors import LedgerError, LedgerFormatError
from donewhen.merkle import leaf_hash, root_of, verify_consistency, verify_inclusion
from donewhen.notes import Checkpoint, open_note
from donewhen.stores import Cosigned
from donewhen.stores.log_tree import consistency_proof, inclusion_proof

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


# -- appending ---------------------------------------------------------------------------------------------------------


def test_ids_count_from_one_and_seqs_count_within_a_session(store) -> None:
    rows = add(store, an_entry("a"), an_entry("b"), an_entry("a"))
    rows += add(store, an_entry("b"))
    assert [(row.id, row.session_id, row.seq) for row in rows] == [(1, "a", 1), (2, "b", 1), (3, "a", 2), (4, "b", 2)]


def test_each_row_carries_the_digest_of_the_sessions_row_before(store) -> None:
    add(store, an_entry("a"), an_entry("b"))
    add(store, an_entry("a"), an_entry("a"))
    bodies = [body for _, body in store.iter_bodies()]
    rows = store.read_session("a")
    assert [row.prev for row in rows] == [GENESIS, link(leaf_hash(bodies[0])), link(leaf_hash(bodies[2]))]
    assert decode(bodies[1]).prev == GENESIS


def test_what_is_returned_is_what_is_stored(store) -> None:
    with store.writing() as tx:
        entry = an_entry("a", "error", turn_count=3, pass_fail=False, closes=1, data={"attempt": 2, "problem": "é\n"})
        row = tx.append(entry, (a_balance("a", 7),))
    assert store.read_session("a") == [row]
    assert store.find_newest("a") == row
    assert [decode(body, strict=True) for _, body in store.iter_bodies()] == [row]


def test_rows_of_one_transaction_have_the_time_that_was_handed_in(open_store) -> None:
    rows = add(open_store(now=lambda: NOON), an_entry(), an_entry())
    assert [row.created_at for row in rows] == ["2026-01-01T12:00:00+00:00"] * 2


def test_a_transaction_sees_its_own_rows(store) -> None:
    with store.writing() as tx:
        assert tx.head("a") is None
        first = tx.append(an_entry("a"), (a_balance("a"),))
        assert tx.find_row("a", 1) == first
        head = tx.head("a")
        closing = tx.append(an_entry("a", "error", closes=1), ())
        assert tx.find_closing("a", 1) == closing
    assert head is not None
    assert (head.seq, head.after) == (1, first.after)


def test_nobody_else_sees_a_row_before_the_transaction_has_ended(store, open_store) -> None:
    other = open_store()
    with store.writing() as tx:
        tx.append(an_entry("a"), ())
        assert other.read_session("a") == store.read_session("a") == []
    assert len(other.read_session("a")) == len(store.read_session("a")) == 1


def test_a_head_that_another_process_wrote_is_seen(store, open_store) -> None:
    other = open_store()
    add(store, an_entry("a"))
    add(other, an_entry("a"))
    assert add(store, an_entry("a"))[0].seq == 3


def test_a_closing_and_a_doubting_row_are_found_apart(store) -> None:
    add(store, an_entry("a"), an_entry("a", "abandoned", doubts=1), an_entry("a", "error", closes=1), an_entry("b"))
    with store.writing() as tx:
        assert [tx.find_closing("a", 1).seq, tx.find_closing("a", 1, doubts=True).seq] == [3, 2]
        assert tx.find_closing("a", 2) is tx.find_closing("b", 1) is tx.find_closing("b", 1, doubts=True) is None
        assert tx.find_row("a", 9) is tx.find_row("c", 1) is None


@pytest.mark.parametrize("mark", ["closes", "doubts"])
def test_the_store_itself_refuses_a_second_closing(store, mark) -> None:
    add(store, an_entry("a"), an_entry("a", "error", **{mark: 1}))
    with pytest.raises(LedgerError, match="Nothing of it is stored"):
        add(store, an_entry("a", "error", **{mark: 1}))
    assert len(store.read_session("a")) == 2
    assert [row.seq for row in add(store, an_entry("a"), an_entry("b", "error", **{mark: 1}))] == [3, 1]


# -- failing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
def test_any_error_in_the_block_passes_and_leaves_nothing(store, error) -> None:
    add(store, an_entry("a"))
    fault = error("by order")

    def write() -> None:
        with store.writing() as tx:
            tx.put_text(tx.append(an_entry("a"), ()), "label", b"salt", b"text")
            raise fault

    with pytest.raises(error) as caught:
        write()
    assert caught.value is fault
    assert len(store.read_session("a")) == 1
    assert store.find_text(2, "label") is None
    assert add(store, an_entry("a"))[0].id == 2


def test_an_entry_that_cannot_be_spelled_leaves_nothing_of_its_transaction(store) -> None:
    for bad in (an_entry(kind="unheard_of"), an_entry(data={"x": 1}), an_entry(kind="close", data={"reason": 0.5})):
        with pytest.raises((LedgerFormatError, TypeError)):
            add(store, an_entry(), bad)
    assert store.read_sessions() == []
    assert list(store.iter_sealed()) == []


def test_a_transaction_that_is_over_takes_nothing_more(store) -> None:
    with store.writing() as tx:
        row = tx.append(an_entry(), ())
    with pytest.raises(LedgerError, match="over"):
        tx.append(an_entry(), ())
    with pytest.raises(LedgerError, match="not of this transaction"):
        tx.put_text(row, "late", b"", b"")
    assert len(store.read_session("s")) == 1
    assert add(store, an_entry())[0].id == 2


def test_a_transaction_in_a_transaction_is_refused_and_the_outer_one_goes_on(store) -> None:
    with store.writing() as tx:
        tx.append(an_entry(), ())
        with pytest.raises(LedgerError, match="already"), store.writing():
            pytest.fail("the inner transaction was opened")
        tx.append(an_entry(), ())
    assert len(store.read_session("s")) == 2


def test_an_empty_transaction_writes_nothing(store) -> None:
    with store.writing():
        pass
    assert list(store.iter_sealed()) == []


# -- balances ----------------------------------------------------------------------------------------------------------


def touch(store, session_id: str, *after, kind: str = "write"):
    with store.writing() as tx:
        return tx.append(an_entry(session_id, kind), after)


def balances(store, *names: str):
    """Return balances as a transaction and as a reader sees them, which must be the same."""
    with store.writing() as tx:
        found = [tx.balance(name) for name in names]
    assert [store.find_balance(name) for name in names] == found
    return found


def test_a_balance_is_what_the_newest_row_that_touched_it_left(store, open_store) -> None:
    assert balances(store, "pool", "a") == [None, None]
    touch(store, "pool", a_balance("pool", 1))
    assert balances(store, "pool") == [a_balance("pool", 1)]
    touch(store, "a", a_balance("pool", 2), a_balance("a", 1))
    assert balances(store, "pool", "a") == [a_balance("pool", 2), a_balance("a", 1)]
    touch(store, "pool", a_balance("pool", 3))
    assert balances(store, "pool", "a", "b") == [a_balance("pool", 3), a_balance("a", 1), None]
    assert balances(open_store(), "pool", "a", "b") == [a_balance("pool", 3), a_balance("a", 1), None]


def test_a_balance_of_a_session_before_it_was_opened_is_none(store, open_store) -> None:
    add(store, an_entry("a"))
    assert balances(store, "a") == balances(open_store(), "a") == [None]


def test_a_balance_that_somebody_else_moved_is_seen(store, open_store) -> None:
    other = open_store()
    touch(store, "a", a_balance("a", 1))
    assert balances(store, "a") == balances(other, "a") == [a_balance("a", 1)]
    touch(other, "child", a_balance("a", 2), a_balance("child", 1))
    assert balances(store, "a", "child") == [a_balance("a", 2), a_balance("child", 1)]
    touch(store, "a", a_balance("a", 3))
    assert balances(other, "a") == [a_balance("a", 3)]


def test_a_balance_of_rows_that_were_undone_is_forgotten(store) -> None:
    touch(store, "a", a_balance("a", 1))

    def move_and_look(tx) -> None:
        tx.append(an_entry("child"), (a_balance("a", 2), a_balance("child", 2)))
        assert (tx.balance("a"), tx.head("a").after) == (a_balance("a", 2), (a_balance("a", 1),))
        raise ValueError("undone")

    with pytest.raises(ValueError, match="undone"), store.writing() as tx:
        move_and_look(tx)
    assert balances(store, "a", "child") == [a_balance("a", 1), None]


@pytest.mark.parametrize("first", ["head", "balance"])
def test_what_is_looked_up_in_a_transaction_that_is_undone_is_not_remembered(store, open_store, first) -> None:
    touch(store, "a", a_balance("a", 1))
    fresh = open_store()

    def move_and_look(tx) -> None:
        tx.append(an_entry("child"), (a_balance("a", 2), a_balance("child", 2)))
        getattr(tx, first)("a")
        raise ValueError("undone")

    with pytest.raises(ValueError, match="undone"), fresh.writing() as tx:
        move_and_look(tx)
    assert balances(fresh, "a") == [a_balance("a", 1)]


def test_the_newest_row_of_each_session_under_a_balance_is_found(store) -> None:
    pool = a_balance("pool")
    touch(store, "pool", pool)
    for session_id in ("b", "a", "b"):
        newest = touch(store, session_id, pool, a_balance(session_id))
    touch(store, "c", a_balance("c"))
    add(store, an_entry("before it was opened"))
    rows = store.read_under("pool")
    assert [row.session_id for row in rows] == ["b", "a"]
    assert rows[0] == newest
    assert store.read_under("c") == store.read_under("nobody") == []


# -- texts -------------------------------------------------------------------------------------------------------------


def test_a_text_is_kept_beside_its_row(store) -> None:
    with store.writing() as tx:
        rows = [tx.append(an_entry(), ()) for _ in range(2)]
        tx.put_text(rows[0], "one", b"s1", "é\0".encode())
        tx.put_text(rows[1], "one", b"s2", b"")
    assert store.find_text(1, "one") == (b"s1", "é\0".encode())
    assert store.find_text(2, "one") == (b"s2", b"")
    assert store.find_text(1, "two") is store.find_text(3, "one") is None


def test_a_text_cannot_be_put_beside_an_older_row_or_twice(store) -> None:
    (old,) = add(store, an_entry())
    with pytest.raises(LedgerError, match="not of this transaction"), store.writing() as tx:
        tx.put_text(old, "late", b"", b"")

    def put_twice() -> None:
        with store.writing() as tx:
            row = tx.append(an_entry(), ())
            tx.put_text(row, "twice", b"", b"1")
            tx.put_text(row, "twice", b"", b"2")

    with pytest.raises(LedgerError, match="Nothing of it is stored"):
        put_twice()
    assert len(store.read_session("s")) == 1


def test_erasing_takes_every_text_of_one_session_and_none_of_others(store) -> None:
    salt = b"s" * 32
    with store.writing() as tx:
        for session_id in ("a", "b", "a"):
            tx.put_text(tx.append(an_entry(session_id), ()), "one", salt, b"text")
    with store.writing() as tx:
        assert tx.erase_texts("a") == 2
        tx.append(an_entry("a"), ())
    for _ in range(2):
        assert [store.find_text(row_id, "one") for row_id in (1, 2, 3)] == [None, (salt, b"text"), None]
        store.scrub()


def test_erasing_is_part_of_its_transaction(store) -> None:
    with store.writing() as tx:
        tx.put_text(tx.append(an_entry("a"), ()), "one", b"s" * 32, b"text")

    def erase_and_fail() -> None:
        with store.writing() as tx:
            assert tx.erase_texts("a") == 1
            tx.append(an_entry("a"), ())
            raise KeyError

    with pytest.raises(KeyError):
        erase_and_fail()
    assert store.find_text(1, "one") == (b"s" * 32, b"text")
    with store.writing() as tx:
        assert tx.erase_texts("a") == 1
        tx.append(an_entry("a"), ())
        assert tx.erase_texts("a") == 0
    with pytest.raises(LedgerError, match="over"):
        tx.erase_texts("a")


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_session_is_read_by_kinds_in_order(store) -> None:
    add(store, an_entry("a", "llm"), an_entry("a", "close"), an_entry("b", "llm"), an_entry("a", "error"))
    assert [row.kind for row in store.read_session("a", ("error", "llm"))] == ["llm", "error"]
    assert store.read_session("a", ()) == store.read_session("c") == []
    assert store.find_newest("c") is None


def test_sessions_come_oldest_first(store) -> None:
    add(store, an_entry("z"), an_entry("a"), an_entry("z"))
    assert store.read_sessions() == [("z", 1, 3), ("a", 2, 2)]


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 1025])
def test_iterating_yields_every_row_once_whatever_the_pages(store, count) -> None:
    add(store, *[an_entry()] * count)
    assert [number for number, _ in store.iter_bodies()] == list(range(1, count + 1))
    assert [number for number, _ in store.iter_bodies(5)] == list(range(6, count + 1))


def test_iterating_sees_one_state_and_lets_others_write_meanwhile(store) -> None:
    add(store, an_entry(), an_entry())
    bodies = store.iter_bodies()
    assert next(bodies)[0] == 1
    add(store, an_entry())
    assert [number for number, _ in bodies] == [2]


@pytest.mark.parametrize("odd", ["", "\ud800", "é", "a'b", "%", "x" * 5000])
def test_asking_for_a_session_that_is_not_there_finds_nothing(store, odd) -> None:
    add(store, an_entry("a"))
    assert store.read_session(odd) == []
    assert store.find_newest(odd) is None


# -- the log -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signer", [None, SIGNER])
def test_every_commit_is_sealed_with_the_root_over_all_rows(open_store, signer) -> None:
    store = open_store(signer=signer)
    for count in (1, 2, 5, 1, 9):
        add(store, *[an_entry()] * count)
    leaves = [leaf_hash(body) for _, body in store.iter_bodies()]
    for sealed in store.iter_sealed():
        note = sealed.note if signer is None else open_note(sealed.note, signer.verifier.named(store.origin))
        assert Checkpoint.parse(note) == Checkpoint(store.origin, sealed.size, root_of(leaves[: sealed.size]))
    assert [(sealed.start, sealed.size) for sealed in store.iter_sealed()] == [(0, 1), (1, 3), (3, 8), (8, 9), (9, 18)]
    assert [sealed.size for sealed in store.iter_sealed(3)] == [8, 9, 18]


def test_a_sealed_state_is_found_by_what_it_covers(store) -> None:
    begun = store.newest_sealed()
    assert (begun.size, begun.start, begun.nodes) == (0, 0, b"")
    assert store.sealed_at(-1) == begun
    assert store.sealed_at(0) is None
    assert list(store.iter_sealed()) == []
    for count in (1, 2, 5):
        add(store, *[an_entry()] * count)
    states = list(store.iter_sealed())
    assert store.newest_sealed() == states[-1]
    assert [store.sealed_at(leaf) for leaf in range(-1, 9)] == [
        begun,
        states[0],
        *[states[1]] * 2,
        *[states[2]] * 5,
        None,
    ]


@pytest.mark.parametrize("count", [1, 2, 7, 13])
def test_proofs_are_read_from_what_is_stored(store, count) -> None:
    for _ in range(count):
        add(store, an_entry(), an_entry())
    leaves = [leaf_hash(body) for _, body in store.iter_bodies()]
    size = len(leaves)
    for index, leaf in enumerate(leaves):
        verify_inclusion(leaf, index, size, inclusion_proof(index, size, store.sealed_at), root_of(leaves))
        proof = consistency_proof(index, size, store.sealed_at)
        verify_consistency(index, size, proof, root_of(leaves[:index]), root_of(leaves))
    assert consistency_proof(size, size, store.sealed_at) == []


def test_a_cosignature_is_kept_beside_its_checkpoint_and_once(store, open_store) -> None:
    add(store, an_entry())
    add(store, an_entry())
    first, second = Cosigned(1, "w1", "— w1 AAAA", "t1"), Cosigned(2, "w1", "— w1 BBBB", "t2")
    store.put_cosigned(second, first)
    store.put_cosigned(first)
    store.put_cosigned(Cosigned(1, "w2", "— w2 CCCC", "t3"), Cosigned(1, "w1", first.line, "another time"))
    store.put_cosigned()
    assert [(found.size, found.vkey) for found in open_store().read_cosigned()] == [(1, "w1"), (1, "w2"), (2, "w1")]
    assert store.read_cosigned(2) == [second]
    assert store.read_cosigned(3) == []
    assert len(list(store.iter_sealed())) == 2


def test_a_cosignature_of_no_stored_checkpoint_is_refused_with_all_that_came_with_it(store) -> None:
    add(store, an_entry(), an_entry())
    for size in (1, 3):
        with pytest.raises(LedgerError, match="of a checkpoint that is stored"):
            store.put_cosigned(Cosigned(2, "w", "— w AAAA", "t"), Cosigned(size, "w", "— w AAAA", "t"))
    assert store.read_cosigned() == []


def test_rows_and_cosignatures_of_one_transaction_are_stored_together(store) -> None:
    add(store, an_entry())

    def fail() -> None:
        with store.writing() as tx:
            tx.append(an_entry(), ())
            tx.put_cosigned(Cosigned(1, "w", "— w AAAA", "t"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.read_cosigned() == []
    with store.writing() as tx:
        tx.append(an_entry(), ())
        tx.put_cosigned(Cosigned(1, "w", "— w AAAA", "t"))
    assert len(store.read_cosigned()) == 1
    with pytest.raises(LedgerError, match="over"):
        tx.put_cosigned(Cosigned(1, "w", "— w BBBB", "t"))


def test_a_store_is_the_same_after_it_was_closed(store, open_store) -> None:
    add(store, an_entry("a"))
    origin = store.origin
    store.close()
    store.close()
    assert add(store, an_entry("a"))[0].id == 2
    assert (open_store().origin, len(open_store().read_session("a"))) == (origin, 2)


# -- agreement with a plain list ---------------------------------------------------------------------------------------

SESSIONS = st.sampled_from(["a", "b", "ü"])
BATCHES = st.lists(st.tuples(SESSIONS, st.sampled_from(["write", "tool", "close"]), st.integers(0, 9)), max_size=4)


class Agreement(RuleBasedStateMachine):
    """A store, opened twice, beside a list of (session, kind, tokens)."""

    opening = staticmethod(STORES["sqlite"])

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.wanted: list[tuple[str, str, int]] = []

    @initialize(signed=st.booleans())
    def open(self, signed: bool) -> None:
        signer = SIGNER if signed else None
        self.stores = [type(self).opening(Path(self.folder.name, "ledger.db"), signer=signer) for _ in range(2)]

    @rule(which=st.integers(0, 1), batch=BATCHES)
    def append(self, which: int, batch: list[tuple[str, str, int]]) -> None:
        add(self.stores[which], *[an_entry(session, kind, token_delta=n) for session, kind, n in batch])
        self.wanted += batch

    @rule(which=st.integers(0, 1), batch=BATCHES)
    def fail(self, which: int, batch: list[tuple[str, str, int]]) -> None:
        def write() -> None:
            with self.stores[which].writing() as tx:
                for session, kind, tokens in batch:
                    tx.append(an_entry(session, kind, token_delta=tokens), ())
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            write()

    @rule(which=st.integers(0, 1))
    def close(self, which: int) -> None:
        self.stores[which].close()

    @invariant()
    def agrees(self) -> None:
        for store in self.stores:
            rows = [decode(body, strict=True) for _, body in store.iter_bodies()]
            assert [(row.session_id, row.kind, row.token_delta) for row in rows] == self.wanted
            assert [row.id for row in rows] == list(range(1, len(rows) + 1))
            for session in {session for session, _, _ in self.wanted}:
                mine = [row for row in rows if row.session_id == session]
                assert store.read_session(session) == mine
                assert [row.seq for row in mine] == list(range(1, len(mine) + 1))
                assert store.find_newest(session) == mine[-1]

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        self.folder.cleanup()


@pytest.mark.parametrize("name", sorted(STORES))
def test_a_store_agrees_with_a_plain_list(name) -> None:
    machine = type("AgreementOf", (Agreement,), {"opening": staticmethod(STORES[name])})
    run_state_machine_as_test(machine, settings=settings(max_examples=20, stateful_step_count=12, deadline=None))
    assert machine.opening is STORES[name]
