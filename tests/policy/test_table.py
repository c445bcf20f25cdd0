"""Who may do what: a test for each cell.

The policy names ann, dan, eve and whoever started the session; one of them must attest, signed, since keys were
enrolled when the session opened. Eve's key was revoked after that. Dan had no key then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from reviews import STARTER, House

from donewhen.errors import AttestationError, NotReleasedError
from donewhen.notes import Signer
from donewhen.outbox import Outbox, ToFile
from donewhen.testing import make_reply

COUNTS = ""
"""What is said is written, and counts."""


@dataclass(frozen=True)
class Role:
    """Who comes, how they sign, and what becomes of their word."""

    name: str
    key: Callable[[House], Signer | None]
    attests: str
    """Why their attestation is refused; empty: it counts."""
    rejects: str
    writes: bool = False
    """What does not count is written all the same: it is not signed, and shown as a name."""
    policy: dict[str, Any] | None = None


NAMED = {"reviewers": ("ann", "dan", "eve", STARTER)}
BY_NAME = {**NAMED, "signed": False}


def key_of(name: str) -> Callable[[House], Signer]:
    return lambda house: house.keys[name]


def no_key(_house: House) -> None:
    return None


def log_key(house: House) -> Signer:
    return house.log_key


def renamed_log_key(house: House) -> Signer:
    house.slip_in_key("ann", house.log_key.vkey)
    return house.log_key


UNSIGNED = "is a name without a signature, and this session asks for signed ones"
NOT_NAMED = "is not one of the reviewers: ann, dan, eve"
LOG_KEY = "it is signed with the log's own key, which is no person's"

ROLES = {
    "the reviewer named in the policy": Role("ann", key_of("ann"), COUNTS, COUNTS),
    "whoever started the session": Role(STARTER, key_of(STARTER), "started this session, so somebody else", COUNTS),
    "whoever started it, where the policy allows it": Role(
        STARTER, key_of(STARTER), COUNTS, COUNTS, policy={**NAMED, "own_work": True}
    ),
    "enrolled, and not named": Role("ben", key_of("ben"), f"ben {NOT_NAMED}", f"ben {NOT_NAMED}"),
    "enrolled, where nobody is named": Role("ben", key_of("ben"), COUNTS, COUNTS, policy={}),
    "revoked": Role("eve", key_of("eve"), "the key of eve was revoked in row", "the key of eve was revoked in row"),
    "named without a key": Role(
        "dan", key_of("dan"), "it is signed with no key that was ever", "it is signed with no key that was ever"
    ),
    "named without a key, unsigned": Role("dan", no_key, f"dan {UNSIGNED}", f"dan {UNSIGNED}", writes=True),
    "a key that nobody enrolled": Role(
        "ann", key_of("mal"), "it is signed with no key that was ever", "it is signed with no key that was ever"
    ),
    "the key of another reviewer": Role(
        "ann",
        key_of("ben"),
        "it is signed with the key of ben, and names ann",
        "it is signed with the key of ben, and names ann",
    ),
    "the log key": Role("ann", log_key, LOG_KEY, LOG_KEY),
    "the log key, slipped in as a reviewer's": Role("ann", renamed_log_key, LOG_KEY, LOG_KEY),
    "somebody unknown": Role("mal", key_of("mal"), "it is signed with no key", "it is signed with no key"),
    "a name, where signatures are asked for": Role("ann", no_key, f"ann {UNSIGNED}", f"ann {UNSIGNED}", writes=True),
    "a name, where a name is enough": Role("ann", no_key, COUNTS, COUNTS, policy=BY_NAME),
    "a name that is not named": Role(
        "mal", no_key, f"mal {NOT_NAMED}", f"mal {NOT_NAMED}", writes=True, policy=BY_NAME
    ),
    "the name of whoever started it": Role(
        STARTER.upper(),
        no_key,
        "is not one of the reviewers",
        "is not one of the reviewers",
        writes=True,
        policy=BY_NAME,
    ),
    "the name of whoever started it, where nobody is named": Role(
        STARTER.upper(), no_key, "started this session", COUNTS, writes=True, policy={"signed": False}
    ),
}


@pytest.fixture(params=ROLES)
def role(request: pytest.FixtureRequest) -> Role:
    return ROLES[request.param]


@pytest.fixture
def house(tmp_store: Path) -> Iterator[House]:
    made = House(tmp_store)
    made.enroll("ann", "ben", "eve", STARTER)
    yield made
    made.close()


def policy_of(role: Role) -> dict[str, Any]:
    return NAMED if role.policy is None else role.policy


def say(house: House, role: Role, decision: str) -> str:
    """Say it, and return why it does not count; a word that is refused must not be written."""
    key, before = role.key(house), len(house.rows())
    words = {"attest": "fine", "reject": "wrong"}[decision]
    try:
        written = getattr(house.surface, decision)("s", role.name, words, reviewer_key=key)
    except AttestationError as error:
        assert len(house.rows()) == before, "what is refused is not written"
        assert key is not None, "a name is written, and judged later"
        return str(error)
    why = [one.why for one in house.judged().not_counted if one.row_id == written.id]
    assert bool(why) == (role.writes and bool(getattr(role, f"{decision}s")))
    assert written.signed == (key is not None)
    return why[0] if why else COUNTS


def is_told(expected: str, told: str) -> bool:
    return expected in told if expected else told == COUNTS


def test_attesting_an_output(house: House, role: Role) -> None:
    house.finish(**policy_of(role))
    house.revoke("eve")
    assert is_told(role.attests, say(house, role, "attest"))
    assert house.judged().released_ok is (role.attests == COUNTS)


def test_attesting_a_held_call(house: House, role: Role) -> None:
    house.hold(**policy_of(role))
    house.revoke("eve")
    assert is_told(role.attests, say(house, role, "attest"))
    result = house.run(make_reply("# Report"), resume=True, **policy_of(role))
    counts = role.attests == COUNTS
    assert (house.paid, result.outcome) == ((["bank"], "done") if counts else ([], "held"))


def test_rejecting_an_output(house: House, role: Role) -> None:
    house.finish(**policy_of(role))
    house.revoke("eve")
    assert is_told(role.rejects, say(house, role, "reject"))
    counts = role.rejects == COUNTS
    assert bool(house.judged().rejected) is counts
    assert not house.judged().released_ok


def test_rejecting_a_held_call(house: House, role: Role) -> None:
    house.hold(**policy_of(role))
    house.revoke("eve")
    assert is_told(role.rejects, say(house, role, "reject"))
    result = house.run(make_reply("# Report"), resume=True, **policy_of(role))
    assert (house.paid, result.outcome) == ([], "done" if role.rejects == COUNTS else "held")


def test_releasing_after_it(house: House, role: Role, tmp_path: Path) -> None:
    house.finish(**policy_of(role))
    house.revoke("eve")
    say(house, role, "attest")
    out = tmp_path / "report.md"
    outbox = Outbox(house.ledger, now=house.clock.now)
    if role.attests == COUNTS:
        outbox.release("s", ToFile(out))
        assert out.read_text() == "# Report"
        return
    with pytest.raises(NotReleasedError):
        outbox.release("s", ToFile(out))
    assert not out.exists()


def test_releasing_after_a_rejection(house: House, role: Role, tmp_path: Path) -> None:
    """Each says no, then somebody who may says yes: a rejection that counts stands against anybody else's word."""
    house.finish(**policy_of(role))
    house.revoke("eve")
    say(house, role, "reject")
    yes = "ben" if role.policy == {} else "ann"
    same_person = yes == role.name and role.rejects == COUNTS
    house.clock.move(1)
    house.surface.attest("s", yes, reviewer_key=house.keys[yes])
    allowed = same_person or role.rejects != COUNTS
    out = tmp_path / "report.md"
    if allowed:
        assert Outbox(house.ledger, now=house.clock.now).release("s", ToFile(out)).is_new
        return
    with pytest.raises(NotReleasedError) as caught:
        Outbox(house.ledger, now=house.clock.now).release("s", ToFile(out))
    assert caught.value.rejected
