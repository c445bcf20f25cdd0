"""For a type checker a guarded client is the client that it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SAMPLE = Path(__file__).with_name("typed_sample.py")


def problems(path: Path, folder: Path) -> list[dict[str, Any]]:
    config = folder / "pyrightconfig.json"
    checked = {"typeCheckingMode": "strict", "include": [str(path)], "pythonVersion": "3.10"}
    config.write_text(json.dumps(checked), encoding="utf-8")
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(config)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    report = json.loads(ran.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    return [found for found in report["generalDiagnostics"] if found["severity"] == "error"]


def test_the_types_of_a_guarded_client_and_of_what_it_returns_are_the_sdks(tmp_path: Path) -> None:
    pytest.importorskip("basedpyright")
    assert problems(SAMPLE, tmp_path) == []


def test_a_wrong_type_would_be_seen(tmp_path: Path) -> None:
    pytest.importorskip("basedpyright")
    wrong = tmp_path / "wrong.py"
    said = SAMPLE.read_text("utf-8").replace("assert_type(gpt, openai.OpenAI)", "assert_type(gpt, openai.AsyncOpenAI)")
    wrong.write_text(said, encoding="utf-8")
    assert [found["rule"] for found in problems(wrong, tmp_path)] == ["reportAssertTypeFailure"]
