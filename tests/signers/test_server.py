"""The process that holds the key: who may ask, what is answered, and what is refused."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from signers.test_memory import FORK, LOG
from signing import journal, remembered, serving, serving_logs, serving_process, short_folder
from stores.kit import SIGNER, STRANGER, start

from donewhen.errors import KeyFileError, LedgerTamperedError, LedgerUnavailableError
from donewhen.notes import Verifier
from donewhen.signers.server import MAX_CONNECTIONS, ReviewerDesk, SignerServer
from donewhen.signers.socket import MAX_REQUEST_BYTES, SocketSigner

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


def ask(path: Path, request: object) -> dict[str, Any]:
    """Send one request as it is, and return the answer."""
    line = request if isinstance(request, bytes) else f"{json.dumps(request)}\n".encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            answer: dict[str, Any] = json.loads(file.readline())
    return answer


def request_of(old: int, new: int | None = None, log: Any = LOG, **changes: Any) -> dict[str, Any]:
    checkpoint, _, proof = log.ask(old, new)
    digests = [base64.b64encode(digest).decode() for digest in proof]
    whole = {"op": "checkpoint", "vkey": SIGNER.vkey, "text": checkpoint.text(), "old_size": old, "proof": digests}
    return {**whole, **changes}


# -- logs --------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_that_extends_is_signed(folder: Path) -> None:
    with serving_logs(folder) as path:
        assert ask(path, {"op": "key"}) == {"vkey": SIGNER.vkey}
        for old, new in ((0, 2), (2, 5), (5, 8)):
            answer = ask(path, request_of(old, new))
            text = LOG.checkpoint(new).text().encode()
            assert Verifier.parse(SIGNER.vkey).verify(text, base64.b64decode(answer["signature"]))
    assert remembered(folder) == {"example/log": (5, 8)}


def test_a_log_that_was_rolled_back_or_forked_is_refused(folder: Path) -> None:
    with serving_logs(folder) as path:
        for old, new in ((0, 5), (5, 6), (6, 7)):
            ask(path, request_of(old, new))
        for request in (request_of(5, 8), request_of(0, 7), request_of(7, 8, FORK), request_of(6, 8, FORK)):
            answer = ask(path, request)
            assert (answer["why"], "signature" in answer) == ("tampered", False)
    assert remembered(folder) == {"example/log": (6, 7)}


def test_what_is_replaced_is_told_to_whoever_started_the_signer(folder: Path) -> None:
    told: list[str] = []
    with serving_logs(folder, told) as path:
        for request in (request_of(0, 5), request_of(5, 7), request_of(5, 8, FORK)):
            assert "signature" in ask(path, request)
    assert len(told) == len(journal(folder)) == 2
    assert "another of 8 rows takes its place" in told[1]


def test_the_newest_checkpoint_is_signed_again_and_nothing_else_is(folder: Path) -> None:
    newest, older = LOG.checkpoint(5).text(), LOG.checkpoint(2).text()
    with serving_logs(folder) as path:
        ask(path, request_of(0, 2))
        ask(path, request_of(2, 5))
        answers = [
            ask(path, {"op": "sign", "vkey": SIGNER.vkey, "message": base64.b64encode(message).decode()})
            for message in (
                newest.encode(),
                older.encode(),
                b"DSSEv1 4 text",
                b"\xff",
                LOG.checkpoint(8).text().encode(),
            )
        ]
    assert ["signature" in answer for answer in answers] == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (b"\n", "cannot be read"),
        (b"", "cannot be read"),
        (b"{", "cannot be read"),
        (b"[]\n", "cannot be read"),
        (b"\xff\xff\n", "cannot be read"),
        (b"[" * 60_000 + b"\n", "cannot be read"),
        (b"x" * (MAX_REQUEST_BYTES + 1), f"a line of more than {MAX_REQUEST_BYTES} bytes"),
        ({}, "knows the operations"),
        ({"op": "open the door"}, "knows the operations"),
        ({"op": ["sign"]}, "knows the operations"),
        (request_of(0, 2, vkey=STRANGER.vkey), "has the key donewhen/aaaaaaaaaaaaa+"),
        (request_of(0, 2, vkey=None), "not the one that is asked for"),
        (request_of(0, 2, text=7), "has a text, an old size and a proof"),
        (request_of(0, 2, old_size=True), "has a text, an old size and a proof"),
        (request_of(0, 2, old_size="0"), "has a text, an old size and a proof"),
        (request_of(0, 2, proof={}), "has a text, an old size and a proof"),
        (request_of(0, 2, proof=["!"]), "not base64"),
        (request_of(0, 2, proof=[7]), "not base64"),
        (request_of(0, 2, proof=["AAAA"]), "32 bytes"),
        (request_of(0, 2, text="no checkpoint"), "a checkpoint has three lines"),
        (request_of(0, 2, text="a\x00\n1\nAAAA\n"), "origin is one line of text"),
        ({"op": "sign", "vkey": SIGNER.vkey}, "not base64"),
    ],
)
def test_what_is_no_request_is_refused_and_the_signer_goes_on(folder: Path, request_: object, says: str) -> None:
    with serving_logs(folder) as path:
        assert says in ask(path, request_)["refused"]
        assert remembered(folder) == {}
        assert "signature" in ask(path, request_of(0, 2))


def test_whoever_goes_away_or_waits_stops_nobody(folder: Path) -> None:
    with serving_logs(folder) as path:
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(MAX_CONNECTIONS - 2)]
        for connection in waiting:
            connection.connect(str(path))
            connection.sendall(b'{"op": ')
        for _ in range(5):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                connection.sendall(f"{json.dumps(request_of(0, 2))}\n".encode())
        assert "signature" in ask(path, request_of(0, 2))
        for connection in waiting:
            connection.close()


def test_many_at_once_are_answered_one_after_the_other(folder: Path) -> None:
    answers: list[dict[str, Any]] = []
    with serving_logs(folder) as path:
        ask(path, request_of(0, 2))
        threads = [
            threading.Thread(target=lambda log=log: answers.append(ask(path, request_of(2, 7, log))))
            for log in (LOG, FORK) * 8
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum("signature" in answer for answer in answers) == 16
    assert len(journal(folder)) >= 2  # that it was two states for one commit is on record


# -- the socket --------------------------------------------------------------------------------------------------------


def test_the_socket_is_for_its_owner_only_and_goes_with_the_signer(folder: Path) -> None:
    before = os.umask(0)
    try:
        with serving_logs(folder) as path:
            assert path.lstat().st_mode & 0o777 == 0o600
            assert sorted(entry.name for entry in folder.iterdir()) == ["socket", "state", "state.lock"]
    finally:
        os.umask(before)
    assert not (folder / "socket").exists()


def test_a_group_can_be_let_in(folder: Path) -> None:
    with serving(folder / "socket", ReviewerDesk(SIGNER, lambda _message: False), group=os.getgid()) as server:
        found = server.path.lstat()
        assert (found.st_mode & 0o777, found.st_gid) == (0o660, os.getgid())


def test_a_socket_that_a_killed_signer_left_is_replaced(folder: Path) -> None:
    with serving_process(folder) as process:
        process.kill()
        process.wait()
    assert (folder / "socket").is_socket()
    with serving_logs(folder) as path:
        assert ask(path, {"op": "key"}) == {"vkey": SIGNER.vkey}


def test_a_signer_that_answers_is_not_pushed_aside(folder: Path) -> None:
    desk = ReviewerDesk(SIGNER, lambda _message: True)
    with serving_logs(folder) as path:
        with pytest.raises(LedgerUnavailableError, match="another signer answers there"):
            SignerServer(path, SIGNER.vkey, desk)
        assert ask(path, {"op": "key"}) == {"vkey": SIGNER.vkey}


def test_what_is_no_socket_is_not_replaced(folder: Path) -> None:
    (folder / "socket").write_text("mine")
    with pytest.raises(KeyFileError, match="is no socket"):
        SignerServer(folder / "socket", SIGNER.vkey, ReviewerDesk(SIGNER, lambda _message: True))
    assert (folder / "socket").read_text() == "mine"


@pytest.mark.parametrize("name", ["x" * 200, "nowhere/socket"])
def test_a_place_where_no_socket_can_be_is_one_clear_error(folder: Path, name: str) -> None:
    with pytest.raises(LedgerUnavailableError, match="no socket can be made there"):
        SignerServer(folder / name, SIGNER.vkey, ReviewerDesk(SIGNER, lambda _message: True))
    assert list(folder.iterdir()) == []


def test_a_name_that_is_anothers_by_now_is_left_alone(folder: Path) -> None:
    with serving_logs(folder) as path:
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.is_socket()


# -- reviewers ---------------------------------------------------------------------------------------------------------

STATEMENT = b"DSSEv1 28 application/vnd.in-toto+json 2 {}"


def test_a_reviewers_statement_is_signed_when_the_reviewer_says_yes(folder: Path) -> None:
    shown: list[bytes] = []

    def confirm(message: bytes) -> bool:
        shown.append(message)
        return len(shown) == 1

    with serving(folder / "socket", ReviewerDesk(SIGNER, confirm)):
        signer = SocketSigner(folder / "socket")
        assert signer.sign(STATEMENT) == SIGNER.sign(STATEMENT)
        with pytest.raises(LedgerUnavailableError, match="the reviewer said no"):
            signer.sign(STATEMENT)
    assert shown == [STATEMENT, STATEMENT]


def test_a_reviewers_key_signs_no_log_and_nothing_unknown(folder: Path) -> None:
    with serving(folder / "socket", ReviewerDesk(SIGNER, lambda _message: True)):
        signer = SocketSigner(folder / "socket")
        text = LOG.checkpoint(2).text()
        for sign in (
            lambda: signer.sign(b"anything"),
            lambda: signer.sign(text.encode()),
            lambda: signer.sign_checkpoint(text, 0, []),
        ):
            with pytest.raises(LedgerUnavailableError, match="signs statements of its reviewer, and nothing else"):
                sign()


# -- a process ---------------------------------------------------------------------------------------------------------


def test_a_signer_that_is_told_to_end_takes_its_socket_away(folder: Path) -> None:
    import command

    (folder / "log.key").write_text(f"{SIGNER.skey}\n")
    (folder / "log.key").chmod(0o600)
    words = ("key", "serve", "--socket", folder / "socket")
    with command.start(*words, env=command.environ(DONEWHEN_CONFIG_DIR=str(folder))) as process:
        assert process.stderr is not None
        assert "signer.json is new" in process.stderr.readline()
        assert process.stderr.readline() == f"Signing as {SIGNER.vkey} at {folder / 'socket'}\n"
        assert "signature" in ask(folder / "socket", request_of(0, 2))
        with pytest.raises(LedgerTamperedError):
            SocketSigner(folder / "socket").sign_checkpoint(LOG.checkpoint(3).text(), 1, LOG.proof(1, 3))
        process.send_signal(signal.SIGTERM)
        assert "Stopped." in process.stderr.read()
        assert process.wait() == 0
    assert not (folder / "socket").exists()


GIVEN_TO_ANOTHER_THREAD = """
import signal, sys, threading
from pathlib import Path
from donewhen.cli import key_serve
from donewhen.signers.server import SignerServer
from stores.kit import SIGNER

main = threading.get_ident()

def take_signal():
    # The system may give a signal to a thread that answers somebody, while the main one, which runs handlers, waits.
    while sys._current_frames()[main].f_code.co_name != "serve":
        pass
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

with SignerServer(Path(sys.argv[1]), SIGNER.vkey, None) as server:
    threading.Thread(target=take_signal).start()
    sys.exit(key_serve._run(server, SIGNER.vkey))
"""


def test_a_signal_that_another_thread_is_given_ends_the_signer_too(folder: Path) -> None:
    with start(GIVEN_TO_ANOTHER_THREAD, folder / "socket") as process:
        _, told = process.communicate()
        assert process.returncode == 0
    assert told.endswith("Stopped.\n")
