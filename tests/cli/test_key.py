"""`key`: making, showing, rotating, enrolling and revoking, and a signer in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from command import as_json, donewhen, environ, process, run_offline, start
from signing import short_folder

from donewhen.keyring import Keyring
from donewhen.keys import config_dir, load_log_key, load_reviewer_key, made_here, make_reviewer_key
from donewhen.keys.rotation import own_log_verifier
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner, Verifier, open_note

posix = pytest.mark.skipif(os.name != "posix", reason="needs permission bits and Unix sockets")

STORE = Path(".donewhen/ledger.db")
WORDS = "correct horse battery"
ADA = LocalSigner("donewhen/reviewer/ada", bytes(31) + b"\1")


def keys_folder() -> Path:
    return config_dir(os.environ)


def log_keys(store: Path = STORE) -> list[str]:
    with Ledger(store, read_only=True) as ledger:
        return [vkey for _, vkey in Keyring.read(ledger).log_keys(ledger.signed_by)]


def reviewers(store: Path = STORE) -> dict[str, str]:
    with Ledger(store, read_only=True) as ledger:
        return Keyring.read(ledger).reviewers_at()


def newest_is_signed_by(vkey: str, store: Path = STORE) -> bool:
    with Ledger(store, read_only=True) as ledger:
        sealed = ledger.store.newest_sealed()
    assert sealed is not None
    return open_note(sealed.note, Verifier.parse(vkey)) != ""


# -- new ---------------------------------------------------------------------------------------------------------------


def test_a_log_key_is_made_once() -> None:
    first, again = donewhen("key", "new"), donewhen("key", "new")
    assert (first.exit_code, again.exit_code) == (0, 0)
    made = load_log_key(keys_folder())
    assert made is not None
    assert first.stdout == again.stdout == f"{keys_folder() / 'log.key'}\n"
    assert "Made: " in first.stderr
    assert "It was there already: " in again.stderr
    assert made.skey not in first.stdout + first.stderr


def test_a_reviewers_key_is_made_and_says_where_it_was_made() -> None:
    told = as_json("key", "new", "--reviewer", "Ada Lovelace")
    signer = load_reviewer_key(keys_folder())
    assert signer is not None
    assert told == {
        "file": str(keys_folder() / "reviewer.key"),
        "vkey": signer.vkey,
        "made_by": made_here(),
        "was_there": False,
    }
    assert as_json("key", "new", "--reviewer", "Ada Lovelace")["was_there"] is True
    assert not (keys_folder() / "log.key").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--reviewer", "Bob"], 7, "One folder holds one reviewer's key"),
        (["--reviewer", " "], 2, "printable text on one line"),
        (["--passphrase"], 2, "no terminal to ask for a passphrase. Give it in DONEWHEN_KEY_PASSPHRASE"),
    ],
)
def test_a_key_that_cannot_be_made_is_one_sentence(words: list[str], code: int, says: str) -> None:
    donewhen("key", "new", "--reviewer", "Ada")
    result = donewhen("key", "new", *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_a_key_from_the_environment_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DONEWHEN_LOG_KEY", ADA.skey)
    result = donewhen("key", "new")
    assert result.exit_code == 2
    assert "DONEWHEN_LOG_KEY holds the log's key already" in result.stderr


def test_a_locked_key_is_unlocked_by_the_passphrase_in_the_environment(
    spec_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DONEWHEN_KEY_PASSPHRASE", WORDS)
    for who in ([], ["--reviewer", "Ada"]):
        assert donewhen("key", "new", "--passphrase", *who).exit_code == 0
    assert "ENCRYPTED" in (keys_folder() / "log.key").read_text()
    assert "ENCRYPTED" in (keys_folder() / "reviewer.key").read_text()
    assert run_offline(spec_file).exit_code == 0
    assert donewhen("key", "rotate", "--why", "yearly").exit_code == 0
    assert "ENCRYPTED" in (keys_folder() / "log.key").read_text()
    for passphrase, says in (("wrong words entirely", "not the one that locks the key"), ("", "not the one")):
        monkeypatch.setenv("DONEWHEN_KEY_PASSPHRASE", passphrase)
        refused = run_offline(spec_file)
        assert (refused.exit_code, says in refused.stderr) == (7, True)
    monkeypatch.delenv("DONEWHEN_KEY_PASSPHRASE")
    refused = run_offline(spec_file)
    assert refused.exit_code == 7
    assert "give it in DONEWHEN_KEY_PASSPHRASE, or at a terminal" in refused.stderr
    shown = as_json("key", "show")  # which needs none
    assert shown["log"]["locked"] is shown["reviewer"]["locked"] is True


# -- show --------------------------------------------------------------------------------------------------------------


def test_where_there_is_nothing_that_is_shown() -> None:
    result = donewhen("key", "show")
    assert (result.exit_code, result.stdout) == (0, "log key       none yet\nreviewer key  none\n")
    told = as_json("key", "show")
    assert (told["log"], told["reviewer"], told["ledger"]) == (None, None, None)
    assert not keys_folder().exists()


def test_the_keys_of_a_ledger_are_shown_with_what_became_of_them(spec_file: Path) -> None:
    run_offline(spec_file)
    donewhen("key", "enroll", ADA.vkey, "--name", "Ada", "--who", "ann")
    donewhen("key", "rotate", "--why", "yearly")
    donewhen("key", "revoke", "ada", "--why", "left")
    told = as_json("key", "show")
    assert told["ledger"]["log_keys"][0]["from_size"] == 0
    assert told["log"]["where"] == str(keys_folder() / "log.key")
    [reviewer] = told["ledger"]["reviewers"]
    assert (reviewer["name"], reviewer["vkey"], reviewer["made_by"]) == ("Ada", ADA.vkey, None)
    assert reviewer["enrolled"]["who"] == "ann"
    assert (reviewer["revoked"]["why"], reviewer["revoked"]["who"]) == ("left", made_here())
    shown = donewhen("key", "show").stdout
    assert f"since the checkpoint of {told['ledger']['log_keys'][1]['from_size']} rows" in shown
    assert f"Ada       {ADA.vkey}" in shown


def test_no_private_half_is_ever_shown(spec_file: Path) -> None:
    run_offline(spec_file)
    make_reviewer_key(keys_folder(), "Ada")
    secrets = [(keys_folder() / name).read_text().strip().split("+", 4)[4] for name in ("log.key", "reviewer.key")]
    for words in ([], ["--json"]):
        result = donewhen("key", "show", *words)
        assert not any(secret in result.stdout + result.stderr for secret in secrets)


def test_an_unsigned_ledger_says_so() -> None:
    STORE.parent.mkdir()
    Ledger(STORE).close()
    assert "none: the ledger is unsigned" in donewhen("key", "show").stdout


@posix
def test_a_key_that_others_can_read_is_refused_by_every_command(spec_file: Path) -> None:
    run_offline(spec_file)
    (keys_folder() / "log.key").chmod(0o644)
    for words in (
        ["key", "show"],
        ["key", "new"],
        ["key", "rotate", "--why", "x"],
        ["key", "enroll", ADA.vkey, "--name", "A"],
    ):
        result = donewhen(*words)
        assert result.exit_code == 7
        assert "chmod 600" in result.stderr


# -- rotate ------------------------------------------------------------------------------------------------------------


def public_keys(vkeys: list[str]) -> list[bytes]:
    return [Verifier.parse(vkey).public_key for vkey in vkeys]


def test_a_ledger_is_handed_on_to_a_new_key(spec_file: Path) -> None:
    run_offline(spec_file)
    [old] = log_keys()
    row = as_json("key", "rotate", "--why", "yearly", "--who", "ann")
    assert (row["data"]["action"], row["data"]["why"], row["data"]["who"]) == ("rotate", "yearly", "ann")
    assert row["data"]["made_by"] == made_here()
    assert log_keys() == [old, row["data"]["vkey"]]
    assert (
        LocalSigner.parse(Path(row["kept"]).read_text().strip()).verifier.public_key == Verifier.parse(old).public_key
    )
    assert run_offline(spec_file).exit_code == 0
    assert newest_is_signed_by(row["data"]["vkey"])


def test_another_ledger_of_the_old_key_goes_on_and_is_rotated_to_the_same_new_key(
    spec_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_offline(spec_file)
    run_offline(spec_file, "--store", "other.db")
    donewhen("key", "rotate", "--why", "yearly")
    old, new = log_keys()
    assert run_offline(spec_file, "--store", "other.db").exit_code == 0
    assert public_keys(log_keys(Path("other.db"))) == public_keys([old])
    assert log_keys(Path("other.db")) != [old]  # each log calls it by its own name
    rotated = donewhen("key", "rotate", "--why", "yearly", "--store", "other.db")
    assert (rotated.exit_code, "is kept as" in rotated.stderr) == (0, False)
    assert public_keys(log_keys(Path("other.db"))) == public_keys([old, new])
    # And from then on each by itself.
    donewhen("key", "rotate", "--why", "again", "--store", "other.db")
    assert len(log_keys(Path("other.db"))) == 3
    for store in (STORE, Path("other.db")):
        assert run_offline(spec_file, "--store", store).exit_code == 0
    assert not list(keys_folder().glob("log.key.new-*"))


@pytest.mark.parametrize(
    ("environment", "code", "says"),
    [
        ({}, 2, "begun without a key, so there is none to rotate"),
        ({"DONEWHEN_LOG_KEY": ADA.skey}, 2, "begun without a key"),
    ],
)
def test_an_unsigned_ledger_is_not_rotated(
    environment: dict[str, str], code: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    STORE.parent.mkdir()
    Ledger(STORE).close()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = donewhen("key", "rotate", "--why", "x")
    assert (result.exit_code, says in result.stderr) == (code, True)
    assert "Begin a new, signed ledger" in result.stderr


def test_a_key_in_the_environment_is_not_rotated_and_the_error_says_what_to_do(
    spec_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DONEWHEN_LOG_KEY", ADA.skey)
    run_offline(spec_file)
    result = donewhen("key", "rotate", "--why", "x")
    assert result.exit_code == 2
    assert "DONEWHEN_LOG_KEY, which a command cannot change" in result.stderr
    # What it says works.
    monkeypatch.delenv("DONEWHEN_LOG_KEY")
    keys_folder().mkdir(mode=0o700)
    (keys_folder() / "log.key").write_text(ADA.skey)
    (keys_folder() / "log.key").chmod(0o600)
    assert donewhen("key", "rotate", "--why", "x").exit_code == 0
    monkeypatch.setenv("DONEWHEN_LOG_KEY", (keys_folder() / "log.key").read_text())
    assert run_offline(spec_file).exit_code == 0


def test_a_ledger_of_another_key_is_not_rotated(spec_file: Path) -> None:
    run_offline(spec_file)
    shutil.rmtree(keys_folder())
    donewhen("key", "new")
    result = donewhen("key", "rotate", "--why", "x")
    assert (result.exit_code, "is signed by the key" in result.stderr) == (7, True)
    assert len(log_keys()) == 1
    assert not list(keys_folder().glob("log.key.new-*"))


@pytest.mark.parametrize(
    "words", [["rotate"], ["revoke", "ada"], ["rotate", "--why", " "], ["revoke", ADA.vkey, "--why", ""]]
)
def test_a_change_of_keys_needs_a_reason(spec_file: Path, words: list[str]) -> None:
    run_offline(spec_file)
    result = donewhen("key", *words)
    assert (result.exit_code, "--why" in result.stderr) == (2, True)
    assert len(log_keys()) == 1


# -- enroll and revoke -------------------------------------------------------------------------------------------------


def test_a_reviewer_is_enrolled_from_the_file_that_came_with_the_key(tmp_path: Path) -> None:
    _, public = make_reviewer_key(tmp_path / "far", "Ada Lovelace", made_by="ada@laptop")
    result = donewhen("key", "enroll", tmp_path / "far" / "reviewer.vkey")  # which begins the ledger
    assert (result.exit_code, "Warning" in result.stderr) == (0, False)
    assert reviewers() == {public.vkey: "Ada Lovelace"}
    with Ledger(STORE, read_only=True) as ledger:
        change = Keyring.read(ledger).enrolment_of(public.vkey)
    assert change is not None
    assert (change.made_by, change.who) == ("ada@laptop", made_here())


def test_a_key_that_was_made_here_is_enrolled_with_a_warning() -> None:
    donewhen("key", "new", "--reviewer", "Ada")
    result = donewhen("key", "enroll")
    assert result.exit_code == 0
    assert f"Warning: this key was made by {made_here()}, who also has the log's key" in result.stderr
    assert list(reviewers().values()) == ["Ada"]


def test_a_key_that_does_not_say_where_it_was_made_is_enrolled_with_a_note() -> None:
    result = donewhen("key", "enroll", ADA.vkey, "--name", "Ada")
    assert (result.exit_code, "nothing says where this key was made" in result.stderr) == (0, True)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "reviewer.vkey. Give a reviewer's public key"),
        (["nowhere.vkey", "--name", "Ada"], 2, "there is no file nowhere.vkey"),
        ([ADA.vkey], 2, "say whose key it is: --name NAME"),
        ([ADA.skey, "--name", "Ada"], 7, "this is a signer key, which is private"),
        ([ADA.vkey + "x", "--name", "Ada"], 7, "not an Ed25519 verifier key"),
        (["folder", "--name", "Ada"], 7, "cannot be read"),
    ],
)
def test_what_is_no_reviewers_key_is_refused_in_one_sentence(words: list[str], code: int, says: str) -> None:
    Path("folder").mkdir()
    result = donewhen("key", "enroll", *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr
    assert not STORE.exists()


def test_the_key_of_the_log_is_not_enrolled(spec_file: Path) -> None:
    run_offline(spec_file)
    result = donewhen("key", "enroll", *log_keys(), "--name", "Ada")
    assert (result.exit_code, "must not sign as a reviewer" in result.stderr) == (7, True)
    assert reviewers() == {}


def test_a_name_and_a_key_are_enrolled_once() -> None:
    donewhen("key", "enroll", ADA.vkey, "--name", "Ada")
    other = LocalSigner("bob", bytes(31) + b"\2").vkey
    for words, says in (
        ([ADA.vkey, "--name", "Bob"], "so it is enrolled already"),
        ([other, "--name", "ADA"], "has a key already"),
    ):
        result = donewhen("key", "enroll", *words)
        assert (result.exit_code, says in result.stderr) == (7, True)
    assert reviewers() == {ADA.vkey: "Ada"}


@pytest.mark.parametrize("whom", ["Ada", "ADA", ADA.vkey])
def test_a_reviewer_is_revoked_by_name_or_key(whom: str) -> None:
    donewhen("key", "enroll", ADA.vkey, "--name", "Ada")
    row = as_json("key", "revoke", whom, "--why", "left", "--who", "ann")
    assert row["data"] == {"action": "revoke", "vkey": ADA.vkey, "why": "left", "who": "ann"}
    assert reviewers() == {}


@pytest.mark.parametrize(("whom", "code", "says"), [("Eve", 2, "has no key here"), (ADA.vkey, 7, "was never enrolled")])
def test_who_was_never_enrolled_is_not_revoked(spec_file: Path, whom: str, code: int, says: str) -> None:
    run_offline(spec_file)
    result = donewhen("key", "revoke", whom, "--why", "x")
    assert (result.exit_code, says in result.stderr) == (code, True)


@pytest.mark.parametrize("words", [["rotate", "--why", "x"], ["revoke", "ada", "--why", "x"]])
def test_where_there_is_no_ledger_nothing_is_begun(words: list[str]) -> None:
    result = donewhen("key", *words)
    assert (result.exit_code, "there is no ledger" in result.stderr) == (7, True)
    assert not keys_folder().exists()


def test_the_group_alone_shows_its_help() -> None:
    result = donewhen("key")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "rotate" in result.stderr


# -- a signer in a process of its own ----------------------------------------------------------------------------------


@posix
def test_a_run_is_signed_by_a_signer_in_another_process(spec_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    donewhen("key", "new")
    with short_folder() as folder:
        words = ("key", "serve", "--socket", folder / "socket", "--state", folder / "state")
        with start(*words, env=environ()) as server:
            assert server.stderr is not None
            assert [server.stderr.readline().split()[0] for _ in range(2)] == ["Signer:", "Signing"]
            # The key itself is out of reach from here on.
            keys_folder().rename(folder / "away")
            monkeypatch.setenv("DONEWHEN_SIGNER", str(folder / "socket"))
            assert run_offline(spec_file).exit_code == 0
            shown = as_json("key", "show")
            assert shown["log"]["where"] == str(folder / "socket")
            assert len(log_keys()) == 1
            assert "--to-signer" in donewhen("key", "rotate", "--why", "x").stderr
            server.kill()
            server.wait()
        result = run_offline(spec_file)
        assert (result.exit_code, result.stdout) == (7, "")
        assert "no signer answers there" in result.stderr
        states = json.loads((folder / "state").read_text())["logs"]
    assert len(states) == 1


@posix
def test_a_ledger_is_handed_on_to_a_signer(spec_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_offline(spec_file)
    with short_folder() as folder:
        served = environ(DONEWHEN_CONFIG_DIR=str(folder / "keys"))
        process("key", "new", env=served)
        with start("key", "serve", "--socket", folder / "socket", env=served) as server:
            assert server.stderr is not None
            assert [server.stderr.readline().split()[0] for _ in range(2)] == ["Signer:", "Signing"]
            result = donewhen("key", "rotate", "--why", "out of reach", "--to-signer", folder / "socket")
            assert (result.exit_code, "export DONEWHEN_SIGNER=" in result.stderr) == (0, True)
            own = own_log_verifier(folder / "keys", {})
            assert own is not None
            assert public_keys(log_keys())[-1] == own.public_key
            refused = run_offline(spec_file)
            assert (refused.exit_code, "is signed by the key" in refused.stderr) == (7, True)
            monkeypatch.setenv("DONEWHEN_SIGNER", str(folder / "socket"))
            assert run_offline(spec_file).exit_code == 0
            assert newest_is_signed_by(log_keys()[-1])


@posix
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 7, "there is no key. Make one: donewhen key new"),
        (["--reviewer"], 2, "there is no terminal to ask at"),
        (["--group", "no-such-group-here"], 2, "there is no such group"),
    ],
)
def test_a_signer_that_cannot_serve_says_why(words: list[str], code: int, says: str) -> None:
    with short_folder() as folder:
        result = donewhen("key", "serve", "--socket", folder / "socket", *words)
        assert list(folder.iterdir()) == []
    assert (result.exit_code, says in result.stderr) == (code, True)


@pytest.mark.parametrize(
    ("value", "says"), [("", "DONEWHEN_SIGNER is set but blank"), ("nowhere", "no signer answers")]
)
def test_a_signer_that_is_named_and_not_there_makes_no_other_ledger(
    spec_file: Path, monkeypatch: pytest.MonkeyPatch, value: str, says: str
) -> None:
    monkeypatch.setenv("DONEWHEN_SIGNER", value)
    result = run_offline(spec_file)
    assert (result.exit_code, says in result.stderr) == (7, True)
    assert not STORE.exists()
    assert not keys_folder().exists()
