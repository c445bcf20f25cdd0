"""Receipts: one small file that proves one row, one turn or one session, offline.

A receipt holds the rows as they are stored, oldest first, and one C2SP tlog-proof of the last of them. Each row names
the digest of the session's row before it, so one proof under one signed root proves them all. It is checked against the
public key that the reader holds, never against one in the file.

What a receipt cannot say: whether the session has later rows, and whether what the rows say is true.

``docs/verify_receipt.py`` reads the same files without donewhen; tests hold both against each other.

Source: C2SP tlog-proof, tlog-checkpoint, tlog-cosignature; docs/receipts.md.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from donewhen.cosignatures import Cosigner, cosigned_at
from donewhen.entry import GENESIS, LedgerRow, decode, link, spell
from donewhen.errors import (
    CheckpointError,
    LedgerFormatError,
    LedgerTamperedError,
    NotProvableError,
    SessionNotFoundError,
)
from donewhen.keyring import Keyring
from donewhen.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from donewhen.notes import Verifier, add_signature_lines, open_checkpoint
from donewhen.signature_lines import CONTROLS, from_base64, to_base64
from donewhen.stores.log_tree import inclusion_proof

if TYPE_CHECKING:
    from donewhen.ledger import Ledger
    from donewhen.stores import Sealed, Store

__all__ = ["Proven", "Receipt", "make_receipt", "verify_receipt"]

FIRST_LINE = "donewhen.receipt/v1"
PROOF_LINE = "c2sp.org/tlog-proof@v1"

MOST_BYTES = 64 * 2**20
"""A receipt that is larger is refused before it is read."""

_INDEX = re.compile("index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a receipt holds. Nothing of it is verified."""

    bodies: tuple[str, ...]
    """The rows as they are stored, oldest first; at least one."""
    index: int
    """The place of the last row in the log, from 0."""
    proof: tuple[bytes, ...]
    """From the last row's sibling up to the root's child, 32 bytes each."""
    note: str
    """The signed checkpoint, with the lines of those who cosigned it."""

    @property
    def tlog_proof(self) -> str:
        """Return the part that other programs read too: the proof that the last row is under the checkpoint.

        Source: C2SP tlog-proof.
        """
        lines = [PROOF_LINE, f"index {self.index}", *map(to_base64, self.proof)]
        return "\n".join(lines) + f"\n\n{self.note}"

    def dumps(self) -> bytes:
        """Return the file."""
        return "\n".join([FIRST_LINE, *self.bodies, "", self.tlog_proof]).encode("utf-8")

    @classmethod
    def loads(cls, data: bytes) -> Receipt:
        """Read a file, which has one spelling: what was read is what `dumps` writes.

        Raises:
            LedgerFormatError: it is not a receipt, or is spelled another way.
        """
        if len(data) > MOST_BYTES:
            raise LedgerFormatError(f"a receipt has at most {MOST_BYTES} bytes, not {len(data)}")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise LedgerFormatError(f"a receipt is UTF-8 text: {error}") from error
        if CONTROLS.search(text):
            raise LedgerFormatError("a receipt has no control characters")
        rows, _, others = text.partition("\n\n")
        proof, _, note = others.partition("\n\n")
        first, *bodies = rows.split("\n")
        if first != FIRST_LINE or not bodies:
            raise LedgerFormatError(f"this is not a receipt: it does not begin with {FIRST_LINE} and a row")
        index, digests = _read_proof(proof)
        return cls(bodies=tuple(bodies), index=index, proof=digests, note=note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What a receipt proves to the holder of a key."""

    rows: tuple[LedgerRow, ...]
    """Consecutive rows of one session, oldest first."""
    origin: str
    """The log's name."""
    size: int
    """How many rows the log had when its checkpoint was signed."""
    root: str
    """The root over them, lower-case hex."""
    signed_by: str
    """The public key that signed, which is the one that was given."""
    cosigned: tuple[tuple[str, int], ...]
    """(public key, seconds since 1970) of each witness that was asked for."""

    @property
    def session_id(self) -> str:
        """Return the session that the rows are of."""
        return self.rows[0].session_id

    @property
    def not_said(self) -> tuple[str, ...]:
        """Return in sentences what nobody can know from this receipt."""
        first, last = self.rows[0], self.rows[-1]
        missing: list[str] = []
        if first.seq > 1:
            missing.append(f"what stands in the session's rows 1 to {first.seq - 1}, which are not shown")
        missing.append(f"whether the session has rows after its no. {last.seq}")
        if not self.cosigned:
            missing.append("whether others are shown the same log: no witness was asked for")
        missing.append("whether what the rows say is true, and whether the clock was right")
        return tuple(missing)


def make_receipt(
    ledger: Ledger, session_id: str, *, turn: int | None = None, row_id: int | None = None, size: int | None = None
) -> Receipt:
    """Prove a session, one of its turns, or one of its rows.

    The checkpoint is the newest one that a witness has cosigned, of those that cover the rows and are signed by the
    log's newest key; without one it is the newest.

    Args:
        ledger: open for reading or writing.
        session_id: whose rows.
        turn: only the rows of this turn, and what stands between them. None: all there are.
        row_id: only this row. None: all there are.
        size: under the checkpoint of exactly this size, with the rows that it covers. None: chosen as said above.

    Raises:
        SessionNotFoundError: there is no such session, turn or row.
        NotProvableError: the ledger is unsigned, or was never sealed at that size.
        LedgerTamperedError: what is stored is not what was signed, so there is nothing to prove.
        MissingExtraError: the ``sign`` extra is not installed.
    """
    store = ledger.store
    newest = store.newest_sealed() if size is None else _sealed_exactly(store, size)
    rows = [row for row in store.read_session(session_id) if row.id <= newest.size]
    if not rows:
        raise SessionNotFoundError(session_id, f"no such session in {ledger.path}")
    if store.vkey is None:
        raise NotProvableError("the ledger is unsigned, and a receipt proves nothing without the signature of a key")
    chosen = _choose_rows(session_id, rows, turn, row_id)
    keyring = Keyring.read(store)
    sealed = newest if size is not None else _choose_checkpoint(store, keyring, chosen[-1].id, newest)
    cosigned = {one.vkey: one.line for one in store.read_cosigned(sealed.size)}
    index = chosen[-1].id - 1
    with _refusing_bad_notes():
        receipt = Receipt(
            bodies=tuple([spell(row).decode("utf-8") for row in chosen]),
            index=index,
            proof=tuple(inclusion_proof(index, sealed.size, store.sealed_at)),
            note=add_signature_lines(sealed.note, cosigned.values()),
        )
        # The key in the file proves nothing to anybody else. It keeps us from handing out what is not what was signed.
        verifier = Verifier.parse(keyring.log_key_at(sealed.size, store.vkey) or store.vkey)
        verify_receipt(receipt, verifier, witnesses=[Cosigner.parse(vkey) for vkey in cosigned])
    return receipt


def verify_receipt(receipt: Receipt | bytes, verifier: Verifier, *, witnesses: Sequence[Cosigner] = ()) -> Proven:
    """Return what a receipt proves to whoever holds a log's public key.

    Args:
        receipt: the file's bytes, or what was read of it.
        verifier: the log's public key, from whoever vouches for it. After a rotation it is the newest. It is of this
            log alone: another log's checkpoint is refused, whatever private key signed it.
        witnesses: who must have cosigned the checkpoint, each of them.

    Raises:
        LedgerFormatError: it is not a receipt, or is spelled another way.
        LedgerTamperedError: it does not prove its rows: something was changed, or it is of another key.
        NotProvableError: a witness has not cosigned the checkpoint in it.
        MissingExtraError: the ``sign`` extra is not installed.
    """
    if isinstance(receipt, bytes):
        receipt = Receipt.loads(receipt)
    with _refusing_bad_notes():
        checkpoint = open_checkpoint(receipt.note, verifier)
    rows = _read_rows(receipt.bodies)
    if rows[-1].id != receipt.index + 1:
        raise LedgerTamperedError(f"the proof is of row {receipt.index + 1}, not of the last row", row_id=rows[-1].id)
    leaf = leaf_hash(receipt.bodies[-1].encode("utf-8"))
    verify_inclusion(leaf, receipt.index, checkpoint.size, receipt.proof, checkpoint.root)
    # Last: a witness that is missing is no news about rows that are not good.
    with _refusing_bad_notes():
        cosigned = tuple([(witness.vkey, _cosigned_at(receipt.note, witness)) for witness in witnesses])
    return Proven(
        rows=rows,
        origin=checkpoint.origin,
        size=checkpoint.size,
        root=checkpoint.root.hex(),
        signed_by=verifier.vkey,
        cosigned=cosigned,
    )


# -- reading -----------------------------------------------------------------------------------------------------------


def _read_proof(text: str) -> tuple[int, tuple[bytes, ...]]:
    first, *lines = text.split("\n")
    index = _INDEX.fullmatch(lines[0]) if lines else None
    if first != PROOF_LINE or index is None:
        raise LedgerFormatError("there is no tlog-proof behind the rows of the receipt")
    digests = [from_base64(line) or b"" for line in lines[1:]]
    if any(len(digest) != HASH_BYTES for digest in digests):
        raise LedgerFormatError("a line of the receipt's proof is not a digest of 32 bytes in base64")
    return int(index[1]), tuple(digests)


def _read_rows(bodies: Sequence[str]) -> tuple[LedgerRow, ...]:
    """Return the rows, each of which must follow the one before it."""
    rows: list[LedgerRow] = []
    prev = GENESIS
    for body in bodies:
        row = decode(body, strict=True)
        if not rows:
            _refuse_bad_start(row)
        elif (row.session_id, row.seq) != (rows[-1].session_id, rows[-1].seq + 1) or row.id <= rows[-1].id:
            raise LedgerTamperedError("it does not follow the row before it: one is missing or moved", row_id=row.id)
        elif row.prev != prev:
            raise LedgerTamperedError("it follows another row than the one before it", row_id=row.id)
        rows.append(row)
        prev = link(leaf_hash(body.encode("utf-8")))
    return tuple(rows)


def _refuse_bad_start(row: LedgerRow) -> None:
    if row.seq < 1 or (row.seq == 1) != (row.prev == GENESIS):
        raise LedgerTamperedError("it is the first of a session and follows another row, or the reverse", row_id=row.id)


@contextmanager
def _refusing_bad_notes() -> Generator[None, None, None]:
    try:
        yield
    except CheckpointError as error:
        raise LedgerTamperedError(f"the checkpoint is not good: {error}") from error


def _cosigned_at(note: str, witness: Cosigner) -> int:
    """Return when a witness cosigned a checkpoint, in seconds since 1970."""
    time = cosigned_at(note, witness)
    if time is None:
        raise NotProvableError(f"the witness {witness.name} has not cosigned the checkpoint in this receipt")
    return time


# -- choosing ----------------------------------------------------------------------------------------------------------


def _choose_rows(session_id: str, rows: list[LedgerRow], turn: int | None, row_id: int | None) -> list[LedgerRow]:
    if turn is not None and row_id is not None:
        raise ValueError("a receipt is of a turn or of a row, not of both")
    if turn is None and row_id is None:
        return rows
    places = [place for place, row in enumerate(rows) if turn == row.turn_count or row_id == row.id]
    if not places:
        what = f"turn {turn}" if row_id is None else f"row {row_id}"
        raise SessionNotFoundError(session_id, f"{what} is not one of this session's")
    return rows[places[0] : places[-1] + 1]


def _choose_checkpoint(store: Store, keyring: Keyring, last_id: int, newest: Sealed) -> Sealed:
    """Return the newest checkpoint over a row that a witness has cosigned, else the newest."""
    key = keyring.log_key_at(newest.size, store.vkey)
    sizes = {one.size for one in store.read_cosigned() if last_id <= one.size <= newest.size}
    for size in sorted(sizes, reverse=True):
        # Who checks it holds the log's newest key.
        if keyring.log_key_at(size, store.vkey) == key:
            sealed = store.sealed_at(size - 1)
            if sealed is None or sealed.size != size:
                raise LedgerTamperedError(f"a cosignature is stored of a checkpoint of {size} rows, which is not")
            return sealed
    return newest


def _sealed_exactly(store: Store, size: int) -> Sealed:
    sealed = store.sealed_at(size - 1)
    if sealed is None or sealed.size != size:
        raise NotProvableError(f"no checkpoint of {size} rows is stored")
    return sealed
