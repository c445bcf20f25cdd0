"""Erasing: what was kept of a session is gone from every byte of the ledger's files, and the chain still holds."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sessions import SPEC, Desk, a_session, ask, calls_of, seeing
from stores.kit import SIGNER, an_entry, start

from donewhen.checks import Regex
from donewhen.errors import LedgerError, LedgerTamperedError, LedgerUnavailableError, SessionBusyError
from donewhen.errors import SessionNotFoundError as NoSuchSession
from donewhen.ledger import Draft, Ledger
from donewhen.notes import Verifier
from donewhen.review_surface import ReviewSurface
from donewhen.stores import sqlite_connections
from donewhen.testing import FaultyStore, make_reply
from donewhen.texts import ERASED_SALT
from donewhen.tools import tool
from donewhen.verify import verify_ledger

KEEP: dict[str, Any] = {"keep": "conversation"}
SECRET = "the patient's name is 4711"
BY: dict[str, str] = {"who": "ann", "why": "the patient asked for it"}
PIECE = 24
"""Bytes of a text that must not be found together."""


@pytest.fixture(params=[None, SIGNER], ids=["unsigned", "signed"])
def ledger(request: pytest.FixtureRequest, tmp_store: Path) -> Iterator[Ledger]:
    with Ledger(tmp_store, signer=request.param) as ledger:
        yield ledger


def run_with_secret(ledger: Ledger) -> None:
    script = (calls_of(("a", "look", {"x": 1})), make_reply(SECRET))
    Desk(ledger).run(*script, task=SECRET, tools=[seeing([], SECRET)], checks=[Regex("n", name="n")], **KEEP)


def raw_bytes(path: Path) -> bytes:
    """Return all that is in the database and in the files that SQLite keeps beside it."""
    return b"".join(beside.read_bytes() for beside in sorted(path.parent.glob(f"{path.name}*")))


def kept_texts(path: Path) -> list[tuple[int, str, bytes, bytes]]:
    with closing(sqlite3.connect(path)) as raw:
        return raw.execute("SELECT entry_id, label, salt, body FROM texts").fetchall()


# -- what goes ---------------------------------------------------------------------------------------------------------


def test_no_byte_of_a_text_or_a_salt_is_left_in_any_file(ledger: Ledger) -> None:
    run_with_secret(ledger)
    path = Path(ledger.path)
    kept = kept_texts(path)
    assert len(kept) > 4
    assert SECRET.encode() in raw_bytes(path)
    erased = ledger.erase(SPEC.session_id, **BY)
    found = raw_bytes(path)
    assert (erased.texts, erased.is_gone) == (len(kept), True)
    assert SECRET.encode() not in found
    assert not any(salt in found for _, _, salt, _ in kept)
    assert path.with_name(f"{path.name}-wal").stat().st_size == 0


def test_the_row_says_who_and_why_and_the_ledger_verifies(ledger: Ledger) -> None:
    run_with_secret(ledger)
    erased = ledger.erase(SPEC.session_id, **BY)
    assert erased.row is not None
    assert (erased.row.kind, dict(erased.row.data)) == ("erase", {**BY, "erased": erased.texts})
    assert erased.row.balance == ledger.rows(SPEC.session_id)[-2].balance
    ledger.close()
    verifier = None if ledger.signed_by is None else Verifier.parse(ledger.signed_by)
    report = verify_ledger(ledger.path, verifier)
    assert (report.texts, report.rows) == (0, erased.row.id)


def test_nobody_finds_the_texts_any_more(ledger: Ledger) -> None:
    run_with_secret(ledger)
    ledger.erase(SPEC.session_id, **BY)
    rows = ledger.rows(SPEC.session_id)
    assert {ledger.find_text(row, label) for row in rows for label in row.data.get("texts", {})} == {None}
    frame = ReviewSurface(ledger.path, ledger.path).load(SPEC.session_id)
    assert frame.output is None
    assert any("has been erased" in line for line in frame.unresolved_assumptions)


def test_other_sessions_keep_theirs(ledger: Ledger) -> None:
    run_with_secret(ledger)
    other = ledger.note(Draft(an_entry("other", "close"), {"output": "theirs"}))
    ledger.erase(SPEC.session_id, **BY)
    assert ledger.find_text(other, "output") == "theirs"


def test_erasing_again_writes_nothing_and_looks_at_the_files_again(ledger: Ledger) -> None:
    run_with_secret(ledger)
    ledger.erase(SPEC.session_id, **BY)
    rows = len(ledger.rows(SPEC.session_id))
    again = ledger.erase(SPEC.session_id, **BY)
    assert (again.row, again.texts, again.is_gone) == (None, 0, True)
    assert len(ledger.rows(SPEC.session_id)) == rows


def test_a_text_that_was_kept_since_is_erased_too(ledger: Ledger) -> None:
    for text in ("first", "second"):
        ledger.note(Draft(an_entry("s", "close"), {"output": text}))
        assert ledger.erase("s", **BY).texts == 1
    assert b"second" not in raw_bytes(Path(ledger.path))


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_left_however_texts_were_mixed_and_erased(tmp_store: Path, seed: int) -> None:
    """Large and small texts of many sessions, erased in any order: SQLite has moved cells between pages by then."""
    chance = random.Random(seed)
    kept: dict[str, list[bytes]] = {}
    with Ledger(tmp_store) as ledger:
        for _ in range(250):
            session_id, size = str(chance.randrange(12)), chance.choice([30, 200, 900, 5000])
            text = chance.randbytes(size // 2).hex()
            ledger.note(Draft(an_entry(session_id, "close"), {"output": text}))
            kept.setdefault(session_id, []).append(text.encode())
        for session_id in chance.sample(sorted(kept), 8):
            assert ledger.erase(session_id, **BY).is_gone
            found = raw_bytes(tmp_store)
            for text in kept.pop(session_id):
                assert not any(text[at : at + PIECE] in found for at in range(0, len(text) - PIECE + 1, PIECE))
        left = sum(len(texts) for texts in kept.values())
    assert verify_ledger(tmp_store, None).texts == left


# -- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [{"who": " ", "why": "w"}, {"who": "w", "why": ""}, {"who": "w", "why": "a\0"}])
def test_nothing_is_erased_without_who_and_why(ledger: Ledger, said: dict[str, str]) -> None:
    run_with_secret(ledger)
    with pytest.raises(ValueError, match=r"who|why"):
        ledger.erase(SPEC.session_id, **said)
    assert SECRET.encode() in raw_bytes(Path(ledger.path))


def test_a_session_that_is_not_there_is_not_erased(ledger: Ledger) -> None:
    with pytest.raises(NoSuchSession):
        ledger.erase("nobody", **BY)


def test_a_session_that_runs_in_this_process_is_not_erased(ledger: Ledger) -> None:
    session = a_session(ledger)
    with session:
        session.admit(ask(), texts={"messages": SECRET})
        with pytest.raises(SessionBusyError):
            ledger.erase(SPEC.session_id, **BY)
    assert ledger.erase(SPEC.session_id, **BY).texts == 1


OTHER = """
import sys
sys.path.insert(0, "tests")
from pathlib import Path
from donewhen.ledger import Ledger
from sessions import Desk, a_session, ask, calls_of, seeing
from donewhen.tools import tool

