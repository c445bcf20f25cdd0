"""A ledger whose key is in another process: nothing is stored that was not signed, whoever is killed."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from signing import journal, remembered, serving_logs, serving_process, short_folder
from stores.kit import SIGNER, STRANGER, begin, said, say, start

from donewhen.errors import LedgerError, LedgerTamperedError, LedgerUnavailableError
from donewhen.ledger import Ledger
from donewhen.notes import Checkpoint, LocalSigner, Signer, Verifier, open_checkpoint
from donewhen.signers.socket import MAX_REQUEST_BYTES, SocketSigner, is_socket, receive_line

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


def sizes(path: Path) -> list[int]:
    """Return what the checkpoints state, each signed by the key."""
    with Ledger(path, read_only=True) as ledger:
        verifier = SIGNER.verifier.named(ledger.origin)
        return [open_checkpoint(sealed.note, verifier).size for sealed in ledger.store.iter_sealed()]


# -- end to end --------------------------------------------------------------------------------------------------------


def test_a_ledger_is_signed_from_another_process(folder: Path, tmp_store: Path) -> None:
    with serving_process(folder):
        signer = SocketSigner(folder / "socket")
        assert isinstance(signer, Signer)
        assert (signer.name, signer.vkey) == (SIGNER.name, SIGNER.vkey)
        assert repr(signer) == f"SocketSigner({str(folder / 'socket')!r}, {SIGNER.vkey!r})"
        with Ledger(tmp_store, signer=signer) as ledger:
            for number in range(5):
                say(ledger, f"{number}")
            origin = ledger.origin
    assert sizes(tmp_store) == [1, 2, 3, 4, 5]
    assert remembered(folder) == {origin: (4, 5)}
    assert [line["replaced"] for line in journal(folder)] == [None]


def test_a_ledger_can_be_signed_here_first_and_there_later(folder: Path, tmp_store: Path) -> None:
    with Ledger(tmp_store, signer=SIGNER) as ledger:
        say(ledger)
        say(ledger)
    with serving_logs(folder) as path, Ledger(tmp_store, signer=SocketSigner(path)) as ledger:
        say(ledger)
        say(ledger)
        assert remembered(folder) == {ledger.origin: (3, 4)}


def test_two_logs_are_signed_by_one_signer(folder: Path, tmp_path: Path) -> None:
    with serving_logs(folder) as path:
        signer = SocketSigner(path)
        with Ledger(tmp_path / "a.db", signer=signer) as one, Ledger(tmp_path / "b.db", signer=signer) as other:
            for ledger in (one, other, one, one, other):
                say(ledger)
            assert remembered(folder) == {one.origin: (2, 3), other.origin: (1, 2)}


def test_processes_that_write_to_one_ledger_share_a_signer(folder: Path, tmp_store: Path) -> None:
    with serving_logs(folder) as path:
        ledgers = [Ledger(tmp_store, signer=SocketSigner(path)) for _ in range(3)]
        for number in range(9):
            say(ledgers[number % 3], f"{number}")
        for ledger in ledgers:
            ledger.close()
    assert sizes(tmp_store) == list(range(1, 10))
    assert len(journal(folder)) == 1


def test_a_rolled_back_ledger_is_not_signed(folder: Path, tmp_store: Path, tmp_path: Path) -> None:
    with serving_logs(folder) as path:
        signer = SocketSigner(path)
        with Ledger(tmp_store, signer=signer) as ledger:
            say(ledger, "kept")
        shutil.copy(tmp_store, tmp_path / "copy.db")
        with Ledger(tmp_store, signer=signer) as ledger:
            say(ledger, "lost")
            say(ledger, "lost too")
        shutil.copy(tmp_path / "copy.db", tmp_store)
        for _ in range(2):
            with (
                Ledger(tmp_store, signer=signer) as ledger,
                pytest.raises(LedgerTamperedError, match="rolled back, or put in the place of another") as caught,
            ):
                say(ledger, "never")
            assert caught.value.row_id == 2
    assert said(tmp_store) == ["kept"]


def test_a_rewritten_ledger_is_not_signed(folder: Path, tmp_store: Path) -> None:
    with serving_logs(folder) as path:
        with Ledger(tmp_store, signer=SocketSigner(path)) as ledger:
            for number in range(3):
                say(ledger, f"{number}")
            origin = ledger.origin
        tmp_store.unlink()
        # Whoever had the key too could write a whole other history of that log; the signer that remembers cannot.
        with Ledger(
            tmp_store, signer=SIGNER, random=lambda _count: base64.b32decode(origin[-13:].upper() + "===")
        ) as forged:
            assert forged.origin == origin
            for number in range(3):
                say(forged, f"other {number}")
        with (
            Ledger(tmp_store, signer=SocketSigner(path)) as ledger,
            pytest.raises(LedgerTamperedError, match="does not extend"),
        ):
            say(ledger)
    assert sizes(tmp_store) == [1, 2, 3]


def test_a_log_is_handed_on_to_a_signer_that_remembers(folder: Path, tmp_store: Path) -> None:
    old = LocalSigner("old", bytes(31) + b"\7")
    with serving_logs(folder) as path:
        with Ledger(tmp_store, signer=old) as ledger:
            say(ledger)
            ledger.rotate_key(SocketSigner(path), why="out of reach of the agent", who="ann")
            say(ledger)
            assert remembered(folder) == {ledger.origin: (2, 3)}
        with Ledger(tmp_store, signer=SocketSigner(path)) as ledger:
            say(ledger)
            assert remembered(folder) == {ledger.origin: (3, 4)}
            ledger.rotate_key(STRANGER, why="and away again", who="ann")
        with Ledger(tmp_store, signer=STRANGER) as ledger:
            say(ledger)
    with Ledger(tmp_store, read_only=True) as ledger:
        assert len(list(ledger.store.iter_sealed())) == 6


# -- killed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dies", ["before signature 4", "after signature 4"])
def test_a_signer_that_is_killed_before_it_answers_leaves_nothing_stored(
    folder: Path, tmp_store: Path, dies: str
) -> None:
    with serving_process(folder, dies) as process, Ledger(tmp_store, signer=SocketSigner(folder / "socket")) as ledger:
        say(ledger, "one")
        say(ledger, "two")
        with pytest.raises(LedgerUnavailableError, match="went away without a whole answer") as caught:
            say(ledger, "lost")
        assert caught.value.stored is False
        assert process.wait() == -signal.SIGKILL
        # It had remembered the third state; nobody has its signature.
        assert remembered(folder) == {ledger.origin: (2, 3)}
        with pytest.raises(LedgerUnavailableError, match="no signer answers there"):
            say(ledger, "lost too")
        with serving_process(folder) as again:
            assert say(ledger, "three") == 3
            assert say(ledger, "four") == 4
            assert again.poll() is None
    assert said(tmp_store) == ["one", "two", "three", "four"]
    new, replaced = journal(folder)
    assert (new["replaced"], replaced["replaced"]["size"], replaced["by"]["size"]) == (None, 3, 3)


KILLED_WRITER = """
import os, signal, sys
from donewhen.ledger import Ledger
from donewhen.signers.socket import SocketSigner
from stores.kit import begin, say

