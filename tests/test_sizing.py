"""How large a text, a block or an option can at most be, and what nobody can size."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donewhen.bounds import Request, Transcript
from donewhen.errors import UnboundedRequestError
from donewhen.sizing import text_bytes, text_estimate

SHORTER_IN_NFKC = "\U0001d400" * 8
LONGER_IN_NFC = "\U0001d160" * 3
TEXT = st.text(max_size=40) | st.sampled_from(
    ["\ufdfa" * 9, SHORTER_IN_NFKC + LONGER_IN_NFC, "你好", "e\u0301" * 5, "\uff21" * 5, "\ud800", '"\\\n\t' * 9]
)


def raw_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def normal_bytes(text: str) -> int:
    return max(raw_bytes(unicodedata.normalize(form, text)) for form in ("NFC", "NFKC"))


def size(*messages: dict[str, Any], **options: Any) -> int:
    return Request.of(model="m", messages=messages, **options).most_input_tokens("strict")


def said(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


# -- texts ------------------------------------------------------------------------------------------------------------


@given(TEXT)
def test_a_text_is_never_below_one_token_for_a_byte_raw_or_normalised(text) -> None:
    assert text_bytes(text) >= max(raw_bytes(text), normal_bytes(text))


@given(TEXT)
def test_an_estimate_counts_every_byte_that_is_not_ascii_whole(text) -> None:
    others = "".join(character for character in text if not character.isascii())
    assert text_bytes(text) >= text_estimate(text) >= raw_bytes(others)


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("é", 2), ("ab é", 3)])
def test_an_estimate_is_a_quarter_of_ascii_rounded_up(text, tokens) -> None:
    assert text_estimate(text) == tokens


def test_one_character_may_be_33_tokens() -> None:
    assert (text_bytes("\ufdfa"), size(said("\ufdfa")) - size(said(""))) == (33, 33)


def test_a_text_that_only_nfc_makes_longer_counts_in_nfc() -> None:
    # 44 bytes as it is, 44 in NFKC, 68 in NFC: of ten of these Qwen's tokenizer makes 510 tokens, of 440 bytes
    assert text_bytes(SHORTER_IN_NFKC + LONGER_IN_NFC) == 68


# -- what a template reads as JSON and spells anew --------------------------------------------------------------------

AS_SENT = json.dumps([0] * 100, separators=(",", ":"))
SPELLED = [
    "\x01" * 100,
    '"' * 100,
    AS_SENT,
    "[" + "1e15," * 50 + "0]",
    "\ufdfa" * 9,
    "plain",
    "[" * 100_000,
    "1" * 5_000,
]


@pytest.mark.parametrize("text", SPELLED)
def test_what_a_tool_returned_counts_as_json_too(text) -> None:
    try:
        anew = json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        anew = text
    least = max(text_bytes(each) for each in (text, json.dumps(text, ensure_ascii=False), anew))
    halves = [{"type": "text", "text": text[:50]}, {"type": "text", "text": text[50:]}]
    for content in (text, halves):
        assert size(said([{"type": "tool_result", "content": content}])) >= least
        assert size(said([{"type": "function_call_output", "output": content}])) >= least
        assert size({"role": "tool", "content": content}) >= least


def test_arguments_given_as_text_count_as_json_that_is_spelled_anew() -> None:
    least = text_bytes(json.dumps([1e15] * 100))
    arguments = json.dumps([1e15] * 100).replace("1000000000000000.0, ", "1e15,")
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    assert size({"role": "assistant", "content": "", "tool_calls": [call]}) >= least
    assert size(said([{"type": "function_call", "name": "f", "arguments": arguments}])) >= least
    assert size({"role": "assistant", "content": "", "tool_calls": "odd"}) > 0


def test_blocks_of_odd_kinds_are_counted_by_their_bytes() -> None:
    assert size(said(["x" * 100])) > 100
    assert size(said(7)) > size(said(""))
    with pytest.raises(UnboundedRequestError, match="brand_new"):
        size(said([{"type": "brand_new", "payload": "x" * 100}]))


@pytest.mark.parametrize("name", ["max_tokens", "system", "tools", "n", "extra_body", "max_completion_tokens"])
def test_an_option_that_would_go_round_the_reservation_is_refused(name) -> None:
    with pytest.raises(ValueError, match=name):
        Transcript(model="m", extra={name: 1})


def test_an_option_that_nobody_knows_is_not_bounded() -> None:
    with pytest.raises(UnboundedRequestError, match="brand_new"):
        size(said("hi"), brand_new=1)


def test_images_inside_documents_and_results_count_as_images() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}
    document = {"type": "document", "source": {"type": "content", "content": [image]}}
    output = {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_image", "image_url": "u"}]}
    assert size(said([document])) > 5_000
    assert size(said([output])) > 5_000


def test_a_dated_name_is_the_same_model() -> None:
    dated = Request.of(model="gpt-4o-mini-2024-07-18", messages=[said([{"type": "image"}])])
    assert dated.most_input_tokens("strict") > 48_000


@pytest.mark.parametrize("kind", ["image", "image_url", "input_image"])
def test_an_image_counts_the_most_that_any_image_does(kind) -> None:
    image = {"type": kind, "source": {"type": "base64", "data": "x" * 90_000}}
    assert 5_000 <= size(said([image])) - size(said([])) < 6_000
    nested = {"type": "tool_result", "tool_use_id": "a", "content": [image]}
    assert 5_000 <= size(said([nested])) - size(said([])) < 6_000


def test_an_image_counts_more_for_a_model_that_counts_more() -> None:
    image = said([{"type": "image"}])
    assert Request.of(model="gpt-4o-mini", messages=[image]).most_input_tokens("strict") > 48_000


def test_a_document_of_text_is_counted_by_its_bytes() -> None:
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x" * 500}}
    assert 500 < size(said([document])) < 800


UNBOUNDED: list[dict[str, Any]] = [
    {"messages": [said([{"type": "document", "source": {"type": "base64", "data": "JVBERi0="}}])]},
    {"messages": [said([{"type": "document", "source": {"type": "file", "file_id": "f"}}])]},
    {"messages": [said([{"type": "document", "source": "odd"}])]},
    {"messages": [said([{"type": "tool_result", "content": [{"type": "input_file", "file_id": "f"}]}])]},
    {"messages": [said([{"type": "video_url", "video_url": {"url": "u"}}])]},
    {"messages": [said([{"type": "item_reference", "id": "i"}])]},
    {"messages": [said([{"type": "brand_new", "payload": "x"}])]},
    {"messages": [said([{}])]},
    {"messages": [said("hi")], "system": [{"type": "file", "file_id": "f"}]},
    {"messages": [said("hi")], "tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    {"messages": [said("hi")], "previous_response_id": "r"},
    {"messages": [said("hi")], "mcp_servers": []},
]


@pytest.mark.parametrize("request_of", UNBOUNDED)
def test_what_cannot_be_bounded_is_refused_or_reserves_the_whole_context(request_of) -> None:
    with pytest.raises(UnboundedRequestError, match="Leave it out, send it inline, or state context_window_tokens"):
        Request.of(model="m", **request_of).most_input_tokens("strict")
    assert Request.of(model="m", context_window_tokens=7, **request_of).most_input_tokens("strict") == 7


def test_something_that_is_no_plain_data_is_refused() -> None:
    with pytest.raises(UnboundedRequestError, match="a object, which is not plain data"):
        Request.of(model="m", messages=[said([object()])])


def test_an_sdks_object_counts_as_its_data() -> None:
    class Block:
        def model_dump(self, **_: Any) -> dict[str, Any]:
            return {"type": "text", "text": "x" * 100}

    assert size(said([Block()])) > 100
