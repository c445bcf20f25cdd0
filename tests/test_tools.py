from __future__ import annotations

import asyncio
import contextvars
import enum
import functools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from donewhen.client import UNPARSED_ARGUMENTS
from donewhen.errors import MissingExtraError, ToolError
from donewhen.tools import Tool, ToolResult, as_tool, refuse_unknown, tool, toolbox

BOTH_WAYS = pytest.mark.parametrize(
    "ask", [Tool.call, lambda made, sent: asyncio.run(made.acall(sent))], ids=["call", "acall"]
)
Ask = Callable[[Tool, object], ToolResult]

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


class Color(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int


class Page(BaseModel):
    url: str


def fetch(url: str, tries: int = 3, *, mode: Literal["fast", "slow"] = "fast") -> str:
    """Fetch a page
    and return its text.

    More words.

    Args:
        url: the page's address,
            whole.
        tries (int): how often to try.

    Returns:
        url: not a parameter.
    """
    return f"{url} {tries} {mode}"


def echo(value: Any) -> Any:
    return value


async def aecho(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def boom(value: str) -> str:
    raise ValueError(value)


def of(handler: Callable[..., object], **options: Any) -> Tool:
    return Tool("t", "", {"type": "object"}, handler, **options)


def test_a_function_is_described_from_its_hints_and_docstring() -> None:
    assert as_tool(fetch).definition() == {
        "name": "fetch",
        "description": "Fetch a page and return its text.",
        "input_schema": {
            "type": "object",
            "additionalProperties": False,
            "required": ["url"],
            "properties": {
                "url": {"type": "string", "description": "the page's address, whole."},
                "tries": {"type": "integer", "default": 3, "description": "how often to try."},
                "mode": {"type": "string", "enum": ["fast", "slow"], "default": "fast"},
            },
        },
    }


def test_a_function_without_parameters_or_docstring_has_a_whole_definition() -> None:
    def look_around() -> str:
        return "ok"

    told = as_tool(look_around).definition()
    assert told["description"] == "look around"
    assert told["input_schema"] == {"type": "object", "additionalProperties": False, "properties": {}}
    assert as_tool(look_around).call({}) == ToolResult("ok")


def test_a_definition_is_a_copy() -> None:
    made = as_tool(fetch)
    made.definition()["input_schema"]["properties"].clear()
    assert "url" in made.definition()["input_schema"]["properties"]


@BOTH_WAYS
def test_only_what_was_sent_reaches_the_function(ask: Ask) -> None:
    assert ask(as_tool(fetch), {"url": "u"}).content == "u 3 fast"
    assert ask(as_tool(fetch), {"url": "u", "tries": 1, "mode": "slow"}).content == "u 1 slow"


@BOTH_WAYS
@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ({}, "url"),
        ({"url": 5}, "url"),
        ({"url": "u", "tries": "many"}, "tries"),
        ({"url": "u", "extra": 1}, "extra"),
        ({"url": "u", "p1": 1}, "p1"),
        ([], "object"),
        (None, "object"),
    ],
)
def test_arguments_that_do_not_fit_go_back_to_the_model(ask: Ask, sent: object, named: str) -> None:
    result = ask(as_tool(fetch), sent)
    assert result.is_error
    assert named in result.content
    assert result.problem == "arguments do not fit"


def test_rich_types_arrive_as_their_types() -> None:
    seen: list[object] = []

    def take(point: Point, color: Color, pages: list[Page], count: Annotated[int, Field(ge=1)]) -> None:
        seen.extend([point, color, pages[0], count])

    made = as_tool(take)
    sent = {"point": {"x": 1, "y": 2}, "color": "red", "pages": [{"url": "u"}], "count": 1}
    assert made.call(sent).content == "null"
    assert seen == [Point(1, 2), Color.RED, Page(url="u"), 1]
    assert made.call({**sent, "count": 0}).is_error


