"""What the ledger says beside what the provider's usage report says.

Both are added up for each stretch of time that the report tells apart (a minute, an hour, a day) and each model. A call
that began in one stretch and ended in the next may be counted in either, so such stretches are compared together. A
call in doubt may have used anything up to its reservation, so what it could explain is no mismatch.

The ledger does not know which API key made a call. Keys are told where the report has them, and `key` compares the rows
of one alone.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from donewhen.usage import Usage

if TYPE_CHECKING:
    from donewhen.entry import LedgerRow
    from donewhen.usage_report import UsageRow

Kind = Literal["ledger_lacks", "provider_lacks", "model", "drift"]

LONGEST_CALL = timedelta(minutes=10)
"""How long after its reservation a call in doubt may have been served: the time-out of the official SDKs."""

_DATED = re.compile(r"(-\d{8}|-\d{4}-\d{2}-\d{2}|-latest)$")
_PREFIXES = {"anthropic": ("claude",), "openai": ("gpt-", "o1", "o3", "o4", "chatgpt-", "codex-", "ft:")}
"""How the models of each provider are called, beside those that the report names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One thing that does not agree."""

    kind: Kind
    starts_at: datetime
    ends_at: datetime
    model: str
    keys: tuple[str, ...]
    """The API keys of the report's rows, where it names them."""
    provider: Usage
    """What the report says."""
    ledger: Usage
    """What the ledger says was used."""
    calls: int
    """How many calls of the ledger that is."""
    in_doubt: int
    """Tokens that calls in doubt could explain, and do not."""
    other_model: str | None = None
    """For `model`: the model that the ledger names instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of comparing a ledger with a report."""

    mismatches: tuple[Mismatch, ...]
    starts_at: datetime
    ends_at: datetime
    stretches: int
    """How many stretches of time were compared."""
    calls: int
    """How many of the ledger's calls were."""
    other_calls: int
    """How many were not: out of the report's time, or of another provider's model."""
    in_doubt: int
    """How many of those that were compared are in doubt."""


@dataclass(slots=True)
class _Call:
    begins_at: datetime
    ends_at: datetime
    model: str
    usage: Usage | None
    """None: not known, up to `most` tokens."""
    most: int


@dataclass(slots=True)
class _Sum:
    provider: Usage = Usage(0, 0)  # noqa: RUF009 - frozen
    ledger: Usage = Usage(0, 0)  # noqa: RUF009
    calls: int = 0
    in_doubt: int = 0
    keys: set[str] = field(default_factory=set[str])


def compare(
    rows: Iterable[UsageRow], ledger_rows: Iterable[LedgerRow], *, key: str | None = None, tolerance_percent: int = 0
) -> Comparison:
    """Hold a ledger's calls against a provider's usage report.

    Args:
        rows: the report's, each read once.
        ledger_rows: every row of the ledger, in order.
        key: compare the report's rows of this API key alone.
        tolerance_percent: how far the tokens of a stretch may drift apart, of what the provider says.

    Raises:
        ValueError: the report has no row, or is of two providers.
    """
    said, spans, provider = _report(rows, key)
    known = {_plain(model) for _, model in said}
    groups = _Groups(spans)
    calls: list[_Call] = []
    others = doubts = 0
    for call in _calls(ledger_rows):
        ours = call.model in known or call.model.startswith(_PREFIXES[provider])
        if not ours or not groups.join(call.begins_at, call.ends_at):
            others += 1
            continue
        calls.append(replace(call, model="") if known == {""} else call)  # the report does not tell models apart
        doubts += call.usage is None
    sums = _added(said, calls, groups)
    found = [
        m
        for place, by_model in sorted(sums.items())
        for m in _mismatches(groups.span(place), by_model, tolerance_percent)
    ]
    return Comparison(
        mismatches=tuple(found),
        starts_at=groups.starts[0],
        ends_at=max(groups.ends),
        stretches=len(groups.starts),
        calls=len(calls),
        other_calls=others,
        in_doubt=doubts,
    )


def _report(
    rows: Iterable[UsageRow], key: str | None
) -> tuple[dict[tuple[datetime, str], _Sum], dict[datetime, datetime], Literal["anthropic", "openai"]]:
    """Return the report added up by the start of each stretch and model, and when each stretch ends."""
    said: dict[tuple[datetime, str], _Sum] = {}
    spans: dict[datetime, datetime] = {}
    providers: set[Literal["anthropic", "openai"]] = set()
    for row in rows:
        providers.add(row.provider)
        spans[row.starts_at] = max(row.ends_at, spans.get(row.starts_at, row.ends_at))
        if row.usage.total == 0 or key not in (None, row.key):
            continue
        one = said.setdefault((row.starts_at, _plain(row.model or "")), _Sum())
        one.provider = _plus(one.provider, row.usage)
        if row.key is not None:
            one.keys.add(row.key)
    if len(providers) != 1:
        problem = "the usage report has no row" if not providers else "these are usage reports of two providers"
        raise ValueError(problem)
    return said, spans, providers.pop()


def _calls(rows: Iterable[LedgerRow]) -> Iterator[_Call]:
    """Yield the calls that may have been billed: settled, reconciled, or in doubt."""
    open_calls: dict[tuple[str, int], LedgerRow] = {}
    abandoned: dict[tuple[str, int], LedgerRow] = {}
    for row in rows:
        if row.kind == "reserve":
            open_calls[row.session_id, row.seq] = row
        elif row.doubts is not None:
            abandoned[row.session_id, row.doubts] = row
        elif row.closes is not None:
            reserve = open_calls.pop((row.session_id, row.closes), None)
            if reserve is not None and (
                call := _closed(reserve, row, abandoned.pop((row.session_id, row.closes), None))
            ):
                yield call
    for place, reserve in open_calls.items():
        yield _in_doubt(reserve, abandoned.get(place))


