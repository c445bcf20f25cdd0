"""Every attack on a ledger of 200 rows is caught: as it is, and after an honest append."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from attacks.forger import Forger, copy
from attacks.kit import TABLES, Copied, alter_columns, go_on_honestly, refuse
from attacks.ledger_200 import BUDGETS, FIRST, KEY, ROWS, SESSIONS, SIGNER, kinds
from attacks.moves import SLIPPED_KINDS, all_moves
from attacks.places import places_in, shapes, with_place_altered
from attacks.whole_logs import cut_back, cut_back_to_nothing, rewrite_with_the_key
from donewhen.errors import LedgerError, LedgerTamperedError
from donewhen.ledger import Ledger
from donewhen.notes import Verifier
from donewhen.verify import Seen, verify_ledger

MOVES = all_moves()


def test_the_ledger_that_is_attacked_is_honest_and_has_every_kind(honest: Path) -> None:
    report, forger = verify_ledger(honest, KEY), Forger(honest)
    assert (report.rows, report.not_proven) == (ROWS, None)
    assert kinds(forger.rows) == set(SLIPPED_KINDS)
    own = {"donewhen:log", "donewhen:all", *(f"donewhen:budget:{name}" for name in BUDGETS)}
    assert {row["session"] for row in forger.rows} == {*SESSIONS, *own}


def test_what_was_not_changed_is_rewritten_to_the_letter(copied: Copied, honest: Path) -> None:
    forger = copied(honest)
    forger.rewrite()
    assert verify_ledger(forger.path, KEY).rows == ROWS


@pytest.mark.parametrize("name", MOVES)
def test_an_attack_is_caught(copied: Copied, honest: Path, name: str) -> None:
    forger = copied(honest)
    MOVES[name](forger)
    refuse(forger.path)


@pytest.mark.parametrize("name", MOVES)
def test_an_attack_is_caught_after_an_honest_append(copied: Copied, honest: Path, name: str) -> None:
    forger = copied(honest)
    MOVES[name](forger)
    go_on_honestly(forger.path)
    refuse(forger.path)


# -- every field of every kind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SLIPPED_KINDS)
def test_no_value_in_a_row_can_be_changed(copied: Copied, honest: Path, kind: str) -> None:
    forger = copied(honest)
    for row in shapes([row for row in forger.rows if row["kind"] == kind]):
        for place in places_in(row):
            copy(honest, forger.path)
            forger.put_at(row["id"], with_place_altered(row, place))
            assert str(refuse(forger.path)), place


@pytest.mark.parametrize("table", TABLES)
def test_no_stored_column_can_be_changed(copied: Copied, honest: Path, table: str) -> None:
    alter_columns(copied(honest).path, table, everywhere=True)


# -- whole logs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [FIRST.verifier, KEY, None])
@pytest.mark.parametrize("fast", [False, True])
def test_an_emptied_ledger_is_caught_with_whatever_key(
    copied: Copied, honest: Path, key: Verifier | None, *, fast: bool
) -> None:
    forger = copied(honest)
    forger.sql("DELETE FROM texts", "DELETE FROM entries", "DELETE FROM sealed")
    for _ in range(2):
        with pytest.raises(LedgerTamperedError, match=r"no checkpoint of no rows|names another key"):
            verify_ledger(forger.path, key, fast=fast)
        go_on_honestly(forger.path)
        with pytest.raises(LedgerError), Ledger(forger.path, signer=FIRST) as ledger:
            ledger.write("new", 1, "step", "afterwards", 1, 1, True)


def test_another_whole_log_of_the_same_key_is_caught(tmp_path: Path, honest: Path) -> None:
    with Ledger(tmp_path / "other.db", signer=SIGNER) as other:
        other.write("s", 1, "step", "another log", 1, 1, True)
    assert verify_ledger(other, KEY.named(other.origin)).not_proven is None
    for fast in (False, True):
        with pytest.raises(LedgerTamperedError, match=f"this is the log {other.origin}, and the key is that of"):
            verify_ledger(tmp_path / "other.db", KEY, fast=fast)


# -- what needs a checkpoint kept elsewhere ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("move", "key"), [(cut_back, KEY), (cut_back_to_nothing, FIRST.verifier), (rewrite_with_the_key, KEY)]
)
def test_the_holder_of_the_key_or_of_an_old_copy_is_caught_with_one_checkpoint_kept_elsewhere(
    copied: Copied, honest: Path, move: Callable[[Forger], None], key: Verifier
) -> None:
    kept = verify_ledger(honest, KEY).checkpoint
    forger = copied(honest)
    move(forger)
    assert verify_ledger(forger.path, key).not_proven is None  # the public key alone cannot tell
    for _ in range(2):
        refuse(forger.path, key, seen=[Seen(kept, "a file")])
        go_on_honestly(forger.path)
