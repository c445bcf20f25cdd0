"""`budget`: ceilings that many sessions share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from donewhen.cli import rows as row_text
from donewhen.cli.amounts import scaled, user
from donewhen.cli.exits import CommandError
from donewhen.cli.output import put, put_json, put_table, say
from donewhen.cli.store import command_line, open_to_read, open_to_write, store_option, store_path
from donewhen.render import usd, visible

if TYPE_CHECKING:
    from donewhen.balance import Balance
    from donewhen.ledger import Ledger

_MILLION = 10**6
_NONE = "none"
_DIMENSIONS = {"turns": "turns", "tokens": "tokens", "cost_microusd": "usd"}


@click.group()
def budget() -> None:
    """Share a ceiling between many sessions, processes and machines.

    Budgets form a tree: what a session under acme/support uses counts in acme/support and in acme.
    """


@budget.command()
@click.argument("name")
@click.option("--turns", metavar="N", type=click.IntRange(min=0))
@click.option("--tokens", metavar="N", type=click.IntRange(min=0))
@click.option("--usd", "dollars", metavar="X", help="US dollars.")
@click.option("--per", metavar="hours:N|day|month", help="What is spent counts within it. Left out: for ever.")
@click.option("--zone", metavar="ZONE", default="UTC", show_default=True, help="Whose days, such as Europe/Berlin.")
@click.option("--why", metavar="TEXT", default="", help="The reason; it is written into the ledger.")
@click.option("--who", metavar="NAME", help="Who begins it. Left out: the user of this system.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
@store_option
def new(name: str, *, per: str | None, zone: str, why: str, who: str | None, as_json: bool, **wanted: Any) -> None:
    """Begin a budget. Under NAME acme/support, acme must be there.

    A spec file puts its sessions under it: budget = "acme/support".
    """
    ceilings = {name: most for name, most in _changes(wanted).items() if most is not None}
    with open_to_write(store_path(), make=True) as ledger:
        row = _refusing_nonsense(
            lambda: ledger.new_budget(name, per=per, zone=zone, why=why, who=who or user(), **ceilings)
        )
        balance = _find(ledger, name)
    if as_json:
        put_json({**_as_json(balance), "row": row_text.row_json(row)})
        return
    _put(balance)
    say(f'Put a spec under it: budget = "{name}"')


@budget.command("raise")
@click.argument("name")
@click.option("--turns", metavar="N|none")
@click.option("--tokens", metavar="N|none")
@click.option("--usd", "dollars", metavar="X|none", help="US dollars.")
@click.option("--why", metavar="TEXT", required=True, help="The reason; it is written into the ledger.")
@click.option("--who", metavar="NAME", help="Who raises it. Left out: the user of this system.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
@store_option
def raise_(name: str, *, why: str, who: str | None, as_json: bool, **wanted: Any) -> None:
    """Raise a budget's ceilings, or lower them, by a row that says who did it and why.

    Each number is the new ceiling, not what is added to it. A ceiling below what is spent admits nothing until there is
    room again.
    """
    changes = _changes(wanted)
    if not changes:
        raise CommandError("say which ceiling to change: --turns, --tokens or --usd")
    with open_to_write(store_path()) as ledger:
        before = _find(ledger, name)
        row = _refusing_nonsense(lambda: ledger.change_budget(name, changes, why=why, who=who or user()))
        after = _find(ledger, name)
    if as_json:
        put_json(row_text.row_json(row))
        return
    for dimension in changes:
        was, now = (_told(dimension, getattr(one.ceilings, dimension)) for one in (before, after))
        put(f"{_DIMENSIONS[dimension]}: {was} -> {now}")


@budget.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
@store_option
def show(name: str, *, as_json: bool) -> None:
    """Show a budget: its spend against its ceilings, and the sessions under it that have most reserved."""
    with open_to_read(store_path()) as ledger:
        balance = _find(ledger, name)
        holders = ledger.find_holders(balance)
    if as_json:
        told = [{"session": one.session_id, "reserved_tokens": one.reserved} for one in holders]
        put_json({**_as_json(balance), "reserved_by": told})
        return
    _put(balance)
    for one in holders:
        put(f"{'reserved by':<13}{visible(one.session_id)}  {one.reserved:,} tokens")


@budget.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON list on stdout.")
@store_option
def list_(*, as_json: bool) -> None:
    """List the budgets, and how much of each is used."""
    with open_to_read(store_path()) as ledger:
        found = ledger.budgets()
    if as_json:
        put_json([_as_json(balance) for balance in found])
        return
    if not found:
        say(f"There is no budget yet. Begin one: {command_line('budget', 'new')} NAME --tokens N")
        return
    cells = [(str(one.budget), *[_gauge(one, name) for name in _DIMENSIONS], _period(one)) for one in found]
    put_table(("budget", *_DIMENSIONS.values(), "period"), cells, right=(1, 2, 3))


def _changes(wanted: dict[str, Any]) -> dict[str, int | None]:
    changes: dict[str, int | None] = {}
    for name in ("turns", "tokens"):
        typed = wanted[name]
        if typed == _NONE:
            changes[name] = None
        elif typed is not None:
            changes[name] = scaled(f"--{name}", str(typed), 1)
    if wanted["dollars"] is not None:
        typed = str(wanted["dollars"])
        changes["cost_microusd"] = None if typed == _NONE else scaled("--usd", typed, _MILLION)
    return changes


def _refusing_nonsense(do: Any) -> Any:
    try:
        return do()
    except ValueError as error:
        raise CommandError(str(error)) from error


def _find(ledger: Ledger, name: str) -> Balance:
    from donewhen.errors import BudgetNotFoundError

    found = ledger.find_budget(name)
    if found is None:
        raise BudgetNotFoundError(name)
    return found


def _put(balance: Balance) -> None:
    put(f"{'budget':<13}{balance.budget}")
    for name, told in _DIMENSIONS.items():
        put(f"{told:<13}{_gauge(balance, name)}{_split(balance, name)}")
    put(f"{'period':<13}{_period(balance)}")


def _gauge(balance: Balance, name: str) -> str:
    used, most = getattr(balance.used, name), getattr(balance.ceilings, name)
    told = "not known" if used is None else _told(name, used)
    return told if most is None else f"{told} / {_told(name, most)}"


def _split(balance: Balance, name: str) -> str:
    spent, reserved = getattr(balance.spent, name), getattr(balance.reserved, name)
    return f"  ({_told(name, spent)} spent, {_told(name, reserved)} reserved)" if reserved else ""


def _told(name: str, amount: int | None) -> str:
    if amount is None:
        return _NONE
    return usd(amount) if name == "cost_microusd" else f"{amount:,}"


def _period(balance: Balance) -> str:
    from donewhen.balance import Rolling
    from donewhen.periods import time_zone

    period = balance.period
    if period is None:
        return "for ever"
    if isinstance(period, Rolling):
        return f"the last {period.hours} hours"
    ends = row_text.local(period.until).astimezone(time_zone(period.zone))
    return f"a {period.per}, until {ends:%Y-%m-%d %H:%M} {period.zone}"


def _as_json(balance: Balance) -> dict[str, object]:
    from donewhen.balance_json import balance_as_json

    told = balance_as_json(balance)
    amounts = {
        part: {name: getattr(getattr(balance, part), name) for name in _DIMENSIONS}
        for part in ("ceilings", "spent", "reserved")
    }
    return {"budget": balance.budget, **amounts, "period": told.get("period"), "halted": balance.halted}
