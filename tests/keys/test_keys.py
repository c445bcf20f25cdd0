"""Where the log's key is kept, and that it is one key, for its owner only."""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path

import pytest
from stores.kit import run_together
from unprivileged import unprivileged

from donewhen.errors import KeyFileError
from donewhen.keys import (
    config_dir,
    load_log_key,
    load_or_make_log_key,
    load_reviewer_key,
    made_here,
    make_reviewer_key,
    read_reviewer_vkey,
)
from donewhen.keys.files import PublicKey
from donewhen.notes import LocalSigner

posix = pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX's")


def counting() -> object:
    """Bytes that are the same in every run, and differ from call to call."""
    calls = itertools.count(1)
    return lambda count: bytes([next(calls)]) * count


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_no_key_is_found_where_there_is_none(tmp_path: Path) -> None:
    assert load_log_key(tmp_path / "nowhere") is None
    assert not (tmp_path / "nowhere").exists()


def test_a_key_is_made_once_and_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    made = load_or_make_log_key(folder, random=counting())
    assert (made.name, made.private_bytes) == ("donewhen/log", bytes([1]) * 32)
    again = load_or_make_log_key(folder, random=counting())
    found = load_log_key(folder)
    assert found is not None
    assert found.vkey == again.vkey == made.vkey
    assert sorted(path.name for path in folder.iterdir()) == ["log.key"]


def test_keys_are_not_guessable_unless_randomness_is_handed_in(tmp_path: Path) -> None:
    assert load_or_make_log_key(tmp_path / "a").vkey != load_or_make_log_key(tmp_path / "b").vkey


def test_the_file_holds_one_line_that_other_tools_read(tmp_path: Path) -> None:
    made = load_or_make_log_key(tmp_path, random=counting())
    assert (tmp_path / "log.key").read_bytes() == f"{made.skey}\n".encode()


@posix
def test_the_key_is_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_or_make_log_key(tmp_path / "keys", random=counting())
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "keys") == 0o700
    assert mode_of(tmp_path / "keys" / "log.key") == 0o600


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o601])
def test_a_key_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    load_or_make_log_key(tmp_path, random=counting())
    (tmp_path / "log.key").chmod(mode)
    with pytest.raises(KeyFileError, match=rf"read or written by others \(mode {mode:04o}\). chmod 600") as caught:
        load_log_key(tmp_path)
    assert caught.value.path == str(tmp_path / "log.key")
    with pytest.raises(KeyFileError):
        load_or_make_log_key(tmp_path, random=counting())


@posix
def test_a_key_in_a_folder_where_others_can_replace_it_is_refused(tmp_path: Path) -> None:
    load_or_make_log_key(tmp_path, random=counting())
    tmp_path.chmod(0o777)
    with pytest.raises(KeyFileError, match=r"where others can replace it\. chmod 700"):
        load_log_key(tmp_path)
    tmp_path.chmod(0o1777)
    assert load_log_key(tmp_path) is not None


@posix
def test_a_narrower_mode_and_a_link_are_fine(tmp_path: Path) -> None:
    made = load_or_make_log_key(tmp_path, random=counting())
    (tmp_path / "log.key").chmod(0o400)
    linked = tmp_path / "linked"
    linked.mkdir(mode=0o700)
    (linked / "log.key").symlink_to(tmp_path / "log.key")
    found = load_log_key(linked)
    assert found is not None
    assert found.vkey == made.vkey


@posix
def test_what_is_not_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.key", 0o600)
    with pytest.raises(KeyFileError, match="is not a file"):
        load_log_key(tmp_path)


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"not a key\n", b"\xff\xfe", b"PRIVATE+KEY+x+00000000+AAAA\n", b"x" * 9999]
)
def test_a_file_that_is_no_key_is_refused_and_kept(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "log.key"
    path.write_bytes(text)
    path.chmod(0o600)
    for load in (load_log_key, lambda folder: load_or_make_log_key(folder, random=counting())):
        with pytest.raises(KeyFileError, match="not an Ed25519 signer key"):
            load(tmp_path)
    assert path.read_bytes() == text


def test_a_spoilt_key_is_not_shown_in_the_error(tmp_path: Path) -> None:
    skey = load_or_make_log_key(tmp_path, random=counting()).skey
    (tmp_path / "log.key").write_text(skey.replace("donewhen/log", "donewhen/lag") + "\n")
    with pytest.raises(KeyFileError) as caught:
        load_log_key(tmp_path)
    assert skey.rpartition("+")[2] not in str(caught.value)


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    load_or_make_log_key(tmp_path, random=counting())
    other = LocalSigner("other", bytes(32))
    for text in (other.skey, f"{other.skey}\n"):
        environ = {"DONEWHEN_LOG_KEY": text}
        found = load_log_key(tmp_path, environ)
        assert found is not None
        assert found.vkey == load_or_make_log_key(tmp_path, environ=environ).vkey == other.vkey


def test_a_key_from_the_environment_makes_no_files(tmp_path: Path) -> None:
    environ = {"DONEWHEN_LOG_KEY": LocalSigner("other", bytes(32)).skey}
    load_or_make_log_key(tmp_path / "keys", environ=environ)
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("text", ["", " ", "secret but no key"])
def test_a_variable_that_holds_no_key_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    load_or_make_log_key(tmp_path, random=counting())
    for load in (load_log_key, lambda folder, environ: load_or_make_log_key(folder, environ=environ)):
        with pytest.raises(KeyFileError, match=r"^DONEWHEN_LOG_KEY: not an Ed25519 signer key") as caught:
            load(tmp_path, {"DONEWHEN_LOG_KEY": text})
        assert "secret" not in str(caught.value)


def test_an_environment_without_the_variable_falls_back_to_the_file(tmp_path: Path) -> None:
    made = load_or_make_log_key(tmp_path, random=counting(), environ={})
    found = load_log_key(tmp_path, {"HOME": "/"})
    assert found is not None
    assert found.vkey == made.vkey


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError, match=r"no key could be stored|cannot be read"):
        load_or_make_log_key(tmp_path / "file" / "keys", random=counting())


