"""A log's key makes way for the next one: whatever is killed in between, a key that works is found."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import as_json, donewhen, environ
from processes import PATIENCE_SECONDS
from stores.kit import run_together

from donewhen.errors import KeyFileError
from donewhen.keyring import Keyring
from donewhen.keys import load_log_key, load_or_make_log_key
from donewhen.keys.files import spell_private
from donewhen.keys.rotation import find_log_key, install_log_key, is_unfinished, own_log_verifier, stage_log_key
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner

posix = pytest.mark.skipif(os.name != "posix", reason="needs signals and permission bits")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "log.key.lock")


def mark(signer: LocalSigner) -> str:
    return hashlib.sha256(signer.verifier.public_key).hexdigest()[:8]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    load_or_make_log_key(tmp_path / "keys")
    return tmp_path / "keys"


def test_a_staged_key_is_a_file_of_its_own_and_changes_nothing(folder: Path) -> None:
    old = load_log_key(folder)
    staged = stage_log_key(folder)
    assert names_in(folder) == ["log.key", f"log.key.new-{mark(staged)}"]
    assert is_unfinished(folder, staged.vkey)
    assert old is not None
    assert own_log_verifier(folder, {}) == old.verifier != staged.verifier
    assert os.name != "posix" or (folder / f"log.key.new-{mark(staged)}").stat().st_mode & 0o777 == 0o600


def test_a_staged_key_takes_the_place_of_the_old_one_which_is_kept(folder: Path) -> None:
    old, staged = load_log_key(folder), stage_log_key(folder)
    assert old is not None
    kept = install_log_key(folder, staged.vkey)
    assert kept == folder / f"log.key.old-{mark(old)}"
    assert names_in(folder) == ["log.key", f"log.key.old-{mark(old)}"]
    assert (folder / "log.key").read_text() == f"{staged.skey}\n"
    assert not is_unfinished(folder, staged.vkey)
    for signer in (old, staged):
        for vkey in (signer.vkey, signer.verifier.named("donewhen.local/1").vkey):
            found = find_log_key(folder, vkey)
            assert found is not None
            assert found.skey == signer.skey
    assert find_log_key(folder, LocalSigner("x", bytes(32)).vkey) is None


def test_installing_twice_changes_nothing_more(folder: Path) -> None:
    staged = stage_log_key(folder)
    install_log_key(folder, staged.vkey)
    before = names_in(folder)
    assert install_log_key(folder, staged.vkey) is None
    assert names_in(folder) == before


def test_a_key_that_an_interrupted_rotation_left_is_taken_up_again(folder: Path) -> None:
    staged = stage_log_key(folder)
    assert stage_log_key(folder).vkey == staged.vkey
    install_log_key(folder, staged.vkey)
    assert stage_log_key(folder).vkey != staged.vkey


def test_what_was_never_staged_is_not_installed(folder: Path) -> None:
    with pytest.raises(KeyFileError, match="is not there, so it cannot become the log's key"):
        install_log_key(folder, LocalSigner("x", bytes(32)).vkey)
    assert names_in(folder) == ["log.key"]


def test_an_old_key_is_never_written_over(folder: Path) -> None:
    old, staged = load_log_key(folder), stage_log_key(folder)
    assert old is not None
    (folder / f"log.key.old-{mark(old)}").write_text(f"{LocalSigner('x', bytes(32)).skey}\n")
    (folder / f"log.key.old-{mark(old)}").chmod(0o600)
    with pytest.raises(KeyFileError, match="is not the key that was to be kept under this name"):
        install_log_key(folder, staged.vkey)
    assert own_log_verifier(folder, {}) == old.verifier


def test_a_locked_key_is_rotated_to_a_locked_key(tmp_path: Path) -> None:
    words = "correct horse battery"
    load_or_make_log_key(tmp_path, passphrase=words)
    staged = stage_log_key(tmp_path, passphrase=words)
    assert find_log_key(tmp_path, staged.vkey, {"DONEWHEN_KEY_PASSPHRASE": words}) is not None
    with pytest.raises(KeyFileError, match="locked with a passphrase"):
        find_log_key(tmp_path, staged.vkey)
    assert stage_log_key(tmp_path, passphrase=words).vkey != staged.vkey  # it is not unlocked to be taken up again
    install_log_key(tmp_path, staged.vkey)
    assert own_log_verifier(tmp_path, {}) == staged.verifier


def test_a_key_from_the_environment_is_the_only_one_that_counts(folder: Path) -> None:
    other = LocalSigner("x", bytes(32))
    own = load_log_key(folder)
    assert own is not None
    variables = {"DONEWHEN_LOG_KEY": other.skey}
    assert own_log_verifier(folder, variables) == other.verifier
    assert find_log_key(folder, own.vkey, variables) is None
    found = find_log_key(folder, other.vkey, variables)
    assert found is not None
    locked = {"DONEWHEN_LOG_KEY": spell_private(other, "correct horse battery")}
    assert own_log_verifier(folder, locked) == other.verifier


@posix
def test_an_exposed_key_is_refused_under_each_of_its_names(folder: Path) -> None:
    staged = stage_log_key(folder)
    (folder / f"log.key.new-{mark(staged)}").chmod(0o644)
    with pytest.raises(KeyFileError, match="mode 0644"):
        find_log_key(folder, staged.vkey)
    with pytest.raises(KeyFileError, match="mode 0644"):
        install_log_key(folder, staged.vkey)


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="no new key could be stored"):
        stage_log_key(tmp_path / "nowhere")
    with pytest.raises(KeyFileError, match="could not be put there"):
        install_log_key(tmp_path / "nowhere", LocalSigner("x", bytes(32)).vkey)


STAGERS = """
import sys
from pathlib import Path
from donewhen.keys.rotation import stage_log_key
from donewhen.notes import LocalSigner
LocalSigner.generate("warm")
print("ready", flush=True)
sys.stdin.readline()
print(stage_log_key(Path(sys.argv[1])).vkey)
"""


def test_processes_that_rotate_at_once_stage_one_key(folder: Path) -> None:
    assert len(set(run_together(4, STAGERS, folder))) == 1


# -- kill -9 in the middle ---------------------------------------------------------------------------------------------

DYING = """
import os, signal, sys
from donewhen import ledger_keys
from donewhen.keys import rotation as key_rotation
from donewhen.cli import main
from donewhen.stores.sqlite import SQLiteStore

