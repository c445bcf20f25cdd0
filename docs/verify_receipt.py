"""Check a donewhen receipt, offline, against the public key that you hold.

    python verify_receipt.py FILE --key VKEY [--witness VKEY]...

It needs Python 3.10 or newer and the package `cryptography`, and nothing of donewhen. FILE may be - for standard input.
VKEY is the text of a public key, or a file that holds it. Get it from whoever keeps the log, by a way that you trust:
a key that came with the receipt proves nothing.

Exit codes: 0 proven, 7 not proven, 8 cannot be proven with what was given, 2 wrong usage.

A receipt is one text file. Three parts, with an empty line between them:

    donewhen.receipt/v1
    {"at":"2026-...                              one or more rows of one session, oldest first, one per line

    c2sp.org/tlog-proof@v1
    index 41                                     the place in the log of the LAST row, counted from 0
    hYm1Zm...=                                   digests from that row's neighbour up to the root

    donewhen/mehb2tblknihk                       the log's name
    1000000                                      how many rows it had
    7Q2h9x...=                                   the root of its Merkle tree over all of them

    — donewhen/mehb2tblknihk Q9s8...==           who signed these three lines

What is checked, in this order, is the function `verify` at the end. If it returns, then the holder of the key has
signed a log in which exactly these rows stand, at exactly these places.

Standards: JSON as in RFC 8785, Merkle trees of RFC 6962, C2SP signed-note, tlog-checkpoint, tlog-proof and
tlog-cosignature, Ed25519 (RFC 8032).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    sys.exit("This needs the package 'cryptography' for its Ed25519 signatures: pip install cryptography")

LOG_KEY, WITNESS_KEY = 1, 4
"""The two kinds of keys: what signs a log's checkpoints, and what cosigns them with the time."""

MOST_BYTES = 64 * 2**20
MOST_SIGNATURES = 100
MOST_LEVELS = 100
MOST_INT = 2**53 - 1
MOST_SIZE = 2**63 - 1

FIELDS = {"at": str, "id": int, "input_hash": str, "kind": str, "ms": int, "pass": int, "prev": str}
FIELDS |= {"seq": int, "session": str, "state_origin": str, "tokens": int, "turn": int, "v": int}
OPTIONAL_FIELDS = {"after": list, "breach": str, "closes": int, "data": dict, "doubts": int}
"""Every field that a row may have, and its type."""

NO_ROW = "A" * 43 + "="
"""What the first row of a session names as the row before it: 32 zero bytes."""


class NotProvenError(Exception):
    """The receipt does not prove what it shows: it was changed, or is of another log or key."""


class CannotProveError(Exception):
    """What was asked for is not in the receipt, or no proper key was given."""


def demand(condition: object, otherwise: str) -> None:
    """Refuse the receipt unless a condition holds."""
    if not condition:
        raise NotProvenError(otherwise)


# -- hashes and texts --------------------------------------------------------------------------------------------------


def leaf_hash(body: bytes) -> bytes:
    """Hash a row. The byte in front keeps rows and inner nodes apart (RFC 6962, section 2.1)."""
    return hashlib.sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two neighbours in the tree into the node above them."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_from(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes:
    """Return the root that a proof leads to, from a leaf at a place in a tree (RFC 9162, section 2.1.3.2)."""
    demand(index < size, f"a log of {size} rows has no row at index {index}")
    place, last, current = index, size - 1, leaf
    for digest in proof:
        demand(last, "the proof is too long")
        if place & 1 or place == last:  # we are a right child, or the last of an incomplete level
            current = node_hash(digest, current)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            current = node_hash(current, digest)
        place, last = place >> 1, last >> 1
    demand(not last, "the proof is too short")
    return current


