"""A process that is killed while it releases: what it leaves verifies, and the next one hands it on once more at most."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from receivers import receiving
from reviews import House
from stores.kit import start

from donewhen.errors import NotReleasedError
from donewhen.ledger import Ledger
from donewhen.notes import Verifier
from donewhen.outbox import Outbox, ToCommand, ToFile, ToWebhook
from donewhen.verify import verify_ledger

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a matter of POSIX")

DYING = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from donewhen.outbox import delivery
from donewhen.ledger import Ledger, utc_now
from donewhen.notes import LocalSigner
from donewhen.outbox import Outbox, ToCommand, ToFile, ToWebhook
from donewhen.stores.sqlite import SQLiteStore
from stores.kit import ORIGIN

path, point, kind, where = sys.argv[1:5]
KEY = LocalSigner(ORIGIN, bytes([77]) * 32)
commits = 0

def die(at):
    if at == point:
        os.kill(os.getpid(), signal.SIGKILL)

class MortalStore(SQLiteStore):
    @contextmanager
    def writing(self):
        global commits
        with super().writing() as transaction:
            yield transaction
            commits += 1
            die(f"before commit {commits}")
        die(f"after commit {commits}")

class Mortal:
    def __init__(self, target):
        self.target, self.name, self.repeats = target, target.name, target.repeats
    def deliver(self, parcel):
        die("before it is handed on")
        said = self.target.deliver(parcel)
        die("after it is handed on")
        return said

store = MortalStore(path, signer=KEY, now=utc_now, random=os.urandom)
target = {"file": ToFile, "webhook": ToWebhook, "command": lambda it: ToCommand(["sh", "-c", it])}[kind](where)
Outbox(Ledger(path, store=store)).release("s", Mortal(target))
"""

POINTS = {
    "before commit 1": 0,
    "after commit 1": 0,
    "before it is handed on": 0,
    "after it is handed on": 1,
    "before commit 2": 1,
    "after commit 2": 1,
}
"""Where it dies, and how often the output has left by then."""


@pytest.fixture
def house(tmp_store: Path) -> House:
    house = House(tmp_store)
    house.finish()
    house.surface.attest("s", "ann")
    house.close()
    return house


def die(house: House, point: str, kind: str, where: str) -> None:
    with start(DYING, house.path, point, kind, where) as process:
        _, err = process.communicate()
    assert (process.returncode, err) == (-signal.SIGKILL, "")
    verify(house)


def verify(house: House) -> None:
    verify_ledger(house.path, Verifier.parse(house.log_key.vkey))


@pytest.mark.parametrize("point", POINTS)
def test_a_file_is_there_once_and_whole(house: House, tmp_path: Path, point: str) -> None:
    out = tmp_path / "out"
    die(house, point, "file", str(out))
    assert out.exists() == bool(POINTS[point])
    with Ledger(house.path, signer=house.log_key) as ledger:
        released = Outbox(ledger).release("s", ToFile(out))
        assert released.is_new == (point != "after commit 2")
        assert [row.data["state"] for row in ledger.rows("s") if row.kind == "release"][-1] == "done"
    assert out.read_bytes() == b"# Report"
    assert [name for name in os.listdir(tmp_path) if name.startswith(".out")] == []
    verify(house)


@pytest.mark.parametrize("point", POINTS)
def test_a_webhook_gets_every_try_under_one_key(house: House, point: str) -> None:
    with receiving(200) as receiver:
        die(house, point, "webhook", receiver.url)
        assert len(receiver.came) == POINTS[point]
        with Ledger(house.path, signer=house.log_key) as ledger:
            Outbox(ledger).release("s", ToWebhook(receiver.url))
            Outbox(ledger).release("s", ToWebhook(receiver.url))
    again = 0 if point == "after commit 2" else 1
    assert (len(receiver.came), len(set(receiver.keys))) == (POINTS[point] + again, 1)
    verify(house)


@pytest.mark.parametrize("point", POINTS)
def test_a_command_that_may_have_run_is_not_run_again_unasked(house: House, tmp_path: Path, point: str) -> None:
    script = f"cat >> {tmp_path}/out"
    target = ToCommand(["sh", "-c", script])
    die(house, point, "command", script)
    out = tmp_path / "out"
    assert (out.read_bytes() if out.exists() else b"") == b"# Report" * POINTS[point]
    with Ledger(house.path, signer=house.log_key) as ledger:
        if point in ("before commit 1", "after commit 2"):
            assert Outbox(ledger).release("s", target).is_new == (point == "before commit 1")
            assert out.read_bytes() == b"# Report"
        else:
            with pytest.raises(NotReleasedError, match="nobody knows whether it ran"):
                Outbox(ledger).release("s", target)
            assert Outbox(ledger).release("s", target, again=True).is_new
            assert out.read_bytes() == b"# Report" * (POINTS[point] + 1)
    verify(house)


HALF = """
import os, signal, sys
from donewhen.outbox.delivery import Parcel, ToFile

os.fsync = lambda _descriptor: os.kill(os.getpid(), signal.SIGKILL)
ToFile(sys.argv[1]).deliver(Parcel(session_id="s", key="k", output=b"x" * 1_000_000))
"""


def test_a_crash_in_the_middle_of_writing_a_file_leaves_no_half_of_it(tmp_path: Path) -> None:
    with start(HALF, tmp_path / "out") as process:
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
