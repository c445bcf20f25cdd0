from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import genai_prices
import pytest
from genai_prices.data import providers
from genai_prices.types import ClauseEquals, ConditionalPrice, ModelInfo, ModelPrice, Provider, Tier, TieredPrices

from donewhen import prices
from donewhen.errors import MissingExtraError
from donewhen.prices import find_price
from donewhen.usage import Rates, Usage

DAY = date(2026, 11, 1)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    yield
    prices._find_price.cache_clear()
    prices._load_list.cache_clear()


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[ModelInfo]:
    """A list of our own, in which the test names the models."""
    models: list[ModelInfo] = []
    ours = Provider(id="ours", name="ours", api_pattern="ours", models=models)
    monkeypatch.setattr("genai_prices.data.providers", [ours])
    prices._find_price.cache_clear()
    prices._load_list.cache_clear()
    return models


def model(prices: ModelPrice | list[ConditionalPrice]) -> ModelInfo:
    return ModelInfo(id="m", match=ClauseEquals("m"), prices=prices)


def test_a_known_model_has_a_price_with_its_source_and_day() -> None:
    price = find_price("claude-sonnet-4-6", on=DAY)
    assert price is not None
    assert (price.source, price.as_of) == (f"genai-prices {genai_prices.__version__}", "2026-11-01")
    assert price.tiers[0] == (0, Rates(input=3_000_000, output=15_000_000, cache_read=300_000, cache_write=6_000_000))


def test_a_price_agrees_with_the_package_for_text() -> None:
    price = find_price("gpt-5", provider="openai", on=DAY)
    theirs = genai_prices.calc_price(genai_prices.Usage(input_tokens=1000, output_tokens=500), "gpt-5")
    assert price is not None
    assert price.cost_microusd(Usage(1000, 500)) == theirs.total_price * 1_000_000


def test_an_unknown_model_has_none() -> None:
    assert find_price("a-model-that-nobody-made") is None
    assert find_price("claude-sonnet-4-6", provider="nobody") is None


def test_a_day_makes_a_difference() -> None:
    before, after = find_price("o3", on=date(2025, 6, 9)), find_price("o3", on=date(2025, 6, 10))
    assert before is not None
    assert after is not None
    assert (before.tiers[0][1].input, after.tiers[0][1].input) == (10_000_000, 2_000_000)


def test_every_price_of_the_list_can_be_read() -> None:
    names = {info.id for provider in providers for info in provider.models}
    found = [price for provider in providers for info in provider.models if (price := _find(info, provider))]
    assert len(found) > len(names) / 2
    assert all(rate >= 0 for price in found for _, r in price.tiers for rate in (r.input, r.output, r.cache_read))


def _find(info: ModelInfo, provider: Provider) -> prices.Price | None:
    return find_price(info.id, provider=provider.id, on=DAY)


def test_a_long_context_costs_more_from_its_first_token_above(listed: list[ModelInfo]) -> None:
    tiered = TieredPrices(base=Decimal(1), tiers=[Tier(start=200, price=Decimal(2))])
    listed.append(model(ModelPrice(input_mtok=tiered, output_mtok=Decimal(5))))
    price = find_price("m", provider="ours")
    assert price is not None
    assert [(start, rates.input, rates.output) for start, rates in price.tiers] == [
        (0, 1_000_000, 5_000_000),
        (201, 2_000_000, 5_000_000),
    ]
    assert [price.cost_microusd(Usage(tokens, 0)) for tokens in (200, 201)] == [200, 402]


def test_a_missing_cache_rate_is_the_input_rate(listed: list[ModelInfo]) -> None:
    listed.append(model(ModelPrice(input_mtok=Decimal(3), output_mtok=Decimal(5))))
    price = find_price("m", provider="ours")
    assert price is not None
    assert price.tiers[0][1] == Rates(input=3_000_000, output=5_000_000, cache_read=3_000_000, cache_write=3_000_000)


def test_the_dearest_hour_counts() -> None:
    price = find_price("deepseek-chat", provider="deepseek", on=DAY)
    assert price is not None
    assert price.tiers[0][1].output == 1_100_000


def test_rates_are_rounded_up(listed: list[ModelInfo]) -> None:
    listed.append(model(ModelPrice(input_mtok=Decimal("0.0000001"), output_mtok=Decimal("0.0000011"))))
    price = find_price("m", provider="ours")
    assert price is not None
    assert (price.tiers[0][1].input, price.tiers[0][1].output) == (1, 2)


def test_a_model_that_is_free_has_a_price_of_nothing(listed: list[ModelInfo]) -> None:
    listed.append(model(ModelPrice(input_mtok=Decimal(0), output_mtok=Decimal(0))))
    price = find_price("m", provider="ours")
    assert price is not None
    assert price.cost_microusd(Usage(1000, 1000)) == 0


@pytest.mark.parametrize(
    "partial",
    [
        ModelPrice(),
        ModelPrice(input_mtok=Decimal(1)),
        ModelPrice(output_mtok=Decimal(1)),
        ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(1), requests_kcount=Decimal(5)),
    ],
)
def test_a_price_that_would_not_cover_a_call_is_none(listed: list[ModelInfo], partial: ModelPrice) -> None:
    listed.append(model(partial))
    assert find_price("m", provider="ours") is None


def test_a_model_without_any_price_has_none(listed: list[ModelInfo]) -> None:
    listed.append(model([]))
    assert find_price("m", provider="ours") is None


def test_a_list_that_somebody_else_put_in_place_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from genai_prices.data_snapshot import DataSnapshot, set_custom_snapshot

    set_custom_snapshot(DataSnapshot(providers=[], from_auto_update=True))
    try:
        assert find_price("gpt-5", on=DAY) is not None
    finally:
        set_custom_snapshot(None)


def test_a_price_is_looked_up_once() -> None:
    assert find_price("gpt-5", on=DAY) is find_price("gpt-5", on=DAY)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    prices._find_price.cache_clear()
    prices._load_list.cache_clear()
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(MissingExtraError, match=r"donewhen\[prices\]"):
        find_price("gpt-5")
