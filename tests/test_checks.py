from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.checks import (
    Call,
    Check,
    CheckContext,
    CheckResult,
    Human,
    JsonSchema,
    Regex,
    Shell,
    check_from,
    protected_digests,
)
from donewhen.checks.process import ProcessGroup
from donewhen.checks.protected import covers
from donewhen.errors import CheckError, MissingExtraError

Ask = Callable[[Check, CheckContext], CheckResult]
BOTH_WAYS = pytest.mark.parametrize(
    "ask",
    [lambda check, about: check.run(about), lambda check, about: asyncio.run(check.arun(about))],
    ids=["run", "arun"],
)
POSIX = pytest.mark.skipif(os.name == "nt", reason="/bin/sh is POSIX")
PYTHON = sys.executable


@pytest.fixture
def about(tmp_path: Path) -> CheckContext:
    return CheckContext("the output é", "s1", tmp_path)


def saying(output: str) -> CheckContext:
    return CheckContext(output, "s1", Path())


def code(source: str) -> list[str]:
    return [PYTHON, "-c", source]


# --- Shell ---


@POSIX
@BOTH_WAYS
@pytest.mark.parametrize(
    ("command", "outcome", "detail"),
    [
        ("exit 0", "met", ""),
        ("true", "met", ""),
        ("echo out; echo err >&2; exit 3", "not_met", "exit status 3\nout\nerr"),
        ("exit 255", "not_met", "exit status 255"),
        ("printf 'a\\0b\\377'; exit 1", "not_met", "exit status 1\na\ufffdb\ufffd"),
        ("exit 127", "error", "the command was not found (exit status 127)"),
        ("exit 126", "error", "the command could not be executed (exit status 126)"),
        ("kill -9 $$", "error", "the command was ended by signal 9 (SIGKILL)"),
        ("exit 139", "error", "the command was ended by signal 11 (SIGSEGV)"),
        (["sh", "-c", "exit 139"], "not_met", "exit status 139"),
        (["false"], "not_met", "exit status 1"),
    ],
)
def test_the_exit_status_decides(ask: Ask, about: CheckContext, command: Any, outcome: str, detail: str) -> None:
    assert ask(Shell(command, name="n"), about) == CheckResult("n", outcome, detail)  # type: ignore[arg-type]


@POSIX
@BOTH_WAYS
def test_a_program_that_does_not_exist_is_an_error(ask: Ask, about: CheckContext) -> None:
    result = ask(Shell(["no-such-program-at-all", "x"]), about)
    assert result.outcome == "error"
    assert "'no-such-program-at-all' cannot be run: No such file" in result.detail


def test_a_list_is_run_without_a_shell(about: CheckContext) -> None:
    check = Shell([*code("import sys; sys.exit(sys.argv[1] != '$HOME; exit 1')"), "$HOME; exit 1"])
    assert check.run(about).outcome == "met"


@POSIX
def test_the_output_is_on_standard_input_and_in_a_file(about: CheckContext) -> None:
    same = Shell('test "$(cat)" = "the output é" && test "$(cat "$DONEWHEN_OUTPUT_FILE")" = "the output é"')
    assert same.run(about).outcome == "met"


@POSIX
def test_the_file_is_private_and_gone_afterwards(about: CheckContext) -> None:
    result = Shell('echo "$DONEWHEN_OUTPUT_FILE"; ls -ld "$(dirname "$DONEWHEN_OUTPUT_FILE")"; exit 1').run(about)
    _, path, mode = result.detail.split("\n")
    assert not Path(path).exists()
    assert mode.startswith("drwx------")


@POSIX
def test_a_command_need_not_read_its_input() -> None:
    assert Shell("exit 0").run(saying("x" * 1_000_000)).outcome == "met"


@POSIX
def test_lone_surrogates_in_the_output_do_not_stop_a_check() -> None:
    assert Shell("grep -q a").run(saying("a\ud800")).outcome == "met"