ledger = Ledger(Path(sys.argv[1]))
if sys.argv[2] == "held":
    mail = tool(held=True, name="mail")(seeing([], name="mail"))
    Desk(ledger).run(calls_of(("a", "mail", {"x": 1})), tools=[mail], keep="conversation")
else:
    session = a_session(ledger)
    session.admit(ask(), texts={"messages": "secret"})
print("ready", flush=True)
sys.stdin.readline()
"""


@contextmanager
def other_process(path: Path, how: str) -> Iterator[Any]:
    """Have another process open a session, until the block ends or it is killed."""
    with start(OTHER, path, how) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


@pytest.mark.skipif(os.name != "posix", reason="whether another process lives can be asked on POSIX")
def test_a_session_that_runs_elsewhere_is_erased_only_once_its_process_is_gone(tmp_store: Path) -> None:
    with other_process(tmp_store, "running") as process, Ledger(tmp_store) as ledger:
        with pytest.raises(SessionBusyError):
            ledger.erase(SPEC.session_id, **BY)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert ledger.erase(SPEC.session_id, **BY).texts == 1


@pytest.mark.skipif(os.name != "posix", reason="whether another process lives can be asked on POSIX")
def test_a_session_that_waits_for_a_person_is_erased_though_its_process_lives(tmp_store: Path) -> None:
    with other_process(tmp_store, "held"), Ledger(tmp_store) as ledger:
        assert ledger.erase(SPEC.session_id, **BY).texts > 0


def test_a_held_call_whose_conversation_was_erased_does_not_run(tmp_store: Path) -> None:
    seen: list[int] = []
    mail = tool(held=True, name="mail")(seeing(seen, name="mail"))
    with Ledger(tmp_store) as ledger:
        desk = Desk(ledger)
        desk.run(calls_of(("a", "mail", {"x": 1})), tools=[mail], **KEEP)
        ledger.erase(SPEC.session_id, **BY)
        (call,) = ReviewSurface(tmp_store, tmp_store).load(SPEC.session_id).held_calls
        assert call.arguments is None
        ReviewSurface(tmp_store, tmp_store).attest(SPEC.session_id, "bob")
        assert desk.run(make_reply("anew"), tools=[mail], **KEEP).success
    assert (seen, [m["content"] for m in desk.last_messages()]) == ([], ["task"])


# -- beside others ----------------------------------------------------------------------------------------------------


def test_while_somebody_reads_an_older_state_it_says_that_traces_are_left(
    tmp_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connections, "EMPTYING_MS", 20)
    with Ledger(tmp_store) as ledger:
        run_with_secret(ledger)
        with closing(sqlite3.connect(tmp_store, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM texts").fetchone()
            erased = ledger.erase(SPEC.session_id, **BY)
            assert (erased.row is not None, erased.is_gone) == (True, False)
            assert SECRET.encode() in raw_bytes(tmp_store)
        again = ledger.erase(SPEC.session_id, **BY)
        assert (again.row, again.is_gone) == (None, True)
        assert SECRET.encode() not in raw_bytes(tmp_store)


def test_others_go_on_writing_after_it(tmp_store: Path) -> None:
    with Ledger(tmp_store) as one, Ledger(tmp_store) as other:
        run_with_secret(one)
        assert other.erase(SPEC.session_id, **BY).is_gone
        row = one.note(Draft(an_entry("s", "close"), {"output": "new"}))
        assert other.find_text(row, "output") == "new"


@pytest.mark.parametrize("stored", [False, True])
def test_a_disk_that_fails_leaves_all_of_it_or_nothing(tmp_store: Path, stored: bool) -> None:
    with Ledger(tmp_store) as plain:
        run_with_secret(plain)
        faulty = FaultyStore(plain.store)
        faulty.fail(stored=stored)
        with pytest.raises(LedgerUnavailableError):
            Ledger(tmp_store, store=faulty).erase(SPEC.session_id, **BY)
        is_there = any(salt != ERASED_SALT for _, _, salt, _ in kept_texts(tmp_store))
        says_so = plain.rows(SPEC.session_id)[-1].kind == "erase"
        assert (is_there, says_so) == (not stored, stored)
    verify_ledger(tmp_store, None)


def test_files_cannot_be_cleared_in_the_middle_of_a_transaction(ledger: Ledger) -> None:
    run_with_secret(ledger)
    with ledger.store.writing(), pytest.raises(LedgerError, match="in a transaction"):
        ledger.store.scrub()


DYING = """
import os, signal, sys
sys.path.insert(0, "tests")
from pathlib import Path
from donewhen.ledger import Ledger
from donewhen.stores.sqlite import SQLiteStore

