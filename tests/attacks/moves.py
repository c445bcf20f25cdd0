"""The attacks: what is done to the rows, by name. Each gets a `Forger` and changes its file."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

from attacks.edits import EDITS, ONE_OF_EACH_CLASS, of_budget
from attacks.forger import Forger, Row
from attacks.whole_logs import rewritten_by_a_stranger, swapped_in, swapped_in_under_its_name
from donewhen.kinds import BUDGET_PREFIX

Move = Callable[[Forger], None]


def _edited(change: Callable[[Forger], Row]) -> Mapping[str, Move]:
    """Return an attack in its two strengths: the plain edit, and everything worked out anew around it."""

    def plain(forger: Forger) -> None:
        forger.put(change(forger))

    def whole(forger: Forger) -> None:
        change(forger)
        forger.rewrite(renumber=False)

    return {"": plain, ", and all is worked out anew": whole}


def _listed(change: Callable[[Forger], list[Row]]) -> Mapping[str, Move]:
    """Return an attack on the list of rows: ids and places renumbered, or left with their gaps where that can be."""

    def left(forger: Forger) -> None:
        rows, used = change(forger), set[int]()
        for row in rows:
            # A table has no two rows of one id: of a row that is there twice the second is put at the end.
            row["id"] = row["id"] if row["id"] not in used else len(rows) + len(used)
            used.add(row["id"])
        forger.rewrite(rows, renumber=False)

    def renumbered(forger: Forger) -> None:
        forger.rewrite(change(forger))

    return {"": left, ", and all is renumbered": renumbered}


# -- single rows -----------------------------------------------------------------------------------------------------


# -- lists of rows ---------------------------------------------------------------------------------------------------


def _without(keep: Callable[[Forger, Row], bool]) -> Callable[[Forger], list[Row]]:
    return lambda forger: [row for row in forger.rows if keep(forger, row)]


def _reordered(forger: Forger) -> list[Row]:
    rows = forger.rows
    rows[100], rows[101] = rows[101], rows[100]
    return rows


def _replayed(forger: Forger) -> list[Row]:
    return [*forger.rows[:150], copy.deepcopy(forger.rows[120]), *forger.rows[150:]]


def _replayed_attestation(forger: Forger) -> list[Row]:
    return [*forger.rows, copy.deepcopy(forger.of_kind("attest", 0))]


def _spliced(forger: Forger) -> list[Row]:
    stranger = {**copy.deepcopy(forger.rows[-1]), "session": "of another log", "prev": "ab" * 32, "seq": 1}
    return [*forger.rows[:90], stranger, *forger.rows[90:]]


def _slipped_in(kind: str) -> Callable[[Forger], list[Row]]:
    """Slip in another row like the last of its kind, at the end of the log."""
    return lambda forger: [*forger.rows, copy.deepcopy(forger.of_kind(kind))]


# -- by SQL ----------------------------------------------------------------------------------------------------------


def _sql(*statements: str) -> Move:
    return lambda forger: forger.sql(*statements)


def _new_output(forger: Forger) -> None:
    """Swap the output that waits: its text beside the row that commits to it."""
    row = next(row for row in forger.of_session("audit") if row["kind"] == "close")
    forger.sql(("UPDATE texts SET body = ? WHERE entry_id = ? AND label = 'output'", (b"another", row["id"])))


_LISTS: Mapping[str, Callable[[Forger], list[Row]]] = {
    "a row is deleted": _without(lambda _f, row: row["id"] != 77),
    "the head is cut": _without(lambda _f, row: row["id"] > 20),
    "a whole session is deleted": _without(lambda _f, row: row["session"] != "breached"),
    "a rejection is dropped": _without(lambda _f, row: row["kind"] != "reject"),
    "a revocation is dropped": _without(lambda _f, row: row.get("data", {}).get("action") != "revoke"),
    "the rotation is dropped": _without(lambda _f, row: row.get("data", {}).get("action") != "rotate"),
    "a halt is dropped": _without(lambda _f, row: row["kind"] != "halt"),
    "a lift is dropped": _without(lambda f, row: row is not f.of_kind("halt")),
    "a lowering of a budget is dropped": _without(lambda f, row: row is not of_budget("old", -1)(f)),
    "a budget was never begun": _without(lambda _f, row: row["session"] != f"{BUDGET_PREFIX}old"),
    "a child is deleted": _without(lambda _f, row: row["session"] != "erased"),
    "what is in doubt is never settled": _without(lambda _f, row: row["kind"] != "reconcile"),
    "two rows change places": _reordered,
    "a row is replayed": _replayed,
    "an attestation is replayed": _replayed_attestation,
    "a row of another log is spliced in": _spliced,
}

_SQL: Mapping[str, Move] = {
    "a row is deleted and nothing else": _sql("DELETE FROM entries WHERE id = 77"),
    "the tail is cut and its checkpoints stay": _sql("DELETE FROM entries WHERE id > 190"),
    "the checkpoints of the tail are cut and its rows stay": _sql("DELETE FROM sealed WHERE size > 190"),
    "the tail is cut inside a commit": lambda forger: forger.rewrite(forger.rows[:1]),
    "the rows are emptied": _sql("DELETE FROM texts", "DELETE FROM entries"),
    "the checkpoints are emptied": _sql("DELETE FROM sealed"),
    "the list of balances is emptied": _sql("DELETE FROM balances"),
    "the newest balance of a budget is not listed": _sql(
        "DELETE FROM balances WHERE entry_id = (SELECT max(entry_id) FROM balances)"
    ),
    "a balance is listed for another row": _sql("INSERT INTO balances VALUES ('donewhen:budget:acme', 100)"),
    "a view hides rows": _sql(
        "DROP VIEW ledger", "CREATE VIEW ledger AS SELECT id, session_id FROM entries WHERE id < 5"
    ),
    "a view of attestations is replaced": _sql("DROP VIEW attestations", "CREATE VIEW attestations AS SELECT 1"),
    "the held output is swapped": _new_output,
    "the log gets another name": _sql("UPDATE log SET origin = 'another'"),
    "the log gets another first key": _sql("UPDATE log SET vkey = NULL"),
    "everything is emptied": _sql("DELETE FROM texts", "DELETE FROM entries", "DELETE FROM sealed"),
    "everything is rewritten without the key": rewritten_by_a_stranger,
    "another whole log of the same key is swapped in": swapped_in,
    "another whole log of the same key is swapped in under the name of this one": swapped_in_under_its_name,
}

SLIPPED_KINDS = [
    "spec",
    "open",
    "policy",
    "reserve",
    "llm",
    "tool",
    "check",
    "error",
    "abandoned",
    "circuit_breaker",
    "close",
    "write",
    "attest",
    "reject",
    "release",
    "erase",
    "key",
    "budget",
    "halt",
    "reconcile",
]


ALIKE = {f"a row of kind {kind} is slipped in" for kind in SLIPPED_KINDS} | set(EDITS) - ONE_OF_EACH_CLASS
"""Attacks of which there are many that go the same way."""


def all_moves() -> dict[str, Move]:
    """Return every attack that the public key alone must catch, by what it does."""
    moves = dict(_SQL)
    for name, edit in EDITS.items():
        moves |= {name + strength: move for strength, move in _edited(edit).items()}
    lists = {**_LISTS, **{f"a row of kind {kind} is slipped in": _slipped_in(kind) for kind in SLIPPED_KINDS}}
    for name, change in lists.items():
        moves |= {name + strength: move for strength, move in _listed(change).items()}
    return moves
