"""A session in one file, for an auditor: its rows, their receipt, the checkpoint, the signed words of reviewers.

The file is a ZIP that is made reproducibly: the same rows under the same checkpoint give the same bytes. Nothing in it
is compressed, since compressors differ. Texts that are kept beside rows are in it only where that was asked for.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from donewhen.entry import LOG_SESSION, LedgerRow, decode, spell
from donewhen.errors import SessionNotFoundError
from donewhen.receipt import Receipt, make_receipt
from donewhen.texts import commit_to

if TYPE_CHECKING:
    from donewhen.ledger import Ledger

FORMAT = "donewhen.bundle/v1"

_THE_FIRST_DAY = (1980, 1, 1, 0, 0, 0)
"""The oldest time that a ZIP can state: files in a bundle have none."""

_READABLE = 0o100644 << 16
_SAFE = re.compile("[A-Za-z0-9_-]{1,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What a bundle is made of."""

    origin: str
    session_id: str
    rows: Sequence[LedgerRow]
    size: int
    files: Mapping[str, bytes]
    signed: bool
    with_texts: bool


def make_bundle(ledger: Ledger, session_id: str, *, with_texts: bool, made_by: str) -> bytes:
    """Return a session as a bundle.

    Args:
        ledger: open for reading or writing.
        session_id: the session.
        with_texts: put in the texts that are kept beside its rows, with their salts.
        made_by: the program that makes it, with its version.

    Raises:
        SessionNotFoundError: there is no such session.
        LedgerTamperedError: what is stored is not what was signed.
        MissingExtraError: the ledger is signed, and the ``sign`` extra is not installed.
    """
    parts = _gather(ledger, session_id, with_texts=with_texts)
    files = {"README.txt": _readme(parts).encode("utf-8"), **parts.files}
    digests = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    manifest = {
        "format": FORMAT,
        "made_by": made_by,
        "origin": parts.origin,
        "session": parts.session_id,
        "rows": len(parts.rows),
        "first_row": parts.rows[0].id,
        "last_row": parts.rows[-1].id,
        "checkpoint_size": parts.size,
        "signed": parts.signed,
        "with_texts": parts.with_texts,
        "files": digests,
    }
    return _zip({**files, "manifest.json": _json(manifest)})


def receipt_rows(receipt: Receipt) -> list[LedgerRow]:
    """Return the rows in a receipt that was verified."""
    return [decode(body) for body in receipt.bodies]


def _gather(ledger: Ledger, session_id: str, *, with_texts: bool) -> _Parts:
    signed = ledger.signed_by is not None
    rows, note, receipts = _signed(ledger, session_id) if signed else _unsigned(ledger, session_id)
    files = {"rows.jsonl": _lines(rows), "checkpoint.txt": note.encode("utf-8"), **receipts, **_envelopes(rows)}
    if with_texts:
        files.update(_texts(ledger, rows))
    return _Parts(
        origin=ledger.origin,
        session_id=session_id,
        rows=rows,
        size=_size_of(note),
        files=files,
        signed=signed,
        with_texts=with_texts,
    )


def _signed(ledger: Ledger, session_id: str) -> tuple[list[LedgerRow], str, dict[str, bytes]]:
    """Return a session's rows, the checkpoint they are proven under, and the receipts, by file name."""
    receipt = make_receipt(ledger, session_id)
    files = {"receipts/session.receipt": receipt.dumps()}
    size = _size_of(receipt.note)
    if session_id != LOG_SESSION and any(row.id <= size for row in ledger.rows(LOG_SESSION)):
        files["receipts/log.receipt"] = make_receipt(ledger, LOG_SESSION, size=size).dumps()
    return receipt_rows(receipt), receipt.note, files


def _unsigned(ledger: Ledger, session_id: str) -> tuple[list[LedgerRow], str, dict[str, bytes]]:
    newest = ledger.store.newest_sealed()
    rows = [row for row in ledger.rows(session_id) if row.id <= newest.size]
    if not rows:
        raise SessionNotFoundError(session_id, f"no such session in {ledger.path}")
    return rows, newest.note, {}


def _size_of(note: str) -> int:
    """Return the size that a checkpoint states."""
    return int(note.split("\n", 2)[1])


