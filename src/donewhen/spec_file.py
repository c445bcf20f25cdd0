"""Spec files: a `Spec` as TOML that a person can read and edit.

Read strictly: an unknown key, a missing or blank answer, or a number that cannot be a ceiling is one error that names
the file, the key and the value. Money and minutes are read from the digits that were typed, never through binary
floats: 0.1 USD is 100,000 microusd.

Source: TOML 1.0, https://toml.io/en/v1.0.0
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from donewhen.balance import Ceilings
from donewhen.circuit_breaker import LARGEST_LIMIT
from donewhen.errors import MissingExtraError, SpecError
from donewhen.spec import CHECK_KEYS, DEFAULT_CEILINGS, Record, Review, Spec, shown
from donewhen.spec_prices import add_prices, read_prices
from donewhen.spec_rules import MILLION, MOST_BYTES, decimal, millionths
from donewhen.spec_writer import QUESTIONS, ask, ask_promise, missing_answer

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.items import Table

__all__ = ["Record", "Review", "Spec", "ask_spec", "dump_spec", "load_spec"]

_MS_PER_MINUTE = 60_000
_MOST_USD = Decimal(f"{LARGEST_LIMIT}e-6")
_MOST_MINUTES = Decimal(f"{round(Fraction(LARGEST_LIMIT * MILLION, _MS_PER_MINUTE))}e-6")

_TOP_KEYS = (
    *QUESTIONS,
    "model",
    "max_tokens",
    "keep",
    "bound",
    "held_tools",
    "budget",
    "ceilings",
    "done_when",
    "review",
    "record",
    "prices",
)
_TABLES = ("ceilings", "done_when", "review", "record", "prices")
_CEILING_KEYS = ("turns", "tokens", "usd", "minutes", "tool_calls", "repeats")
_REVIEW_KEYS = ("quorum", "reviewers", "expiry_hours", "own_work", "signed")

_RECORD_KEYS = ("checkpoint_to", "witnesses", "every_rows", "every_seconds")

_EXAMPLE_VKEY = "witness.example/w1+e75f6532+BAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"

HOW_TO_CHECK = """\
How could a machine check that it is done?
  1  a shell command that succeeds
  2  a regular expression that the output matches
  3  a person judges (also if you leave this blank)"""
_CHOICES = {"1": "shell", "2": "regex", "3": "human", "": "human", "shell": "shell", "regex": "regex", "human": "human"}


def load_spec(path: str | os.PathLike[str]) -> Spec:
    """Read a spec file.

    Raises:
        SpecError: the file cannot be read, is not TOML, or says something that a spec cannot say. Names the file, the
            key (tables of a list are counted from 1) or the line, and the value.
        MissingExtraError: tomlkit is not installed.
    """
    tomlkit = _tomlkit("reading spec files")
    try:
        return _read(_parse(tomlkit, _content(Path(path))))
    except SpecError as error:
        raise SpecError(error.problem, field=error.field, value=error.value, path=os.fspath(path)) from error.__cause__


def dump_spec(spec: Spec) -> str:
    """Return a spec as TOML with comments. `load_spec` reads it back to the same spec.

    Raises:
        MissingExtraError: tomlkit is not installed.
    """
    tomlkit = _tomlkit("writing spec files")
    document: TOMLDocument = tomlkit.document()
    document.add(tomlkit.comment("What is to be done, when to stop, and who looks at it."))
    for name, question in QUESTIONS.items():
        document.add(tomlkit.nl())
        document.add(tomlkit.comment(question))
        document.add(name, _text(tomlkit, getattr(spec, name)))
    _add_settings(tomlkit, document, spec)
    document.add(tomlkit.nl())
    document.add("ceilings", _ceilings_table(tomlkit, spec.ceilings))
    _add_checks(tomlkit, document, spec)
    document.add("review", _review_table(tomlkit, spec.review))
    document.add("record", _record_table(tomlkit, spec.record))
    add_prices(tomlkit, document, spec.prices)
    return cast("str", tomlkit.dumps(document))


def ask_spec(input_fn: Callable[[str], str] = input, output_fn: Callable[[str], object] = print) -> Spec:
    """Ask for the promise, and for how a machine could check it, and return the spec with its usual ceilings.

    Where the input ends after the three answers, a person judges.

    Raises:
        SpecError: as `SpecWriter.run` says.
    """
    answers = ask_promise(input_fn, output_fn)
    chosen = ask(HOW_TO_CHECK, input_fn, output_fn, field="done_when", fault=_choice_fault, at_end="")
    kind = _CHOICES[chosen.casefold()]
    key, value = CHECK_KEYS[kind], answers["done_looks_like"]
    if kind == "shell":
        value = ask("Which command?", input_fn, output_fn, field="done_when[1].command")
    elif kind == "regex":
        question = "Which regular expression?"
        value = ask(question, input_fn, output_fn, field="done_when[1].pattern", fault=_pattern_fault)
    check = {"check": kind, key: value}
    return Spec(**cast("dict[str, Any]", answers), done_when=(check,))


def _tomlkit(needed_for: str) -> Any:  # Any: a module that is imported late has no type
    try:
        import tomlkit
    except ImportError as error:
        raise MissingExtraError("cli", needed_for) from error
    module: ModuleType = tomlkit
    return module


# --- Reading ---------------------------------------------------------------------------------------------------------


def _content(path: Path) -> str:
    try:
        # A pipe would wait for ever, and a device may have no end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise SpecError("this is not a file" if not path.is_dir() else "this is a folder, not a file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > MOST_BYTES:
        raise SpecError(f"the file is larger than {MOST_BYTES} bytes, so it is no spec")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(f"line {line} is not UTF-8") from error


def _parse(tomlkit: Any, content: str) -> TOMLDocument:
    try:
        return cast("TOMLDocument", tomlkit.parse(content))
    except RecursionError as error:  # older versions of tomlkit do not count the levels
        raise SpecError("this is nested too deeply to be a spec") from error
    except (tomlkit.exceptions.TOMLKitError, ValueError) as error:
        line: int | None = getattr(error, "line", None)
        what = re.sub(r" at line \d+ col \d+$", "", str(error))
        raise SpecError(f"line {line} is not TOML: {what}" if line else f"this is not TOML: {what}") from error


def _read(document: TOMLDocument) -> Spec:
    raw = cast("dict[str, object]", document.unwrap())
    _refuse_unknown("", raw, _TOP_KEYS)
    for name in QUESTIONS:
        if name not in raw:
            raise SpecError("this answer is missing", field=name)
    values = {name: raw[name] for name in _TOP_KEYS if name in raw and name not in _TABLES}
    if "ceilings" in raw:
        values["ceilings"] = _read_ceilings(_table("ceilings", raw), cast("Mapping[str, object]", document["ceilings"]))
    if "done_when" in raw:
        if not isinstance(raw["done_when"], list):
            raise SpecError("must be a list of tables, each written [[done_when]]", field="done_when")
        values["done_when"] = raw["done_when"]
    if "review" in raw:
        review = _table("review", raw)
        _refuse_unknown("review.", review, _REVIEW_KEYS)
        values["review"] = Review(**cast("dict[str, Any]", review))
    if "record" in raw:
        record = _table("record", raw)
        _refuse_unknown("record.", record, _RECORD_KEYS)
        values["record"] = Record(**cast("dict[str, Any]", record))
    if "prices" in raw:
        values["prices"] = read_prices(raw["prices"], document["prices"])
    return Spec(**cast("dict[str, Any]", values))


def _table(name: str, raw: Mapping[str, object]) -> dict[str, object]:
    table = raw[name]
    if not isinstance(table, dict):
        raise SpecError(f"must be a table, written [{name}]", field=name, value=shown(table))
    return cast("dict[str, object]", table)


def _refuse_unknown(prefix: str, table: Collection[str], known: Collection[str]) -> None:
    for key in table:
        if key not in known:
            raise SpecError(f"is not a key of a spec; here there are {', '.join(known)}", field=prefix + key)


def _read_ceilings(table: Mapping[str, object], typed: Mapping[str, object]) -> Ceilings:
    """Read the ceilings, those with a fraction from the text as it was typed."""
    _refuse_unknown("ceilings.", table, _CEILING_KEYS)
    values = dict(table)
    cost, milliseconds = None, None
    if "usd" in values:
        cost = millionths("ceilings.usd", values.pop("usd"), typed["usd"], _MOST_USD)
    if "minutes" in values:
        minutes = millionths("ceilings.minutes", values.pop("minutes"), typed["minutes"], _MOST_MINUTES)
        milliseconds = round(Fraction(minutes * _MS_PER_MINUTE, MILLION))
    values = {"turns": DEFAULT_CEILINGS.turns, "tokens": DEFAULT_CEILINGS.tokens, **values}
    return Ceilings(cost_microusd=cost, milliseconds=milliseconds, **cast("dict[str, Any]", values))


# --- Writing ---------------------------------------------------------------------------------------------------------


def _text(tomlkit: Any, value: str) -> object:
    """Return a text as TOML, on lines of its own where it has several."""
    # A line break behind the opening quotes is not of the text, as TOML has it.
    many = "\n" in value and not re.search(r"^\n|[^\n\t -~\u00a0-\U0010ffff]", value)
    return tomlkit.string(value, multiline=many)


def _add_settings(tomlkit: Any, document: TOMLDocument, spec: Spec) -> None:
    def say(*lines: str) -> None:
        document.add(tomlkit.nl())
        for line in lines:
            document.add(tomlkit.comment(line))

    say("Who is asked, and the most tokens of one reply.")
    _add_or_hint(tomlkit, document, "model", spec.model, '"claude-sonnet-4-6"')
    _add_or_hint(tomlkit, document, "max_tokens", spec.max_tokens, "1024")
    say(
        '"nothing": no text of the conversation is stored; a stopped session goes on with its conversation anew.',
        '"conversation": it is stored until it is erased; a stopped session goes on where it was.',
    )
    document.add("keep", spec.keep)
    say(
        '"strict": what a call can at most use is reserved before it, so no ceiling is passed.',
        '"estimate": reserves less, so more fits under a ceiling; it may be passed by the error of the estimate.',
    )
    document.add("bound", spec.bound)
    say("Tools whose calls wait until a person has agreed.")
    _add_or_hint(tomlkit, document, "held_tools", list(spec.held_tools) or None, '["send_mail"]')
    say("The budget that this shares with others ('donewhen budget new'); no call is made that has no room in it.")
    _add_or_hint(tomlkit, document, "budget", spec.budget, '"acme/support"')


def _ceilings_table(tomlkit: Any, ceilings: Ceilings) -> Table:
    table: Table = tomlkit.table()
    turns, tokens = DEFAULT_CEILINGS.turns, DEFAULT_CEILINGS.tokens
    for line in (
        "The most that one session may use. 0 allows none.",
        f"Turns and tokens always have a ceiling: {turns} and {tokens} where the line is left out.",
        "Every other line can be left out, and then there is no ceiling.",
    ):
        table.add(tomlkit.comment(line))
    usd = None if ceilings.cost_microusd is None else tomlkit.value(decimal(ceilings.cost_microusd, 2))
    minutes = None
    if ceilings.milliseconds is not None:
        minutes = tomlkit.value(decimal(round(Fraction(ceilings.milliseconds * MILLION, _MS_PER_MINUTE)), 0))
    _add_or_hint(tomlkit, table, "turns", ceilings.turns, "")
    _add_or_hint(tomlkit, table, "tokens", ceilings.tokens, "")
    _add_or_hint(tomlkit, table, "usd", usd, "0.50")
    _add_or_hint(tomlkit, table, "minutes", minutes, "10")
    _add_or_hint(tomlkit, table, "tool_calls", ceilings.tool_calls, "20")
    _add_or_hint(
        tomlkit, table, "repeats", ceilings.repeats, "3", meaning="the same call, or the same failing check, in a row"
    )
    table.add(tomlkit.nl())
    return table


def _add_checks(tomlkit: Any, document: TOMLDocument, spec: Spec) -> None:
    if not spec.done_when:
        return
    tables = tomlkit.aot()
    for place, check in enumerate(spec.done_when, start=1):
        # The kind stands first, since it says how to read the rest.
        ordered = {"check": check["check"], **check}
        table: Table = tomlkit.item({})
        for key, value in ordered.items():
            table.add(key, _inline(tomlkit, value))
        if place == len(spec.done_when):
            table.add(tomlkit.nl())
        tables.append(table)
    document.add("done_when", tables)


def _inline(tomlkit: Any, value: object) -> object:
    if isinstance(value, dict):
        table = tomlkit.inline_table()
        for key, item in cast("dict[str, object]", value).items():
            table.append(key, _inline(tomlkit, item))
        return table
    if isinstance(value, list):
        array = tomlkit.array()
        for item in cast("list[object]", value):
            array.append(_inline(tomlkit, item))
        return array
    return _text(tomlkit, value) if isinstance(value, str) else value


def _review_table(tomlkit: Any, review: Review) -> Table:
    table: Table = tomlkit.table()
    table.add(
        tomlkit.comment("The output waits until so many different people have compared it with the answers above.")
    )
    table.add("quorum", review.quorum)
    _add_or_hint(
        tomlkit, table, "reviewers", list(review.reviewers) or None, '["ann", "ben"]', meaning="nobody named: anybody"
    )
    _add_or_hint(tomlkit, table, "expiry_hours", review.expiry_hours, "72", meaning="hours until an attestation lapses")
    own_work = review.own_work or None
    _add_or_hint(tomlkit, table, "own_work", own_work, "true", meaning="whoever started a session may attest it too")
    meaning = "by enrolled keys; false: a name is enough; left out: once a key was enrolled"
    _add_or_hint(tomlkit, table, "signed", review.signed, "true", meaning=meaning)
    return table


def _record_table(tomlkit: Any, record: Record) -> Table:
    table: Table = tomlkit.table()
    table.add(tomlkit.comment("Where the ledger's checkpoints are kept besides: only there a roll-back shows."))
    files = list(record.checkpoint_to) or None
    _add_or_hint(tomlkit, table, "checkpoint_to", files, '["/mnt/other-disk/checkpoints.txt"]')
    witnesses = _inline(tomlkit, [{"url": url, "vkey": vkey} for url, vkey in record.witnesses])
    example = f'[{{ url = "https://witness.example", vkey = "{_EXAMPLE_VKEY}" }}]'
    _add_or_hint(tomlkit, table, "witnesses", witnesses if record.witnesses else None, example)
    meaning = "rows after which they are, besides at the end of a session and before a release"
    _add_or_hint(tomlkit, table, "every_rows", record.every_rows, "100", meaning=meaning)
    _add_or_hint(tomlkit, table, "every_seconds", record.every_seconds, "300", meaning="seconds after which they are")
    return table


def _add_or_hint(
    tomlkit: Any, table: TOMLDocument | Table, key: str, value: object, example: str, *, meaning: str = ""
) -> None:
    """Add a key, or, where it is not set, a comment that shows how to set it."""
    if value is None:
        table.add(tomlkit.comment(f"{key} = {example}" + (f"  # {meaning}" if meaning else "")))
        return
    item = tomlkit.item(value)
    if meaning:
        item.comment(meaning)
    table.add(key, item)


# --- Asking ----------------------------------------------------------------------------------------------------------


def _choice_fault(answer: str) -> str | None:
    return None if answer.casefold() in _CHOICES else f"{answer!r} is not one of them"


def _pattern_fault(answer: str) -> str | None:
    try:
        re.compile(answer)
    except (re.error, RecursionError, OverflowError) as error:
        return f"not a regular expression ({error})"
    return missing_answer(answer)
