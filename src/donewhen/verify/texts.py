"""The texts that are kept outside the log: each must be the one that its row commits to, or have been erased by a row.

A text that is erased stays as so many zeros, salt and all. So whatever a row commits to has its place in the table, and
the places count from 1 without a gap: a text that is simply gone was removed by force.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from donewhen.errors import LedgerTamperedError
from donewhen.texts import ERASED_SALT, commit_to
from donewhen.verify.row import Row
from donewhen.verify.source import Source


class Texts:
    """The kept texts, read beside the rows in their order.

    Args:
        source: where they are read from.
    """

    def __init__(self, source: Source) -> None:
        self.verified = 0
        """Kept texts that are those that were committed to."""
        self.erased = 0
        self.next_id: float = 0
        self._said = 0
        """How many texts rows say that they erased."""
        self._seen = 0
        self._source = source
        self._found = source.texts()
        self._next: tuple[Any, ...] = ()
        self._step()

    def verify(self, row: Row) -> None:
        """Hold the texts kept beside a row against what it commits to.

        Raises:
            LedgerTamperedError: one is another, or is gone, or there is one that no row commits to.
        """
        row_id, promised = row["id"], row.get("data", {}).get("texts", {})
        if type(promised) is not dict:
            raise LedgerTamperedError(f"its commitments to texts are {promised!r}", row_id=row_id)
        commitments, found = cast("Mapping[str, object]", promised), 0
        while self.next_id <= row_id:
            entry_id, label, salt, text = self._next
            name = _text_of(label)
            if entry_id != row_id or name is None or name not in commitments:
                raise LedgerTamperedError(f"a text {name!r} is kept that no row commits to", row_id=max(entry_id, 1))
            if salt is None or text is None or not self._is_good(salt, text, commitments[name]):
                raise LedgerTamperedError(f"the kept text {name!r} is not the one that it commits to", row_id=row_id)
            found += 1
            self._step()
        if found != len(commitments):
            raise LedgerTamperedError("a text that it commits to is gone, and was not erased", row_id=row_id)

    def look_at_erase(self, row: Row) -> None:
        """Hold a row that says that its session's texts were erased against those that are there.

        Raises:
            LedgerTamperedError: one is still there, or there are not as many as it says.
        """
        session, erased = row["session"], row["data"].get("erased")
        if type(erased) is not int or erased < 1:
            raise LedgerTamperedError(f"it says that it erased {erased!r} texts", row_id=row["id"])
        there, kept = self._source.erasable(session, row["id"])
        said = self._source.said_erased(session, row["id"])
        if kept:
            raise LedgerTamperedError("it erased every text of its session, and one is there", row_id=row["id"])
        if there != said:
            problem = f"it makes {said} erased texts of its session, of which there are {there}"
            raise LedgerTamperedError(problem, row_id=row["id"])
        self._said += erased

    def finish(self) -> None:
        """Refuse texts of rows that are not there, and such as nobody said that they erased.

        Raises:
            LedgerTamperedError: there are such texts.
        """
        if self._next:
            raise LedgerTamperedError(
                f"a text {_text_of(self._next[1])!r} is kept beside it, and there is no such row",
                row_id=max(self._next[0], 1),
            )
        if self._said != self.erased:
            raise LedgerTamperedError(f"{self.erased} texts are erased, and rows say so of {self._said}")
        least, most, count = self._source.places_of_texts()
        if (least or 1, most or 0) != (1, count) or count != self._seen:
            raise LedgerTamperedError(f"the places of the {count} kept texts do not count from 1 to {count}")

    def _is_good(self, salt: bytes, text: bytes, commitment: object) -> bool:
        if salt == ERASED_SALT:
            self.erased += 1
            return not text.strip(b"\0")
        self.verified += 1
        return commit_to(salt, text) == commitment

    def _step(self) -> None:
        self._next = next(self._found, ())
        self.next_id = self._next[0] if self._next else float("inf")
        if type(self.next_id) not in (int, float):
            raise LedgerTamperedError(f"a text {_text_of(self._next[1])!r} is kept beside no row")
        if self._next:
            self._seen += 1


def _text_of(label: bytes | None) -> str | None:
    return None if label is None else label.decode("utf-8", "surrogateescape")