def _lines(rows: Sequence[LedgerRow]) -> bytes:
    return b"".join([spell(row) + b"\n" for row in rows])


def _envelopes(rows: Sequence[LedgerRow]) -> dict[str, bytes]:
    signed = [row for row in rows if isinstance(row.data.get("envelope"), str)]
    return {f"attestations/{row.id}-{row.kind}.dsse.json": row.data["envelope"].encode("utf-8") for row in signed}


def _texts(ledger: Ledger, rows: Sequence[LedgerRow]) -> dict[str, bytes]:
    """Return the kept texts, each in a file, and what each is and commits to in one more."""
    files: dict[str, bytes] = {}
    told: list[dict[str, Any]] = []
    for row in rows:
        for number, label in enumerate(sorted(row.data.get("texts", {}))):
            if ledger.find_text(row, label) is None:  # erased; refuses one that is not what was committed to
                continue
            salt, text = ledger.store.find_text(row.id, label) or (b"", b"")
            name = f"texts/{row.id}-{label if _SAFE.fullmatch(label) else number}.txt"
            files[name] = text
            commitment = commit_to(salt, text)
            told.append({"file": name, "row": row.id, "label": label, "salt": salt.hex(), "commitment": commitment})
    return {**files, "texts.json": _json(told)}


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode("ascii")


def _zip(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _THE_FIRST_DAY)
            entry.create_system, entry.external_attr = 3, _READABLE
            archive.writestr(entry, files[name])
    return made.getvalue()


def _readme(parts: _Parts) -> str:
    proof = _SIGNED if parts.signed else _UNSIGNED
    texts = _WITH_TEXTS if parts.with_texts else _WITHOUT_TEXTS
    shown = json.dumps(parts.session_id)
    shared = f"\n{_SHARED}" if any(len(row.after) > 1 for row in parts.rows) else ""
    return f"{_ABOUT.format(session=shown, origin=parts.origin, rows=len(parts.rows))}\n{proof}\n{texts}{shared}"


_ABOUT = """\
A session of a donewhen ledger, for whoever audits it.

Session    {session}
Log        {origin}
Rows       {rows}

rows.jsonl                 the rows as they are stored and hashed, one a line, oldest first
receipts/session.receipt   the same rows with the proof that they stand in the log
receipts/log.receipt       the log's own rows: which keys sign it, and whose keys its reviewers have
checkpoint.txt             the signed state of the log that the receipts lead to
attestations/              what reviewers signed: DSSE envelopes over in-toto Statements
manifest.json              the digest of every file. It is a table of contents, not a proof
"""

_SIGNED = """\
What is proven, and how to see it
Get the log's public key from whoever keeps the log, by a way that you trust. This bundle holds no key that you should
believe. Then, with Python and the package `cryptography`, and verify_receipt.py from donewhen's documentation:

    python verify_receipt.py receipts/session.receipt --key VKEY
    python verify_receipt.py receipts/log.receipt --key VKEY

Every line of rows.jsonl stands in the receipt, byte by byte. An envelope counts if its signature is that of a reviewer
who is enrolled in the log's own rows before it. The bundle does not say whether the session went on later.
"""

_UNSIGNED = """\
NOTHING IS PROVEN. The ledger is unsigned: whoever could write its file could have written this.
There are no receipts. checkpoint.txt states the log's root, and nobody has signed it.
"""

_WITH_TEXTS = """\
Texts
texts/ holds what was kept beside the rows: outputs, tool calls, conversations. texts.json has a salt for each. The row
holds the digest of 'donewhen/v1/text', a NUL byte, the salt and the text (SHA-256).
"""

_WITHOUT_TEXTS = """\
Texts
Outputs, tool calls and conversations are not in this bundle, only their digests. They may be private.
"""

_SHARED = """\
Shared ceilings
The session stood under budgets, or was another session's child. Each row says what they had spent and reserved by then,
and that was moved by other sessions too, whose rows are not in this bundle. Nor are those that raised, lowered or halted a
budget: they are the session donewhen:budget:NAME, which can be exported as this one was. A halt of everything is donewhen:all.
"""
