"""A database's schema held against ours, to the letter, whatever the store."""

from __future__ import annotations

from collections.abc import Mapping

from donewhen.errors import LedgerTamperedError

Definitions = Mapping[tuple[str, ...], tuple[object, ...]]
"""How each thing in a database is defined: by its name, what it is, and whatever else tells it from others of its name."""


def refuse_other(found: Definitions, wanted: Definitions) -> None:
    """Refuse a schema in which something is changed, missing or added.

    Args:
        found: what there is in the database.
        wanted: what there is in ours.

    Raises:
        LedgerTamperedError: they are not the same; names the first difference.
    """
    for thing in sorted(found.keys() | wanted.keys()):
        if found.get(thing) == wanted.get(thing):
            continue
        name, what, *_ = thing
        how = "is missing" if thing not in found else "is not ours" if thing not in wanted else "was changed"
        raise LedgerTamperedError(f"the {what} {name!r} of the database {how}")
