"""Sessions in the record format of the agent audit trail draft: for exchange, not proof.

Each row becomes a record, and each tool call that a reply asks for one of its own. A first record says where the others
are from and that they prove nothing, since whoever made this file could have made another. Proof is in a receipt:
every record names its row and the row's digest in the log.

What the draft asks for and a ledger does not know is not made up. The agent's version is 0.0.0 unless it is given. No
digest of ours stands in a field for which the draft says how it is made, except `parameters_hash` and `response_hash`,
which it demands: the first record says how ours are made.

Identifiers are shaped as UUIDs of version 4 and made from digests, so that the same rows give the same records.

Source: draft-sharif-agent-audit-trail-00 (29 March 2026, an individual draft).
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from donewhen import canonical
from donewhen.balance import CEILING_NAMES
from donewhen.entry import LedgerRow, spell
from donewhen.errors import KeyFileError, LedgerFormatError, MissingExtraError
from donewhen.merkle import leaf_hash

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

DRAFT = "draft-sharif-agent-audit-trail-00"
LABEL = "for exchange, not proof"
UNKNOWN_VERSION = "0.0.0"

SCALAR_BYTES = 32
"""Of each half of an ES256 signature."""

Sign = Callable[[bytes], bytes]
"""Returns the ES256 signature over a message: 64 bytes."""

_PLAIN = "parameters_hash: SHA-256 of 'donewhen/v1/arguments', a NUL byte and the arguments in RFC 8785; response_hash: SHA-256"
_KEYED = "HMAC-SHA-256 with a key that the ledger's owner holds: equal ones are of equal texts, and nobody else can try"
"""How `parameters_hash` and `response_hash` are made."""

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")
_VERSION = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_SURROGATES = re.compile("[\ud800-\udfff]")
_LIFECYCLE = {
    "spec": "configuration_change",
    "open": "configuration_change",
    "policy": "configuration_change",
    "budget": "configuration_change",
    "reconcile": "configuration_change",
    "close": "pause",
    "key": "key_rotation",
    "erase": "record_deleted",
}
"""The event of each kind of row that is no action of the agent."""

_LIFECYCLE_TOLD = ("outcome", "reason", "why", "who", "action", "budget", "parent", "period", "usage")
_DECISION_TOLD = (
    *("name", "check", "outcome", "stop_reason", "reviewer", "reason", "target", "state"),
    *("halted", "why", "who"),
    *("dimension", "ceiling", "spent", "reserved", "asked", "budget", "parent"),
)
"""What is said of a row, where it has it. Amounts are in the units of the ledger's rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Who acted, in the draft's words.

    Raises:
        ValueError: the identifier is not a URI, or the version not a semantic one.
    """

    agent_id: str
    """A URI that stays the same across restarts."""
    version: str = UNKNOWN_VERSION
    """Semantic version; 0.0.0: not known."""

    def __post_init__(self) -> None:
        if not _URI.fullmatch(self.agent_id):
            raise ValueError(f"an agent is named by a URI (scheme:name, ASCII, no spaces), not {self.agent_id!r}")
        if not _VERSION.fullmatch(self.version):
            raise ValueError(f"an agent's version is X.Y.Z (semantic versioning), not {self.version!r}")


def agent_of(origin: str) -> Agent:
    """Return the agent of a log about which nobody has said more."""
    return Agent(agent_id=f"urn:donewhen:log:{quote(origin, safe='')}")


def aat_records(
    rows: Sequence[LedgerRow], *, origin: str, agent: Agent, made_by: str, sign: Sign | None = None
) -> Iterator[bytes]:
    """Yield the records of a session, each as RFC 8785 spells it, without a line feed.

    Args:
        rows: all rows of the session in order, at least one.
        origin: the log's name.
        agent: who acted.
        made_by: the program that makes them, with its version.
        sign: signs each record. None: they are unsigned.

    Raises:
        LedgerFormatError: a row has a time that cannot be read, or lacks what its kind has.
    """
    session = _uuid_of("session", f"{origin}\n{rows[0].session_id}")
    chain = _Chain(_uuid4_or(rows[0].session_id, session), agent, "L0" if sign is None else "L1", sign)
    yield chain.add(_begin(rows, origin, made_by), rows[0].created_at, f"genesis {session}")
    for row in rows:
        digest = leaf_hash(spell(row)).hex()
        for number, action in enumerate(_read_actions(row)):
            detail = {**action["action_detail"], "donewhen": _place(row, digest)}
            yield chain.add({**action, "action_detail": detail}, row.created_at, f"row {digest} {number}")
    if _has_ended(rows):
        yield chain.end(rows[-1].created_at, f"end {session}")


class _Chain:
    """Records that hang on one another."""

    def __init__(self, session: str, agent: Agent, trust_level: str, sign: Sign | None) -> None:
        self._fixed = {
            "agent_id": agent.agent_id,
            "agent_version": agent.version,
            "session_id": session,
            "trust_level": trust_level,
        }
        self._sign = sign
        self._parent: str | None = None
        self._prev: str | None = None
        self._links = hashlib.sha256()
        self._count = 0
        self._newest = ""

    def add(self, action: Mapping[str, Any], at: str, seed: str) -> bytes:
        """Return one more record.

        Args:
            action: what only this record has.
            at: when, as a row says it.
            seed: what its identifier is made from.
        """
        record: dict[str, Any] = {**self._fixed, **action}
        record["record_id"] = _uuid_of("record", seed)
        # The draft lets no time go back. A clock that did is told beside the time.
        time = _milliseconds(at)
        self._newest = max(self._newest, time)
        record["timestamp"] = self._newest
        if time != self._newest:
            record["action_detail"] = {**record["action_detail"], "clock_said": time}
        record["parent_record_id"], record["prev_hash"] = self._parent, self._prev
        spelled = canonical.dumps(_spoken(record))
        if self._sign is not None:
            record["signature"] = base64.urlsafe_b64encode(self._sign(spelled)).rstrip(b"=").decode()
            spelled = canonical.dumps(_spoken(record))
        if self._prev is not None:
            self._links.update(bytes.fromhex(self._prev))
        self._parent, self._prev = record["record_id"], hashlib.sha256(spelled).hexdigest()
        self._count += 1
        return spelled

    def end(self, at: str, seed: str) -> bytes:
        """Return the record that closes the session over all links before it."""
        links = self._links.copy()
        links.update(bytes.fromhex(self._prev or ""))
        detail = {"event": "session_end", "session_hash": links.hexdigest(), "record_count": self._count + 1}
        return self.add(_record("lifecycle", detail), at, seed)


# -- what each row is in the draft's words -----------------------------------------------------------------------------


def _begin(rows: Sequence[LedgerRow], origin: str, made_by: str) -> dict[str, Any]:
    spec = next((row.data["spec_hash"] for row in rows if "spec_hash" in row.data), None)
    detail = {
        "event": "session_start",
        "label": LABEL,
        "draft": DRAFT,
        "made_by": made_by,
        "log": origin,
        "session": rows[0].session_id,
        "rows": len(rows),
        "hashes_are": _KEYED if any("input_key" in row.data for row in rows) else _PLAIN,
    }
    return _record("lifecycle", detail if spec is None else {**detail, "config_hash": spec})


def _read_actions(row: LedgerRow) -> list[dict[str, Any]]:
    try:
        return list(_actions(row))
    except (KeyError, TypeError, AttributeError) as error:
        raise LedgerFormatError(f"row {row.id} lacks what a {row.kind} row has: {error!r}") from error


def _actions(row: LedgerRow) -> Iterator[dict[str, Any]]:
    """Yield what a row stands for: one action, and the tool calls that a reply asks for."""
    common = {"latency_ms": row.execution_time_ms} if row.execution_time_ms else {}
    if isinstance(row.data.get("model"), str):
        common["model_id"] = row.data["model"]
    if isinstance(row.data.get("output_hash"), str):
        common["output_hash"] = row.data["output_hash"]
    yield {**_action(row), **common}
    calls: list[dict[str, Any]] = row.data.get("tools", []) if row.kind == "llm" else []
    for call in calls:
        outcome = "escalated" if call["held"] else "success" if call["run"] else "denied"
        detail = {"tool_name": call["name"], "parameters_hash": call["args_hash"], "call_id": call["id"]}
        yield _record("tool_call", detail, outcome)


def _action(row: LedgerRow) -> dict[str, Any]:
    data = row.data
    if row.kind in _LIFECYCLE:
        is_resumed = row.kind == "open" and bool(data.get("resumes"))
        event = "resume" if is_resumed else _LIFECYCLE[row.kind]
        return _record("lifecycle", {"event": event, **_told(data, *_LIFECYCLE_TOLD), **_ceilings(data)})
    if row.kind == "tool":
        detail = {"tool_name": data["name"], "response_hash": data["result_hash"], "call_id": data["call"]}
        return _record("tool_response", {**detail, **_told(data, "problem")}, _passed(row))
    if row.kind in ("error", "abandoned"):
        code = str(data.get("status", row.kind))
        detail = {"error_code": code, "error_category": "external", "error_message": data["problem"]}
        return _record("error", {**detail, "outcome_is_known": row.kind == "error"}, "failure")
    return _record("decision", {"decision_type": row.kind, **_told(data, *_DECISION_TOLD)}, _decided(row))


def _decided(row: LedgerRow) -> str:
    if row.kind in ("circuit_breaker", "reject") or (row.kind == "halt" and row.data["halted"]):
        return "denied"  # a halt that is lifted denies nothing
    if row.kind == "check" and row.data["outcome"] == "pending":
        return "escalated"
    return "failure" if row.kind == "release" and row.data.get("state") == "failed" else _passed(row)


def _passed(row: LedgerRow) -> str:
    return "success" if row.pass_fail else "failure"


def _record(action_type: str, detail: dict[str, Any], outcome: str = "success") -> dict[str, Any]:
    return {"action_type": action_type, "action_detail": detail, "outcome": outcome}


def _told(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: data[name] for name in names if name in data}


def _ceilings(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"ceilings": dict(zip(CEILING_NAMES, data["ceilings"], strict=True))} if "ceilings" in data else {}


def _place(row: LedgerRow, digest: str) -> dict[str, Any]:
    """Return where a record's row stands in the ledger, so that a reader gets back to what can be proven."""
    place: dict[str, Any] = {"row": row.id, "seq": row.seq, "kind": row.kind, "turn": row.turn_count}
    place["leaf_hash"] = digest
    if row.kind != row.state_origin:
        place["state_origin"] = row.state_origin
    if row.input_hash:
        place["input_hash"] = row.input_hash
    if row.token_delta:
        place["tokens"] = row.token_delta
    if row.data.get("cost_microusd") is not None:
        place["cost_microusd"] = row.data["cost_microusd"]
    return place


