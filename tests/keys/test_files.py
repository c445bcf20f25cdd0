"""Files that hold keys: read by nobody else, written whole, locked with a passphrase or not."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signing import short_folder

from donewhen.errors import KeyFileError
from donewhen.keys import files as key_files
from donewhen.keys.files import (
    PublicKey,
    is_locked,
    parse_private,
    public_half,
    read_private,
    read_public,
    read_public_file,
    spell_private,
    write_once,
)
from donewhen.notes import LocalSigner

posix = pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX's")

SIGNER = LocalSigner("donewhen/reviewer/ada", bytes(32))
OTHER = LocalSigner("donewhen/reviewer/bob", bytes(31) + b"\1")
WORDS = "correct horse battery"


def give(_where: str) -> str:
    return WORDS


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_private(tmp_path / "key") is None
    assert read_public_file(tmp_path / "vkey") is None


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_a_private_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    write_once(tmp_path / "key", "text")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(KeyFileError, match=rf"mode {mode:04o}\). chmod 600"):
        read_private(tmp_path / "key")


@posix
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    for name in ("pipe", "folder"):
        with pytest.raises(KeyFileError, match="is not a file"):
            read_private(tmp_path / name)


@posix
def test_a_socket_is_refused() -> None:
    with short_folder() as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "key"))
        with pytest.raises(KeyFileError, match="cannot be read"):
            read_private(folder / "key")


@posix
def test_a_link_is_followed_and_both_ends_must_be_safe(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir(mode=0o700)
    (tmp_path / "near").mkdir(mode=0o700)
    write_once(tmp_path / "far" / "key", "text")
    (tmp_path / "near" / "key").symlink_to(tmp_path / "far" / "key")
    assert read_private(tmp_path / "near" / "key") == "text"
    (tmp_path / "far").chmod(0o777)
    with pytest.raises(KeyFileError, match=f"where others can replace it. chmod 700 {tmp_path / 'far'}"):
        read_private(tmp_path / "near" / "key")
    (tmp_path / "far").chmod(0o700)
    (tmp_path / "far" / "key").chmod(0o644)
    with pytest.raises(KeyFileError, match="mode 0644"):
        read_private(tmp_path / "near" / "key")


def test_a_key_is_written_once_and_for_its_owner_only(tmp_path: Path) -> None:
    write_once(tmp_path / "key", "first")
    write_once(tmp_path / "key", "second")
    assert read_private(tmp_path / "key") == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


# -- passphrases -------------------------------------------------------------------------------------------------------


def test_a_key_without_a_passphrase_is_the_line_that_other_tools_read() -> None:
    text = spell_private(SIGNER, None)
    assert text == f"{SIGNER.skey}\n"
    assert not is_locked(text)
    assert parse_private(text, "here").vkey == public_half(text, "here") == SIGNER.vkey


def test_a_locked_key_needs_its_passphrase_and_nothing_else() -> None:
    text = spell_private(SIGNER, WORDS)
    assert is_locked(text)
    assert SIGNER.skey.rpartition("+")[2] not in text
    asked: list[str] = []

    def ask(where: str) -> str:
        asked.append(where)
        return WORDS

    unlocked = parse_private(text, "reviewer.key", ask)
    assert (unlocked.skey, asked) == (SIGNER.skey, ["reviewer.key"])
    assert public_half(text, "reviewer.key") == SIGNER.vkey


def test_openssl_reads_a_locked_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(spell_private(SIGNER, WORDS))
    command = ["openssl", "pkey", "-in", str(tmp_path / "key"), "-passin", f"pass:{WORDS}", "-outform", "DER"]
    try:
        made = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert made.stdout.endswith(SIGNER.private_bytes)


@pytest.mark.parametrize("typed", ["", "wrong words entirely", f"{WORDS} ", WORDS.upper(), "\0", "é" * 99])
def test_a_wrong_passphrase_is_one_clear_error(typed: str) -> None:
    with pytest.raises(KeyFileError, match="here: the passphrase is not the one that locks the key") as caught:
        parse_private(spell_private(SIGNER, WORDS), "here", lambda _where: typed)
    assert caught.value.__cause__ is None


def test_where_nobody_gives_a_passphrase_the_error_says_how_to() -> None:
    with pytest.raises(KeyFileError, match="give it in DONEWHEN_KEY_PASSPHRASE, or at a terminal"):
        parse_private(spell_private(SIGNER, WORDS), "here")


@pytest.mark.parametrize("short", ["", "short", "x" * 11])
def test_a_passphrase_that_can_be_guessed_is_not_taken(short: str) -> None:
    with pytest.raises(KeyFileError, match="fewer than 12 characters"):
        spell_private(SIGNER, short)


def test_an_accent_may_be_typed_either_way() -> None:
    text = spell_private(SIGNER, "motörhead motörhead")
    assert parse_private(text, "here", lambda _where: "moto\u0308rhead moto\u0308rhead").vkey == SIGNER.vkey


def test_a_locked_key_under_another_public_half_is_refused() -> None:
    _, _, pem = spell_private(SIGNER, WORDS).partition("\n")
    text = f"# vkey: {OTHER.vkey}\n{pem}"
    with pytest.raises(KeyFileError, match="not the private half of the public key"):
        parse_private(text, "here", give)


def test_a_locked_key_of_another_algorithm_is_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    key = X25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(WORDS.encode())).decode()
    with pytest.raises(KeyFileError, match="not an Ed25519 key"):
        parse_private(f"# vkey: {SIGNER.vkey}\n{pem}", "here", give)


LOCKED = spell_private(SIGNER, WORDS)


@settings(max_examples=60)
@given(st.integers(0, len(LOCKED) - 1), st.characters(codec="ascii"))
def test_a_damaged_locked_key_is_an_error_of_ours_or_still_the_key(place: int, letter: str) -> None:
    text = f"{LOCKED[:place]}{letter}{LOCKED[place + 1 :]}"
    try:
        assert parse_private(text, "here", give).private_bytes == SIGNER.private_bytes
    except KeyFileError as error:
        told = str(error)
        assert LOCKED.splitlines()[3] not in told


# -- public halves -----------------------------------------------------------------------------------------------------


def test_a_public_half_says_whose_it_is_and_where_it_was_made() -> None:
    public = PublicKey(SIGNER.vkey, "Ada Lovelace", "ada@laptop")
    assert public.text() == f"{SIGNER.vkey}\n# name: Ada Lovelace\n# made_by: ada@laptop\n"
    assert read_public(public.text(), "here") == public
    assert read_public(f"\n  {SIGNER.vkey}  \n# anything\n#\n", "here") == PublicKey(SIGNER.vkey)


@pytest.mark.parametrize(
    "text", ["", "# name: Ada\n", f"{SIGNER.vkey}\n{OTHER.vkey}\n", "no key", SIGNER.skey, f"{SIGNER.vkey}x"]
)
def test_what_holds_not_one_public_key_is_refused(text: str) -> None:
    with pytest.raises(KeyFileError, match=r"^here: ") as caught:
        read_public(text, "here")
    assert SIGNER.skey not in str(caught.value)


@posix
def test_a_public_half_that_is_no_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "vkey").mkdir()
    with pytest.raises(KeyFileError, match="cannot be read: Is a directory"):
        read_public_file(tmp_path / "vkey")


@posix
def test_a_lock_is_let_go_when_the_block_ends(tmp_path: Path) -> None:
    import fcntl

    with key_files.locked(tmp_path / "lock"), (tmp_path / "lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not other.closed
