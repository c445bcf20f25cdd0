from __future__ import annotations

import os
import platform
import sys

import pytest
from stores.kit import start

from donewhen import owner
from donewhen.owner import is_alive, this_process, this_user

SLEEPER = "import sys; print('ready', flush=True); sys.stdin.readline()"
HERE = platform.node().replace(":", "-") or "localhost"


def test_this_process_is_alive() -> None:
    assert this_process().split(":")[:2] == [HERE, str(os.getpid())]
    assert is_alive(this_process()) is True


@pytest.mark.skipif(os.name == "nt", reason="there the environment is asked")
def test_this_user_is_who_the_system_says_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    for name in ("USER", "LOGNAME", "USERNAME", "LNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert this_user() == pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 2)
    assert this_user() == f"uid {2**31 - 2}"


def test_another_process_is_alive_until_it_ends() -> None:
    with start(f"from donewhen.owner import this_process; print(this_process(), flush=True); {SLEEPER}") as process:
        name = process.stdout.readline().strip()
        assert is_alive(name) is True
        process.communicate("end\n")
    assert is_alive(name) is False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc here")
def test_a_process_that_was_killed_is_not_alive_though_its_parent_has_not_noticed() -> None:
    with start(f"from donewhen.owner import this_process; print(this_process(), flush=True); {SLEEPER}") as process:
        name = process.stdout.readline().strip()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_alive(name) is False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc here")
def test_another_process_under_the_same_number_is_not_it() -> None:
    assert is_alive(f"{HERE}:{os.getpid()}:1") is False
    assert is_alive(f"{HERE}:{os.getpid()}:0") is True


@pytest.mark.parametrize(
    "name",
    ["", "x", ":", "::", "elsewhere:1:1", f"{HERE}:x:1", f"{HERE}:²:1", f"{HERE}:-1:1", f"{HERE}:0:1", f"{HERE}::"],
)
def test_of_what_is_no_process_of_this_machine_nothing_is_known(name) -> None:
    assert is_alive(name) is None


def test_a_number_that_no_process_has_is_not_alive() -> None:
    assert is_alive(f"{HERE}:{2**22 + 1}:1") is False
    assert is_alive(f"{HERE}:{10**30}:1") is False


def test_a_process_of_somebody_else_is_judged_by_when_it_started(monkeypatch) -> None:
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(owner.os, "kill", refuse)
    assert is_alive(this_process()) is True
    assert is_alive(f"{HERE}:{os.getpid()}:1") is (not os.path.isdir("/proc/self"))


def test_where_there_is_no_proc_the_number_alone_decides(monkeypatch) -> None:
    monkeypatch.setattr(owner, "_started", lambda pid: None)
    assert this_process().endswith(":0")
    assert is_alive(f"{HERE}:{os.getpid()}:77") is True


def test_on_windows_nothing_is_asked_of_another_process(monkeypatch) -> None:
    monkeypatch.setattr(owner.os, "name", "nt")
    assert is_alive(f"{HERE}:{os.getpid()}:0") is None


def test_a_process_file_that_cannot_be_read_says_nothing() -> None:
    assert owner._started(2**22 + 1) is None
    assert sys.platform != "linux" or owner._started(os.getpid()).isdigit()


def test_a_host_name_with_a_colon_does_not_confuse(monkeypatch) -> None:
    monkeypatch.setattr(owner.platform, "node", lambda: "a:b")
    assert this_process().startswith("a-b:")
    assert is_alive(this_process()) is True
    monkeypatch.setattr(owner.platform, "node", lambda: "")
    assert is_alive(this_process()) is True
