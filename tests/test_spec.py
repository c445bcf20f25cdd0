"""A spec as a value: its rules hold however it is made, and its terms survive the ledger."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from specs import PROMISE, SPECS, made

from donewhen import canonical
from donewhen.balance import Ceilings
from donewhen.errors import SpecError
from donewhen.spec import Review, Spec
from donewhen.spec_record import Record
from donewhen.spec_writer import SpecResult


class TestTheValue:
    @pytest.mark.parametrize(
        ("wrong", "key"),
        [
            ({"ceilings": Ceilings(turns=5)}, "ceilings.tokens"),
            ({"ceilings": Ceilings(tokens=5)}, "ceilings.turns"),
            ({"ceilings": {"turns": 5}}, "ceilings"),
            ({"what_it_does": "a\0b"}, "what_it_does"),
            ({"what_it_does": "caf\udce9"}, "what_it_does"),
            ({"what_it_does": None}, "what_it_does"),
            ({"done_when": ({"check": "human", "criterion": "x", "name": None},)}, "done_when[1].name"),
            ({"done_when": ({"check": "human", "criterion": "x", 5: 5},)}, "done_when[1]"),
        ],
    )
    def test_one_made_in_python_is_held_to_the_same(self, wrong: dict[str, Any], key: str) -> None:
        with pytest.raises(SpecError) as caught:
            made(**wrong)
        assert (caught.value.field, caught.value.path) == (key, None)

    def test_a_later_change_from_outside_does_not_reach_it(self) -> None:
        command = ["make"]
        spec = made(done_when=[{"check": "shell", "command": command}])
        command.append("spend")
        assert spec.done_when == ({"check": "shell", "command": ["make"]},)

    def test_its_promise_is_the_promise_of_a_session(self) -> None:
        assert made().result("an-id") == SpecResult(*PROMISE.values(), session_id="an-id")

    @pytest.mark.parametrize(
        "change",
        [
            {"extra": 1},
            {"ceilings": {"turn": 5}},
            {"ceilings": 5},
            {"review": {"quorum": 0}},
            {"done_when": [{"$number": "x"}]},
            {"done_when": None},
            {"record": None},
            {"record": {"to": "x"}},
            {"record": {"witnesses": [{}]}},
        ],
    )
    def test_other_terms_are_refused(self, change: dict[str, object]) -> None:
        with pytest.raises(SpecError):
            Spec.from_terms(made().result("s"), {**made().terms(), **change})

    def test_what_is_not_said_of_the_review_leaves_the_terms_as_they_always_were(self) -> None:
        assert made().terms()["review"] == {"quorum": 1, "reviewers": [], "expiry_hours": None}
        said = made(review=Review(own_work=True, signed=False)).terms()["review"]
        assert said == {"quorum": 1, "reviewers": [], "expiry_hours": None, "own_work": True, "signed": False}

    def test_one_that_says_nothing_of_the_record_has_the_terms_it_always_had(self) -> None:
        assert "record" not in made().terms()
        assert made(record=Record()).terms() == made().terms()
        assert made(record=Record(checkpoint_to=("a",))).terms()["record"] == {"checkpoint_to": ["a"]}

    @given(SPECS)
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_terms_survive_a_row_of_the_ledger(self, spec: Spec) -> None:
        kept = canonical.loads(canonical.dumps(spec.terms()))
        assert Spec.from_terms(spec.result("s"), kept) == spec
