"""The attacks on a whole log: by a stranger, by another log of the same key, and those of who has the key or an old copy."""

from __future__ import annotations

from attacks.forger import Forger, copy
from attacks.ledger_200 import FIRST, KEY, SIGNER, STRANGER, THIRD
from donewhen.ledger import Ledger
from donewhen.notes import sign_note


def rewritten_by_a_stranger(forger: Forger) -> None:
    forger.of_kind("write")["tokens"] += 1
    forger.rewrite(sign=lambda text: sign_note(text, STRANGER))


def _another_log(forger: Forger) -> Forger:
    """Make another log of the same key beside this one."""
    path = forger.path.with_name("other.db")
    with Ledger(path, signer=SIGNER) as other:
        other.write("s", 1, "step", "another log", 1, 1, True)
    return Forger(path)


def swapped_in(forger: Forger) -> None:
    copy(_another_log(forger).path, forger.path)


def swapped_in_under_its_name(forger: Forger) -> None:
    theirs = _another_log(forger)
    # A signature line's name is not signed: under our name their signatures are good, over a text that has theirs.
    renamed = [(note.replace(f"— {theirs.origin} ", f"— {forger.origin} "), size) for size, _, note in theirs.sealed]
    theirs.sql(
        ("UPDATE log SET origin = ?, vkey = ?", (forger.origin, KEY.vkey)),
        *[("UPDATE sealed SET note = ? WHERE size = ?", one) for one in renamed],
    )
    copy(theirs.path, forger.path)


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
