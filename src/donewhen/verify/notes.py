"""What the checkpoints of a log must state, and who signed them.

Every checkpoint's text is worked out from the rows: the log's name, its size and its root. So the newest signature
vouches for every row, and for the text of every checkpoint before it; an older signature adds nothing to that. By
default older ones must only be well formed: one line, of the key that the log had by then. The checkpoints at which a
key was handed on are verified too, since the next key stands on them: both keys sign there, a line each.

Source: C2SP signed-note, tlog-checkpoint; docs/ledger_format.md.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from donewhen.errors import CheckpointError, LedgerTamperedError
from donewhen.notes import Checkpoint, Verifier, open_note
from donewhen.signature_lines import SIGNATURE_BYTES, to_base64

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_LAST = frozenset(b"AEIMQUYcgkosw048")
"""The characters that a base64 text of 68 bytes can end with, before its padding."""
_ENDED = b"=\n"
_ROOT_CHARACTERS = 45
"""Of a root in base64, and the line feed after it."""


@dataclass(frozen=True, slots=True)
class _Line:
    """How a signature line of a key looks: 4 bytes that name the key, and 64 that are not looked at."""

    start: bytes
    """Up to the last character that the key alone decides."""
    sixth: frozenset[int]
    """What can follow: the last two bits of the key's hash, and four of the signature."""
    length: int

    @classmethod
    def of(cls, verifier: Verifier) -> _Line:
        stated = to_base64(verifier.key_hash + bytes(SIGNATURE_BYTES)).encode()
        start = f"— {verifier.name} ".encode() + stated[:5]
        first = _ALPHABET.index(stated[5]) & ~15
        return cls(start, frozenset(_ALPHABET[first : first + 16]), len(start) + len(stated) - 5 + 1)

    def fits(self, line: bytes) -> bool:
        """Tell whether a line, its line feed included, looks so, and is spelled in the one way of base64."""
        place = len(self.start)
        return (
            len(line) == self.length
            and line.startswith(self.start)
            and line.endswith(_ENDED)
            and line[place] in self.sixth
            and line[-3] in _LAST
            and not line[place:-2].translate(None, _ALPHABET)
        )


class Notes:
    """Judges the checkpoints of a log, in order.

    Args:
        origin: the log's name.
        keys: the log's keys in order, each with the first size that it signs; empty: the log is unsigned.
        last_size: the size of the newest checkpoint.
        roots: whether every root is held against the tree; False: only those whose signature is needed.
        verifies: whether signatures are verified at all.
        every_signature: whether all of them are, and not only the needed ones.

    Raises:
        LedgerTamperedError: the log has no proper name, or a key of it is none.
    """

    def __init__(
        self,
        origin: str,
        keys: Sequence[tuple[int, str]],
        last_size: int,
        *,
        roots: bool = True,
        verifies: bool = True,
        every_signature: bool = False,
    ) -> None:
        self.verified = 0
        """Signatures that are good."""
        try:
            Checkpoint(origin, 0, bytes(32))
            self._keys = [(first, Verifier.parse(vkey)) for first, vkey in keys]
        except CheckpointError as error:
            raise LedgerTamperedError(f"the log has no proper name or key: {error}") from error
        self._origin = origin.encode() + b"\n"
        self._roots = roots or every_signature
        self._verifies = verifies and bool(keys)
        self._every = every_signature
        self._needed = {first - 1 for first, _ in keys[1:]} | {last_size}
        self._take_key(0)

    def judge(self, start: int, size: int, note: bytes, root: Callable[[], bytes]) -> None:
        """Judge a checkpoint.

        Args:
            start: the size of the one before it.
            size: the rows that it covers.
            note: as it is stored.
            root: works out the root of these rows.

        Raises:
            LedgerTamperedError: it is not what it must be.
        """
        if size >= self._until:
            self._hand_on(start)
        if size in self._needed:
            self._judge_closely(start, size, note, root())
            return
        if self._roots:
            text = b"%b%d\n%b" % (self._origin, size, b2a_base64(root()))
            end = len(text)
        else:
            text = b"%b%d\n" % (self._origin, size)
            end = len(text) + _ROOT_CHARACTERS
        if not note.startswith(text) or not self._ends_well(note, end):
            raise _not_stated(start, size)
        if self._every and self._verifies:
            self._verify(start, size, note, self._signers[0])

    def _ends_well(self, note: bytes, end: int) -> bool:
        """Tell whether what follows a checkpoint's text is a blank line and one line of the log's key, or nothing."""
        if self._line is None:
            return len(note) == end
        return note.startswith(b"\n", end) and self._line.fits(note[end + 1 :])

    def _judge_closely(self, start: int, size: int, note: bytes, root: bytes) -> None:
        """Judge a checkpoint on whose signatures others stand, or all rows do."""
        signers = self._signers
        if size + 1 == self._until:
            # The next key signs this one too, to show that it can.
            signers = [*signers, self._keys[self._place + 1][1]]
        text = b"%b%d\n%b%b" % (self._origin, size, b2a_base64(root), b"\n" if signers else b"")
        lines = note[len(text) :].splitlines(keepends=True)
        fit = [_Line.of(signer).fits(line) for signer, line in zip(signers, lines, strict=False)]
        if not note.startswith(text) or len(lines) != len(signers) or not all(fit):
            raise _not_stated(start, size)
        for signer in signers if self._verifies else ():
            self._verify(start, size, note, signer)

    def _verify(self, start: int, size: int, note: bytes, signer: Verifier) -> None:
        try:
            open_note(note.decode(), signer)
        except CheckpointError as error:
            problem = f"the checkpoint of {size} rows is not good: {error}"
            raise LedgerTamperedError(problem, row_id=start + 1, size=size) from error
        self.verified += 1

    def _hand_on(self, start: int) -> None:
        """Go on with the log's next key. The row that says so is the last that the one before it signs."""
        self._take_key(self._place + 1)
        rotation = self._keys[self._place][0] - 1
        if start != rotation:
            problem = "it hands the log on to another key, and is not the last row of its commit"
            raise LedgerTamperedError(problem, row_id=rotation)

    def _take_key(self, place: int) -> None:
        self._place = place
        self._until = self._keys[place + 1][0] if place + 1 < len(self._keys) else float("inf")
        self._signers = [self._keys[place][1]] if self._keys else []
        self._line = _Line.of(self._signers[0]) if self._signers else None


def _not_stated(start: int, size: int) -> LedgerTamperedError:
    problem = f"rows {start + 1} to {size} are not what their checkpoint states"
    return LedgerTamperedError(problem, row_id=start + 1, size=size)
