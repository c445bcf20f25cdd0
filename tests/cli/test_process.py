"""The command as a process: exit codes, pipes, terminals, signals, overlapping runs."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from command import as_json, donewhen, environ, process, run_for_json, run_offline, start, write_spec
from processes import PATIENCE_SECONDS

WAITING_TOOL = '''
import threading

def fetch_url(url: str) -> str:
    """Tell the test that it runs, then wait for ever."""
    with open("begun", "w") as pipe:
        pipe.write("begun")
    threading.Event().wait()
'''
OFFLINE = ("--client", "offline")


@pytest.fixture(autouse=True)
def _ctrl_c_as_at_a_terminal() -> Iterator[None]:
    """Let Ctrl-C reach the processes of a test: where the tests run in the background it is ignored, and inherited."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """A spec file whose run, with the tool beside it, comes to a tool call that never returns."""
    (tmp_path / "waiting_tool.py").write_text(WAITING_TOOL)
    os.mkfifo(tmp_path / "begun")
    more = 'keep = "conversation"\n[ceilings]\ntokens = 40000\nturns = 5\n'
    # The offline rules call a tool only where one can audit, so a plain audit_page is offered beside it.
    (tmp_path / "waiting_tool.py").write_text(WAITING_TOOL + WAITING_TOOL.replace("fetch_url", "audit_page"))
    return write_spec(tmp_path / "waiting.toml", more, what_it_does="Audits http://127.0.0.1:1/")


@contextmanager
def start_waiting(spec: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a run whose tool has begun; it does not outlive the block."""
    begun = os.open(spec.parent / "begun", os.O_RDONLY | os.O_NONBLOCK)
    tools = ("--tools", "waiting_tool:fetch_url", "--tools", "waiting_tool:audit_page")
    with start("run", spec, *OFFLINE, *tools, **options) as running:
        try:
            ready, _, _ = select.select([begun], [], [], PATIENCE_SECONDS)
        finally:
            os.close(begun)
        if not ready:
            running.kill()
            raise AssertionError(running.communicate())
        yield running


def on_a_terminal(*words: str | Path, **more: str) -> str:
    """Run a command with stdout on a terminal, and return what the terminal got."""
    ours, theirs = pty.openpty()
    got = b""
    with open(ours, "rb", buffering=0) as terminal, ExitStack() as stack:
        with open(theirs, "wb", buffering=0):
            ends = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
            running = stack.enter_context(start(*words, **ends, env=environ(**more)))
        with suppress(OSError):  # the other side is closed
            while piece := terminal.read(65536):
                got += piece
        running.wait()
    return got.decode()


def in_bash(script: str) -> subprocess.CompletedProcess[str]:
    """Run a line as a person types it."""
    return subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env=environ(),
    )


def test_the_exit_codes_reach_the_shell(tmp_path: Path) -> None:
    done = process("run", write_spec(tmp_path / "a.toml"), *OFFLINE)
    ceiling = process("run", write_spec(tmp_path / "b.toml", "[ceilings]\nturns = 0\n"), *OFFLINE)
    usage = process("run", "nowhere.toml")
    assert (done.returncode, ceiling.returncode, usage.returncode) == (0, 4, 2)
    assert usage.stderr.startswith("donewhen: nowhere.toml: the file cannot be read")


def test_a_reader_that_goes_away_is_no_fault(spec_file: Path) -> None:
    run_offline(spec_file)
    with start("show", "", "--all", "--json") as gone:
        assert gone.stdout is not None
        gone.stdout.close()
        assert gone.stderr is not None
        assert "Traceback" not in gone.stderr.read()
    session = as_json("sessions")[0]["session_id"]
    script = f"set -o pipefail; '{sys.executable}' -m donewhen show {session} --all | head -1"
    result = in_bash(script)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_closed_stdout_is_no_fault(spec_file: Path) -> None:
    script = f"exec '{sys.executable}' -m donewhen run {spec_file} --client offline >&- 2>&-"
    assert in_bash(script).returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_behind_stdout_is_one_sentence(spec_file: Path) -> None:
    run_offline(spec_file)
    with Path("/dev/full").open("w") as full:
        result = process("sessions", stdout=full)
    assert result.returncode == 1
    assert result.stderr == "donewhen: [Errno 28] No space left on device.\n"


