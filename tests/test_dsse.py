"""Signed envelopes: what others sign is read, what we sign others read, and ours have one spelling."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donewhen.dsse import MOST_SIGNATURES, Envelope, Signature, loads, loads_foreign, pae
from donewhen.errors import EnvelopeError
from donewhen.notes import LocalSigner, Verifier

VECTORS = json.loads((Path(__file__).parent / "vectors" / "dsse.json").read_text(encoding="utf-8"))
EXAMPLE = VECTORS["example"]
KEYS = {name: Verifier(name, bytes.fromhex(key)) for name, key in VECTORS["keys"].items()}

SIGNER = LocalSigner("example.com/ann", bytes(range(32)))
OTHER = LocalSigner("example.com/ben", bytes(range(1, 33)))
ENVELOPE = Envelope(b'{"a":1}', "text/x").sign(SIGNER)

kinds = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30)
signatures = st.lists(st.builds(Signature, st.text(max_size=9), st.binary(max_size=70)), max_size=3)
envelopes = st.builds(Envelope, st.binary(max_size=60), kinds, signatures.map(tuple))


# -- the specification -------------------------------------------------------------------------------------------------


def test_the_specifications_example_is_encoded_and_read() -> None:
    assert pae(EXAMPLE["payloadType"], EXAMPLE["payload"].encode()) == EXAMPLE["pae"].encode()
    envelope = loads_foreign(EXAMPLE["envelope"])
    assert (envelope.payload, envelope.payload_type) == (b"hello world", EXAMPLE["payloadType"])
    assert [one.keyid for one in envelope.signatures] == [""]


def test_the_specifications_example_signature_is_over_what_we_encode() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    envelope = loads_foreign(EXAMPLE["envelope"])
    raw = envelope.signatures[0].sig
    signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key = ec.EllipticCurvePublicNumbers(int(EXAMPLE["x"]), int(EXAMPLE["y"]), ec.SECP256R1()).public_key()
    assert key.verify(signature, envelope.pae(), ec.ECDSA(SHA256())) is None


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["id"])
def test_each_vector_is_signed_by_whom_it_says(vector: dict[str, Any]) -> None:
    envelope = loads_foreign(json.dumps(vector["envelope"]))
    assert [name for name, key in KEYS.items() if envelope.verify(key)] == vector["signed_by"]
    assert vector["pae"] is None or envelope.pae().hex() == vector["pae"]
    again = loads(envelope.dumps())
    assert again == envelope
    assert [name for name, key in KEYS.items() if again.verify(key)] == vector["signed_by"]


def test_an_envelope_without_a_type_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="without a payload type"):
        loads_foreign(json.dumps(VECTORS["no_type"]))


# -- securesystemslib --------------------------------------------------------------------------------------------------


def test_securesystemslib_reads_what_we_signed() -> None:
    from securesystemslib.dsse import Envelope as Theirs
    from securesystemslib.signer import SSlibKey

    theirs = Theirs.from_dict(json.loads(ENVELOPE.dumps()))
    key = SSlibKey(SIGNER.vkey, "ed25519", "ed25519", {"public": SIGNER.verifier.public_key.hex()})
    assert theirs.verify([key], 1) == {SIGNER.vkey: key}
    assert theirs.pae() == ENVELOPE.pae()


def test_we_read_what_securesystemslib_signed() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.dsse import Envelope as Theirs
    from securesystemslib.signer import CryptoSigner

    theirs = Theirs(b"\x00\xff payload", "text/x", {})
    theirs.sign(CryptoSigner(Ed25519PrivateKey.from_private_bytes(SIGNER.private_bytes)))
    ours = loads_foreign(json.dumps(theirs.to_dict()))
    assert (ours.payload, ours.pae()) == (theirs.payload, theirs.pae())
    assert ours.verify(SIGNER.verifier)
    assert not ours.verify(OTHER.verifier)


@given(kinds, st.binary(max_size=80))
def test_securesystemslib_encodes_what_is_signed_as_we_do(kind: str, payload: bytes) -> None:
    from securesystemslib.dsse import Envelope as Theirs

    assert Theirs(payload, kind, {}).pae() == pae(kind, payload)


# -- signing -----------------------------------------------------------------------------------------------------------


def test_several_keys_sign_one_envelope() -> None:
    both = ENVELOPE.sign(OTHER)
    assert both.verify(SIGNER.verifier)
    assert both.verify(OTHER.verifier)
    assert not ENVELOPE.verify(OTHER.verifier)
    assert [one.keyid for one in both.signatures] == [SIGNER.vkey, OTHER.vkey]


def test_a_key_id_is_a_hint_that_decides_nothing() -> None:
    [signature] = ENVELOPE.signatures
    for keyid in ("", OTHER.vkey, "nonsense"):
        named = Envelope(ENVELOPE.payload, ENVELOPE.payload_type, (Signature(keyid, signature.sig),))
        assert named.verify(SIGNER.verifier)
        assert not named.verify(OTHER.verifier)


@pytest.mark.parametrize(
    "changed",
    [
        Envelope(ENVELOPE.payload + b" ", ENVELOPE.payload_type, ENVELOPE.signatures),
        Envelope(ENVELOPE.payload, "text/y", ENVELOPE.signatures),
        Envelope(ENVELOPE.payload[:-1], "text/x 8 x", ENVELOPE.signatures),
        Envelope(ENVELOPE.payload, ENVELOPE.payload_type),
        Envelope(ENVELOPE.payload, ENVELOPE.payload_type, (Signature("", b""),)),
        Envelope(ENVELOPE.payload, ENVELOPE.payload_type, (Signature("", ENVELOPE.signatures[0].sig + b"\0"),)),
    ],
)
def test_what_was_not_signed_does_not_verify(changed: Envelope) -> None:
    assert not changed.verify(SIGNER.verifier)


@given(kinds, st.binary(max_size=40), kinds, st.binary(max_size=40))
def test_two_things_are_never_signed_as_one(kind: str, payload: bytes, other_kind: str, other: bytes) -> None:
    assert (pae(kind, payload) == pae(other_kind, other)) == ((kind, payload) == (other_kind, other))


# -- spelling ----------------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(envelopes)
def test_an_envelope_is_read_back_as_it_was(envelope: Envelope) -> None:
    assert loads(envelope.dumps()) == envelope
    assert loads_foreign(envelope.dumps()) == envelope


def as_fields() -> dict[str, Any]:
    return json.loads(ENVELOPE.dumps())


OTHER_SPELLINGS = {
    "white space": json.dumps(as_fields()),
    "indented": json.dumps(as_fields(), indent=1),
    "unsorted": json.dumps(dict(reversed(as_fields().items())), separators=(",", ":")),
    "a line feed behind it": ENVELOPE.dumps() + "\n",
    "an escape": ENVELOPE.dumps().replace("text", "\\u0074ext"),
    "an unknown field": ENVELOPE.dumps().replace('{"payload"', '{"cert":"x","payload"'),
    "an empty key id": ENVELOPE.dumps().replace(SIGNER.vkey, ""),
    "a key id of null": ENVELOPE.dumps().replace(f'"{SIGNER.vkey}"', "null"),
}


@pytest.mark.parametrize("name", OTHER_SPELLINGS)
def test_another_spelling_is_read_as_somebody_elses_and_never_as_ours(name: str) -> None:
    text = OTHER_SPELLINGS[name]
    with pytest.raises(EnvelopeError):
        loads(text)
    assert loads_foreign(text).payload == ENVELOPE.payload


def test_url_safe_base64_is_read_as_somebody_elses_alone() -> None:
    fields = {"payload": "-_-_", "payloadType": "t", "signatures": []}
    text = json.dumps(fields, separators=(",", ":"))
    with pytest.raises(EnvelopeError, match="payload is not base64"):
        loads(text)
    assert loads_foreign(text).payload == base64.b64decode("+/+/")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '"text"',
        "[" * 5_000,
        '{"payload":"","payload":"","payloadType":"t","signatures":[]}',
        '{"payload":"","payloadType":"t"}',
        '{"payload":1,"payloadType":"t","signatures":[]}',
        '{"payload":"","payloadType":1,"signatures":[]}',
        '{"payload":"","payloadType":"\\ud800","signatures":[]}',
        '{"payload":"","payloadType":"t","signatures":{}}',
        '{"payload":"","payloadType":"t","signatures":[null]}',
        '{"payload":"","payloadType":"t","signatures":[{"keyid":"k"}]}',
        '{"payload":"","payloadType":"t","signatures":[{"keyid":1,"sig":""}]}',
        '{"payload":"A","payloadType":"t","signatures":[]}',
        '{"payload":"AA","payloadType":"t","signatures":[]}',
        '{"payload":"AB==","payloadType":"t","signatures":[]}',
        '{"payload":"AA==\\n","payloadType":"t","signatures":[]}',
        '{"payload":"+_+_","payloadType":"t","signatures":[]}',
        '{"payload":"é","payloadType":"t","signatures":[]}',
    ],
)
def test_what_is_no_envelope_is_refused(text: str) -> None:
    for read in (loads, loads_foreign):
        with pytest.raises(EnvelopeError):
            read(text)


@given(st.text(max_size=60) | st.builds(json.dumps, st.recursive(st.none() | st.integers() | st.text(), st.lists)))
def test_any_text_is_an_envelope_or_refused(text: str) -> None:
    for read in (loads, loads_foreign):
        with pytest.raises(EnvelopeError):
            read(text)


def test_more_than_anybody_reads_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="at most 4000000 characters"):
        loads_foreign(" " * 4_000_001)
    with pytest.raises(EnvelopeError, match=f"at most {MOST_SIGNATURES} signatures"):
        Envelope(b"", "t", (Signature("", b""),) * (MOST_SIGNATURES + 1))


def mutated(text: str, random: Random) -> str:
    """Return a text with one character changed, put in, taken out, or doubled."""
    at, letter = random.randrange(len(text)), random.choice('0aZ+/=_- {}[]",:\\\n\tuE.é')
    return text[:at] + random.choice([letter, letter + text[at], "", text[at] * 2]) + text[at + 1 :]


def test_of_ten_thousand_other_texts_none_passes_for_what_was_signed() -> None:
    random, text, read = Random(7), ENVELOPE.dumps(), 0
    for _ in range(10_000):
        other = mutated(text, random)
        try:
            envelope = loads(other)
        except EnvelopeError:
            continue
        read += 1
        assert envelope.dumps() == other
        same = (envelope.payload, envelope.payload_type) == (ENVELOPE.payload, ENVELOPE.payload_type)
        assert other == text or not same or envelope.signatures != ENVELOPE.signatures
        assert same or not envelope.verify(SIGNER.verifier)
    assert 100 < read < 9_000
