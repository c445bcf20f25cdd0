"""`donewhen halt`, and `resume`, which lifts it."""

from __future__ import annotations

import json

import pytest
from command import donewhen

from donewhen.ledger import Ledger


@pytest.fixture
def halt(tmp_store):
    donewhen("budget", "new", "acme", "--store", str(tmp_store))
    return lambda *arguments: donewhen("halt", *arguments, "--store", str(tmp_store))


@pytest.mark.parametrize("what", [("--all",), ("--budget", "acme")])
def test_a_halt_is_a_row_with_who_and_why_and_is_lifted_by_another(halt, tmp_store, what) -> None:
    assert halt(*what, "--why", "wild", "--who", "ann").stdout.endswith(": halted\n")
    assert halt(*what, "--lift").stdout.endswith(": no longer halted\n")
    with Ledger(tmp_store, read_only=True) as ledger:
        halts = [row.data for row in ledger.iter_rows() if row.kind == "halt"]
    assert halts[0] == {"halted": True, "who": "ann", "why": "wild"}
    assert (halts[1]["halted"], halts[1]["why"]) == (False, "lifted by hand")


def test_it_is_told_as_json(halt) -> None:
    assert json.loads(halt("--all", "--json").stdout)["after"][0]["halted"] is True


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 2, "name one"),
        (("--all", "--budget", "acme"), 2, "name one"),
        (("--budget", "nobody"), 2, "no budget nobody"),
        (("nobody",), 2, "nobody"),
        (("--all", "--why", " "), 2, "why is blank"),
        (("--all", "--lift"), 7, "everything is not halted"),
    ],
)
def test_what_cannot_be_is_one_sentence(halt, arguments, code, told) -> None:
    result = halt(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1


SPEC = """
what_it_does = "Answers"
what_it_does_not = "Anything else"
done_looks_like = "An answer"
budget = "acme"
"""


@pytest.mark.parametrize(
    ("what", "lift"), [(("--all",), "halt --all --lift"), (("--budget", "acme"), "halt --budget acme --lift")]
)
def test_who_is_stopped_from_above_is_told_how_to_go_on(halt, tmp_store, tmp_path, what, lift) -> None:
    spec, task = tmp_path / "spec.toml", tmp_path / "task.txt"
    spec.write_text(SPEC, encoding="utf-8")
    task.write_text("Answer.", encoding="utf-8")
    halt(*what)
    run = ("--task", str(task), "--client", "offline", "--store", str(tmp_store))
    stopped = donewhen("run", str(spec), *run)
    assert stopped.exit_code == 4
    (line,) = [line for line in stopped.stderr.splitlines() if line.startswith("Lift the halt:")]
    assert lift in line
    halt(*what, "--lift")
    (row,) = json.loads(donewhen("sessions", "--json", "--store", str(tmp_store)).stdout)
    resumed = donewhen("resume", row["session_id"], *run)
    assert resumed.exit_code == 0, resumed.stderr
