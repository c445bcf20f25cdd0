"""Receipts for tests: ledgers they are made of, and the auditor's own program, which imports nothing of donewhen."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from processes import PATIENCE_SECONDS
from stores.kit import SIGNER, say

from donewhen.cosignatures import Cosigner, cosign_text, cosigner_of
from donewhen.errors import DonewhenError, NotProvableError
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner
from donewhen.receipt import verify_receipt
from donewhen.signature_lines import split_note
from donewhen.stores import Cosigned

PROGRAM = Path(__file__).parent.parent / "docs" / "verify_receipt.py"

WITNESS = LocalSigner("witness.example/w1", bytes(range(32)))
OTHER_WITNESS = LocalSigner("witness.example/w2", bytes(range(1, 33)))
COSIGNED_AT = 1_800_000_000

ROWS = [0, 1, 0, 0, 2, 1, 0, 1, 0, 2, 0]
"""Which session each row of the usual ledger is of."""


def load_program() -> ModuleType:
    """Return the auditor's program as a module."""
    spec = importlib.util.spec_from_file_location("verify_receipt", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


AUDITOR = load_program()


def run_program(*words: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the auditor's program as a process of its own, in which nothing of ours can be imported."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-W", "error", str(PROGRAM), *map(str, words)]
    return subprocess.run(
        command, input=stdin, capture_output=True, env=environment, timeout=PATIENCE_SECONDS, check=False
    )


def fill(ledger: Ledger, sessions: list[int] = ROWS) -> None:
    """Write rows of some sessions, interleaved, each in a commit of its own."""
    for number, session in enumerate(sessions):
        say(ledger, f"row {number}", f"session-{session}")


def cosign(ledger: Ledger, *witnesses: LocalSigner, at: int = COSIGNED_AT) -> None:
    """Let witnesses cosign the newest checkpoint."""
    sealed = ledger.store.newest_sealed()
    assert sealed is not None
    text = split_note(sealed.note)[0]
    for witness in witnesses:
        line = cosign_text(text, witness, at)
        ledger.store.put_cosigned(Cosigned(sealed.size, cosigner_of(witness).vkey, line, "2026-11-22T00:00:00+00:00"))


def both_say(data: bytes, vkey: str = SIGNER.vkey, *witnesses: str) -> dict[str, Any] | str:
    """Return what a receipt proves, or that it does not, as both programs must say."""
    ours, theirs = _ours(data, vkey, witnesses), _theirs(data, vkey, witnesses)
    assert ours == theirs
    return ours


def _ours(data: bytes, vkey: str, witnesses: tuple[str, ...]) -> dict[str, Any] | str:
    from donewhen.notes import Verifier

    try:
        cosigners = [Cosigner.parse(witness) for witness in witnesses]
        proven = verify_receipt(data, Verifier.parse(vkey), witnesses=cosigners)
    except NotProvableError:
        return "not provable"
    except DonewhenError:
        return "not proven"
    rows = [(row.id, row.seq, row.session_id, row.kind, row.prev, row.created_at) for row in proven.rows]
    cosigned = [(vkey.partition("+")[0], seconds) for vkey, seconds in proven.cosigned]
    signed_by = proven.signed_by.partition("+")[0]
    return {"rows": rows, "log": (proven.origin, proven.size, proven.root, signed_by), "cosigned": cosigned}


def _theirs(data: bytes, vkey: str, witnesses: tuple[str, ...]) -> dict[str, Any] | str:
    try:
        proven = AUDITOR.verify(data, vkey, witnesses)
    except AUDITOR.CannotProveError:
        return "not provable"
    except AUDITOR.NotProvenError:
        return "not proven"
    names = ("id", "seq", "session", "kind", "prev", "at")
    rows = [tuple(row[name] for name in names) for row in proven["rows"]]
    log = tuple(proven[name] for name in ("origin", "size", "root", "signed_by"))
    return {"rows": rows, "log": log, "cosigned": proven["cosigned"]}
