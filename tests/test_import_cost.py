"""Importing donewhen defines names: it loads nothing heavy, reads no setting, and touches neither files nor network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "donewhen"

HEAVY = {
    "aiohttp", "anthropic", "asyncio", "click", "cryptography", "genai_prices", "http.client", "httpx", "httpx2",
    "jsonschema", "multiprocessing", "openai", "psycopg", "pydantic", "rich", "starlette", "tomlkit", "urllib.request",
}  # fmt: skip
EDGES = {"__main__", "cli", "demo", "examples", "gateway", "integrations", "providers", "seo", "testing", "web"}
"""What stands on top of the core, or beside it, and may load what it serves."""
LIMIT_MS = 60

WATCHED = """
import json, sys
events = []
def hook(event, args):
    if event == "open":
        writes = isinstance(args[1], str) and set(args[1]) & set("wax+") or isinstance(args[2], int) and args[2] & 3
        if writes:
            events.append([event, str(args[0])])
    elif event.startswith(("socket.", "subprocess.", "os.mkdir", "os.rename", "os.remove", "sqlite3.", "os.putenv")):
        events.append([event, str(args)])
class Environ(type(__import__("os").environ)):
    def __getitem__(self, key):
        frame = sys._getframe(1)
        while frame and frame.f_code.co_name in ("get", "getenv", "__contains__"):
            frame = frame.f_back
        if frame and "donewhen" in frame.f_globals.get("__name__", ""):
            events.append(["environ", str(key)])
        return super().__getitem__(key)
__import__("os").environ.__class__ = Environ
sys.addaudithook(hook)
before = set(sys.modules)
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps({"events": events, "modules": sorted(set(sys.modules) - before)}))
"""


def watch(*modules: str) -> dict[str, list[str]]:
    """Import modules in an interpreter of their own and tell what that did."""
    run = subprocess.run(
        # -B: Python's own bytecode files are not ours. -I: no setting of the caller's environment has a say.
        [sys.executable, "-B", "-c", WATCHED, *modules],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PYTHONPATH": str(PACKAGE.parent), "PATH": "", "SYSTEMROOT": "C:\\Windows"},
    )
    result: dict[str, list[str]] = json.loads(run.stdout.splitlines()[-1])
    result["printed"] = run.stdout.splitlines()[:-1] + run.stderr.splitlines()
    return result


def core_modules() -> list[str]:
    """Name every module of the core."""
    paths = [path.relative_to(PACKAGE).with_suffix("") for path in sorted(PACKAGE.rglob("*.py"))]
    core = [path for path in paths if path.parts[0] not in EDGES and not path.name.startswith("postgres")]
    return [".".join(("donewhen", *path.parts)).removesuffix(".__init__") for path in core]


def test_import_donewhen_loads_none_of_its_own_rooms() -> None:
    loaded = {name for name in watch("donewhen")["modules"] if name.startswith("donewhen")}
    assert loaded == {"donewhen"}


@pytest.mark.parametrize("modules", [["donewhen"], core_modules()], ids=["the package", "the whole core"])
def test_importing_does_nothing_but_define_names(modules: list[str]) -> None:
    seen = watch(*modules)
    assert HEAVY.intersection(seen["modules"]) == set()
    assert seen["events"] == []
    assert seen["printed"] == []


def import_ms() -> float:
    """Import donewhen in an interpreter of its own and tell how long that took, on the wall."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import donewhen"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PYTHONPATH": str(PACKAGE.parent), "PATH": "", "SYSTEMROOT": "C:\\Windows"},
    )
    [line] = [line for line in run.stderr.splitlines() if line.endswith("| donewhen")]
    return int(line.split("|")[1]) / 1000


def test_import_donewhen_costs_less_than_sixty_milliseconds_over_bare_python() -> None:
    # On a busy machine an import can be held up for longer than it takes, but hardly five times.
    assert any(import_ms() < LIMIT_MS for _ in range(5))


def test_using_every_public_name_of_the_core_still_loads_nothing_heavy() -> None:
    code = "import sys, donewhen\nfor name in donewhen.__all__: getattr(donewhen, name)\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-B", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PYTHONPATH": str(PACKAGE.parent), "PATH": "", "SYSTEMROOT": "C:\\Windows"},
    )
    assert HEAVY.intersection(run.stdout.split()) == set()