def unbase64(text: str) -> bytes:
    """Return what a text spells in base64, of which only one spelling is good."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    demand(data and base64.b64encode(data).decode() == text, f"not base64: {text[:100]!a}")
    return data


def whole_number(text: str) -> int:
    """Return a number that is written in decimal, without zeros in front."""
    demand(re.fullmatch("0|[1-9][0-9]{0,18}", text), f"not a number: {text[:100]!a}")
    return int(text)


def spell(value: Any, levels: int = MOST_LEVELS) -> str:
    """Spell a value in the one way that a row may (RFC 8785, whole numbers only, half characters escaped)."""
    if isinstance(value, (dict, list)):
        demand(levels, f"a row is more than {MOST_LEVELS} levels deep")
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{spell(name)}:{spell(value[name], levels - 1)}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(spell(one, levels - 1) for one in value) + "]"
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", json.dumps(value, ensure_ascii=False))
    if isinstance(value, float) or (isinstance(value, int) and abs(value) > MOST_INT):
        raise NotProvenError("a number in a row is not a whole one that every reader keeps exactly")
    return json.dumps(value)


# -- the three parts ---------------------------------------------------------------------------------------------------


def read_row(body: str) -> dict[str, Any]:
    """Return the fields of a row, which must be spelled in the one way there is: then nobody can read it otherwise."""
    try:
        row = json.loads(body)
        spelled = spell(row)
    except (ValueError, RecursionError) as error:
        raise NotProvenError(f"a row is not JSON: {error}") from None
    demand(spelled == body and isinstance(row, dict), "a row is not in its one spelling")
    for name, kind in FIELDS.items():
        demand(type(row.get(name)) is kind, f"the {name} of a row is missing or wrong")
    for name, kind in OPTIONAL_FIELDS.items():
        demand(name not in row or type(row[name]) is kind, f"the {name} of a row is wrong")
        demand(row.get(name) not in ([], {}), f"the {name} of a row is empty, where it would be left out")
    demand(not row.keys() - FIELDS.keys() - OPTIONAL_FIELDS.keys(), "a row has a field that no row has")
    demand(row["v"] == 1, f"a row has version {row['v']}, and this program reads version 1")
    return row


def read_rows(part: str) -> list[dict[str, Any]]:
    """Return the rows, each holding on to the one before by its digest."""
    first_line, *bodies = part.split("\n")
    demand(first_line == "donewhen.receipt/v1" and bodies, "not a receipt: it begins with another line, or has no row")
    rows = [read_row(body) for body in bodies]
    demand(rows[0]["seq"] >= 1, "a session's rows count from 1")
    demand((rows[0]["seq"] == 1) == (rows[0]["prev"] == NO_ROW), "the first row of a session follows no other")
    for number, row in enumerate(rows[1:]):
        before = rows[number]
        demand(row["session"] == before["session"], "two rows are of two sessions")
        demand(row["seq"] == before["seq"] + 1 and row["id"] > before["id"], "a row is missing, or out of order")
        demand(
            row["prev"] == base64.b64encode(leaf_hash(bodies[number].encode())).decode(),
            f"row {row['id']} follows another row",
        )
    return rows


def read_proof(part: str) -> tuple[int, list[bytes]]:
    """Return the index that a proof is for, and its digests."""
    lines = part.split("\n")
    demand(lines[0] == "c2sp.org/tlog-proof@v1" and len(lines) >= 2, "there is no tlog-proof behind the rows")
    demand(lines[1].startswith("index "), "the proof does not say for which index it is")
    digests = [unbase64(line) for line in lines[2:]]
    demand(all(len(digest) == 32 for digest in digests), "a digest of the proof has not 32 bytes")
    return whole_number(lines[1].removeprefix("index ")), digests


def read_checkpoint(text: str) -> tuple[str, int, bytes]:
    """Return the log's name, its size and its root, from the three lines that are signed."""
    lines = text.split("\n")
    demand(len(lines) == 4 and lines[0] and not lines[3], "a checkpoint has three lines: name, size and root")
    size, root = whole_number(lines[1]), unbase64(lines[2])
    demand(size <= MOST_SIZE and len(root) == 32, "a checkpoint states no size that can be, or no root of 32 bytes")
    return lines[0], size, root


