"""The documents say what is so: their code runs, their links lead somewhere, their lists are complete."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomlkit

import donewhen

ROOT = Path(__file__).parent.parent
PACKAGE = Path(donewhen.__file__).parent
ARCHITECTURE = ROOT / "docs" / "architecture.md"

OUTSIDE = {".git", ".venv", "venv", "build", "dist", "htmlcov", "node_modules"}
"""Folders that are no part of the project, for a copy of it that git knows nothing of."""

RUN = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
"""A block that runs. ``python no-run`` is shown in colour and left alone."""

CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
MODULES = re.compile(r"^```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)

MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:home|Users|root|work|tmp)/(?!ada\b)\w")
"""Ada has no machine: paths in tests are hers."""

REGISTRY = re.compile(r"\b(?:pypi|pythonhosted|npmjs|crates)\.(?:org|com|io)\b|\b[\w-]*index[-]url\b")


def tracked_files() -> list[Path]:
    """Return the files of the project: those that git has, or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
        paths = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):  # unpacked from an archive, or a machine without git
        hidden = (path for path in ROOT.rglob("*") if not OUTSIDE & set(path.relative_to(ROOT).parts))
        paths = [path for path in hidden if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)]
    return sorted(path for path in paths if path.is_file())


def texts() -> Iterator[tuple[str, str]]:
    """Yield the name and content of every text file of the project."""
    for path in tracked_files():
        data = path.read_bytes()
        if b"\0" not in data:
            yield path.relative_to(ROOT).as_posix(), data.decode("utf-8", "replace")


DOCUMENTS = [path for path in tracked_files() if path.suffix == ".md"]
RUNNING = [path for path in DOCUMENTS if path == ROOT / "README.md" or path.parent == ROOT / "docs"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def program_of(text: str) -> str:
    """Return the Python of a document as one program, each line where the document has it."""
    lines = text.splitlines()
    program = [""] * len(lines)
    for block in RUN.finditer(text):
        start = text.count("\n", 0, block.start(1))
        for number, line in enumerate(block.group(1).splitlines(), start):
            program[number] = line
    return "\n".join(program) + "\n"


@pytest.mark.parametrize("document", [path for path in RUNNING if RUN.search(path.read_text("utf-8"))], ids=name_of)
def test_the_code_of_a_document_runs(document: Path, tmp_path: Path) -> None:
    script = tmp_path / "document.py"
    script.write_text(program_of(document.read_text("utf-8")), encoding="utf-8")
    folder = tmp_path / "folder"
    folder.mkdir()
    environ = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONWARNINGS": "error"}
    command = [sys.executable, str(script)]
    ran = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_block_keeps_its_line_and_one_marked_no_run_is_left_alone() -> None:
    text = "# Title\n\n```python no-run\nboom()\n```\n\n```python\nx = 1\ny = 2\n```\n"
    assert program_of(text).splitlines() == ["", "", "", "", "", "", "", "x = 1", "y = 2", ""]


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as code hosts make them."""
    headings = HEADING.findall(re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> Iterator[str]:
    text = document.read_text("utf-8")
    for target in LINK.findall(CODE.sub("", text)):
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", name):
            continue
        path = (document.parent / name).resolve() if name else document
        if not path.exists() or (anchor and anchor not in anchors(path.read_text("utf-8"))):
            yield target


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_the_links_of_a_document_lead_somewhere(document: Path) -> None:
    assert list(broken_links(document)) == []


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A B\n[x](b.md) [y](#a-b) [z](#c) [w](a.md#a-b) `[v](c.md)`\n", encoding="utf-8")
    assert list(broken_links(tmp_path / "a.md")) == ["b.md", "#c"]


def named_modules(block: str) -> Iterator[str]:
    """Yield the path of each module that a block of the architecture names; a folder stands for its __init__.py."""
    folders: list[str] = []
    for line in filter(None, block.splitlines()):
        indent, name, said = re.fullmatch(r"( *)(\S+) +(\S.*)", line).groups()  # pyright: ignore[reportOptionalMemberAccess]
        assert said, line
        folders = folders[: len(indent) // 2]
        path = "".join(folders) + name
        if name.endswith("/"):
            folders.append(name)
            path += "__init__.py"
        yield path


def blocks() -> list[list[str]]:
    return [list(named_modules(block)) for block in MODULES.findall(ARCHITECTURE.read_text("utf-8"))]


def test_the_architecture_names_every_module_and_nothing_else() -> None:
    named = [name for block in blocks() for name in block]
    there = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    assert set(named) - there == set(), "named, but not there"
    assert there - set(named) == set(), "there, but not named"
    assert len(named) == len(set(named))


def test_the_architecture_has_the_layers_of_the_contracts() -> None:
    project = tomlkit.parse((ROOT / "pyproject.toml").read_text("utf-8")).unwrap()
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    agreed = [{name for name in re.split(r"[ :|]+", layer) if "(" not in name} for layer in layers]
    told = [{name.split("/")[0].removesuffix(".py") for name in block} for block in blocks()[1:]]
    assert told == agreed


def test_every_file_that_a_document_names_is_there() -> None:
    pattern = re.compile(r"`((?:tests|docs|examples|benchmarks|src)/[\w./-]+)`")
    named = {(name_of(path), name) for path in RUNNING for name in pattern.findall(path.read_text("utf-8"))}
    assert {(where, name) for where, name in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("pattern", [MACHINE_PATH, REGISTRY], ids=["a path of one machine", "the host of a registry"])
def test_no_text_of_the_project_has(pattern: re.Pattern[str]) -> None:
    found = [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (MACHINE_PATH, "see " + "/home" + "/bob/notes"),
        (MACHINE_PATH, '"' + "/work" + '/main/src"'),
        (REGISTRY, "https://" + "pypi" + ".org/simple"),
        (REGISTRY, "pip install --" + "index" + "-url x"),
    ],
)
def test_what_must_not_be_there_would_be_seen(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


@pytest.mark.parametrize("name", [name for name in donewhen.__all__ if name != "__version__"])
def test_every_public_name_says_what_it_is(name: str) -> None:
    value = getattr(donewhen, name)
    doc = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    assert doc, f"{name} has no docstring of its own"
    assert not doc.startswith(f"{name}("), f"{name} has the docstring that dataclasses make"
