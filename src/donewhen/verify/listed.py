"""The rows' indexes, held against what the rows say.

Our own reads go through them: a row that an index hides would be there, and never be shown. What an index lists must be
in order, and a fingerprint of all of it, under numbers drawn anew each time, that of what the rows say.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from donewhen.errors import LedgerTamperedError
from donewhen.verify.row import Row
from donewhen.verify.source import Cursor, Source

PAGE_ROWS = 1000
"""How many rows of an index are read at a time."""

MOST_MARKS = 8192
"""How many sessions' marks are remembered."""

_PRIME = 2**61 - 1


class Listed:
    """What rows say, as far as an index lists it: a fingerprint of a set of (session, number, row id) for each index.

    Two sets that differ have one fingerprint with a chance of one in two thousand million for a set of a thousand
    million, since nobody knows the numbers that it is made with: they are drawn anew each time.

    Args:
        random: gives so many bytes that nobody can guess.

    Source: fingerprints of sets as polynomials at a random point; Lipton 1989, "Fingerprinting Sets".
    """

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._key = random(32)
        self._point, self._by_number, self._by_id = (int.from_bytes(random(16), "big") % _PRIME for _ in range(3))
        self._marks: dict[str, int] = {}
        self.rows = self.closes = self.doubts = self.balances = 1

    def add(self, row: Row) -> None:
        """Take in what the next row says."""
        row_id = row["id"]
        mark = self._mark_of(row["session"]) - self._by_id * row_id
        self.rows = self.rows * (mark - self._by_number * row["seq"]) % _PRIME
        if "closes" in row:
            self.closes = self.closes * (mark - self._by_number * row["closes"]) % _PRIME
        elif "doubts" in row:
            self.doubts = self.doubts * (mark - self._by_number * row["doubts"]) % _PRIME

    def add_balance(self, name: str, row_id: int) -> None:
        """Take in that a row leaves a balance that is not its session's own."""
        self.balances = self.balances * (self._mark_of(name) - self._by_id * row_id) % _PRIME

    def verify(self, source: Source) -> None:
        """Hold the indexes of the rows against what the rows said, and so the table of balances.

        Raises:
            LedgerTamperedError: an index does not list what it must; names it.
        """
        if self._list_balances(source.balances(), source.session_of) != self.balances:
            raise LedgerTamperedError("the table 'balances' does not list what the rows say")
        for column, said in (("seq", self.rows), ("closes", self.closes), ("doubts", self.doubts)):
            found = source.listed(column)
            if found is None:
                return
            if self._list(found, source.session_of) != said:
                raise source.wrong_index(column)

    def _list(self, found: Cursor, session_of: Callable[[bytes], bytes]) -> int | None:
        """Return the fingerprint of what an index lists, None where it is out of order."""
        by_number, by_id, listed = self._by_number, self._by_id, 1
        session: bytes | None = None
        number = mark = 0
        while page := found.fetchmany(PAGE_ROWS):
            for next_session, next_number, row_id in page:
                if next_session == session:
                    is_in_order = next_number > number
                else:
                    is_in_order = session is None or next_session > session
                    session, mark = next_session, self._mark(session_of(next_session))
                if not is_in_order:
                    return None
                number = next_number
                listed = listed * (mark - by_number * number - by_id * row_id) % _PRIME
        return listed

    def _list_balances(self, found: Cursor, session_of: Callable[[bytes], bytes]) -> int | None:
        """Return the fingerprint of the table of balances, None where something in it is neither text nor number."""
        listed, last, mark = 1, b"", self._mark(b"")
        while page := found.fetchmany(PAGE_ROWS):
            for name, row_id in page:
                if type(name) is not bytes or type(row_id) is not int:
                    return None
                if name != last:
                    last, mark = name, self._mark(session_of(name))
                listed = listed * (mark - self._by_id * row_id) % _PRIME
        return listed

    def _mark_of(self, session: str) -> int:
        mark = self._marks.get(session)
        if mark is None:
            if len(self._marks) >= MOST_MARKS:
                self._marks.clear()
            mark = self._marks[session] = self._mark(session.encode("utf-8", "surrogatepass"))
        return mark

    def _mark(self, session: bytes) -> int:
        return self._point - int.from_bytes(blake2b(session, digest_size=16, key=self._key).digest(), "big") % _PRIME
