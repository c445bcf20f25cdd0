"""A row that is edited behind the ledger's back, and the auditor that names it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from donewhen.demo.stage import Fact, Scene, Stage
from donewhen.errors import LedgerTamperedError
from donewhen.notes import Verifier
from donewhen.verify import verify_ledger


def an_edited_row(stage: Stage) -> Scene:
    """Verify the ledger, then make one call look cheaper in a copy of it, and verify that."""
    verifier = Verifier.parse(stage.vkey_file.read_text(encoding="utf-8").strip())
    report = verify_ledger(stage.store, verifier)
    with stage.open_ledger() as ledger:
        row = next(row for row in ledger.rows(stage.audit_session) if row.kind == "llm")
    copy = stage.folder / "edited.db"
    refusal = _edit(stage.store, copy, row.id, row.token_delta)
    try:
        verify_ledger(copy, verifier)
    except LedgerTamperedError as error:
        caught: LedgerTamperedError | None = error
    else:
        caught = None
    facts = (
        Fact("the record as it is verifies", f"{report.rows} rows, {report.checkpoints} checkpoints", report.rows > 0),
        Fact("the database refuses an edit", refusal or "it did not", refusal is not None),
        Fact(
            f"with its triggers taken away, row {row.id} was edited, and is named",
            "it was not caught" if caught is None else str(caught),
            caught is not None and caught.row_id == row.id,
        ),
    )
    return Scene(title="An edited row", promise="The record holds", facts=facts)


def _edit(store: Path, copy: Path, row_id: int, tokens: int) -> str | None:
    """Edit a row of a copy as someone does who owns the file, and return how the database refused at first."""
    with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        edit = "UPDATE entries SET body = replace(body, ?, ?) WHERE id = ?"
        values = (f'"tokens":{tokens},', '"tokens":1,', row_id)
        try:
            target.execute(edit, values)
        except sqlite3.IntegrityError as error:
            refusal: str | None = str(error)
        else:
            refusal = None
        triggers = target.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            target.execute(f'DROP TRIGGER "{name}"')
        target.execute(edit, values)
        # Put back, so that nothing but the row itself gives the forger away.
        for _, made_by in triggers:
            target.execute(made_by)
        target.commit()
    return refusal
