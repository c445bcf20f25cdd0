"""What a row of each kind must be, after the rows before it.

A rule raises what is wrong, changes the chain as the row does, and returns what is odd. A kind without a rule moves
nothing and closes nothing.
Source: docs/ledger_format.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from donewhen.attestation import call_hash
from donewhen.balance import CEILING_NAMES, DIMENSIONS
from donewhen.entry import spec_hash
from donewhen.kinds import EVERYTHING
from donewhen.verify.amounts import COST, added, charge, nothing, taken
from donewhen.verify.breaches import refuse_untrue_breach
from donewhen.verify.chain import Amounts, Chain, data_of, wrong
from donewhen.verify.row import Row

_AMOUNT = frozenset({int})
_ASKED = frozenset({(int, int, int, int), (int, int, type(None), int)})
"""The types of four amounts, of which only the cost can be unknown."""


def _check_spec(row: Row, chain: Chain) -> str | None:
    _refuse_closing(row)
    data = data_of(row)
    if data.get("spec_hash") != _hash_of(row, data, data.get("terms")):
        raise wrong(row, "its spec_hash is not that of its answers and terms")
    chain.specs.append(data)
    return None if len(chain.specs) == 1 else f"is another spec for session {row['session']}"


def _check_open(row: Row, chain: Chain) -> str | None:
    _refuse_closing(row)
    if not chain.specs:
        raise wrong(row, f"session {row['session']} is opened without a spec")
    data = data_of(row)
    stated, terms = str(data.get("spec_hash")), data.get("terms")
    if chain.own is None:
        chain.after.append(_new_balance(row, data))
        chain.limit()
        _move(row, chain)
    elif "budget" in data or "parent" in data:
        raise wrong(row, f"session {row['session']} is opened again, and says anew where it stands")
    elif _ceilings(row, data) != chain.own["ceiling"]:
        raise wrong(row, f"session {row['session']} is opened again, and tells of ceilings that it does not have")
    chain.runs.update(_taken_up(row, data))
    if stated in chain.agreed and data.get("resumes") is True:
        return None
    whole = {spec["spec_hash"] for spec in chain.specs} if terms is None else set[str]()
    if stated not in whole | {_hash_of(row, spec, terms) for spec in chain.specs}:
        raise wrong(row, f"session {row['session']} is opened under another spec than the one that was stored")
    chain.agreed.add(stated)
    if terms is None and stated not in whole:
        return f"opens session {row['session']} without the terms of its spec"
    return None


def _check_reserve(row: Row, chain: Chain) -> str | None:
    _refuse_closing(row)
    _refuse_unopened(row, chain)
    asked: Amounts = data_of(row).get("reserve", [])
    is_so = type(asked) is list and tuple(map(type, asked)) in _ASKED
    if not is_so or min(asked[0], asked[1], asked[COST] or 0, asked[3]) < 0:
        raise wrong(row, f"it reserves {asked!r}, which are not {len(DIMENSIONS)} amounts")
    chain.held[row["seq"]] = asked
    for balance in chain.after:
        if balance.get("halted"):
            raise wrong(row, f"it reserves, and {balance['budget']!r} was halted before it")
        balance["reserved"] = added(balance["reserved"], asked)
    _move(row, chain)
    return _past_a_ceiling(chain)


def _check_budget(row: Row, chain: Chain) -> str | None:
    _refuse_closing(row)
    data, is_a_budgets = data_of(row), chain.only is not None
    if is_a_budgets and chain.own is None:
        chain.after.append(_new_balance(row, data))
        if chain.period is not None:
            chain.after[-1]["period"] = chain.period
    else:
        _refuse_unopened(row, chain)
        _refuse_nobody(row, data, "why")
        if "period" in data:
            raise wrong(row, "it gives a period to what had begun without it, or with another")
    _refuse_nobody(row, data, "who")
    chain.after[-1]["ceiling"] = _ceilings(row, data, shared=is_a_budgets)
    chain.limit()
    _move(row, chain)
    return None


def _check_halt(row: Row, chain: Chain) -> str | None:
    _refuse_closing(row)
    data = data_of(row)
    _refuse_nobody(row, data, "who", "why")
    halted = data.get("halted")
    if type(halted) is not bool:
        raise wrong(row, f"it halts {halted!r}, neither true nor false")
    if chain.own is None and row["session"] == EVERYTHING:
        chain.after.append(_new_balance(row, {"ceilings": [None] * len(CEILING_NAMES)}))
    _refuse_unopened(row, chain)
    if halted:
        chain.after[-1]["halted"] = True
    else:
        chain.after[-1].pop("halted", None)
    _move(row, chain)
    return None


def _check_llm(row: Row, chain: Chain) -> str | None:
    held, data = _close(row, chain), data_of(row)
    usage: Any = data.get("usage")
    tokens = reserved = held[1]
    if usage is not None:
        tokens = _tokens_of(row, usage)
    if row["tokens"] != tokens:
        raise wrong(row, f"it is charged {row['tokens']} tokens, where its usage or its reservation makes {tokens}")
    over = data.get("over_reservation")
    if over != (tokens - reserved if tokens > reserved else None) or over is True:
        raise wrong(row, f"it used {max(0, tokens - reserved)} tokens more than were reserved, and says {over!r}")
    cost = data.get("cost_microusd", "absent")
    if cost is not None and (type(cost) is not int or cost < 0):
        raise wrong(row, f"its cost is {cost!r}")
    used = [held[0], tokens, cost, count_tools(row, chain) if "tools" in data else 0]
    for balance in chain.after:
        balance["reserved"] = taken(balance["reserved"], held)
        charge(row, balance, used)
    _move(row, chain)
    return None


def _check_reconcile(row: Row, chain: Chain) -> str | None:
    data = data_of(row)
    outcome, usage = data.get("outcome"), data.get("usage")
    if outcome == "late":
        return _check_late(row, chain, data)
    is_doubted = row.get("closes") in chain.doubted
    held = _close(row, chain)
    _refuse_nobody(row, data, "who", "why")
    if outcome not in ("used", "none") or data.get("process") not in _PROCESSES or "reservation" in data:
        raise wrong(row, f"its outcome is {outcome!r}, of a process that is {data.get('process')!r}")
    tokens, cost = row["tokens"], data.get("cost_microusd", "absent")
    if tokens < 0 or (usage is not None and tokens != _tokens_of(row, usage)):
        raise wrong(row, f"it is charged {tokens} tokens, and its usage is {usage!r}")
    if cost is not None and (type(cost) is not int or cost < 0):
        raise wrong(row, f"its cost is {cost!r}")
    if outcome == "none" and (tokens, cost, usage) != (0, 0, None):
        raise wrong(row, "it says that the provider did no work, and charges for it")
    if data.get("over_reservation") != (tokens - held[1] if tokens > held[1] else None):
        raise wrong(row, f"it used {max(0, tokens - held[1])} tokens more than were reserved, and says otherwise")
    for balance in chain.after:
        balance["reserved"] = taken(balance["reserved"], held)
        charge(row, balance, [held[0], tokens, cost, 0])
    _move(row, chain)
    chain.reconciled.add(row["closes"])
    if is_doubted or data["process"] == "gone":
        return None
    return f"closes a call that may have been under way: its process was {data['process']}"


def _check_breach(row: Row, chain: Chain) -> None:
    _refuse_closing(row)
    _refuse_unopened(row, chain)
    refuse_untrue_breach(row, chain)


def _check_late(row: Row, chain: Chain, data: Mapping[str, Any]) -> None:
    """See that a reply which came too late is a note: it closes nothing, and is about what is closed."""
    _refuse_closing(row)
    seq: Any = data.get("reservation")
    if type(seq) is not int or seq not in chain.reconciled or row["tokens"]:
        raise wrong(
            row, f"it notes a late reply for row {seq!r}, which is no reservation that was reconciled before it"
        )
    if data.get("usage") is not None:
        _tokens_of(row, data["usage"])


def _check_error(row: Row, chain: Chain) -> str | None:
    if "closes" in row:
        held = _close(row, chain)
        for balance in chain.after:
            balance["reserved"] = taken(balance["reserved"], held)
        _move(row, chain)
    elif "doubts" in row:
        raise wrong(row, "an error row cannot be one that doubts a reservation")
    return None


def _check_abandoned(row: Row, chain: Chain) -> str | None:
    seq = row.get("doubts")
    if "closes" in row:
        raise wrong(row, "an abandoned row cannot be one that closes a reservation")
    if seq is not None:
        if seq not in chain.held or seq in chain.doubted:
            raise wrong(row, _NOT_OPEN.format("doubts", seq, row["session"]))
        chain.doubted.add(seq)
    return None


def _check_tool(row: Row, chain: Chain) -> str | None:
    """See that no held call was run that no process had taken up: whether it might is judged where it was."""
    _refuse_closing(row)
    if not chain.holds:
        return None
    data = data_of(row)
    digest = chain.holds.pop((row["turn"], str(data.get("call"))), None)
    if digest is not None and "problem" not in data and digest not in chain.runs:
        raise wrong(row, f"the held call of {data.get('name')!r} was run, and nobody had let it pass")
    return None


def _check_policy(row: Row, chain: Chain) -> str | None:
    _refuse_closing(row)
    if chain.has_policy or chain.own is not None:
        raise wrong(row, f"it is another policy for session {row['session']}, or comes after it was opened")
    chain.has_policy = True
    return None


RULES: Mapping[str, Callable[[Row, Chain], str | None]] = {
    "spec": _check_spec,
    "open": _check_open,
    "reserve": _check_reserve,
    "budget": _check_budget,
    "halt": _check_halt,
    "llm": _check_llm,
    "error": _check_error,
    "reconcile": _check_reconcile,
    "abandoned": _check_abandoned,
    "circuit_breaker": _check_breach,
    "tool": _check_tool,
    "policy": _check_policy,
}

_PROCESSES = frozenset({"gone", "running", "unknown"})
_NOT_OPEN = "it {} row {} of session {}, which is not a reservation that is still open"


def _close(row: Row, chain: Chain) -> Amounts:
    """Return what the reservation held that a row closes."""
    seq = row.get("closes")
    if seq is None:
        raise wrong(row, "it is a reply for which nothing was reserved")
    if "doubts" in row:
        raise wrong(row, f"a {row['kind']} row cannot be one that doubts a reservation")
    held = chain.held.pop(seq, None)
    if held is None:
        raise wrong(row, _NOT_OPEN.format("closes", seq, row["session"]))
    chain.doubted.discard(seq)
    return held


def _refuse_closing(row: Row) -> None:
    if "closes" in row or "doubts" in row:
        raise wrong(row, f"a {row['kind']} row cannot be one that closes or doubts a reservation")


def _refuse_unopened(row: Row, chain: Chain) -> None:
    if chain.own is None:
        raise wrong(row, f"a {row['kind']} row stands in session {row['session']}, which was not opened before it")


# -- what a row says ---------------------------------------------------------------------------------------------------


def _move(row: Row, chain: Chain) -> None:
    """See that a row can hold what the balances are now."""
    try:
        chain.move()
    except ValueError as error:
        raise wrong(row, f"it leaves a balance that no row can hold: {error}") from error


def _tokens_of(row: Row, usage: dict[str, Any]) -> int:
    counts: list[Any] = list(usage.values()) if type(usage) is dict else [None]
    if not _AMOUNT.issuperset(map(type, counts)) or min(counts, default=0) < 0:
        raise wrong(row, f"its usage is {usage!r}")
    return sum(counts)


def _past_a_ceiling(chain: Chain) -> str | None:
    for place, balance, most in chain.limits:
        reserved, spent = balance["reserved"][place], balance["spent"][place]
        used = None if reserved is None or spent is None else reserved + spent
        if used is None or used > most:
            return f"reserves past a ceiling: {used} {DIMENSIONS[place]} of {most}"
    return None


def _new_balance(row: Row, data: Mapping[str, Any]) -> dict[str, Any]:
    ceilings = _ceilings(row, data)
    return {"budget": row["session"], "ceiling": ceilings, "reserved": nothing(), "spent": nothing()}


def _refuse_nobody(row: Row, data: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if type(data.get(name)) is not str or not data[name].strip():
            raise wrong(row, f"a {row['kind']} row does not say {name}")


def _ceilings(row: Row, data: Mapping[str, Any], *, shared: bool = False) -> list[Any]:
    found: Any = data.get("ceilings")
    if type(found) is list and len(cast("list[Any]", found)) == len(CEILING_NAMES):
        ceilings = cast("list[Any]", found)
        if all(most is None or (type(most) is int and most >= 0) for most in ceilings) and not (
            shared and any(most is not None for most in ceilings[COST + 1 :])
        ):
            return ceilings
    raise wrong(row, f"the amounts of a {row['kind']} row cannot be read: its ceilings are {found!r}")


def count_tools(row: Row, chain: Chain) -> int:
    """Return how many of the tools that a reply asks for are to be run, and remember those that are held."""
    count, tools = 0, cast("list[Any]", row["data"].get("tools", []))
    try:
        for tool in tools:
            if tool["run"]:
                count += 1
            if tool["run"] and tool["held"]:
                digest = call_hash(row["session"], row["turn"], tool["id"], tool["name"], tool["args_hash"])
                chain.holds[row["turn"], tool["id"]] = digest
    except (KeyError, TypeError, ValueError) as error:
        raise wrong(row, f"the tools that it asks for cannot be read: {error!r}") from error
    return count


def _taken_up(row: Row, data: Mapping[str, Any]) -> list[str]:
    runs: Any = data.get("runs", [])
    if type(runs) is not list or not all(type(run) is str for run in cast("list[Any]", runs)):
        raise wrong(row, f"the calls that it takes up are {runs!r}")
    return cast("list[str]", runs)


def _hash_of(row: Row, spec: Mapping[str, Any], terms: object) -> str:
    try:
        return spec_hash(spec["what_it_does"], spec["what_it_does_not"], spec["done_looks_like"], terms)
    except (KeyError, TypeError, ValueError) as error:
        raise wrong(row, f"its answers cannot be read: {error!r}") from error
