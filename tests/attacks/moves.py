"""The attacks: what is done to the rows, by name. Each gets a `Forger` and changes its file."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

from attacks.forger import Forger, Row
from attacks.forger import copy as copy_ledger
from attacks.ledger_200 import FIRST, KEY, SIGNER, STRANGER, THIRD
from donewhen.ledger import Ledger
from donewhen.notes import sign_note

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


def _modify(kind: str, field: str, value: object, place: int = -1) -> Callable[[Forger], Row]:
    def change(forger: Forger) -> Row:
        row = forger.of_kind(kind, place)
        holder = row if field in row else row["data"]
        assert holder[field] != value
        holder[field] = value
        return row

    return change


def _balance(part: str, amount: int) -> Callable[[Forger], Row]:
    def change(forger: Forger) -> Row:
        row = forger.of_kind("llm")
        row["after"][-1][part][1] -= amount
        return row

    return change


def _parent(forger: Forger) -> Row:
    row = forger.of_kind("reserve")
    row["after"].insert(0, {**row["after"][0], "budget": "parent"})
    return row


def _envelope_of_another(forger: Forger) -> Row:
    one, other = forger.of_kind("attest", 0), forger.of_kind("attest", 1)
    one["data"]["envelope"] = other["data"]["envelope"]
    return one


def _forged_signature(forger: Forger) -> Row:
    row = forger.of_kind("attest")
    envelope = json.loads(row["data"]["envelope"])
    signature = envelope["signatures"][0]["sig"]
    envelope["signatures"][0]["sig"] = ("A" if signature[0] != "A" else "B") + signature[1:]
    row["data"]["envelope"] = json.dumps(envelope, sort_keys=True, separators=(",", ":"))
    return row


def _moved(forger: Forger) -> Row:
    """Turn the attestation of one session into one of another, which was rejected."""
    row = forger.of_kind("attest", 0)
    row["session"], row["seq"] = "refused", 99
    return row


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


def _forged_enrolment(forger: Forger) -> Row:
    row = forger.of_kind("key", 0)
    row["data"]["vkey"] = forger.of_kind("key", 1)["data"]["vkey"]
    return row


# -- whole logs ------------------------------------------------------------------------------------------------------


def _rewritten_by_a_stranger(forger: Forger) -> None:
    forger.of_kind("write")["tokens"] += 1
    forger.rewrite(sign=lambda text: sign_note(text, STRANGER))


def _another_log(forger: Forger) -> Forger:
    """Make another log of the same key beside this one."""
    path = forger.path.with_name("other.db")
    with Ledger(path, signer=SIGNER) as other:
        other.write("s", 1, "step", "another log", 1, 1, True)
    return Forger(path)


def _swapped_in(forger: Forger) -> None:
    copy_ledger(_another_log(forger).path, forger.path)


def _swapped_in_under_its_name(forger: Forger) -> None:
    theirs = _another_log(forger)
    # A signature line's name is not signed: under our name their signatures are good, over a text that has theirs.
    renamed = [(note.replace(f"— {theirs.origin} ", f"— {forger.origin} "), size) for size, _, note in theirs.sealed]
    theirs.sql(
        ("UPDATE log SET origin = ?, vkey = ?", (forger.origin, KEY.vkey)),
        *[("UPDATE sealed SET note = ? WHERE size = ?", one) for one in renamed],
    )
    copy_ledger(theirs.path, forger.path)


# -- what needs a checkpoint kept elsewhere ----------------------------------------------------------------------------


def cut_back(forger: Forger, commits: int = 20) -> None:
    """Go back to an older signed state."""
    size = forger.sealed[-1 - commits][0]
    forger.sql(
        f"DELETE FROM texts WHERE entry_id > {size}",
        f"DELETE FROM balances WHERE entry_id > {size}",
        f"DELETE FROM entries WHERE id > {size}",
        f"DELETE FROM sealed WHERE size > {size}",
    )


def cut_back_to_nothing(forger: Forger) -> None:
    forger.sql("DELETE FROM texts", "DELETE FROM balances", "DELETE FROM entries", "DELETE FROM sealed WHERE size > 0")


def rewrite_with_the_key(forger: Forger) -> None:
    """Rewrite everything, as who has all the keys that the log ever had."""
    turns = [row["id"] for row in forger.rows if row.get("data", {}).get("action") == "rotate"]
    forger.of_session("by-hand")[3]["tokens"] += 1

    def sign(text: str) -> str:
        size, keys = int(text.split("\n")[1]), (FIRST, SIGNER, THIRD)
        note = sign_note(text, keys[sum(size > turn for turn in turns)])
        successor = keys[turns.index(size) + 1] if size in turns else None
        return note if successor is None else note + sign_note(text, successor).rpartition("\n\n")[2]

    forger.rewrite(sign=sign)


_EDITS: Mapping[str, Callable[[Forger], Row]] = {
    "a row is modified": _modify("write", "tokens", 999, 50),
    "the last row is modified": _modify("write", "tokens", 999),
    "what was spent is lowered": _balance("spent", 5),
    "a ceiling is raised": _balance("ceiling", -5_000),
    "a raise is raised": _modify("budget", "ceilings", [99, 99_000, None, None, None, None]),
    "a reconciled call is charged less": _modify("reconcile", "tokens", 1),
    "a reconciled call is said to have done no work": _modify("reconcile", "outcome", "none"),
    "another is said to have reconciled it": _modify("reconcile", "who", ""),
    "another call is reconciled": _modify("reconcile", "closes", 3),
    "a budget gets a parent": _parent,
    "an attestation gets the envelope of another": _envelope_of_another,
    "the signature of an attestation is forged": _forged_signature,
    "an attestation loses its signature": _modify("attest", "envelope", ""),
    "an attestation is moved to a rejected session": _moved,
    "a rejection names another frame": _modify("reject", "frame_hash", "ab" * 32),
    "a release names other bytes": _modify("release", "output_hash", "ab" * 32),
    "a reviewer's key is replaced": _forged_enrolment,
    "the policy is softened": _modify("policy", "quorum", 0, 0),
    "the promise is changed": _modify("spec", "what_it_does", "anything", 0),
}

_LISTS: Mapping[str, Callable[[Forger], list[Row]]] = {
    "a row is deleted": _without(lambda _f, row: row["id"] != 77),
    "the head is cut": _without(lambda _f, row: row["id"] > 20),
    "a whole session is deleted": _without(lambda _f, row: row["session"] != "breached"),
    "a rejection is dropped": _without(lambda _f, row: row["kind"] != "reject"),
    "a revocation is dropped": _without(lambda _f, row: row.get("data", {}).get("action") != "revoke"),
    "the rotation is dropped": _without(lambda _f, row: row.get("data", {}).get("action") != "rotate"),
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
    "a view hides rows": _sql(
        "DROP VIEW ledger", "CREATE VIEW ledger AS SELECT id, session_id FROM entries WHERE id < 5"
    ),
    "a view of attestations is replaced": _sql("DROP VIEW attestations", "CREATE VIEW attestations AS SELECT 1"),
    "the held output is swapped": _new_output,
    "the log gets another name": _sql("UPDATE log SET origin = 'another'"),
    "the log gets another first key": _sql("UPDATE log SET vkey = NULL"),
    "everything is emptied": _sql("DELETE FROM texts", "DELETE FROM entries", "DELETE FROM sealed"),
    "everything is rewritten without the key": _rewritten_by_a_stranger,
    "another whole log of the same key is swapped in": _swapped_in,
    "another whole log of the same key is swapped in under the name of this one": _swapped_in_under_its_name,
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
    "reconcile",
]


def all_moves() -> dict[str, Move]:
    """Return every attack that the public key alone must catch, by what it does."""
    moves = dict(_SQL)
    for name, edit in _EDITS.items():
        moves |= {name + strength: move for strength, move in _edited(edit).items()}
    lists = {**_LISTS, **{f"a row of kind {kind} is slipped in": _slipped_in(kind) for kind in SLIPPED_KINDS}}
    for name, change in lists.items():
        moves |= {name + strength: move for strength, move in _listed(change).items()}
    return moves


def places_in(row: Row) -> list[tuple[str, ...]]:
    """Return where each field of a row stands, with those of its data."""
    return [(name,) for name in row if name != "data"] + [("data", name) for name in row.get("data", {})]


def with_place_altered(row: Row, place: tuple[str, ...]) -> Row:
    """Return a row in which one field is something else."""
    changed = copy.deepcopy(row)
    holder = changed if len(place) == 1 else changed["data"]
    holder[place[-1]] = altered(holder[place[-1]])
    return changed


def altered(value: Any) -> Any:
    """Return something else of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1:] != "0" else "1")
    if isinstance(value, list):
        return [altered(value[0]), *value[1:]] if value else [0]
    if isinstance(value, dict):
        key = min(value, default="x")
        return {**value, key: altered(value.get(key, 0))}
    return 0
