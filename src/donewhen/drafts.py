"""The entries that a session writes, made of facts: pure functions, no store and no clock."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from donewhen import canonical
from donewhen.balance import Amounts, Breach, Holder
from donewhen.entry import Entry, LedgerRow
from donewhen.ledger import Draft
from donewhen.texts import PLAIN, Hasher, hash_input

if TYPE_CHECKING:
    from donewhen.bounds import Request
    from donewhen.client import Failure, Reply, ToolCall
    from donewhen.permit import Permit
    from donewhen.usage import Price, Usage


def reserve_entry(session_id: str, turn: int, asked: Amounts, facts: Mapping[str, Any]) -> Entry:
    """Return the row of a reservation."""
    data = {"reserve": asked.as_list(), **facts}
    return Entry(kind="reserve", session_id=session_id, state_origin="reserve", turn_count=turn, data=data)


def breach_entry(session_id: str, turn: int, breach: Breach) -> Entry:
    """Return the row of a breach."""
    data: dict[str, Any] = {
        "dimension": breach.dimension,
        "ceiling": breach.ceiling,
        "spent": breach.spent,
        "reserved": breach.reserved,
        "asked": breach.asked,
    }
    if breach.budget is not None:
        data["budget"] = breach.budget
    if breach.parent is not None:
        data["parent"] = breach.parent
    if breach.holders:
        data["holders"] = [{"reserved": one.reserved, "session": one.session_id} for one in breach.holders]
    return Entry(
        kind="circuit_breaker",
        session_id=session_id,
        state_origin="circuit_breaker",
        turn_count=turn,
        input_hash=NO_INPUT,
        pass_fail=False,
        breach_reason=breach.reason,
        data=data,
    )


def breach_of(row: LedgerRow) -> Breach:
    """Return the breach that a ``circuit_breaker`` row holds."""
    data = row.data
    return Breach(
        reason=row.breach_reason or "",
        dimension=data["dimension"],
        ceiling=data["ceiling"],
        spent=data["spent"],
        reserved=data["reserved"],
        asked=data["asked"],
        budget=data.get("budget"),
        parent=data.get("parent"),
        holders=tuple([Holder(one["session"], one["reserved"]) for one in data.get("holders", ())]),
    )


def llm_entry(
    permit: Permit,
    reply: Reply,
    held: Amounts,
    price: Price | None,
    hasher: Hasher,
    *,
    execution_time_ms: int,
    tools: Sequence[Mapping[str, Any]],
) -> Entry:
    """Return the row of a reply, which closes its reservation.

    Args:
        held: what the reservation holds; charged whole where the usage cannot be believed.
        tools: the calls that the model asked for, as `intent` describes them.
    """
    usage = reply.usage
    tokens = held.tokens if usage is None else usage.total
    data: dict[str, Any] = {
        "model": short(reply.model or permit.request.model),
        "usage": None if usage is None else _usage_as_json(usage),
        "cost_microusd": _cost(usage, held, price),
        "stop_reason": short(reply.stop_reason),
        "attempt": permit.attempt,
    }
    if price is not None:
        data["price"] = {"source": price.source, "as_of": price.as_of}
    if reply.usage_fault is not None:
        data["usage_fault"] = reply.usage_fault
    if reply.request_id is not None:
        data["request_id"] = short(reply.request_id)
    if tokens > held.tokens:
        data["over_reservation"] = tokens - held.tokens
    if tools:
        data["tools"] = list(tools)
    return Entry(
        kind="llm",
        session_id=permit.session_id,
        state_origin="llm",
        turn_count=permit.turn,
        input_hash=_input_hash(permit.request, hasher),
        token_delta=tokens,
        execution_time_ms=execution_time_ms,
        pass_fail=usage is not None,
        closes=permit.seq,
        data=data,
    )


def intent(call: ToolCall, hasher: Hasher, *, held: bool, run: bool) -> dict[str, Any]:
    """Return how a reply's row names a tool call before it is run."""
    return {
        "id": short(call.id),
        "name": short(call.name),
        "args_hash": hash_arguments(call.arguments, hasher),
        "held": held,
        "run": run,
    }


def released_entry(permit: Permit, failure: Failure, execution_time_ms: int, hasher: Hasher) -> Entry:
    """Return the row of an attempt that did no work, which closes its reservation."""
    data: dict[str, Any] = {"attempt": permit.attempt, "problem": short(failure.problem)}
    if failure.status is not None:
        data["status"] = failure.status
    if failure.retry_after_seconds is not None:
        data["retry_after_ms"] = min(int(failure.retry_after_seconds * 1000), canonical.MAX_INT)
    return Entry(
        kind="error",
        session_id=permit.session_id,
        state_origin="error",
        turn_count=permit.turn,
        input_hash=_input_hash(permit.request, hasher),
        execution_time_ms=execution_time_ms,
        pass_fail=False,
        closes=permit.seq,
        data=data,
    )


def abandoned_entry(session_id: str, reserve: int, turn: int, attempt: int, problem: str, ms: int = 0) -> Entry:
    """Return the row that says that nobody knows what came of an attempt.

    Args:
        reserve: the seq of its reservation, which stands.
        ms: how long the attempt took, in milliseconds.
    """
    return Entry(
        kind="abandoned",
        session_id=session_id,
        state_origin="abandoned",
        turn_count=turn,
        input_hash=NO_INPUT,
        execution_time_ms=ms,
        pass_fail=False,
        doubts=reserve,
        data={"attempt": attempt, "problem": short(problem)},
    )


