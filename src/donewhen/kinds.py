"""The closed set of kinds of rows, and what the data of each may hold.

Source: docs/ledger_format.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LOG_SESSION = "donewhen:log"
"""The session of the rows that belong to the log itself: its keys and its reviewers'."""

RESERVED_PREFIX = "donewhen:"
"""How ids begin that no session of a user may have."""

BUDGET_PREFIX = "donewhen:budget:"
"""How the session of a budget's own rows begins; its name follows. The same text names its balance."""

EVERYTHING = "donewhen:all"
"""The session of the rows that halt everything. It has a balance for that alone."""

VISIBLE_KINDS = ("llm", "tool", "check", "error", "abandoned", "circuit_breaker", "write")
"""The kinds that `get_session`, `get_all`, the view ``ledger`` and a frame's evidence show."""

DATA_FIELDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "spec": frozenset({"what_it_does", "what_it_does_not", "done_looks_like", "terms", "spec_hash", "adopted"}),
        "open": frozenset({"spec_hash", "ceilings", "owner", "resumes", "runs", "input_key"})
        | {"terms", "protected", "elapsed_ms", "texts", "budget", "parent"},
        "reserve": frozenset({"reserve", "model", "max_tokens", "input_bound", "attempt", "owner", "bound", "texts"}),
        "llm": frozenset(
            {
                "model",
                "usage",
                "usage_fault",
                "cost_microusd",
                "price",
                "stop_reason",
                "tools",
                "over_reservation",
                "request_id",
                "attempt",
                "texts",
            }
        ),
        "tool": frozenset({"call", "name", "args_hash", "result_hash", "result_bytes", "is_error", "problem", "texts"}),
        "check": frozenset({"name", "check", "outcome", "texts"}),
        "error": frozenset({"status", "attempt", "problem", "retry_after_ms"}),
        "abandoned": frozenset({"attempt", "problem"}),
        "circuit_breaker": frozenset({"dimension", "ceiling", "spent", "reserved", "asked", "texts"})
        | {"budget", "parent", "holders"},
        "close": frozenset({"outcome", "reason", "texts"}),
        "write": frozenset({"adopted"}),
        "attest": frozenset(
            {
                "reviewer",
                "frame_hash",
                "notes",
                "adopted",
                "output_hash",
                "calls",
                "verdicts",
                "expires_at",
                "envelope",
            }
        ),
        "reject": frozenset({"reviewer", "frame_hash", "reason", "output_hash", "calls", "envelope"}),
        "release": frozenset(
            {"target", "key", "output_hash", "frame_hash", "bytes", "state", "begun", "problem", "attests", "owner"}
        ),
        "erase": frozenset({"who", "why", "erased"}),
        "key": frozenset({"action", "vkey", "name", "old", "who", "why", "made_by"}),
        "policy": frozenset({"quorum", "reviewers", "expiry_hours", "own_work", "named", "started_by"}),
        "budget": frozenset({"ceilings", "why", "who", "period"}),
        "halt": frozenset({"halted", "why", "who"}),
        "reconcile": frozenset({"outcome", "usage", "cost_microusd", "price", "over_reservation"})
        | {"who", "why", "process", "reservation"},
    }
)
"""The fields that the data of each kind may have."""

KINDS = frozenset(DATA_FIELDS)
