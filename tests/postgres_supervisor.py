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
    as_user: dict[str, Any] = {"cwd": "/", "stdin": subprocess.DEVNULL, "check": True}
    as_user["env"] = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    if user:
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
        as_user |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    data = folder / "data"
    options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    make = [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    control = [binaries / "pg_ctl", "-D", data, "-w", "-t", "120"]
    with (folder / "running").open("w") as running, (folder / "alive").open("r+") as alive:
        fcntl.flock(running, fcntl.LOCK_EX)
        try:
            subprocess.run(make, capture_output=True, **as_user)
            start = [*control, "-l", data / "log", "-o", f"-k {folder} {options}", "start"]
            subprocess.run(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user)
            try:
                tell("ready")
                fcntl.flock(alive, fcntl.LOCK_EX)
            finally:
                subprocess.run([*control, "-m", "immediate", "stop"], stdout=subprocess.DEVNULL, **as_user)
        except subprocess.CalledProcessError as error:
            tell(f"{error}: {(error.stderr or b'').decode(errors='replace')}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def tell(what: str) -> None:
    sys.stdout.write(" ".join(what.split()) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
