"""A spec as a value: the promise, and everything else that is agreed before a session opens.

Every rule about what a spec may say is here, so that one read from a file, one typed at a prompt and one made in
Python are held to the same. How a spec is spelled as TOML is the affair of `spec_file`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast

from donewhen.balance import CEILING_NAMES, Ceilings
from donewhen.circuit_breaker import DEFAULT_TOKEN_LIMIT, DEFAULT_TURN_LIMIT, FEWEST_REPEATS, LARGEST_LIMIT
from donewhen.errors import SpecError
from donewhen.spec_prices import check_prices, price_terms, prices_from_terms
from donewhen.spec_record import Record
from donewhen.spec_rules import budget_name, filled_text, flag, items, names, one_of, shown, whole
from donewhen.spec_writer import QUESTIONS, SpecResult, text_fault
from donewhen.usage import Price

CHECK_KEYS: Mapping[str, str] = {
    "shell": "command",
    "regex": "pattern",
    "json_schema": "schema",
    "call": "function",
    "human": "criterion",
}
"""The kinds of check, and the one key that each must have."""

KEEPS = ("nothing", "conversation")
BOUNDS = ("strict", "estimate")

DEFAULT_CEILINGS = Ceilings(turns=DEFAULT_TURN_LIMIT, tokens=DEFAULT_TOKEN_LIMIT)
"""The breaker's own defaults: a spec that says nothing still stops."""

MOST_LEVELS = 64
"""How deep a check's data may be nested. A row of the ledger allows 100 levels, its own included."""

