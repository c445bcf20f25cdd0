"""The targets: exactly the bytes arrive, whole or not at all, and whoever fails says whether they may have arrived."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_site import RawSite
from receivers import CUT, receiving

from donewhen import whole_file
from donewhen.errors import DeliveryError
from donewhen.outbox.delivery import MOST_COMMAND_CHARS, Parcel, Target, ToCommand, ToFile, ToWebhook

KEY = "ab" * 32
OUTPUT = "é\r\n\0 report\n".encode()


def a_parcel(output: bytes = OUTPUT) -> Parcel:
    return Parcel(session_id="séance 1", key=KEY, output=output)


def failure(target: Target, output: bytes = OUTPUT) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        target.deliver(a_parcel(output))
    assert caught.value.target == target.name
    assert "\n" not in str(caught.value)
    return caught.value


# -- files -------------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_a_file_has_exactly_the_bytes(tmp_path: Path, output: bytes) -> None:
    path = tmp_path / hashlib.sha256(output).hexdigest()
    ToFile(path).deliver(a_parcel(output))
    assert path.read_bytes() == output
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_file_that_is_there_with_these_bytes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(OUTPUT)
    before = path.stat()
    assert ToFile(path).deliver(a_parcel()) == "the file was there already"
    assert path.stat().st_ino == before.st_ino


@pytest.mark.parametrize("found", [b"", b"other", OUTPUT + b"x", OUTPUT[:-1] + b"x"])
def test_a_file_with_other_content_is_replaced_with_force_only(tmp_path: Path, found: bytes) -> None:
    path = tmp_path / "out"
    path.write_bytes(found)
    error = failure(ToFile(path))
    assert (error.known, "other content" in error.problem, path.read_bytes()) == (True, True, found)
    ToFile(path, force=True).deliver(a_parcel())
    assert path.read_bytes() == OUTPUT


def test_a_link_is_followed_and_is_one_target_with_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    target = ToFile(tmp_path / "link")
    target.deliver(a_parcel())
    assert (tmp_path / "real").read_bytes() == OUTPUT
    assert (tmp_path / "link").is_symlink()
    assert target.name == ToFile(tmp_path / "real").name == ToFile(os.fsencode(tmp_path / "real").decode()).name


def test_a_relative_path_is_named_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ToFile("out").name == f"file:{tmp_path.resolve() / 'out'}"


@pytest.mark.parametrize("where", ["no/such/folder/out", "folder", "file/out"])
def test_a_place_that_cannot_take_a_file_is_told(tmp_path: Path, where: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert failure(ToFile(tmp_path / where)).known


@pytest.mark.skipif(os.name != "posix", reason="pipes with names are POSIX's")
def test_a_pipe_is_no_file_even_with_force(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a file" in failure(ToFile(tmp_path / "pipe", force=True)).problem
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_disk_that_is_full_leaves_no_half_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_file.os, "fsync", full)
    error = failure(ToFile(tmp_path / "out"))
    assert (error.known, "No space left" in error.problem, os.listdir(tmp_path)) == (True, True, [])


def test_a_name_that_is_taken_in_the_last_moment_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def slow(descriptor: int) -> None:
        (tmp_path / "out").write_bytes(b"other")
        sync(descriptor)

    monkeypatch.setattr(whole_file.os, "fsync", slow)
    error = failure(ToFile(tmp_path / "out"))
    assert (error.known, "taken" in error.problem, (tmp_path / "out").read_bytes()) == (True, True, b"other")


@pytest.mark.parametrize("path", ["a\0b", "half \udfff"])
def test_a_path_that_cannot_be_recorded_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        ToFile(path)


# -- webhooks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_webhook_gets_exactly_the_bytes_with_key_and_digest(status: int) -> None:
    with receiving(status) as receiver:
        said = ToWebhook(receiver.url).deliver(a_parcel())
    ((headers, body),) = receiver.came
    digest = base64.b64encode(hashlib.sha256(OUTPUT).digest()).decode()
    assert body == OUTPUT
    assert headers["idempotency-key"] == f'"{KEY}"'
    assert headers["content-digest"] == f"sha-256=:{digest}:"
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert (said == "thanks") == (status != 204)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 409, 429, 500, 503])
def test_any_other_status_means_that_it_was_not_taken(status: int) -> None:
    with receiving(status) as receiver, receiving(200) as elsewhere:
        receiver.headers = {"location": elsewhere.url}
        error = failure(ToWebhook(receiver.url))
    assert (error.known, error.problem, error.said) == (True, f"it answered {status}", "thanks")
    assert elsewhere.came == []
    assert "thanks" not in str(error)


def test_a_connection_that_is_lost_after_sending_leaves_it_unknown() -> None:
    with receiving(CUT) as receiver:
        error = failure(ToWebhook(receiver.url))
    assert (error.known, len(receiver.came)) == (False, 1)
    assert "not known" in str(error)


def test_a_webhook_that_nobody_serves_has_not_got_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert failure(ToWebhook(f"http://127.0.0.1:{port}/")).known


def test_an_answer_that_drips_for_ever_is_left_at_the_end_of_its_time() -> None:
    with RawSite(drip=True) as site:
        error = failure(ToWebhook(site.url, timeout_seconds=0.2))
    assert (error.known, "in time" in error.problem) == (False, True)


ANSWERS: dict[str, tuple[bytes, bool]] = {
    "an endless body": (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000, True),
    "a body that breaks off": (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf", True),
    "a chunk that is none": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", True),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n", False),
    "nothing": (b"", False),
    "a header without an end": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, False),
    "a thousand headers": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n", False),
    "a status that is no number": (b"HTTP/1.1 two OK\r\n\r\n", False),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_a_status_that_came_counts_whatever_its_body_is_and_no_status_is_unknown(what: str) -> None:
    data, taken = ANSWERS[what]
    with RawSite({"*": data}) as site:
        target = ToWebhook(site.url, timeout_seconds=30)
        if taken:
            assert len(target.deliver(a_parcel())) <= 65_536
        else:
            assert not failure(target).known


def test_the_name_of_a_webhook_tells_its_host_and_no_secret() -> None:
    one = ToWebhook("https://hooks.example.com/T0/B0/s3cr3t?token=s3cr3t")
    other = ToWebhook("https://hooks.example.com/T0/B0/s3cr3t?token=s3cr3u")
    assert one.name.startswith("webhook:https://hooks.example.com#")
    assert one.name != other.name
    assert "s3cr3t" not in one.name + repr(one)


def test_a_query_is_sent() -> None:
    with receiving() as receiver:
        ToWebhook(f"{receiver.url}?a=b").deliver(a_parcel())
    assert receiver.bodies == [OUTPUT]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://a/",
        "a.com/x",
        "https://",
        "https://u:s3cr3t@a/",
        "https://a/#f",
        "https://a/ b",
        "http://a:x/",
        "//a",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="URL|port|Port") as caught:  # noqa: RUF043 - words, not a pattern of ours
        ToWebhook(url)
    assert "s3cr3t" not in str(caught.value)


# -- commands ----------------------------------------------------------------------------------------------------------


def python(script: str, **options: Any) -> ToCommand:
    return ToCommand([sys.executable, "-c", script], **options)


def test_a_command_gets_exactly_the_bytes_and_the_key(tmp_path: Path) -> None:
    script = (
        "import os, sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read());"
        "print(os.environ['DONEWHEN_IDEMPOTENCY_KEY'], os.environ['DONEWHEN_SESSION'].encode())"
    )
    target = ToCommand([sys.executable, "-X", "utf8", "-c", script, str(tmp_path / "out")])
    said = target.deliver(a_parcel())
    assert (tmp_path / "out").read_bytes() == OUTPUT
    assert said.split() == [KEY, "b's\\xc3\\xa9ance", "1'"]


def test_a_command_has_its_environment_and_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("DONEWHEN_LOG_KEY", "DONEWHEN_KEY_PASSPHRASE", "DONEWHEN_INPUT_KEY")
    for name in (*secrets, "DEPLOY_API_KEY"):
        monkeypatch.setenv(name, f"value of {name}")
    said = python("import os; print(sorted(os.environ))").deliver(a_parcel())
    assert "DEPLOY_API_KEY" in said
    assert not any(name in said for name in secrets)


def test_another_status_than_0_means_that_it_was_not_taken() -> None:
    error = failure(python("import sys; print('no' + 'room'); sys.exit(3)"))
    assert (error.known, error.problem, error.said) == (True, "it ended with exit status 3", "noroom\n")
    assert "noroom" not in str(error)


def test_a_program_that_is_not_there_was_not_started() -> None:
    error = failure(ToCommand(["no-such-program-of-ours"]))
    assert (error.known, "could not be started" in error.problem) == (True, True)


def test_a_program_that_does_not_end_is_killed_and_nobody_knows_what_it_did() -> None:
    error = failure(python("import time; time.sleep(600)", timeout_seconds=0.2))
    assert (error.known, "killed after 0.2 seconds" in error.problem) == (False, True)


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_a_program_that_was_killed_may_have_done_its_work() -> None:
    error = failure(python("import os; os.kill(os.getpid(), 9)"))
    assert (error.known, error.problem) == (False, "it was killed by signal 9")


def test_a_program_need_not_read_what_it_is_given() -> None:
    assert python("print('fine')").deliver(a_parcel(b"x" * 1_000_000)) == "fine\n"


def test_no_shell_is_involved() -> None:
    target = ToCommand([sys.executable, "-c", "import sys; print(sys.argv[1:])", "$HOME; echo", "*"])
    assert target.deliver(a_parcel()).strip() == "['$HOME; echo', '*']"
    assert target.name.endswith("'$HOME; echo' '*'")


@pytest.mark.parametrize("argv", [[], [""], "cat", ["cat", "a\0b"], ["cat", 1], ["x" * (MOST_COMMAND_CHARS + 1)]])
def test_a_command_that_cannot_be_run_or_recorded_is_refused(argv: Any) -> None:
    with pytest.raises(ValueError, match="command"):
        ToCommand(argv)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, 1e9])
def test_a_time_limit_is_one(seconds: float) -> None:
    for make in (
        lambda: ToCommand(["cat"], timeout_seconds=seconds),
        lambda: ToWebhook("http://a/", timeout_seconds=seconds),
    ):
        with pytest.raises(ValueError, match="timeout_seconds"):
            make()


def test_which_targets_may_be_tried_again_unasked() -> None:
    assert [ToFile("a").repeats, ToWebhook("http://a/").repeats, ToCommand(["a"]).repeats] == [True, True, False]