def _closed(reserve: LedgerRow, row: LedgerRow, abandoned: LedgerRow | None) -> _Call | None:
    if row.kind == "error" or row.data.get("outcome") == "none":
        return None
    if row.data.get("usage") is None:
        return replace(_in_doubt(reserve, abandoned), most=max(row.token_delta, reserve.data["reserve"][1]))
    kinds = row.data["usage"]
    usage = Usage(kinds["input"], kinds["output"], kinds["cache_read"], kinds["cache_write"])
    ended = row.created_at if row.kind == "llm" else None
    return _Call(
        _time(reserve),
        datetime.fromisoformat(ended) if ended else _latest(reserve, abandoned),
        _model(reserve, row),
        usage,
        0,
    )


def _in_doubt(reserve: LedgerRow, abandoned: LedgerRow | None) -> _Call:
    return _Call(_time(reserve), _latest(reserve, abandoned), _model(reserve, None), None, reserve.data["reserve"][1])


def _latest(reserve: LedgerRow, abandoned: LedgerRow | None) -> datetime:
    latest = _time(reserve) + LONGEST_CALL
    return latest if abandoned is None else min(latest, _time(abandoned))


def _time(row: LedgerRow) -> datetime:
    return datetime.fromisoformat(row.created_at)


def _model(reserve: LedgerRow, row: LedgerRow | None) -> str:
    answered = None if row is None else row.data.get("model")
    return _plain(answered or reserve.data["model"])


def _plain(model: str) -> str:
    """Return a model's name without its date: who is asked for one without may answer as one with it."""
    return _DATED.sub("", model)


class _Groups:
    """Stretches of time, those together that a call joins."""

    def __init__(self, spans: dict[datetime, datetime]) -> None:
        self.starts = sorted(spans)
        self.ends = [spans[start] for start in self.starts]
        self._group = list(range(len(self.starts)))

    def place(self, at: datetime) -> int | None:
        """Return which stretch a moment is in; None where it is in none."""
        index = bisect_right(self.starts, at) - 1
        return index if index >= 0 and at < self.ends[index] else None

    def join(self, begins_at: datetime, ends_at: datetime) -> bool:
        """Join the stretches that a call touches; tell whether it lies in the report's time."""
        first, last = self.place(begins_at), self.place(ends_at)
        first, last = (last if first is None else first), (first if last is None else last)
        if first is None or last is None:
            return False
        root = self.of(first)
        for index in range(first + 1, last + 1):
            self._group[index] = root
        return True

    def of(self, index: int) -> int:
        """Return the first stretch of the group that a stretch belongs to."""
        while self._group[index] != index:
            index = self._group[index]
        return index

    def span(self, first: int) -> tuple[datetime, datetime]:
        """Return from when to when a group goes."""
        last = first
        while last + 1 < len(self.starts) and self.of(last + 1) == first:
            last += 1
        return self.starts[first], self.ends[last]


def _added(said: dict[tuple[datetime, str], _Sum], calls: list[_Call], groups: _Groups) -> dict[int, dict[str, _Sum]]:
    sums: dict[int, dict[str, _Sum]] = {}

    def sum_of(at: datetime, model: str) -> _Sum:
        place = groups.place(at)
        assert place is not None
        return sums.setdefault(groups.of(place), {}).setdefault(model, _Sum())

    for (start, model), one in said.items():
        total = sum_of(start, model)
        total.provider = _plus(total.provider, one.provider)
        total.keys |= one.keys
    for call in calls:
        at = call.begins_at if groups.place(call.begins_at) is not None else call.ends_at
        total = sum_of(at, call.model)
        total.calls += 1
        total.in_doubt += call.most
        if call.usage is not None:
            total.ledger = _plus(total.ledger, call.usage)
    return sums


def _mismatches(span: tuple[datetime, datetime], by_model: dict[str, _Sum], tolerance: int) -> Iterator[Mismatch]:
    off = {model: one for model, one in by_model.items() if not _agrees(one, tolerance)}
    renamed = _renamed(off)
    for model, one in sorted(off.items()):
        if model in renamed.values():
            continue
        other = renamed.get(model)
        ours = one if other is None else by_model[other]
        kind: Kind = "drift"
        if other is not None:
            kind = "model"
        elif one.calls == 0:
            kind = "ledger_lacks"
        elif one.provider.total == 0:
            kind = "provider_lacks"
        yield Mismatch(
            kind=kind,
            starts_at=span[0],
            ends_at=span[1],
            model=model or "not told",
            keys=tuple(sorted(one.keys)),
            provider=one.provider,
            ledger=ours.ledger,
            calls=ours.calls,
            in_doubt=ours.in_doubt,
            other_model=other,
        )


def _agrees(one: _Sum, tolerance: int) -> bool:
    """Tell whether the sums agree, within the tolerance, and what calls in doubt can explain."""
    unexplained = one.in_doubt
    for said, ours in zip(one.provider.counts, one.ledger.counts, strict=True):
        room = said * tolerance // 100
        if ours > said + room:
            return False
        unexplained -= max(0, said - ours - room)
    return unexplained >= 0


def _renamed(off: dict[str, _Sum]) -> dict[str, str]:
    """Return which model of the report is, by its numbers, which other one of the ledger's."""
    found: dict[str, str] = {}
    for model, one in off.items():
        for other, theirs in off.items():
            is_taken = other in found.values()
            if one.calls == 0 and theirs.provider.total == 0 and one.provider == theirs.ledger and not is_taken:
                found[model] = other
                break
    return found


def _plus(one: Usage, two: Usage) -> Usage:
    return Usage(*[first + second for first, second in zip(one.counts, two.counts, strict=True)])
