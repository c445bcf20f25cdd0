"""What each row must say, worked out again from the rows before it.

The auditor's half of the row format: nothing here believes a row about its session, its balances, or what it closes.
It has arithmetic of its own, on plain lists, apart from the `fold` that made the rows; tests hold one against the
other. A session that was not seen for long is forgotten, and taken up again from its rows, so that a log of any length
is followed in little memory.

Source: docs/ledger_format.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from donewhen.entry import LOG_SESSION, RESERVED_PREFIX, link
from donewhen.errors import LedgerTamperedError
from donewhen.kinds import BUDGET_PREFIX, EVERYTHING
from donewhen.merkle import leaf_hash
from donewhen.verify.amounts import Stated, begin, bring
from donewhen.verify.chain import Chain, wrong
from donewhen.verify.kinds import RULES, count_tools
from donewhen.verify.levels import Levels
from donewhen.verify.row import Row, read_row

MOST_SESSIONS = 1024
"""How many sessions are kept in mind, and as many again that were seen less lately."""

_OF_A_BUDGET = frozenset({"budget", "halt"})
_KINDS_OF = {LOG_SESSION: frozenset({"key"}), EVERYTHING: frozenset({"halt"})}

MOST_WARNINGS = 20
"""Warnings beyond this number are counted, not told."""


class Rederivation:
    """Follow a log row by row, each session's chain for itself.

    Args:
        find_rows: given a session and an id, yields the bodies, in order, of what `Rederivation` must know of the
            session's rows before that id: its newest, its spec and open rows, its reservations that nothing has
            closed, and what doubts one.
        levels: the balances that several sessions move.
    """

    def __init__(self, find_rows: Callable[[str, int], Iterable[bytes]], levels: Levels) -> None:
        self.sessions = 0
        self.warnings: list[str] = []
        self.more_warnings = 0
        self.touched: tuple[str, ...] = ()
        """The balances of others that the newest row leaves."""
        self._find_rows = find_rows
        self._levels = levels
        self._is_halted = False
        self._chains: dict[str, Chain] = {}
        self._older: dict[str, Chain] = {}

    def follow(self, row: Row, body: bytes, leaf: bytes) -> None:
        """Hold the next row of the log against the rows before it.

        Args:
            row: what the body says.
            body: as it is stored.
            leaf: its leaf hash.

        Raises:
            LedgerTamperedError: it does not follow from them; names the row and what is wrong.
        """
        session, kind = row["session"], row["kind"]
        chain = self._chains.get(session) or self._find_chain(row)
        if row["prev"] != chain.digest or row["seq"] != chain.seq + 1:
            raise _out_of_order(row, chain)
        only = chain.only
        if (kind != row["state_origin"] and kind != "write") or (kind == "key" if only is None else kind not in only):
            raise _out_of_place(row, chain)
        if chain.above or chain.is_shared or kind == "open":
            self._bring(row, chain, body)
        if self._is_halted and kind == "reserve":
            raise wrong(row, "it reserves, and everything was halted before it")
        rule = RULES.get(kind)
        if rule is not None:
            odd = rule(row, chain)
            if odd is not None:
                self.warn(f"row {row['id']} {odd}")
        elif "closes" in row or "doubts" in row:
            raise wrong(row, f"a {kind} row cannot be one that closes or doubts a reservation")
        if chain.is_shared or chain.above:
            self._share(row, chain)
        if not body.startswith(chain.head):
            raise _off_balance(row, body, chain)
        chain.seq += 1
        chain.digest = link(leaf)
        self.touched = chain.above

    def warn(self, text: str) -> None:
        """Note what is odd but is no proof of tampering."""
        if len(self.warnings) < MOST_WARNINGS:
            self.warnings.append(text)
        else:
            self.more_warnings += 1

    def _find_chain(self, row: Row) -> Chain:
        """Return a session's chain that is not among the newest: one seen less lately, a new one, or a forgotten one."""
        session = row["session"]
        if len(self._chains) >= MOST_SESSIONS:
            self._chains, self._older = {}, self._chains
        chain = self._older.pop(session, None)
        if chain is None:
            only = _kinds_of(row)
            chain = Chain() if row["seq"] == 1 else self._take_up(row)
            chain.only = only
            chain.is_shared |= only is not None and session != LOG_SESSION
            self.sessions += row["seq"] == 1
        self._chains[session] = chain
        return chain

    def _take_up(self, row: Row) -> Chain:
        """Read a session again, up to the row before this one. These rows were verified when they were followed."""
        chain = Chain()
        for body in self._find_rows(row["session"], row["id"]):
            known = read_row(body)
            chain.seq, chain.digest = known["seq"], link(leaf_hash(body))
            chain.after = orjson.loads(body).get("after", [])
            if known["kind"] == "spec":
                chain.specs.append(known["data"])
            elif known["kind"] == "open":
                chain.agreed.add(known["data"]["spec_hash"])
                chain.runs.update(known["data"].get("runs", ()))
            elif known["kind"] == "policy":
                chain.has_policy = True
            elif known["kind"] == "llm":
                count_tools(known, chain)
            elif known["kind"] == "reserve":
                chain.held[known["seq"]] = known["data"]["reserve"]
            elif known["kind"] == "reconcile" and "closes" in known:
                chain.reconciled.add(known["closes"])
            if "doubts" in known:
                chain.doubted.add(known["doubts"])
        if chain.after:
            chain.above = tuple([balance["budget"] for balance in chain.after[:-1]])
            chain.is_shared = self._levels.is_touched(row["session"], row["id"])
        chain.move()
        chain.limit()
        return chain

    # -- what several sessions share -----------------------------------------------------------------------------------

    def _bring(self, row: Row, chain: Chain, body: bytes) -> None:
        """Put the balances that others may have moved since under a chain, as they are at the time of its next row."""

        def stated(name: str) -> dict[str, Any] | None:
            return next((balance for balance in orjson.loads(body).get("after", ()) if balance["budget"] == name), None)

        session, own = row["session"], chain.own
        if own is None and row["kind"] == "open":
            chain.above = self._path_above(row)
        elif own is None and row["kind"] == "budget" and chain.only is not None:
            self._begin_budget(row, chain, stated)
            return
        names = (*chain.above, session) if chain.is_shared and own is not None else chain.above
        levels = [self._level(name, row) for name in names]
        for level in levels:
            odd = bring(row, level, stated)
            if odd is not None:
                self.warn(f"row {row['id']} {odd}")
        chain.after = [*levels, own] if own is not None and not chain.is_shared else levels
        if row["kind"] == "reserve":
            chain.limit()
        chain.move()

    def _share(self, row: Row, chain: Chain) -> None:
        """Note what a row did to what others share."""
        if chain.is_shared and chain.own is not None:
            self._levels.keep(chain.own)
        if row["session"] == EVERYTHING:
            self._is_halted = "halted" in chain.after[-1]
        try:
            chain.move()
        except ValueError as error:
            raise wrong(row, f"it leaves a balance that no row can hold: {error}") from error

    def _begin_budget(self, row: Row, chain: Chain, stated: Stated) -> None:
        for name in _budget_path(row["session"][len(BUDGET_PREFIX) :])[:-1]:
            self._level(name, row)
        if "period" in row.get("data", ()):
            chain.period, odd = begin(row, row["data"]["period"], stated(row["session"]))
            if odd is not None:
                self.warn(f"row {row['id']} {odd}")

    def _path_above(self, row: Row) -> tuple[str, ...]:
        """Return the names of the balances that a session is opened under."""
        data = row["data"]
        if "parent" in data:
            parent = data["parent"]
            path = self._levels.path_of(parent, row["id"]) if type(parent) is str else ()
            if not path or path[-1] != parent or "budget" in data:
                raise wrong(row, f"it opens a child of {parent!r}, which was not opened before it")
            self._share_session(parent)
            return path
        name = data.get("budget")
        if name is None:
            return ()
        return _budget_path(str(name))

    def _share_session(self, session: str) -> None:
        """Let others move a session's own balance from now on."""
        chain = self._chains.get(session) or self._older.get(session)
        if chain is not None and not chain.is_shared and chain.own is not None:
            chain.is_shared = True
            self._levels.keep(chain.own)

    def _level(self, name: str, row: Row) -> dict[str, Any]:
        level = self._levels.find(name, row["id"])
        if level is None:
            raise wrong(row, f"it stands under {name!r}, which no row before it began")
        return level


