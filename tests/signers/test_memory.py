"""What a signer remembers: of each log one history, and at most one commit in two states."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signing import journal
from stores.kit import start

from donewhen.errors import KeyFileError, LedgerTamperedError, LedgerUnavailableError
from donewhen.ledger import utc_now
from donewhen.merkle import EMPTY_ROOT, Frontier, consistency_proof, leaf_hash, root_of
from donewhen.notes import Checkpoint
from donewhen.signers.memory import MAX_LOGS, Memory, SignerMemory, State, remember

posix = pytest.mark.skipif(os.name != "posix", reason="needs flock and permission bits")


class Log:
    """A log as a ledger has it: leaves, and what it asks a signer."""

    def __init__(self, *bodies: str, origin: str = "example/log") -> None:
        self.origin = origin
        self.leaves = [leaf_hash(body.encode()) for body in bodies]

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        size = len(self.leaves) if size is None else size
        return Checkpoint(self.origin, size, root_of(self.leaves[:size]))

    def proof(self, old: int, new: int) -> list[bytes]:
        def node(level: int, index: int) -> bytes:
            return root_of(self.leaves[index << level : (index + 1) << level])

        return consistency_proof(old, new, node)

    def ask(self, old: int, new: int | None = None) -> tuple[Checkpoint, int, list[bytes]]:
        checkpoint = self.checkpoint(new)
        return checkpoint, old, self.proof(old, checkpoint.size)


def after(*asked: tuple[Checkpoint, int, list[bytes]]) -> Memory | None:
    memory: Memory | None = None
    for checkpoint, old, proof in asked:
        memory = remember(memory, checkpoint, old, proof)
    return memory


def state(log: Log, size: int) -> State:
    return State(size, log.checkpoint(size).root)


LOG = Log(*"abcdefgh")
FORK = Log(*"abcdeXYZ")


# -- what extends ------------------------------------------------------------------------------------------------------


def test_a_log_is_known_from_its_beginning() -> None:
    assert after(LOG.ask(0, 2)) == Memory(State(0, EMPTY_ROOT), state(LOG, 2))


def test_what_builds_on_the_newest_state_confirms_it() -> None:
    assert after(LOG.ask(0, 2), LOG.ask(2, 3), LOG.ask(3, 7)) == Memory(state(LOG, 3), state(LOG, 7))


def test_what_builds_on_the_confirmed_state_takes_the_place_of_the_newest() -> None:
    # The commit before was signed and never stored: the process was killed.
    assert after(LOG.ask(0, 2), LOG.ask(2, 5), FORK.ask(2, 7)) == Memory(state(LOG, 2), state(FORK, 7))


def test_the_same_question_twice_has_the_same_answer() -> None:
    assert after(LOG.ask(0, 2), LOG.ask(2, 5), LOG.ask(2, 5)) == after(LOG.ask(0, 2), LOG.ask(2, 5))


def test_a_log_that_is_new_to_the_signer_is_believed_its_first_size_alone() -> None:
    memory = after(LOG.ask(5, 6))
    assert memory == Memory(State(5, None), state(LOG, 6))
    assert after(LOG.ask(5, 6), LOG.ask(6, 8)) == Memory(state(LOG, 6), state(LOG, 8))
    for size in (0, 4):
        with pytest.raises(LedgerTamperedError, match="rolled back"):
            remember(memory, *LOG.ask(size))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (LOG.ask(2), r"builds on a state of 2 rows, and this signer has signed 6"),
        (LOG.ask(0), "rolled back, or put in the place of another"),
        (LOG.ask(7), "builds on a state of 7 rows"),
        (FORK.ask(6), "does not extend"),
        ((LOG.checkpoint(), 6, []), "is empty"),
        ((LOG.checkpoint(), 6, LOG.proof(5, 8)), "does not extend|too"),
        ((LOG.checkpoint(), 6, [b"short"]), "has 32 bytes"),
        ((LOG.checkpoint(6), 6, []), "cannot build on one of 6"),
        ((LOG.checkpoint(4), 6, []), "cannot build on one of 6"),
        ((LOG.checkpoint(8), -1, []), "cannot build on one of -1"),
    ],
)
def test_what_does_not_extend_is_refused(asked: tuple[Checkpoint, int, list[bytes]], says: str) -> None:
    memory = after(LOG.ask(0, 3), LOG.ask(3, 5), LOG.ask(5, 6))
    with pytest.raises(LedgerTamperedError, match=says):
        remember(memory, *asked)


def test_a_first_commit_that_is_no_tree_of_its_size_is_refused_for_its_proof() -> None:
    with pytest.raises(LedgerTamperedError):
        remember(None, LOG.checkpoint(3), 0, [bytes(32)])


steps = st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=12)


@given(steps)
def test_an_honest_log_is_never_refused_whenever_it_is_killed(commits: list[tuple[int, bool]]) -> None:
    memory, stored = None, Log()
    for number, (count, is_killed) in enumerate(commits):
        tried = Log()
        tried.leaves = [*stored.leaves, *[leaf_hash(f"{number} {n}".encode()) for n in range(count)]]
        memory = remember(memory, *tried.ask(len(stored.leaves)))
        if not is_killed:
            stored = tried
    assert memory is not None
    assert memory.confirmed.size <= len(stored.leaves) <= memory.pending.size or stored.leaves == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4), st.integers(0, 2)), max_size=25))
def test_whatever_is_asked_no_confirmed_state_ever_has_a_rival(asked: list[tuple[int, int, int]]) -> None:
    """An adversary builds on any state that was ever signed; confirmed states still are one history."""
    histories: list[list[bytes]] = [[]]
    memory: Memory | None = None
    confirmed: list[State] = []
    for base, count, variant in asked:
        log = Log()
        old = histories[base % len(histories)]
        log.leaves = [*old, *[leaf_hash(f"{variant} {len(old) + n}".encode()) for n in range(count)]]
        try:
            memory = remember(memory, *log.ask(len(old)))
        except LedgerTamperedError:
            continue
        histories.append(log.leaves)
        confirmed.append(memory.confirmed)
    sizes = [found.size for found in confirmed]
    assert sizes == sorted(sizes)
    assert len({found.size for found in confirmed}) == len(set(confirmed))
    frontier, chain = Frontier(), {0: EMPTY_ROOT}
    final = next((leaves for leaves in histories if memory and root_of(leaves) == memory.pending.root), [])
    for leaf in final:
        frontier.append(leaf)
        chain[frontier.size] = frontier.root()
    assert all(chain[found.size] == found.root for found in confirmed)


# -- on disk -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


def open_memory(path: Path) -> SignerMemory:
    return SignerMemory(path, now=utc_now)


def test_what_was_signed_is_remembered_by_the_next_process(path: Path) -> None:
    memory = open_memory(path)
    assert memory.is_new
    memory.extend(*LOG.ask(0, 2))
    memory.extend(*LOG.ask(2, 5))
    memory.close()
    again = open_memory(path)
    assert not again.is_new
    assert again.find("example/log") == Memory(state(LOG, 2), state(LOG, 5))
    assert again.is_newest(LOG.checkpoint(5))
    assert not again.is_newest(LOG.checkpoint(2))
    assert not again.is_newest(Log("a", origin="other").checkpoint())
    with pytest.raises(LedgerTamperedError):
        again.extend(*LOG.ask(3))
    again.close()


def test_what_is_new_or_replaced_is_told_and_journalled_and_nothing_else(tmp_path: Path, path: Path) -> None:
    memory = open_memory(path)
    told = [
        memory.extend(*asked) for asked in (LOG.ask(0, 2), LOG.ask(2, 5), LOG.ask(2, 5), FORK.ask(2, 7), FORK.ask(7, 8))
    ]
    memory.close()
    assert [odd is None for odd in told] == [False, True, True, False, True]
    assert "is new to this signer, which knows it from its beginning" in str(told[0])
    assert "a state of 5 rows signed that it does not have: another of 7 rows takes its place, from row 3" in str(
        told[3]
    )
    new, replaced = journal(tmp_path)
    assert new["replaced"] is None
    assert (replaced["replaced"]["size"], replaced["by"]["size"], replaced["origin"]) == (5, 7, "example/log")


def test_two_logs_are_two_histories(path: Path) -> None:
    memory, other = open_memory(path), Log(*"xyz", origin="other/log")
    memory.extend(*LOG.ask(0, 5))
    memory.extend(*other.ask(0, 1))
    memory.extend(*other.ask(1, 3))
    memory.extend(*LOG.ask(5, 8))
    assert (memory.find("example/log"), memory.find("other/log")) == (
        Memory(state(LOG, 5), state(LOG, 8)),
        Memory(state(other, 1), state(other, 3)),
    )
    memory.close()


def test_a_first_word_in_the_middle_of_a_log_is_told(path: Path) -> None:
    memory = open_memory(path)
    assert "knows it from 5 rows, on its word" in str(memory.extend(*LOG.ask(5, 6)))
    memory.close()
    again = open_memory(path)
    assert again.find("example/log") == Memory(State(5, None), state(LOG, 6))
    again.close()


@posix
def test_the_files_are_for_their_owner_only(tmp_path: Path, path: Path) -> None:
    memory = open_memory(path)
    memory.extend(*LOG.ask(0, 2))
    memory.close()
    assert {entry.name: entry.stat().st_mode & 0o777 for entry in tmp_path.iterdir()} == dict.fromkeys(
        ("state", "state.lock", "state.journal"), 0o600
    )


@posix
def test_one_state_serves_one_signer(path: Path) -> None:
    memory = open_memory(path)
    with pytest.raises(LedgerUnavailableError, match="another signer works with this state"):
        open_memory(path)
    memory.close()
    open_memory(path).close()


def test_a_state_that_cannot_be_stored_is_not_to_be_signed(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    memory = open_memory(tmp_path / "gone" / "state")
    memory.extend(*LOG.ask(0, 2))
    for entry in (tmp_path / "gone").iterdir():
        entry.unlink()
    (tmp_path / "gone").rmdir()
    for asked in (LOG.ask(2, 5), Log("x", origin="other").ask(0)):
        with pytest.raises(LedgerUnavailableError, match="cannot be written"):
            memory.extend(*asked)
    assert memory.find("example/log") == Memory(State(0, EMPTY_ROOT), state(LOG, 2))
    memory.close()
    with pytest.raises(LedgerUnavailableError, match="cannot be opened"):
        open_memory(tmp_path / "gone" / "state")


GOOD = {"size": 2, "root": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
START = {"size": 0, "root": None}


@pytest.mark.parametrize(
    "said",
    [
        *["", "[]", "{}", "7", '{"version": 1}', "[" * 100_000, "\udcff"],
        {"version": 2, "logs": {}},
        {"version": 1, "logs": []},
        {"version": 1, "logs": {"x": {}}},
        {"version": 1, "logs": {"x": {"confirmed": START, "pending": START}}},
        {"version": 1, "logs": {"x": {"confirmed": GOOD, "pending": GOOD}}},
        {"version": 1, "logs": {"x": {"confirmed": START, "pending": {**GOOD, "root": "AAAA"}}}},
        {"version": 1, "logs": {"x": {"confirmed": START, "pending": {**GOOD, "root": "!"}}}},
        {"version": 1, "logs": {"x": {"confirmed": START, "pending": {**GOOD, "size": True}}}},
        {"version": 1, "logs": {"x": {"confirmed": START, "pending": {**GOOD, "size": "2"}}}},
        {"version": 1, "logs": {"x": {"confirmed": {**START, "size": -1}, "pending": GOOD}}},
        {"version": 1, "logs": {"x\ny": {"confirmed": START, "pending": GOOD}}},
        {"version": 1, "logs": {"x": {"confirmed": START, "pending": {**GOOD, "more": 1}}}},
    ],
)
def test_a_state_that_says_nothing_one_can_rely_on_is_refused_and_kept(path: Path, said: object) -> None:
    text = said if isinstance(said, str) else json.dumps(said)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    for _ in range(2):  # and the lock is let go
        with pytest.raises(KeyFileError, match=r"does not say what was signed.*It is kept as it is"):
            open_memory(path)
    assert path.read_bytes() == text.encode("utf-8", "surrogateescape")


def test_a_signer_does_not_remember_any_number_of_logs(path: Path) -> None:
    spelled = {"confirmed": {"size": 0, "root": GOOD["root"]}, "pending": GOOD}
    path.write_text(json.dumps({"version": 1, "logs": {f"log {n}": spelled for n in range(MAX_LOGS)}}))
    memory = open_memory(path)
    with pytest.raises(LedgerUnavailableError, match="takes no more"):
        memory.extend(*LOG.ask(0, 2))
    memory.close()


DYING = """
import os, signal, sys
from pathlib import Path
from donewhen.signers import memory as signer_memory
from donewhen.ledger import utc_now
from signers.test_memory import LOG
real = signer_memory.write_whole
def write_whole(*args, **options):
    if write_whole.dies:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*args, **options)
write_whole.dies = False
signer_memory.write_whole = write_whole
memory = signer_memory.SignerMemory(Path(sys.argv[1]), now=utc_now)
memory.extend(*LOG.ask(0, 2))
memory.extend(*LOG.ask(2, 5))
write_whole.dies = True
memory.extend(*LOG.ask(2, 6))
"""


@posix
def test_a_kill_before_the_state_is_replaced_leaves_the_one_before(tmp_path: Path, path: Path) -> None:
    with start(DYING, path) as process:
        _, err = process.communicate()
        assert (process.returncode, err) == (-9, "")
    memory = open_memory(path)
    assert memory.find("example/log") == Memory(state(LOG, 2), state(LOG, 5))
    # The journal is ahead of the state: it tells of what was about to be signed, never too little.
    assert [line["by"]["size"] for line in journal(tmp_path)] == [2, 6]
    memory.close()
