"""What the offline rules cost: nothing, which is known, and so is not the same as a price that is not known."""

from __future__ import annotations

from donewhen.usage import Price, Rates


def free_price(model: str) -> Price:
    """Return a price of zero, whatever model is named: nobody is asked, so nobody charges."""
    nothing = Rates(input=0, output=0, cache_read=0, cache_write=0)
    return Price(model=model, tiers=((0, nothing),), source="the offline rules", as_of="always")
