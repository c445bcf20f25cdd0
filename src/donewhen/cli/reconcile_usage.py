"""`reconcile --usage`: the ledger beside what the provider counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from donewhen.cli.exits import DONE, LEDGER, CommandError
from donewhen.cli.output import counted_as, put, put_json, put_table, say
from donewhen.cli.store import command_line, open_to_read, store_path

if TYPE_CHECKING:
    from donewhen.reconcile.compare import Comparison, Mismatch
    from donewhen.usage import Usage
    from donewhen.usage_report import UsageRow

_TOLD = {
    "ledger_lacks": "the ledger has no call here",
    "provider_lacks": "the provider has none",
    "drift": "the tokens differ",
}
_KINDS = ("input", "output", "cache read", "cache write")


def compare_with_reports(paths: Sequence[str], key: str | None, tolerance: int, *, as_json: bool) -> int:
    """Compare the ledger with usage reports, tell of every mismatch, and return the exit code.

    Raises:
        CommandError: a file is no usage report, or they are of two providers.
    """
    from donewhen.reconcile.compare import compare

    with open_to_read(store_path()) as ledger:
        try:
            found = compare(_rows(paths), ledger.iter_rows(), key=key, tolerance_percent=tolerance)
        except ValueError as error:
            raise CommandError(str(error)) from error
    if as_json:
        put_json(_as_json(found, tolerance))
    else:
        _put(found, key, tolerance)
    return LEDGER if found.mismatches else DONE


def _rows(paths: Sequence[str]) -> Iterator[UsageRow]:
    from donewhen.usage_report import read_usage_report

    return chain.from_iterable(map(read_usage_report, paths))


def _put(found: Comparison, key: str | None, tolerance: int) -> None:
    if found.mismatches:
        headers = ("from", "to", "model", "key", "provider", "ledger", "calls", "what differs")
        put_table(headers, [_cells(one) for one in found.mismatches], right=(4, 5, 6))
        put("")
    of = "" if key is None else f" of the key {key}"
    agreed = (
        "No mismatch" if not found.mismatches else counted_as(len(found.mismatches), "mismatch").replace("hs", "hes")
    )
    put(
        f"{agreed}: {counted_as(found.calls, 'call')} of the ledger beside the report{of}, {_minute(found.starts_at)} to "
        f"{_minute(found.ends_at)} UTC, tolerance {tolerance} %."
    )
    if found.other_calls:
        say(f"{counted_as(found.other_calls, 'call')} not compared: at another time, or of another provider's model.")
    if found.in_doubt:
        verb = "is" if found.in_doubt == 1 else "are"
        say(f"{found.in_doubt} of them {verb} in doubt or without usage. List them: {command_line('reconcile')}")


def _cells(one: Mismatch) -> tuple[str, ...]:
    return (
        _minute(one.starts_at),
        _minute(one.ends_at),
        one.model,
        ", ".join(one.keys),
        f"{one.provider.total:,}",
        f"{one.ledger.total:,}",
        str(one.calls),
        _what(one),
    )


def _what(one: Mismatch) -> str:
    if one.other_model is not None:
        return f"the ledger names the model {one.other_model}"
    if one.kind != "drift":
        return _TOLD[one.kind]
    pairs = zip(_KINDS, one.provider.counts, one.ledger.counts, strict=True)
    drift = ", ".join(f"{kind} {ours - said:+,}" for kind, said, ours in pairs if ours != said)
    doubt = f"; calls in doubt explain at most {one.in_doubt:,}" if one.in_doubt else ""
    return f"{_TOLD['drift']}: {drift} in the ledger{doubt}"


def _minute(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M")


def _as_json(found: Comparison, tolerance: int) -> dict[str, Any]:
    return {
        "starts_at": found.starts_at.isoformat(),
        "ends_at": found.ends_at.isoformat(),
        "tolerance_percent": tolerance,
        "stretches": found.stretches,
        "calls": found.calls,
        "other_calls": found.other_calls,
        "in_doubt": found.in_doubt,
        "mismatches": [_mismatch(one) for one in found.mismatches],
    }


def _mismatch(one: Mismatch) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "starts_at": one.starts_at.isoformat(),
        "ends_at": one.ends_at.isoformat(),
        "model": one.model,
        "other_model": one.other_model,
        "keys": list(one.keys),
        "calls": one.calls,
        "provider": _usage(one.provider),
        "ledger": _usage(one.ledger),
        "in_doubt_tokens": one.in_doubt,
    }


def _usage(usage: Usage) -> dict[str, int]:
    return dict(zip(("input", "output", "cache_read", "cache_write"), usage.counts, strict=True))