@POSIX
def test_secrets_stay_out_of_the_environment(about: CheckContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    monkeypatch.setenv("other_api_key", "k")
    monkeypatch.setenv("DONEWHEN_LOG_KEY", "k")
    monkeypatch.setenv("MY_SETTING", "kept")
    result = Shell("env; exit 1").run(about)
    assert Shell("env | grep -qi 'api_key\\|LOG_KEY' && exit 1; test $MY_SETTING = kept").run(about).outcome == "met"
    assert "LOG_KEY" not in result.detail


@POSIX
def test_a_command_runs_in_its_folder(about: CheckContext) -> None:
    (about.folder / "sub").mkdir()
    (about.folder / "sub" / "here").touch()
    assert Shell("test -e sub/here").run(about).outcome == "met"
    assert Shell("test -e here", folder="sub").run(about).outcome == "met"
    assert Shell("true", folder="gone").run(about) == CheckResult("true", "error", "the folder 'gone' does not exist")


def test_a_hundred_megabytes_of_output_keep_only_their_end(about: CheckContext) -> None:
    source = "import sys\nfor _ in range(100): sys.stdout.write('x' * 1_000_000)\nprint('the end'); sys.exit(1)"
    result = Shell(code(source)).run(about)
    assert result.outcome == "not_met"
    assert result.detail.startswith("exit status 1\n…xxx")
    assert result.detail.endswith("x" * 100 + "the end")
    assert len(result.detail) <= 2_000


@POSIX
@BOTH_WAYS
def test_a_command_that_hangs_is_killed_with_all_it_started(ask: Ask, about: CheckContext) -> None:
    # Long enough for a shell to start on a busy machine.
    check = Shell("sleep 300 & echo $! >pid; wait", name="n", timeout_seconds=2)
    assert ask(check, about) == CheckResult("n", "error", "the command took longer than 2 seconds and was killed")
    assert is_gone(int((about.folder / "pid").read_text()))


@POSIX
def test_what_a_command_leaves_running_is_killed(about: CheckContext) -> None:
    started = time.monotonic()
    assert Shell("sleep 600 & echo $! >pid").run(about).outcome == "met"
    assert is_gone(int((about.folder / "pid").read_text()))
    assert time.monotonic() - started < 300


@POSIX
def test_cancelling_kills_the_command(about: CheckContext) -> None:
    os.mkfifo(about.folder / "started")

    async def scenario() -> bool:
        task = asyncio.ensure_future(Shell("sleep 300 & echo $! >started; wait").arun(about))
        pid = await asyncio.to_thread((about.folder / "started").read_text)
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled() and await asyncio.to_thread(is_gone, int(pid))

    assert asyncio.run(scenario())


def test_without_process_groups_the_command_alone_is_killed(
    about: CheckContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "killpg", raising=False)
    check = Shell(code("import threading; threading.Event().wait()"), timeout_seconds=0.2)
    assert check.run(about).outcome == "error"


def test_a_group_that_was_stopped_is_not_started(tmp_path: Path) -> None:
    group = ProcessGroup()
    group.stop()
    with pytest.raises(InterruptedError):
        group.run(code(""), stdin=b"", folder=tmp_path, environment={}, timeout_seconds=5, keep_bytes=5)


def is_gone(pid: int) -> bool:
    """Wait until a killed process is gone, or a zombie that nobody has collected."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        status = Path(f"/proc/{pid}/stat")
        if status.exists() and ") Z " in status.read_text():
            return True
    return False


@pytest.mark.parametrize(
    "options",
    [
        {"command": ""},
        {"command": []},
        {"command": ["", "x"]},
        {"command": ["a", 1]},
        {"command": "a\0b"},
        {"command": ["a", "\ud800"]},
        {"command": 5},
        {"timeout_seconds": 0},
        {"timeout_seconds": -1},
        {"timeout_seconds": float("inf")},
        {"timeout_seconds": float("nan")},
        {"timeout_seconds": True},
        {"timeout_seconds": "60"},
        {"name": " "},
        {"name": "n" * 201},
        {"folder": ""},
        {"folder": 5},
        {"protects": "tests"},
        {"protects": [5]},
        {"protects": ["/etc"]},
        {"protects": ["../x"]},
        {"protects": ["."]},
        {"protects": 5},
    ],
)
def test_a_wrong_argument_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(CheckError, match=next(iter(options))):
        Shell(**{"command": "true", **options})


# --- protected paths ---


def guarding(folder: Path, *protects: str, command: Any = "true") -> tuple[Shell, CheckContext]:
    check = Shell(command, name="n", protects=protects)
    return check, CheckContext("", "s1", folder, protected_digests([check], folder))


@pytest.fixture
def tests_folder(tmp_path: Path) -> Path:
    (tmp_path / "tests" / "deep").mkdir(parents=True)
    (tmp_path / "tests" / "test_a.py").write_text("assert True")
    (tmp_path / "tests" / "deep" / "data.txt").write_text("1")
    (tmp_path / "main.py").write_text("")
    return tmp_path


def test_digests_are_taken_of_every_protected_file(tests_folder: Path) -> None:
    found = protected_digests([Shell("x", protects=["tests", "main.py"]), Human("h"), Regex("x")], tests_folder)
    assert list(found) == ["main.py", "tests/deep/data.txt", "tests/test_a.py"]
    assert all(len(value) == 64 for value in found.values())


@POSIX
def test_a_check_whose_files_stayed_is_run(tests_folder: Path) -> None:
    check, about = guarding(tests_folder, "tests", command="exit 3")
    (tests_folder / "main.py").write_text("changed, and not protected")
    assert check.run(about).detail == "exit status 3"


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (lambda tests: (tests / "test_a.py").write_text("pass"), "'tests/test_a.py' was changed"),
        (lambda tests: (tests / "deep" / "data.txt").unlink(), "'tests/deep/data.txt' was deleted"),
        (lambda tests: (tests / "conftest.py").write_text(""), "'tests/conftest.py' was added"),
        (lambda tests: (tests / "link").symlink_to("/etc"), "'tests/link' was added"),
        (lambda tests: tests.rename(tests.parent / "old"), "was deleted"),
        (lambda tests: (tests.rename(tests.parent / "old"), tests.symlink_to("old")), "'tests' was added"),
    ],
)
@POSIX
@BOTH_WAYS
def test_a_tampered_file_is_not_met_and_the_command_is_not_run(
    ask: Ask, tests_folder: Path, tamper: Callable[[Path], object], told: str
) -> None:
    check, about = guarding(tests_folder, "tests", command="touch ran")
    tamper(tests_folder / "tests")
    result = ask(check, about)
    assert result.outcome == "not_met"
    assert told in result.detail
    assert not (tests_folder / "ran").exists()


@POSIX
def test_a_file_replaced_by_a_link_to_its_copy_is_noticed(tests_folder: Path) -> None:
    check, about = guarding(tests_folder, "tests/test_a.py")
    (tests_folder / "tests" / "test_a.py").rename(tests_folder / "copy.py")
    (tests_folder / "tests" / "test_a.py").symlink_to("../copy.py")
    assert "was changed" in check.run(about).detail


@POSIX
def test_a_link_is_known_by_where_it_points_and_never_followed(tests_folder: Path) -> None:
    outside = tests_folder.parent / f"{tests_folder.name}-outside"
    outside.mkdir()
    (tests_folder / "tests" / "link").symlink_to(outside)
    check, about = guarding(tests_folder, "tests")
    (outside / "new").touch()
    assert check.run(about).outcome == "met"
    (tests_folder / "tests" / "link").unlink()
    (tests_folder / "tests" / "link").write_bytes(b"link\0" + os.fsencode(outside))
    assert "'tests/link' was changed" in check.run(about).detail


@POSIX
def test_a_pipe_in_a_files_place_is_noticed_and_not_read(tests_folder: Path) -> None:
    check, about = guarding(tests_folder, "tests")
    (tests_folder / "tests" / "test_a.py").unlink()
    os.mkfifo(tests_folder / "tests" / "test_a.py")
    assert "'tests/test_a.py' was changed" in check.run(about).detail


@POSIX
def test_a_command_that_changes_protected_files_is_not_met(tests_folder: Path) -> None:
    check, about = guarding(tests_folder, "tests", command="echo pass >tests/test_a.py")
    result = check.run(about)
    assert (result.outcome, "'tests/test_a.py' was changed" in result.detail) == ("not_met", True)


def test_running_protected_python_leaves_no_files_beside_it(tests_folder: Path) -> None:
    (tests_folder / "tests" / "helper.py").write_text("")
    check, about = guarding(
        tests_folder, "tests", command=code("import sys; sys.path.insert(0, 'tests'); import helper")
    )
    assert check.run(about).outcome == "met"


def test_many_changes_are_named_in_part(tests_folder: Path) -> None:
    check, about = guarding(tests_folder, "tests")
    for number in range(9):
        (tests_folder / "tests" / f"n{number}").touch()
    assert "and 4 more" in check.run(about).detail


@pytest.mark.parametrize("protect", ["nothing", "*.nothing", "tests/deep/data.txt/x", "tests/empty"])
def test_a_protected_path_without_a_file_is_refused_when_the_session_opens(tests_folder: Path, protect: str) -> None:
    (tests_folder / "tests" / "empty").mkdir()
    with pytest.raises(CheckError, match="holds no file"):
        guarding(tests_folder, protect)


def test_a_folder_that_cannot_be_read_is_refused_when_the_session_opens(tmp_path: Path) -> None:
    with pytest.raises(CheckError, match="cannot be read: No such file"):
        protected_digests([Shell("x", protects=["tests"])], tmp_path / "gone")


def test_a_check_whose_digests_were_never_taken_is_an_error(tests_folder: Path) -> None:
    result = Shell("true", protects=["tests"]).run(CheckContext("", "s", tests_folder))
    assert (result.outcome, "no digest" in result.detail) == ("error", True)


def test_one_check_does_not_mind_the_files_of_another(tests_folder: Path) -> None:
    one, other = Shell(code(""), protects=["tests"]), Shell(code(""), protects=["main.py"])
    about = CheckContext("", "s", tests_folder, protected_digests([one, other], tests_folder))
    (tests_folder / "main.py").write_text("x")
    assert (one.run(about).outcome, other.run(about).outcome) == ("met", "not_met")


@pytest.mark.parametrize(
    ("protect", "path", "is_covered"),
    [
        ("tests", "tests", True),
        ("tests", "tests/a/b", True),
        ("tests", "tests2", False),
        ("*.py", "a.py", True),
        ("*.py", ".hidden.py", True),
        ("*.py", "a/b.py", False),
        ("**/*.py", "a.py", True),
        ("**/*.py", "a/b/c.py", True),
        ("**/*.py", "a/b/c.txt", False),
        ("tests/**", "tests/a", True),
        ("tests/**", "other", False),
        ("tests/**/data", "tests/data/x", True),
        ("t[ab]/?.txt", "ta/1.txt", True),
        ("t[ab]/?.txt", "tc/1.txt", False),
        ("a.b", "axb", False),
    ],
)
def test_patterns_cover(protect: str, path: str, is_covered: bool) -> None:
    assert covers(protect, path) is is_covered


@given(st.lists(st.sampled_from(["a", "b", "ab", "a.py"]), min_size=1, max_size=4))
def test_a_plain_path_covers_itself_and_what_lies_in_it_alone(parts: list[str]) -> None:
    path = "/".join(parts)
    assert covers(path, path)
    assert covers(path, f"{path}/x")
    assert not covers(f"{path}/x", path)
    assert not covers(path, f"{path}x")


# --- Regex ---


@BOTH_WAYS
@pytest.mark.parametrize(
    ("check", "outcome"),
    [
        (Regex(r"(?i)OUTPUT \w"), "met"),
        (Regex("^output"), "not_met"),
        (Regex("TODO", absent=True), "met"),
        (Regex("the", absent=True), "not_met"),
    ],
)
def test_a_pattern_is_searched_for(ask: Ask, about: CheckContext, check: Regex, outcome: str) -> None:
    assert ask(check, about).outcome == outcome


def test_the_detail_says_where_the_unwanted_stands() -> None:
    detail = Regex("b+", absent=True).run(saying("aabbb")).detail
    assert detail == "the output matches the pattern 'b+', which it must not, at character 3: 'bbb'"


@BOTH_WAYS
def test_a_pattern_that_backtracks_for_ever_is_an_error_in_time(ask: Ask) -> None:
    result = ask(Regex("^(a+)+$", timeout_seconds=0.3), saying("a" * 80 + "!"))
    assert (result.outcome, result.detail) == ("error", "the search for the pattern took longer than 0.3 seconds")


def test_any_text_can_be_searched() -> None:
    assert Regex("^\\0?\ufffd?.$").run(saying("\0\ud800")).outcome == "met"
    assert Regex("x$").run(saying("é" * 3_000_000 + "x")).outcome == "met"


def test_files_of_the_current_folder_are_not_imported_by_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    assert Regex("a").run(saying("a")).outcome == "met"


def test_without_an_interpreter_the_search_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    assert Regex("a").run(saying("a")).outcome == "error"


@POSIX
def test_an_interpreter_that_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    assert "without an answer" in Regex("a").run(saying("a")).detail
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert "could not be started" in Regex("a").run(saying("a")).detail


@pytest.mark.parametrize("pattern", ["(", "[", "a{3,2}", "(?P<a>x)(?P<a>y)", "", 5, "\ud800", "a\0"])
def test_an_invalid_pattern_is_refused_when_it_is_made(pattern: Any) -> None:
    with pytest.raises(CheckError, match="pattern"):
        Regex(pattern)


# --- JsonSchema ---

TITLED = {
    "title": "a page",
    "type": "object",
    "properties": {"n": {"type": "integer"}, "s": {"type": "string"}},
    "required": ["n"],
    "additionalProperties": False,
}


@BOTH_WAYS
@pytest.mark.parametrize(
    ("output", "outcome", "told"),
    [
        ('{"n": 1}', "met", ""),
        ('  {"n": 1}\n', "met", ""),
        ('Here:\n```json\n{"n": 1}\n```\nDone.', "met", ""),
        ('{"n": 1, "s": "```json"}', "met", ""),
        ('{"n": "1"}', "not_met", "$.n: '1' is not of type 'integer'"),
        ('{"m": 1}', "not_met", "'n' is a required property"),
        ("", "not_met", "the output is not JSON"),
        ("hello", "not_met", "the output is not JSON"),
        ('{"n": 1', "not_met", "the output is not JSON"),
        ('{"n": NaN}', "not_met", "NaN is no number in JSON"),
        ('{"n": 1, "n": 2}', "not_met", "'n' stands twice"),
        ("[" * 200_000, "not_met", "the output is not JSON"),
        ("9" * 10_000, "not_met", "the output is not JSON"),
        ("```json\n1\n```\n```json\n2\n```", "not_met", "2 blocks marked json"),
        ("```json\n{\n```", "not_met", "the output is not JSON"),
        ("```\n{}\n```", "not_met", "the output is not JSON"),
    ],
)
def test_the_output_is_judged_by_the_schema(ask: Ask, output: str, outcome: str, told: str) -> None:
    result = ask(JsonSchema(TITLED), saying(output))
    assert (result.name, result.outcome) == ("a page", outcome)
    assert told in result.detail


def test_many_mismatches_are_told_in_part() -> None:
    result = JsonSchema({"items": {"type": "string"}}).run(saying(str(list(range(5_000)))))
    assert result.detail.count("is not of type") == 5
    assert len(JsonSchema({"type": "string"}).run(saying(str(list(range(100_000))))).detail) < 400


@BOTH_WAYS
def test_a_pattern_in_a_schema_that_backtracks_for_ever_is_an_error_in_time(ask: Ask) -> None:
    check = JsonSchema({"pattern": "^(a+)+$"}, timeout_seconds=1)
    assert ask(check, saying('"' + "a" * 80 + '!"')).outcome == "error"


def test_a_schema_with_patterns_is_judged_elsewhere_with_the_same_answer() -> None:
    check = JsonSchema({"properties": {"s": {"pattern": "^a+$"}}})
    assert check.run(saying('{"s": "aaa"}')).outcome == "met"
    assert check.run(saying('{"s": "b"}')).detail == "$.s: 'b' does not match '^a+$'"


@pytest.mark.parametrize("schema", [{"$ref": "#/nowhere"}, {"$ref": "https://example.invalid/schema"}, {"$ref": "#"}])
def test_a_schema_that_cannot_be_applied_is_an_error(schema: dict[str, Any]) -> None:
    assert JsonSchema(schema, timeout_seconds=20).run(saying("1")).outcome == "error"


@pytest.mark.parametrize(
    "schema",
    [{"type": "no"}, {"properties": 5}, {"pattern": "("}, 5, None, [], "{", "5", {"a": {1}}, {"a": float("nan")}],
)
def test_an_invalid_schema_is_refused_when_it_is_made(schema: Any) -> None:
    with pytest.raises(CheckError, match="schema"):
        JsonSchema(schema)


def test_a_missing_jsonschema_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    check = JsonSchema(TITLED)
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    assert check.run(saying("{}")).outcome == "error"
    with pytest.raises(MissingExtraError, match=r"donewhen\[tools\]"):
        JsonSchema(TITLED)


# --- Call ---


def is_long(output: str) -> bool:
    return len(output) > 3


async def is_long_async(output: str) -> bool:
    await asyncio.sleep(0)
    return len(output) > 3


def raises(output: str) -> bool:
    raise ValueError("oh")


def knows_session(context: CheckContext) -> str | bool:
    return context.session_id == "s1" or f"not {context.session_id}"


def leave(output: str) -> bool:
    raise SystemExit(3)


@BOTH_WAYS
@pytest.mark.parametrize(
    ("function", "outcome", "told"),
    [
        (is_long, "met", ""),
        (is_long_async, "met", ""),
        (knows_session, "met", ""),
        (lambda context: context.output == "text", "met", ""),
        (lambda text: text == "text", "met", ""),
        (lambda text: is_long_async(text), "met", ""),
        (lambda text: False, "not_met", "answered False"),
        (lambda text: "too short", "not_met", "too short"),
        (lambda text: " ", "not_met", "blank reason"),
        (lambda text: "x" * 9_000, "not_met", "xxx…"),
        (lambda text: None, "error", "returned nothing"),
        (lambda text: 1, "error", "returned a int"),
        (lambda text: CheckResult("other", "pending", "look"), "pending", "look"),
        (lambda text: CheckResult("other", "fine", ""), "error", "outcome"),  # type: ignore[arg-type]
        (raises, "error", "the check itself failed: ValueError: oh"),
        (leave, "error", "SystemExit"),
        ("json:loads", "error", "JSONDecodeError"),
        ("no_such_module_at_all:f", "error", "cannot be imported"),
        ("json:no_such_function", "error", "there is no function"),
        ("json:__name__", "error", "is not a function"),
        ("math:pow", "error", "must take one value"),
        (iter, "error", "returned a str_"),
    ],
)
def test_the_functions_answer_decides(ask: Ask, function: Any, outcome: str, told: str) -> None:
    result = ask(Call(function, name="n"), saying("text"))
    assert (result.name, result.outcome) == ("n", outcome)
    assert told in result.detail
    assert len(result.detail) <= 2_000


@BOTH_WAYS
def test_a_function_that_hangs_is_an_error_after_its_time(ask: Ask) -> None:
    never = threading.Event()
    result = ask(Call(lambda output: never.wait(20), timeout_seconds=0.05), saying(""))
    never.set()
    assert (result.outcome, result.detail) == ("error", "the function took longer than 0.05 seconds")


@BOTH_WAYS
def test_an_async_function_that_hangs_is_cancelled(ask: Ask) -> None:
    cleaned = threading.Event()

    async def hang(output: str) -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()
        return True

    # Long enough for an event loop to start on a busy machine.
    assert ask(Call(hang, timeout_seconds=0.5), saying("")).outcome == "error"
    assert cleaned.wait(60)


def test_an_async_function_runs_in_the_callers_loop() -> None:
    async def scenario() -> CheckResult:
        here = asyncio.get_running_loop()

        async def same(output: str) -> bool:
            return asyncio.get_running_loop() is here

        return await Call(same).arun(saying(""))

    assert asyncio.run(scenario()).outcome == "met"


@BOTH_WAYS
def test_ctrl_c_in_a_function_passes_through(ask: Ask) -> None:
    def interrupt(output: str) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(Call(interrupt), saying(""))


def test_a_function_is_imported_from_the_folder_when_it_runs(tmp_path: Path) -> None:
    check = Call("donewhen_test_only_checks:Box.is_fine")
    about = CheckContext("fine", "s1", tmp_path)
    assert check.run(about).outcome == "error"
    (tmp_path / "donewhen_test_only_checks.py").write_text(
        "class Box:\n    @staticmethod\n    def is_fine(output):\n        return output == 'fine'\n"
    )
    before = list(sys.path)
    assert check.run(about).outcome == "met"
    assert sys.path == before


@pytest.mark.parametrize("text", ["broken(", "raise SystemExit(1)", "1/0"])
def test_a_module_that_does_not_import_is_an_error(tmp_path: Path, text: str) -> None:
    name = f"donewhen_test_broken_{len(text)}"
    (tmp_path / f"{name}.py").write_text(text)
    assert Call(f"{name}:f").run(CheckContext("", "s", tmp_path)).outcome == "error"


@pytest.mark.parametrize(
    "function",
    ["nothing", "a:b:c", ":f", "m:", "a b:c", "m:<lambda>", "", 5, None, int, lambda: True, lambda a, b: True],
)
def test_what_is_no_check_function_is_refused(function: Any) -> None:
    with pytest.raises(CheckError, match="function"):
        Call(function)


# --- Human ---


@BOTH_WAYS
def test_what_a_person_must_judge_is_pending(ask: Ask) -> None:
    assert ask(Human("It is kind."), saying("")) == CheckResult("It is kind.", "pending", "It is kind.")


# --- plain data ---

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30).filter(str.strip)
common = {
    "name": st.none() | words,
    "timeout_seconds": st.integers(1, 86_400) | st.integers(1, 9_999).map(lambda n: n / 1000),
}
references = st.sampled_from(["json:loads", "a.b:C.d", "é:f"])
schemas = st.sampled_from(
    [True, False, {}, TITLED, {"multipleOf": 0.01}, {"const": "\0"}, {"const": "\ud800"}, {"maximum": 2**60}]
)
any_check: st.SearchStrategy[Check] = st.one_of(
    st.builds(
        Shell,
        words | st.lists(words, min_size=1, max_size=3),
        protects=st.lists(st.sampled_from(["tests", "a/*.py", "./b//c/"]), max_size=3),
        folder=st.none() | words,
        **common,
    ),
    st.builds(Regex, words.map(lambda word: f"[{len(word)}]\n"), absent=st.booleans(), **common),
    st.builds(JsonSchema, schemas, **common),
    st.builds(Call, references, **common),
    st.builds(Human, words),
)


@given(any_check)
def test_describing_and_making_are_inverse(check: Check) -> None:
    told = check.describe()
    assert check_from(told) == check
    assert check_from(told).describe() == told
    assert hash(check_from(told)) == hash(check)
    assert isinstance(check, Check)


@given(any_check)
def test_a_description_holds_only_what_rows_can_hold(check: Check) -> None:
    def is_plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(is_plain(part) for pair in value.items() for part in pair)
        if isinstance(value, list):
            return all(map(is_plain, value))
        if isinstance(value, str):
            return "\0" not in value and value.encode() is not None
        return isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53)

    assert is_plain(check.describe())


def test_what_a_person_writes_is_read() -> None:
    written = {"check": "shell", "command": ["pytest"], "timeout_seconds": 0.5, "protects": ["tests/"]}
    assert check_from(written) == Shell(["pytest"], timeout_seconds=0.5, protects=["tests"])
    assert check_from(written).describe()["timeout_ms"] == 500


def test_a_function_is_described_by_its_place() -> None:
    assert Call(is_long).describe()["function"] == f"{__name__}:is_long"
    lost = Call(lambda output: True).describe()
    with pytest.raises(CheckError, match="reference"):
        check_from(lost)


@pytest.mark.parametrize(
    ("described", "told"),
    [
        ({}, "check must be one of"),
        ({"check": "shel"}, "'shel'"),
        ({"check": ["shell"]}, "check must be"),
        ({"check": "shell"}, "command is missing"),
        ({"check": "shell", "command": "x", "comand": 7}, "comand is no key.*found 7"),
        ({"check": "human", "criterion": "x", "name": "y"}, "name is no key.*found 'y'"),
        ({"check": "regex", "pattern": "x", "absent": 1}, "absent.*found 1"),
        ({"check": "regex", "pattern": "x", "name": None}, "name.*found None"),
        ({"check": "regex", "pattern": "x", "timeout_ms": 1.5}, "timeout_ms.*found 1.5"),
        ({"check": "regex", "pattern": "x", "timeout_ms": True}, "timeout_ms.*found True"),
        ({"check": "regex", "pattern": "x", "timeout_ms": 0}, "timeout_ms.*found 0"),
        ({"check": "regex", "pattern": "x", "timeout_ms": 10**400}, "timeout_ms.*found 1000"),
        ({"check": "regex", "pattern": "x", "timeout_seconds": 10**5_000}, "timeout_seconds.*cannot be shown"),
        ({"check": "regex", "pattern": "x", "timeout_ms": 5, "timeout_seconds": 1}, "beside"),
        ({"check": "call", "function": 5}, "function.*found 5"),
        ({"check": "human", "criterion": " "}, "criterion"),
        ("shell", "table"),
    ],
)
def test_a_description_that_is_wrong_names_key_and_value(described: Any, told: str) -> None:
    with pytest.raises(CheckError, match=told):
        check_from(described)


# --- a bug in a check ---


@BOTH_WAYS
def test_a_bug_in_a_check_is_an_error_and_never_raised(
    ask: Ask, about: CheckContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("donewhen.checks.shell.find_changes", bug)
    assert ask(Shell("true"), about) == CheckResult(
        "true", "error", "the check itself failed: ZeroDivisionError: a bug"
    )


def test_an_error_without_words_is_named_by_its_kind() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def mute(output: str) -> bool:
        raise MuteError

    assert Call(mute, name="n").run(saying("")).detail == "the check itself failed: MuteError"


def test_a_result_with_a_wrong_outcome_is_refused() -> None:
    with pytest.raises(CheckError, match="outcome"):
        CheckResult("n", "ok")  # type: ignore[arg-type]
    assert CheckResult("n", "met", "a\0\ud800" + "x" * 5_000).detail == "a\ufffd\ufffd" + "x" * 1_996 + "…"
