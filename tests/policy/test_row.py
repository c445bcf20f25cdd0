"""A session's policy: made of its spec, fixed when it opens, read back strictly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from reviews import STARTER, House

from donewhen.agent_loop import AgentLoop
from donewhen.circuit_breaker import CircuitBreaker
from donewhen.entry import LedgerRow
from donewhen.errors import LedgerFormatError, SpecError
from donewhen.keyring import Keyring
from donewhen.ledger import Ledger
from donewhen.opening import open_session
from donewhen.policy import Policy, policy_data, policy_of
from donewhen.spec_writer import SpecResult
from donewhen.testing import ScriptedClient, make_reply

NOBODY = Keyring(())


@pytest.fixture
def house(tmp_store: Path) -> Iterator[House]:
    made = House(tmp_store)
    yield made
    made.close()


def row(kind: str, data: Mapping[str, Any]) -> LedgerRow:
    return LedgerRow(1, "s", 0, kind, "", 0, 0, True, None, "2026-01-01T00:00:00+00:00", 1, kind, "0" * 64, data=data)


def test_it_stands_before_the_row_that_opens_the_session_in_the_same_commit(house: House) -> None:
    house.finish(quorum=1, reviewers=("ann", "ben"), expiry_hours=72)
    assert [one.kind for one in house.rows()][:3] == ["spec", "policy", "open"]
    [policy] = house.rows("policy")
    assert policy.data == {
        "quorum": 1,
        "reviewers": [{"name": "ann", "vkey": None}, {"name": "ben", "vkey": None}],
        "expiry_hours": 72,
        "own_work": False,
        "named": True,
        "started_by": STARTER,
    }
    assert policy_of(house.rows()).data() == policy.data


def test_it_is_written_once_however_often_the_session_is_opened(house: House) -> None:
    house.hold()
    house.run(make_reply("x"), resume=True)
    assert (len(house.rows("open")), len(house.rows("policy"))) == (2, 1)


def test_each_reviewer_is_fixed_with_the_key_of_that_moment(house: House) -> None:
    house.enroll("ann")
    house.finish(reviewers=("ann", "ben"))
    policy = policy_of(house.rows())
    assert policy.reviewers == (("ann", house.keys["ann"].vkey), ("ben", None))
    house.revoke("ann")
    house.enroll("ben")
    assert policy_of(house.rows()) == policy


@pytest.mark.parametrize(
    ("signed", "enrolled", "named"),
    [(None, False, True), (None, True, False), (True, False, False), (False, True, True), (True, True, False)],
)
def test_a_name_is_enough_only_where_nobody_was_enrolled_or_the_spec_says_so(
    house: House, signed: bool | None, enrolled: bool, named: bool
) -> None:
    if enrolled:
        house.enroll("ann")
    house.finish(signed=signed)
    assert policy_of(house.rows()).named is named


def test_a_key_that_was_revoked_was_enrolled_all_the_same(house: House) -> None:
    house.enroll("ann")
    house.revoke("ann")
    house.finish()
    assert policy_of(house.rows()).named is False


def test_a_session_that_nobody_could_ever_release_is_not_opened(house: House) -> None:
    house.enroll("eve")
    with pytest.raises(SpecError, match="no key is enrolled for ann, ben, and attestations must be signed") as caught:
        house.finish(reviewers=("ann", "ben"))
    assert (caught.value.field, house.rows()) == ("review.reviewers", [])
    with pytest.raises(SpecError, match="no key is enrolled for ben"):
        house.finish(reviewers=("eve", "ben"), quorum=2)
    assert house.finish(reviewers=("eve", "ben")).success


def test_whoever_starts_it_can_be_named_by_a_service(tmp_store: Path) -> None:
    promise = SpecResult("a", "b", "c", "s")
    with Ledger(tmp_store) as ledger:
        open_session(promise, CircuitBreaker(), ledger, started_by="ann@example.com").leave()
        assert policy_of(ledger.rows("s")).started_by == "ann@example.com"
        breaker = CircuitBreaker(output_fn=lambda _: None)
        other = SpecResult("a", "b", "c", "t")
        client = ScriptedClient(make_reply("x"))
        AgentLoop(other, breaker, ledger, client, find_price=lambda _: None, started_by="ben").run("go")
        assert policy_of(ledger.rows("t")).started_by == "ben"
        with pytest.raises(ValueError, match="started_by contains NUL"):
            open_session(promise, CircuitBreaker(), ledger, started_by="\0")


def test_terms_without_a_word_on_the_review_are_the_default() -> None:
    for terms in (None, {}, {"review": None}, {"keep": "nothing"}):
        data = policy_data(terms, NOBODY, "me")
        assert data == Policy(named=True, started_by="me").data()


@pytest.mark.parametrize(
    "review", [{"quorum": 0}, {"reviewers": "ann"}, {"own_work": 1}, {"signed": "yes"}, {"votes": 1}, {1: 2}]
)
def test_terms_that_cannot_be_kept_are_refused(review: dict[Any, Any]) -> None:
    with pytest.raises(SpecError):
        policy_data({"review": review}, NOBODY, "me")


def test_a_session_opened_before_there_were_policy_rows_has_what_its_spec_agreed() -> None:
    terms = {"review": {"quorum": 2, "reviewers": ["ann", "ben"], "expiry_hours": 3}}
    for kind in ("spec", "open"):
        policy = policy_of([row("spec", {}), row(kind, {"terms": terms})])
        assert (policy.quorum, policy.reviewers, policy.expiry_hours) == (2, (("ann", None), ("ben", None)), 3)
        assert (policy.named, policy.started_by) == (None, "")


def test_rows_by_hand_have_the_default() -> None:
    assert policy_of([]) == policy_of([row("write", {})]) == Policy()
    assert (Policy().quorum, Policy().own_work, Policy().named) == (1, False, None)


GOOD = Policy(named=False, reviewers=(("ann", "v"),), started_by="me").data()
BAD: dict[str, dict[str, Any]] = {
    "no quorum": {"quorum": 0},
    "a quorum that is a bool": {"quorum": True},
    "more than there are": {"quorum": 2},
    "reviewers that are names": {"reviewers": ["ann"]},
    "reviewers that are no list": {"reviewers": 7},
    "a reviewer twice": {"reviewers": [{"name": "ann", "vkey": "v"}, {"name": "ann", "vkey": "w"}]},
    "a reviewer without a key field": {"reviewers": [{"name": "ann"}]},
    "a reviewer with more fields": {"reviewers": [{"name": "ann", "vkey": "v", "more": 1}]},
    "a key that is a number": {"reviewers": [{"name": "ann", "vkey": 1}]},
    "an expiry of nothing": {"expiry_hours": 0},
    "own work that is a number": {"own_work": 1},
    "named that is nothing": {"named": None},
    "a starter that is a number": {"started_by": 1},
    "one field more": {"votes": 1},
}


@pytest.mark.parametrize("name", BAD)
def test_a_policy_row_that_cannot_be_read_is_refused(name: str) -> None:
    assert policy_of([row("policy", GOOD)]).reviewers == (("ann", "v"),)
    with pytest.raises(LedgerFormatError, match="the policy in row 1 cannot be read"):
        policy_of([row("policy", {**GOOD, **BAD[name]})])


@pytest.mark.parametrize("name", GOOD)
def test_a_policy_row_without_one_of_its_fields_is_refused(name: str) -> None:
    with pytest.raises(LedgerFormatError):
        policy_of([row("policy", {field: value for field, value in GOOD.items() if field != name})])
