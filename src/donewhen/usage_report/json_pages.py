"""The buckets of JSON pages, one at a time, whatever the size of the file.

A page is an object whose `data` is a list of buckets. Python's decoder needs a whole value at once, so this reads the
page's own brackets by itself and hands it one bucket after the other. The rest of a page (`has_more`, `next_page`) is
read over; that pages are missing cannot be seen in a file, so a last one that says there are more is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import IO, Any, cast

from donewhen.usage_report.row import Place

_PIECE = 1 << 16
MOST_CHARACTERS = 1 << 24
"""Of one bucket: a minute of one organisation is some kilobytes."""


def iter_buckets(file: IO[str], place: Place) -> Iterator[Mapping[str, Any]]:
    """Yield the buckets of each page: of one object, of several one after the other, or of a list of them.

    Raises:
        UsageReportError: it is no JSON, no such page, or the last page says that there are more.
    """
    reader = _Reader(file, place)
    in_list = reader.take("[")
    while reader.peek() not in ("", "]"):
        yield from _page(reader, place)
        reader.take(",")
    if in_list:
        reader.need("]")
    if reader.peek():
        raise place.fault("something follows the end", value=reader.peek())
    if reader.has_more:
        raise place.fault("the last page says that there are more: fetch them all", "has_more", value=True)


def _page(reader: _Reader, place: Place) -> Iterator[Mapping[str, Any]]:
    reader.need("{")
    has_data = False
    while reader.peek() != "}":
        key = reader.value()
        reader.need(":")
        if key == "data":
            has_data = True
            yield from _data(reader, place)
        elif key == "has_more":
            reader.has_more = reader.value() is True
        else:
            reader.value()
        if not reader.take(","):
            break
    reader.need("}")
    if not has_data:
        raise place.fault("is missing: this is no page of a usage report", "data")


def _data(reader: _Reader, place: Place) -> Iterator[Mapping[str, Any]]:
    reader.need("[")
    while reader.peek() != "]":
        bucket = reader.value()
        if not isinstance(bucket, dict):
            raise place.fault("must be a list of objects", "data", bucket)
        yield cast("Mapping[str, Any]", bucket)
        if not reader.take(","):
            break
    reader.need("]")


class _Reader:
    """Reads JSON from a file piece by piece, and tells its place of the line it is at."""

    def __init__(self, file: IO[str], place: Place) -> None:
        self.has_more = False
        self._file = file
        self._place = place
        self._text = ""
        self._at = 0
        self._line = 1
        self._ended = False
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)

    def peek(self) -> str:
        """Return the next character that is no white space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    self._place.line = self._line
                    return self._text[self._at]
                self._move(self._at + 1)
            if self._ended:
                return ""
            self._fill()

    def take(self, character: str) -> bool:
        """Read over a character, if it is the next."""
        if self.peek() != character:
            return False
        self._move(self._at + 1)
        return True

    def need(self, character: str) -> None:
        """Read over a character that must be the next."""
        if not self.take(character):
            problem = f"this is not JSON: {character!r} is expected here"
            raise self._place.fault(problem, value=self.peek() or "the end")

    def value(self) -> object:
        """Read a whole value."""
        self.peek()
        while True:
            problem = "the file ends within a value"
            try:
                found, end = self._decoder.raw_decode(self._text, self._at)
                if end < len(self._text) or self._ended:  # else a number may go on in the next piece
                    self._move(end)
                    return found
            except json.JSONDecodeError as error:
                problem = error.msg
            except (ValueError, RecursionError) as error:
                raise self._place.fault(f"this cannot be read: {error}") from error
            if self._ended:
                raise self._place.fault(f"this is not JSON: {problem}")
            if len(self._text) - self._at > MOST_CHARACTERS:
                raise self._place.fault(f"this is not JSON, or a value of more than {MOST_CHARACTERS} characters")
            self._fill()

    def _move(self, end: int) -> None:
        self._line += self._text.count("\n", self._at, end)
        self._at = end

    def _fill(self) -> None:
        rest = self._text[self._at :]
        # As much again each time, so that a value that is read anew with each piece is not read a thousand times.
        piece = self._file.read(max(_PIECE, len(rest)))
        self._text, self._at, self._ended = rest + piece, 0, not piece


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a number of JSON")