def test_parameters_may_have_names_that_pydantic_keeps_for_itself() -> None:
    def odd(json: str, model_config: int, _x: int, schema: str, self: str) -> str:
        return f"{json} {model_config} {_x} {schema} {self}"

    sent = {"json": "a", "model_config": 1, "_x": 2, "schema": "b", "self": "c"}
    assert as_tool(odd).call(sent).content == "a 1 2 b c"


@pytest.mark.parametrize(
    ("function", "parameter"),
    [
        (lambda *args: 1, "args"),
        (lambda **kwargs: 1, "kwargs"),
        (eval("lambda x, /: 1"), "x"),
        (lambda x: 1, "x"),
    ],
)
def test_what_cannot_be_described_names_function_and_parameter(function: Callable[..., object], parameter: str) -> None:
    function.__name__ = "odd_one"
    with pytest.raises(ToolError, match=rf"'odd_one'.*'{parameter}'"):
        as_tool(function)


def test_a_hint_without_json_names_function_and_parameter() -> None:
    def play(song: str, device: threading.Thread) -> None: ...

    with pytest.raises(ToolError, match="'device' of the tool 'play'"):
        as_tool(play)
    with pytest.raises(ToolError, match="'pitch' of the tool 'tuned'"):
        as_tool(Tuned().tuned)
    with pytest.raises(ToolError, match="'then' of the tool 'call_back'"):
        as_tool(call_back)


def call_back(then: Callable[[], None]) -> None: ...


def test_a_hint_that_cannot_be_read_names_the_function() -> None:
    def play(song: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - what is tested

    with pytest.raises(ToolError, match=r"'play' cannot be read.*Missing"):
        as_tool(play)


def test_a_field_as_default_is_refused() -> None:
    def play(song: str = Field("x")) -> None: ...

    with pytest.raises(ToolError, match=r"'song' of the tool 'play'.*Annotated"):
        as_tool(play)


def test_a_default_that_json_cannot_carry_is_left_out_of_the_schema() -> None:
    def play(song: Any = threading) -> str:
        return str(song is threading)

    assert as_tool(play).definition()["input_schema"]["properties"] == {"song": {}}
    assert as_tool(play).call({}).content == "True"


@pytest.mark.parametrize("name", ["", "a b", "é", "a" * 65, "a\n", "<lambda>", None, 5])
def test_a_name_that_providers_refuse_is_refused(name: Any) -> None:
    with pytest.raises(ToolError, match="name"):
        Tool(name, "", {"type": "object"}, echo)


@pytest.mark.parametrize("source", [5, None, "fetch", int, Tool, functools.partial(fetch, tries=1)])
def test_what_is_no_tool_is_refused(source: object) -> None:
    with pytest.raises(ToolError):
        as_tool(source)


def test_methods_partials_and_callable_objects_are_tools() -> None:
    class Box:
        def put(self, item: str) -> str:
            return f"put {item}"

        def __call__(self, item: str) -> str:
            return f"called {item}"

    assert as_tool(Box().put).call({"item": "x"}).content == "put x"
    assert as_tool(Tool("box", "", {"type": "object"}, Box())).call({"item": "x"}).content == "called x"
    part = tool(name="part")(functools.partial(fetch, "u"))
    assert as_tool(part).description.startswith("Fetch a page")
    assert as_tool(part).call({"tries": 9}).content == "u 9 fast"


def test_a_marked_function_stays_a_function() -> None:
    @tool(held=True, name="send", description="Send it.", timeout_seconds=5, max_result_bytes=9)
    def send_mail(to: str) -> str:
        return to

    made = as_tool(send_mail)
    assert send_mail("x") == "x"
    assert (made.name, made.description, made.held, made.timeout_seconds, made.max_result_bytes) == (
        "send",
        "Send it.",
        True,
        5,
        9,
    )


def test_the_mark_needs_no_brackets() -> None:
    @tool
    def plain(to: str) -> str:
        return to

    assert as_tool(plain).held is False


def test_an_unknown_option_of_the_mark_is_refused() -> None:
    with pytest.raises(ToolError, match="'hold'"):
        tool(hold=True)  # type: ignore[call-overload]


def test_a_mapping_with_a_handler_is_a_tool() -> None:
    made = as_tool(
        {"name": "add", "description": "Add one.", "input_schema": SCHEMA, "handler": lambda n: n + 1, "held": True}
    )
    assert made.definition() == {"name": "add", "description": "Add one.", "input_schema": SCHEMA}
    assert made.held
    assert made.call({"n": 1}) == ToolResult("2")


@BOTH_WAYS
@pytest.mark.parametrize("sent", [{}, {"n": "1"}, {"n": 1, "m": 2}, {"n": None}])
def test_arguments_of_a_mapping_are_judged_by_its_schema(ask: Ask, sent: object) -> None:
    made = as_tool({"name": "add", "input_schema": SCHEMA, "handler": lambda n: n + 1})
    assert ask(made, sent).problem == "arguments do not fit"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"colour": 1}, "'colour'.*found 1"),
        ({"input_schema": {"type": "array"}}, "input_schema"),
        ({"input_schema": {"type": "object", "properties": 5}}, "not a JSON Schema"),
        ({"handler": "echo"}, "handler"),
        ({"held": "yes"}, "held"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds"),
        ({"timeout_seconds": True}, "timeout_seconds"),
        ({"max_result_bytes": -1}, "max_result_bytes"),
        ({"description": None}, "description"),
    ],
)
def test_a_wrong_mapping_names_the_key(change: dict[str, object], named: str) -> None:
    with pytest.raises(ToolError, match=named):
        as_tool({"name": "add", "input_schema": SCHEMA, "handler": echo, **change})


