"""The fingerprint of what rows say: two sets of rows have the same one only if they are the same."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from donewhen.verify.listed import Listed

SETS = st.sets(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.integers(1, 9)), max_size=8)


def fingerprint(rows: set[tuple[str, int, int]]) -> int:
    listed = Listed(Random(7).randbytes)
    for session, seq, row_id in rows:
        listed.add({"session": session, "seq": seq, "id": row_id})
    return listed.rows


@given(SETS, SETS)
def test_two_sets_have_one_fingerprint_only_if_they_are_one(
    one: set[tuple[str, int, int]], two: set[tuple[str, int, int]]
) -> None:
    assert (fingerprint(one) == fingerprint(two)) == (one == two)
