"""How a `FakeProvider` counts tokens: truthfully, so that a bound that is too low shows.

Every text of a prompt is counted on its own (system, each block, each tool as canonical JSON), images at a fixed
number, and each message adds a small overhead, as the chat templates of real models do. The same text counts the same
as output and, echoed in the next request, as input.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

Count = Callable[[str], int]
"""Tokens in a text."""

MESSAGE_OVERHEAD_TOKENS = 3
IMAGE_TOKENS = 1_600

_NOT_PROMPT = frozenset(
    {"type", "id", "call_id", "tool_use_id", "tool_call_id", "role", "status", "cache_control"}
    | {"signature", "encrypted_content", "is_error"}
)
_IMAGES = frozenset({"image", "image_url", "input_image"})


def four_bytes_per_token(text: str) -> int:
    """Count one token for four ASCII bytes, rounded up, and one for every other character."""
    ascii_bytes = sum(character.isascii() for character in text)
    return -(-ascii_bytes // 4) + len(text) - ascii_bytes


def one_token_per_byte(text: str) -> int:
    """Count one token for each UTF-8 byte, of the text as it is or in NFC or NFKC if that is longer.

    The worst that a byte-level tokenizer, or one that normalizes first, can do: U+FDFA has 3 bytes, and 33 in NFKC.
    """
    forms = (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFKC", text))
    return max(len(form.encode("utf-8", "surrogatepass")) for form in forms)


def count_prompt(count: Count, messages: Sequence[object], *other: object) -> int:
    """Return the input tokens of a request.

    Args:
        count: tokens in one text.
        messages: the conversation.
        other: system prompt, tools and what else the model reads.
    """
    overhead = MESSAGE_OVERHEAD_TOKENS * len(messages)
    return overhead + sum(count_value(count, value) for value in (*other, *messages))


def count_value(count: Count, value: object) -> int:
    """Return the tokens of one block, message or tool, texts within it counted one by one."""
    if isinstance(value, str):
        return count(value)
    if isinstance(value, Mapping):
        return _count_mapping(count, cast("Mapping[str, Any]", value))
    if isinstance(value, Iterable):
        return sum(count_value(count, item) for item in cast("Iterable[object]", value))
    return 0 if value is None else count(json.dumps(value))


def _count_mapping(count: Count, block: Mapping[str, Any]) -> int:
    if block.get("type") in _IMAGES:
        return IMAGE_TOKENS
    total = 0
    for key, value in block.items():
        if key in ("input", "input_schema", "parameters"):  # JSON that the model reads as it is spelt
            total += count(json.dumps(value, ensure_ascii=False))
        elif key not in _NOT_PROMPT:
            total += count_value(count, value)
    return total
