"""`prices`: what a model costs, by kind, and at which rate a call is reserved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from donewhen.cli.exits import USAGE, CommandError
from donewhen.cli.output import put, put_json, put_table, say
from donewhen.render import visible

if TYPE_CHECKING:
    from donewhen.usage import Price, Rates

_KINDS = {"input": "input", "output": "output", "cache_read": "cache read", "cache_write": "cache write"}


@click.command()
@click.argument("model")
@click.option("--provider", metavar="NAME", help="Whose model, such as anthropic. Left out: found by the model's name.")
@click.option("--spec", "spec_file", metavar="FILE", help="A spec file, whose own prices go before the list.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
def prices(model: str, *, provider: str | None, spec_file: str | None, as_json: bool) -> None:
    """Show what a model costs, in US dollars for a million tokens, with the source and the day.

    A call is reserved at the dearest rate that could apply to it, and settled at the one that did.
    """
    price = _find(model, provider, spec_file)
    if price is None:
        of = "" if provider is None else f" of the provider {visible(provider)!r}"
        raise CommandError(
            f"no price is known for the model {visible(model)!r}{of}: check its name, or say what it costs in the spec "
            "file ([[prices]] with model, input, output and source), since a cost ceiling needs a price",
            USAGE,
        )
    if as_json:
        put_json(_as_json(price))
        return
    _put_price(price)


def _find(model: str, provider: str | None, spec_file: str | None) -> Price | None:
    from donewhen.prices import find_price

    if spec_file is not None:
        from donewhen.spec_file import load_spec

        agreed = [price for price in load_spec(spec_file).prices if price.model == model]
        if agreed:
            return agreed[0]
    return find_price(model, provider=provider)


def _put_price(price: Price) -> None:
    put(
        f"{visible(price.model)}: US dollars for a million tokens, from {visible(price.source)}, {visible(price.as_of)}\n"
    )
    rows = [(_size(start), *_dollars(rates), *map(_usd, price.dearest(start))) for start, rates in price.tiers]
    headers = ("input of a call", *_KINDS.values(), "reserved: input", "output")
    put_table(headers, rows, right=range(1, len(headers)))
    say(
        "\nA call's whole input is reserved at the dearest rate that could apply: which of its tokens are read from a "
        "cache or\nwritten to one is known only afterwards. It is settled at the rates of what it used."
    )


def _size(start: int) -> str:
    return "any" if start == 0 else f"{start:,} or more"


def _dollars(rates: Rates) -> list[str]:
    return [_usd(getattr(rates, name)) for name in _KINDS]


def _usd(microusd: int) -> str:
    """Return US dollars with at least two decimals, and as many as there are."""
    from donewhen.spec_rules import decimal

    return decimal(microusd, 2)


def _as_json(price: Price) -> dict[str, object]:
    tiers: list[dict[str, object]] = []
    for start, rates in price.tiers:
        most_input, most_output = price.dearest(start)
        each = {f"{name}_microusd": getattr(rates, name) for name in _KINDS}
        reserved = {"input_microusd": most_input, "output_microusd": most_output}
        tiers.append({"from_input_tokens": start, **each, "reserved_at": reserved})
    told = {"model": price.model, "source": price.source, "as_of": price.as_of}
    return {**told, "per_tokens": 1_000_000, "tiers": tiers}