@pytest.mark.parametrize("key", ["name", "input_schema", "handler"])
def test_a_mapping_lacking_a_key_names_it(key: str) -> None:
    source = {"name": "add", "input_schema": SCHEMA, "handler": echo}
    del source[key]
    with pytest.raises(ToolError, match=f"lacks '{key}'"):
        as_tool(source)


def test_two_tools_of_one_name_are_refused() -> None:
    assert list(toolbox([fetch, echo])) == ["fetch", "echo"]
    with pytest.raises(ToolError, match="two tools are named 'fetch'"):
        toolbox([fetch, {"name": "fetch", "input_schema": SCHEMA, "handler": echo}])


def test_an_unknown_tool_is_answered_with_the_names_that_there_are() -> None:
    result = refuse_unknown("serch\ud800", ["search", "fetch"])
    assert result.is_error
    assert "search, fetch" in result.content
    assert "\ud800" not in result.content
    assert result.problem == "unknown tool"


@BOTH_WAYS
@pytest.mark.parametrize("handler", [echo, aecho], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("text", "text"),
        ("", ""),
        (None, "null"),
        ({"a": [1, True, None, "é"]}, '{"a": [1, true, null, "é"]}'),
        (Point(1, 2), '{"x": 1, "y": 2}'),
        ([Page(url="u")], '[{"url": "u"}]'),
        ("a\ud800b\ud83d\ude00", "a\ufffdb\U0001f600"),
        (["\udfff"], '["\ufffd"]'),
        (ToolResult("own", is_error=True, problem="mine"), "own"),
    ],
)
def test_results_are_spelled(ask: Ask, handler: Callable[..., object], value: object, content: str) -> None:
    assert ask(of(lambda: handler(value)), {}).content == content


@BOTH_WAYS
@pytest.mark.parametrize(
    "value", [b"bytes", {1, 2}, object(), {"a": float("nan")}, float("inf"), {(1, 2): 3}, [Point(b"", 1)], Point]
)  # type: ignore[arg-type]
def test_what_is_not_json_is_an_error_in_one_sentence(ask: Ask, value: object) -> None:
    result = ask(of(lambda: value), {})
    assert result.is_error
    assert result.content.startswith("the tool's result is not JSON: ")
    assert "\n" not in result.content
    assert result.problem == "result is not JSON"


