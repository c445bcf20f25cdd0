"""The outbox: nothing leaves unattested, and what leaves does so once for each target."""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from receivers import CUT, receiving
from reviews import STARTER, House
from stores.kit import run_together, tamper

from donewhen import canonical
from donewhen.entry import Entry
from donewhen.errors import (
    DeliveryError,
    LedgerTamperedError,
    LedgerUnavailableError,
    NotReleasedError,
    ReleaseBusyError,
)
from donewhen.errors import SessionNotFoundError as NoSuchSession
from donewhen.ledger import Draft, Ledger
from donewhen.notes import Verifier
from donewhen.outbox import Outbox, Release, ToCommand, ToFile, ToWebhook, release_key
from donewhen.outbox.delivery import Parcel
from donewhen.owner import this_process
from donewhen.testing import FaultyStore, make_reply
from donewhen.verify import verify_ledger

TEXT = "é\r\n# Report\u2028\ud800"
BYTES = TEXT.encode("utf-8", "surrogatepass")


@pytest.fixture
def house(tmp_store: Path) -> Iterator[House]:
    house = House(tmp_store)
    yield house
    house.close()
    verify_ledger(tmp_store, Verifier.parse(house.log_key.vkey))


@pytest.fixture
def attested(house: House) -> House:
    house.enroll("ann", "ben")
    house.finish(text=TEXT)
    attest(house)
    return house


def attest(house: House, name: str = "ann", session: str = "s") -> None:
    house.clock.move(1)
    house.surface.attest(session, name, reviewer_key=house.keys[name])


def reject(house: House, name: str = "ann", session: str = "s") -> None:
    house.clock.move(1)
    house.surface.reject(session, name, "the number is wrong", reviewer_key=house.keys[name])


def outbox(house: House, **options: Any) -> Outbox:
    return Outbox(house.ledger, now=house.clock.now, **options)


def release(house: House, target: Any, session: str = "s", *, again: bool = False, **options: Any) -> Release:
    return outbox(house, **options).release(session, target, again=again)


def refusal(house: House, target: Any, session: str = "s", **options: Any) -> NotReleasedError:
    """Return why nothing is released; nothing is written either."""
    before = len(house.rows(session=session))
    with pytest.raises(NotReleasedError) as caught:
        release(house, target, session, **options)
    assert caught.value.session_id == session
    assert len(house.rows(session=session)) == before
    return caught.value


def states(house: House, session: str = "s") -> list[str]:
    return [row.data["state"] for row in house.rows("release", session=session)]


class Taking:
    """A target that does what a test says when something is handed to it."""

    name, repeats = "test:taking", True

    def __init__(self, then: Callable[[Parcel], object] = lambda _parcel: None) -> None:
        self.taken: list[Parcel] = []
        self._then = then

    def deliver(self, parcel: Parcel) -> str:
        self.taken.append(parcel)
        self._then(parcel)
        return "thanks"


def lose(_parcel: Parcel) -> None:
    raise DeliveryError("test:taking", "it was lost", known=False)


# -- what leaves -------------------------------------------------------------------------------------------------------


