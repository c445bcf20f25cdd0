"""A process that is killed anywhere leaves a ledger that verifies, and every attack on what it left is caught."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from command import donewhen

from attacks.crashes import CRASHES
from attacks.forger import Forger, spell
from attacks.forger import copy as copy_ledger
from attacks.kit import TABLES, Copied, alter_columns, go_on_honestly, refuse
from attacks.ledger_200 import FIRST, KEY, ROWS, SIGNER, THIRD
from attacks.moves import ALIKE, SLIPPED_KINDS, Move, all_moves
from attacks.places import places_in, with_place_altered
from attacks.whole_logs import cut_back, cut_back_to_nothing, rewrite_with_the_key
from donewhen.errors import LedgerError, LedgerFormatError, LedgerTamperedError
from donewhen.ledger import Ledger
from donewhen.verify import Seen, verify_ledger

Crashed = dict[str, Path]

EACH = pytest.mark.parametrize("at", CRASHES)
LEAVING = [at for at, crash in CRASHES.items() if crash.left]
NOTHING = [at for at, crash in CRASHES.items() if not crash.left]
TORN = "sealing, in the middle of the commit"
MERGING = "closing, while the file takes in its log"

WHOLE = (
    "in a call",
    "sealing, when it is on disk",
    "attesting, when it is on disk",
    "releasing, when it is done",
    "rotating, when it is on disk",
)
"""Where each attack is made in both its strengths, and followed by an honest append: the others leave the rows of one of
these, or those of no crash."""

MOVES = all_moves()
STRONGEST = [name for name in MOVES if not any(other.startswith(f"{name}, and all is ") for other in MOVES)]
"""Each attack once: where it comes in two strengths, with everything worked out anew around it."""


def moves_at(at: str) -> list[str]:
    """Return the attacks that are made on what a crash left: all, or each once, but of many that are alike every third."""
    if at in WHOLE:
        return list(MOVES)
    alike = [name for name in STRONGEST if name.partition(", and all is ")[0] in ALIKE]
    third = alike[list(CRASHES).index(at) % 3 :: 3]
    return [name for name in STRONGEST if name not in alike or name in third]


# -- honest crashes --------------------------------------------------------------------------------------------------


@EACH
def test_what_a_crash_left_verifies_as_it_lies_there_and_goes_on(
    crashed: Crashed, honest: Path, tmp_path: Path, at: str
) -> None:
    path, crash = tmp_path / "ledger.db", CRASHES[at]
    copy_ledger(crashed[at], path)
    log, size = Path(f"{path}-wal"), ROWS + len(crash.left)
    lies_there = log.read_bytes()
    # What was committed is in the write-ahead log alone, but where the file was just taking it in.
    assert bool(lies_there) == (bool(crash.left) or at == TORN)
    assert (path.read_bytes() == honest.read_bytes()) == (at != MERGING)

    report = verify_ledger(path, KEY)
    assert (report.rows, report.not_proven, report.warnings) == (size, None, ())
    assert donewhen("verify", path, "--key", KEY.vkey).exit_code == 0
    assert log.read_bytes() == lies_there  # the auditor reads it, and leaves it as it is

    with Ledger(path, signer=crash.signer) as ledger:
        assert tuple(row.kind for row in ledger.iter_rows())[ROWS:] == crash.left
        ledger.write("by-hand", 1, "step", "afterwards", 1, 1, True)
    assert not log.exists()
    assert verify_ledger(path, KEY).rows == size + 1
    with Ledger(path, signer=crash.signer) as ledger:
        if crash.signer is THIRD:
            with pytest.raises(LedgerError, match="is or was the key of this log"):
                crash.work(ledger)
        else:
            crash.work(ledger)  # this time to its end
    assert verify_ledger(path, KEY).rows > size + (crash.signer is not THIRD)
    assert donewhen("verify", path, "--key", KEY.vkey).exit_code == 0


@pytest.mark.parametrize("at", NOTHING)
def test_a_crash_before_the_commit_leaves_no_row_that_could_be_attacked(
    copied: Copied, crashed: Crashed, honest: Path, at: str
) -> None:
    """Attacks on the row that a process was at do not apply there: what there is are the honest rows, and their seals."""
    before, left = copied(honest), copied(crashed[at])
    assert (left.rows, left.sealed) == (before.rows, before.sealed)


# -- the list of attacks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "name"), [(at, name) for at in CRASHES for name in moves_at(at)])
def test_an_attack_on_what_a_crash_left_is_caught(copied: Copied, crashed: Crashed, at: str, name: str) -> None:
    forger = copied(crashed[at])
    MOVES[name](forger)
    refuse(forger.path)
    if at in WHOLE:
        go_on_honestly(forger.path, CRASHES[at].signer)
        refuse(forger.path)


@EACH
def test_no_kind_of_row_and_no_column_can_be_changed_in_what_a_crash_left(
    copied: Copied, crashed: Crashed, at: str
) -> None:
    """A field of each kind here, another at each crash; every field of every kind is changed in the ledger without one."""
    rows = copied(crashed[at])
    for number, kind in enumerate(SLIPPED_KINDS, list(CRASHES).index(at)):
        row = rows.of_kind(kind)
        place = places_in(row)[number % len(places_in(row))]
        copy_ledger(crashed[at], rows.path)
        rows.put_at(row["id"], with_place_altered(row, place))
        assert str(refuse(rows.path)), (kind, place)
    copy_ledger(crashed[at], rows.path)
    for table in TABLES:
        alter_columns(rows.path, table)


# -- the row that a process was at ---------------------------------------------------------------------------------------


def _only_the_row(forger: Forger) -> None:
    forger.sql(
        ("DELETE FROM texts WHERE entry_id = ?", (forger.rows[-1]["id"],)),
        ("DELETE FROM balances WHERE entry_id = ?", (forger.rows[-1]["id"],)),
        ("DELETE FROM entries WHERE id = ?", (forger.rows[-1]["id"],)),
    )


def _twice(forger: Forger) -> None:
    forger.rewrite([*forger.rows, copy.deepcopy(forger.rows[-1])])


def _before_another(forger: Forger) -> None:
    *rows, one, other = forger.rows
    forger.rewrite([*rows, other, one])


def _of_another_session(forger: Forger) -> None:
    forger.rows[-1]["session"] = "by-hand"
    forger.rewrite()


def _another_time(forger: Forger) -> None:
    forger.rows[-1]["at"] = forger.rows[0]["at"]
    forger.put(forger.rows[-1])


ON_THE_ROW: dict[str, Move] = {
    "it is taken out": _only_the_row,
    "its seal is taken out": lambda forger: forger.sql(f"DELETE FROM sealed WHERE size = {len(forger.rows)}"),
    "it is there twice": _twice,
    "it stands before another": _before_another,
    "it becomes one of another session": _of_another_session,
    "it was at another time": _another_time,
}


@pytest.mark.parametrize("name", ON_THE_ROW)
@pytest.mark.parametrize("at", LEAVING)
def test_an_attack_on_the_row_that_a_process_was_at_is_caught(
    copied: Copied, crashed: Crashed, at: str, name: str
) -> None:
    forger = copied(crashed[at])
    ON_THE_ROW[name](forger)
    for _ in range(2):
        refuse(forger.path)
        go_on_honestly(forger.path, CRASHES[at].signer)


@pytest.mark.parametrize("at", WHOLE)
def test_no_field_of_the_rows_that_a_process_was_at_can_be_changed(copied: Copied, crashed: Crashed, at: str) -> None:
    for row in copied(crashed[at]).rows[ROWS:]:
        forger = copied(crashed[at])
        for place in places_in(row):
            copy_ledger(crashed[at], forger.path)
            forger.put_at(row["id"], with_place_altered(row, place))
            assert str(refuse(forger.path)), place


@pytest.mark.parametrize("at", NOTHING)
def test_what_a_crash_lost_is_not_taken_without_its_seal(copied: Copied, crashed: Crashed, at: str) -> None:
    whole = next(other for other in LEAVING if CRASHES[other].work is CRASHES[at].work)
    lost = copied(crashed[whole]).rows[ROWS:]
    assert lost
    forger = copied(crashed[at])
    forger.sql(*[("INSERT INTO entries (id, body) VALUES (?, ?)", (row["id"], spell(row).decode())) for row in lost])
    for _ in range(2):
        refuse(forger.path)
        go_on_honestly(forger.path)


# -- the write-ahead log -----------------------------------------------------------------------------------------------


@EACH
def test_a_write_ahead_log_of_another_ledger_is_no_part_of_this_one(crashed: Crashed, tmp_path: Path, at: str) -> None:
    with Ledger(tmp_path / "other.db", signer=SIGNER) as other:
        for number in range(30):
            other.write("s", number, "step", "another log", 1, 1, True)
        copy_ledger(crashed[at], tmp_path / "ledger.db")
        (tmp_path / "ledger.db-wal").write_bytes((tmp_path / "other.db-wal").read_bytes())
    with pytest.raises((LedgerTamperedError, LedgerFormatError)):
        verify_ledger(tmp_path / "ledger.db", KEY)


# -- what needs a checkpoint kept elsewhere ----------------------------------------------------------------------------


def cut_back_by_a_commit(forger: Forger) -> None:
    cut_back(forger, 1)


@pytest.mark.parametrize("move", [cut_back_by_a_commit, cut_back, cut_back_to_nothing, rewrite_with_the_key])
@EACH
def test_what_the_public_key_alone_cannot_tell_is_caught_with_one_checkpoint_kept_elsewhere(
    copied: Copied, crashed: Crashed, at: str, move: Move
) -> None:
    forger, key = copied(crashed[at]), FIRST.verifier if move is cut_back_to_nothing else KEY
    kept = Seen(verify_ledger(forger.path, KEY).checkpoint, "a file")
    move(forger)
    assert verify_ledger(forger.path, key).not_proven is None
    refuse(forger.path, key, seen=[kept])
    go_on_honestly(forger.path, CRASHES[at].signer)
    refuse(forger.path, key, seen=[kept])


@EACH
def test_a_write_ahead_log_that_is_taken_away_is_missed_where_something_was_in_it(
    crashed: Crashed, tmp_path: Path, at: str
) -> None:
    path = tmp_path / "ledger.db"
    copy_ledger(crashed[at], path)
    kept = Seen(verify_ledger(path, KEY).checkpoint, "a file")
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink()
    if at == MERGING:  # half of it is in the file
        with pytest.raises((LedgerTamperedError, LedgerFormatError)):
            verify_ledger(path, KEY)
    elif CRASHES[at].left:
        assert verify_ledger(path, KEY).not_proven is None  # it was cut back to an older signed state
        refuse(path, seen=[kept])
    else:
        assert verify_ledger(path, KEY, seen=[kept]).rows == ROWS
