"""A store that keeps its checkpoints elsewhere by itself: by rows, by time, at the end; and never at a caller's cost."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import PATIENCE_SECONDS
from stores.kit import SIGNER, an_entry, key_of, run, say
from witnesses import KEEPER, answering

from donewhen.cosignatures import iter_notes
from donewhen.elsewhere import Elsewhere
from donewhen.elsewhere.kept_store import KeptStore
from donewhen.ledger import Draft, Ledger
from donewhen.notes import Checkpoint
from donewhen.testing import Witness

Open = Callable[..., Ledger]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kept.txt"


@pytest.fixture
def opening(tmp_store: Path, file: Path) -> Iterator[Open]:
    opened: list[Ledger] = []

    def open_ledger(**often: Any) -> Ledger:
        often.setdefault("files", [str(file)])
        often.setdefault("warn", pytest.fail)
        opened.append(Ledger(tmp_store, signer=SIGNER, elsewhere=Elsewhere(**often)))
        return opened[-1]

    yield open_ledger
    for ledger in opened:
        ledger.close()


def sizes(file: Path) -> list[int]:
    if not file.exists():
        return []
    return [Checkpoint.parse(note.partition("\n\n")[0] + "\n").size for note in iter_notes(file.read_text())]


def settled(ledger: Ledger) -> None:
    """Wait until nothing more is being kept, without closing the ledger."""
    store = ledger.store
    assert isinstance(store, KeptStore)
    thread = store._thread
    if thread is not None:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def end(ledger: Ledger, session_id: str = "s") -> None:
    data = {"outcome": "done", "reason": "end_turn"}
    ledger.note(Draft(an_entry(session_id, "close", data=data)))


# -- when ------------------------------------------------------------------------------------------------------------------


def test_it_is_kept_after_so_many_rows(opening, file) -> None:
    ledger = opening(every_rows=3)
    for number in range(1, 8):
        say(ledger)
        settled(ledger)
        assert sizes(file) == [size for size in (3, 6) if size <= number]


def test_rows_of_one_commit_count_each(opening, file) -> None:
    ledger = opening(every_rows=3)
    ledger.note(*[Draft(an_entry())] * 7)
    settled(ledger)
    assert sizes(file) == [7]


def test_it_is_kept_so_many_seconds_after_a_row_though_none_follows(opening, file) -> None:
    kept = threading.Event()
    ledger = opening(every_seconds=0.01, files=[], witnesses=[], warn=lambda _: kept.set())
    assert isinstance(ledger.store, KeptStore)
    ledger.store._elsewhere.files = (str(file.parent / "missing" / "file"),)
    say(ledger)
    assert kept.wait(PATIENCE_SECONDS)
    ledger.store._elsewhere.files = (str(file),)
    say(ledger)
    settled(ledger)
    assert sizes(file) == [2]


def test_it_is_kept_when_a_session_ends(opening, file) -> None:
    ledger = opening()
    say(ledger)
    assert sizes(file) == []
    end(ledger)
    settled(ledger)
    assert sizes(file) == [2]


def test_it_is_kept_when_the_ledger_is_closed(opening, file) -> None:
    ledger = opening(every_rows=100, every_seconds=10_000)
    say(ledger)
    ledger.close()
    assert sizes(file) == [1]
    ledger.close()
    say(ledger)
    ledger.close()
    assert sizes(file) == [1, 2]


def test_nothing_is_asked_where_nothing_was_written(opening, tmp_store, file) -> None:
    say(opening())
    opening().close()
    with Ledger(tmp_store, read_only=True, elsewhere=Elsewhere(files=[str(file)])) as reading:
        assert not isinstance(reading.store, KeptStore)
    assert sizes(file) == []


def test_a_commit_that_was_rolled_back_is_not_counted(opening, file) -> None:
    ledger = opening(every_rows=1)

    def write() -> None:
        with ledger.store.writing() as tx:
            tx.append(an_entry(), ())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    with ledger.store.writing():
        assert sizes(file) == []
    settled(ledger)
    ledger.close()
    assert sizes(file) == []


def test_without_a_place_nothing_is_started(tmp_store) -> None:
    with Ledger(tmp_store, elsewhere=Elsewhere(every_rows=1)) as ledger:
        say(ledger)
        assert isinstance(ledger.store, KeptStore)
        assert ledger.store._thread is None
    with Ledger(tmp_store) as ledger:
        assert not isinstance(ledger.store, KeptStore)


# -- faults ---------------------------------------------------------------------------------------------------------------


def test_a_place_that_fails_is_told_and_costs_no_row(opening, tmp_path) -> None:
    told: list[str] = []
    ledger = opening(files=[str(tmp_path / "missing" / "file")], every_rows=1, warn=told.append)
    for _ in range(3):
        say(ledger)
        settled(ledger)
    ledger.close()
    assert len(list(ledger.iter_rows())) == 3
    assert len(told) == 3
    assert all(sentence.startswith("a checkpoint is not kept elsewhere: ") for sentence in told)


def test_a_slow_witness_holds_no_writer_up(opening, tmp_path) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(connection) -> None:
        asked.set()
        go_on.wait(PATIENCE_SECONDS)
        connection.send_bytes(500, {}, b"after all that")

    told: list[str] = []
    with answering(slow) as url, Witness(signer=KEEPER) as known:
        ledger = opening(
            files=[], witnesses=[(url, known.vkey)], every_rows=1, warn=told.append, timeout_seconds=PATIENCE_SECONDS
        )
        say(ledger)
        assert asked.wait(PATIENCE_SECONDS)
        for _ in range(5):
            say(ledger)
        assert len(list(ledger.iter_rows())) == 6
        assert told == []
        go_on.set()
        ledger.close()
    assert 1 <= len(told) <= 3
    assert all("(500): after all that" in sentence for sentence in told)


def test_a_ledger_that_vanished_meanwhile_is_told(opening, tmp_store) -> None:
    told: list[str] = []
    ledger = opening(every_rows=2, warn=told.append)
    say(ledger)
    tmp_store.rename(tmp_store.with_name("moved.db"))
    ledger.close()
    assert len(told) == 1
    assert "was removed while it was open" in told[0]


def test_what_was_tried_in_vain_is_not_tried_again_at_the_end(opening, tmp_path) -> None:
    told: list[str] = []
    ledger = opening(files=[str(tmp_path / "missing" / "file")], warn=told.append)
    say(ledger)
    end(ledger)
    ledger.close()
    assert len(told) == 1


# -- threads and processes -------------------------------------------------------------------------------------------------


def test_threads_write_while_it_is_kept(opening, file) -> None:
    ledger = opening(every_rows=2)
    threads = [threading.Thread(target=lambda: [say(ledger) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.close()
    assert len(list(ledger.iter_rows())) == 40
    found = sizes(file)
    assert found[-1] == 40
    assert found == sorted(set(found))


def test_a_witness_is_told_by_itself(opening, file) -> None:
    with Witness(signer=KEEPER) as witness:
        ledger = opening(witnesses=[(witness.url, witness.vkey)], every_rows=2)
        witness.trust(ledger.origin, ledger.signed_by or "")
        for _ in range(4):
            say(ledger)
            settled(ledger)
        ledger.close()
        assert [cosigned.size for cosigned in ledger.store.read_cosigned()] == [2, 4] == sizes(file)
        assert witness.size_of(ledger.origin) == 4


FORKED = """
import os, sys, warnings
from pathlib import Path
sys.path.insert(0, {tests!r})
warnings.simplefilter("ignore", DeprecationWarning)  # forking beside a thread is what is tested
from stores.kit import SIGNER, say
from donewhen.elsewhere import Elsewhere
from donewhen.ledger import Ledger
ledger = Ledger(sys.argv[1], signer=SIGNER, elsewhere=Elsewhere(files=[sys.argv[2]], every_seconds=1000))
say(ledger)  # a thread waits from now on
child = os.fork()
if child == 0:
    say(ledger)
    ledger.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(Path(sys.argv[2]).read_text(encoding="utf-8").count("\\u2014 "))  # a signature line each
say(ledger)
ledger.close()
print(len(list(ledger.iter_rows())))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
def test_a_forked_process_keeps_its_own_rows(tmp_store, file) -> None:
    assert run(FORKED.format(tests=str(Path(__file__).parents[1])), tmp_store, file).split() == ["1", "3"]
    assert sizes(file) == [2, 3]


def test_everything_else_is_the_stores_own(opening) -> None:
    ledger = opening()
    row_id = say(ledger)
    store = ledger.store
    assert isinstance(store, KeptStore)
    assert (store.path, store.origin, store.vkey) == (ledger.path, ledger.origin, key_of(ledger.path).vkey)
    assert [found[0] for found in store.read_sessions()] == ["s"]
    assert store.find_newest("s") == ledger.newest_row("s")
    assert [number for number, _ in store.iter_bodies()] == [row_id]
    assert list(store.iter_sealed()) == [store.newest_sealed()] == [store.sealed_at(0)]
    assert store.find_text(1, "none") is None
    with store.writing() as tx:
        assert tx.head("s") is not None
        assert tx.find_row("s", 1) is not None
        assert tx.find_closing("s", 1) is None
    assert store.scrub()