def die(*_args, **_options):
    os.kill(os.getpid(), signal.SIGKILL)

def then_die(function):
    return lambda *args, **options: (function(*args, **options), die())

point = sys.argv[1]
if point == "staged":
    key_rotation.stage_log_key = then_die(key_rotation.stage_log_key)
elif point == "signed":
    from donewhen.stores.log import LogState
    LogState.extend = then_die(LogState.extend)
elif point == "committed":
    key_rotation.install_log_key = die
elif point == "kept":
    key_rotation._keep_old = then_die(key_rotation._keep_old)
elif point == "replaced":
    key_rotation.sync_folder = die
main(["key", "rotate", "--why", "yearly"])
"""


def rotate_until(point: str, folder: Path) -> int:
    words = [sys.executable, "-c", DYING, point]
    return subprocess.run(words, cwd=folder, env=environ(), check=False, timeout=PATIENCE_SECONDS).returncode


@posix
@pytest.mark.parametrize("point", ["staged", "signed", "committed", "kept", "replaced"])
def test_a_rotation_that_is_killed_leaves_a_ledger_that_can_be_written(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.toml").write_text('what_it_does = "a"\nwhat_it_does_not = "b"\ndone_looks_like = "c"\n')
    assert donewhen("run", "spec.toml", "--client", "offline").exit_code == 0
    assert rotate_until(point, tmp_path) == -signal.SIGKILL
    is_rotated = point not in ("staged", "signed")
    assert donewhen("run", "spec.toml", "--client", "offline").exit_code == 0
    shown = as_json("key", "show")
    assert len(shown["ledger"]["log_keys"]) == 1 + is_rotated
    # The key that is in its place is the one that the log has.
    own = own_log_verifier(Path(shown["folder"]), {})
    assert own is not None
    assert own.named(shown["ledger"]["origin"]).vkey == shown["ledger"]["log_keys"][-1]["vkey"]
    # And it can be rotated again, after which no staged key lies about.
    assert donewhen("key", "rotate", "--why", "again").exit_code == 0
    assert donewhen("run", "spec.toml", "--client", "offline").exit_code == 0
    with Ledger(".donewhen/ledger.db", read_only=True) as ledger:
        assert len(Keyring.read(ledger).log_keys(ledger.signed_by)) == 2 + is_rotated
    assert not list(Path(shown["folder"]).glob("log.key.new-*"))