@posix
def test_a_link_to_nowhere_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "log.key").symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyFileError, match="a link to nowhere"):
        load_or_make_log_key(tmp_path, random=counting())
    assert [path.name for path in tmp_path.iterdir()] == ["log.key"]


@posix
def test_a_read_only_folder_is_one_clear_error(tmp_path: Path) -> None:
    load_or_make_log_key(tmp_path / "before")  # imports what it needs
    with unprivileged(tmp_path) as folder:
        folder.chmod(0o500)
        with pytest.raises(KeyFileError, match="no key could be stored: Permission denied"):
            load_or_make_log_key(folder, random=counting())
        folder.chmod(0o700)
        assert load_or_make_log_key(folder, random=counting()).private_bytes == bytes([1]) * 32


RACER = """
import sys
from pathlib import Path
from donewhen.keys import load_or_make_log_key
from donewhen.notes import LocalSigner
LocalSigner.generate("warm")
print("ready", flush=True)
sys.stdin.readline()
print(load_or_make_log_key(Path(sys.argv[1])).skey, flush=True)
"""


def test_eight_processes_at_once_end_with_one_key(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    answers = set(run_together(8, RACER, folder))
    found = load_log_key(folder)
    assert found is not None
    assert answers == {f"{found.skey}\n"}
    assert sorted(path.name for path in folder.iterdir()) == ["log.key"]


@posix
@pytest.mark.parametrize(
    ("environ", "platform", "folder"),
    [
        ({"DONEWHEN_CONFIG_DIR": "/own", "XDG_CONFIG_HOME": "/xdg", "HOME": "/home/ada"}, "linux", "/own"),
        ({"XDG_CONFIG_HOME": "/xdg", "HOME": "/home/ada"}, "linux", "/xdg/donewhen"),
        ({"XDG_CONFIG_HOME": "relative", "HOME": "/home/ada"}, "linux", "/home/ada/.config/donewhen"),
        (
            {"DONEWHEN_CONFIG_DIR": "", "XDG_CONFIG_HOME": "", "HOME": "/home/ada"},
            "linux",
            "/home/ada/.config/donewhen",
        ),
        ({"HOME": "/Users/ada"}, "darwin", "/Users/ada/Library/Application Support/donewhen"),
        ({"XDG_CONFIG_HOME": "/xdg", "HOME": "/Users/ada"}, "darwin", "/xdg/donewhen"),
        ({"APPDATA": "/appdata", "USERPROFILE": "/ada"}, "win32", "/appdata/donewhen"),
        ({"USERPROFILE": "/ada"}, "win32", "/ada/AppData/Roaming/donewhen"),
    ],
)
def test_the_folder_is_the_users_own(environ: dict[str, str], platform: str, folder: str) -> None:
    assert config_dir(environ, platform=platform) == Path(folder)


def test_without_any_variable_the_folder_is_below_the_home() -> None:
    assert config_dir({}, platform="linux") == Path.home() / ".config" / "donewhen"


# -- locked log keys ---------------------------------------------------------------------------------------------------

WORDS = "correct horse battery"


def test_a_log_key_can_be_locked_with_a_passphrase(tmp_path: Path) -> None:
    made = load_or_make_log_key(tmp_path, passphrase=WORDS)
    assert made.skey not in (tmp_path / "log.key").read_text()
    for environ, ask in (({"DONEWHEN_KEY_PASSPHRASE": WORDS}, None), ({}, lambda _where: WORDS)):
        found = load_log_key(tmp_path, environ, ask=ask)
        assert found is not None
        assert found.skey == load_or_make_log_key(tmp_path, environ=environ, ask=ask).skey == made.skey
    with pytest.raises(KeyFileError, match="locked with a passphrase"):
        load_log_key(tmp_path, {})
    with pytest.raises(KeyFileError, match="the passphrase is not the one"):
        load_log_key(tmp_path, {"DONEWHEN_KEY_PASSPHRASE": "wrong"}, ask=lambda _where: WORDS)


# -- reviewers' keys ---------------------------------------------------------------------------------------------------


def test_a_reviewers_key_is_made_once_and_says_who_made_it(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    signer, public = make_reviewer_key(folder, " Ada  Lovelace+1 ", made_by="ada@laptop")
    assert signer.name == "donewhen/reviewer/Ada-Lovelace-1"
    assert public == PublicKey(signer.vkey, "Ada  Lovelace+1", "ada@laptop") == read_reviewer_vkey(folder)
    again, same = make_reviewer_key(folder, "Ada Lovelace 1", made_by="eve@server")
    assert (again.skey, same) == (signer.skey, public)
    found = load_reviewer_key(folder)
    assert found is not None
    assert found.skey == signer.skey
    assert sorted(path.name for path in folder.iterdir()) == ["reviewer.key", "reviewer.vkey"]


def test_nobody_is_a_reviewer_where_there_is_no_key(tmp_path: Path) -> None:
    assert load_reviewer_key(tmp_path) is None
    assert read_reviewer_vkey(tmp_path) is None


def test_where_a_reviewers_key_was_made_is_user_and_host(tmp_path: Path) -> None:
    _, public = make_reviewer_key(tmp_path, "Ada")
    assert public.made_by == made_here()
    assert public.made_by.count("@") == 1


def test_one_folder_holds_one_reviewers_key(tmp_path: Path) -> None:
    make_reviewer_key(tmp_path, "Ada")
    with pytest.raises(KeyFileError, match="One folder holds one reviewer's key"):
        make_reviewer_key(tmp_path, "Bob")
    public = read_reviewer_vkey(tmp_path)
    assert public is not None
    assert public.name == "Ada"


@pytest.mark.parametrize("name", ["", "  ", "Ada\nBob", "Ada\x1b[31m", "Ada\u202e"])
def test_a_name_that_cannot_be_shown_is_no_reviewers(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="printable text on one line"):
        make_reviewer_key(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_reviewers_key_can_be_locked(tmp_path: Path) -> None:
    signer, public = make_reviewer_key(tmp_path, "Ada", passphrase=WORDS)
    found = load_reviewer_key(tmp_path, {"DONEWHEN_KEY_PASSPHRASE": WORDS})
    assert found is not None
    assert found.skey == signer.skey
    assert read_reviewer_vkey(tmp_path) == public  # without a passphrase
    for asked in (None, "a wrong passphrase"):
        with pytest.raises(KeyFileError, match="passphrase"):
            make_reviewer_key(tmp_path, "Ada", passphrase=asked)
    with pytest.raises(KeyFileError, match="fewer than 12"):
        make_reviewer_key(tmp_path / "other", "Ada", passphrase="short")
    assert not (tmp_path / "other").exists()


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_reviewers_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    make_reviewer_key(tmp_path, "Ada")
    assert mode_of(tmp_path / "reviewer.key") == 0o600
    (tmp_path / "reviewer.key").chmod(mode)
    for use in (load_reviewer_key, lambda folder: make_reviewer_key(folder, "Ada")):
        with pytest.raises(KeyFileError, match=f"mode {mode:04o}"):
            use(tmp_path)


def test_the_public_half_of_a_reviewer_is_written_where_a_crash_left_it_out(tmp_path: Path) -> None:
    signer, _ = make_reviewer_key(tmp_path, "Ada")
    (tmp_path / "reviewer.vkey").unlink()
    _, public = make_reviewer_key(tmp_path, "Ada")
    assert read_reviewer_vkey(tmp_path) == public
    assert public.vkey == signer.vkey


REVIEWER_RACER = """
import sys
from pathlib import Path
from donewhen.keys import make_reviewer_key
from donewhen.notes import LocalSigner
LocalSigner.generate("warm")
print("ready", flush=True)
sys.stdin.readline()
print(make_reviewer_key(Path(sys.argv[1]), "Ada", passphrase=sys.argv[2] or None)[0].skey)
"""


@pytest.mark.parametrize("words", ["", WORDS])
def test_eight_processes_at_once_make_one_reviewers_key(tmp_path: Path, words: str) -> None:
    folder = tmp_path / "keys"
    answers = set(run_together(8, REVIEWER_RACER, folder, words))
    found = load_reviewer_key(folder, {"DONEWHEN_KEY_PASSPHRASE": words})
    assert found is not None
    assert answers == {f"{found.skey}\n"}
    assert sorted(path.name for path in folder.iterdir()) == ["reviewer.key", "reviewer.vkey"]