def reconcile_entry(
    reserve: LedgerRow,
    held: Amounts,
    usage: Usage | None,
    tokens: int | None,
    price: Price | None,
    words: Mapping[str, str],
) -> Entry:
    """Return the row by which a person says what a call in doubt used, which closes its reservation.

    Args:
        reserve: the row of the reservation.
        held: what it holds.
        usage: the tokens by kind, where they are known.
        tokens: all of them, where only that is known. Neither: the provider did no work.
        price: of the model. None: not known, and the cost stays what was reserved.
        words: who says so and why, and what is known of the process.
    """
    used = usage.total if usage is not None else tokens or 0
    data: dict[str, Any] = {
        "outcome": "none" if usage is None and tokens is None else "used",
        "usage": None if usage is None else _usage_as_json(usage),
        "cost_microusd": held.cost_microusd,
        **words,
    }
    if usage is None and tokens is None:
        data["cost_microusd"] = 0
    elif price is not None:
        data["price"] = {"source": price.source, "as_of": price.as_of}
        most_output = min(used, reserve.data["max_tokens"])
        most = price.most_microusd(used - most_output, most_output)
        data["cost_microusd"] = most if usage is None else price.cost_microusd(usage)
    if used > held.tokens:
        data["over_reservation"] = used - held.tokens
    return Entry(
        kind="reconcile",
        session_id=reserve.session_id,
        state_origin="reconcile",
        turn_count=reserve.turn_count,
        token_delta=used,
        closes=reserve.seq,
        data=data,
    )


def late_entry(permit: Permit, reply: Reply, who: str) -> Entry:
    """Return the note that a reply came whose call had been reconciled: it is told, and changes no balance."""
    usage = None if reply.usage is None else _usage_as_json(reply.usage)
    return Entry(
        kind="reconcile",
        session_id=permit.session_id,
        state_origin="reconcile",
        turn_count=permit.turn,
        pass_fail=False,
        data={"outcome": "late", "reservation": permit.seq, "usage": usage, "who": who},
    )


def tool_draft(
    session_id: str,
    turn: int,
    call: ToolCall,
    content: str,
    problem: str | None,
    ms: int,
    hasher: Hasher,
    *,
    keep: bool = False,
) -> Draft:
    """Return the row of a tool's result.

    Args:
        content: what the tool answered; only its hash and size enter the log.
        problem: what went wrong, without text of the tool; None: nothing.
        ms: how long it took, in milliseconds.
        keep: keep the answer beside the row, for a session that pauses before it is sent.
    """
    arguments = hash_arguments(call.arguments, hasher)
    data: dict[str, Any] = {
        "call": short(call.id),
        "name": short(call.name),
        "args_hash": arguments,
        "result_hash": hasher.text(content),
        "result_bytes": len(content.encode("utf-8", "surrogatepass")),
        "is_error": problem is not None,
    }
    if problem is not None:
        data["problem"] = problem
    entry = Entry(
        kind="tool",
        session_id=session_id,
        state_origin="tool",
        turn_count=turn,
        input_hash=arguments,
        execution_time_ms=ms,
        pass_fail=problem is None,
        data=data,
    )
    return Draft(entry, {"result": content} if keep else {})


def check_draft(
    session_id: str, turn: int, name: str, kind: str, outcome: str, detail: str, output: str, ms: int, hasher: Hasher
) -> Draft:
    """Return the row of a check; what it said is kept beside it, outside the log."""
    entry = Entry(
        kind="check",
        session_id=session_id,
        state_origin="check",
        turn_count=turn,
        input_hash=hasher.text(output),
        execution_time_ms=ms,
        pass_fail=outcome in ("met", "pending"),
        data={"name": name, "check": kind, "outcome": outcome},
    )
    return Draft(entry, {"detail": detail} if detail else {})


def end_draft(session_id: str, outcome: str, reason: str, output: str | None, hasher: Hasher = PLAIN) -> Draft:
    """Return the entry that ends a session, with the output that waits for a person."""
    data = {"outcome": outcome, "reason": reason}
    # Checks are about the text whose hash they have, and with a key only its holder can work that out again. Without
    # one the hash is left away: the text is committed to with a salt, and a plain hash would let it be guessed.
    input_hash = "" if output is None or hasher.key is None else hasher.text(output)
    entry = Entry(
        kind="close",
        session_id=session_id,
        state_origin="close",
        input_hash=input_hash,
        pass_fail=outcome == "done",
        data=data,
    )
    return Draft(entry, {} if output is None else {"output": output})


def hash_arguments(arguments: Mapping[str, Any], hasher: Hasher = PLAIN) -> str:
    """Return the digest of a tool call's arguments, as lower-case hex."""
    try:
        spelled = canonical.dumps(dict(arguments), floats=True)
    except ValueError:
        # A model may send what canonical JSON cannot spell, such as a number of twenty digits.
        spelled = json.dumps(arguments, sort_keys=True, default=str).encode("utf-8", "surrogatepass")
    return hasher.hash_hex("arguments", spelled)


def short(text: str) -> str:
    """Return a provider's name for something as a row can hold it: of bounded length, and without NUL."""
    return text[:MOST_NAME_CHARACTERS].replace("\0", "\ufffd")


MOST_NAME_CHARACTERS = 300

NO_INPUT = hash_input("")
"""The input hash of a row of the tutorial's table that had no input."""


def _cost(usage: Usage | None, held: Amounts, price: Price | None) -> int | None:
    if price is None:
        return None
    return held.cost_microusd if usage is None else price.cost_microusd(usage)


def _usage_as_json(usage: Usage) -> dict[str, int]:
    return {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cache_read": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens,
    }


def _input_hash(request: Request, hasher: Hasher) -> str:
    """Return the hash of the newest message that was sent: the task in the first turn."""
    content = request.transcript.messages[request.count - 1].get("content", "") if request.count else ""
    return hasher.text(content if isinstance(content, str) else json.dumps(content, sort_keys=True, default=str))