def _has_ended(rows: Sequence[LedgerRow]) -> bool:
    last = next((row for row in reversed(rows) if row.kind in ("open", "close")), None)
    return last is not None and last.kind == "close" and last.data.get("outcome") in ("done", "failed")


# -- identifiers, times, texts -----------------------------------------------------------------------------------------


def _uuid_of(what: str, seed: str) -> str:
    """Return a digest in the shape of a UUID of version 4, which is what the draft asks for."""
    digest = canonical.digest("aat", f"{what}\n{seed}".encode("utf-8", "surrogatepass"))
    return str(uuid.UUID(bytes=digest[:16], version=4))


def _uuid4_or(text: str, otherwise: str) -> str:
    try:
        found = uuid.UUID(text)
    except ValueError:
        return otherwise
    return text if found.version == 4 and str(found) == text else otherwise


def _milliseconds(at: str) -> str:
    """Return a row's time in the draft's spelling."""
    try:
        time = datetime.fromisoformat(at).astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        raise LedgerFormatError(f"a row's time cannot be read: {at[:40]!r}") from error
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"


def _spoken(value: Any) -> Any:
    """Return a value without half characters, which RFC 8785 knows no spelling for."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_spoken(name): _spoken(inner) for name, inner in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return [_spoken(inner) for inner in value] if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]


# -- signing -----------------------------------------------------------------------------------------------------------


def es256_signer(pem: bytes, where: str) -> Sign:
    """Return what signs with an ECDSA key on P-256.

    Args:
        pem: the private key, PEM, without a passphrase.
        where: where it is from, for messages.

    Raises:
        KeyFileError: it is not such a key.
        MissingExtraError: the ``sign`` extra is not installed.

    Source: ES256, RFC 7518 section 3.4: r and s of 32 bytes each, not DER.
    """
    key = _load_p256(pem, where)
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(message, ECDSA(SHA256())))
        return r.to_bytes(SCALAR_BYTES, "big") + s.to_bytes(SCALAR_BYTES, "big")

    return sign


def _load_p256(pem: bytes, where: str) -> EllipticCurvePrivateKey:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise MissingExtraError("sign", "signing an export") from error
    try:
        key = load_pem_private_key(pem, None)
    except TypeError as error:
        raise KeyFileError(where, "is locked with a passphrase; give a key without one") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(where, "is not a private key in PEM") from error
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise KeyFileError(where, "is not an ECDSA key on P-256, which is what ES256 signs with")
    return key
