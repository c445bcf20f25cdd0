"""`release`: what it says, where it hands an output to, and how it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from command import as_json, donewhen, run_for_json
from receivers import receiving


@pytest.fixture
def session(spec_file: Path) -> str:
    """A session whose output waits."""
    ended: str = run_for_json(spec_file)["session_id"]
    return ended


@pytest.fixture
def attested(session: str) -> str:
    assert donewhen("attest", session, "--reviewer", "ann").exit_code == 0
    return session


def output_of(session: str) -> bytes:
    return as_json("review", session)["output"].encode()


def test_an_output_is_written_into_a_file_byte_for_byte(attested: str) -> None:
    result = donewhen("release", attested, "--to", "out.txt")
    assert (result.exit_code, "handed on to file:" in result.stdout) == (0, True)
    assert Path("out.txt").read_bytes() == output_of(attested)


def test_a_beginning_of_the_id_is_enough_and_json_tells_all(attested: str) -> None:
    told = as_json("release", attested[:8], "--to", "out.txt")
    assert (told["session_id"], told["is_new"], told["target"]) == (attested, True, f"file:{Path('out.txt').resolve()}")
    again = as_json("release", attested[:8], "--to", "out.txt")
    assert (again["is_new"], again["row_id"], again["key"]) == (False, told["row_id"], told["key"])


def test_a_second_time_it_says_so_and_does_nothing(attested: str) -> None:
    donewhen("release", attested, "--to", "out.txt")
    Path("out.txt").unlink()
    result = donewhen("release", attested, "--to", "out.txt")
    assert (result.exit_code, "nothing was done" in result.stdout, Path("out.txt").exists()) == (0, True, False)


def test_without_an_attestation_it_ends_with_3(session: str) -> None:
    result = donewhen("release", session, "--to", "out.txt")
    assert (result.exit_code, result.stdout, Path("out.txt").exists()) == (3, "", False)
    assert "1 more reviewer must attest" in result.stderr


def test_where_a_reviewer_rejected_it_it_ends_with_5(attested: str) -> None:
    assert donewhen("reject", attested, "--reviewer", "ben", "--reason", "wrong number").exit_code in (0, 5)
    result = donewhen("release", attested, "--to", "out.txt")
    assert (result.exit_code, Path("out.txt").exists()) == (5, False)
    assert "ben rejected it: wrong number" in result.stderr
    assert donewhen("release", attested, "--check").exit_code == 5


def test_a_file_with_other_content_is_replaced_with_force_only(attested: str) -> None:
    Path("out.txt").write_text("mine", encoding="utf-8")
    result = donewhen("release", attested, "--to", "out.txt")
    assert (result.exit_code, Path("out.txt").read_text(encoding="utf-8")) == (1, "mine")
    assert "other content" in result.stderr
    assert donewhen("release", attested, "--to", "out.txt", "--force").exit_code == 0
    assert Path("out.txt").read_bytes() == output_of(attested)


def test_a_webhook_gets_it_and_its_url_is_not_shown(attested: str) -> None:
    with receiving(500, 200) as receiver:
        url = f"{receiver.url}?token=s3cr3t"
        failed = donewhen("release", attested, "--webhook", url)
        assert (failed.exit_code, "it answered 500" in failed.stderr) == (1, True)
        done = donewhen("release", attested, "--webhook", url)
        assert done.exit_code == 0
    assert receiver.bodies == [output_of(attested)] * 2
    assert "s3cr3t" not in failed.stderr + done.stdout + done.stderr
    assert b"s3cr3t" not in Path(".donewhen/ledger.db").read_bytes()


def test_a_command_gets_it_on_standard_input(attested: str) -> None:
    script = "import sys; data = sys.stdin.buffer.read(); open('got', 'wb').write(data); print('took', len(data))"
    result = donewhen("release", attested, "--", sys.executable, "-c", script)
    assert (result.exit_code, Path("got").read_bytes()) == (0, output_of(attested))
    assert f"took {len(output_of(attested))}" in result.stderr


def test_what_a_command_says_is_shown_harmless(attested: str) -> None:
    script = "import sys; sys.stdout.write('\\x1b[2Jboo'); sys.exit(4)"
    result = donewhen("release", attested, "--", sys.executable, "-c", script)
    assert (result.exit_code, "boo" in result.stderr, "\x1b" in result.stderr) == (1, True, False)


def test_a_command_that_may_have_run_needs_again(attested: str) -> None:
    words = ("release", attested, "--", "sh", "-c", "test -e second || { touch second; kill -9 $$; }")
    assert donewhen(*words).exit_code == 1
    asked = donewhen(*words)
    assert (asked.exit_code, "say again to run it again" in asked.stderr) == (3, True)
    assert donewhen("release", "--again", *words[1:]).exit_code == 0


def test_check_says_what_is_missing_and_releases_nothing(session: str) -> None:
    missing = donewhen("release", session, "--check")
    assert (missing.exit_code, "1 more reviewer must attest" in missing.stdout) == (3, True)
    donewhen("attest", session, "--reviewer", "ann")
    ready = donewhen("release", session, "--check")
    assert (ready.exit_code, "It could be released: attested by ann" in ready.stdout) == (0, True)
    told = as_json("release", session, "--check")
    assert (told["is_ready"], told["releases"], told["judgement"]["missing"]) == (True, [], 0)


def test_check_as_json_says_no_with_its_exit_code(session: str) -> None:
    result = donewhen("release", session, "--check", "--json")
    assert (result.exit_code, json.loads(result.stdout)["is_ready"]) == (3, False)


def test_check_lists_what_was_tried(attested: str) -> None:
    donewhen("release", attested, "--to", "out.txt")
    donewhen("release", attested, "--", "false")
    lines = donewhen("release", attested, "--check").stdout.splitlines()
    assert [" ".join(line.split()[2:4]).split(":")[0] for line in lines[2:]] == ["done file", "failed command"]
    assert lines[-1].endswith("(it ended with exit status 1)")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "say where it goes"),
        (("--to", "a", "--webhook", "http://a/"), "say where it goes"),
        (("--to", "a", "--", "cat"), "say where it goes"),
        (("--webhook", "http://a/", "--force"), "--force"),
        (("--to", "a", "--timeout", "3"), "--timeout"),
        (("--timeout", "0", "--", "cat"), "timeout_seconds"),
        (("--webhook", "ftp://a/"), "http"),
        (("--", ""), "the program, then its arguments"),
    ],
)
def test_a_target_that_is_none_is_wrong_usage(attested: str, words: tuple[str, ...], problem: str) -> None:
    result = donewhen("release", attested, *words)
    assert (result.exit_code, problem in result.stderr) == (2, True)


def test_a_session_that_is_not_there_is_wrong_usage(attested: str) -> None:
    assert donewhen("release", "nobody", "--to", "out.txt").exit_code == 2
    assert donewhen("release", "nobody", "--check").exit_code == 2


def test_without_a_ledger_there_is_nothing_to_release() -> None:
    assert donewhen("release", "s", "--to", "out.txt").exit_code == 7
    assert not Path(".donewhen/ledger.db").exists()
