"""What a site's robots.txt allows. Source: RFC 9309.

The standard library's reader predates the RFC: it knows no wildcards and takes the first rule that fits, not the
longest, so it would fetch what a site forbids. Patterns here are matched without going back, in time that grows
with pattern times path, since the file comes from strangers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes, urlsplit

MAX_RULES = 5_000
"""Rules beyond these are not read."""
MAX_PATTERN_CHARS = 2_000
KEPT = re.compile(r"%2f|%2a|%24", re.IGNORECASE)
"""Encoded characters that mean something else when they are not encoded: / * $."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One Allow or Disallow line."""

    pattern: str
    allows: bool


@dataclass(frozen=True, slots=True)
class Robots:
    """The rules of one robots.txt that are for us."""

    rules: tuple[Rule, ...] = ()

    def allows(self, url: str) -> bool:
        """Tell whether a URL may be fetched: the longest rule that fits decides, and of two as long, Allow."""
        parts = urlsplit(url)
        path = _normal((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        if path == "/robots.txt":
            return True
        fitting = [rule for rule in self.rules if fits(rule.pattern, path)]
        best = max(fitting, key=lambda rule: (len(rule.pattern), rule.allows), default=None)
        return best is None or best.allows


def read_robots(text: str, name: str) -> Robots:
    """Read a robots.txt for one agent; never fails.

    Args:
        text: the file.
        name: the agent's product token. Groups that name it are taken together; without one, the groups for ``*``.
    """
    groups: dict[str, list[Rule]] = {}
    agents: list[str] = []
    in_rules = False
    count = 0
    for line in text.removeprefix("\ufeff").splitlines():
        key, _, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if key == "user-agent":
            agents = [value.lower()] if in_rules else [*agents[-100:], value.lower()]
            in_rules = False
            groups.setdefault(agents[-1], [])
        elif key in ("allow", "disallow"):
            in_rules = True
            count += 1
            for agent in set(agents) if value and count <= MAX_RULES else ():
                groups[agent].append(Rule(_normal(value[:MAX_PATTERN_CHARS]), key == "allow"))
    return Robots(tuple(groups.get(name.lower(), groups.get("*", []))))


def fits(pattern: str, path: str) -> bool:
    """Tell whether a pattern fits the beginning of a path; ``*`` is any text and ``$`` at the end is the path's end."""
    anchored = pattern.endswith("$")
    first, *rest = (pattern[:-1] if anchored else pattern).split("*")
    if not path.startswith(first):
        return False
    position = len(first)
    # Taking each piece at its first place is enough: a later place leaves less of the path for the next pieces.
    for piece in rest[:-1] if anchored else rest:
        found = path.find(piece, position)
        if found < 0:
            return False
        position = found + len(piece)
    if not anchored:
        return True
    return path[position:].endswith(rest[-1]) if rest else position == len(path)


def _normal(text: str) -> str:
    """Return a path with each character encoded in the one usual way, so that two spellings compare as equal."""
    pieces: list[str] = []
    at = 0
    for kept in KEPT.finditer(text):
        pieces += [_recoded(text[at : kept.start()]), kept.group().upper()]
        at = kept.end()
    return "".join([*pieces, _recoded(text[at:])])


def _recoded(text: str) -> str:
    return quote(unquote_to_bytes(text.encode("utf-8", "replace")), safe="/*$?&=:;,@!'()+~[]#")
