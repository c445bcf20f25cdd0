from __future__ import annotations

import json
import os

import pytest

from donewhen.isolated import IsolatedError, answer, call_isolated, find_span


def test_a_function_is_called_in_a_process_of_its_own() -> None:
    assert call_isolated("os:getppid", timeout_seconds=20) == os.getpid()
    assert call_isolated("donewhen.isolated:find_span", "b+", "abb\ud800", timeout_seconds=20) == [1, 3]


def test_an_exception_there_is_an_error_here() -> None:
    with pytest.raises(IsolatedError, match=r"^ValueError: "):
        call_isolated("math:sqrt", -1, timeout_seconds=20)


def test_a_function_that_hangs_is_killed() -> None:
    with pytest.raises(TimeoutError, match=r"took longer than 0\.3 seconds"):
        call_isolated("donewhen.isolated:find_span", "^(a+)+$", "a" * 80 + "!", timeout_seconds=0.3)


@pytest.mark.parametrize(("function", "value"), [("sys:exit", 0), ("os:_exit", 0), ("builtins:print", "{}")])
def test_a_process_without_an_answer_is_an_error(function: str, value: object) -> None:
    with pytest.raises(IsolatedError, match="without an answer"):
        call_isolated(function, value, timeout_seconds=20)


def test_the_child_prints_one_answer(capsys: pytest.CaptureFixture[str]) -> None:
    answer({"function": "donewhen.isolated:find_span", "arguments": ["b", "abc"]})
    assert json.loads(capsys.readouterr().out) == {"value": [1, 2]}
    answer({"function": "donewhen.isolated:nothing", "arguments": []})
    assert "AttributeError" in json.loads(capsys.readouterr().out)["error"]


def test_a_pattern_that_matches_nowhere_has_no_span() -> None:
    assert find_span("x", "abc") is None
