from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from donewhen.testing import four_bytes_per_token, one_token_per_byte
from donewhen.testing.tokens import IMAGE_TOKENS, count_prompt


def test_four_ascii_bytes_are_a_token_and_every_other_character_is_one() -> None:
    assert [four_bytes_per_token(text) for text in ("", "abcd", "abcde", "é", "abcd漢字")] == [0, 1, 2, 1, 3]


def test_a_byte_is_a_token_at_worst() -> None:
    assert one_token_per_byte("a漢\ud800") == 1 + 3 + 3
    assert one_token_per_byte("\ufdfa") == 33


@given(st.text())
def test_no_count_is_above_the_bytes(text: str) -> None:
    assert four_bytes_per_token(text) <= one_token_per_byte(text)


def test_an_image_counts_a_fixed_number() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "x" * 100_000}}
    assert count_prompt(one_token_per_byte, [{"role": "user", "content": [image]}]) == 3 + IMAGE_TOKENS


def test_tools_and_the_system_prompt_count() -> None:
    tool = {"name": "find", "description": "It finds.", "input_schema": {}}
    assert count_prompt(one_token_per_byte, [], "system", [tool]) == 6 + 4 + 9 + 2
