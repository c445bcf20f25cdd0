"""The attacks: what is done to the rows, by name. Each gets a `Forger` and changes its file."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from attacks.forger import Forger, Row
from attacks.forger import copy as copy_ledger
from attacks.ledger_200 import FIRST, KEY, SIGNER, STRANGER, THIRD
from donewhen.kinds import BUDGET_PREFIX
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


def _level(name: str, change: Callable[[Row], None], *, kind: str = "reserve") -> Callable[[Forger], Row]:
    """Edit a balance that stands above a session's own, in the last row that moved it."""

    def edit(forger: Forger) -> Row:
        rows = [row for row in forger.rows if row["kind"] == kind]
        row, level = [(row, level) for row in rows for level in row["after"][:-1] if level["budget"] == name][-1]
        before = copy.deepcopy(level)
        change(level)
        assert level != before
        return row

    return edit


def _spared(level: Row) -> None:
    level["spent"][1] -= 5


def _freed(level: Row) -> None:
    level["reserved"][1] -= 5


def _raised(level: Row) -> None:
    level["ceiling"][1] = 9_000_000


def _prolonged(level: Row) -> None:
    level["period"]["until"] = "2030-01-01T00:00:00+00:00"


def _sliced(level: Row) -> None:
    del level["period"]["slices"][-1]


def _parent(forger: Forger) -> Row:
    row = forger.of_kind("reserve")
    row["after"].insert(0, {**row["after"][0], "budget": "parent"})
    return row


def _without_its_parent(forger: Forger) -> Row:
    """Take the outermost budget away from where a session stands."""
    row = [row for row in forger.rows if row["kind"] == "llm" and len(row["after"]) > 1][-1]
    del row["after"][0]
    return row


def _raise_of_a_session(forger: Forger) -> Row:
    return [row for row in forger.of_session("breached") if row["kind"] == "budget"][-1]


def _late(forger: Forger) -> Row:
    return next(row for row in forger.rows if row["kind"] == "reconcile" and row["data"]["outcome"] == "late")


def _opened(name: str, value: str) -> Callable[[Forger], Row]:
    def change(forger: Forger) -> Row:
        row = next(row for row in forger.rows if row["kind"] == "open" and name in row["data"])
        row["data"][name] = value
        return row

    return change


def _of_budget(name: str, place: int, kind: str = "budget") -> Callable[[Forger], Row]:
    """Return what finds a row of a budget's own session."""
    return lambda forger: [row for row in forger.of_session(BUDGET_PREFIX + name) if row["kind"] == kind][place]


def _given(find: Callable[[Forger], Row], **values: object) -> Callable[[Forger], Row]:
    def change(forger: Forger) -> Row:
        row = find(forger)
        assert any(row["data"][name] != value for name, value in values.items())
        row["data"].update(values)
        return row

    return change


def _lifted_in_the_balance(forger: Forger) -> Row:
    row = _of_budget("old", 0, "halt")(forger)
    del row["after"][-1]["halted"]
    return row


