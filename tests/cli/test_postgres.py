"""The command line on PostgreSQL: each command as on a file, and what cannot be as one sentence that shows no secret."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from command import donewhen, write_spec
from postgres_server import a_copy, url_of
from sessions import a_session, ask
from stores.kit import STRANGER, postgres_url

from donewhen.client import read_reply
from donewhen.ledger import Ledger
from donewhen.spec_writer import SpecResult
from donewhen.testing import make_reply

SECRET = "S3CRET"
STOPS = 'keep = "conversation"\n[ceilings]\nturns = 1\ntokens = 20000\n[[done_when]]\ncheck = "regex"\npattern = "never this"\n'
OFFLINE = ("--client", "offline")


@pytest.fixture(params=["a file", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    place = "ledger.db" if request.param == "a file" else postgres_url(tmp_path / "ledger.db")
    monkeypatch.setenv("DONEWHEN_STORE", place)
    return place


def well(*words: str | Path, code: int = 0) -> str:
    """Run a command that ends with a code, and return what it puts on standard output."""
    result = donewhen(*words)
    assert result.exit_code == code, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


def told(*words: str | Path, code: int = 0) -> Any:
    return json.loads(well(*words, "--json", code=code))


def test_a_session_is_run_read_reviewed_released_proven_copied_and_erased(store: str, tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "spec.toml", 'keep = "conversation"\n')
    session = told("run", spec, *OFFLINE)["session_id"]
    assert [one["session_id"] for one in told("sessions")] == [session]
    shown = told("show", session[:8])
    assert (shown["state"], shown["balance"]["spent"]["turns"]) == ("done", 1)
    assert "done when  A greeting." in well("show", session, "--store", store)
    assert well("watch", session) != ""

    key = shown["signed_by"]
    assert "donewhen/" in well("checkpoint")
    well("receipt", session, "--to", "receipt")
    assert "Proven" in well("verify-receipt", "receipt", "--key", key)
    for form in ("bundle", "jsonl", "csv", "aat"):
        well("export", session, "--format", form, "--to", f"out.{form}")
        assert Path(f"out.{form}").stat().st_size > 0

    output = told("review", session)["output"]
    assert donewhen("release", session, "--to", "out.txt").exit_code == 3
    well("attest", session, "--reviewer", "ann")
    well("release", session, "--to", "out.txt")
    assert Path("out.txt").read_text("utf-8") == output
    assert donewhen("reject", session, "--reviewer", "ben", "--reason", "no").exit_code in (0, 5)
    assert donewhen("release", session, "--to", "again.txt").exit_code == 5

    copied = told("store", "copy", store, "copy.db")
    assert copied["target"] == str(tmp_path / "copy.db")
    assert (
        copied["report"]["rows"]
        == told("verify", "--key", key)["rows"]
        == told("verify", "copy.db", "--key", key)["rows"]
    )

    # A database keeps a row's old form until its owner cleans up, and the command says so.
    gone = 0 if store == "ledger.db" else 7
    assert told("erase", session, "--why", "asked for", "--yes", code=gone)["texts"] > 0
    assert told("review", session)["output"] is None
    assert told("verify", "--key", key)["erased"] > 0


def test_a_stopped_session_is_raised_and_resumed(store: str, tmp_path: Path) -> None:
    session = told("run", write_spec(tmp_path / "s.toml", STOPS), *OFFLINE, code=6)["session_id"]
    assert well("raise", session, "--turns", "3", "--why", "one more") == "turns: 1 -> 3\n"
    well("resume", session, *OFFLINE, code=6)
    assert told("show", session)["balance"]["spent"]["turns"] == 3


def test_a_budget_is_begun_changed_halted_and_lifted(store: str, tmp_path: Path) -> None:
    del store
    spec = write_spec(tmp_path / "s.toml", 'budget = "acme"\n')
    assert "0 / 20,000" in well("budget", "new", "acme", "--tokens", "20000")
    well("run", spec, *OFFLINE)
    assert told("budget", "show", "acme")["spent"]["tokens"] > 0
    assert well("budget", "raise", "acme", "--tokens", "5", "--why", "enough") == "tokens: 20,000 -> 5\n"
    assert "budget:acme:token_ceiling" in donewhen("run", spec, *OFFLINE).stderr
    well("budget", "raise", "acme", "--tokens", "50000", "--why", "go on")
    well("halt", "--budget", "acme", "--why", "stop")
    assert told("budget", "list")[0]["halted"] is True
    well("run", spec, *OFFLINE, code=4)
    well("halt", "--budget", "acme", "--lift")
    well("run", spec, *OFFLINE)


def test_what_a_session_used_is_what_its_children_used_until_now(store: str) -> None:
    with Ledger(store) as ledger:
        parent = a_session(ledger, tokens=5_000)
        parent.settle(parent.admit(ask()), read_reply(make_reply("x", input_tokens=5, output_tokens=5)))
        child = parent.child(SpecResult("a", "b", "c", "child"))
        child.settle(child.admit(ask()), read_reply(make_reply("x", input_tokens=20, output_tokens=10)))
        child.admit(ask(max_tokens=50))
        true = ledger.store.find_balance(parent.session_id)
        assert true is not None
        assert ledger.rows(parent.session_id)[-1].after[-1] != true
    shown = {one["session_id"]: one["balance"] for one in told("sessions")}
    assert shown[parent.session_id]["spent"]["tokens"] == 40
    assert shown["child"]["spent"]["tokens"] == 30
    balance = told("show", parent.session_id)["balance"]
    assert balance["reserved"]["tokens"] == true.reserved.tokens > 0
    assert f"tokens     {true.used_tokens:,} of 5,000" in well("show", parent.session_id)


def test_a_call_in_doubt_is_listed_and_settled(store: str) -> None:
    with Ledger(store) as ledger:
        a_session(ledger).admit(ask())
    [call] = told("reconcile")
    assert (call["turn"], call["process"]) == (1, "running")
    used = ("--input-tokens", "7", "--output-tokens", "5", "--why", "the console says so", "--force")
    assert "12 tokens" in well("reconcile", call["session_id"], "--turn", "1", *used)
    assert told("reconcile") == []
    assert told("show", call["session_id"])["balance"]["spent"]["tokens"] == 12
    assert "reconcile" not in well("show", call["session_id"])
    assert "reconcile" in well("show", call["session_id"], "--all")


def test_a_call_in_doubt_is_found_without_naming_its_log(tmp_path: Path) -> None:
    url = postgres_url(tmp_path / "ledger.db")
    with Ledger(url) as ledger:
        lost = a_session(ledger, spec=SpecResult("a", "b", "c", tmp_path.name))
        lost.admit(ask())
    anywhere = ("--store", url.partition("#")[0])
    [call] = told("reconcile", lost.session_id, *anywhere)
    assert call["session_id"] == lost.session_id
    well("reconcile", lost.session_id, "--turn", "1", "--none", "--why", "no work", "--force", *anywhere)
    assert told("reconcile", lost.session_id, *anywhere) == []


# -- what cannot be ---------------------------------------------------------------------------------------------------

WHY = ("--why", "w")
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("sessions",),
    ("show", "x"),
    ("raise", "x", "--turns", "3", *WHY),
    ("run", "spec.toml", *OFFLINE),
    ("resume", "x", *OFFLINE),
    ("watch",),
    ("watch", "x"),
    ("review", "x"),
    ("attest", "x", "--reviewer", "ann"),
    ("reject", "x", "--reviewer", "ann", "--reason", "r"),
    ("release", "x", "--to", "out.txt"),
    ("verify",),
    ("receipt", "x", "--to", "r"),
    ("export", "x", "--format", "jsonl"),
    ("checkpoint",),
    ("erase", "x", "--yes", *WHY),
    ("budget", "new", "b"),
    ("budget", "list"),
    ("budget", "show", "b"),
    ("budget", "raise", "b", "--tokens", "1", *WHY),
    ("halt", "--all"),
    ("halt", "x"),
    ("reconcile",),
    ("reconcile", "x", "--turn", "1", "--none", *WHY),
    ("reconcile", "--usage", "usage.json"),
    ("key", "rotate", *WHY),
    ("key", "enroll", STRANGER.vkey, "--name", "ann"),
    ("key", "revoke", "ann", *WHY),
)


def assert_one_sentence(result: Any, *codes: int) -> str:
    assert result.exit_code in codes, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert SECRET not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    return result.stderr


@pytest.fixture
def no_server() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"postgresql://app:{SECRET}@127.0.0.1:{taken.getsockname()[1]}/ledgers#team"


def as_ghost(database: str) -> str:
    """Return a URL with a password, of a role or a database that is not there."""
    parts = urlsplit(url_of(database))
    return f"postgresql://ghost:{SECRET}@{parts.netloc.rpartition('@')[2]}{parts.path}?{parts.query}#team"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_server_that_cannot_be_reached_is_one_sentence(
    no_server: str, tmp_path: Path, words: tuple[str, ...]
) -> None:
    write_spec(tmp_path / "spec.toml")
    Path("usage.json").write_text('{"data": []}')
    said = assert_one_sentence(donewhen(*words, "--store", no_server), 7)
    assert "postgresql://app@127.0.0.1:" in said
    assert "refused" in said


@pytest.mark.parametrize(
    "words", [("sessions",), ("show", "x"), ("run", "spec.toml", *OFFLINE), ("verify",)], ids=" ".join
)
def test_a_role_that_may_not_in_and_a_database_without_a_ledger_are_one_sentence(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    write_spec(tmp_path / "spec.toml")
    assert "ghost" in assert_one_sentence(donewhen(*words, "--store", as_ghost("postgres")), 7)
    with a_copy("template0") as empty:
        said = assert_one_sentence(donewhen(*words, "--store", f"{url_of(empty)}#team"), 7)
        assert "holds no ledger" in said


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://app:{SECRET}/x@localhost/db",
        f"postgresql://app:1/{SECRET}@localhost/db",
        f"postgresql://app:1#{SECRET}@localhost/db",
        f"postgresql://app:1?{SECRET}@localhost/db",
        f"postgresql://app:x@y/{SECRET}@localhost/db",
        f"postgresql://app:x@{SECRET}@localhost/db",
        f"postgresql://app:{SECRET}%@localhost/db",
        f"postgresql://app:{SECRET}@[::1/db",
        f"postgresql://app:{SECRET}@localhost:port/db",
        f"postgresql://app:{SECRET}@localhost/db#a%00b",
        f"mysql://app:{SECRET}@localhost/db",
        f"SQLITE://app:{SECRET}@localhost/db",
    ],
)
@pytest.mark.parametrize("words", [("sessions",), ("show", "x"), ("verify",), ("halt", "--all")], ids=" ".join)
def test_a_url_that_is_none_is_one_sentence_without_its_password(url: str, words: tuple[str, ...]) -> None:
    assert_one_sentence(donewhen(*words, "--store", url), 2)
    assert list(Path().iterdir()) == []


# -- store init and store copy ----------------------------------------------------------------------------------------


def test_a_database_is_prepared_once_and_says_what_to_do_next() -> None:
    with a_copy("template0") as name:
        url = url_of(name)
        words = ("--owner-role", "donewhen_test_owner", "--app-role", "donewhen_test_app")
        first, second = donewhen("store", "init", url, *words), donewhen("store", "init", url, *words)
        assert "of the schema now." in first.stdout
        assert "of the schema already." in second.stdout
        assert "donewhen run SPEC.toml --store 'postgresql://ROLE@" in first.stderr
        assert "No role was granted anything" in donewhen("store", "init", url).stderr
        told = json.loads(donewhen("store", "init", url, "--json").stdout)
        assert (told["was"], told["version"]) == (told["version"], told["was"])


@pytest.mark.parametrize("target", ["x.db", "ledgers", "mysql://app@h/db"])
def test_what_is_no_database_is_not_prepared(target: str) -> None:
    assert_one_sentence(donewhen("store", "init", target), 2, 7)


def test_a_ledger_goes_to_postgresql_and_back_by_relative_paths(tmp_path: Path) -> None:
    url = postgres_url(tmp_path / "ledger.db")
    write_spec(tmp_path / "s.toml")
    well("run", "s.toml", *OFFLINE, "--store", "here/ledger.db")
    assert "Both verify." in well("store", "copy", "here/ledger.db", url)
    result = donewhen("store", "copy", url, "./back.db")
    assert str(tmp_path / "back.db") in result.stdout
    assert "back.db" in result.stderr
    assert donewhen("show", "x", "--store", "back.db").exit_code == 2
    assert told("sessions", "--store", "back.db") == told("sessions", "--store", url)


def test_a_copy_that_cannot_be_is_one_sentence_and_leaves_nothing(tmp_path: Path, no_server: str) -> None:
    url = postgres_url(tmp_path / "ledger.db")
    write_spec(tmp_path / "s.toml")
    well("run", "s.toml", *OFFLINE, "--store", "a.db")
    well("store", "copy", "a.db", url)
    for source, target, problem in [
        ("a.db", url, "is not empty"),
        (url, "a.db", "is not empty"),
        ("a.db", "a.db", "is not empty"),
        ("a.db", f"{url}-again", "has this ledger already"),
        (f"{url}-nothing", "b.db", "there is no log"),
        ("nothing.db", "b.db", "there is no file"),
        ("a.db", "no/such/folder/b.db", "there is no folder"),
        ("a.db", no_server, "refused"),
        (no_server, "b.db", "refused"),
        ("a.db", as_ghost("postgres"), "ghost"),
    ]:
        assert problem in assert_one_sentence(donewhen("store", "copy", source, target), 7), (source, target)
    for source, target, problem in [
        ("a.db", f"mysql://app:{SECRET}@h/db", "not mysql://"),
        (f"postgresql://app:{SECRET}/x@h/db", "b.db", "is not postgresql://"),
    ]:
        assert problem in assert_one_sentence(donewhen("store", "copy", source, target), 2), (source, target)
    assert sorted(path.name for path in Path().glob("*.db")) == ["a.db"]
