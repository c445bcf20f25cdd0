"""What the checkpoints of a log must state, and who signed them.

Every checkpoint's text is worked out from the rows: the log's name, its size and its root. So the newest signature
vouches for every row, and for the text of every checkpoint before it; an older signature adds nothing to that. By
default older ones must only be well formed: one line, of the key that the log had by then. The checkpoints at which a
key was handed on are verified too, since the next key stands on them: both keys sign there, a line each.

Source: C2SP signed-note, tlog-checkpoint; docs/ledger_format.md.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass

from donewhen.errors import CheckpointError, LedgerTamperedError
from donewhen.notes import Checkpoint, Verifier, open_note
from donewhen.signature_lines import SIGNATURE_BYTES, to_base64

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_LAST = b"AEIMQUYcgkosw048"
"""The characters that a base64 text of 68 bytes can end with, before its padding."""
_ROOT_CHARACTERS = 44
_NEVER = 2**63
"""A size that no checkpoint can have."""

Commit = tuple[int, int, bytes, bytes]
"""A sealed state as it is stored: size, start, note, nodes."""

Ended = tuple[Commit, bytes, int]
"""A commit whose last row was followed; the root there, if it is needed; and where the hashes that its rows complete end
among those of the rows with which it was read."""


@dataclass(frozen=True, slots=True)
class _Line:
    """How a signature line of a key looks: 4 bytes that name the key, and 64 that are not looked at."""

    start: bytes
    """Up to the last character that the key alone decides."""
    sixth: bytes
    """What can follow: the last two bits of the key's hash, and four of the signature."""
    length: int
    """What follows the start, the line feed included."""

    @classmethod
    def of(cls, verifier: Verifier) -> _Line:
        stated = to_base64(verifier.key_hash + bytes(SIGNATURE_BYTES)).encode()
        first = _ALPHABET.index(stated[5]) & ~15
        start = f"— {verifier.name} ".encode() + stated[:5]
        return cls(start, _ALPHABET[first : first + 16], len(stated) - 5 + 1)

    def fits(self, line: bytes) -> bool:
        """Tell whether a line, its line feed included, looks so, and is spelled in the one way of base64."""
        return line.startswith(self.start) and self.all_fit([line[len(self.start) :]])

    def all_fit(self, ends: Sequence[bytes]) -> bool:
        """Tell whether what follows the start of some lines does.

        All are looked at together: of each place, the characters that stand there in one line after the other.
        """
        step, count, joined = self.length, len(ends), b"".join(ends)
        return (
            {step}.issuperset(map(len, ends))
            and joined[step - 2 :: step] == b"=" * count
            and joined[step - 1 :: step] == b"\n" * count
            and not joined[0::step].translate(None, self.sixth)
            and not joined[step - 3 :: step].translate(None, _LAST)
            and len(joined.translate(None, _ALPHABET)) == 2 * count
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
        for _, verifier in self._keys:
            if verifier.name != origin:
                raise LedgerTamperedError(f"the log {origin} names a key of another log as its own: {verifier.vkey}")
        self._origin = origin.encode() + b"\n"
        self.needs_all_roots = roots or every_signature
        """Whether every checkpoint is judged with its root."""
        self.needed = {first - 1 for first, _ in keys[1:]} | {last_size}
        """The sizes of the checkpoints that are judged with their root in any case."""
        self._verifies = verifies and bool(keys)
        self._every = every_signature
        self._next = min(self.needed)
        """The size from which on checkpoints are judged one by one."""
        self._take_key(0)

    def judge(self, ended: Sequence[Ended]) -> None:
        """Judge checkpoints that follow one another.

        Raises:
            LedgerTamperedError: one is not what it must be; names the first.
        """
        if not ended:
            return
        last = ended[-1][0][0]
        if last < self._next and not self._every:
            self._judge_plain(ended)
            return
        for one in ended:
            (size, start, note, _), root, _ = one
            while size >= self._until:
                self._hand_on(start)
            if size in self.needed or self._every:
                self._judge_closely(start, size, note, root)
            else:
                self._judge_plain([one])
        self._next = min([size for size in self.needed if size > last], default=_NEVER)

    def _judge_plain(self, ended: Sequence[Ended]) -> None:
        """Judge checkpoints of one key, whose signatures are not verified."""
        if not self._are_stated(ended):
            (size, start, _, _), _, _ = next((one for one in ended if not self._are_stated([one])), ended[0])
            raise _not_stated(start, size)

    def _are_stated(self, ended: Sequence[Ended]) -> bool:
        """Tell whether checkpoints state what they must, with a blank line and one line of the log's key, or nothing."""
        origin, line, ends = self._origin, self._line, list[bytes]()
        after = b"" if line is None else b"\n" + line.start
        after_root = b"\n" + after
        for (size, _, note, _), root, _ in ended:
            if root:
                text = b"%b%d\n%b%b" % (origin, size, b2a_base64(root), after)
                place, is_so = len(text), note.startswith(text)
            else:
                text = b"%b%d\n" % (origin, size)
                place = len(text) + _ROOT_CHARACTERS + len(after_root)
                is_so = note.startswith(text) and note.endswith(after_root, 0, place)
            if not is_so:
                return False
            ends.append(note[place:])
        return not any(ends) if line is None else line.all_fit(ends)

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
        self._until = self._keys[place + 1][0] if place + 1 < len(self._keys) else _NEVER
        self._signers = [self._keys[place][1]] if self._keys else []
        self._line = _Line.of(self._signers[0]) if self._signers else None


def _not_stated(start: int, size: int) -> LedgerTamperedError:
    rows = f"rows {start + 1} to {size} are" if size else "no rows are"
    return LedgerTamperedError(f"{rows} not what their checkpoint states", row_id=start + 1, size=size)
