"""What a model costs, from the list in the package `genai-prices`.

The list that came with the package is read; nothing is fetched. Where it leaves a choice, the dearer side is taken,
since a cost ceiling must hold:

- A cache rate that is missing is the input rate. A cached token is an input token, and without a rate of its own
  nothing says that it is cheaper (or, written, that it costs more).
- Cache writes cost the rate of the longest lifetime, because usage does not say how long each was written for.
- Of prices that change with the hour, the dearest counts: a session may last past the hour.
- Output costs the rate of reasoning where that is dearer.

Prices are those of standard processing. Priority and fast tiers, searches, and audio cost extra and are not in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timezone
from decimal import ROUND_CEILING, Decimal
from functools import cache
from typing import TYPE_CHECKING

from donewhen.errors import MissingExtraError
from donewhen.usage import TOKENS_PER_PRICE_UNIT, Price, Rates

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice

_INPUT = ("input_mtok",)
_OUTPUT = ("output_mtok", "output_reasoning_mtok")
_CACHE_READ = ("cache_read_mtok",)
_CACHE_WRITE = ("cache_write_mtok", "cache_write_1h_mtok")


def find_price(model: str, *, provider: str | None = None, on: date | None = None) -> Price | None:
    """Return what a model costs, or None if that is not known.

    A model that is also charged by the request has no price here, as no rate for tokens would cover it.

    Args:
        model: the name, as it is sent to the provider.
        provider: the provider's name in the list, such as `anthropic`. None: found by the model's name.
        on: the day, in UTC. None: today.

    Raises:
        MissingExtraError: the package genai-prices is not installed.
    """
    return _find_price(model, provider, on or datetime.now(timezone.utc).date())


@cache
def _find_price(model: str, provider: str | None, on: date) -> Price | None:
    snapshot, version = _load_list()
    try:
        _, info = snapshot.find_provider_model(model, None, provider, None)
    except LookupError:
        return None
    prices = list(_prices_on(info, on))
    if any(_rate(price, "requests_kcount", 0) for price in prices):
        return None
    tiers = _tiers(prices)
    if tiers is None:
        return None
    return Price(model=model, tiers=tiers, source=f"genai-prices {version}", as_of=on.isoformat())


@cache
def _load_list() -> tuple[DataSnapshot, str]:
    try:
        from genai_prices import __version__
        from genai_prices.data import providers
        from genai_prices.data_snapshot import DataSnapshot
    except ImportError as error:
        raise MissingExtraError("prices", "a price for a cost ceiling") from error
    # A snapshot of our own: the package's may have been replaced by one that its updater fetched.
    return DataSnapshot(providers=providers, from_auto_update=False), __version__


def _prices_on(info: ModelInfo, on: date) -> Iterator[ModelPrice]:
    """Yield every price that may hold at some hour of the day, as the list has it: the last that applies wins."""
    from genai_prices.types import ModelPrice, StartDateConstraint

    if isinstance(info.prices, ModelPrice):
        yield info.prices
        return
    for conditional in reversed(info.prices):
        constraint = conditional.constraint
        if isinstance(constraint, StartDateConstraint) and on < constraint.start_date:
            continue
        yield conditional.prices
        if constraint is None or isinstance(constraint, StartDateConstraint):
            return
    if info.prices:
        yield info.prices[0].prices


def _tiers(prices: Sequence[ModelPrice]) -> tuple[tuple[int, Rates], ...] | None:
    """Return the rates by input tokens of a call; None if input or output has no price."""
    starts = sorted({0, *(start for price in prices for start in _starts(price))})
    tiers: list[tuple[int, Rates]] = []
    for start in starts:
        each = [_rates(price, start) for price in prices]
        known = [rates for rates in each if rates is not None]
        if not known or len(known) < len(each):
            return None
        dearest = Rates(
            input=max(rates.input for rates in known),
            output=max(rates.output for rates in known),
            cache_read=max(rates.cache_read for rates in known),
            cache_write=max(rates.cache_write for rates in known),
        )
        tiers.append((start, dearest))
    return tuple(tiers)


def _starts(price: ModelPrice) -> Iterator[int]:
    from genai_prices.types import TieredPrices

    for key in (*_INPUT, *_OUTPUT, *_CACHE_READ, *_CACHE_WRITE):
        value = getattr(price, key, None)
        if isinstance(value, TieredPrices):
            # A tier of the list begins above its start; ours begins at it.
            yield from (tier.start + 1 for tier in value.tiers)


def _rates(price: ModelPrice, start: int) -> Rates | None:
    dollars_in, dollars_out = _dearest(price, _INPUT, start), _dearest(price, _OUTPUT, start)
    if dollars_in is None or dollars_out is None:
        return None
    read, written = _dearest(price, _CACHE_READ, start), _dearest(price, _CACHE_WRITE, start)
    return Rates(
        input=_microusd(dollars_in),
        output=_microusd(dollars_out),
        cache_read=_microusd(dollars_in if read is None else read),
        cache_write=_microusd(dollars_in if written is None else written),
    )


def _dearest(price: ModelPrice, keys: Sequence[str], start: int) -> Decimal | None:
    return max((rate for key in keys if (rate := _rate(price, key, start)) is not None), default=None)


def _rate(price: ModelPrice, key: str, start: int) -> Decimal | None:
    from genai_prices.types import TieredPrices

    value: Decimal | TieredPrices | None = getattr(price, key, None)
    if not isinstance(value, TieredPrices):
        return value
    reached = [tier.price for tier in value.tiers if tier.start < start]
    return reached[-1] if reached else value.base


def _microusd(dollars: Decimal) -> int:
    """Return US dollars as microusd, rounded up."""
    return int((dollars * TOKENS_PER_PRICE_UNIT).to_integral_value(ROUND_CEILING))