def test_a_result_that_holds_itself_or_is_too_deep_is_an_error() -> None:
    around: list[object] = []
    around.append(around)
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    assert of(lambda: around).call({}).problem == "result is not JSON"
    assert of(lambda: deep).call({}).problem == "result is not JSON"


@BOTH_WAYS
def test_a_result_that_is_too_large_names_both_sizes(ask: Ask) -> None:
    result = ask(of(lambda: "é" * 25_000_000), {})
    assert result.is_error
    assert "50,000,000" in result.content
    assert "100,000" in result.content
    assert result.problem == "result too large"
    assert not ask(of(lambda: "é" * 50_000), {}).is_error


@BOTH_WAYS
def test_an_exception_is_told_to_the_model_and_only_its_kind_to_the_ledger(ask: Ask) -> None:
    result = ask(as_tool(boom), {"value": "private\ud800" + "x" * 9_000})
    assert result.content.startswith("ValueError: private\ufffdxxx")
    assert len(result.content) <= 2_001
    assert (result.is_error, result.problem) == (True, "ValueError")


@BOTH_WAYS
def test_an_exception_that_cannot_be_spelled_is_still_an_error(ask: Ask) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def mute() -> None:
        raise MuteError

    assert ask(of(mute), {}) == ToolResult("MuteError", is_error=True, problem="MuteError")


@BOTH_WAYS
@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, asyncio.CancelledError, RecursionError])
def test_a_handler_that_exits_or_cancels_itself_is_an_error_of_the_tool(ask: Ask, kind: type[BaseException]) -> None:
    def leave() -> None:
        raise kind

    assert ask(of(leave), {}).problem == kind.__name__


@BOTH_WAYS
def test_ctrl_c_in_a_handler_passes_through(ask: Ask) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(of(interrupt), {})


@BOTH_WAYS
def test_a_handler_that_hangs_is_an_error_after_its_time(ask: Ask) -> None:
    never = threading.Event()
    result = ask(of(lambda: never.wait(20), timeout_seconds=0.05), {})
    never.set()
    assert result == ToolResult(
        "the tool timed out after 0.05 seconds", is_error=True, problem="timed out after 0.05 seconds"
    )


@BOTH_WAYS
def test_an_async_handler_that_hangs_is_cancelled(ask: Ask) -> None:
    cleaned = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    # Long enough for an event loop to start on a busy machine.
    assert ask(of(hang, timeout_seconds=0.5), {}).problem == "timed out after 0.5 seconds"
    assert cleaned.wait(60)


def test_cancelling_the_caller_passes_through_and_cancels_the_handler() -> None:
    async def scenario() -> tuple[bool, bool]:
        started, cleaned = asyncio.Event(), asyncio.Event()

        async def hang() -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.set()

        task = asyncio.ensure_future(of(hang).acall({}))
        await started.wait()
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled(), cleaned.is_set()

    assert asyncio.run(scenario()) == (True, True)


def test_cancelling_the_caller_of_a_blocking_handler_does_not_wait_for_it() -> None:
    never = threading.Event()

    async def scenario() -> bool:
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hang() -> None:
            loop.call_soon_threadsafe(started.set)
            never.wait(20)

        task = asyncio.ensure_future(of(hang).acall({}))
        await started.wait()
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled()

    assert asyncio.run(scenario())
    never.set()


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_ctrl_c_while_waiting_passes_through_and_cancels_the_handler() -> None:
    cleaned = threading.Event()

    async def hang() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    main = threading.get_ident()
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            of(hang).call({})
    finally:
        signal.signal(signal.SIGINT, usual)
    assert cleaned.wait(60)


@BOTH_WAYS
def test_an_async_handler_that_refuses_to_be_cancelled_is_left_behind(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=0.2)

    monkeypatch.setattr("donewhen.timeouts.GRACE_SECONDS", 0.02)
    assert ask(of(stubborn, timeout_seconds=0.05), {}).problem == "timed out after 0.05 seconds"


