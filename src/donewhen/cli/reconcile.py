"""`reconcile`: the calls whose outcome nobody knows, and what a person says of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from donewhen.cli.exits import CommandError
from donewhen.cli.output import counted_as, put, put_json, put_table, say
from donewhen.cli.reconcile_usage import compare_with_reports
from donewhen.cli.rows import row_json
from donewhen.cli.store import (
    command_line,
    find_session,
    open_to_read,
    open_to_write,
    short_id,
    store_option,
    store_path,
)
from donewhen.errors import LedgerError, MissingExtraError, SessionBusyError
from donewhen.render import usd, visible

if TYPE_CHECKING:
    from donewhen.ledger import Ledger
    from donewhen.reconcile import CallInDoubt, Found
    from donewhen.usage import Price

_TOLD = {"gone": "gone", "running": "running", "unknown": "on another host"}
_COUNT = click.IntRange(0, 2**53 - 1)
_BY_KIND = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


@click.command()
@click.argument("session", required=False)
@click.option("--turn", type=click.IntRange(min=1), metavar="N", help="The turn of the call to settle.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Which attempt, where several are in doubt.")
@click.option("--input-tokens", type=_COUNT, metavar="N", help="What it used, by kind: neither cached nor written.")
@click.option("--output-tokens", type=_COUNT, metavar="N", help="With what the model thought.")
@click.option("--cache-read-tokens", type=_COUNT, metavar="N", help="Read from a cache.")
@click.option("--cache-write-tokens", type=_COUNT, metavar="N", help="Written to one.")
@click.option("--tokens", type=_COUNT, metavar="N", help="What it used, where only the sum is known.")
@click.option("--none", "no_work", is_flag=True, help="The provider did no work.")
@click.option("--why", metavar="TEXT", help="How you know; it is written into the ledger.")
@click.option("--who", metavar="NAME", help="Who says so. Left out: the user and host of this system.")
@click.option(
    "--usage", "reports", multiple=True, metavar="FILE", help="Compare with a provider's usage report; may be repeated."
)
@click.option("--key", metavar="ID", help="With --usage: the rows of this API key alone.")
@click.option(
    "--tolerance", type=click.IntRange(0, 100), metavar="PERCENT", help="With --usage: how far tokens may drift. 0."
)
@click.option("--force", is_flag=True, help="Also where the call may still be under way.")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
@store_option
def reconcile(
    session: str | None,
    *,
    turn: int | None,
    reports: tuple[str, ...],
    key: str | None,
    tolerance: int | None,
    as_json: bool,
    **said: Any,
) -> int | None:
    """List the calls whose outcome nobody knows, settle one by hand, or compare all with a provider's usage report.

    Such a call stays charged in full. With --turn, and what it really used (or --none), a row says so, who and why. Where
    only the sum is known, its cost is the most that it can be. Nothing is ever settled by itself.

    --usage reads what Anthropic's or OpenAI's usage API answers, or their consoles export as CSV, best by the minute and
    by model and key. A real mismatch ends with exit code 7.
    """
    given = [name for name, value in said.items() if value not in (None, False)]
    if reports:
        if session is not None or turn is not None or given:
            raise CommandError("--usage compares the whole ledger; a call is settled by itself, without --usage")
        return compare_with_reports(reports, key, tolerance or 0, as_json=as_json)
    if key is not None or tolerance is not None:
        raise CommandError("--key and --tolerance are about a usage report: name it with --usage")
    if turn is None:
        if given:
            raise CommandError(f"--{given[0].replace('_', '-')} is about one call: name it with SESSION and --turn")
        _list(session, as_json=as_json)
        return None
    if session is None:
        raise CommandError("--turn is a turn of a session: name it")
    found = _found(said)
    if said["why"] is None or not said["why"].strip():
        raise CommandError("--why is missing or blank: a call is settled for a reason")
    _settle(session, turn, found, said, as_json=as_json)
    return None


# -- listing ----------------------------------------------------------------------------------------------------------


def _list(session: str | None, *, as_json: bool) -> None:
    from donewhen.reconcile import iter_in_doubt

    with open_to_read(store_path(session)) as ledger:
        chosen = None if session is None else find_session(ledger, session)
        calls = list(iter_in_doubt(ledger, chosen))
        known = [session_id for session_id, _, _ in ledger.sessions()]
    if as_json:
        put_json([_as_json(call) for call in calls])
        return
    if not calls:
        say("No call is in doubt.")
        return
    _put_calls(calls, known)


def _put_calls(calls: Sequence[CallInDoubt], known: list[str]) -> None:
    headers = ("session", "turn", "attempt", "host", "pid", "process", "age", "reserved", "cost", "what is known")
    put_table(headers, [_cells(call, known) for call in calls], right=(1, 2, 4, 6, 7, 8))
    tokens = sum(call.reserved.tokens for call in calls)
    verb = "is" if len(calls) == 1 else "are"
    say(
        f"\n{counted_as(len(calls), 'call')} {verb} in doubt, charged with {tokens:,} tokens. Ask the provider, then settle:"
    )
    first = command_line("reconcile", calls[0].session_id, "--turn", str(calls[0].turn))
    say(f"  {first} --input-tokens N --output-tokens N --why TEXT")
    say(f"  {first} --none --why TEXT")


def _cells(call: CallInDoubt, known: list[str]) -> tuple[str, ...]:
    host, process = _owner(call)
    cost = call.reserved.cost_microusd
    return (
        short_id(call.session_id, known),
        str(call.turn),
        str(call.attempt),
        host,
        process,
        _TOLD[call.process],
        _age(_seconds(call)),
        f"{call.reserved.tokens:,}",
        "" if not cost else usd(cost),
        call.problem or ("it may be under way" if call.may_run else "nothing: its process is gone"),
    )


def _owner(call: CallInDoubt) -> tuple[str, str]:
    host, _, process = call.owner.rpartition(":")[0].rpartition(":")
    return host, process


def _seconds(call: CallInDoubt) -> int:
    return max(0, int((datetime.now(timezone.utc) - datetime.fromisoformat(call.row.created_at)).total_seconds()))


def _age(seconds: int) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _as_json(call: CallInDoubt) -> dict[str, Any]:
    host, process = _owner(call)
    return {
        "session_id": call.session_id,
        "turn": call.turn,
        "attempt": call.attempt,
        "row": call.row.id,
        "model": call.model,
        "host": host,
        "pid": process,
        "process": call.process,
        "may_run": call.may_run,
        "reserved_at": call.row.created_at,
        "age_seconds": _seconds(call),
        "reserved": call.reserved.as_list(),
        "problem": call.problem,
    }


# -- settling ---------------------------------------------------------------------------------------------------------


def _found(said: dict[str, Any]) -> Found:
    """Return what the call used, as the options say in one of three ways."""
    from donewhen.reconcile import NO_WORK, Found
    from donewhen.usage import Usage

    kinds = {name: said[name] for name in _BY_KIND if said[name] is not None}
    if sum((bool(kinds), said["tokens"] is not None, said["no_work"])) != 1:
        raise CommandError(
            "say what the call used in one way: --input-tokens and --output-tokens, or --tokens, or --none"
        )
    if said["no_work"]:
        return NO_WORK
    if not kinds:
        return Found(tokens=said["tokens"])
    if not {"input_tokens", "output_tokens"} <= kinds.keys():
        raise CommandError("by kind, --input-tokens and --output-tokens are both needed (0 is a number)")
    return Found(usage=Usage(**kinds))


def _settle(session: str, turn: int, found: Found, said: dict[str, Any], *, as_json: bool) -> None:
    from donewhen.keys import made_here
    from donewhen.reconcile import find_call, iter_in_doubt
    from donewhen.reconcile import reconcile as settle

    with open_to_write(store_path(session)) as ledger:
        session_id = find_session(ledger, session)
        try:
            call = find_call(list(iter_in_doubt(ledger, session_id)), turn, said["attempt"])
        except LedgerError as error:
            raise CommandError(f"session {visible(session_id)}: {error}") from error
        words = {"who": said["who"] or made_here(), "why": said["why"]}
        try:
            row = settle(ledger, call, found, force=said["force"], find_price=_listed, **words)
        except SessionBusyError as error:
            raise _busy(call) from error
        left = _balance(ledger, session_id)
    if as_json:
        put_json(row_json(row))
        return
    cost = row.data["cost_microusd"]
    spent = f"{row.token_delta:,} tokens" + ("" if not cost else f", {usd(cost)}")
    put(f"row {row.id}: turn {call.turn}, attempt {call.attempt}: {spent} instead of {call.reserved.tokens:,} reserved")
    say(left)


def _busy(call: CallInDoubt) -> CommandError:
    host, process = _owner(call)
    told = f"process {visible(process)} on {visible(host)}"
    if call.process == "running":
        return CommandError(f"the call is still under way in {told}; stop it first, or say --force", 75)
    return CommandError(
        f"whether the call is still under way cannot be seen from here ({told}); if it is not, say --force", 75
    )


def _balance(ledger: Ledger, session_id: str) -> str:
    from donewhen.render import render_balance

    row = ledger.newest_row(session_id)
    return "" if row is None or row.balance is None else render_balance(row.balance)


def _listed(model: str) -> Price | None:
    from donewhen.prices import find_price

    try:
        return find_price(model)
    except MissingExtraError:
        return None  # the cost stays what was reserved
