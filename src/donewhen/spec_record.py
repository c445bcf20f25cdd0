"""Where a spec says that the log's checkpoints are kept besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from donewhen.cosignatures import Cosigner
from donewhen.elsewhere.witness import witness_address
from donewhen.errors import CheckpointError, SpecError
from donewhen.spec_rules import filled_text, items, names, shown, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Where the log's checkpoints are kept besides, and how often. They always are when a session ends or is released."""

    checkpoint_to: tuple[str, ...] = ()
    """Append-only files, best on another disk or machine."""
    witnesses: tuple[tuple[str, str], ...] = ()
    """The URL and the public key of each witness that cosigns them."""
    every_rows: int | None = None
    """Also after so many rows. None: not by rows."""
    every_seconds: int | None = None
    """Also so many seconds after a row at the latest. None: not by time."""

    def __post_init__(self) -> None:
        """Refuse what cannot be kept.

        Raises:
            SpecError: names the key and its value.
        """
        object.__setattr__(self, "checkpoint_to", names("record.checkpoint_to", self.checkpoint_to))
        object.__setattr__(self, "witnesses", _witnesses("record.witnesses", self.witnesses))
        for key in ("every_rows", "every_seconds"):
            if (value := getattr(self, key)) is not None:
                whole(f"record.{key}", value, least=1)
                if not self.checkpoint_to and not self.witnesses:
                    problem = "says how often, and nothing says where: checkpoint_to or witnesses"
                    raise SpecError(problem, field=f"record.{key}", value=value)

    def terms(self) -> dict[str, object]:
        """Return what is set as data that a row can hold; empty where nothing is."""
        said: dict[str, object] = {
            "checkpoint_to": list(self.checkpoint_to),
            "witnesses": [{"url": url, "vkey": vkey} for url, vkey in self.witnesses],
            "every_rows": self.every_rows,
            "every_seconds": self.every_seconds,
        }
        return {key: value for key, value in said.items() if value}


def _witnesses(key: str, value: object) -> tuple[tuple[str, str], ...]:
    """Return pairs of URL and key, from pairs or from tables."""
    found: list[tuple[str, str]] = []
    for place, item in enumerate(items(key, value), start=1):
        pair = _pair(f"{key}[{place}]", item)
        url = filled_text(f"{key}[{place}].url", pair["url"])
        vkey = filled_text(f"{key}[{place}].vkey", pair["vkey"])
        try:
            witness_address(url)
        except ValueError as error:
            raise SpecError(str(error), field=f"{key}[{place}].url", value=shown(url)) from error
        try:
            Cosigner.parse(vkey)
        except CheckpointError as error:
            raise SpecError(str(error), field=f"{key}[{place}].vkey") from error
        if (url, vkey) in found:
            raise SpecError("is there twice", field=f"{key}[{place}]", value=shown(url))
        found.append((url, vkey))
    return tuple(found)


def _pair(key: str, item: object) -> Mapping[str, object]:
    both = ("url", "vkey")
    if isinstance(item, Mapping) and set(table := cast("Mapping[str, object]", item)) == set(both):
        return table
    if isinstance(item, (list, tuple)) and len(parts := cast("Sequence[object]", item)) == len(both):
        return dict(zip(both, parts, strict=True))
    raise SpecError("must be a table with url and vkey", field=key, value=shown(cast("object", item)))