@BOTH_WAYS
def test_an_async_handler_that_raises_is_an_error_of_the_tool(ask: Ask) -> None:
    async def fail(kind: str) -> None:
        raise {"cancel": asyncio.CancelledError, "value": ValueError}[kind]

    assert ask(of(fail), {"kind": "cancel"}).problem == "CancelledError"
    assert ask(of(fail), {"kind": "value"}).problem == "ValueError"
    assert ask(as_tool(fail), {"kind": 1}).problem == "arguments do not fit"


def test_what_has_no_signature_or_takes_no_mark_is_refused() -> None:
    with pytest.raises(ToolError, match="'getattr' has no signature"):
        as_tool(getattr)
    with pytest.raises(ToolError, match="cannot be marked"):
        tool(len)


class Tuned:
    def tuned(self, pitch: Annotated[int, Field(pattern="(")]) -> None: ...


@BOTH_WAYS
@pytest.mark.parametrize("handler", [lambda: VARIABLE.get(), None], ids=["sync", "async"])
def test_context_variables_reach_the_handler(ask: Ask, handler: Callable[[], str] | None) -> None:
    async def read() -> str:
        return VARIABLE.get()

    mark = VARIABLE.set("here")
    result = ask(of(handler or read), {})
    VARIABLE.reset(mark)
    assert result.content == "here"


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE")


def test_an_async_handler_is_called_from_within_a_running_loop() -> None:
    async def scenario() -> ToolResult:
        return of(aecho).call({"value": 1})

    assert asyncio.run(scenario()) == ToolResult("1")


@BOTH_WAYS
def test_a_plain_function_that_returns_a_coroutine_is_awaited(ask: Ask) -> None:
    assert ask(of(lambda: aecho("x")), {}).content == "x"
    assert ask(of(functools.partial(aecho, "y")), {}).content == "y"


@BOTH_WAYS
@pytest.mark.parametrize(
    "source", [echo, {"name": "echo", "input_schema": {"type": "object"}, "handler": echo}], ids=["function", "mapping"]
)
def test_a_handler_cannot_change_what_the_model_sent(ask: Ask, source: object) -> None:
    made = as_tool(source)
    sent = {"value": {"list": [1]}}

    def spoil(value: Any) -> str:
        value["list"].append(2)
        return "done"

    spoiling = Tool(made.name, "", made.input_schema, spoil, read_arguments=made.read_arguments)
    assert ask(spoiling, sent).content == "done"
    assert sent == {"value": {"list": [1]}}


@BOTH_WAYS
def test_a_pattern_in_a_schema_that_backtracks_for_ever_ends_in_time(ask: Ask) -> None:
    schema = {"type": "object", "properties": {"s": {"pattern": "^(a+)+$"}}}
    made = Tool("t", "", schema, echo, timeout_seconds=0.5)
    result = ask(made, {"s": "a" * 60 + "!"})
    assert result.is_error
    assert result.content != ""


def test_an_argument_that_is_nested_too_deep_is_an_error() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert as_tool(echo).call({"value": deep}).is_error


@pytest.mark.parametrize(
    ("source", "package"),
    [(fetch, "pydantic"), ({"name": "a", "input_schema": SCHEMA, "handler": echo}, "jsonschema")],
    ids=["function", "mapping"],
)
def test_a_missing_package_names_the_extra(source: object, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"donewhen\[tools\]"):
        as_tool(source)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(JSON)
def test_whatever_is_json_arrives_and_comes_back_as_it_was(value: object) -> None:
    result = as_tool(echo).call({"value": value})
    assert not result.is_error
    assert (result.content if isinstance(value, str) else json.loads(result.content)) == value


@given(JSON)
def test_no_arguments_raise(sent: object) -> None:
    assert isinstance(as_tool(fetch).call(sent), ToolResult)


def test_arguments_that_no_provider_could_parse_go_back_to_the_model():
    called: list[object] = []
    made = as_tool({"name": "look", "description": "", "input_schema": {"type": "object"}, "handler": called.append})
    result = made.call({UNPARSED_ARGUMENTS: '{"a": '})
    assert (result.is_error, result.problem, called) == (True, "arguments do not fit", [])
