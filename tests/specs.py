"""Specs for tests: a small one, and every one there can be."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from donewhen.balance import Ceilings
from donewhen.circuit_breaker import LARGEST_LIMIT
from donewhen.cosignatures import Cosigner
from donewhen.spec import CHECK_KEYS, Review, Spec
from donewhen.spec_record import Record
from donewhen.spec_writer import is_blank
from donewhen.usage import Price, Rates

PROMISE = {"what_it_does": "Audits a page.", "what_it_does_not": "Changes it.", "done_looks_like": "A report."}


def made(**terms: Any) -> Spec:
    return Spec(**{**PROMISE, **terms})


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
LETTERS = st.text(st.sampled_from("ab \t\r\n\"'\\#=[]{}.\x7f\x85\u2028é日"), max_size=12)
FILLED = (TEXT | LETTERS).filter(lambda text: not is_blank(text))
NAMES = st.lists(FILLED.map(str.strip), unique=True, max_size=3).map(tuple)
WHOLE = st.integers(0, 100) | st.integers(0, LARGEST_LIMIT)
DATA = st.recursive(
    TEXT
    | st.booleans()
    | st.integers(-LARGEST_LIMIT, LARGEST_LIMIT)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries((TEXT | LETTERS), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def checks(draw: st.DrawFn) -> dict[str, object]:
    kind = draw(st.sampled_from(sorted(CHECK_KEYS)))
    return {**draw(st.dictionaries(TEXT | LETTERS, DATA, max_size=2)), "check": kind, CHECK_KEYS[kind]: draw(FILLED)}


@st.composite
def reviews(draw: st.DrawFn) -> Review:
    reviewers = draw(NAMES)
    quorum = draw(st.integers(1, len(reviewers) or 5))
    return Review(
        quorum=quorum,
        reviewers=reviewers,
        expiry_hours=draw(st.none() | st.integers(1, 1_000)),
        own_work=draw(st.booleans()),
        signed=draw(st.none() | st.booleans()),
    )


WITNESSES = [
    (f"https://witness.example/{number}", Cosigner(f"witness.example/w{number}", bytes([2, number]) * 16).vkey)
    for number in range(3)
]


@st.composite
def records(draw: st.DrawFn) -> Record:
    files, witnesses = draw(NAMES), draw(st.lists(st.sampled_from(WITNESSES), unique=True))
    often = st.none() | st.integers(1, LARGEST_LIMIT) if files or witnesses else st.none()
    return Record(checkpoint_to=files, witnesses=tuple(witnesses), every_rows=draw(often), every_seconds=draw(often))


RATES = st.builds(Rates, **dict.fromkeys(("input", "output", "cache_read", "cache_write"), st.integers(0, 10**12)))


@st.composite
def prices(draw: st.DrawFn) -> Price:
    starts = [0, *sorted(draw(st.sets(st.integers(1, LARGEST_LIMIT), max_size=2)))]
    tiers = tuple((start, draw(RATES)) for start in starts)
    return Price(model=draw(FILLED), source=draw(FILLED), as_of=draw(FILLED), tiers=tiers)


def consistent(keep: str, held_tools: tuple[str, ...], **others: object) -> Spec:
    """Return a spec; tools that wait for a person need a conversation that is kept."""
    return Spec(keep="conversation" if held_tools else keep, held_tools=held_tools, **others)


SPECS = st.builds(
    consistent,
    what_it_does=FILLED,
    what_it_does_not=FILLED,
    done_looks_like=FILLED,
    ceilings=st.builds(
        Ceilings,
        WHOLE,
        WHOLE,
        st.none() | WHOLE,
        st.none() | WHOLE,
        st.none() | WHOLE,
        st.none() | st.integers(2, LARGEST_LIMIT),
    ),
    done_when=st.lists(checks(), max_size=2).map(tuple),
    review=reviews(),
    record=records(),
    prices=st.lists(prices(), unique_by=lambda price: price.model, max_size=2).map(tuple),
    keep=st.sampled_from(["nothing", "conversation"]),
    bound=st.sampled_from(["strict", "estimate"]),
    model=st.none() | FILLED,
    max_tokens=st.none() | st.integers(1, LARGEST_LIMIT),
    held_tools=NAMES,
)
