"""A request's body as it goes out: plain data, so that what is bounded is what is sent."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from typing import Any, cast

from donewhen.errors import UnboundedRequestError

_LEFT_OUT = frozenset({"NotGiven", "Omit"})
"""Names of the classes with which the SDKs say that an argument was not given."""


def plain(value: object) -> Any:
    """Return a value as JSON would have it: SDK objects as the fields that were set, iterators read, files in base64.

    Raises:
        UnboundedRequestError: there is something in it that has no such form.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping):
        items = cast("Mapping[str, object]", value).items()
        return {str(name): plain(part) for name, part in items if is_given(part)}
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        hidden = getattr(value, "__api_exclude__", None)  # what the SDK added when it parsed a reply
        return dump(mode="json", by_alias=True, exclude_unset=True, exclude=hidden, warnings=False)
    read = getattr(value, "read", None)
    if isinstance(value, os.PathLike):
        with open(cast("os.PathLike[str]", value), "rb") as file:
            return base64.b64encode(file.read()).decode()
    if callable(read):
        return base64.b64encode(cast("bytes", read())).decode()
    if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        return [plain(part) for part in cast("Iterable[object]", value)]
    raise UnboundedRequestError(f"a {type(value).__name__}, which is not plain data")


def is_given(value: object) -> bool:
    """Tell whether an argument was given, as the SDKs understand it."""
    return type(value).__name__ not in _LEFT_OUT
