"""A database's schema held against ours, to the letter, whatever the store."""

from __future__ import annotations

from collections.abc import Mapping

from donewhen.errors import LedgerTamperedError


def refuse_other(found: Mapping[str, tuple[object, ...]], wanted: Mapping[str, tuple[object, ...]]) -> None:
    """Refuse a schema in which something is changed, missing or added.

    Args:
        found: by name, what each thing in the database is: its kind first, then how it is defined.
        wanted: the same of ours.

    Raises:
        LedgerTamperedError: they are not the same; names the first difference.
    """
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) == wanted.get(name):
            continue
        what = (found.get(name) or wanted[name])[0]
        how = "is missing" if name not in found else "is not ours" if name not in wanted else "was changed"
        raise LedgerTamperedError(f"the {what} {name!r} of the database {how}")
