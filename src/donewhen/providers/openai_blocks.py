"""What OpenAI's two wires share: blocks, tool arguments, and usage whose kinds do not overlap."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from donewhen.client import UNPARSED_ARGUMENTS
from donewhen.errors import CallError

ERROR_MARK = "Error: "
"""What a failed tool's result begins with: these wires have no flag for it."""

SHARED_OPTIONS = frozenset({"temperature", "top_p"})

_TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def field_of(source: object, name: str) -> Any:
    """Return an attribute of an SDK's object, or a key of a mapping; None where there is none."""
    if isinstance(source, Mapping):
        return cast("Mapping[str, Any]", source).get(name)
    return getattr(source, name, None)


def blocks_of(content: object) -> list[dict[str, Any]]:
    """Return a message's content as blocks.

    Raises:
        CallError: it is neither text nor a list of blocks.
    """
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    if isinstance(content, Iterable):
        blocks = list(cast("Iterable[object]", content))
        if all(isinstance(block, Mapping) for block in blocks):
            return [dict(cast("Mapping[str, Any]", block)) for block in blocks]
    kind = type(cast("object", content)).__name__
    raise CallError(f"a message's content is a {kind}, neither text nor a list of blocks")


def text_of(content: object, *, where: str) -> str:
    """Return content that may only be text.

    Raises:
        CallError: there is something else in it.
    """
    if content is None:
        return ""
    blocks = blocks_of(content)
    other = [block.get("type") for block in blocks if block.get("type") != "text"]
    if other:
        raise CallError(f"{where} has a block of type {other[0]!r}, which this wire cannot carry")
    return "\n".join(str(block.get("text") or "") for block in blocks)


def result_text(block: Mapping[str, Any]) -> str:
    """Return a tool result as text, marked where it is an error.

    Raises:
        CallError: there is something but text in it.
    """
    text = text_of(block.get("content"), where="a tool result")
    return ERROR_MARK + text if block.get("is_error") else text


def image_url(block: Mapping[str, Any]) -> str:
    """Return an image block's address; what is inline becomes a data address.

    Raises:
        CallError: the image is given by reference to a file of another provider.
    """
    source: Mapping[str, Any] = block.get("source") or {}
    if source.get("type") == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    if source.get("type") == "url":
        return str(source.get("url"))
    raise CallError(f"an image with a source of type {source.get('type')!r} cannot be sent on this wire")


def spell_arguments(arguments: Mapping[str, Any]) -> str:
    """Return a tool call's arguments as the model wrote them, or would have."""
    if set(arguments) == {UNPARSED_ARGUMENTS}:
        return str(arguments[UNPARSED_ARGUMENTS])
    return json.dumps(arguments, ensure_ascii=False)


def read_arguments(text: object) -> dict[str, Any]:
    """Return a tool call's arguments; what is no JSON object is handed on under `UNPARSED_ARGUMENTS`."""
    if isinstance(text, Mapping):  # some servers send the object itself
        return dict(cast("Mapping[str, Any]", text))
    if text is None or (isinstance(text, str) and not text.strip()):
        return {}  # how a call without arguments is often spelt
    if not isinstance(text, str):
        return {UNPARSED_ARGUMENTS: repr(text)}
    try:
        value: object = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return {UNPARSED_ARGUMENTS: text}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {UNPARSED_ARGUMENTS: text}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def spell_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool's name, description and schema in OpenAI's words.

    Raises:
        CallError: the tool runs on the other provider's servers.
    """
    if tool.get("type", "custom") != "custom" or "input_schema" not in tool:
        raise CallError(
            f"the tool {tool.get('name')!r} runs on a provider's own servers, which this wire cannot ask for"
        )
    function = {"name": tool["name"], "parameters": tool["input_schema"]}
    return {**function, **{key: tool[key] for key in ("description", "strict") if key in tool}}


def spell_tool_choice(choice: object, by_name: Callable[[str], object]) -> dict[str, Any]:
    """Return the tool choice in OpenAI's words; `by_name` spells the choice of one tool.

    Raises:
        CallError: the choice is none of Anthropic's.
    """
    if choice is None:
        return {}
    fields = cast("Mapping[str, Any]", choice) if isinstance(choice, Mapping) else {"type": choice}
    kind = fields.get("type")
    if kind == "tool":
        spelt: object = by_name(str(fields.get("name")))
    elif isinstance(kind, str) and kind in _TOOL_CHOICES:
        spelt = _TOOL_CHOICES[kind]
    else:
        raise CallError(f"the tool choice {choice!r} is not known")
    one_at_a_time = {"parallel_tool_calls": False} if fields.get("disable_parallel_tool_use") else {}
    return {"tool_choice": spelt, **one_at_a_time}


def spell_parts(
    blocks: Sequence[Mapping[str, Any]], text_type: str, image_part: Callable[[str], dict[str, Any]]
) -> str | list[dict[str, Any]]:
    """Return a user's blocks: text alone as a string, which every server knows, else as parts.

    Raises:
        CallError: there is something but text and images.
    """
    kinds = {block.get("type") for block in blocks}
    if kinds <= {"text"}:
        return text_of(blocks, where="a message")
    other = sorted(str(kind) for kind in kinds - {"text", "image"})
    if other:
        raise CallError(f"a message has a block of type {other[0]!r}, which this wire cannot carry")
    return [
        image_part(image_url(block)) if block["type"] == "image" else {"type": text_type, "text": block["text"]}
        for block in blocks
    ]


def without_thinking(blocks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the blocks but for another provider's reasoning: these wires have no place for it."""
    return [block for block in blocks if block.get("type") not in ("thinking", "redacted_thinking")]


def spell_options(more: Mapping[str, Any], *, known: frozenset[str]) -> dict[str, Any]:
    """Return the options that are spelt the same on both sides.

    Raises:
        CallError: there is one that the wire does not know.
    """
    unknown = sorted(more.keys() - known)
    if unknown:
        raise CallError(f"{', '.join(unknown)} cannot be sent on this wire")
    return {key: more[key] for key in SHARED_OPTIONS & more.keys()}


def read_usage(usage: object, *, input_key: str, output_key: str) -> dict[str, Any] | None:
    """Return usage in Anthropic's form, where the kinds do not overlap; None where there is none.

    Cached tokens are part of OpenAI's input, so they are taken out of it; reasoning is part of its output. What is no
    whole number goes on as it is, for `read_reply` to find fault with.
    """
    if usage is None:
        return None
    all_input, output = field_of(usage, input_key), field_of(usage, output_key)
    details = field_of(usage, f"{input_key}_details")
    read, written = field_of(details, "cached_tokens"), field_of(details, "cache_write_tokens")
    counts = {"cache_read_input_tokens": read or 0, "cache_creation_input_tokens": written or 0}
    if all(type(value) is int for value in (all_input, *counts.values())):
        fresh: object = all_input - sum(counts.values())
        output = _whole_output(usage, all_input, output)
    else:
        fresh = all_input
    return {"input_tokens": fresh, "output_tokens": output, **counts}


def _whole_output(usage: object, all_input: int, output: object) -> object:
    # Some servers leave reasoning out of the output and count it in the total alone: the total is what they bill.
    total = field_of(usage, "total_tokens")
    if type(output) is int and type(total) is int:
        return max(output, total - all_input)
    return output
