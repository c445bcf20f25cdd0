"""Signed envelopes: a payload, what kind of thing it is, and the signatures of one or more keys over both.

What is signed is the payload with its type and both lengths, so a signature over one kind of thing can never pass for
one over another. A key id is a hint that nobody signed: it orders the keys that are tried and decides nothing.

An envelope of ours has one spelling, canonical JSON with standard base64, and `loads` reads no other. One that other
software wrote is read by `loads_foreign`, since the specification leaves its spelling open, and is spelled our way from
then on: the signatures are over the payload, not over the envelope.

Source: DSSE v1 (secure-systems-lab/dsse, protocol.md and envelope.md).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from donewhen import canonical
from donewhen.errors import EnvelopeError

if TYPE_CHECKING:
    from donewhen.notes import Signer, Verifier

MOST_SIGNATURES = 32
"""Signatures in one envelope."""

MOST_CHARACTERS = 4_000_000
"""Characters of an envelope; whatever is longer is no review."""

_FIELDS = {"payload", "payloadType", "signatures"}


@dataclass(frozen=True, slots=True)
class Signature:
    """One key's signature over an envelope's payload and its type."""

    keyid: str
    """Which key may have signed; nobody signed this. Empty: not said."""
    sig: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload, its type, and the signatures over both.

    Raises:
        EnvelopeError: it has no type, or more signatures than anybody reads.
    """

    payload: bytes
    payload_type: str
    """Says how to read the payload; it is signed with it."""
    signatures: tuple[Signature, ...] = ()

    def __post_init__(self) -> None:
        if not self.payload_type:
            raise EnvelopeError("an envelope without a payload type says nothing that can be read")
        if len(self.signatures) > MOST_SIGNATURES:
            raise EnvelopeError(f"an envelope has at most {MOST_SIGNATURES} signatures, not {len(self.signatures)}")

    def pae(self) -> bytes:
        """Return the bytes that are signed."""
        return pae(self.payload_type, self.payload)

    def sign(self, signer: Signer) -> Envelope:
        """Return the envelope with one more signature; its key id is the signer's verifier key.

        Raises:
            EnvelopeError: there is no room for another signature.
        """
        signature = Signature(signer.vkey, signer.sign(self.pae()))
        return Envelope(self.payload, self.payload_type, (*self.signatures, signature))

    def verify(self, verifier: Verifier) -> bool:
        """Tell whether a key signed it, whatever the key ids say.

        Raises:
            MissingExtraError: the ``sign`` extra is not installed.
        """
        message = self.pae()
        # The hint only says where to look first.
        hinted = sorted(self.signatures, key=lambda one: one.keyid != verifier.vkey)
        return any(verifier.verify(message, one.sig) for one in hinted)

    def dumps(self) -> str:
        """Return the one spelling that `loads` reads."""
        signatures = [
            {"sig": _to_base64(one.sig)} | ({"keyid": one.keyid} if one.keyid else {}) for one in self.signatures
        ]
        fields = {"payload": _to_base64(self.payload), "payloadType": self.payload_type, "signatures": signatures}
        try:
            return canonical.dumps(fields).decode("utf-8")
        except (TypeError, ValueError) as error:
            raise EnvelopeError(f"the envelope cannot be spelled: {error}") from error


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed of a payload and its type: both, each behind its length in bytes.

    Source: DSSE v1, PAE.
    """
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def loads(text: str) -> Envelope:
    """Read an envelope as `Envelope.dumps` spells it, and refuse every other spelling.

    Raises:
        EnvelopeError: the text is not an envelope, or is spelled another way.
    """
    _refuse_long(text)
    try:
        envelope = _read(canonical.loads(text), foreign=False)
    except ValueError as error:
        raise _malformed(error) from error
    if envelope.dumps() != text:
        raise EnvelopeError("the envelope is spelled another way than this donewhen spells it")
    return envelope


def loads_foreign(text: str) -> Envelope:
    """Read an envelope that other software wrote: any layout of JSON, either base64, and fields that we do not know.

    Raises:
        EnvelopeError: the text is not an envelope, or has a key twice.
    """
    _refuse_long(text)
    try:
        return _read(json.loads(text, object_pairs_hook=_once_each), foreign=True)
    except (ValueError, RecursionError) as error:
        raise _malformed(error) from error


def _read(raw: Any, *, foreign: bool) -> Envelope:
    fields = _object(raw, "the envelope")
    if not _FIELDS.issubset(fields) or (not foreign and len(fields) != len(_FIELDS)):
        raise EnvelopeError(f"an envelope has the fields {', '.join(sorted(_FIELDS))}, not {_shown(sorted(fields))}")
    if not isinstance(fields["signatures"], list):
        raise EnvelopeError("an envelope's signatures are a list")
    signatures = [_signature(one, foreign=foreign) for one in cast("Sequence[Any]", fields["signatures"])]
    payload_type = _text(fields["payloadType"], "payloadType")
    return Envelope(_bytes(fields["payload"], "payload", foreign=foreign), payload_type, tuple(signatures))


def _signature(raw: Any, *, foreign: bool) -> Signature:
    fields = _object(raw, "a signature")
    if "sig" not in fields or (not foreign and not {"keyid", "sig"}.issuperset(fields)):
        raise EnvelopeError(f"a signature has the fields keyid and sig, not {_shown(sorted(fields))}")
    keyid = _text(fields.get("keyid") or "", "keyid")
    return Signature(keyid, _bytes(fields["sig"], "sig", foreign=foreign))


def _object(raw: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise EnvelopeError(f"{what} is not an object")
    return cast("Mapping[str, Any]", raw)


def _text(raw: Any, name: str) -> str:
    if not isinstance(raw, str):
        raise EnvelopeError(f"the envelope's {name} is not text")
    try:
        raw.encode("utf-8")
    except UnicodeEncodeError as error:
        raise EnvelopeError(f"the envelope's {name} has half a character in it") from error
    return raw


def _bytes(raw: Any, name: str, *, foreign: bool) -> bytes:
    text = _text(raw, name)
    spellings = ("+/", "-_") if foreign else ("+/",)
    for alphabet in spellings:
        try:
            data = base64.b64decode(text, altchars=alphabet, validate=True)
        except ValueError:
            continue
        if base64.b64encode(data, altchars=alphabet.encode()).decode("ascii") == text:
            return data
    raise EnvelopeError(f"the envelope's {name} is not base64 in its one spelling")


def _once_each(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise EnvelopeError("a key is there twice")
    return found


def _refuse_long(text: str) -> None:
    if len(text) > MOST_CHARACTERS:
        raise EnvelopeError(f"an envelope has at most {MOST_CHARACTERS} characters, not {len(text)}")


def _malformed(error: Exception) -> EnvelopeError:
    return error if isinstance(error, EnvelopeError) else EnvelopeError(f"not a DSSE envelope: {error}")


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _shown(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 100 else f"{shown[:97]}..."