SQLiteStore.scrub = lambda _self: os.kill(os.getpid(), signal.SIGKILL)
Ledger(Path(sys.argv[1])).erase(sys.argv[2], who="ann", why="asked for")
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a matter of POSIX")
def test_a_crash_after_the_commit_leaves_traces_only_until_it_is_erased_again(tmp_store: Path) -> None:
    with Ledger(tmp_store) as ledger:
        run_with_secret(ledger)
    with start(DYING, tmp_store, SPEC.session_id) as process:
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    with Ledger(tmp_store) as ledger:
        rows = ledger.rows(SPEC.session_id)
        assert rows[-1].kind == "erase"
        assert ledger.erase(SPEC.session_id, **BY).is_gone
        assert SECRET.encode() not in raw_bytes(tmp_store)
    verify_ledger(tmp_store, None)


# -- who forges it ----------------------------------------------------------------------------------------------------


def forged(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as raw, raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            raw.execute(statement)


FORGERIES: dict[str, str] = {
    "a text with the salt of an erased one": "UPDATE texts SET salt = zeroblob(32)",
    "an erased text under a salt": "UPDATE texts SET body = zeroblob(length(body))",
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_text_that_is_erased_by_half_is_no_text_of_ours(tmp_store: Path, what: str) -> None:
    with Ledger(tmp_store) as ledger:
        run_with_secret(ledger)
    with closing(sqlite3.connect(tmp_store)) as raw:
        triggers = raw.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    forged(tmp_store, FORGERIES[what], *[sql for (sql,) in triggers])
    with pytest.raises(LedgerTamperedError, match="not the one that it commits to"):
        verify_ledger(tmp_store, None)