def test_what_was_attested_leaves_byte_for_byte(attested: House, tmp_path: Path) -> None:
    released = release(attested, ToFile(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == BYTES
    assert released.output_hash == hashlib.sha256(BYTES).hexdigest()
    assert (released.is_new, released.session_id) == (True, "s")


def test_two_rows_say_what_was_released_to_whom_on_whose_word(attested: House, tmp_path: Path) -> None:
    target = ToFile(tmp_path / "out")
    released = release(attested, target)
    begun, done = attested.rows("release")
    (word,) = attested.rows("attest")
    assert dict(begun.data) == {
        "target": target.name,
        "key": released.key,
        "output_hash": released.output_hash,
        "frame_hash": word.data["frame_hash"],
        "bytes": len(BYTES),
        "state": "begun",
        "attests": [word.id],
        "owner": this_process(),
    }
    assert dict(done.data) == {
        "target": target.name,
        "key": released.key,
        "output_hash": word.data["output_hash"],
        "state": "done",
        "begun": begun.seq,
    }
    assert (done.id, begun.balance) == (released.row_id, done.balance)


def test_the_key_is_made_of_session_output_and_target() -> None:
    named = {"session": "s", "output_hash": "ab", "target": "file:/x"}
    key = release_key("s", "ab", "file:/x")
    assert key == canonical.hash_hex("release", canonical.dumps(named))
    assert len({key, release_key("t", "ab", "file:/x"), release_key("s", "ac", "file:/x")}) == 3


def test_a_second_release_to_the_same_target_does_nothing(attested: House) -> None:
    target = Taking()
    first, second = release(attested, target), release(attested, target, again=True)
    assert (first.is_new, second.is_new, len(target.taken)) == (True, False, 1)
    assert (first.row_id, first.key) == (second.row_id, second.key)
    assert states(attested) == ["begun", "done"]


def test_another_target_gets_it_under_another_key(attested: House, tmp_path: Path) -> None:
    keys = {release(attested, ToFile(tmp_path / name)).key for name in ("a", "b")}
    assert len(keys) == 2
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == BYTES


def test_a_release_changes_no_frame_and_voids_no_attestation(attested: House) -> None:
    before = attested.standing().frame.frame_hash
    release(attested, Taking())
    assert attested.standing().frame.frame_hash == before
    assert attested.judged().released_ok


# -- what does not -----------------------------------------------------------------------------------------------------


def test_without_an_attestation_nothing_leaves(house: House, tmp_path: Path) -> None:
    house.finish()
    error = refusal(house, ToFile(tmp_path / "out"))
    assert (error.missing, error.rejected, "1 more reviewer must attest" in str(error)) == (1, False, True)
    assert not (tmp_path / "out").exists()


def test_with_too_few_nothing_leaves_and_the_one_that_is_missing_opens_it(house: House) -> None:
    house.enroll("ann", "ben")
    house.finish(quorum=2)
    attest(house)
    assert refusal(house, Taking()).missing == 1
    attest(house, "ben")
    assert release(house, Taking()).is_new


def test_an_attestation_that_has_expired_releases_nothing(house: House) -> None:
    house.enroll("ann")
    house.finish(expiry_hours=2)
    attest(house)
    house.clock.move(2 * 3600)
    assert "it expired at" in str(refusal(house, Taking()))


def test_an_attestation_that_expires_between_two_clocks_releases_nothing(house: House) -> None:
    """An auditor judges by the time in the row, so that clock must agree."""
    house.enroll("ann")
    house.finish(expiry_hours=2)
    attest(house)
    before = house.clock.now()
    house.clock.move(3 * 3600)
    with pytest.raises(NotReleasedError, match="expires at this moment"):
        Outbox(house.ledger, now=lambda: before).release("s", Taking())
    assert house.rows("release") == []


def test_a_rejection_stops_it_until_the_same_reviewer_attests_again(attested: House) -> None:
    reject(attested, "ben")
    error = refusal(attested, Taking())
    assert (error.rejected, "ben rejected it: the number is wrong" in str(error)) == (True, True)
    attest(attested, "ben")
    assert release(attested, Taking()).is_new


def test_a_late_row_voids_what_was_attested(attested: House) -> None:
    attested.ledger.write("s", 9, "llm", "x", 1, 1, True)
    assert "another frame" in str(refusal(attested, Taking()))
    attest(attested)
    assert release(attested, Taking()).is_new


def test_a_name_alone_is_not_enough_where_keys_were_enrolled(house: House) -> None:
    house.enroll("ann")
    house.finish()
    house.surface.attest("s", "ann")
    assert "a name without a signature" in str(refusal(house, Taking()))


def test_whoever_started_it_may_not_release_it_alone(house: House) -> None:
    house.enroll(STARTER)
    house.finish()
    with pytest.raises(Exception, match="started this session"):
        attest(house, STARTER)
    assert refusal(house, Taking()).missing == 1


def test_a_key_that_was_revoked_attests_nothing_any_more(house: House) -> None:
    house.enroll("ann")
    house.finish()
    house.revoke("ann")
    with pytest.raises(Exception, match="revoked"):
        attest(house)
    assert refusal(house, Taking()).missing == 1


def test_a_session_that_has_not_ended_has_nothing_to_release(house: House) -> None:
    with pytest.raises(KeyboardInterrupt):
        house.run(make_reply("a part", stop_reason="max_tokens"), KeyboardInterrupt())
    assert "has not ended" in str(refusal(house, Taking()))


def test_a_held_session_has_nothing_to_release(house: House) -> None:
    house.hold()
    house.surface.attest("s", "ann")
    assert "has not ended" in str(refusal(house, Taking()))


def test_a_session_that_ended_without_an_output_has_nothing_to_release(house: House) -> None:
    house.finish()
    data = {"outcome": "halted", "reason": "ann said so"}
    house.ledger.note(Draft(Entry(kind="close", session_id="s", state_origin="close", data=data)))
    assert "without an output" in str(refusal(house, Taking()))


def test_an_output_that_was_erased_is_not_released(attested: House) -> None:
    attested.ledger.erase("s", who="eve", why="asked for")
    assert "has been erased by eve (row " in str(refusal(attested, Taking()))


def test_what_left_before_it_was_erased_has_left(attested: House) -> None:
    target = Taking()
    row_id = release(attested, target).row_id
    attested.ledger.erase("s", who="eve", why="asked for")
    assert (release(attested, target).row_id, len(target.taken)) == (row_id, 1)


def test_rows_that_were_written_by_hand_have_no_output(house: House) -> None:
    house.ledger.write("by hand", 1, "llm", "x", 1, 1, True)
    with pytest.raises(NoSuchSession, match="no promise"):
        release(house, Taking(), "by hand")
    with pytest.raises(NoSuchSession, match="no such session"):
        release(house, Taking(), "nobody")


# -- sessions that did not end well ------------------------------------------------------------------------------------


def test_a_session_that_is_not_done_is_released_only_if_that_is_what_was_attested(house: House) -> None:
    house.enroll("ann")
    house.run(*[make_reply(f"part {n}", stop_reason="max_tokens") for n in range(9)])
    assert outbox(house).check("s").outcome == "breached"
    assert refusal(house, Taking()).missing == 1
    attest(house)
    target = Taking()
    assert release(house, target).is_new
    assert target.taken[0].output.startswith(b"part 0")


def test_what_is_made_of_a_session_that_goes_on_is_another_output(house: House) -> None:
    """Its first output left; the second needs an attestation of its own, and leaves under another key."""
    house.enroll("ann")
    house.run(*[make_reply(f"part {n}", stop_reason="max_tokens") for n in range(9)])
    attest(house)
    target = Taking()
    first = release(house, target)
    house.ledger.raise_ceilings("s", {"turns": 20}, why="nearly", who="ann")
    house.run(make_reply("# whole"), resume=True)
    assert refusal(house, target).missing == 1
    attest(house)
    second = release(house, target)
    assert (second.is_new, second.key != first.key, len(target.taken)) == (True, True, 2)


# -- a record that was changed -----------------------------------------------------------------------------------------

BODY = "UPDATE entries SET body = replace(body, '{}', '{}') WHERE kind = '{}'"
TAMPERED: dict[str, str] = {
    "the output": "UPDATE texts SET body = CAST('# Other' AS BLOB) WHERE label = 'output'",
    "the outcome": BODY.format('"outcome":"done"', '"outcome":"dome"', "close"),
    "who reviewed": BODY.format('"reviewer":"ann"', '"reviewer":"bob"', "attest"),
    "the policy": BODY.format('"quorum":2', '"quorum":1', "policy"),
    "a rejection": BODY.format('"reviewer":"eve"', '"reviewer":"mal"', "reject"),
    "whose key it is": BODY.format('"name":"ben"', '"name":"bob"', "key"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_nothing_leaves_a_session_whose_record_was_changed(tmp_store: Path, what: str) -> None:
    house = House(tmp_store)
    house.enroll("ann", "ben", "eve")
    house.finish(quorum=2)
    attest(house, "ann")
    attest(house, "ben")
    reject(house, "eve")
    house.close()
    tamper(tmp_store, TAMPERED[what])
    with Ledger(tmp_store, signer=house.log_key) as ledger, pytest.raises(LedgerTamperedError):
        Outbox(ledger, now=house.clock.now).release("s", Taking())


def test_an_attestation_that_was_slipped_in_releases_nothing(tmp_store: Path) -> None:
    house = House(tmp_store)
    house.finish()
    frame_hash = house.standing().frame.frame_hash
    house.close()
    data = f'{{"frame_hash":"{frame_hash}","notes":"","reviewer":"mal"}}'
    template = "(SELECT body FROM entries WHERE kind = 'close')"
    slipped = (
        f"json_set({template}, '$.kind', 'attest', '$.state_origin', 'attest', '$.data', json('{data}'), '$.seq', 99)"
    )
    tamper(tmp_store, f"INSERT INTO entries (id, body) SELECT max(id) + 1, {slipped} FROM entries")
    with Ledger(tmp_store, signer=house.log_key) as ledger, pytest.raises(LedgerTamperedError):
        Outbox(ledger, now=house.clock.now).release("s", Taking())


# -- tries that fail ---------------------------------------------------------------------------------------------------


def test_a_webhook_that_fails_is_tried_again_with_the_same_key(attested: House) -> None:
    with receiving(500, 200) as receiver:
        target = ToWebhook(receiver.url)
        with pytest.raises(DeliveryError, match="it answered 500") as caught:
            release(attested, target)
        assert (caught.value.known, states(attested)) == (True, ["begun", "failed"])
        assert attested.rows("release")[-1].data["problem"] == "it answered 500"
        assert release(attested, target).is_new
        assert not release(attested, target).is_new
    assert states(attested) == ["begun", "failed", "begun", "done"]
    assert (receiver.bodies, len(set(receiver.keys))) == ([BYTES, BYTES], 1)


def test_a_connection_that_is_lost_leaves_it_begun_and_the_next_try_has_the_same_key(attested: House) -> None:
    with receiving(CUT, 200) as receiver:
        target = ToWebhook(receiver.url)
        with pytest.raises(DeliveryError) as caught:
            release(attested, target)
        assert (caught.value.known, states(attested)) == (False, ["begun"])
        assert release(attested, target).is_new
    assert states(attested) == ["begun", "begun", "done"]
    assert len(set(receiver.keys)) == 1


def test_before_another_try_it_is_judged_again(attested: House) -> None:
    target = Taking(lose)
    with pytest.raises(DeliveryError):
        release(attested, target)
    reject(attested, "ben")
    assert refusal(attested, target).rejected


def test_a_file_with_other_content_is_a_failure_that_is_recorded(attested: House, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"other")
    with pytest.raises(DeliveryError, match="other content"):
        release(attested, ToFile(tmp_path / "out"))
    assert states(attested) == ["begun", "failed"]
    assert release(attested, ToFile(tmp_path / "out", force=True)).is_new
    assert (tmp_path / "out").read_bytes() == BYTES


def test_a_command_that_says_that_it_failed_is_run_again(attested: House, tmp_path: Path) -> None:
    target = ToCommand(["sh", "-c", f"cat >> {tmp_path}/out; test $(wc -l < {tmp_path}/out) -gt 1"])
    with pytest.raises(DeliveryError, match="exit status 1"):
        release(attested, target)
    assert release(attested, target).is_new
    assert (tmp_path / "out").read_bytes() == BYTES * 2


def test_a_command_of_which_nobody_knows_what_it_did_is_run_again_only_if_a_person_says_so(
    attested: House, tmp_path: Path
) -> None:
    script = f"cat >> {tmp_path}/out; test -e {tmp_path}/second || {{ touch {tmp_path}/second; kill -9 $$; }}"
    target = ToCommand(["sh", "-c", script])
    with pytest.raises(DeliveryError, match="killed by signal 9"):
        release(attested, target)
    error = refusal(attested, target)
    assert ("nobody knows whether it ran" in str(error), error.missing) == (True, 0)
    assert release(attested, target, again=True).is_new
    assert (tmp_path / "out").read_bytes() == BYTES * 2


def test_an_interruption_leaves_it_begun_and_not_held_by_this_process(attested: House) -> None:
    def interrupt(_parcel: Parcel) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        release(attested, Taking(interrupt))
    assert states(attested) == ["begun"]
    assert release(attested, Taking()).is_new


# -- several at once ---------------------------------------------------------------------------------------------------


def begun_by(house: House, owner: str, target: Any) -> None:
    """Write that somebody has begun to hand the output on."""
    (word,) = house.rows("attest")
    hashes = {name: word.data[name] for name in ("output_hash", "frame_hash")}
    key = release_key("s", hashes["output_hash"], target.name)
    data = {"target": target.name, "key": key, "bytes": len(BYTES), "state": "begun", "owner": owner}
    data |= {"attests": [word.id], **hashes}
    house.ledger.note(Draft(Entry(kind="release", session_id="s", state_origin="release", data=data)))


def test_what_another_live_process_is_handing_on_is_left_to_it(attested: House) -> None:
    host, pid, _start = this_process().rsplit(":", 2)
    begun_by(attested, f"{host}:{pid}:0", Taking())
    with pytest.raises(ReleaseBusyError, match="is being handed on there by"):
        release(attested, Taking(), again=True)
    assert release(attested, ToCommand(["cat"])).is_new


def test_what_a_dead_process_had_begun_is_done_by_the_next(attested: House) -> None:
    host = this_process().rsplit(":", 2)[0]
    begun_by(attested, f"{host}:999999999:1", Taking())
    assert release(attested, Taking()).is_new


def test_a_process_that_cannot_be_asked_is_believed_to_live_until_a_person_says_otherwise(attested: House) -> None:
    begun_by(attested, "another-host:7:1", Taking())
    assert "cannot be known here" in str(refusal(attested, Taking()))
    assert release(attested, Taking(), again=True).is_new


def test_while_one_thread_hands_it_on_another_does_not(attested: House) -> None:
    told: list[Any] = []

    def meanwhile(_parcel: Parcel) -> None:
        with pytest.raises(ReleaseBusyError) as caught:
            release(attested, Taking())
        told.append(caught.value.owner)

    assert release(attested, Taking(meanwhile)).is_new
    assert (told, states(attested)) == ([this_process()], ["begun", "done"])


def test_of_many_threads_one_hands_it_on(attested: House) -> None:
    target, came = Taking(), list[object]()

    def one() -> None:
        try:
            came.append(release(attested, target).is_new)
        except ReleaseBusyError:
            came.append("busy")

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(came), came.count(True), len(target.taken)) == (6, 1, 1)
    assert states(attested) == ["begun", "done"]


RELEASING = """
import sys
from pathlib import Path
from donewhen.errors import ReleaseBusyError
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner
from donewhen.outbox import Outbox, ToCommand
from stores.kit import ORIGIN

path, script = Path(sys.argv[1]), sys.argv[2]
with Ledger(path, signer=LocalSigner(ORIGIN, bytes([77]) * 32)) as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        print(Outbox(ledger).release("s", ToCommand(["sh", "-c", script])).is_new)
    except ReleaseBusyError:
        print("busy")
"""


def test_of_many_processes_one_hands_it_on(attested: House, tmp_path: Path) -> None:
    script = f"cat > {tmp_path}/got; echo ran >> {tmp_path}/ran; sleep 0.2"
    said = run_together(4, RELEASING, attested.path, script)
    assert sorted(set(said)) in (["True\n", "busy\n"], ["False\n", "True\n"], ["False\n", "True\n", "busy\n"])
    assert (said.count("True\n"), (tmp_path / "ran").read_text(encoding="utf-8")) == (1, "ran\n")
    assert (tmp_path / "got").read_bytes() == BYTES


class Lingering(Taking):
    """A target that is asked for its name in the middle of judging, and lets something happen then."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__()
        self._once: Callable[[], None] | None = then

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        once, self._once = self._once, None
        if once is not None:
            once()
        return "test:lingering"


ARRIVING: dict[str, Callable[[House], object]] = {
    "reject": lambda house: reject(house, "ben"),
    "write": lambda house: house.ledger.write("s", 9, "llm", "x", 1, 1, True),
    "erase": lambda house: house.ledger.erase("s", who="eve", why="asked for"),
}


@pytest.mark.parametrize("kind", ARRIVING)
def test_what_arrives_while_it_is_judged_comes_after_the_row_that_began_it(attested: House, kind: str) -> None:
    """It waits for the judgement to be on disk, and changes the next one."""
    thread = threading.Thread(target=lambda: ARRIVING[kind](attested))
    target = Lingering(thread.start)
    released = release(attested, target)
    thread.join()
    assert (released.is_new, target.taken[0].output) == (True, BYTES)
    (arrived,) = attested.rows(kind)
    assert arrived.id > attested.rows("release")[0].id
    refusal(attested, Taking())


# -- disks that fail ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [False, True])
def test_what_cannot_be_begun_is_not_handed_on(attested: House, stored: bool) -> None:
    faulty, target = FaultyStore(attested.ledger.store), Taking()
    faulty.fail(stored=stored)
    with pytest.raises(LedgerUnavailableError):
        Outbox(Ledger(attested.path, store=faulty), now=attested.clock.now).release("s", target)
    assert (target.taken, states(attested)) == ([], ["begun"] * stored)
    assert release(attested, target).is_new


@pytest.mark.parametrize("stored", [False, True])
def test_what_was_handed_on_and_could_not_be_recorded_is_tried_again_with_the_same_key(
    attested: House, stored: bool
) -> None:
    faulty, target = FaultyStore(attested.ledger.store), Taking()
    faulty.fail(stored=stored, after=1)
    with pytest.raises(LedgerUnavailableError):
        Outbox(Ledger(attested.path, store=faulty), now=attested.clock.now).release("s", target)
    assert release(attested, target).is_new is not stored
    assert len({parcel.key for parcel in target.taken}) == 1
    assert states(attested)[-1] == "done"


def test_a_ledger_that_is_read_only_releases_nothing(attested: House) -> None:
    target = Taking()
    with Ledger(attested.path, read_only=True) as ledger, pytest.raises(LedgerUnavailableError):
        Outbox(ledger, now=attested.clock.now).release("s", target)
    assert target.taken == []


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        NotReleasedError("s", "no.", True, 2),
        DeliveryError("file:/x", "no", False, "said"),
        ReleaseBusyError("s", "host:1:2"),
    ],
)
def test_its_errors_are_ordinary_ones(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), vars(again), str(again)) == (type(error), vars(error), str(error))
    assert hash(error) is not None
