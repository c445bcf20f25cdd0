"""How often in a row a session asked for the same thing: the measure of no progress."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from donewhen.entry import LedgerRow


@dataclass(slots=True)
class Repeats:
    """Tool calls that repeat the one before, with the same arguments, and checks that fail each time."""

    _call: tuple[str, str] | None = None
    _calls: int = 0
    _checks: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def most(self) -> int:
        """Return the longest run that is still going on."""
        return max(self._calls, *self._checks.values(), 0)

    def most_with(self, calls: Iterable[tuple[str, str]]) -> int:
        """Return the longest run of calls that these, of one reply and in order, would make.

        Args:
            calls: (name, hash of the arguments) of each.
        """
        last, count, most = self._call, self._calls, 0
        for call in calls:
            last, count = call, count + 1 if call == last else 1
            most = max(most, count)
        return most

    def saw_calls(self, calls: Iterable[tuple[str, str]]) -> None:
        """Remember the tool calls of a reply, in order."""
        for call in calls:
            self._call, self._calls = call, self._calls + 1 if call == self._call else 1

    def saw_unmet(self, names: Sequence[str]) -> None:
        """Remember which checks were not met when they ran last."""
        self._checks = {name: self._checks.get(name, 0) + 1 for name in names}


def repeats_of(rows: Iterable[LedgerRow]) -> Repeats:
    """Return what the rows of a session say was repeated, since it last ended.

    A session that a person let go on after its end starts counting anew.

    Args:
        rows: every row of the session, in order.
    """
    repeats, checked, turn = Repeats(), dict[str, bool](), 0
    for row in rows:
        if checked and (row.kind != "check" or row.turn_count != turn):
            repeats.saw_unmet([name for name, unmet in checked.items() if unmet])
            checked = {}
        if row.kind == "close":
            repeats = Repeats()
        elif row.kind == "llm":
            repeats.saw_calls([(tool["name"], tool["args_hash"]) for tool in row.data.get("tools", ())])
        elif row.kind == "check":
            checked[row.data["name"]], turn = row.data["outcome"] == "not_met", row.turn_count
    return repeats
