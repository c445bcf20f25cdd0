"""Values that are made fast are values like others."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.balance import Amounts, Balance
from donewhen.frozen import quick


@quick
@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 2
    seen: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Slow:
    x: int
    y: int = 2
    seen: list[int] = field(default_factory=list)


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    least: int
    most: int

    def __post_init__(self) -> None:
        if self.least > self.most:
            raise ValueError("the least is above the most")


class Far(Point):
    """A subclass, which has a dictionary of its own."""


def test_it_is_made_as_any_dataclass_is() -> None:
    assert (Point(1).x, Point(1).y, Point(1).seen) == (1, 2, [])
    assert Point(1, seen=[3]) == Point(1, 2, [3]) != Point(1)
    assert Point(1).seen is not Point(1).seen
    assert type(Point(1)) is Point
    assert repr(Point(1)) == "Point(x=1, y=2, seen=[])"


def test_it_is_frozen_once_it_is_made() -> None:
    point = Point(1)
    with pytest.raises(FrozenInstanceError):
        point.x = 2
    with pytest.raises(FrozenInstanceError):
        del point.x
    assert point.x == 1


@pytest.mark.parametrize("arguments", [((), {}), ((1, 2, [], 4), {}), ((1,), {"x": 1}), ((1,), {"z": 1})])
def test_arguments_that_do_not_fit_are_refused_as_ever(arguments: tuple[tuple[int, ...], dict[str, int]]) -> None:
    positional, named = arguments
    for kind in (Slow, Point):
        with pytest.raises(TypeError, match="__init__"):
            kind(*positional, **named)


def test_its_signature_is_the_one_it_had() -> None:
    assert inspect.signature(Point).parameters.keys() == inspect.signature(Slow).parameters.keys()
    assert str(inspect.signature(Checked)) == "(*, least: 'int', most: 'int') -> None"


def test_what_is_checked_after_it_is_made_is_checked() -> None:
    assert Checked(least=1, most=2).most == 2
    with pytest.raises(ValueError, match="above the most"):
        Checked(least=2, most=1)
    with pytest.raises(TypeError):
        Checked(1, 2)


def test_a_subclass_is_of_its_own_class() -> None:
    far = Far(1)
    assert (type(far), far.x, far.y, far.seen) == (Far, 1, 2, [])
    with pytest.raises(FrozenInstanceError):
        far.x = 2


@given(*[st.integers()] * 4)
def test_it_is_copied_replaced_pickled_and_hashed_as_ever(turns: int, tokens: int, cost: int, calls: int) -> None:
    balance = Balance("s", Amounts(turns, tokens, cost, calls))
    for twin in (copy.deepcopy(balance), pickle.loads(pickle.dumps(balance)), replace(balance)):
        assert twin == balance
        assert hash(twin) == hash(balance)
        assert type(twin.spent) is Amounts
    assert [f.name for f in fields(balance)] == ["name", "spent", "reserved", "ceilings", "period", "halted"]
