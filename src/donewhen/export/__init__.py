"""A session for other programs: a bundle for an auditor, JSON Lines, CSV, or the agent audit trail draft's records.

Only a bundle proves something, by the receipt in it. Texts that are kept beside rows are in a bundle where that was
asked for, and in nothing else.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from donewhen import __version__, canonical
from donewhen.entry import LedgerRow, spell
from donewhen.errors import SessionNotFoundError
from donewhen.export.aat import Agent, Sign, aat_records, agent_of
from donewhen.export.bundle import make_bundle, receipt_rows
from donewhen.receipt import make_receipt

if TYPE_CHECKING:
    from donewhen.ledger import Ledger

__all__ = ["CSV_COLUMNS", "FORMATS", "MADE_BY", "export_session", "plain_cell"]

FORMATS = ("bundle", "jsonl", "csv", "aat")

MADE_BY = f"donewhen {__version__}"

CSV_COLUMNS = (
    "id",
    "session_id",
    "seq",
    "kind",
    "turn_count",
    "state_origin",
    "input_hash",
    "token_delta",
    "execution_time_ms",
    "pass_fail",
    "breach_reason",
    "created_at",
    "closes",
    "doubts",
    "data",
    "prev",
)
"""The tutorial's columns, and what a row has beside them. `data` is canonical JSON."""

_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
"""How what a spreadsheet runs begins, in both widths."""


def export_session(
    ledger: Ledger,
    session_id: str,
    form: str,
    *,
    with_texts: bool = False,
    agent: Agent | None = None,
    sign: Sign | None = None,
) -> bytes:
    """Return a session in one of the `FORMATS`.

    Args:
        ledger: open for reading or writing.
        session_id: the session.
        form: one of `FORMATS`.
        with_texts: put the kept texts into a bundle. The other formats have no place for them.
        agent: for ``aat``: who acted. None: named after the log, of an unknown version.
        sign: for ``aat``: signs each record, as `donewhen.export.aat.es256_signer` gives it. None: unsigned.

    Raises:
        ValueError: there is no such format, or it has no place for what was asked.
        SessionNotFoundError: there is no such session.
        LedgerTamperedError: what is stored is not what was signed. Nothing of it is passed on as if it were.
        LedgerFormatError: a row lacks what a record of the audit trail draft is made of.
        MissingExtraError: the ledger is signed, and the ``sign`` extra is not installed.
    """
    if form not in FORMATS:
        raise ValueError(f"{form!r} is not a format; they are {', '.join(FORMATS)}")
    if with_texts and form != "bundle":
        raise ValueError(f"kept texts can be exported in a bundle only, not as {form}")
    if form != "aat" and (agent is not None or sign is not None):
        raise ValueError(f"records of the audit trail draft name an agent and can be signed; {form} cannot")
    if form == "bundle":
        return make_bundle(ledger, session_id, with_texts=with_texts, made_by=MADE_BY)
    rows = _rows(ledger, session_id)
    if form == "csv":
        return _csv(rows)
    if form == "jsonl":
        return b"".join([spell(row) + b"\n" for row in rows])
    origin = ledger.origin
    records = aat_records(rows, origin=origin, agent=agent or agent_of(origin), made_by=MADE_BY, sign=sign)
    return b"".join([record + b"\n" for record in records])


def _rows(ledger: Ledger, session_id: str) -> Sequence[LedgerRow]:
    """Return a session's rows, in a signed ledger only if they are what was signed."""
    if ledger.signed_by is not None:
        return receipt_rows(make_receipt(ledger, session_id))
    rows = ledger.rows(session_id)
    if not rows:
        raise SessionNotFoundError(session_id, f"no such session in {ledger.path}")
    return rows


def _csv(rows: Sequence[LedgerRow]) -> bytes:
    made = io.StringIO(newline="")
    # Every cell in quotes: then no program takes a text for a number, and a line break stays in its cell.
    writer = csv.writer(made, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        writer.writerow([plain_cell(cell) for cell in _cells(row)])
    return made.getvalue().encode("utf-8", "backslashreplace")


def _cells(row: LedgerRow) -> tuple[object, ...]:
    return (
        row.id,
        row.session_id,
        row.seq,
        row.kind,
        row.turn_count,
        row.state_origin,
        row.input_hash,
        row.token_delta,
        row.execution_time_ms,
        int(row.pass_fail),
        row.breach_reason,
        row.created_at,
        row.closes,
        row.doubts,
        canonical.dumps(row.data).decode("utf-8") if row.data else "",
        row.prev,
    )


def plain_cell(value: object) -> str:
    """Return a value as a cell that no spreadsheet takes for a formula.

    A text that begins like one, after any white space, gets an apostrophe in front; so does one that begins with an
    apostrophe, so that taking one away gives the text back.

    Args:
        value: a text, a whole number from 0 on, or None for an empty cell.

    Source: OWASP, CSV Injection.
    """
    text = "" if value is None else str(value)
    begins = text.lstrip()
    is_risky = bool(begins) and (begins[0] in _FORMULA or begins[0] == "'")
    return f"'{text}" if is_risky or text[:1] in ("\t", "\r", "\n") else text