def read_signatures(block: str) -> list[tuple[str, bytes, bytes]]:
    """Return who signed, by name and by the first four bytes of a digest of their key, and each signature."""
    demand(block.endswith("\n") and block.count("\n") <= MOST_SIGNATURES, "the signature lines are not whole lines")
    found = []
    for line in block[:-1].split("\n"):
        parts = line.split(" ")
        demand(len(parts) == 3 and parts[0] == "—", f"not a signature line: {line[:100]!a}")
        demand(is_name(parts[1]), f"not the name of a key: {parts[1][:100]!a}")
        data = unbase64(parts[2])
        demand(len(data) > 4, "a signature line has no signature")
        found.append((parts[1], data[:4], data[4:]))
    return found


def is_name(name: str) -> bool:
    """Tell whether a text can be a key's name."""
    return bool(name) and "+" not in name and not any(letter.isspace() or ord(letter) < 32 for letter in name)


# -- keys and signatures -----------------------------------------------------------------------------------------------


def read_key(vkey: str, kind: int) -> tuple[str, bytes, Ed25519PublicKey]:
    """Return name, short digest and public key, from the text name+digest+key of a verifier key."""
    try:
        name, digest, key = vkey.split("+", 2)
        data = unbase64(key)
    except (ValueError, NotProvenError):
        raise CannotProveError("a public key is one line, name+digest+key") from None
    short = hashlib.sha256(f"{name}\n".encode() + data).digest()[:4]
    if len(data) != 33 or digest != short.hex() or not is_name(name):
        raise CannotProveError("the public key is damaged: its parts do not fit one another")
    if data[0] != kind:
        wanted = "a log's key (Ed25519, 01)" if kind == LOG_KEY else "a witness's key (cosignature/v1, 04)"
        raise CannotProveError(f"{name!a} is not {wanted}")
    return name, short, Ed25519PublicKey.from_public_bytes(data[1:])


def find_signature(signatures: list[tuple[str, bytes, bytes]], name: str, short: bytes) -> bytes | None:
    """Return the signature of one key. Lines of keys that nobody asked about are not looked at."""
    found = [signature for who, digest, signature in signatures if (who, digest) == (name, short)]
    demand(len(found) < 2, f"{name!a} signed twice")
    return found[0] if found else None


def check_signature(key: Ed25519PublicKey, name: str, signature: bytes, message: str) -> None:
    """Refuse the receipt unless the signature over a message is the key's."""
    try:
        key.verify(signature, message.encode())
    except InvalidSignature:
        raise NotProvenError(f"the signature of {name!a} is not good") from None


def cosigned_at(vkey: str, text: str, signatures: list[tuple[str, bytes, bytes]]) -> tuple[str, int]:
    """Return a witness's name and when it cosigned the checkpoint, in seconds since 1970."""
    name, short, key = read_key(vkey, WITNESS_KEY)
    signature = find_signature(signatures, name, short)
    if signature is None:
        raise CannotProveError(f"the witness {name!a} has not cosigned the checkpoint in this receipt")
    demand(len(signature) == 72, f"the cosignature of {name!a} is not good")
    seconds = int.from_bytes(signature[:8], "big")
    demand(0 < seconds <= MOST_SIZE, f"the cosignature of {name!a} is not good")
    check_signature(key, name, signature[8:], f"cosignature/v1\ntime {seconds}\n{text}")
    return name, seconds


# -- all of it ---------------------------------------------------------------------------------------------------------