def _out_of_order(row: Row, chain: Chain) -> LedgerTamperedError:
    session = row["session"]
    if row["seq"] != chain.seq + 1:
        return wrong(row, f"it is row {row['seq']} of session {session}, where {chain.seq + 1} belongs")
    return wrong(row, f"it does not follow the row before it in session {session}")


def _kinds_of(row: Row) -> frozenset[str] | None:
    """Return the kinds that the rows of a session may have, None for a user's."""
    session = row["session"]
    if not session.startswith(RESERVED_PREFIX):
        return None
    if session in _KINDS_OF:
        return _KINDS_OF[session]
    if session.startswith(BUDGET_PREFIX) and session != BUDGET_PREFIX:
        return _OF_A_BUDGET
    raise wrong(row, f"no session can be called {session!r}: such names are the log's own")


def _budget_path(name: str) -> tuple[str, ...]:
    words = name.split("/")
    return tuple([BUDGET_PREFIX + "/".join(words[: count + 1]) for count in range(len(words))])


def _out_of_place(row: Row, chain: Chain) -> LedgerTamperedError:
    if chain.only is not None and row["kind"] not in chain.only:
        told = f"{row['session']}, where only rows of kind {' or '.join(sorted(chain.only))} do"
        return wrong(row, f"a {row['kind']} row stands in the session of the log itself, {told}")
    if row["kind"] == "key":
        return wrong(row, f"a key row stands in session {row['session']}, and not in that of the log")
    return wrong(row, f"a {row['kind']} row names {row['state_origin']!r} as its origin")


def _off_balance(row: Row, body: bytes, chain: Chain) -> LedgerTamperedError:
    return wrong(row, f"it leaves {_balances(body)[:400]}, where the rows before it make {_balances(chain.head)}")


def _balances(begin: bytes) -> str:
    """Return what a row says of balances, which is the first thing in it."""
    said = begin[len(b'{"after":') : begin.find(b',"at":"')]
    return f"the balances {said.decode('utf-8', 'replace')}" if begin.startswith(b'{"after":') else "no balances"
