"""What the checkpoints of a log must state, and who signed them.

Every checkpoint's text is worked out from the rows: the log's name, its size and its root. So the newest signature
vouches for every row, and for the text of every checkpoint before it; an older signature adds nothing to that. By
default older ones must only be well formed: one line, of the key that the log had by then. The checkpoints at which a
key was handed on are verified too, since the next key stands on them: both keys sign there, a line each.

Source: C2SP signed-note, tlog-checkpoint; docs/ledger_format.md.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Callable, Sequence

from donewhen.errors import CheckpointError, LedgerTamperedError
from donewhen.notes import Checkpoint, Verifier, open_note
from donewhen.signature_lines import SIGNATURE_BYTES, to_base64

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_ROOT = "[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=\n"

Match = Callable[[bytes, int], object]
"""Tells whether a note ends, from a place on, as it must."""


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
        is_needed = size in self._needed
        if self._roots or is_needed:
            text, ends = b"%b%d\n%b" % (self._origin, size, b2a_base64(root())), self._ends
        else:
            text, ends = b"%b%d\n" % (self._origin, size), self._ends_after_root
        signers = self._signers
        if size + 1 == self._until:
            # The next key signs this one too, to show that it can.
            signers = [*signers, self._keys[self._place + 1][1]]
            ends = _ending("".join([_line_of(signer) for signer in signers]))
        if not note.startswith(text) or ends(note, len(text)) is None:
            raise _not_stated(start, size)
        if self._verifies and (is_needed or self._every):
            for signer in signers:
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
        line = "".join([_line_of(signer) for signer in self._signers])
        self._ends = _ending(line)
        self._ends_after_root = _ending(_ROOT, line)


def _ending(*parts: str) -> Match:
    """Return what matches the end of a note, the blank line before its signatures included."""
    *before, lines = parts
    return re.compile("".join([*before, f"\n{lines}" if lines else ""]).encode()).fullmatch


def _line_of(verifier: Verifier) -> str:
    """Return what matches a signature line of a key: 4 bytes that name it, and 64 that are not looked at."""
    stated = to_base64(verifier.key_hash + bytes(SIGNATURE_BYTES))
    # The sixth character holds the last two bits of the key's hash and four of the signature.
    sixth = re.escape(_ALPHABET[_ALPHABET.index(stated[5]) & ~15 :][:16])
    many = len(stated) - 8
    return f"— {re.escape(verifier.name)} {re.escape(stated[:5])}[{sixth}][A-Za-z0-9+/]{{{many}}}[AEIMQUYcgkosw048]=\n"


def _not_stated(start: int, size: int) -> LedgerTamperedError:
    problem = f"rows {start + 1} to {size} are not what their checkpoint states"
    return LedgerTamperedError(problem, row_id=start + 1, size=size)
