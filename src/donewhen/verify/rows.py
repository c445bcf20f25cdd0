"""What is judged of each row: its spelling, its place, and everything that the rows before it decide.

Each part is for a module of its own; this one hands every row to those that it concerns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from donewhen.errors import LedgerFormatError, LedgerTamperedError
from donewhen.verify.levels import Levels
from donewhen.verify.listed import Listed
from donewhen.verify.rederive import Rederivation
from donewhen.verify.row import Row, read_row
from donewhen.verify.source import Source
from donewhen.verify.texts import Texts
from donewhen.verify.tree import Page

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?\+00:00")

_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_TIMES = b"0000-00-00T00:00:00.000000+00:00"
"""Nearly every time, with zeros for its digits; the pattern is for the others, and slower."""

Look = Callable[[Row], None]
"""Looks at a row of one kind, after it was found to follow from those before it."""


class Rows:
    """Judges the rows of a log, in order.

    Args:
        source: where the log is read from.
        random: gives so many bytes that nobody can guess.
        looks: what else looks at rows, by their kind.
    """

    def __init__(self, source: Source, random: Callable[[int], bytes], looks: Mapping[str, Look]) -> None:
        self.rederivation = Rederivation(source.decisive, Levels(source))
        self.texts = Texts(source)
        self.listed = Listed(random)
        self._source = source
        self._looks = {**looks, "erase": self.texts.look_at_erase}
        self._newest_at = "0000-00-00T00:00:00+00:00"
        self._is_set_back = False

    def follow(self, page: Page, leaves: Sequence[bytes]) -> None:
        """Judge rows that follow one another.

        Args:
            page: id and body of each.
            leaves: the leaf hash of each.

        Raises:
            LedgerTamperedError: one is not what it must be; names the first, and what is wrong.
        """
        follow, listed, looks, texts = self.rederivation.follow, self.listed.add, self._looks, self.texts
        for (row_id, body), leaf in zip(page, leaves, strict=True):
            try:
                row = read_row(body)
            except LedgerFormatError as error:
                raise LedgerTamperedError(str(error), row_id=row_id) from error
            if row["id"] != row_id:
                raise LedgerTamperedError(f"it says that it is row {row['id']}", row_id=row_id)
            follow(row, body, leaf)
            listed(row)
            for name in self.rederivation.touched:
                self.listed.add_balance(name, row_id)
            at = row["at"]
            if at > self._newest_at and at.isascii() and at.encode().translate(_ZEROS) == _TIMES:
                self._newest_at = at
            elif at != self._newest_at:
                self._look_at_time(row)
            kind = row["kind"]
            if kind in looks:
                looks[kind](row)
            if texts.next_id <= row_id or "texts" in row.get("data", ()):
                texts.verify(row)

    def finish(self) -> None:
        """Hold what stands beside the rows against what all of them said.

        Raises:
            LedgerTamperedError: a text is kept beside no row, or an index does not list what it must.
        """
        self.texts.finish()
        self.listed.verify(self._source)

    def _look_at_time(self, row: Row) -> None:
        if _TIME.fullmatch(row["at"]) is None:
            self.rederivation.warn(f"row {row['id']} has no readable time: {row['at'][:40]!r}")
        elif row["at"] > self._newest_at:
            self._newest_at = row["at"]
        elif not self._is_set_back:
            self._is_set_back = True
            self.rederivation.warn(f"row {row['id']} is older than a row before it: a clock was set back ({row['at']})")