class Dying(SocketSigner):
    def sign_checkpoint(self, text, old_size, proof):
        signature = super().sign_checkpoint(text, old_size, proof)
        if old_size == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return signature

with Ledger(sys.argv[1], signer=Dying(sys.argv[2])) as ledger:
    for number in range(3):
        say(ledger, f"{number}")
"""


def test_a_writer_that_is_killed_between_signing_and_storing_leaves_a_log_that_goes_on(
    folder: Path, tmp_store: Path
) -> None:
    with serving_logs(folder) as path:
        with start(KILLED_WRITER, tmp_store, path) as process:
            assert process.wait() == -signal.SIGKILL
        assert said(tmp_store) == ["0", "1"]
        with Ledger(tmp_store, signer=SocketSigner(path)) as ledger:
            say(ledger, "another")
            say(ledger, "and another")
            assert remembered(folder) == {ledger.origin: (3, 4)}
    assert sizes(tmp_store) == [1, 2, 3, 4]
    assert [line["by"]["size"] for line in journal(folder)] == [0, 3]


# -- a signer that is none ---------------------------------------------------------------------------------------------


@contextmanager
def answering(folder: Path, answer: Callable[[socket.socket], None]) -> Iterator[Path]:
    """Listen where a signer would: tell the key, then answer as told."""
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            while True:
                connection, _ = listening.accept()
                with connection:
                    line = connection.recv(MAX_REQUEST_BYTES)
                    if not line:
                        return
                    if b'"op": "key"' in line:
                        connection.sendall(f'{{"vkey": "{SIGNER.vkey}"}}\n'.encode())
                    else:
                        answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
            thread.join()


WRONG = f'{{"signature": "{"A" * 86}=="}}\n'.encode()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "went away without a whole answer"),
        (b'{"signature": "AAAA', "went away without a whole answer"),
        (b"hello\n", "no signer"),
        (b"[1]\n", "no signer"),
        (b"[" * 9000 + b"\n", "no signer"),
        (b"\xff\n", "no signer"),
        (b"x" * 20_000, "no signer"),
        (b"{}\n", "what it gave is no signature of the key 'donewhen/"),
        (b'{"signature": 7}\n', "no signature"),
        (b'{"signature": "!"}\n', "no signature"),
        (WRONG, "no signature"),
        (b'{"refused": "not today"}\n', "the signer refuses: not today"),
    ],
)
def test_an_answer_that_is_no_signature_stores_nothing(folder: Path, tmp_store: Path, answer: bytes, says: str) -> None:
    begin(tmp_store)
    with (
        answering(folder, lambda connection: connection.sendall(answer)) as path,
        Ledger(tmp_store, signer=SocketSigner(path)) as ledger,
    ):
        with pytest.raises(LedgerUnavailableError, match=says) as caught:
            say(ledger)
        assert caught.value.stored is False
        assert "Nothing was written" in str(caught.value)
        assert ledger.get_all() == []


def test_a_signer_that_hangs_is_waited_for_as_long_as_was_said(folder: Path, tmp_store: Path) -> None:
    over = threading.Event()
    begin(tmp_store)
    with answering(folder, lambda _connection: over.wait() and None) as path:
        signer = SocketSigner(path, wait_seconds=30)
        with Ledger(tmp_store, signer=signer) as ledger:
            signer._wait_seconds = 0.05  # from now on: telling its key may take as long as it takes
            with pytest.raises(LedgerUnavailableError, match=r"the signer did not answer in 0\.05 s") as caught:
                say(ledger)
            over.set()
            assert caught.value.stored is False
            assert ledger.get_all() == []


def test_where_nobody_listens_the_error_says_what_to_start(folder: Path) -> None:
    with pytest.raises(LedgerUnavailableError, match=r"no signer answers there .*Start it with 'donewhen key serve'"):
        SocketSigner(folder / "socket")
    (folder / "socket").write_text("")
    for path in (folder / "socket", folder / ("x" * 200), "a\0b"):
        with pytest.raises(LedgerUnavailableError):
            SocketSigner(path)


def test_a_signer_whose_key_is_another_by_now_is_not_believed(folder: Path, tmp_store: Path) -> None:
    with serving_logs(folder) as path:
        signer = SocketSigner(path)
        signer._verifier = Verifier.parse(STRANGER.vkey)
        refused = pytest.raises(LedgerUnavailableError, match="has the key donewhen")
        with refused, Ledger(tmp_store, signer=signer):
            pass


def test_a_ledger_of_another_key_is_not_opened(folder: Path, tmp_store: Path) -> None:
    Ledger(tmp_store, signer=STRANGER).close()
    with serving_logs(folder) as path, pytest.raises(LedgerError, match="is signed by the key of donewhen"):
        Ledger(tmp_store, signer=SocketSigner(path))


def test_more_than_a_signer_takes_is_not_even_sent(folder: Path) -> None:
    refused = pytest.raises(LedgerUnavailableError, match=f"a signer takes {MAX_REQUEST_BYTES}")
    with serving_logs(folder) as path, refused:
        SocketSigner(path).sign(bytes(MAX_REQUEST_BYTES))


def test_a_signer_that_remembers_signs_nothing_in_passing(folder: Path) -> None:
    with serving_logs(folder) as path:
        signer = SocketSigner(path)
        for message in (b"DSSEv1 1 x 1 y", b"anything", Checkpoint("example/log", 1, bytes(32)).text().encode()):
            with pytest.raises(LedgerUnavailableError, match="refuses"):
                signer.sign(message)


# -- parts -------------------------------------------------------------------------------------------------------------


def test_a_line_that_trickles_in_has_one_time_limit(folder: Path) -> None:
    left = iter([5.0, 3.0, 0.0])
    one, other = socket.socketpair()
    with one, other:
        one.sendall(b"ab")
        assert other.recv(1) == b"a"

        def left_seconds() -> float:
            one.sendall(b"c")
            return next(left)

        with pytest.raises(TimeoutError):
            receive_line(other, 100, left_seconds)


def test_a_line_ends_at_its_line_feed(folder: Path) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(b"abc\ndef")
        assert receive_line(other, 100, lambda: 60.0) == b"abc"
        one.sendall(b"x" * 101)
        with pytest.raises(ValueError, match="more than 100 bytes"):
            receive_line(other, 100, lambda: 60.0)


def test_a_name_is_a_socket_or_not_or_nothing(folder: Path) -> None:
    (folder / "file").write_text("")
    os.symlink(folder / "file", folder / "link")
    with serving_logs(folder) as path:
        assert [is_socket(where) for where in (path, folder / "file", folder / "link", folder / "none")] == [
            *[True, False, False, None]
        ]
