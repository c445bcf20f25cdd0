"""CSV, one record at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from typing import IO

from donewhen.usage_report.row import Place

MOST_CHARACTERS = 1 << 17
"""Of one cell: a file of one endless line is no report."""

_KNOWN = frozenset({"usage_date_utc", "start_time"})
"""The column of times: by it one sees whose report it is."""


def iter_records(file: IO[str], place: Place) -> Iterator[Mapping[str, str]]:
    """Yield each record by the names in the header.

    Raises:
        UsageReportError: it is no CSV, a name is there twice, or a record has another number of cells.
    """
    rows = csv.reader(_lines(file, place), strict=True)
    names: list[str] | None = None
    while True:
        try:
            cells = next(rows, None)
        except csv.Error as error:
            raise place.fault(f"this is not CSV: {error}") from error
        if cells is None:
            break
        if names is None:
            names = [cell.strip() for cell in cells]
            if not _KNOWN.intersection(names):
                raise place.fault("has neither usage_date_utc nor start_time: no usage report", "the header", cells)
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise place.fault("this column is there twice", twice)
        elif cells and len(cells) != len(names):
            raise place.fault(f"has {len(cells)} cells under {len(names)} names")
        elif cells:
            yield dict(zip(names, cells, strict=True))


def _lines(file: IO[str], place: Place) -> Iterator[str]:
    place.line = 0
    while line := file.readline(MOST_CHARACTERS):
        place.line += 1
        if len(line) == MOST_CHARACTERS:
            raise place.fault(f"this line has more than {MOST_CHARACTERS} characters")
        yield line
