"""What each row must say, worked out again from the rows before it.

The auditor's half of the row format: nothing here believes a row about its session, its balances, or what it closes.
All is kept for a session that has reservations open; any other can be forgotten and taken up again from its newest row,
so that a log of any length is followed in little memory.

A row is read on one of two paths. Nearly every row is plain, and is taken apart by two patterns that spell out the
whole envelope; only its data is read as JSON. Whatever they do not match takes the slow path, `decode`, which also
knows what is wrong. A test holds both paths against each other.

Source: docs/ledger_format.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from donewhen import canonical
from donewhen.balance import DIMENSIONS, Amounts, Balance
from donewhen.entry import DATA_FIELDS, GENESIS, Entry, decode, fold, spec_hash, spell_balance
from donewhen.errors import LedgerFormatError, LedgerTamperedError
from donewhen.merkle import leaf_hash

MOST_SESSIONS = 4096
"""How many sessions are kept in mind before those without an open reservation are forgotten."""

MOST_WARNINGS = 20
"""Warnings beyond this number are counted, not told."""

_INT = r"(0|-?[1-9][0-9]{0,14})"
_PLAIN = r'([^"\\\x00-\x1f]*)'
_TAIL = re.compile(
    rf'{_INT},"input_hash":"[0-9a-f]*","kind":"([a-z_]+)","ms":{_INT},"pass":[01],"prev":"([0-9a-f]{{64}})",'
    rf'"seq":{_INT},"session":"{_PLAIN}","state_origin":"{_PLAIN}","tokens":{_INT},"turn":{_INT},"v":1}}'
)
_MIDDLE = re.compile(
    rf'"{_PLAIN}"(?:,"breach":"{_PLAIN}")?(?:,"closes":{_INT})?(?:,"data":(\{{.+\}}))?(?:,"doubts":{_INT})?', re.DOTALL
)
_AFTER = '{"after":'
_AT = ',"at":'

_NO_DATA: Mapping[str, Any] = {}
_MOVING = frozenset({"open", "budget", "reserve"})
_CLOSING = frozenset({"llm", "error"})


class ReadRow(NamedTuple):
    """What the auditor needs of a row. `after` is text still: it is compared, never believed."""

    id: int
    session_id: str
    seq: int
    prev: str
    kind: str
    state_origin: str
    token_delta: int
    at: str
    after: str
    closes: int | None
    doubts: int | None
    data: Mapping[str, Any]


def read_row(body: bytes) -> ReadRow:
    """Read a stored body, and refuse every spelling of it but one.

    Raises:
        LedgerFormatError: it is not the canonical spelling of a row of this format.
    """
    if body.isascii():
        row = _read_plain(body.decode("ascii"))
        if row is not None:
            return row
    row = decode(body, strict=True)
    text = body.decode("utf-8")
    after = text[len(_AFTER) : text.index(_AT)]
    return ReadRow(
        row.id,
        row.session_id,
        row.seq,
        row.prev,
        row.kind,
        row.state_origin,
        row.token_delta,
        row.created_at,
        after,
        row.closes,
        row.doubts,
        row.data,
    )


def _read_plain(text: str) -> ReadRow | None:
    """Read a row by its patterns; None where they do not match, whatever the reason.

    `after` is not looked into: whoever compares it with what it must be needs no more.
    """
    head, _, rest = text.rpartition(',"id":')
    tail, at = _TAIL.fullmatch(rest), head.find(_AT)
    middle = None if at < 0 or not text.startswith(_AFTER) else _MIDDLE.fullmatch(head, at + len(_AT))
    if tail is None or middle is None:
        return None
    row_id, kind, _, prev, seq, session_id, state_origin, tokens, _ = tail.groups()
    created_at, _, closes, spelled, doubts = middle.groups()
    allowed, data = DATA_FIELDS.get(kind), _NO_DATA
    if spelled is not None:
        # The envelope counts as a level too; data that comes near the deepest that is allowed is left to `decode`.
        if spelled.count("[") + spelled.count("{") >= canonical.MAX_DEPTH:
            return None
        try:
            data = canonical.loads(spelled)
        except ValueError:
            return None
    if allowed is None or not allowed.issuperset(data):
        return None
    return ReadRow(
        int(row_id),
        session_id,
        int(seq),
        prev,
        kind,
        state_origin,
        int(tokens),
        created_at,
        head[len(_AFTER) : at],
        None if closes is None else int(closes),
        None if doubts is None else int(doubts),
        data,
    )


@dataclass(slots=True)
class _Chain:
    """Where a session stands."""

    seq: int = 0
    digest: str = GENESIS
    balances: tuple[Balance, ...] = ()
    after: str = "[]"
    """The canonical spelling of `balances`."""
    held: dict[int, Amounts] = field(default_factory=dict[int, Amounts])
    """What is reserved and not closed, by the seq of its row."""
    doubted: set[int] = field(default_factory=set[int])
    specs: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    agreed: set[str] = field(default_factory=set[str])
    """The spec hashes under which the session was opened."""


class Rederivation:
    """Follow a log row by row, each session's chain for itself.

    Args:
        find_rows: given a session and an id, yields the bodies of the session's newest row, and of all its spec and
            open rows, before that id, in order.
    """

    def __init__(self, find_rows: Callable[[str, int], Iterable[bytes]]) -> None:
        self.sessions = 0
        self.warnings: list[str] = []
        self.more_warnings = 0
        self._find_rows = find_rows
        self._chains: dict[str, _Chain] = {}

    def follow(self, row: ReadRow, leaf: bytes) -> None:
        """Hold the next row of the log against the rows before it.

        Args:
            leaf: the leaf hash of the row's body.

        Raises:
            LedgerTamperedError: it does not follow from them; names the row and what is wrong.
        """
        chain = self._chains.get(row.session_id) or self._take_up(row)
        if row.seq != chain.seq + 1:
            raise _wrong(row, f"it is row {row.seq} of session {row.session_id}, where {chain.seq + 1} belongs")
        if row.prev != chain.digest:
            raise _wrong(row, f"it does not follow the row before it in session {row.session_id}")
        if row.kind not in (row.state_origin, "write"):
            raise _wrong(row, f"a {row.kind} row names {row.state_origin!r} as its origin")
        held = None if row.closes is None and row.doubts is None else _close(row, chain)
        check = _CHECKS.get(row.kind)
        if check is not None and (odd := check(row, chain, held)) is not None:
            self.warn(f"row {row.id} {odd}")
        if held is not None or row.kind in _MOVING:
            _move(row, chain, held)
        if row.after != chain.after:
            raise _wrong(row, f"it leaves the balances {row.after}, where the rows before it make {chain.after}")
        if row.kind == "reserve":
            self._look_at_ceilings(row, chain)
        chain.seq, chain.digest = row.seq, leaf.hex()

    def warn(self, text: str) -> None:
        """Note what is odd but is no proof of tampering."""
        if len(self.warnings) < MOST_WARNINGS:
            self.warnings.append(text)
        else:
            self.more_warnings += 1

    def _take_up(self, row: ReadRow) -> _Chain:
        if len(self._chains) >= MOST_SESSIONS:
            self._chains = {name: chain for name, chain in self._chains.items() if chain.held}
        chain = self._chains[row.session_id] = _Chain()
        if row.seq == 1:
            self.sessions += 1
            return chain
        for body in self._find_rows(row.session_id, row.id):
            known = read_row(body)
            chain.seq, chain.digest = known.seq, leaf_hash(body).hex()
            chain.after, chain.balances = known.after, decode(body).after
            if known.kind == "spec":
                chain.specs.append(known.data)
            elif known.kind == "open":
                chain.agreed.add(known.data["spec_hash"])
        return chain

    def _look_at_ceilings(self, row: ReadRow, chain: _Chain) -> None:
        for balance in chain.balances:
            used, most = balance.used.as_list(), balance.ceilings.as_list()
            for place, ceiling in enumerate(most[: len(used)]):
                amount = used[place]
                if ceiling is not None and (amount is None or amount > ceiling):
                    self.warn(f"row {row.id} reserves past a ceiling: {amount} {DIMENSIONS[place]} of {ceiling}")


# -- what a row of each kind must be: each raises what is wrong, and returns what is odd --------------------------------


def _check_spec(row: ReadRow, chain: _Chain, _held: Amounts | None) -> str | None:
    if row.data.get("spec_hash") != _hash_of(row, row.data, row.data.get("terms")):
        raise _wrong(row, "its spec_hash is not that of its answers and terms")
    chain.specs.append(row.data)
    return None if len(chain.specs) == 1 else f"is another spec for session {row.session_id}"


def _check_open(row: ReadRow, chain: _Chain, _held: Amounts | None) -> str | None:
    if not chain.specs:
        raise _wrong(row, f"session {row.session_id} is opened without a spec")
    stated, terms = row.data.get("spec_hash"), row.data.get("terms")
    if stated in chain.agreed and row.data.get("resumes") is True:
        return None
    whole = {spec["spec_hash"] for spec in chain.specs} if terms is None else set[str]()
    if stated not in whole | {_hash_of(row, spec, terms) for spec in chain.specs}:
        raise _wrong(row, f"session {row.session_id} is opened under another spec than the one that was stored")
    chain.agreed.add(cast("str", stated))
    if terms is None and stated not in whole:
        return f"opens session {row.session_id} without the terms of its spec"
    return None


def _check_reserve(row: ReadRow, chain: _Chain, _held: Amounts | None) -> str | None:
    _refuse_unopened(row, chain, None)
    found: object = row.data.get("reserve")
    amounts = cast("list[Any]", found) if type(found) is list else []
    if len(amounts) != len(DIMENSIONS):
        raise _wrong(row, f"it reserves {found!r}, which are not {len(DIMENSIONS)} amounts")
    for name, amount in zip(DIMENSIONS, amounts, strict=True):
        if not _is_amount(amount) and not (amount is None and name == "cost_microusd"):
            raise _wrong(row, f"it reserves {amount!r} {name}")
    chain.held[row.seq] = Amounts(*amounts)
    return None


def _check_llm(row: ReadRow, _chain: _Chain, held: Amounts | None) -> str | None:
    if held is None:
        raise _wrong(row, "it is a reply for which nothing was reserved")
    data, usage, tokens = row.data, row.data.get("usage"), held.tokens
    if usage is not None:
        if type(usage) is not dict or not all(_is_amount(n) for n in cast("dict[str, Any]", usage).values()):
            raise _wrong(row, f"its usage is {usage!r}")
        tokens = sum(cast("dict[str, int]", usage).values())
    if row.token_delta != tokens:
        raise _wrong(row, f"it is charged {row.token_delta} tokens, where its usage or its reservation makes {tokens}")
    over = max(0, tokens - held.tokens)
    if data.get("over_reservation") != (over or None):
        raise _wrong(row, f"it used {over} tokens more than were reserved, and says {data.get('over_reservation')!r}")
    cost = data.get("cost_microusd")
    if cost is not None and not _is_amount(cost):
        raise _wrong(row, f"its cost is {cost!r}")
    return None


def _refuse_unopened(row: ReadRow, chain: _Chain, _held: Amounts | None) -> str | None:
    if not chain.balances:
        raise _wrong(row, f"a {row.kind} row stands in session {row.session_id}, which was not opened before it")
    return None


_CHECKS: Mapping[str, Callable[[ReadRow, _Chain, Amounts | None], str | None]] = {
    "spec": _check_spec,
    "open": _check_open,
    "reserve": _check_reserve,
    "budget": _refuse_unopened,
    "llm": _check_llm,
}


def _close(row: ReadRow, chain: _Chain) -> Amounts | None:
    """Return what the reservation held that a row closes; None where it only doubts one."""
    seq = row.doubts if row.closes is None else row.closes
    verb, kinds = ("doubts", ("abandoned",)) if row.closes is None else ("closes", _CLOSING)
    if row.kind not in kinds or (row.closes is not None and row.doubts is not None):
        raise _wrong(row, f"a {row.kind} row cannot be one that {verb} a reservation")
    if seq is None or seq not in chain.held or (row.closes is None and seq in chain.doubted):
        raise _wrong(
            row, f"it {verb} row {seq} of session {row.session_id}, which is not a reservation that is still open"
        )
    if row.closes is None:
        chain.doubted.add(seq)
        return None
    chain.doubted.discard(seq)
    return chain.held.pop(seq)


def _move(row: ReadRow, chain: _Chain, held: Amounts | None) -> None:
    try:
        chain.balances = fold(chain.balances, cast("Entry", row), held)  # it has what `fold` looks at
        chain.after = f"[{','.join([spell_balance(balance) for balance in chain.balances])}]"
    except (LedgerFormatError, AttributeError, TypeError, ValueError) as error:
        raise _wrong(row, str(error)) from error


def _hash_of(row: ReadRow, spec: Mapping[str, Any], terms: object) -> str:
    try:
        return spec_hash(spec["what_it_does"], spec["what_it_does_not"], spec["done_looks_like"], terms)
    except (KeyError, TypeError, ValueError) as error:
        raise _wrong(row, f"its answers cannot be read: {error!r}") from error


def _is_amount(value: object) -> bool:
    return type(value) is int and value >= 0


def _wrong(row: ReadRow, problem: str) -> LedgerTamperedError:
    return LedgerTamperedError(problem, row_id=row.id)
