"""The house rules that a program can hold: small pieces, nothing swallowed, nothing left for later."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE_LINES = 400
FUNCTION_LINES = 40
NESTING = 3

FOLDERS = ("src", "examples", "benchmarks", "tests")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LATER = re.compile(r"#.*\b(TODO|FIXME|XXX)\b")
BARE_IGNORE = re.compile(r"#\s*(type:\s*ignore|pyright:\s*ignore|noqa)(?!\s*[\[:])")


def faults(source: str, *, small: bool = True) -> Iterator[str]:
    """Name every place in a file that breaks a rule; ``small`` asks for a short file and short functions too."""
    lines = source.splitlines()
    if small and len(lines) > FILE_LINES:
        yield f"the file has {len(lines)} lines"
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and LATER.search(token.string):
            yield f"{token.start[0]}: work left for later"
        if token.type == tokenize.COMMENT and BARE_IGNORE.search(token.string):
            yield f"{token.start[0]}: an ignore without its code"
    tree = ast.parse(source)
    yield from swallowed(tree)
    for function in [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)] if small else []:
        if (length := body_lines(function)) > FUNCTION_LINES:
            yield f"{function.lineno}: {function.name} has {length} lines"
        if (depth := nesting(function.body)) > NESTING:
            yield f"{function.lineno}: {function.name} is nested {depth} deep"


def swallowed(tree: ast.Module) -> Iterator[str]:
    """Name every place where an error disappears without a trace."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and all(is_nothing(statement) for statement in node.body):
            yield f"{node.lineno}: an error is swallowed"
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{node.lineno}: a bare except"
        if isinstance(node, ast.Call) and suppresses_everything(node):
            yield f"{node.lineno}: every error is suppressed"


def suppresses_everything(call: ast.Call) -> bool:
    """Tell whether a call is ``contextlib.suppress`` of more than named faults."""
    named = {ast.unparse(argument) for argument in call.args}
    return ast.unparse(call.func).endswith("suppress") and not named.isdisjoint({"Exception", "BaseException"})


def is_nothing(statement: ast.stmt) -> bool:
    """Tell whether a statement does nothing."""
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function's body, without its docstring."""
    body = function.body if ast.get_docstring(function) is None else function.body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def nesting(statements: list[ast.stmt]) -> int:
    """Tell how deep blocks stand in blocks; an ``elif`` is no deeper than its ``if``."""
    return max((block_depth(statement) for statement in statements), default=0)


def block_depth(statement: ast.stmt) -> int:
    if not isinstance(statement, BLOCKS):
        return 0
    inner: list[ast.stmt] = []
    beside = 0
    for field, value in ast.iter_fields(statement):
        if field == "orelse" and isinstance(statement, ast.If) and len(value) == 1 and isinstance(value[0], ast.If):
            beside = block_depth(value[0])
        elif field in ("body", "orelse", "finalbody"):
            inner.extend(value)
        elif field in ("handlers", "cases"):
            inner.extend(line for part in value for line in part.body)
    return max(1 + nesting(inner), beside)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_file_keeps_the_house_rules(path: Path) -> None:
    found = list(faults(path.read_text(encoding="utf-8"), small="tests" not in path.relative_to(ROOT).parts))
    assert found == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("x = 1\n" * 401, "401 lines"),
        ("def f():\n" + "    x = 1\n" * 41, "f has 41 lines"),
        ("def f():\n    if a:\n        for b in c:\n            with d:\n                if e: pass", "nested 4 deep"),
        ("try: x\nexcept ValueError: pass", "swallowed"),
        ("try: x\nexcept ValueError: ...", "swallowed"),
        ("try: x\nexcept: raise", "bare except"),
        ("with suppress(Exception): x", "suppressed"),
        ("x = 1  # TODO: later", "later"),
        ("x = 1  # type: ignore", "without its code"),
        ("x = 1  # noqa", "without its code"),
    ],
)
def test_a_broken_rule_is_found(source: str, fault: str) -> None:
    [found] = faults(source)
    assert fault in found


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    """Say\n' + "\n" * 60 + '    much."""\n    return 1',
        "def f():\n    if a: x\n    elif b: x\n    elif c: x\n    elif d: x\n    else: x",
        "try: x\nexcept ValueError: y = None",
        "with suppress(FileNotFoundError): x",
        "x = '# TODO'",
        "x = 1  # pyright: ignore[reportAny]  (a reason)",
    ],
)
def test_what_keeps_the_rules_is_let_through(source: str) -> None:
    assert list(faults(source)) == []
