"""A PostgreSQL server for one run of the tests: python postgres_supervisor.py FOLDER BINARIES USER

It outlives nobody. Whoever runs the tests holds a lock on FOLDER/alive for as long as it lives. This program starts the
server, says "ready" or what is wrong, waits for that lock, which it gets when the tests have ended, however they ended,
then stops the server and removes the folder. It holds a lock on FOLDER/running meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SETTINGS = {
    "listen_addresses": "''",
    "fsync": "on",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "log_min_messages": "fatal",
    # A commit that asks for it waits for a standby that there is not: a test cuts it off while it waits.
    "synchronous_standby_names": "nobody",
    "synchronous_commit": "local",
}


def main(folder: Path, binaries: Path, user: str) -> None:
    if user:
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
    data = folder / "data"
    make = [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    with (folder / "running").open("w") as running, (folder / "alive").open("r+") as alive:
        fcntl.flock(running, fcntl.LOCK_EX)
        try:
            subprocess.run(make, capture_output=True, check=True, **as_user(user))
            start(folder, binaries, user)
            try:
                tell("ready")
                fcntl.flock(alive, fcntl.LOCK_EX)
            finally:
                # One that a test has broken may have stopped already.
                stop = [binaries / "pg_ctl", "-D", data, "-w", "-t", "120", "-m", "immediate", "stop"]
                subprocess.run(stop, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user(user))
        except subprocess.CalledProcessError as error:
            tell(f"{error}: {(error.stderr or b'').decode(errors='replace')}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def start(folder: Path, binaries: Path, user: str, how: str = "start") -> None:
    """Start a server whose data is there, and wait until it can be asked."""
    options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    control = [binaries / "pg_ctl", "-D", folder / "data", "-w", "-t", "120", "-l", folder / "data" / "log"]
    subprocess.run(
        [*control, "-m", "immediate", "-o", f"-k {folder} {options}", how],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
        **as_user(user),
    )


def as_user(user: str) -> dict[str, Any]:
    """Return with which options a program is run as a user; an empty name is this one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    options: dict[str, Any] = {"cwd": "/", "stdin": subprocess.DEVNULL, "env": environment}
    if user:
        account = pwd.getpwnam(user)
        options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return options


def tell(what: str) -> None:
    sys.stdout.write(" ".join(what.split()) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
