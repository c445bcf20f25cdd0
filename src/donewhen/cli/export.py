"""`export`: a session for other programs and people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from donewhen.cli.exits import CommandError
from donewhen.cli.output import counted_as, say
from donewhen.cli.receipt import session_named
from donewhen.cli.store import open_to_read, store_option, store_path
from donewhen.cli.to_file import force_option, goes_to_a_terminal, put_bytes, to_option
from donewhen.render import visible

if TYPE_CHECKING:
    from donewhen.export.aat import Agent

FORMATS = ("bundle", "jsonl", "csv", "aat")
_MOST_KEY_BYTES = 65536


@click.command()
@click.argument("session")
@click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="What to make; see above.")
@to_option
@force_option
@click.option("--with-texts", is_flag=True, help="bundle: the kept texts too. They may be private.")
@click.option("--sign-key", metavar="FILE", help="aat: sign each record with this ECDSA P-256 key (PEM).")
@click.option("--agent-id", metavar="URI", help="aat: who acted. Left out: a URI made of the log's name.")
@click.option("--agent-version", metavar="X.Y.Z", help="aat: its version. Left out: 0.0.0, which means not known.")
@store_option
def export(
    session: str,
    *,
    form: str,
    to: str,
    force: bool,
    with_texts: bool,
    sign_key: str | None,
    agent_id: str | None,
    agent_version: str | None,
) -> None:
    """Export a session.

    \b
    bundle  a ZIP for an auditor: rows, receipts, checkpoint, attestations
    jsonl   the rows as they are stored and hashed, one a line
    csv     a table; no cell of it runs in a spreadsheet
    aat     records of the agent audit trail draft: for exchange, not proof

    Only a bundle and a receipt prove something. Texts that are kept beside rows are in no export but a bundle made
    with --with-texts.
    """  # noqa: D301 - click knows a paragraph that is not to be wrapped by a backspace
    from donewhen.export import export_session
    from donewhen.export.aat import es256_signer

    if form != "aat" and (sign_key or agent_id or agent_version):
        raise CommandError("--sign-key, --agent-id and --agent-version are for --format aat")
    if with_texts and form != "bundle":
        raise CommandError("--with-texts is for --format bundle; the other formats have no place for texts")
    if form == "bundle" and goes_to_a_terminal(to):
        raise CommandError("a bundle is a ZIP file, not for a terminal: name a file with --to")
    sign = None if sign_key is None else es256_signer(_read(sign_key), visible(sign_key))
    with open_to_read(store_path(session)) as ledger:
        agent = _agent(ledger.origin, agent_id, agent_version) if form == "aat" else None
        session_id = session_named(ledger, session)
        data = export_session(ledger, session_id, form, with_texts=with_texts, agent=agent, sign=sign)
        unsigned = ledger.signed_by is None
    put_bytes(data, to, force=force)
    say(_told(form, len(data), unsigned=unsigned, with_texts=with_texts))


def _agent(origin: str, agent_id: str | None, version: str | None) -> Agent:
    from donewhen.export.aat import Agent, agent_of

    known = agent_of(origin)
    try:
        return Agent(agent_id=agent_id or known.agent_id, version=version or known.version)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _told(form: str, size: int, *, unsigned: bool, with_texts: bool) -> str:
    lines = [f"Exported {counted_as(size, 'byte')} as {form}."]
    if form == "aat":
        lines.append("These records are for exchange, not proof. Proof is in a receipt: 'donewhen receipt'.")
    if unsigned:
        lines.append("The ledger is unsigned: nothing in this is proven.")
    if with_texts:
        lines.append("The kept texts are in it. They may be private.")
    return "\n".join(lines)


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_MOST_KEY_BYTES)
    except OSError as error:
        raise CommandError(f"--sign-key {visible(path)}: {error.strerror}") from error
