"""What each row must say, worked out again from the rows before it.

The auditor's half of the row format: nothing here believes a row about its session, its balances, or what it closes.
It has arithmetic of its own, on plain lists, apart from the `fold` that made the rows; tests hold one against the
other. A session that was not seen for long is forgotten, and taken up again from its rows, so that a log of any length
is followed in little memory.

Source: docs/ledger_format.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import orjson

from donewhen.entry import LOG_SESSION, RESERVED_PREFIX
from donewhen.errors import LedgerTamperedError
from donewhen.merkle import leaf_hash
from donewhen.verify.chain import Chain, wrong
from donewhen.verify.kinds import RULES, count_tools
from donewhen.verify.row import Row, read_row

MOST_SESSIONS = 1024
"""How many sessions are kept in mind, and as many again that were seen less lately."""

MOST_WARNINGS = 20
"""Warnings beyond this number are counted, not told."""


class Rederivation:
    """Follow a log row by row, each session's chain for itself.

    Args:
        find_rows: given a session and an id, yields the bodies, in order, of what `Rederivation` must know of the
            session's rows before that id: its newest, its spec and open rows, its reservations that nothing has
            closed, and what doubts one.
    """

    def __init__(self, find_rows: Callable[[str, int], Iterable[bytes]]) -> None:
        self.sessions = 0
        self.warnings: list[str] = []
        self.more_warnings = 0
        self._find_rows = find_rows
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
        if (kind != row["state_origin"] and kind != "write") or chain.is_log is not (kind == "key"):
            raise _out_of_place(row, chain)
        rule = RULES.get(kind)
        if rule is not None:
            odd = rule(row, chain)
            if odd is not None:
                self.warn(f"row {row['id']} {odd}")
        elif "closes" in row or "doubts" in row:
            raise wrong(row, f"a {kind} row cannot be one that closes or doubts a reservation")
        if not body.startswith(chain.head):
            raise _off_balance(row, body, chain)
        chain.seq += 1
        chain.digest = leaf.hex()

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
            if session.startswith(RESERVED_PREFIX) and session != LOG_SESSION:
                raise wrong(row, f"no session can be called {session!r}: such names are the log's own")
            chain = Chain() if row["seq"] == 1 else self._take_up(row)
            chain.is_log = session == LOG_SESSION
            self.sessions += row["seq"] == 1
        self._chains[session] = chain
        return chain

    def _take_up(self, row: Row) -> Chain:
        """Read a session again, up to the row before this one. These rows were verified when they were followed."""
        chain = Chain()
        for body in self._find_rows(row["session"], row["id"]):
            known = read_row(body)
            chain.seq, chain.digest = known["seq"], leaf_hash(body).hex()
            chain.after = orjson.loads(body)["after"]
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
            if "doubts" in known:
                chain.doubted.add(known["doubts"])
        chain.move()
        chain.limit()
        return chain


def _out_of_order(row: Row, chain: Chain) -> LedgerTamperedError:
    session = row["session"]
    if row["seq"] != chain.seq + 1:
        return wrong(row, f"it is row {row['seq']} of session {session}, where {chain.seq + 1} belongs")
    return wrong(row, f"it does not follow the row before it in session {session}")


def _out_of_place(row: Row, chain: Chain) -> LedgerTamperedError:
    if chain.is_log:
        return wrong(row, f"a {row['kind']} row stands in the session of the log itself, where only keys do")
    if row["kind"] == "key":
        return wrong(row, f"a key row stands in session {row['session']}, and not in that of the log")
    return wrong(row, f"a {row['kind']} row names {row['state_origin']!r} as its origin")


def _off_balance(row: Row, body: bytes, chain: Chain) -> LedgerTamperedError:
    made = chain.head[len(b'{"after":') : -len(b',"at":"')].decode()
    found = body[len(b'{"after":') : body.find(b',"at":"')].decode("utf-8", "replace")
    return wrong(row, f"it leaves the balances {found[:400]}, where the rows before it make {made}")
