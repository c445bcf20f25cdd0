"""What a call used and what that costs, in integers."""

from __future__ import annotations

from dataclasses import dataclass

from donewhen.frozen import quick

TOKENS_PER_PRICE_UNIT = 1_000_000
"""Prices are microusd for a million tokens, which is the number of US dollars for a million tokens times a million."""


@quick
@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens that a provider says a call used, by kind; the kinds do not overlap."""

    input_tokens: int
    """Input that was neither read from nor written to a cache."""
    output_tokens: int
    """Output, with what the model thought."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    @property
    def total(self) -> int:
        """Return the tokens of all kinds together."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens + self.output_tokens

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Return the counts of each kind: input, output, read from a cache, written to one."""
        return self.input_tokens, self.output_tokens, self.cache_read_tokens, self.cache_write_tokens

    @property
    def all_input(self) -> int:
        """Return the input tokens of all kinds together."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Microusd for a million tokens of each kind."""

    input: int
    output: int
    cache_read: int
    cache_write: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one model costs, where that was read, and on which day."""

    model: str
    tiers: tuple[tuple[int, Rates], ...]
    """(from how many input tokens of one call on, rates), ascending; the first starts at 0. A call is charged whole at its tier."""
    source: str
    """Where the price was read."""
    as_of: str
    """The day it was read, as ISO 8601, or the version of the list."""

    def cost_microusd(self, usage: Usage) -> int:
        """Return the cost of a call that used this much, rounded up to a whole microusd."""
        rates, given = self.tiers[0][1], usage.all_input
        for start, tier in self.tiers:
            if given >= start:
                rates = tier
        return _round_up(
            usage.input_tokens * rates.input
            + usage.output_tokens * rates.output
            + usage.cache_read_tokens * rates.cache_read
            + usage.cache_write_tokens * rates.cache_write
        )

    def most_microusd(self, input_tokens: int, output_tokens: int) -> int:
        """Return the most that so many tokens can cost, at the dearest rate that could apply."""
        dearest_input, dearest_output = self.dearest(input_tokens)
        return _round_up(input_tokens * dearest_input + output_tokens * dearest_output)

    def most_output_tokens(self, input_tokens: int, cost_microusd: int) -> int | None:
        """Return how many output tokens can be paid for beside this input; None if output is free."""
        _, dearest_output = self.dearest(input_tokens)
        left = cost_microusd - self.most_microusd(input_tokens, 0)
        if left < 0:
            return -1
        return None if dearest_output == 0 else left * TOKENS_PER_PRICE_UNIT // dearest_output

    def dearest(self, input_tokens: int) -> tuple[int, int]:
        """Return the dearest rates of input and output for a call of at most so many input tokens.

        Which of its tokens are read from a cache, written to one or neither is known only afterwards, and it may turn
        out smaller, in a tier that is dearer.
        """
        reachable = [rates for start, rates in self.tiers if start <= input_tokens]
        most_input = max(max(rates.input, rates.cache_read, rates.cache_write) for rates in reachable)
        return most_input, max(rates.output for rates in reachable)


def _round_up(price_units: int) -> int:
    return -(-price_units // TOKENS_PER_PRICE_UNIT)