def test_under_cron_a_good_run_is_silent(spec_file: Path) -> None:
    few = {name: environ()[name] for name in ("DONEWHEN_CONFIG_DIR", "PYTHONPATH")} | {"LANG": "C", "LC_ALL": "C"}
    result = process("run", spec_file, *OFFLINE, "--quiet", env=few)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_with_a_spec_file_nobody_reads_stdin(spec_file: Path) -> None:
    with start("run", spec_file, *OFFLINE, stdin=subprocess.PIPE) as running:
        assert running.wait() == 0  # though its stdin has neither text nor an end


def test_text_that_the_locale_cannot_spell_is_shown_by_its_number(tmp_path: Path) -> None:
    session = run_for_json(write_spec(tmp_path / "s.toml", what_it_does="日本"))["session_id"]
    result = process("show", session, env=environ(PYTHONIOENCODING="latin-1"))
    assert result.returncode == 0
    assert "does       \\u65e5\\u672c" in result.stdout


def test_colour_is_for_terminals_alone_and_no_color_is_respected(spec_file: Path) -> None:
    run_offline(spec_file)
    colour = "\x1b[32m"
    assert colour in on_a_terminal("sessions", TERM="xterm", COLUMNS="120")
    assert colour not in on_a_terminal("sessions", TERM="xterm", NO_COLOR="1")
    assert "\x1b" not in process("sessions").stdout


def test_on_a_terminal_watch_draws_bars_and_ends_when_the_session_has(spec_file: Path) -> None:
    run_offline(spec_file)
    told = on_a_terminal("watch", TERM="xterm", COLUMNS="100", LINES="30")
    assert "1 of 5" in told
    assert "━" in told


def test_a_second_run_of_a_spec_file_ends_with_75_and_the_first_goes_on(waiting: Path) -> None:
    with start_waiting(waiting) as running:
        second = donewhen("run", waiting, *OFFLINE)
        assert second.exit_code == 75
        assert f"process {running.pid} since" in second.stderr
        [session] = as_json("sessions")
        assert session["state"] == "running"
        assert donewhen("resume", session["session_id"], *OFFLINE).exit_code == 75
        running.kill()


def test_after_kill_9_the_spec_runs_again_and_the_session_resumes_with_its_spend(waiting: Path) -> None:
    with start_waiting(waiting) as running:
        running.kill()
    [before] = as_json("sessions")
    assert before["state"] == "interrupted"
    resumed = donewhen("resume", before["session_id"], *OFFLINE, "--json")
    told = json.loads(resumed.stdout)
    assert (resumed.exit_code, told["outcome"]) == (0, "done"), resumed.stderr
    assert told["total_tokens"] > before["balance"]["spent"]["tokens"] > 0
    again = donewhen("run", waiting, *OFFLINE)
    assert again.exit_code == 0


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_says_how_to_go_on(waiting: Path, sent: signal.Signals, code: int) -> None:
    with start_waiting(waiting) as running:
        running.send_signal(sent)
        _, told = running.communicate()
    assert running.returncode == code
    assert "donewhen resume" in told
    assert "Traceback" not in told


def test_ctrl_c_leaves_a_watch_cleanly_and_the_session_running(waiting: Path) -> None:
    with start_waiting(waiting) as running:
        with start("watch", "--json") as watching:
            assert watching.stdout is not None
            assert json.loads(watching.stdout.readline())["kind"] == "spec"
            watching.send_signal(signal.SIGINT)
            _, told = watching.communicate()
        assert (watching.returncode, "Traceback" in told) == (0, False)
        assert running.poll() is None
        running.kill()
