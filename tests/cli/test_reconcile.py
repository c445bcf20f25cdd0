"""`donewhen reconcile`: what is in doubt, and what a person says of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from command import as_json, donewhen, environ
from processes import PATIENCE_SECONDS, ending

from donewhen.ledger import Ledger
from donewhen.verify import verify_ledger

STORE = Path(".donewhen/ledger.db")
CALL = """
import sys, time
from donewhen import CircuitBreaker, Ledger, SpecResult, open_session
from donewhen.bounds import Request
with Ledger(sys.argv[1]) as ledger:
    session = open_session(SpecResult("a", "b", "c", "lost-session"), CircuitBreaker(9, 90_000), ledger)
    ask = Request.of(model="claude-sonnet-4-6", messages=[{"role": "user", "content": "hello"}], max_tokens=500)
    session.admit(ask)
    print("reserved", flush=True)
    sys.stdin.read()
"""
USED = ("--input-tokens", "30", "--output-tokens", "12")
WHY = ("--why", "the console says so", "--who", "Ada")


def calling() -> subprocess.Popen[str]:
    """Start a process that waits for the answer to its call."""
    STORE.parent.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", CALL, str(STORE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reserved\n"
    return process


@pytest.fixture
def lost() -> None:
    """A session whose process was killed in the middle of its call."""
    with ending(calling()) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)


def rows() -> list[str]:
    with Ledger(STORE, read_only=True) as ledger:
        return [row.kind for row in ledger.rows("lost-session")]


@pytest.mark.usefixtures("lost")
def test_a_call_whose_process_is_gone_is_listed_and_stays_charged() -> None:
    result = donewhen("reconcile")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)
    assert "nothing: its process is gone" in result.stdout
    assert "donewhen reconcile lost-session --turn 1 --none --why TEXT" in result.stderr
    (told,) = as_json("reconcile", "lost")
    assert (told["turn"], told["attempt"], told["process"], told["may_run"]) == (1, 1, "gone", False)
    assert told["reserved"][1] > 500
    assert rows()[-1] == "reserve"


@pytest.mark.usefixtures("lost")
def test_a_call_is_settled_by_hand_once_and_a_kill_afterwards_takes_nothing_back() -> None:
    told = as_json("reconcile", "lost", "--turn", "1", *USED, *WHY)
    assert (told["token_delta"], told["data"]["who"], told["data"]["why"]) == (42, "Ada", "the console says so")
    assert told["data"]["cost_microusd"] == 30 * 3 + 12 * 15
    assert as_json("reconcile") == []
    again = donewhen("reconcile", "lost", "--turn", "1", "--none", *WHY)
    assert (again.exit_code, again.stderr) == (2, "donewhen: session lost-session: no call of turn 1 is in doubt.\n")
    assert verify_ledger(STORE, None).warnings == ()


@pytest.mark.usefixtures("lost")
def test_a_process_that_dies_right_after_the_row_leaves_it_settled() -> None:
    code = (
        "import os, signal\nfrom donewhen.ledger import Ledger\nfrom donewhen.reconcile import *\n"
        f"ledger = Ledger({str(STORE)!r})\n(call,) = iter_in_doubt(ledger)\n"
        "reconcile(ledger, call, Found(tokens=7), who='Ada', why='asked')\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    died = subprocess.run([sys.executable, "-c", code], env=environ(), check=False, timeout=PATIENCE_SECONDS)
    assert died.returncode == -signal.SIGKILL
    assert (as_json("reconcile"), rows()[-1]) == ([], "reconcile")
    with Ledger(STORE) as ledger:
        balance = ledger.rows("lost-session")[-1].after[-1]
    assert (balance.spent.tokens, balance.reserved.tokens) == (7, 0)
    assert verify_ledger(STORE, None).rows == len(rows())


def test_a_call_that_is_under_way_is_settled_only_by_force() -> None:
    with ending(calling()) as process:
        assert "it may be under way" in donewhen("reconcile").stdout
        refused = donewhen("reconcile", "lost", "--turn", "1", "--none", *WHY)
        assert (refused.exit_code, rows()[-1]) == (75, "reserve")
        assert f"the call is still under way in process {process.pid}" in refused.stderr
        forced = donewhen("reconcile", "lost", "--turn", "1", "--none", "--force", *WHY)
        assert (forced.exit_code, rows()[-1]) == (0, "reconcile")
        assert "0 tokens instead of" in forced.stdout
    with Ledger(STORE) as ledger:
        assert ledger.rows("lost-session")[-1].data["process"] == "running"


WRONG = [
    (("--why", "x"), "--why is about one call"),
    (("--turn", "1", "--none", "--why", "x"), "name it"),
    (("lost", "--turn", "1", "--why", "x"), "in one way"),
    (("lost", "--turn", "1", "--none", "--tokens", "5", "--why", "x"), "in one way"),
    (("lost", "--turn", "1", "--input-tokens", "5", "--why", "x"), "are both needed"),
    (("lost", "--turn", "1", "--none"), "--why is missing"),
    (("lost", "--turn", "1", "--none", "--why", " "), "--why is missing"),
    (("lost", "--turn", "1", "--tokens", "-5", "--why", "x"), "--tokens"),
    (("lost", "--turn", "2", "--none", "--why", "x"), "no call of turn 2 is in doubt"),
]


@pytest.mark.usefixtures("lost")
@pytest.mark.parametrize(("words", "said"), WRONG)
def test_what_is_said_wrongly_settles_nothing(words, said) -> None:
    result = donewhen("reconcile", *words)
    assert (result.exit_code, rows()[-1]) == (2, "reserve")
    assert said in result.stderr


def test_nothing_in_doubt_is_told() -> None:
    STORE.parent.mkdir()
    Ledger(STORE).close()
    result = donewhen("reconcile")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No call is in doubt.\n")
    assert json.loads(donewhen("reconcile", "--json").stdout) == []


# -- against a usage report -------------------------------------------------------------------------------------------


def report(tmp_path: Path, output: int, *, model: str = "claude-sonnet-4-6-20260101", after: int = 0) -> Path:
    """Write what the provider would say of the minutes around now."""
    start = datetime.now(timezone.utc).replace(second=0, microsecond=0) - timedelta(minutes=30)
    buckets = []
    for number in range(60):
        begin, end = (start + timedelta(minutes=number + more) for more in (0, 1))
        result = {"uncached_input_tokens": 30, "output_tokens": output, "api_key_id": "apikey_01", "model": model}
        results = [result] if number == 30 + after else []
        buckets.append({"starting_at": begin.isoformat(), "ending_at": end.isoformat(), "results": results})
    path = tmp_path / "usage.json"
    path.write_text(json.dumps({"data": buckets, "has_more": False}))
    return path


@pytest.fixture
def settled(lost: None) -> None:
    assert donewhen("reconcile", "lost", "--turn", "1", *USED, *WHY).exit_code == 0


@pytest.mark.usefixtures("settled")
def test_a_ledger_that_agrees_with_the_report_ends_with_0(tmp_path) -> None:
    result = donewhen("reconcile", "--usage", report(tmp_path, 12))
    assert (result.exit_code, result.stdout.startswith("No mismatch: 1 call of the ledger")) == (0, True)


@pytest.mark.usefixtures("settled")
def test_a_real_mismatch_ends_with_7_and_is_told_with_minute_key_and_model(tmp_path) -> None:
    path = report(tmp_path, 15)
    result = donewhen("reconcile", "--usage", path)
    told = result.stdout.splitlines()
    assert (result.exit_code, told[1].split()[4:8]) == (7, ["claude-sonnet-4-6", "apikey_01", "45", "42"])
    assert "the tokens differ: output -3 in the ledger" in told[1]
    assert donewhen("reconcile", "--usage", path, "--tolerance", "20").exit_code == 0
    as_data = donewhen("reconcile", "--usage", path, "--json")
    (one,) = json.loads(as_data.stdout)["mismatches"]
    assert (as_data.exit_code, one["kind"], one["keys"]) == (7, "drift", ["apikey_01"])
    assert one["provider"] == {"input": 30, "output": 15, "cache_read": 0, "cache_write": 0}


@pytest.mark.usefixtures("lost")
def test_a_call_in_doubt_explains_what_it_could_have_used(tmp_path) -> None:
    result = donewhen("reconcile", "--usage", report(tmp_path, 12))
    assert result.exit_code == 0
    assert "1 of them is in doubt" in result.stderr
    assert rows()[-1] == "reserve"


@pytest.mark.usefixtures("settled")
def test_calls_that_one_side_lacks_and_another_model_are_told_as_such(tmp_path) -> None:
    said = donewhen("reconcile", "--usage", report(tmp_path, 12, after=20)).stdout
    assert "the ledger has no call here" in said
    assert "the provider has none" in said
    assert "2 mismatches" in said
    other = donewhen("reconcile", "--usage", report(tmp_path, 12, model="claude-opus-5"))
    assert (other.exit_code, "the ledger names the model claude-sonnet-4-6" in other.stdout) == (7, True)


WRONG_REPORTS = [
    (("--usage", "nothing.json"), "nothing.json: the file cannot be read"),
    (("--usage", "bad.json"), "bad.json, line 1: output_tokens: must be a whole number from 0 on (found -5)"),
    (("lost", "--usage", "bad.json"), "--usage compares the whole ledger"),
    (("--usage", "bad.json", "--none"), "--usage compares the whole ledger"),
    (("--key", "k"), "name it with --usage"),
    (("--usage", "bad.json", "--tolerance", "101"), "--tolerance"),
]


@pytest.mark.usefixtures("lost")
@pytest.mark.parametrize(("words", "said"), WRONG_REPORTS)
def test_a_wrong_report_is_one_sentence(tmp_path, words, said) -> None:
    report(tmp_path, -5).rename(tmp_path / "bad.json")
    result = donewhen("reconcile", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr
