"""What a spec says that models cost: these prices are agreed, frozen with it, and go before any list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from donewhen.errors import SpecError
from donewhen.spec_rules import MILLION, decimal, filled_text, items, millionths, shown, whole
from donewhen.usage import Price, Rates

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.items import Table

FindPrice = Callable[[str], "Price | None"]

MOST_USD = 1_000_000
"""US dollars for a million tokens: a dollar a token is a slip of the finger."""

AGREED = "the spec"
"""The day of a price that says none: it is as old as the spec."""

_RATES = ("input", "output", "cache_read", "cache_write")
_PRICE_KEYS = ("model", *_RATES, "source", "as_of", "tiers")
_TIER_KEYS = ("above", *_RATES)


def agreed_price(terms: Mapping[str, Any] | None, otherwise: FindPrice | None) -> FindPrice | None:
    """Return what finds a model's price: the one that was agreed, else what there was before."""
    agreed = {price.model: price for price in prices_from_terms((terms or {}).get("prices", ()))}
    if not agreed:
        return otherwise
    return lambda model: agreed.get(model) or (None if otherwise is None else otherwise(model))


def check_prices(value: object) -> tuple[Price, ...]:
    """Return prices that a spec can hold.

    Raises:
        SpecError: names the key and its value.
    """
    prices: list[Price] = []
    for place, price in enumerate(items("prices", value), start=1):
        key = f"prices[{place}]"
        if not isinstance(price, Price):
            raise SpecError("must be a Price", field=key, value=shown(price))
        for name in ("model", "source", "as_of"):
            filled_text(f"{key}.{name}", getattr(price, name))
        if any(price.model == other.model for other in prices):
            raise SpecError("has a price already", field=f"{key}.model", value=price.model)
        _check_tiers(key, price)
        prices.append(price)
    return tuple(prices)


def _check_tiers(key: str, price: Price) -> None:
    starts = [start for start, _ in price.tiers]
    if not starts or starts[0] != 0 or any(first >= then for first, then in pairwise(starts)):
        raise SpecError("must begin at 0 and rise", field=f"{key}.tiers", value=str(starts))
    for start, rates in price.tiers:
        whole(f"{key}.tiers", start)
        for name in _RATES:
            if whole(f"{key}.{name}", getattr(rates, name)) > MOST_USD * MILLION:
                raise SpecError(f"must be {MOST_USD} or less", field=f"{key}.{name}", value=getattr(rates, name))


def price_terms(prices: Sequence[Price]) -> list[dict[str, object]]:
    """Return prices as data that a row can hold."""
    return [
        {
            "model": price.model,
            "source": price.source,
            "as_of": price.as_of,
            "tiers": [
                {"from": start, **{name: getattr(rates, name) for name in _RATES}} for start, rates in price.tiers
            ],
        }
        for price in prices
    ]


def prices_from_terms(said: object) -> tuple[Price, ...]:
    """Return the prices that have these terms.

    Raises:
        SpecError: these are not the terms of prices.
    """
    try:
        return check_prices([_from_terms(each) for each in cast("Sequence[Mapping[str, Any]]", said)])
    except (TypeError, KeyError) as error:
        raise SpecError(f"these are not the terms of prices ({error!r})", field="prices") from error


def _from_terms(said: Mapping[str, Any]) -> Price:
    tiers = [(tier["from"], Rates(**{name: tier[name] for name in _RATES})) for tier in said["tiers"]]
    return Price(model=said["model"], source=said["source"], as_of=said["as_of"], tiers=tuple(tiers))


# --- As TOML ---------------------------------------------------------------------------------------------------------


def read_prices(raw: object, typed: Any) -> tuple[Price, ...]:
    """Read ``[[prices]]``, in US dollars for a million tokens.

    Args:
        raw: the tables as plain data.
        typed: the same as tomlkit keeps them, with the digits that were typed.

    Raises:
        SpecError: names the key and its value.
    """
    if not isinstance(raw, list):
        raise SpecError("must be a list of tables, each written [[prices]]", field="prices", value=shown(raw))
    tables = cast("list[object]", raw)
    return tuple(_read_price(f"prices[{n}]", table, typed[n - 1]) for n, table in enumerate(tables, start=1))


def _read_price(key: str, raw: object, typed: Any) -> Price:
    table = _known(key, raw, _PRICE_KEYS)
    for name in ("model", "source"):
        if name not in table:
            raise SpecError("is missing", field=f"{key}.{name}")
    as_of = table.get("as_of", AGREED)
    tiers = [(0, _rates(key, table, typed))]
    above = table.get("tiers", [])
    for place, tier in enumerate(items(f"{key}.tiers", above), start=1):
        where = f"{key}.tiers[{place}]"
        given = _known(where, tier, _TIER_KEYS)
        start = whole(f"{where}.above", given.get("above")) + 1
        tiers.append((start, _rates(where, given, typed["tiers"][place - 1])))
    return Price(
        model=filled_text(f"{key}.model", table["model"]),
        source=filled_text(f"{key}.source", table["source"]),
        as_of=as_of.isoformat() if isinstance(as_of, date) else filled_text(f"{key}.as_of", as_of),
        tiers=tuple(tiers),
    )


def _known(key: str, raw: object, known: Sequence[str]) -> Mapping[str, object]:
    if not isinstance(raw, Mapping):
        raise SpecError("must be a table", field=key, value=shown(raw))
    table = cast("Mapping[str, object]", raw)
    for name in table:
        if name not in known:
            raise SpecError(f"is not a key of a price; here there are {', '.join(known)}", field=f"{key}.{name}")
    return table


def _rates(key: str, table: Mapping[str, object], typed: Any) -> Rates:
    """Read rates. A cache rate that is left out is the input rate, as nothing says that it is cheaper."""
    for name in ("input", "output"):
        if name not in table:
            raise SpecError("is missing, in US dollars for a million tokens", field=f"{key}.{name}")
    read = {n: millionths(f"{key}.{n}", table[n], typed[n], Decimal(MOST_USD)) for n in _RATES if n in table}
    return Rates(**{"cache_read": read["input"], "cache_write": read["input"], **read})


def add_prices(tomlkit: Any, document: TOMLDocument, prices: Sequence[Price]) -> None:
    """Add ``[[prices]]``, or, where there are none, a comment that shows how to write one."""
    if not prices:
        document.add(tomlkit.nl())
        for line in _HINT:
            document.add(tomlkit.comment(line))
        return
    tables = tomlkit.aot()
    for price in prices:
        table: Table = tomlkit.table()
        table.add("model", price.model)
        _add_rates(tomlkit, table, price.tiers[0][1])
        table.add("source", price.source)
        table.add("as_of", price.as_of)
        above = tomlkit.aot()
        for start, rates in price.tiers[1:]:
            tier: Table = tomlkit.table()
            tier.add("above", start - 1)
            _add_rates(tomlkit, tier, rates)
            above.append(tier)
        if above:
            table.add("tiers", above)
        tables.append(table)
    document.add("prices", tables)


_HINT = (
    "What a model costs, where no list knows or yours differs: US dollars for a million tokens.",
    "[[prices]]",
    'model = "our-own-model"',
    "input = 3.00",
    "output = 15.00",
    "cache_read = 0.30  # left out: as input",
    "cache_write = 6.00",
    'source = "our contract of 2026"',
    "as_of = 2026-11-27",
    "[[prices.tiers]]  # a call with more input than this, whole",
    "above = 200000",
    "input = 6.00",
    "output = 22.50",
)


def _add_rates(tomlkit: Any, table: Table, rates: Rates) -> None:
    for name in _RATES:
        table.add(name, tomlkit.value(decimal(getattr(rates, name), 2)))
