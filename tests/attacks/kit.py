"""What is done after an attack: somebody goes on who knows of nothing, and an auditor comes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from attacks.forger import Forger, copy
from attacks.ledger_200 import KEY, SIGNER
from donewhen.errors import LedgerError, LedgerTamperedError
from donewhen.ledger import Ledger
from donewhen.notes import LocalSigner, Verifier
from donewhen.verify import Seen, verify_ledger

Copied = Callable[[Path], Forger]


def go_on_honestly(path: Path, signer: LocalSigner = SIGNER) -> None:
    """Append as somebody does who knows of nothing. The writer may refuse; it must not launder."""
    try:
        with Ledger(path, signer=signer) as ledger:
            for session in ("new", "by-hand"):
                ledger.write(session, 1, "step", "afterwards", 1, 1, True)
    except LedgerError:
        return


def refuse(path: Path, verifier: Verifier = KEY, *, seen: Sequence[Seen] = ()) -> LedgerTamperedError:
    with pytest.raises(LedgerTamperedError) as caught:
        verify_ledger(path, verifier, seen=seen)
    return caught.value


TABLES = ("entries", "balances", "sealed", "texts", "log")


def alter_columns(path: Path, table: str, *, everywhere: bool = False) -> None:
    """Change each stored column of a table, in its last row and (`everywhere`) in the middle, and refuse each."""
    with closing(sqlite3.connect(path)) as connection:
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        keys = ", ".join(name for _, name, *_, place in columns if place) or "rowid"
        found = connection.execute(f"SELECT {keys} FROM {table} ORDER BY {keys}").fetchall()
    assert columns
    for _, column, *_ in columns:
        for key in {found[-1], found[len(found) // 2 if everywhere else -1]}:
            altered = path.with_name(f"{column}.db")
            copy(path, altered)
            other = "'{}'" if column == "body" else "x'00'" if column in ("salt", "nodes") else "9999"
            change = f"UPDATE {table} SET {column} = {other} WHERE ({keys}) = ({', '.join('?' * len(key))})"
            Forger(altered).sql("PRAGMA foreign_keys = OFF", (change, key))
            assert str(refuse(altered)), (column, key)