def verify(data: bytes, vkey: str, witnesses: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what a receipt proves, or raise."""
    name, short, key = read_key(vkey, LOG_KEY)
    demand(len(data) <= MOST_BYTES, f"a receipt has at most {MOST_BYTES} bytes")
    try:
        receipt = data.decode("utf-8")
    except UnicodeDecodeError:
        raise NotProvenError("a receipt is UTF-8 text") from None
    demand(not any(ord(letter) < 32 for letter in receipt.replace("\n", "")), "a receipt has no control characters")

    # 1. The checkpoint is signed by the key that was given.
    rows_part, _, others = receipt.partition("\n\n")
    proof_part, _, note = others.partition("\n\n")
    text, blank, block = note.rpartition("\n\n")
    demand(blank, "there is no signed checkpoint at its end")
    text += "\n"
    signatures = read_signatures(block)
    signature = find_signature(signatures, name, short)
    demand(signature is not None, f"the checkpoint is not signed by {name!a}, whose key was given")
    check_signature(key, name, signature or b"", text)
    origin, size, root = read_checkpoint(text)
    demand(origin == name, f"the checkpoint is of the log {origin!a}, and the key is that of {name!a}")

    # 2. The rows follow one another, and the last one is under the root that was signed.
    rows = read_rows(rows_part)
    index, proof = read_proof(proof_part)
    demand(rows[-1]["id"] == index + 1, "the proof is for another row than the last one")
    last = rows_part.rsplit("\n", 1)[1]
    demand(root_from(leaf_hash(last.encode()), index, size, proof) == root, "the last row is not under the signed root")

    # 3. Each witness that was asked for has seen this checkpoint.
    cosigned = [cosigned_at(witness, text, signatures) for witness in witnesses]
    return {"rows": rows, "origin": origin, "size": size, "root": root.hex(), "signed_by": name, "cosigned": cosigned}


def tell(proven: dict[str, Any]) -> None:
    """Print what is proven, and what is not."""
    rows = proven["rows"]
    first, last = rows[0], rows[-1]
    print(f"PROVEN: these {len(rows)} rows of the session {first['session']!a} stand in the log.")
    for row in rows:
        passed = "ok" if row["pass"] else "not ok"
        print(f"  row {row['id']}  no. {row['seq']}  {row['at']!a}  {row['kind']!a}  {passed}")
    print(f"Log:     {proven['origin']!a}, {proven['size']} rows, root {proven['root']}")
    print(f"Signed:  by {proven['signed_by']!a}, with the key that was given")
    for name, seconds in proven["cosigned"]:
        print(f"Witness: {name!a} had seen this log by {clock(seconds)}")
    print("Not said here:")
    if first["seq"] > 1:
        print(f"  - what stands in the session's rows 1 to {first['seq'] - 1}, which are not shown;")
    print(f"  - whether the session has rows after its no. {last['seq']};")
    if not proven["cosigned"]:
        print("  - whether others are shown the same log: no witness was asked for;")
    print("  - whether what the rows say is true, and whether the clock was right.")


def clock(seconds: int) -> str:
    """Return a time for people; as a number where no calendar reaches so far."""
    if seconds > 200 * 10**9:
        return f"second {seconds} since 1970"
    return str(datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds))


def main() -> int:
    """Read the command line, check the receipt, tell."""
    parser = argparse.ArgumentParser(description="Check a donewhen receipt against the public key that you hold.")
    parser.add_argument("file", help="the receipt; - for standard input")
    parser.add_argument("--key", required=True, help="the log's public key, or a file that holds it")
    parser.add_argument(
        "--witness", action="append", default=[], help="the public key of a witness that must have seen it"
    )
    given = parser.parse_args()
    try:
        data = sys.stdin.buffer.read() if given.file == "-" else Path(given.file).read_bytes()
        key, *witnesses = [read_key_text(text) for text in (given.key, *given.witness)]
        tell(verify(data, key, tuple(witnesses)))
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except NotProvenError as error:
        print(f"NOT PROVEN: {error}.", file=sys.stderr)
        return 7
    except CannotProveError as error:
        print(f"CANNOT BE PROVEN: {error}.", file=sys.stderr)
        return 8
    return 0


def read_key_text(given: str) -> str:
    """Return a public key that was given as text or as a file."""
    if "+" in given and not Path(given).exists():
        return given.strip()
    lines = Path(given).read_text("utf-8", "replace").splitlines()
    return next((line for line in lines if line and not line.startswith("#")), "")


if __name__ == "__main__":
    sys.exit(main())
