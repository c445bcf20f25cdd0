"""Which keys count at which place of a log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.entry import LOG_SESSION, LedgerRow
from donewhen.errors import LedgerTamperedError
from donewhen.keyring import Keyring, same_name
from donewhen.notes import LocalSigner

FIRST, SECOND, THIRD, ADA, BOB = (LocalSigner(name, bytes([n]) * 32).vkey for n, name in enumerate("abcde"))


def key_row(row_id: int, *, session_id: str = LOG_SESSION, kind: str = "key", **data: Any) -> LedgerRow:
    return LedgerRow(
        row_id, session_id, 0, kind, "", 0, 0, True, None, f"2026-01-01T00:00:{row_id:02}+00:00", kind=kind, data=data
    )


def enroll(row_id: int, vkey: str, name: str) -> LedgerRow:
    return key_row(row_id, action="enroll", vkey=vkey, name=name, who="me", made_by="ada@laptop")


def revoke(row_id: int, vkey: str) -> LedgerRow:
    return key_row(row_id, action="revoke", vkey=vkey, who="me", why="left")


def rotate(row_id: int, old: str, vkey: str) -> LedgerRow:
    return key_row(row_id, action="rotate", vkey=vkey, old=old, who="me", why="yearly")


# -- reviewers ---------------------------------------------------------------------------------------------------------


def test_a_reviewer_counts_after_the_row_that_enrols_and_until_the_row_that_revokes() -> None:
    keyring = Keyring([enroll(3, ADA, "Ada"), revoke(7, ADA)])
    assert [bool(keyring.reviewers_at(place)) for place in (1, 3, 4, 7, 8)] == [False, False, True, True, False]
    assert keyring.reviewers_at(5) == {ADA: "Ada"}
    assert keyring.reviewers_at() == {}


def test_a_name_is_known_after_its_key_is_revoked() -> None:
    keyring = Keyring([enroll(3, ADA, "Ada"), revoke(7, ADA)])
    assert keyring.name_of(ADA) == "Ada"
    assert keyring.name_of(BOB) is None
    revoked = keyring.revocation_of(ADA)
    assert revoked is not None
    assert (revoked.row_id, revoked.why, revoked.who, revoked.at) == (7, "left", "me", "2026-01-01T00:00:07+00:00")
    enrolled = keyring.enrolment_of(ADA)
    assert enrolled is not None
    assert (enrolled.row_id, enrolled.made_by, enrolled.name) == (3, "ada@laptop", "Ada")
    assert keyring.revocation_of(BOB) is keyring.enrolment_of(BOB) is None


def test_a_key_is_found_by_its_reviewers_name_however_it_is_spelled() -> None:
    keyring = Keyring([enroll(3, ADA, "Ada Å"), revoke(7, ADA), enroll(8, BOB, "Ada Å")])
    assert keyring.key_of(" ada A\u030a ", 7) == ADA
    assert keyring.key_of("ADA Å") == BOB
    assert keyring.key_of("Eve") is None
    assert same_name("Ada") != same_name("Eva")


def test_whether_anybody_was_ever_enrolled_is_a_question_of_the_place_too() -> None:
    keyring = Keyring([enroll(3, ADA, "Ada"), revoke(4, ADA)])
    assert [keyring.ever_enrolled(place) for place in (3, 4, 5, None)] == [False, True, True, True]
    assert not Keyring([rotate(3, FIRST, SECOND)]).ever_enrolled()


actions = st.lists(st.tuples(st.sampled_from(["enroll", "revoke"]), st.sampled_from([ADA, BOB, THIRD])), max_size=12)


@given(actions, st.integers(1, 14))
def test_the_reviewers_at_a_place_are_what_the_rows_before_it_leave(steps: list[tuple[str, str]], place: int) -> None:
    rows = [
        enroll(n, vkey, f"{vkey} {n}") if action == "enroll" else revoke(n, vkey)
        for n, (action, vkey) in enumerate(steps, start=1)
    ]
    expected: dict[str, str] = {}
    for n, (action, vkey) in enumerate(steps[: place - 1], start=1):
        if action == "enroll":
            expected[vkey] = f"{vkey} {n}"
        else:
            expected.pop(vkey, None)
    assert Keyring(rows).reviewers_at(place) == expected


# -- the log's keys ----------------------------------------------------------------------------------------------------


def test_each_key_of_a_log_signs_from_the_checkpoint_after_its_rotation() -> None:
    keyring = Keyring([rotate(5, FIRST, SECOND), enroll(6, ADA, "Ada"), rotate(9, SECOND, THIRD)])
    assert keyring.log_keys(FIRST) == [(0, FIRST), (6, SECOND), (10, THIRD)]
    assert keyring.current_log_key(FIRST) == THIRD
    assert [keyring.log_key_at(size, FIRST) for size in (0, 5, 6, 9, 10, 99)] == [
        *[FIRST, FIRST, SECOND, SECOND, THIRD, THIRD]
    ]


def test_a_log_without_a_key_has_none() -> None:
    keyring = Keyring([enroll(6, ADA, "Ada")])
    assert (keyring.log_keys(None), keyring.current_log_key(None), keyring.log_key_at(3, None)) == ([], None, None)


@pytest.mark.parametrize(
    ("first", "rows", "row_id"),
    [
        (FIRST, [rotate(5, SECOND, THIRD)], 5),
        (None, [rotate(5, FIRST, SECOND)], 5),
        (FIRST, [rotate(5, FIRST, SECOND), rotate(7, FIRST, THIRD)], 7),
    ],
)
def test_a_rotation_that_does_not_start_from_the_key_before_is_refused(
    first: str | None, rows: list[LedgerRow], row_id: int
) -> None:
    with pytest.raises(LedgerTamperedError, match="a rotation starts from the key") as caught:
        Keyring(rows).log_keys(first)
    assert caught.value.row_id == row_id


# -- what is no key row ------------------------------------------------------------------------------------------------


def test_rows_that_are_not_about_keys_are_passed_over() -> None:
    own, others = enroll(3, ADA, "Ada"), [key_row(1, kind="write"), key_row(2, session_id="s", action="enroll")]
    keyring = Keyring(iter([*others, own]))
    assert keyring.rows == (own,)
    assert keyring == Keyring([own])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "does what no key row can: None"),
        ({"action": "promote", "vkey": ADA}, "does what no key row can: 'promote'"),
        ({"action": ["enroll"]}, "does what no key row can"),
        ({"action": "enroll", "vkey": ADA, "name": 7, "who": "me"}, "does what no key row can"),
        ({"action": "enroll", "vkey": ADA, "who": "me"}, "to enroll lacks name"),
        ({"action": "enroll", "vkey": ADA, "name": "", "who": "me"}, "to enroll lacks name"),
        ({"action": "revoke", "vkey": ADA, "who": "me"}, "to revoke lacks why"),
        ({"action": "rotate", "vkey": ADA, "who": "me", "why": "x"}, "to rotate lacks old"),
        ({"action": "rotate", "vkey": ADA, "old": "x", "who": "me", "why": "x"}, "holds no key"),
        ({"action": "revoke", "vkey": "PRIVATE+KEY+x", "who": "me", "why": "x"}, "holds no key"),
    ],
)
def test_a_key_row_that_says_nothing_one_can_say_is_named(data: dict[str, Any], says: str) -> None:
    with pytest.raises(LedgerTamperedError, match=says) as caught:
        Keyring([key_row(4, **data)])
    assert caught.value.row_id == 4


class Record:
    """A store, or what has one."""

    def __init__(self, rows: Iterable[LedgerRow]) -> None:
        self._rows = list(rows)
        self.store = self

    def read_session(self, session_id: str, kinds: Any = None) -> list[LedgerRow]:
        assert (session_id, kinds) == (LOG_SESSION, ("key",))
        return self._rows


def test_a_keyring_is_read_from_a_store_or_what_has_one() -> None:
    record = Record([enroll(3, ADA, "Ada")])
    assert Keyring.read(record).reviewers_at() == {ADA: "Ada"}
