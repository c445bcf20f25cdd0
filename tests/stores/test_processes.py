"""Many processes on one file: its making, the order in which they are let in, and a kill at a chosen statement."""

from __future__ import annotations

import signal
from contextlib import closing

import pytest
from stores.kit import SIGNER, SPEAKER, WRITER, assert_whole, run_together, said, say, start

from donewhen.ledger import Ledger
from donewhen.stores.sqlite_connections import connect, use_wal
from donewhen.stores.sqlite_schema import MIGRATIONS, check_format, migrate

MOST_ROWS_IN_BETWEEN = 1500
"""How many rows of others may go in while one waits. Seven others may each go on for twenty milliseconds, in which a RAM
disk takes some 150 rows and a disk some 20; left to SQLite it is what it likes, up to all 3,500."""


# -- processes ---------------------------------------------------------------------------------------------------------


def test_what_is_looked_at_while_another_makes_it_is_one_state(tmp_store) -> None:
    """Tables without the mark that comes with them would be a database of something else."""
    path = str(tmp_store)
    with closing(connect(path, 30.0, make=True)) as looking, closing(connect(path, 30.0, make=True)) as making:
        use_wal(making, 30.0)
        moments: list[str] = []

        def make_in_between(sql: str) -> None:
            if "user_version" in sql and not moments:
                moments.append(sql)
                migrate(making, path, "origin", None, None)

        looking.set_trace_callback(make_in_between)
        assert (check_format(looking, path), len(moments)) == (0, 1)
        assert check_format(looking, path) == len(MIGRATIONS)


def test_eight_processes_write_five_hundred_rows_each_and_none_is_passed_over(tmp_store) -> None:
    in_between = [int(line.split()[1]) for line in run_together(8, WRITER, tmp_store, 500)]
    assert_whole(tmp_store, {str(number): 500 for number in range(8)})
    # Counted in rows, not in seconds: those a busy machine takes from everybody alike.
    assert max(in_between) < MOST_ROWS_IN_BETWEEN


# -- killed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["BEGIN", "INSERT INTO entries", "INSERT INTO sealed", "COMMIT", "after"])
def test_a_writer_killed_at_a_chosen_point_leaves_all_or_nothing(tmp_store, at) -> None:
    with start(SPEAKER, tmp_store, at, 0) as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (-signal.SIGKILL, "")
    acknowledged = out.split()
    assert acknowledged == ["1", "2", "3", "4"][: 4 if at == "after" else 3]
    assert said(tmp_store) == [str(number) for number in range(len(acknowledged))]
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        assert say(ledger) == len(acknowledged) + 1
    assert_whole(tmp_store, {"s": len(acknowledged) + 1})
