"""Frames, rows and sessions as plain text.

Everything that a session wrote is hostile: a model can write escape sequences, bidirectional overrides, invisible
characters, and lines that look like ours. So every text goes through `visible`, which leaves no character that a
terminal obeys or hides, and what may have several lines stands behind a bar, so that no line of it starts where ours do.
Colour is added by the command line; nothing here writes an escape sequence.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from donewhen.balance import CEILING_NAMES, Balance
from donewhen.entry import LedgerRow
from donewhen.frame import ReviewFrame

LABEL_CELLS = 21
"""Columns of a label, such as "Turns completed:     "."""

LEAST_WIDTH = 40
MOST_MARKS = 4
"""How many combining marks may stand on one character; more are shown as escapes, since they run into other lines."""

_HIDDEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0").union(
    map(chr, range(0x180B, 0x1810)), map(chr, range(0xFE00, 0xFE0F)), map(chr, range(0xE0100, 0xE01F0))
)
"""Characters that count as printable and show nothing."""

_BALANCE_LABELS = ("turns", "tokens", "cost", "tool calls", "time", "repeats")


# -- text ------------------------------------------------------------------------------------------------------------


def visible(text: str) -> str:
    r"""Return a text on one line, with everything escaped that a terminal would obey or hide.

    Line breaks become ``\n``, an escape character ``\x1b``, a lone surrogate ``\ud800``; tabs and other spaces a space.
    """
    if text.isascii() and text.isprintable():
        return text
    parts: list[str] = []
    marks = 0
    for character in text:
        shown = _shown(character)
        marks = marks + 1 if _cells(shown) == 0 else 0
        parts.append(shown if marks <= MOST_MARKS else _escape(character))
    return "".join(parts)


def wrap(text: str, width: int) -> list[str]:
    """Return a visible text as lines of at most `width` columns, broken after a space where there is one."""
    lines: list[str] = []
    start = 0
    while start < len(text) or not lines:
        end = _fitting(text, start, width)
        lines.append(text[start:end])
        start = end
    return lines


def render_block(text: str, *, width: int = 100, max_lines: int | None = None) -> list[str]:
    """Return a text of a session as lines behind a bar; a line that was too long goes on behind a colon.

    Args:
        width: columns of the terminal.
        max_lines: the most lines to show; None: all.
    """
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        first, *more = wrap(visible(line.expandtabs(4)), max(width, LEAST_WIDTH) - 4)
        lines += [f"  | {first}".rstrip(), *(f"  : {part}" for part in more)]
    return _cut(lines, max_lines)


def usd(microusd: int | None) -> str:
    """Return an amount of money, ``0.0012 USD``; "not known" for None, which is not nothing."""
    if microusd is None:
        return "not known"
    whole, part = divmod(abs(microusd), 1_000_000)
    digits = f"{whole}.{part:06}".rstrip("0").rstrip(".")
    return f"{'-' if microusd < 0 else ''}{digits} USD"


def render_balance(balance: Balance) -> str:
    """Return on one line what is spent, what is reserved, and the ceilings."""
    spent: list[int | None] = [*balance.spent.as_list(), None, None]
    reserved: list[int | None] = [*balance.reserved.as_list(), None, None]
    parts: list[str] = []
    for index, (name, ceiling) in enumerate(zip(CEILING_NAMES, balance.ceilings.as_list(), strict=True)):
        show = usd if name == "cost_microusd" else _seconds if name == "milliseconds" else str
        held, allowed = reserved[index], "" if ceiling is None else f" of {show(ceiling)}"
        if index < 4:
            waiting = f" + {show(held)} reserved" if held else ""
            parts.append(f"{_BALANCE_LABELS[index]} {show(spent[index])}{waiting}{allowed}")
        elif ceiling is not None:
            parts.append(f"{_BALANCE_LABELS[index]} at most {show(ceiling)}")
    return ", ".join(parts)


# -- a frame ---------------------------------------------------------------------------------------------------------


def render_frame(frame: ReviewFrame, *, width: int = 100, max_lines: int | None = None) -> str:
    """Return the five elements as text, always in the same order.

    Args:
        width: columns of the terminal; at least 40 are used.
        max_lines: the most lines of each text of the session, and of the evidence; None: all.
    """
    width = max(width, LEAST_WIDTH)
    promise = frame.original_promise
    lines = ["REVIEW SURFACE", "=" * width, *_field("Session:", frame.session_id, width)]
    if frame.state:
        lines += _field("State:", f"{frame.state}: {frame.reason}" if frame.reason else frame.state, width)
    lines += [*_field("Ledger:", "unsigned" if frame.unsigned else "signed; 'donewhen verify' checks it", width), ""]
    lines += ["[1] ORIGINAL PROMISE"]
    lines += _field("What it does:", promise.what_it_does, width)
    lines += _field("What it does not:", promise.what_it_does_not, width)
    lines += [*_field("Done looks like:", promise.done_looks_like, width), "", "[2] ACCEPTANCE CRITERIA"]
    lines += _field("In one sentence:", frame.acceptance_criteria, width)
    for one in frame.criteria:
        lines += _field(f"{one.outcome.replace('_', ' ')} ({one.kind}):", one.name, width)
        lines += render_block(one.detail, width=width, max_lines=max_lines) if one.detail else []
    lines += ["", "[3] DIFF", *_render_diff(frame, width, max_lines), "", "[4] EVIDENCE"]
    lines += [render_rows(frame.evidence, width=width, max_lines=max_lines), "", "[5] UNRESOLVED ASSUMPTIONS"]
    for sentence in frame.unresolved_assumptions:
        first, *more = wrap(visible(sentence), width - 4)
        lines += [f"  - {first}", *(f"    {part}" for part in more)]
    if not frame.unresolved_assumptions:
        lines.append("  No unresolved assumptions detected.")
    return "\n".join([*lines, ""])


def _render_diff(frame: ReviewFrame, width: int, max_lines: int | None) -> Iterator[str]:
    diff = frame.diff
    yield from _field("First input:", f"sha256 {diff.first_input}", width)
    if frame.output is None:
        yield from _field("Final output:", diff.final_output, width)
    else:
        yield from _field("Final output:", f"{len(frame.output)} characters, between the lines of dashes", width)
        yield "  " + "-" * (width - 2)
        yield from render_block(frame.output, width=width, max_lines=max_lines)
        yield "  " + "-" * (width - 2)
    yield from _field("Turns completed:", str(diff.turns_completed), width)
    yield from _field("Total tokens:", str(diff.total_tokens), width)
    yield from _field("Breached:", "yes" if diff.breached else "no", width)
    if frame.spend is not None:
        yield from _field("Spend:", render_balance(frame.spend), width)
    for call in frame.held_calls:
        yield from _field("Held tool call:", f"{call.name} (turn {call.turn}, {call.call_id})", width)
        exact = "its arguments are not kept" if call.arguments is None else _indented(call.arguments)
        yield from render_block(exact, width=width, max_lines=max_lines)


def _indented(arguments: str) -> str:
    return json.dumps(json.loads(arguments), ensure_ascii=False, indent=2)


def _field(label: str, text: str, width: int) -> list[str]:
    """Return a label and its text, which goes on beneath itself; a text of several lines stands behind a bar."""
    if "\n" in text:
        return [f"  {visible(label)}", *render_block(text, width=width)]
    start = f"  {visible(label):<{LABEL_CELLS}}"
    if not start.endswith(" "):
        start += " "
    first, *more = wrap(visible(text), max(width - len(start), LEAST_WIDTH // 2))
    return [(start + first).rstrip(), *(" " * len(start) + part for part in more)]


# -- rows ------------------------------------------------------------------------------------------------------------


def render_rows(rows: Sequence[LedgerRow], *, width: int = 100, max_lines: int | None = None) -> str:
    """Return rows as a table: row, turn, kind, tokens, milliseconds, whether it went well, time, and what it says.

    Args:
        width: columns of the terminal.
        max_lines: the most lines of the table beneath its head; None: all.
    """
    table = [("row", "turn", "kind", "tokens", "ms", "ok", "at", "says")]
    table += [_cells_of(row) for row in rows]
    widths = [max(_width(line[column]) for line in table) for column in range(7)]
    lines: list[str] = []
    for line in table:
        numbers = (0, 1, 3, 4)
        start = "  " + "  ".join(
            _padded(line[column], widths[column], right=column in numbers) for column in range(len(widths))
        )
        first, *more = wrap(line[7], max(width - _width(start) - 2, LEAST_WIDTH // 2))
        lines += [f"{start}  {first}".rstrip(), *(" " * (_width(start) + 2) + part for part in more)]
    return "\n".join([lines[0], *_cut(lines[1:], max_lines)])


def row_says(row: LedgerRow) -> str:
    """Return what a row says beyond its numbers, on one line, safe to show."""
    say = _SAYS.get(row.kind)
    said = [row.breach_reason, say(row.data) if say else None]
    return visible("; ".join(part for part in said if part))


def _cells_of(row: LedgerRow) -> tuple[str, ...]:
    # What `write` made keeps its own word for its origin, and is not taken for a row of the kernel.
    kind = row.kind if row.kind == row.state_origin else f"{row.kind}: {row.state_origin}"
    at = row.created_at[:19].replace("T", " ")
    numbers = str(row.id), str(row.turn_count), visible(kind), str(row.token_delta), str(row.execution_time_ms)
    return (*numbers, "yes" if row.pass_fail else "no", visible(at), row_says(row))


def _llm_says(data: Mapping[str, Any]) -> str:
    calls = [
        f"{call['name']} {'held' if call['held'] else 'to run' if call['run'] else 'not run'}"
        for call in data.get("tools", ())
    ]
    parts = [f"{data['model']} {data['stop_reason']}", usd(data["cost_microusd"]), *calls]
    parts += [f"usage: {data['usage_fault']}"] if "usage_fault" in data else []
    parts += [f"{data['over_reservation']} tokens over its reservation"] if "over_reservation" in data else []
    return ", ".join(parts)


def _reserve_says(data: Mapping[str, Any]) -> str:
    _, tokens, cost, _ = data["reserve"]
    return f"{data['model']}, attempt {data['attempt']}, {tokens} tokens, {usd(cost)}"


def _error_says(data: Mapping[str, Any]) -> str:
    return f"attempt {data['attempt']}: {data['problem']}"


def _tool_says(data: Mapping[str, Any]) -> str:
    return f"{data['name']}: {data.get('problem') or str(data['result_bytes']) + ' bytes'}"


def _ceilings_say(data: Mapping[str, Any]) -> str:
    pairs = zip(CEILING_NAMES, data["ceilings"], strict=True)
    set_to = ", ".join(f"{name} {ceiling}" for name, ceiling in pairs if ceiling is not None)
    return f"{set_to}; {data['who']}: {data['why']}" if "who" in data else set_to


def _policy_says(data: Mapping[str, Any]) -> str:
    who = ", ".join(one["name"] for one in data["reviewers"]) or "anybody"
    how = "by name or signed" if data["named"] else "signed"
    return f"{data['quorum']} of {who} must attest, {how}; started by {data['started_by']}"


def _word_says(data: Mapping[str, Any], verb: str, words: str) -> str:
    proof = "signed" if "envelope" in data else "named, not proven"
    said = f"{data['reviewer']} {verb} frame {data['frame_hash'][:12]} ({proof})"
    return f"{said}: {words}" if words else said


def _reconcile_says(data: Mapping[str, Any]) -> str:
    if data["outcome"] == "late":
        return f"a reply came after row {data['reservation']} had been reconciled; it changes nothing"
    did = "the provider did no work" if data["outcome"] == "none" else "what the call used"
    return f"{did}; {data['who']}: {data['why']}"


_SAYS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "spec": lambda data: data["what_it_does"],
    "open": _ceilings_say,
    "budget": _ceilings_say,
    "reserve": _reserve_says,
    "llm": _llm_says,
    "tool": _tool_says,
    "check": lambda data: f"{data['outcome'].replace('_', ' ')}: {data['name']}",
    "error": _error_says,
    "abandoned": _error_says,
    "circuit_breaker": lambda data: (
        f"{data['dimension']}: {data['spent']} spent, {data['reserved']} reserved, "
        f"{data['asked']} asked for, ceiling {data['ceiling']}"
    ),
    "close": lambda data: f"{data['outcome']}: {data['reason']}",
    "policy": _policy_says,
    "reconcile": _reconcile_says,
    "attest": lambda data: _word_says(data, "attests", data["notes"]),
    "reject": lambda data: _word_says(data, "rejects", data["reason"]),
}


# -- columns ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _shown(character: str) -> str:
    if character.isprintable() and character not in _HIDDEN:
        return character
    if character == "\n":
        return "\\n"
    if character == "\t" or unicodedata.category(character) == "Zs":
        return " "
    return _escape(character)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@lru_cache(maxsize=4096)
def _cells(text: str) -> int:
    """Return how many columns a character, or its escape, takes in a terminal."""
    if len(text) > 1:
        return len(text)
    if unicodedata.category(text) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(text) in ("W", "F") else 1


def _width(text: str) -> int:
    return len(text) if text.isascii() else sum(_cells(character) for character in text)


def _padded(text: str, width: int, *, right: bool) -> str:
    gap = " " * (width - _width(text))
    return gap + text if right else text + gap


def _fitting(text: str, start: int, width: int) -> int:
    """Return where the line that starts here ends."""
    end, used, after_space = start, 0, start
    while end < len(text):
        used += _cells(text[end])
        if used > width:
            return after_space if after_space > start else max(end, start + 1)
        end += 1
        if text[end - 1] == " ":
            after_space = end
    return end


def _cut(lines: list[str], max_lines: int | None) -> list[str]:
    if max_lines is None or len(lines) <= max_lines:
        return lines
    return [*lines[:max_lines], f"  ({len(lines) - max_lines} more lines are not shown here)"]


def _seconds(milliseconds: int | None) -> str:
    return f"{(milliseconds or 0) / 1000:g} s"
