"""Frozen dataclasses that are made as fast as others.

A frozen dataclass sets each of its fields through `object.__setattr__`, which takes longer than everything else that is
done to a small value. A turn makes some forty of them.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, TypeVar

_T = TypeVar("_T")

_set_class = object.__dict__["__class__"].__set__
_NOT_GIVEN = object()


def quick(cls: type[_T]) -> type[_T]:
    """Let a frozen dataclass with slots be made as fast as one that is not frozen.

    While its fields are set an object is of a twin class, which has the same slots and no guard. It is of its own class
    before anybody else can see it, `__post_init__` included. Nothing else about the class is changed.

    Args:
        cls: a dataclass with ``frozen=True`` and ``slots=True`` that inherits from nothing but object, all of whose
            fields are arguments.
    """
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    frozen_init = cls.__init__
    names: dict[str, Any] = {
        "cls": cls,
        "twin": type(cls.__name__, (), {"__slots__": cls.__dict__["__slots__"]}),
        "set_class": _set_class,
        "frozen_init": frozen_init,
        "NOT_GIVEN": _NOT_GIVEN,
    }
    parameters = ["self"]
    for field in fields:
        if field.kw_only and "*" not in parameters:
            parameters.append("*")
        parameters.append(field.name + _default_of(field, names))
    lines = [
        f"def __init__({', '.join(parameters)}):",
        "    if self.__class__ is not cls:",  # a subclass may have other slots
        f"        return frozen_init(self, {', '.join(f'{field.name}={_value_of(field)}' for field in fields)})",
        "    set_class(self, twin)",
        *[f"    self.{field.name} = {_value_of(field)}" for field in fields],
        "    self.__class__ = cls",
    ]
    if hasattr(cls, "__post_init__"):
        lines.append("    self.__post_init__()")
    exec("\n".join(lines), names)  # noqa: S102 - as dataclasses does: our own text, made of names of fields
    cls.__init__ = functools.wraps(frozen_init)(names["__init__"])
    return cls


def _default_of(field: dataclasses.Field[Any], names: dict[str, Any]) -> str:
    if field.default is not dataclasses.MISSING:
        names[f"default_of_{field.name}"] = field.default
        return f"=default_of_{field.name}"
    if field.default_factory is not dataclasses.MISSING:
        names[f"make_{field.name}"] = field.default_factory
        return "=NOT_GIVEN"
    return ""


def _value_of(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is dataclasses.MISSING:
        return field.name
    return f"make_{field.name}() if {field.name} is NOT_GIVEN else {field.name}"
