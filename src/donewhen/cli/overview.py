"""Where a session stands, for people and as JSON: what `sessions`, `show`, `watch` and `run` tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from donewhen.balance import Balance
from donewhen.cli.rows import balance_json
from donewhen.entry import LedgerRow
from donewhen.progress import Progress, read_progress
from donewhen.render import usd

if TYPE_CHECKING:
    from donewhen.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Where a session stands."""

    session_id: str
    rows: Sequence[LedgerRow]
    """Every row in order, bookkeeping too."""
    progress: Progress | None
    """None: it was never opened."""
    balance: Balance | None
    """What is spent, reserved and allowed: as the newest row left it that moved it, which may be one of a child's."""

    @property
    def state(self) -> str:
        """Return one word: how it ended, or held, running, interrupted; not begun, or written by hand."""
        if self.progress is not None:
            return self.progress.state
        return "by hand" if any(row.kind == "write" for row in self.rows) else "not begun"

    @property
    def promise(self) -> dict[str, str]:
        """Return the three answers, where they are stored."""
        spec = next((row for row in self.rows if row.kind == "spec"), None)
        names = ("what_it_does", "what_it_does_not", "done_looks_like")
        return {} if spec is None else {name: spec.data[name] for name in names}

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it, without the rows."""
        balance = self.balance
        return {
            "session_id": self.session_id,
            "state": self.state,
            "began_at": self.rows[0].created_at,
            "newest_at": self.rows[-1].created_at,
            "rows": len(self.rows),
            "balance": None if balance is None else balance_json(asdict(balance)),
            **self.promise,
        }


def look_at(ledger: Ledger, session_id: str, rows: Sequence[LedgerRow]) -> Overview:
    """Return where a session stands.

    Args:
        ledger: whose reviewers are asked about, where anybody said anything.
        session_id: the session.
        rows: all its rows in order, at least one.
    """
    from donewhen.policy import Grounds

    reviewed = any(row.kind in ("attest", "reject") for row in rows)
    grounds = Grounds.of(ledger, datetime.now(timezone.utc)) if reviewed else None
    progress = read_progress(rows, grounds)
    # What its children used since its own newest row stands in theirs.
    balance = None if progress is None else ledger.store.find_balance(session_id)
    return Overview(session_id=session_id, rows=rows, progress=progress, balance=balance)


@dataclass(frozen=True, slots=True)
class Gauge:
    """Spend against one ceiling."""

    name: str
    used: int
    reserved: int
    ceiling: int | None
    told: str

    @property
    def share(self) -> float:
        """Return the used part of the ceiling, from 0 to 1."""
        return min(1.0, self.used / self.ceiling) if self.ceiling else float(self.ceiling == 0)


def gauges(balance: Balance, elapsed_ms: int | None) -> list[Gauge]:
    """Return spend against every ceiling, and turns, tokens and cost even without one.

    Args:
        balance: the session's own.
        elapsed_ms: the milliseconds since it opened; None: not shown.
    """
    used, reserved, most = balance.used, balance.reserved, balance.ceilings
    found = [
        _gauge("turns", used.turns, reserved.turns, most.turns),
        _gauge("tokens", used.tokens, reserved.tokens, most.tokens),
    ]
    if used.cost_microusd or most.cost_microusd is not None:
        cost = used.cost_microusd
        told = usd(cost) + ("" if most.cost_microusd is None else f" of {usd(most.cost_microusd)}")
        found.append(Gauge("cost", cost or 0, reserved.cost_microusd or 0, most.cost_microusd, told))
    if used.tool_calls or most.tool_calls is not None:
        found.append(_gauge("tool calls", used.tool_calls, reserved.tool_calls, most.tool_calls))
    if elapsed_ms is not None and most.milliseconds is not None:
        told = f"{elapsed_ms / 60_000:.1f} of {most.milliseconds / 60_000:.1f} minutes"
        found.append(Gauge("time", elapsed_ms, 0, most.milliseconds, told))
    return found


def _gauge(name: str, used: int, reserved: int, ceiling: int | None) -> Gauge:
    told = f"{used:,}" if ceiling is None else f"{used:,} of {ceiling:,}"
    return Gauge(name, used, reserved, ceiling, told + (f", {reserved:,} of them reserved" if reserved else ""))
