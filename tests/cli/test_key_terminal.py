"""Keys where a person is asked: for a passphrase, and before a reviewer's key signs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from signing import short_folder
from stores.kit import SIGNER

from donewhen.errors import LedgerUnavailableError
from donewhen.keys import config_dir, load_reviewer_key
from donewhen.signers.socket import SocketSigner

pytest.importorskip("pty")

from terminal import at_a_terminal

WORDS = "correct horse battery"


def test_a_new_passphrase_is_asked_for_twice_and_not_shown() -> None:
    with at_a_terminal("key", "new", "--passphrase") as terminal:
        terminal.wait_for("A passphrase, several words: ")
        terminal.type(WORDS)
        terminal.wait_for("Repeat for confirmation: ")
        terminal.type(WORDS)
        code, shown = terminal.end()
    assert (code, "Made: " in shown, WORDS in shown) == (0, True, False)
    assert "ENCRYPTED" in (config_dir(os.environ) / "log.key").read_text()


def test_a_short_passphrase_makes_no_key() -> None:
    with at_a_terminal("key", "new", "--passphrase") as terminal:
        for prompt in ("several words: ", "confirmation: "):
            terminal.wait_for(prompt)
            terminal.type("short")
        code, shown = terminal.end()
    assert (code, "fewer than 12 characters" in shown) == (7, True)
    assert not config_dir(os.environ).exists()


@pytest.mark.parametrize(
    ("typed", "code", "says"), [(WORDS, 0, "handed on to"), ("wrong words!", 7, "not the one that")]
)
def test_a_locked_key_is_unlocked_once_for_a_command(spec_file: Path, typed: str, code: int, says: str) -> None:
    from command import donewhen, run_offline

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DONEWHEN_KEY_PASSPHRASE", WORDS)
        donewhen("key", "new", "--passphrase")
        assert run_offline(spec_file).exit_code == 0
    with at_a_terminal("key", "rotate", "--why", "yearly") as terminal:
        terminal.wait_for("log.key: ")
        terminal.type(typed)
        ended, shown = terminal.end()
    assert (ended, says in " ".join(shown.split()), "Passphrase of" in shown) == (code, True, False)


def test_a_reviewers_signer_asks_before_each_signature() -> None:
    from command import donewhen

    donewhen("key", "new", "--reviewer", "Ada")
    key = load_reviewer_key(config_dir(os.environ))
    assert key is not None
    statement = b'DSSEv1 28 application/vnd.in-toto+json 18 {"decision": "no"}'
    with short_folder() as folder:
        path = folder / "socket"
        with at_a_terminal("key", "serve", "--socket", path, "--reviewer") as terminal:
            assert key.vkey in terminal.wait_for("socket")
            signer = SocketSigner(path, wait_seconds=300)
            answers: list[object] = []
            for typed in ("y", "n", ""):
                asked = _asked(signer, statement, answers)
                assert '{"decision": "no"}' in terminal.wait_for("Sign it? [y/N]:")
                terminal.type(typed)
                asked.join()
            terminal.process.terminate()
            assert terminal.end()[0] == 0
    assert answers[0] == key.sign(statement) != SIGNER.sign(statement)
    assert [str(answer).count("the reviewer said no") for answer in answers[1:]] == [1, 1]


def _asked(signer: SocketSigner, statement: bytes, answers: list[object]):
    import threading

    def ask() -> None:
        try:
            answers.append(signer.sign(statement))
        except LedgerUnavailableError as error:
            answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread
