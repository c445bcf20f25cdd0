"""How many tokens a text, a block or a tool definition can at most be, and which parts nobody can size.

Two kinds of size: ``strict`` cannot be too low, ``estimate`` is the usual rule of thumb. `bounds.py` adds them up.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import orjson

from donewhen.errors import UnboundedRequestError

BoundKind = Literal["strict", "estimate"]

_MESSAGE_FIELDS = frozenset({"role", "content"})

ASCII_BYTES_PER_TOKEN = 4
"""The ratio of ``estimate`` for ASCII text. Source: OpenAI's and Anthropic's rule of thumb for English."""

IMAGE_TOKENS = 5_000
"""The most that one image counts. Source: Anthropic vision docs, about 4,784 at the highest resolution of any model."""

IMAGE_TOKENS_OF_MODEL = {"gpt-4o-mini": 48_200}
"""Models that count more. Source: OpenAI vision pricing, 2,833 base and 5,667 for each of at most 8 tiles."""

_OF_ITS_OWN = "it is an argument of its own"
_MORE_OUTPUT = "it changes how much comes back, behind the reservation's back"
_LATER = "the call would go on and be billed when nothing is reserved for it any more"
_UNSAID = "a summary that the provider makes is billed beside the usage that a reply says"

REFUSED_OPTIONS: Mapping[str, str] = {
    **dict.fromkeys(["model", "max_tokens", "messages", "system", "tools"], _OF_ITS_OWN),
    **dict.fromkeys(["n", "best_of", "max_completion_tokens", "max_output_tokens"], _MORE_OUTPUT),
    **dict.fromkeys(["extra_body", "extra_query"], "whatever is in it would be sent unseen"),
    **dict.fromkeys(["background", "background_options"], _LATER),
    # Source: anthropic SDK 2.14, `BetaUsage.iterations`: not included in the counts of the reply.
    **dict.fromkeys(["context_management", "compaction"], _UNSAID),
    "fallbacks": "each model that is tried is billed, each at its own price",
    # Source: OpenAI's guide to Predicted Outputs: what is rejected is billed as output; no limit may stand beside it.
    "prediction": "what is rejected of it is billed as output, and no limit on output can stand beside it",
}
"""Options that would change, behind the reservation's back, what is sent or how much is billed; and how."""

_KNOWN_OPTIONS = frozenset(
    [
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "stop_sequences",
        "seed",
        "user",
        "metadata",
        "tool_choice",
        "parallel_tool_calls",
        "thinking",
        "betas",
        "extra_headers",
        "timeout",
        "response_format",
        "output_format",
        "output_config",
        "reasoning",
        "reasoning_effort",
        "text",
        "verbosity",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "cache_control",
        "service_tier",
        "speed",
        "inference_geo",
    ]
)
"""Options that bring no text from elsewhere, and no second answer."""

_PRICED_OPTIONS = frozenset(
    [
        *("service_tier", "speed", "inference_geo"),
        *("modalities", "audio", "prompt_cache_options"),
        *("web_search_options", "mcp_servers", "container"),  # billed by the search or the hour besides
    ]
)
"""Options that change the price in a way that no list here knows."""

_RUN_BY_CALLERS = ("bash_", "text_editor_", "computer", "memory_", "local_shell", "shell", "apply_patch")
"""How the types of tools begin that the provider defines, and does not run: they cost their tokens alone."""

_COUNTED_BLOCKS = frozenset(
    [
        "tool_use",
        "thinking",
        "redacted_thinking",
        "server_tool_use",
        "refusal",
        "reasoning",
        "openai_item",
        "function_call",
        "output_text",
        "input_text",
        "message",
    ]
)
"""Blocks that are only their own text."""


@dataclass(frozen=True, slots=True)
class _Overheads:
    request: int
    message: int
    block: int
    tools: int
    tool: int
    minimum_output: int


_OVERHEADS: Mapping[str, _Overheads] = {
    # Role markers cost 3 to 5 tokens a message; the hidden text that comes with tools up to about 800 in all.
    "strict": _Overheads(request=16, message=16, block=16, tools=1024, tool=64, minimum_output=16),
    "estimate": _Overheads(request=3, message=4, block=0, tools=350, tool=16, minimum_output=1),
}


def minimum_output(kind: BoundKind) -> int:
    """Return the fewest output tokens worth a call: less room than this and the call is refused."""
    return _OVERHEADS[kind].minimum_output


def text_bytes(text: str) -> int:
    """Return the most tokens that a byte-level tokenizer can make of a text, whether or not it normalises first.

    Either form can be the longest of the three: NFC makes more of some characters, NFKC less of others beside them.
    """
    if text.isascii():
        return len(text)
    forms = (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFKC", text))
    return max(len(form.encode("utf-8", "surrogatepass")) for form in forms)


def text_estimate(text: str) -> int:
    """Return the tokens of a text at four ASCII bytes a token, every other byte whole."""
    if text.isascii():
        return -(-len(text) // ASCII_BYTES_PER_TOKEN)
    ascii_bytes = sum(1 for character in text if character < "\x80")
    return -(-ascii_bytes // ASCII_BYTES_PER_TOKEN) + text_bytes(text) - ascii_bytes


_TEXT_SIZES: Mapping[str, Callable[[str], int]] = {"strict": text_bytes, "estimate": text_estimate}


class Sizer:
    """Add up the most tokens of messages, blocks and JSON, by one kind of bound."""

    def __init__(self, kind: BoundKind, model: str) -> None:
        self.over = _OVERHEADS[kind]
        self.text = _TEXT_SIZES[kind]
        # By prefix: a dated name is the same model.
        self._image = max([IMAGE_TOKENS, *[n for name, n in IMAGE_TOKENS_OF_MODEL.items() if model.startswith(name)]])

    def message(self, message: Mapping[str, Any]) -> int:
        """Return the size of a message."""
        # Some providers' messages carry more than content, such as tool calls.
        others = {key: message[key] for key in message.keys() - _MESSAGE_FIELDS}
        inside = message.get("content", "")
        size = self.over.message + (self.result(inside) if message.get("role") == "tool" else self.content(inside))
        return size + (self.json(others) + self.arguments(others) if others else 0)

    def content(self, content: object) -> int:
        """Return the size of a message's content: a text, or blocks."""
        if isinstance(content, str):
            return self.text(content)
        if isinstance(content, Sequence):
            return sum(self.block(block) for block in cast("Sequence[object]", content))
        return self.json(content)

    def block(self, block: object) -> int:
        """Return the size of a block.

        Raises:
            UnboundedRequestError: nobody can size it here.
        """
        if not isinstance(block, Mapping):
            return self.over.block + self.json(block)
        fields = cast("Mapping[str, Any]", block)
        kind = fields.get("type")
        if kind in ("image", "image_url", "input_image"):
            return self.over.block + self._image
        if kind == "text":
            return self.over.block + self.text(str(fields.get("text", "")))
        if kind in ("tool_result", "function_call_output"):
            rest = {name: value for name, value in fields.items() if name not in ("content", "output")}
            return self.over.block + self.json(rest) + self.result(fields.get("content", fields.get("output", "")))
        if kind == "document" and _source_type(fields) in ("text", "content"):
            inside = self.content(fields["source"].get("content", ""))  # counted twice, which is safe and simple
            return self.over.block + inside + self.json(fields)
        if kind in _COUNTED_BLOCKS:
            return self.over.block + self.json(fields) + self.arguments(fields)
        raise UnboundedRequestError(f"a block of type {kind!r}, whose size cannot be known here")

    def json(self, value: object) -> int:
        """Return the size of plain data as it would stand in a prompt."""
        return self.text(_PROMPT_ENCODER.encode(value))

    def result(self, content: object) -> int:
        """Return the size of what a tool returned: a text, or blocks, which some providers join and spell as JSON."""
        text = content if isinstance(content, str) else "".join(_texts(content))
        return self.content(content) + self._respelled(text)

    def arguments(self, fields: Mapping[str, Any]) -> int:
        """Return what may come on top where the arguments of calls are given as text and spelled anew."""
        calls = [fields, *_mappings(fields.get("tool_calls"))]
        functions = [*calls, *_mappings([call.get("function") for call in calls])]
        given = [function.get("arguments") for function in functions]
        return sum(self._respelled(text) for text in given if isinstance(text, str))

    def _respelled(self, text: str) -> int:
        """Return how much longer a text can get that a provider's template spells as JSON, or reads as JSON first.

        ``[0,0]`` becomes ``[0, 0]``, ``1e15`` becomes ``1000000000000000.0``, a control character six.
        Source: mistral-common 1.13, `_prepare_tool_result` and `_prepare_function_call` in tokenizers/instruct.py.
        """
        spelled = [_PROMPT_ENCODER.encode(text), *_spelled_anew(text)]
        return max(0, max(map(self.text, spelled)) - self.text(text))


def _mappings(value: object) -> list[Mapping[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [cast("Mapping[str, Any]", each) for each in cast("Sequence[object]", value) if isinstance(each, Mapping)]


def _spelled_anew(text: str) -> list[str]:
    try:
        return [_PROMPT_ENCODER.encode(json.loads(text))]
    except (ValueError, RecursionError):  # not JSON, or nothing that a template could read as JSON either
        return []


def _texts(content: object) -> list[str]:
    return [str(block.get("text", "")) for block in _mappings(content)]


def _source_type(fields: Mapping[str, Any]) -> object:
    source = fields.get("source")
    return cast("Mapping[str, object]", source).get("type") if isinstance(source, Mapping) else None


def unbounded_option(extra: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> str | None:
    """Return which option or tool cannot be sized, None if all can."""
    for name in extra:
        if name not in _KNOWN_OPTIONS:
            return f"the option {name!r}, whose effect on the tokens of a call is not known"
    reasoning = extra.get("reasoning")
    mode = cast("Mapping[str, object]", reasoning).get("mode") if isinstance(reasoning, Mapping) else None
    if mode not in (None, "standard"):
        return f"the reasoning mode {mode!r}, which may think several times over"
    for tool in tools:
        if _is_providers(tool):
            return f"the tool of type {tool['type']!r}, which the provider defines or runs itself"
    return None


def unpriced_option(extra: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> str | None:
    """Return which option or tool has a price of its own, which no list here knows; None if none has."""
    for name in sorted(_PRICED_OPTIONS.intersection(extra)):
        return f"the option {name!r}"
    for tool in tools:
        if _is_providers(tool) and not str(tool["type"]).startswith(_RUN_BY_CALLERS):
            return f"the tool of type {tool['type']!r}"
    return None


def _is_providers(tool: Mapping[str, Any]) -> bool:
    return tool.get("type", "custom") not in ("custom", "function")


def spell(value: object) -> bytes:
    """Return plain data as bytes to be hashed."""
    # A tuple and a list, or an SDK's object and its dict, are the same request.
    try:
        return orjson.dumps(value, _as_plain, _SPELLING)
    except TypeError:  # keys that are not text, numbers without end, lone surrogates; or not plain data at all
        return _ENCODER.encode(value).encode("utf-8", "surrogatepass")


def _as_plain(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json", exclude_unset=True)
    raise UnboundedRequestError(f"a {type(value).__name__}, which is not plain data")


_SPELLING = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME

_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=_as_plain)

_PROMPT_ENCODER = json.JSONEncoder(ensure_ascii=False, default=_as_plain)
"""As chat templates spell JSON in a prompt: with a space after each comma and colon."""