_FLOAT = "$number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """Who looks at the output before it is released."""

    quorum: int = 1
    """How many different reviewers must attest; 1 or more, since nothing is released unseen."""
    reviewers: tuple[str, ...] = ()
    """Who may attest. Empty: anybody."""
    expiry_hours: int | None = None
    """Hours after which an attestation no longer counts. None: it never expires."""
    own_work: bool = False
    """Whether the one who started a session may attest it."""
    signed: bool | None = None
    """Whether an attestation must be signed with an enrolled key. None: where any reviewer's key was ever enrolled."""

    def __post_init__(self) -> None:
        """Refuse what cannot be kept.

        Raises:
            SpecError: names the key and its value.
        """
        object.__setattr__(self, "reviewers", names("review.reviewers", self.reviewers))
        whole("review.quorum", self.quorum, least=1)
        if self.reviewers and self.quorum > len(self.reviewers):
            problem = f"there are only {len(self.reviewers)} reviewers, so the quorum can never be reached"
            raise SpecError(problem, field="review.quorum", value=self.quorum)
        if self.expiry_hours is not None:
            whole("review.expiry_hours", self.expiry_hours, least=1)
        flag("review.own_work", self.own_work)
        if self.signed is not None:
            flag("review.signed", self.signed)

    def terms(self) -> dict[str, object]:
        """Return it as data that a row can hold; what is not said stands for what it was before one could say it."""
        said = {"quorum": self.quorum, "reviewers": list(self.reviewers), "expiry_hours": self.expiry_hours}
        return {
            **said,
            **({"own_work": True} if self.own_work else {}),
            **({} if self.signed is None else {"signed": self.signed}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The promise and its terms. Answers are stripped; everything is checked when it is made."""

    what_it_does: str
    what_it_does_not: str
    done_looks_like: str
    ceilings: Ceilings = DEFAULT_CEILINGS
    """Turns and tokens are always set."""
    done_when: tuple[Mapping[str, object], ...] = ()
    """The checks as plain data, each with its kind under ``check``. Empty: the end of the turn is the end."""
    review: Review = field(default_factory=Review)
    keep: Literal["nothing", "conversation"] = "nothing"
    """What is kept of the conversation, so that a stopped session can go on in its middle."""
    bound: Literal["strict", "estimate"] = "strict"
    """How the most that a call can use is worked out."""
    model: str | None = None
    """None: whoever runs the spec says."""
    max_tokens: int | None = None
    """The most tokens of one reply. None: whoever runs the spec says."""
    held_tools: tuple[str, ...] = ()
    """Tools whose calls wait for a person."""
    budget: str | None = None
    """The budget that every session of this spec stands under. None: none."""
    record: Record = field(default_factory=Record)
    prices: tuple[Price, ...] = ()
    """What models cost; these go before any list."""

    def __post_init__(self) -> None:
        """Refuse what cannot be kept, and take copies of what could be changed from outside.

        Raises:
            SpecError: names the key and its value.
        """
        for name in QUESTIONS:
            object.__setattr__(self, name, filled_text(name, getattr(self, name)).strip())
        _check_ceilings(self.ceilings)
        object.__setattr__(self, "done_when", _checks(self.done_when))
        one_of("keep", self.keep, KEEPS)
        one_of("bound", self.bound, BOUNDS)
        if self.model is not None:
            filled_text("model", self.model)
        if self.max_tokens is not None:
            whole("max_tokens", self.max_tokens, least=1)
        if self.budget is not None:
            budget_name("budget", self.budget)
        object.__setattr__(self, "held_tools", names("held_tools", self.held_tools))
        object.__setattr__(self, "prices", check_prices(self.prices))
        if self.held_tools and self.keep != "conversation":
            problem = 'a session that waits for a person goes on in its middle, so this needs keep = "conversation"'
            raise SpecError(problem, field="held_tools", value=list(self.held_tools))

    def result(self, session_id: str) -> SpecResult:
        """Return the promise alone, as the promise of a session."""
        return SpecResult(self.what_it_does, self.what_it_does_not, self.done_looks_like, session_id)

    def terms(self) -> dict[str, object]:
        """Return everything but the three answers as data that a row can hold.

        A row holds whole numbers only, so a number with a fraction inside a check is spelled ``{"$number": "0.5"}``.
        """
        said: dict[str, object] = {
            "ceilings": {name: getattr(self.ceilings, name) for name in CEILING_NAMES},
            "done_when": _without_floats(list(self.done_when)),
            "review": self.review.terms(),
            "keep": self.keep,
            "bound": self.bound,
            "model": self.model,
            "max_tokens": self.max_tokens,
            "held_tools": list(self.held_tools),
        }
        # Absent where nothing is said, so that a spec from before one could say it keeps its hash.
        later = {"budget": self.budget, "record": self.record.terms(), "prices": price_terms(self.prices)}
        return {**said, **{name: value for name, value in later.items() if value}}

    @classmethod
    def from_terms(cls, result: SpecResult, terms: Mapping[str, object]) -> Spec:
        """Return the spec that has this promise and these terms: the inverse of `result` and `terms`.

        Raises:
            SpecError: these are not the terms of a spec.
        """
        expected = {known.name for known in fields(cls)} - set(QUESTIONS)
        if {*terms, "budget", "record", "prices"} != expected:
            raise SpecError("these are not the terms of a spec", field="terms", value=sorted(terms))
        others: dict[str, object] = {"budget": None, "record": {}, "prices": [], **terms}
        try:
            others["ceilings"] = Ceilings(**cast("dict[str, int | None]", others["ceilings"]))
            others["review"] = Review(**cast("dict[str, Any]", others["review"]))
            others["record"] = Record(**cast("dict[str, Any]", others["record"]))
            others["prices"] = prices_from_terms(others["prices"])
            others["done_when"] = _with_floats(others["done_when"])
            promise = {name: getattr(result, name) for name in QUESTIONS}
            return cls(**promise, **others)  # pyright: ignore[reportArgumentType]  # checked by __post_init__
        except (TypeError, ValueError) as error:
            if isinstance(error, SpecError):
                raise
            raise SpecError(f"these are not the terms of a spec ({error})", field="terms") from error


def _check_ceilings(ceilings: object) -> None:
    if not isinstance(ceilings, Ceilings):
        raise SpecError("must be Ceilings", field="ceilings", value=shown(ceilings))
    for name in CEILING_NAMES:
        ceiling: object = getattr(ceilings, name)
        if ceiling is not None or name in ("turns", "tokens"):
            whole(f"ceilings.{name}", ceiling, least=FEWEST_REPEATS if name == "repeats" else 0)


def _checks(value: object) -> tuple[Mapping[str, object], ...]:
    return tuple([_check(f"done_when[{place}]", item) for place, item in enumerate(items("done_when", value), start=1)])


def _check(key: str, value: object) -> Mapping[str, object]:
    """Judge the shape alone: what else a kind of check may say, `checks` knows."""
    if not isinstance(value, Mapping):
        raise SpecError("must be a table", field=key, value=shown(value))
    table = cast("Mapping[str, object]", value)
    kind = table.get("check")
    if "check" not in table:
        raise SpecError(f"is missing; the kinds are {', '.join(CHECK_KEYS)}", field=f"{key}.check")
    one_of(f"{key}.check", kind, tuple(CHECK_KEYS))
    needed = CHECK_KEYS[cast("str", kind)]
    if needed not in table:
        raise SpecError(f"is missing, and a {kind} check needs it", field=f"{key}.{needed}")
    if isinstance(table[needed], str) or kind in ("regex", "call", "human"):
        filled_text(f"{key}.{needed}", table[needed])
    return cast("Mapping[str, object]", _plain(key, table, MOST_LEVELS))


def _plain(key: str, value: object, levels: int) -> object:
    """Return a copy of plain data, with lists for tuples."""
    if levels == 0:
        raise SpecError("is nested too deeply", field=key.partition("]")[0] + "]")
    if isinstance(value, Mapping):
        table = cast("Mapping[object, object]", value)
        if set(table) == {_FLOAT}:
            raise SpecError("this name is taken", field=f"{key}.{_FLOAT}", value=shown(table[_FLOAT]))
        return {_key(key, name): _plain(f"{key}.{name}", item, levels - 1) for name, item in table.items()}
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[object]", value)
        return [_plain(f"{key}[{place}]", item, levels - 1) for place, item in enumerate(items, start=1)]
    return _scalar(key, value)


def _key(key: str, name: object) -> str:
    problem = "a key must be text" if type(name) is not str else text_fault(name)
    if problem is not None:
        raise SpecError(problem, field=key, value=shown(name))
    return cast("str", name)


def _scalar(key: str, value: object) -> object:
    problem: str | None = None
    if type(value) is str:
        problem = text_fault(value)
    elif type(value) is float:
        problem = None if math.isfinite(value) else "must be a finite number"
    elif type(value) is int:
        problem = None if abs(value) <= LARGEST_LIMIT else f"must be from -{LARGEST_LIMIT} to {LARGEST_LIMIT}"
    elif type(value) is not bool:
        problem = "must be text, a number, true, false, a list or a table"
    if problem is not None:
        raise SpecError(problem, field=key, value=shown(value))
    return value


def _without_floats(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_floats(item) for name, item in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_without_floats(item) for item in cast("list[object]", value)]
    return {_FLOAT: repr(value)} if isinstance(value, float) else value


def _with_floats(value: object) -> object:
    if isinstance(value, Mapping):
        table = cast("Mapping[str, object]", value)
        if set(table) == {_FLOAT}:
            return float(str(table[_FLOAT]))
        return {name: _with_floats(item) for name, item in table.items()}
    if isinstance(value, (list, tuple)):
        return [_with_floats(item) for item in cast("Sequence[object]", value)]
    return value
