"""The command line: each command parses, calls the library, and prints.

One file for each noun. Data goes to stdout, talk to stderr; `exits` has the exit codes.
"""

from __future__ import annotations

import click

from donewhen import __version__
from donewhen.cli.budget import budget
from donewhen.cli.checkpoint import checkpoint
from donewhen.cli.demo import demo
from donewhen.cli.erase import erase
from donewhen.cli.exits import USAGE, epilog
from donewhen.cli.export import export
from donewhen.cli.group import DonewhenGroup
from donewhen.cli.halt import halt
from donewhen.cli.key import key
from donewhen.cli.ledger import adopt
from donewhen.cli.output import say
from donewhen.cli.prices import prices
from donewhen.cli.receipt import receipt, verify_receipt
from donewhen.cli.reconcile import reconcile
from donewhen.cli.release import release
from donewhen.cli.review import attest, reject, review
from donewhen.cli.run import resume, run
from donewhen.cli.session import raise_, sessions, show
from donewhen.cli.spec import new
from donewhen.cli.store import store_option
from donewhen.cli.stores import store
from donewhen.cli.verify import verify
from donewhen.cli.watch import watch

__all__ = ["main"]


@click.group(
    cls=DonewhenGroup,
    invoke_without_command=True,
    epilog=epilog(),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="donewhen", message="%(prog)s %(version)s")
@store_option
@click.pass_context
def main(ctx: click.Context) -> int:
    """Say when an agent is done, before it starts.

    A spec says what is to be done and how much it may use; every call is reserved before it is sent and is in the
    ledger; what comes of it waits for a person.
    """
    if ctx.invoked_subcommand is None:  # what click itself then does differs between its versions
        say(ctx.get_help())
    return USAGE


for _command in (
    new,
    run,
    resume,
    raise_,
    budget,
    halt,
    sessions,
    show,
    watch,
    review,
    attest,
    reject,
    release,
    verify,
    checkpoint,
    receipt,
    verify_receipt,
    export,
    erase,
    reconcile,
    prices,
    key,
    adopt,
    store,
    demo,
):
    main.add_command(_command)
