"""Files that must not have changed since the session opened: the tests, say, that a check runs.

A path may be a file, a folder (everything in it counts) or a pattern: ``*`` and ``?`` stand for part of a name,
``[ab]`` for one character, ``**`` for any folders. Links are never followed: what counts is where one points.
So a changed, added, deleted or replaced file shows, whatever the version control says.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

from donewhen.errors import CheckError

_DOMAIN = b"donewhen/v1/protected\0"
_WILD = re.compile(r"[*?\[]")
_CHUNK_BYTES = 1 << 20
_MAX_NAMED = 5


def read_protected_path(value: object) -> str:
    """Return a protected path or pattern in its one spelling: relative, with ``/``, without ``.`` parts.

    Raises:
        CheckError: it is not text, is absolute, leaves the folder, or means the whole folder.
    """
    given = os.fspath(cast("os.PathLike[str]", value)) if isinstance(value, os.PathLike) else value
    if not isinstance(given, str):
        raise CheckError(f"protects must name files or folders as text (found {value!r:.200})")
    text = given.replace(os.sep, "/")
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if not parts or text.startswith("/") or ".." in parts or "\0" in text or (os.name == "nt" and ":" in text):
        raise CheckError(f"protects must name files or folders inside the session's folder (found {value!r:.200})")
    return "/".join(parts)


def take_digests(protects: Iterable[str], folder: Path) -> dict[str, str]:
    """Return the hash of every protected file, by its path from the folder.

    Raises:
        CheckError: a path or pattern stands for no file, or a file cannot be read.
    """
    found: dict[str, str] = {}
    for protect in protects:
        own = _digests_of(protect, folder)
        if not own:
            raise CheckError(f"the protected path {protect!r} holds no file in {folder}")
        found.update(own)
    return dict(sorted(found.items()))


def find_changes(protects: Iterable[str], folder: Path, before: Mapping[str, str]) -> list[str]:
    """Return what happened to protected files, a sentence each, at most five.

    Raises:
        CheckError: no digests were taken when the session opened, or a file cannot be read.
    """
    now: dict[str, str] = {}
    then: dict[str, str] = {}
    for protect in protects:
        covered = {path: value for path, value in before.items() if covers(protect, path)}
        if not covered:
            raise CheckError(f"no digest of the protected path {protect!r} was taken when the session opened")
        then.update(covered)
        now.update(_digests_of(protect, folder))
    changes = [
        _change(path, path in then, path in now) for path in sorted({*then, *now}) if then.get(path) != now.get(path)
    ]
    if len(changes) > _MAX_NAMED:
        return [*changes[:_MAX_NAMED], f"and {len(changes) - _MAX_NAMED} more"]
    return changes


def covers(protect: str, path: str) -> bool:
    """Tell whether a protected path or pattern stands for a path, or for a folder that holds it."""
    return _fits(protect.split("/"), path.split("/"), is_way=False)


def _fits(wanted: list[str], parts: list[str], *, is_way: bool) -> bool:
    """Match part by part. With is_way, a path fits that may still lead to what is wanted."""
    if not wanted:
        return True  # what is left of the path lies in a folder that is covered
    if not parts:
        return is_way
    first, rest = wanted[0], wanted[1:]
    if first == "**":
        return not rest or any(_fits(rest, parts[skip:], is_way=is_way) for skip in range(len(parts) + is_way))
    same = fnmatch.fnmatchcase(parts[0], first) if _WILD.search(first) else parts[0] == first
    return same and _fits(rest, parts[1:], is_way=is_way)


def _change(path: str, was: bool, remains: bool) -> str:
    kind = "changed" if was and remains else "deleted" if was else "added"
    return f"the protected file {path!r} was {kind}"


def _digests_of(protect: str, folder: Path) -> dict[str, str]:
    home = folder.resolve()
    try:
        return {path: _digest(home / path) for path in _walk(protect, home)}
    except OSError as error:
        raise CheckError(f"the protected path {protect!r} cannot be read: {error.strerror}") from error


def _walk(protect: str, home: Path) -> Iterator[str]:
    """Yield every file and link that is covered, by its path from the folder, without going through links."""
    wanted = protect.split("/")
    waiting = [""]
    while waiting:
        path = waiting.pop()
        is_folder = _is_folder(home / path)
        parts = path.split("/") if path else []
        if not _fits(wanted, parts, is_way=is_folder):
            continue
        if not is_folder:
            yield path
            continue
        waiting.extend(f"{path}/{name}" if path else name for name in os.listdir(home / path))


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def _digest(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return hashlib.sha256(_DOMAIN + b"link\0" + os.fsencode(path.readlink())).hexdigest()
    if not stat.S_ISREG(mode):
        # A pipe or a device is never opened: reading it may wait for ever.
        return hashlib.sha256(_DOMAIN + b"special\0" + str(stat.S_IFMT(mode)).encode()).hexdigest()
    hasher = hashlib.sha256(_DOMAIN + b"file\0")
    # Neither following a link nor waiting for a pipe that took the file's place since it was looked at.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()
