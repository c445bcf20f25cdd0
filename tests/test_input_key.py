"""An input key: guessable inputs cannot be found by trying, equal ones still show, and nobody else needs the key."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command import as_json, donewhen, run_for_json, write_spec
from sessions import SPEC, Desk, calls_of, seeing
from stores.kit import SIGNER, key_of, say

from donewhen.checks import Regex
from donewhen.drafts import hash_arguments
from donewhen.errors import KeyFileError, LedgerError
from donewhen.keys import INPUT_KEY_FILE, INPUT_KEY_VARIABLE, config_dir, load_input_key, make_input_key
from donewhen.ledger import Ledger
from donewhen.review_surface import ReviewSurface
from donewhen.testing import make_reply
from donewhen.texts import Hasher, hash_input
from donewhen.tools import tool
from donewhen.verify import verify_ledger

KEY = b"k" * 32
KEEP: dict[str, Any] = {"keep": "conversation"}
CHECKS: dict[str, Any] = {"checks": [Regex("y", name="has y")]}
TASK, OUTPUT, ARGUMENTS, RESULT = "is it so?", "yes", {"x": 7}, "ok"
OTHER_KEYS = [pytest.param(None, id="none"), pytest.param(b"l" * 32, id="another")]


@pytest.fixture
def desk(tmp_store: Path) -> Iterator[Desk]:
    with Ledger(tmp_store, input_key=KEY) as ledger:
        yield Desk(ledger)


def look(desk: Desk, **options: Any) -> Any:
    script = (calls_of(("a", "look", ARGUMENTS)), make_reply(OUTPUT))
    return desk.run(*script, task=TASK, tools=[seeing([], RESULT)], **CHECKS, **options)


# -- what is in the ledger ---------------------------------------------------------------------------------------------


def test_no_hash_of_a_guess_is_anywhere_in_the_files(desk: Desk, tmp_path: Path) -> None:
    assert look(desk).outcome == "done"
    say(desk.ledger, session_id="by hand")
    desk.ledger.close()
    found = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    plain = [hash_input(text) for text in (TASK, OUTPUT, RESULT, "input")] + [hash_arguments(ARGUMENTS)]
    assert not any(guess.encode() in found for guess in plain)
    assert KEY not in found
    assert KEY.hex().encode() not in found


def test_without_a_key_they_are_the_plain_ones(tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        look(Desk(ledger))
        hashes = {row.input_hash for row in ledger.rows(SPEC.session_id)}
        (opened,) = [row for row in ledger.rows(SPEC.session_id) if row.kind == "open"]
    assert {hash_input(TASK), hash_input(OUTPUT), hash_arguments(ARGUMENTS)} <= hashes
    assert "input_key" not in opened.data


def test_whoever_has_the_key_finds_an_input_again(desk: Desk) -> None:
    look(desk)
    hasher = Hasher(KEY)
    asked, called, checked = desk.rows("llm")[0], desk.rows("tool")[0], desk.rows("check")[0]
    assert asked.input_hash == hasher.text(TASK)
    assert asked.data["tools"][0]["args_hash"] == called.data["args_hash"] == hash_arguments(ARGUMENTS, hasher)
    assert called.data["result_hash"] == hasher.text(RESULT)
    assert checked.input_hash == desk.rows("close")[0].input_hash == hasher.text(OUTPUT)
    assert desk.rows("open")[0].data["input_key"] == hasher.key_id


def test_equal_inputs_show_across_the_sessions_of_a_ledger(desk: Desk) -> None:
    for session_id in ("a", "b"):
        say(desk.ledger, session_id=session_id)
    hashes = [row.input_hash for row in desk.ledger.get_all()]
    assert hashes[0] == hashes[1] == Hasher(KEY).text("input")


def test_the_same_call_again_and_again_is_still_no_progress(desk: Desk) -> None:
    calls = [calls_of((str(n), "look", ARGUMENTS)) for n in range(4)]
    result = desk.run(*calls, tools=[seeing([])], limits={"repeat_limit": 3})
    assert result.breach_reason == "no_progress"


@pytest.mark.parametrize("key", [b"short", "k" * 32, 7])
def test_a_bad_key_is_refused_before_a_file_is_made(tmp_store: Path, key: Any) -> None:
    with pytest.raises(ValueError, match="input_key"):
        Ledger(tmp_store, input_key=key)
    assert not tmp_store.exists()


# -- who does without it -----------------------------------------------------------------------------------------------


def test_a_reviewer_without_the_key_sees_what_the_checks_said_of_this_output(desk: Desk) -> None:
    look(desk)
    surface = ReviewSurface(desk.ledger.path, desk.ledger.path)
    frame = surface.load(SPEC.session_id)
    assert [(one.name, one.outcome) for one in frame.criteria] == [("has y", "met")]
    surface.attest(SPEC.session_id, "ann", frame_hash=frame.frame_hash)
    assert surface.load(SPEC.session_id).frame_hash == frame.frame_hash


def test_what_a_check_said_of_another_output_does_not_count(desk: Desk) -> None:
    script = (make_reply("yes"), make_reply("no", stop_reason="max_tokens"))
    desk.run(*script, turns=2, checks=[Regex("never", name="never")], **KEEP)
    (criterion,) = ReviewSurface(desk.ledger.path, desk.ledger.path).load(SPEC.session_id).criteria
    assert (criterion.outcome, "not the one that waits" in criterion.detail) == ("not_run", True)


def test_a_reviewer_without_the_key_sees_a_held_call_and_it_runs_once(desk: Desk) -> None:
    seen: list[int] = []
    mail = tool(held=True, name="mail")(seeing(seen, "sent", name="mail"))
    assert desk.run(calls_of(("a", "mail", ARGUMENTS)), tools=[mail], **KEEP).outcome == "held"
    surface = ReviewSurface(desk.ledger.path, desk.ledger.path)
    (call,) = surface.load(SPEC.session_id).held_calls
    assert json.loads(call.arguments or "") == ARGUMENTS
    surface.attest(SPEC.session_id, "ann")
    assert desk.run(make_reply("done"), tools=[mail], **KEEP).outcome == "done"
    assert seen == [7]


def test_the_ledger_verifies_without_the_key(tmp_store: Path) -> None:
    with Ledger(tmp_store, input_key=KEY, signer=SIGNER) as ledger:
        look(Desk(ledger), **KEEP)
    report = verify_ledger(tmp_store, key_of(tmp_store))
    assert report.texts > 0
    with closing(sqlite3.connect(tmp_store)) as raw:
        assert raw.execute("SELECT count(*) FROM texts").fetchone() == (report.texts,)


# -- going on ----------------------------------------------------------------------------------------------------------


def interrupted(path: Path, key: bytes | None) -> None:
    with Ledger(path, input_key=key) as ledger, pytest.raises(KeyboardInterrupt):
        Desk(ledger).run(make_reply("more", stop_reason="max_tokens"), KeyboardInterrupt(), **KEEP)


@pytest.mark.parametrize("key", OTHER_KEYS)
def test_a_session_does_not_go_on_without_the_key_that_it_was_opened_with(tmp_store: Path, key: bytes | None) -> None:
    """Its repeats and its held calls could not be compared, and without a key its inputs could be guessed."""
    interrupted(tmp_store, KEY)
    with Ledger(tmp_store, input_key=key) as ledger:
        before = len(ledger.rows(SPEC.session_id))
        desk = Desk(ledger)
        with pytest.raises(LedgerError, match="opened with another input key"):
            desk.run(make_reply("done"), **KEEP)
        assert (len(ledger.rows(SPEC.session_id)), desk.calls) == (before, [])
    with Ledger(tmp_store, input_key=KEY) as ledger:
        assert Desk(ledger).run(make_reply("done"), **KEEP).success


def test_a_session_that_was_opened_without_a_key_goes_on_without_one_only(tmp_store: Path) -> None:
    interrupted(tmp_store, None)
    with Ledger(tmp_store, input_key=KEY) as ledger, pytest.raises(LedgerError, match="or without one"):
        Desk(ledger).run(make_reply("done"), **KEEP)
    with Ledger(tmp_store) as ledger:
        assert Desk(ledger).run(make_reply("done"), **KEEP).success


def test_repeats_are_counted_on_when_a_session_goes_on(tmp_store: Path) -> None:
    call = calls_of(("a", "look", ARGUMENTS))
    options: dict[str, Any] = {"tools": [seeing([])], "limits": {"repeat_limit": 3}, **KEEP}
    with Ledger(tmp_store, input_key=KEY) as ledger, pytest.raises(KeyboardInterrupt):
        Desk(ledger).run(call, call, KeyboardInterrupt(), **options)
    with Ledger(tmp_store, input_key=KEY) as ledger:
        assert Desk(ledger).run(call, call, **options).breach_reason == "no_progress"


# -- where the key is --------------------------------------------------------------------------------------------------


def folder() -> Path:
    return config_dir(os.environ)


def put_key(text: str, mode: int = 0o600) -> Path:
    folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder() / INPUT_KEY_FILE
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_there_is_no_key_until_one_is_made() -> None:
    assert load_input_key(folder(), {}) is None
    key = make_input_key(folder(), random=lambda count: b"r" * count)
    assert key == b"r" * 32 == load_input_key(folder())
    assert make_input_key(folder()) == key
    assert (folder() / INPUT_KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_of_many_who_make_a_key_all_have_the_same() -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: make_input_key(folder()), range(16)))
    assert len(keys) == 1


def test_the_environment_comes_before_the_file() -> None:
    put_key("aa" * 16)
    assert load_input_key(folder(), {INPUT_KEY_VARIABLE: "BB" * 16 + "\n"}) == b"\xbb" * 16
    assert load_input_key(folder(), {}) == b"\xaa" * 16


@pytest.mark.parametrize("text", ["", " ", "abc", "xy" * 16, "0x" + "aa" * 16, "aa " * 16, "aa" * 15, "é" * 32])
def test_a_text_that_is_no_key_is_refused_and_not_shown(text: str) -> None:
    for load in (lambda: load_input_key(folder(), {INPUT_KEY_VARIABLE: text}), lambda: load_input_key(folder())):
        put_key(text)
        with pytest.raises(KeyFileError) as caught:
            load()
        assert len(text.strip()) < 4 or text.strip() not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="modes are a matter of POSIX")
def test_a_key_that_others_can_read_is_refused() -> None:
    put_key("aa" * 16, mode=0o644)
    with pytest.raises(KeyFileError, match="read or written by others"):
        load_input_key(folder())


def test_a_link_to_nowhere_is_no_key(tmp_path: Path) -> None:
    folder().mkdir(parents=True)
    (folder() / INPUT_KEY_FILE).symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyFileError, match="there is no file"):
        make_input_key(folder())


# -- the command line --------------------------------------------------------------------------------------------------


def test_the_command_line_makes_a_key_and_runs_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = donewhen("key", "new", "--input")
    assert made.exit_code == 0, made.stderr
    key = load_input_key(folder())
    assert key is not None
    assert made.stdout.strip() == Hasher(key).key_id
    assert key.hex() not in made.stdout + made.stderr
    assert as_json("key", "new", "--input") == {
        "file": str(folder() / INPUT_KEY_FILE),
        "input_key": Hasher(key).key_id,
        "was_there": True,
    }
    ended = run_for_json(write_spec(tmp_path / "spec.toml"))
    with Ledger(tmp_path / ".donewhen" / "ledger.db", read_only=True) as ledger:
        (opened,) = [row for row in ledger.rows(ended["session_id"]) if row.kind == "open"]
    assert opened.data["input_key"] == Hasher(key).key_id


@pytest.mark.parametrize("more", [("--reviewer", "ann"), ("--passphrase",)])
def test_a_key_for_inputs_is_nobodys(more: tuple[str, ...]) -> None:
    result = donewhen("key", "new", "--input", *more)
    assert (result.exit_code, "a key of its own" in result.stderr) == (2, True)


def test_a_blank_variable_is_a_secret_that_did_not_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(INPUT_KEY_VARIABLE, "")
    result = donewhen("run", write_spec(tmp_path / "spec.toml"), "--client", "offline")
    assert result.exit_code == 7
    assert INPUT_KEY_VARIABLE in result.stderr
