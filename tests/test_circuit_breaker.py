"""The breaker's arithmetic, its notice, and its refusals."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from donewhen.balance import CEILING_NAMES, Breach, Ceilings
from donewhen.circuit_breaker import LARGEST_LIMIT, REASONS, CircuitBreaker, first_breach
from donewhen.errors import CircuitBreakerError

FULL = Ceilings(5, 100, 1_000, 3, 2_000, 3)
WITHIN = {"cost_microusd": 1_000, "seconds": 2.0, "tool_calls": 3, "repeats": 2}


def breaker(notices: list[str], ceilings: Ceilings = FULL) -> CircuitBreaker:
    return CircuitBreaker.from_ceilings(ceilings, notices.append)


def tripped_by(breaker: CircuitBreaker, turns: int = 1, tokens: int = 1, **amounts: Any) -> CircuitBreakerError:
    with pytest.raises(CircuitBreakerError) as caught:
        breaker.check(turns, tokens, **amounts)
    return caught.value


class TestTheTutorialsBreaker:
    def test_the_defaults_are_five_turns_and_fifteen_thousand_tokens(self) -> None:
        assert (CircuitBreaker().turn_limit, CircuitBreaker().token_limit) == (5, 15_000)

    def test_only_turns_and_tokens_have_a_ceiling_by_default(self) -> None:
        made = CircuitBreaker()
        assert (made.cost_limit_microusd, made.seconds_limit, made.tool_call_limit, made.repeat_limit) == (None,) * 4

    def test_the_edge_itself_passes(self, capsys: pytest.CaptureFixture[str]) -> None:
        CircuitBreaker().check(5, 15_000)
        assert capsys.readouterr().out == ""

    def test_one_turn_more_trips_the_turn_ceiling(self) -> None:
        error = tripped_by(CircuitBreaker(), 6, 1_000)
        assert (error.reason, error.turn_count, error.accumulated_tokens) == ("turn_ceiling", 6, 1_000)

    def test_one_token_more_trips_the_token_ceiling(self) -> None:
        error = tripped_by(CircuitBreaker(), 2, 15_001)
        assert (error.reason, error.turn_count, error.accumulated_tokens) == ("token_ceiling", 2, 15_001)

    def test_turns_are_told_before_tokens(self) -> None:
        assert tripped_by(CircuitBreaker(), 6, 15_001).reason == "turn_ceiling"

    def test_the_notice_is_printed_before_the_error_is_raised(self, capsys: pytest.CaptureFixture[str]) -> None:
        tripped_by(CircuitBreaker(), 6, 1_000)
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "=== CIRCUIT BREAKER CHECKPOINT ==="
        assert lines[1] == "Reason: turn_ceiling"
        assert lines[2].endswith(" 6 / limit 5")
        assert lines[3].endswith(" 1000 / limit 15000")
        assert lines[4].startswith("Action: ")
        assert len(lines) == 5

    def test_zero_allows_none(self) -> None:
        assert tripped_by(CircuitBreaker(0, 0), 1, 0).reason == "turn_ceiling"
        assert tripped_by(CircuitBreaker(1, 0), 1, 1).reason == "token_ceiling"
        CircuitBreaker(0, 0).check(0, 0)

    @pytest.mark.parametrize("copied", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])
    def test_the_error_survives_copying(self, copied: Any) -> None:
        error = tripped_by(CircuitBreaker(output_fn=[].append), 6, 1_000)
        twin = copied(error)
        assert (twin.reason, twin.turn_count, twin.accumulated_tokens) == ("turn_ceiling", 6, 1_000)
        assert (twin.breach, str(twin)) == (error.breach, str(error))

    def test_the_error_can_be_hashed(self) -> None:
        error = tripped_by(CircuitBreaker(output_fn=[].append), 6, 1_000)
        assert isinstance(hash(error), int)


class TestOtherCeilings:
    def test_all_edges_pass_together(self) -> None:
        notices: list[str] = []
        breaker(notices).check(5, 100, **WITHIN)
        assert notices == []

    @pytest.mark.parametrize(
        ("over", "reason", "shown"),
        [
            ({"cost_microusd": 1_001}, "cost_ceiling", "1001 spent, ceiling 1000 cost_microusd"),
            ({"seconds": 2.001}, "time_ceiling", "2001 spent, ceiling 2000 milliseconds"),
            ({"tool_calls": 4}, "tool_call_ceiling", "4 spent, ceiling 3 tool_calls"),
            ({"repeats": 3}, "no_progress", "3 in a row / limit 3 repeats"),
        ],
    )
    def test_each_trips_and_the_notice_shows_what_tripped(
        self, over: Mapping[str, Any], reason: str, shown: str
    ) -> None:
        notices: list[str] = []
        error = tripped_by(breaker(notices), **{**WITHIN, **over})
        assert error.reason == reason
        assert shown in notices[0]
        assert f"Reason: {reason}" in notices[0]
        assert "1 / limit 5" in notices[0]
        assert "1 / limit 100" in notices[0]

    def test_they_are_judged_in_a_fixed_order(self) -> None:
        worst = {"cost_microusd": 9_999, "seconds": 99.0, "tool_calls": 99, "repeats": 99}
        seen: list[str] = []
        for mended in [{}, {"cost_microusd": 0}, {"seconds": 0}, {"tool_calls": 0}]:
            worst |= mended
            seen.append(tripped_by(breaker([]), **worst).reason)
        assert seen == ["cost_ceiling", "time_ceiling", "tool_call_ceiling", "no_progress"]

    @pytest.mark.parametrize("missing", sorted(WITHIN))
    def test_an_amount_that_is_not_given_is_no_pass(self, missing: str) -> None:
        given_amounts = {name: amount for name, amount in WITHIN.items() if name != missing}
        dimension = "milliseconds" if missing == "seconds" else missing
        with pytest.raises(ValueError, match=dimension):
            breaker([]).check(1, 1, **given_amounts)  # pyright: ignore[reportArgumentType]  one of them is a float

    def test_an_amount_without_a_ceiling_is_not_judged(self) -> None:
        notices: list[str] = []
        CircuitBreaker(output_fn=notices.append).check(1, 1, cost_microusd=10**12, seconds=1e9, tool_calls=9, repeats=9)
        assert notices == []

    def test_time_is_counted_in_whole_milliseconds_against_the_session(self) -> None:
        made = CircuitBreaker(seconds_limit=1.0019, output_fn=[].append)
        assert (made.ceilings.milliseconds, made.seconds_limit) == (1_001, 1.001)
        made.check(1, 1, seconds=1.001)
        assert tripped_by(made, seconds=1.0011).reason == "time_ceiling"

    @example(8_430_012_790)
    @example(8_430_012_788)
    @given(st.integers(0, 10**10) | st.integers(0, 10**12))
    def test_a_whole_millisecond_is_read_exactly(self, milliseconds: int) -> None:
        made = CircuitBreaker(seconds_limit=milliseconds / 1000)
        assert made.ceilings.milliseconds == milliseconds
        made.check(1, 1, seconds=milliseconds / 1000)


class TestBadNumbers:
    @pytest.mark.parametrize("name", ["turn_limit", "token_limit"])
    @pytest.mark.parametrize("bad", [-1, True, 5.0, float("nan"), None, "5", LARGEST_LIMIT + 1, sys.maxsize])
    def test_a_bad_limit_is_refused_by_name_and_value(self, name: str, bad: Any) -> None:
        with pytest.raises(ValueError, match=name) as caught:
            CircuitBreaker(**{name: bad})
        assert repr(bad) in str(caught.value)

    @pytest.mark.parametrize("name", ["cost_limit_microusd", "tool_call_limit", "repeat_limit"])
    @pytest.mark.parametrize("bad", [-1, True, 5.0, "5", LARGEST_LIMIT + 1])
    def test_a_bad_keyword_limit_is_refused_by_name_and_value(self, name: str, bad: Any) -> None:
        with pytest.raises(ValueError, match=name) as caught:
            CircuitBreaker(**{name: bad})
        assert repr(bad) in str(caught.value)

    @pytest.mark.parametrize("bad", [-1, -0.001, True, "5", float("nan"), float("inf"), 1e300, 10**400])
    def test_a_bad_time_limit_is_refused_by_name_and_value(self, bad: Any) -> None:
        with pytest.raises(ValueError, match="seconds_limit") as caught:
            CircuitBreaker(seconds_limit=bad)
        assert repr(bad) in str(caught.value)

    @pytest.mark.parametrize("bad", [0, 1])
    def test_fewer_than_two_repeats_repeat_nothing(self, bad: int) -> None:
        with pytest.raises(ValueError, match=f"repeat_limit must be from 2 .* not {bad}"):
            CircuitBreaker(repeat_limit=bad)

    @pytest.mark.parametrize("name", ["turn_count", "accumulated_tokens"])
    @pytest.mark.parametrize("bad", [-1, True, 1.5, float("nan"), None, "1"])
    def test_a_count_that_is_no_number_is_no_pass(self, name: str, bad: Any) -> None:
        with pytest.raises(ValueError, match=name):
            CircuitBreaker().check(**{"turn_count": 1, "accumulated_tokens": 1, name: bad})

    @pytest.mark.parametrize("name", sorted(WITHIN))
    @pytest.mark.parametrize("bad", [-1, True, float("nan"), "1"])
    def test_an_amount_that_is_no_number_is_no_pass(self, name: str, bad: Any) -> None:
        with pytest.raises(ValueError, match=name):
            CircuitBreaker().check(1, 1, **{name: bad})


class TestTheNotice:
    def test_it_is_told_without_raising(self) -> None:
        notices: list[str] = []
        breach = Breach(reason="token_ceiling", dimension="tokens", ceiling=100, spent=60, reserved=30, asked=20)
        breaker(notices).tell(breach, 3, 90)
        assert "90 / limit 100" in notices[0]
        assert "60 spent, 30 reserved, 20 asked for, ceiling 100 tokens" in notices[0]

    def test_it_names_the_shared_budget(self) -> None:
        notices: list[str] = []
        breach = Breach(reason="turn_ceiling", dimension="turns", ceiling=9, spent=10, budget="team")
        breaker(notices).tell(breach, 2, 10)
        assert "10 spent, ceiling 9 turns of the budget team" in notices[0]

    @pytest.mark.parametrize("reason", REASONS.values())
    def test_every_reason_has_an_action(self, reason: str) -> None:
        notices: list[str] = []
        breaker(notices).tell(Breach(reason=reason, dimension="turns", ceiling=0, spent=1), 1, 1)
        assert notices[0].splitlines()[-1].removeprefix("Action: ").strip()

    def test_a_notice_that_cannot_be_shown_does_not_hide_the_breach(self) -> None:
        def closed(_: str) -> None:
            raise BrokenPipeError("nobody reads")

        error = tripped_by(CircuitBreaker(output_fn=closed), 6, 1)
        assert isinstance(error.__cause__, BrokenPipeError)


class TestTheValue:
    def test_it_is_rebuilt_from_its_ceilings(self) -> None:
        assert CircuitBreaker.from_ceilings(FULL).ceilings == FULL
        assert CircuitBreaker.from_ceilings(CircuitBreaker().ceilings) == CircuitBreaker()

    @pytest.mark.parametrize("missing", [Ceilings(turns=5), Ceilings(tokens=5), Ceilings()])
    def test_turns_and_tokens_always_have_a_ceiling(self, missing: Ceilings) -> None:
        with pytest.raises(ValueError, match="_limit must be a whole number, not None"):
            CircuitBreaker.from_ceilings(missing)

    def test_its_keywords_are_its_attributes(self) -> None:
        limits = {"cost_limit_microusd": 7, "seconds_limit": 1.5, "tool_call_limit": 8, "repeat_limit": 9}
        made = CircuitBreaker(1, 2, **limits)  # pyright: ignore[reportArgumentType]  one of them is a float
        assert {name: getattr(made, name) for name in limits} == limits
        assert made.ceilings == Ceilings(1, 2, 7, 8, 1_500, 9)

    def test_it_cannot_be_changed(self) -> None:
        with pytest.raises(AttributeError):
            CircuitBreaker().turn_limit = 10**6  # pyright: ignore[reportAttributeAccessIssue]  that is the test

    def test_its_text_is_the_call_that_makes_it(self) -> None:
        made = CircuitBreaker(1, 2, seconds_limit=1.5, repeat_limit=3)
        assert repr(made) == "CircuitBreaker(turn_limit=1, token_limit=2, seconds_limit=1.5, repeat_limit=3)"
        assert eval(repr(made)) == made

    def test_it_can_be_pickled_and_hashed(self) -> None:
        twin = pickle.loads(pickle.dumps(CircuitBreaker(7)))
        assert (twin, hash(twin)) == (CircuitBreaker(7), hash(CircuitBreaker(7)))


class TestFirstBreach:
    def test_every_ceiling_has_a_reason(self) -> None:
        assert sorted(REASONS) == sorted(CEILING_NAMES)

    def test_no_ceilings_no_breach(self) -> None:
        assert first_breach(Ceilings(), {}) is None

    def test_it_carries_the_arithmetic(self) -> None:
        breach = first_breach(Ceilings(tokens=10), {"tokens": (5, 3, 3)}, budget="team")
        assert breach == Breach(
            reason="budget:team:token_ceiling",
            dimension="tokens",
            ceiling=10,
            spent=5,
            reserved=3,
            asked=3,
            budget="team",
        )

    @pytest.mark.parametrize("unknown", [(None, 0, 0), (0, None, 0), (0, 0, None)])
    def test_an_unknown_part_is_no_pass(self, unknown: tuple[int | None, int | None, int | None]) -> None:
        with pytest.raises(ValueError, match="the amount of cost_microusd is not known"):
            first_breach(Ceilings(cost_microusd=5), {"cost_microusd": unknown})

    @given(*(st.integers(0, 50),) * 4, st.sampled_from(["turns", "tokens", "cost_microusd", "milliseconds"]))
    def test_what_passes_never_adds_up_to_more_than_the_ceiling(
        self, spent: int, reserved: int, asked: int, ceiling: int, dimension: str
    ) -> None:
        breach = first_breach(Ceilings(**{dimension: ceiling}), {dimension: (spent, reserved, asked)})
        assert (breach is not None) == (spent + reserved + asked > ceiling)

    @given(st.integers(0, 20), st.integers(2, 20))
    def test_n_in_a_row_are_no_progress(self, repeats: int, ceiling: int) -> None:
        breach = first_breach(Ceilings(repeats=ceiling), {"repeats": (repeats, 0, 0)})
        assert (breach is not None) == (repeats >= ceiling)
