"""Hashes of texts, with and without a key."""

from __future__ import annotations

import hashlib
import hmac
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen import canonical
from donewhen.texts import LEAST_KEY_BYTES, PLAIN, Hasher, commit_to, encode_text, hash_input

KEY = bytes(range(32))
TEXT = st.text(st.characters(), max_size=40)


def test_without_a_key_a_text_has_its_plain_sha_256() -> None:
    assert PLAIN.text("yes") == hash_input("yes") == hashlib.sha256(b"yes").hexdigest()
    assert PLAIN.hash_hex("arguments", b"{}") == canonical.hash_hex("arguments", b"{}")
    assert PLAIN.key_id is None


def test_with_a_key_it_is_the_hmac_of_rfc_2104() -> None:
    assert Hasher(KEY).text("yes") == hmac.new(KEY, b"yes", "sha256").hexdigest()
    expected = hmac.new(KEY, canonical.digest("arguments", b"{}"), "sha256").hexdigest()
    assert Hasher(KEY).hash_hex("arguments", b"{}") == expected


def test_the_hmac_is_that_of_rfc_4231() -> None:
    """Test case 6: a key longer than a block."""
    data = "Test Using Larger Than Block-Size Key - Hash Key First"
    expected = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    assert Hasher(b"\xaa" * 131).text(data) == expected


@given(TEXT, TEXT)
def test_equal_texts_show_and_others_do_not(one: str, other: str) -> None:
    hasher = Hasher(KEY)
    assert (hasher.text(one) == hasher.text(other)) == (one == other)


@given(TEXT)
def test_a_keyed_hash_is_neither_the_plain_one_nor_that_of_another_key(text: str) -> None:
    assert len({PLAIN.text(text), Hasher(KEY).text(text), Hasher(KEY[::-1]).text(text)}) == 3


@given(TEXT)
def test_a_keyed_hash_needs_no_utf_8(text: str) -> None:
    assert Hasher(KEY).text(text) == hmac.new(KEY, encode_text(text), "sha256").hexdigest()


@pytest.mark.parametrize("key", ["k" * 32, bytearray(32), memoryview(KEY), 32, True, list(KEY)])
def test_a_key_that_is_not_bytes_is_refused_and_not_shown(key: object) -> None:
    with pytest.raises(ValueError, match=f"input_key is a {type(key).__name__}, not bytes"):
        Hasher(key)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("length", [0, 1, LEAST_KEY_BYTES - 1])
def test_a_short_key_is_refused_and_not_shown(length: int) -> None:
    with pytest.raises(ValueError, match="fewer than 16 can be guessed") as caught:
        Hasher(b"q" * length)
    assert "q" not in str(caught.value)
    assert Hasher(b"q" * LEAST_KEY_BYTES).key_id is not None


def test_the_id_of_a_key_tells_it_from_others_and_does_not_give_it_away() -> None:
    key_id = Hasher(KEY).key_id
    assert key_id is not None
    assert key_id == Hasher(KEY).key_id != Hasher(KEY[::-1]).key_id
    assert len(key_id) == 16
    assert key_id not in (KEY.hex(), Hasher(KEY).text(""), hashlib.sha256(KEY).hexdigest()[:16])


def test_a_key_does_not_get_into_a_message_or_a_log() -> None:
    assert repr(Hasher(KEY)) == "Hasher()"
    assert pickle.loads(pickle.dumps(Hasher(KEY))) == Hasher(KEY)


@pytest.mark.parametrize("hasher", [PLAIN, Hasher(KEY)])
def test_what_is_not_text_is_refused(hasher: Hasher) -> None:
    with pytest.raises(ValueError, match="not text"):
        hasher.text(b"bytes")  # pyright: ignore[reportArgumentType]


def test_a_commitment_depends_on_salt_and_text() -> None:
    made = {commit_to(b"s" * 32, b"text"), commit_to(b"t" * 32, b"text"), commit_to(b"s" * 32, b"other")}
    assert len(made) == 3
