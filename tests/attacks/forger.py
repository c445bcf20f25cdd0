"""Someone who owns the file: reads it, rewrites it whole, and puts every trigger back as it was. He cannot sign.

He works on the stored bodies and on the documented format alone, never through the library's own writing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

GENESIS = "A" * 43 + "="
Row = dict[str, Any]
Sign = Callable[[str], str]
"""Makes a checkpoint's note of its text."""


BESIDE = ("", "-wal", "-shm")
"""What the names of SQLite's files of one database end with."""


def copy(path: Path, target: Path) -> None:
    """Copy a ledger, with what a crash left beside it, in the place of whatever is there."""
    for end in BESIDE:
        Path(f"{target}{end}").unlink(missing_ok=True)
        if Path(f"{path}{end}").exists():
            shutil.copy(f"{path}{end}", f"{target}{end}")


def spell(row: Row) -> bytes:
    """Return canonical JSON; the rows of these tests are ASCII, so sorting by code point is enough."""
    text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert text.isascii()
    return text.encode()


def leaf(body: bytes) -> bytes:
    return hashlib.sha256(b"\0" + body).digest()


class Tree:
    """RFC 6962, by the shortest way: a stack of (level, hash)."""

    def __init__(self) -> None:
        self.stack: list[tuple[int, bytes]] = []
        self.size = 0

    def append(self, digest: bytes) -> bytes:
        """Add a leaf; return the hashes of all subtrees that it completes."""
        level, nodes = 0, [digest]
        while self.stack and self.stack[-1][0] == level:
            digest = hashlib.sha256(b"\1" + self.stack.pop()[1] + digest).digest()
            level += 1
            nodes.append(digest)
        self.stack.append((level, digest))
        self.size += 1
        return b"".join(nodes)

    def root(self) -> bytes:
        digest = self.stack[-1][1]
        for _, left in reversed(self.stack[:-1]):
            digest = hashlib.sha256(b"\1" + left + digest).digest()
        return digest


class Forger:
    """Reads a ledger's file, and writes what he likes into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as connection:
            [self.origin] = connection.execute("SELECT origin FROM log").fetchone()
            self.rows: list[Row] = [
                json.loads(b) for (b,) in connection.execute("SELECT body FROM entries ORDER BY id")
            ]
            self.sealed: list[tuple[int, int, str]] = connection.execute(
                "SELECT size, start, note FROM sealed ORDER BY size"
            ).fetchall()
            self._notes = {size: note for size, _, note in self.sealed}

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # he does not fear a power cut
            yield connection

    def sql(self, *statements: str | tuple[str, Sequence[object]]) -> None:
        """Run statements with the triggers dropped, and put them back to the letter.

        What the indexes and constraints refuse is done without them; the schema then shows that they are gone.
        """
        try:
            self._run(statements, "trigger")
        except sqlite3.IntegrityError:
            self._run(statements, "trigger", "index")

    def _run(self, statements: Sequence[str | tuple[str, Sequence[object]]], *kinds: str) -> None:
        with self._open() as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute("BEGIN")
            found = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type IN ('trigger', 'index')"
            dropped = [one for one in connection.execute(found).fetchall() if one[0] in kinds]
            for kind, name, _ in dropped:
                connection.execute(f"DROP {kind} {name}")
            for statement in statements:
                connection.execute(*((statement,) if isinstance(statement, str) else statement))
            for kind, _, sql in dropped:
                if kind == "trigger":
                    connection.execute(sql)
            connection.execute("COMMIT")

    # -- finding ----------------------------------------------------------------------------------------------------

    def of_kind(self, kind: str, place: int = -1) -> Row:
        return [row for row in self.rows if row["kind"] == kind][place]

    def of_session(self, session: str) -> list[Row]:
        return [row for row in self.rows if row["session"] == session]

    # -- writing ----------------------------------------------------------------------------------------------------

    def put(self, *rows: Row) -> None:
        """Store rows as they are now, and nothing else: the plain edit."""
        for row in rows:
            self.put_at(row["id"], row)

    def put_at(self, row_id: int, row: Row) -> None:
        """Store one row in the place of another."""
        self.sql(("UPDATE entries SET body = ? WHERE id = ?", (spell(row).decode(), row_id)))

    def rewrite(self, rows: Iterable[Row] | None = None, *, sign: Sign | None = None, renumber: bool = True) -> None:
        """Store a whole new log: ids, places, chains, lists, nodes and checkpoints all fit. Only the signatures are old.

        Args:
            rows: what it shall say; None: the rows as they are now.
            sign: makes good signatures, for who holds the key. None: the signature line of the nearest old checkpoint.
            renumber: give ids and places in sessions anew.
        """
        rows = list(self.rows if rows is None else rows)
        if renumber:
            self._renumber(rows)
        tree, heads = Tree(), dict[str, str]()
        inserts: list[tuple[str, Sequence[object]]] = []
        sizes = sorted({min(size, len(rows)) for size, _, _ in self.sealed} | {len(rows)} - {0})
        start, nodes = 0, b""
        for place, row in enumerate(rows, 1):
            row["prev"] = heads.get(row["session"], GENESIS)
            body = spell(row)
            heads[row["session"]] = base64.b64encode(leaf(body)).decode()
            nodes += tree.append(leaf(body))
            inserts.append(("INSERT INTO entries (id, body) VALUES (?, ?)", (row["id"], body.decode())))
            names = dict.fromkeys(one["budget"] for one in row.get("after", ()) if one["budget"] != row["session"])
            inserts += [("INSERT OR IGNORE INTO balances VALUES (?, ?)", (name, row["id"])) for name in names]
            if place in sizes:
                note = self._note(place, tree.root(), sign)
                inserts.append(("INSERT INTO sealed VALUES (?, ?, ?, ?)", (place, start, note, nodes)))
                start, nodes = place, b""
        kept = {row["id"] for row in rows if "texts" in row.get("data", {})}
        lost = [("DELETE FROM texts WHERE entry_id = ?", (n,)) for n in range(len(self.rows) + 2) if n not in kept]
        self.sql(*lost, "DELETE FROM sealed WHERE size > 0", "DELETE FROM balances", "DELETE FROM entries", *inserts)

    def _renumber(self, rows: list[Row]) -> None:
        seqs: dict[str, int] = {}
        for number, row in enumerate(rows, 1):
            seqs[row["session"]] = seqs.get(row["session"], 0) + 1
            row["id"], row["seq"] = number, seqs[row["session"]]

    def _note(self, size: int, root: bytes, sign: Sign | None) -> str:
        text = f"{self.origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        if sign is not None:
            return sign(text)
        nearest = self._notes.get(size) or min(self.sealed, key=lambda sealed: abs(sealed[0] - size))[2]
        return text + "\n" + nearest.partition("\n\n")[2] if "\n\n" in nearest else text
