"""Every attack on a ledger of 200 rows is caught: as it is, after an honest append, and on one left by a crash."""

from __future__ import annotations

import copy
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from attacks.forger import Forger, Row, spell
from attacks.ledger_200 import FIRST, KEY, ROWS, SESSIONS, SIGNER, STRANGER, kinds
from attacks.moves import SLIPPED_KINDS, all_moves, altered
from donewhen.errors import LedgerError, LedgerTamperedError
from donewhen.ledger import Ledger
from donewhen.notes import Verifier, sign_note
from donewhen.verify import Seen, verify_ledger

Copied = Callable[[Path], Forger]
MOVES = all_moves()


def go_on_honestly(path: Path) -> None:
    """Append as somebody does who knows of nothing. The writer may refuse; it must not launder."""
    try:
        with Ledger(path, signer=SIGNER) as ledger:
            for session in ("new", "by-hand"):
                ledger.write(session, 1, "step", "afterwards", 1, 1, True)
    except LedgerError:
        return


def refuse(path: Path) -> LedgerTamperedError:
    with pytest.raises(LedgerTamperedError) as caught:
        verify_ledger(path, KEY)
    return caught.value


def test_the_ledger_that_is_attacked_is_honest_and_has_every_kind(honest: Path) -> None:
    report, forger = verify_ledger(honest, KEY), Forger(honest)
    assert (report.rows, report.not_proven) == (ROWS, None)
    assert kinds(forger.rows) == set(SLIPPED_KINDS)
    assert {row["session"] for row in forger.rows} == {*SESSIONS, "donewhen:log"}


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


@pytest.mark.parametrize("name", MOVES)
def test_an_attack_is_caught_on_a_ledger_that_a_crash_left(copied: Copied, crashed: Path, name: str) -> None:
    assert verify_ledger(crashed, KEY).rows > ROWS
    forger = copied(crashed)
    MOVES[name](forger)
    refuse(forger.path)
    go_on_honestly(forger.path)
    refuse(forger.path)


# -- every field of every kind ---------------------------------------------------------------------------------------


def places_in(row: Row) -> list[tuple[str, ...]]:
    return [(name,) for name in row if name != "data"] + [("data", name) for name in row.get("data", {})]


@pytest.mark.parametrize("kind", SLIPPED_KINDS)
def test_no_field_of_a_row_can_be_changed(copied: Copied, honest: Path, kind: str) -> None:
    row = copied(honest).of_kind(kind)
    for place in places_in(row):
        forger = copied(honest)
        changed = copy.deepcopy(row)
        holder = changed if len(place) == 1 else changed["data"]
        holder[place[-1]] = altered(holder[place[-1]])
        forger.sql(("UPDATE entries SET body = ? WHERE id = ?", (spell(changed).decode(), row["id"])))
        assert str(refuse(forger.path)), place


@pytest.mark.parametrize("table", ["entries", "sealed", "texts", "log"])
def test_no_stored_column_can_be_changed(copied: Copied, honest: Path, table: str) -> None:
    forger = copied(honest)
    with closing(sqlite3.connect(forger.path)) as connection:
        columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        [last] = connection.execute(f"SELECT max(rowid) FROM {table}").fetchone()
    assert columns
    for column in columns:
        for place in {last, (last + 1) // 2}:
            copy_of = forger.path.with_name(f"{column}.db")
            shutil.copy(forger.path, copy_of)
            other = "'{}'" if column == "body" else "x'00'" if column in ("salt", "nodes") else "9999"
            Forger(copy_of).sql(
                "PRAGMA foreign_keys = OFF", f"UPDATE {table} SET {column} = {other} WHERE rowid = {place}"
            )
            assert str(refuse(copy_of)), column


# -- whole logs ------------------------------------------------------------------------------------------------------


def test_everything_rewritten_without_the_key_is_caught(copied: Copied, honest: Path) -> None:
    forger = copied(honest)
    forger.of_kind("write")["tokens"] += 1
    forger.rewrite(sign=lambda text: sign_note(text, STRANGER))
    refuse(forger.path)


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


def test_another_whole_log_of_the_same_key_is_caught_under_the_name_of_this_one(
    copied: Copied, honest: Path, tmp_path: Path
) -> None:
    with Ledger(tmp_path / "other.db", signer=SIGNER) as other:
        other.write("s", 1, "step", "another log", 1, 1, True)
    ours = copied(honest)
    [theirs] = [Forger(tmp_path / "other.db")]
    # A signature line's name is not signed: under our name their signatures are good, over a text that has theirs.
    renamed = [(note.replace(f"— {theirs.origin} ", f"— {ours.origin} "), size) for size, _, note in theirs.sealed]
    theirs.sql(
        ("UPDATE log SET origin = ?, vkey = ?", (ours.origin, KEY.vkey)),
        *[("UPDATE sealed SET note = ? WHERE size = ?", one) for one in renamed],
    )
    refuse(theirs.path)
    go_on_honestly(theirs.path)
    refuse(theirs.path)


# -- what needs a checkpoint kept elsewhere ----------------------------------------------------------------------------


def cut_back(forger: Forger) -> None:
    size = forger.sealed[-20][0]
    forger.sql(
        f"DELETE FROM texts WHERE entry_id > {size}",
        f"DELETE FROM entries WHERE id > {size}",
        f"DELETE FROM sealed WHERE size > {size}",
    )


def cut_back_to_nothing(forger: Forger) -> None:
    forger.sql("DELETE FROM texts", "DELETE FROM entries", "DELETE FROM sealed WHERE size > 0")


def rewrite_with_the_key(forger: Forger) -> None:
    turned = next(row["id"] for row in forger.rows if row.get("data", {}).get("action") == "rotate")
    forger.of_session("by-hand")[3]["tokens"] += 1

    def sign(text: str) -> str:
        size = int(text.split("\n")[1])
        note = sign_note(text, FIRST if size <= turned else SIGNER)
        return note + sign_note(text, SIGNER).rpartition("\n\n")[2] if size == turned else note

    forger.rewrite(sign=sign)


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
        with pytest.raises(LedgerTamperedError):
            verify_ledger(forger.path, key, seen=[Seen(kept, "a file")])
        go_on_honestly(forger.path)