def _halt_of_another(forger: Forger) -> Row:
    row = _of_budget("old", 0, "halt")(forger)
    row["session"] = row["after"][-1]["budget"] = "donewhen:budget:acme"
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
    "a raise is raised": _given(_raise_of_a_session, ceilings=[99, 99_000, None, None, None, None]),
    "what was spent of a budget is lowered": _level(f"{BUDGET_PREFIX}acme/support", _spared, kind="llm"),
    "what is reserved of a budget is lowered": _level(f"{BUDGET_PREFIX}acme/support/mail", _freed),
    "what a parent has spent is lowered": _level("audit", _spared, kind="llm"),
    "a budget's ceiling is raised": _level(f"{BUDGET_PREFIX}acme/support", _raised),
    "a parent's ceiling is raised": _level("audit", _raised),
    "a budget's ceiling is raised in the row that began it": _given(
        _of_budget("acme", 0), ceilings=[None, 9_000_000, None, None, None, None]
    ),
    "a raise of a budget is raised": _given(_of_budget("old", 1), ceilings=[500, None, None, None, None, None]),
    "a budget is lowered less": _given(_of_budget("old", -1), ceilings=[5, None, None, None, None, None]),
    "another is said to have raised a budget": _given(_of_budget("old", 1), who="Mal"),
    "a budget gets another period": _given(_of_budget("acme", 0), period={"hours": 1}),
    "a day of a budget ends later": _level(f"{BUDGET_PREFIX}acme/support", _prolonged),
    "an hour of a budget is forgotten": _level(f"{BUDGET_PREFIX}acme", _sliced, kind="llm"),
    "a session stands under another budget": _opened("budget", "old"),
    "a child stands under another parent": _opened("parent", "breached"),
    "a budget loses its parent": _without_its_parent,
    "a halt becomes a lift": _given(_of_budget("old", 0, "halt"), halted=False),
    "a lift becomes a halt": _given(_of_budget("acme/support", -1, "halt"), halted=True),
    "a halt gets another reason": _given(_of_budget("old", 0, "halt"), why="it is still used"),
    "a halt is one of another budget": _halt_of_another,
    "what is halted is not, in the balance": _lifted_in_the_balance,
    "a call in doubt is reconciled by no row that closes it": _given(_late, outcome="none"),
    "a late reply is said to be of another call": _given(_late, reservation=1),
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
    "a halt is dropped": _without(lambda _f, row: row["kind"] != "halt"),
    "a lift is dropped": _without(lambda f, row: row is not f.of_kind("halt")),
    "a lowering of a budget is dropped": _without(lambda f, row: row is not _of_budget("old", -1)(f)),
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
    "halt",
    "reconcile",
]


_ONE_OF_EACH_CLASS = {
    "a row is modified",
    "the last row is modified",
    "what was spent is lowered",
    "what was spent of a budget is lowered",
    "what a parent has spent is lowered",
    "a ceiling is raised",
    "a budget's ceiling is raised",
    "a budget gets a parent",
    "a budget loses its parent",
    "a halt becomes a lift",
    "an attestation is moved to a rejected session",
    "the signature of an attestation is forged",
}

ALIKE = {f"a row of kind {kind} is slipped in" for kind in SLIPPED_KINDS} | set(_EDITS) - _ONE_OF_EACH_CLASS
"""Attacks of which there are many that go the same way."""


def all_moves() -> dict[str, Move]:
    """Return every attack that the public key alone must catch, by what it does."""
    moves = dict(_SQL)
    for name, edit in _EDITS.items():
        moves |= {name + strength: move for strength, move in _edited(edit).items()}
    lists = {**_LISTS, **{f"a row of kind {kind} is slipped in": _slipped_in(kind) for kind in SLIPPED_KINDS}}
    for name, change in lists.items():
        moves |= {name + strength: move for strength, move in _listed(change).items()}
    return moves


Place = tuple[str | int, ...]


def places_in(row: Row) -> list[Place]:
    """Return where each value of a row stands, with those in its data and its balances."""
    return list(_leaves(row))


def _leaves(value: Any) -> Iterator[Place]:
    if isinstance(value, (dict, list)) and value:
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from ((name, *rest) for rest in _leaves(part))
    else:
        yield ()


def with_place_altered(row: Row, place: Place) -> Row:
    """Return a row in which one value is something else."""
    changed = copy.deepcopy(row)
    holder: Any = changed
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = altered(holder[place[-1]])
    return changed


def shapes(rows: Sequence[Row]) -> list[Row]:
    """Return a row of each shape: of each kind, with each set of fields that there is of it, the last of each."""
    found = {(row["kind"], *sorted(row), *sorted(row.get("data", ())), *_standing(row)): row for row in rows}
    return list(found.values())


def _standing(row: Row) -> list[str]:
    return [",".join(balance) for balance in row.get("after", ())]


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
