"""The attacks on a single row: how it is edited, by what that does. Each gets a `Forger` and returns the row."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping

from attacks.forger import Forger, Row
from donewhen.kinds import BUDGET_PREFIX


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


def of_budget(name: str, place: int, kind: str = "budget") -> Callable[[Forger], Row]:
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
    row = of_budget("old", 0, "halt")(forger)
    del row["after"][-1]["halted"]
    return row


def _halt_of_another(forger: Forger) -> Row:
    row = of_budget("old", 0, "halt")(forger)
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


def _forged_enrolment(forger: Forger) -> Row:
    row = forger.of_kind("key", 0)
    row["data"]["vkey"] = forger.of_kind("key", 1)["data"]["vkey"]
    return row


EDITS: Mapping[str, Callable[[Forger], Row]] = {
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
        of_budget("acme", 0), ceilings=[None, 9_000_000, None, None, None, None]
    ),
    "a raise of a budget is raised": _given(of_budget("old", 1), ceilings=[500, None, None, None, None, None]),
    "a budget is lowered less": _given(of_budget("old", -1), ceilings=[5, None, None, None, None, None]),
    "another is said to have raised a budget": _given(of_budget("old", 1), who="Mal"),
    "a budget gets another period": _given(of_budget("acme", 0), period={"hours": 1}),
    "a day of a budget ends later": _level(f"{BUDGET_PREFIX}acme/support", _prolonged),
    "an hour of a budget is forgotten": _level(f"{BUDGET_PREFIX}acme", _sliced, kind="llm"),
    "a session stands under another budget": _opened("budget", "old"),
    "a child stands under another parent": _opened("parent", "breached"),
    "a budget loses its parent": _without_its_parent,
    "a halt becomes a lift": _given(of_budget("old", 0, "halt"), halted=False),
    "a lift becomes a halt": _given(of_budget("acme/support", -1, "halt"), halted=True),
    "a halt gets another reason": _given(of_budget("old", 0, "halt"), why="it is still used"),
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

ONE_OF_EACH_CLASS = {
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
"""Those of which one is made wherever not all of them are."""
