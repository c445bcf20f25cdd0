"""Rows of a ledger for people, one line each, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from donewhen.entry import LedgerRow
from donewhen.render import row_says, visible

HEADERS = ("row", "time", "turn", "kind", "tokens", "ms", "what")
RIGHT = (0, 2, 4, 5)
"""The columns that hold numbers."""


def row_cells(row: LedgerRow) -> tuple[str, ...]:
    """Return the cells of a row, under `HEADERS`."""
    return (
        str(row.id),
        clock(row.created_at),
        str(row.turn_count or ""),
        _kind(row),
        f"{row.token_delta:,}" if row.token_delta else "",
        f"{row.execution_time_ms:,}" if row.execution_time_ms else "",
        row_says(row),
    )


def row_line(row: LedgerRow) -> str:
    """Return a row as one line that follows others: time, turn, kind, tokens, and what it says."""
    turn = f"turn {row.turn_count}" if row.turn_count else ""
    tokens = f"{row.token_delta:,}" if row.token_delta else ""
    return f"{clock(row.created_at)}  {turn:<8}{_kind(row):<16}{tokens:>7}  {row_says(row)}"


def row_json(row: LedgerRow) -> dict[str, Any]:
    """Return all of a row as JSON has it."""
    fields = asdict(row)
    fields["after"] = [balance_json(balance) for balance in fields["after"]]
    return fields


def balance_json(balance: Mapping[str, Any]) -> dict[str, Any]:
    """Return a balance as JSON has it."""
    told = {"budget": balance["name"], **{name: balance[name] for name in ("spent", "reserved", "ceilings")}}
    return {**told, **{name: balance[name] for name in ("period", "halted") if balance.get(name)}}


def clock(created_at: str) -> str:
    """Return the time of day of a row, in the local time zone."""
    return local(created_at).strftime("%H:%M:%S")


def local(created_at: str) -> datetime:
    """Return the time of a row in the local time zone."""
    return datetime.fromisoformat(created_at).astimezone()


def _kind(row: LedgerRow) -> str:
    # What `write` made keeps its own word for its origin.
    return row.kind if row.kind == row.state_origin else f"{row.kind}: {visible(row.state_origin)}"
