from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from donewhen.usage import Price, Rates, Usage

TOKENS = st.integers(0, 10**7)
RATES = st.builds(
    lambda a, b, c, d: Rates(input=a, output=b, cache_read=c, cache_write=d), *[st.integers(0, 10**8)] * 4
)
USAGES = st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    starts = sorted(draw(st.sets(st.integers(1, 10**6), max_size=2)))
    tiers = tuple((start, draw(RATES)) for start in [0, *starts])
    return Price(model="m", tiers=tiers, source="a test", as_of="2026-01-01")


CHEAP = Rates(input=3_000_000, output=15_000_000, cache_read=300_000, cache_write=3_750_000)
DEAR = Rates(input=6_000_000, output=22_500_000, cache_read=600_000, cache_write=7_500_000)
TIERED = Price(model="m", tiers=((0, CHEAP), (200_000, DEAR)), source="a test", as_of="2026-01-01")


def test_a_usage_counts_every_kind_once() -> None:
    usage = Usage(1, 20, 300, 4000)
    assert (usage.all_input, usage.total) == (4301, 4321)


def test_a_cost_is_the_sum_over_the_kinds() -> None:
    assert TIERED.cost_microusd(Usage(1000, 100, 10_000, 400)) == 3000 + 1500 + 3000 + 1500


def test_a_fraction_of_a_microusd_is_rounded_up() -> None:
    assert TIERED.cost_microusd(Usage(0, 0, 1)) == 1
    assert TIERED.cost_microusd(Usage(0, 0)) == 0


def test_a_call_is_charged_whole_at_the_tier_of_all_its_input() -> None:
    assert TIERED.cost_microusd(Usage(199_999, 0)) == 599_997
    assert TIERED.cost_microusd(Usage(0, 0, 200_000)) == 120_000
    assert TIERED.cost_microusd(Usage(199_999, 0, 0, 1)) == 1_200_002


@given(prices(), USAGES)
def test_no_call_costs_more_than_the_most_that_was_said(price, usage) -> None:
    cost = price.cost_microusd(usage)
    assert cost <= price.most_microusd(usage.all_input, usage.output_tokens)
    assert isinstance(cost, int)


@given(prices(), TOKENS, TOKENS, TOKENS)
def test_less_input_and_output_never_cost_more_than_the_most(price, tokens, output, fewer) -> None:
    fewer = min(tokens, fewer)
    assert price.most_microusd(fewer, output) <= price.most_microusd(tokens, output)


@given(prices(), TOKENS, st.integers(0, 10**10))
def test_what_can_be_paid_for_fits_and_no_more_does(price, tokens, budget) -> None:
    most = price.most_output_tokens(tokens, budget)
    if most is None:
        assert price.most_microusd(tokens, 10**9) <= budget
    elif most < 0:
        assert price.most_microusd(tokens, 0) > budget
    else:
        assert price.most_microusd(tokens, most) <= budget
        dearest = max(rates.output for start, rates in price.tiers if start <= tokens)
        left = budget - price.most_microusd(tokens, 0)
        assert Fraction((most + 1) * dearest, 10**6) > left
